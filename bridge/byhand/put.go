// Package byhand settles one record of a stopped group by hand: for a record that fails and has no company to be compared
// with, which the bridge holds for ever.
//
// The promise: the record becomes a dead letter first, acknowledged by every in-sync replica, and only then does the group's
// commit say that it is settled, and of no other record. What was settled above the base stays so, and what was open stays
// open. A group with members is left alone: they would not learn of it, and the next commit of theirs would take it back.
package byhand

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"

	"serbridge/bridge/deadletter"
	"serbridge/bridge/frontier"
)

// ErrRunning is returned for a group that has members.
var ErrRunning = errors.New("the group has members: stop every serbridge of this group (scale the deployment to 0) and wait until they have left, then put the record and start them again")

// Config configures [Prepare].
type Config struct {
	Options  []kgo.Opt // brokers, TLS, SASL, dialer
	Group    string
	Earliest bool               // a partition without a commit starts at the start of its log (KAFKA_START)
	Letters  *deadletter.Writer // where the record goes
	Letter   deadletter.Letter  // what it says beside the record: reason, detail, certainty, who

	Written func(ctx context.Context, r *kgo.Record) error // told once the letter is there, before the commit; nil: nobody is
}

// Put is one record that can be settled by hand.
type Put struct {
	Source    deadletter.Source
	Bytes     int   // of its key and value
	Committed int64 // the group's committed offset before, -1 for none
	Base      int64 // and after

	cfg    Config
	log    *deadletter.Log
	client *kgo.Client
	admin  *kadm.Client
	s      *settling
	shot   frontier.Snapshot
}

// Prepare finds the record, and what is to be committed. It changes nothing. The caller has to Close what it returns.
func Prepare(ctx context.Context, cfg Config, at deadletter.Source) (_ *Put, err error) {
	p := &Put{Source: at, cfg: cfg, Committed: -1}
	defer func() {
		if err != nil {
			p.Close()
		}
	}()
	if p.log, err = deadletter.OpenLog(ctx, cfg.Options, at.Topic); err != nil {
		return nil, err
	}
	if err = p.connect(); err != nil {
		return nil, err
	}
	if err = p.stopped(ctx); err != nil {
		return nil, err
	}
	c, span, err := p.claim(ctx)
	if err != nil {
		return nil, err
	}
	p.s = c.settle(at.Offset)
	span = deadletter.Span{Partition: at.Partition, Start: c.base, End: min(span.End, max(c.top(), at.Offset)+1)}
	if err = p.log.Read(ctx, span, func(r *kgo.Record) error { p.s.take(r); return nil }); err != nil {
		return nil, err
	}
	if p.shot, err = p.s.finish(); err != nil {
		return nil, fmt.Errorf("put record %s: %w", at, err)
	}
	p.Base, p.Bytes = p.shot.Base, len(p.s.record.Key)+len(p.s.record.Value)
	return p, nil
}

// Close ends the connections.
func (p *Put) Close() {
	if p.log != nil {
		p.log.Close()
	}
	if p.client != nil {
		p.client.Close()
	}
}

// connect makes a client for the group's commit. Brokers that give topics no ids know only commits that name them.
func (p *Put) connect() (err error) {
	options := append(p.cfg.Options[:len(p.cfg.Options):len(p.cfg.Options)], kgo.DisableClientMetrics())
	if p.log.ID == [16]byte{} {
		versions := kversion.Stable()
		versions.SetMaxKeyVersion(kmsg.OffsetCommit.Int16(), 9)
		options = append(options, kgo.MaxVersions(versions))
	}
	if p.client, err = kgo.NewClient(options...); err != nil {
		return fmt.Errorf("configure the Kafka client of group %s: %w", p.cfg.Group, err)
	}
	p.admin = kadm.NewClient(p.client)
	return nil
}

// stopped returns nil if nobody is in the group, of either protocol. The broker itself refuses our commit later if somebody
// is by then; here it is known before anything is written.
func (p *Put) stopped(ctx context.Context) error {
	classic, err := p.admin.DescribeGroups(ctx, p.cfg.Group)
	if err != nil {
		return fmt.Errorf("describe group %s: %w", p.cfg.Group, err)
	}
	members := len(classic[p.cfg.Group].Members)
	consumer, err := p.admin.DescribeConsumerGroups(ctx, p.cfg.Group)
	if err == nil {
		members = max(members, len(consumer[p.cfg.Group].Members))
	}
	if members > 0 {
		return fmt.Errorf("put record %s: group %s: %w", p.Source, p.cfg.Group, ErrRunning)
	}
	if err := classic[p.cfg.Group].Err; err != nil && !errors.Is(err, kerr.GroupIDNotFound) {
		return fmt.Errorf("describe group %s: %w", p.cfg.Group, err)
	}
	return nil
}

// farthest is how far above the base a commit can speak of a record.
const farthest = 1 << 20

// claim reads what the group says of the partition.
func (p *Put) claim(ctx context.Context) (claim, deadletter.Span, error) {
	at := p.Source
	span, ok := p.log.Span(at.Partition)
	if !ok || at.Offset >= span.End || at.Offset < span.Start {
		return claim{}, span, fmt.Errorf("put record %s: it is not in the topic, whose partition %d has offsets from %d to %d", at, at.Partition, span.Start, span.End-1)
	}
	c := claim{group: p.cfg.Group, topic: at.Topic, partition: at.Partition, base: span.Start, epoch: -1}
	commits, err := p.admin.FetchOffsets(ctx, p.cfg.Group)
	if err != nil && !errors.Is(err, kerr.GroupIDNotFound) {
		return c, span, fmt.Errorf("fetch offsets of group %s: %w", p.cfg.Group, err)
	}
	commit, ok := commits.Lookup(at.Topic, at.Partition)
	switch {
	case ok && commit.Err != nil:
		return c, span, fmt.Errorf("fetch offset of %s/%d: %w", at.Topic, at.Partition, commit.Err)
	case ok && commit.At >= 0:
		c.base, c.epoch, p.Committed = commit.At, commit.LeaderEpoch, commit.At
		if c.said, err = said(c, commit.Metadata); err != nil {
			return c, span, err
		}
	case !p.cfg.Earliest:
		return c, span, fmt.Errorf("put record %s: group %s has no commit for the partition, and KAFKA_START is not earliest: start serbridge once, so that it commits where it begins", at, p.cfg.Group)
	}
	if c.base < span.Start { // retention has passed the base, as it does for the bridge
		c.base, c.said = span.Start, c.said.From(span.Start)
	}
	if at.Offset-c.base > farthest {
		return c, span, fmt.Errorf("put record %s: %d offsets above the first open record, %d, which is farther than a commit can speak of: put that one first", at, at.Offset-c.base, c.base)
	}
	return c, span, nil
}

// said decodes the commit's metadata. What the bridge ignores is ignored here too; but what a later version wrote must not be
// written over by us, who cannot read it.
func said(c claim, metadata string) (frontier.Map, error) {
	m, err := frontier.Decode(c.group, c.topic, c.partition, c.base, metadata)
	if e, ok := errors.AsType[*frontier.MapError](err); ok && e.Cause == frontier.CauseNewer {
		return m, fmt.Errorf("read the commit of %s/%d: use the serbridge that wrote it: %w", c.topic, c.partition, err)
	}
	return m, nil
}

// Do writes the dead letter, then the commit. After an error that is [ErrCommit] the letter is there and the record is still
// open; any other error means that nothing has changed, or that a letter may be there once more than needed.
func (p *Put) Do(ctx context.Context) error {
	l, r := p.cfg.Letter, p.s.record
	l.Key, l.Value, l.Headers, l.Timestamp = r.Key, r.Value, r.Headers, r.Timestamp
	l.Topic, l.Partition, l.Offset, l.Part = r.Topic, r.Partition, r.Offset, -1
	l.Group, l.FirstFailedAt, l.FailedAt = p.cfg.Group, time.Now(), time.Now()
	if err := p.cfg.Letters.Write(ctx, l); err != nil {
		return err
	}
	if p.cfg.Written != nil {
		if err := p.cfg.Written(ctx, r); err != nil {
			return fmt.Errorf("%w: %w", ErrCommit, err)
		}
	}
	if err := p.commit(ctx); err != nil {
		return fmt.Errorf("commit offset of %s/%d to group %s: %w: %w", r.Topic, r.Partition, p.cfg.Group, ErrCommit, err)
	}
	return nil
}

// ErrCommit says that a letter was written whose record is still open.
var ErrCommit = errors.New("the dead letter is written, but the record is still open to the group: run the same command again while the group is stopped, and discard the letter that is then there twice")

// mapTries is how often a shorter map is tried where the broker takes none of this length.
const mapTries = 16

func (p *Put) commit(ctx context.Context) (err error) {
	for range mapTries {
		o := kadm.Offset{Topic: p.Source.Topic, Partition: p.Source.Partition, At: p.shot.Base, LeaderEpoch: p.shot.LeaderEpoch, Metadata: p.shot.Metadata}
		err = p.admin.CommitAllOffsets(ctx, p.cfg.Group, kadm.Offsets{o.Topic: {o.Partition: o}})
		if !errors.Is(err, kerr.OffsetMetadataTooLarge) {
			break
		}
		p.s.f.TooLong(len(p.shot.Metadata))
		if p.shot, err = p.s.snapshot(); err != nil {
			return err
		}
		p.Base = p.shot.Base
	}
	if errors.Is(err, kerr.UnknownMemberID) || errors.Is(err, kerr.IllegalGeneration) || errors.Is(err, kerr.StaleMemberEpoch) {
		return fmt.Errorf("%w (%w)", ErrRunning, err)
	}
	return err
}
