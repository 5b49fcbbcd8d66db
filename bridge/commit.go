package bridge

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"serbridge/bridge/frontier"
	"serbridge/bridge/pause"
)

type counter struct{ atomic.Int64 }

// commitSoon counts settled documents that no commit covers; a third of the
// bound makes one due before its time.
func (b *Bridge) commitSoon(units int) {
	n := b.uncovered.Add(int64(units))
	if b.cfg.MaxRepeats > 0 && 3*n >= int64(b.cfg.MaxRepeats) {
		signal(b.due)
	}
}

const (
	commitWait = 5 * time.Second // how long one commit may take
	mostRest   = 3 * time.Second // and a partition rests after one that failed
)

// keepCommitting commits what has changed: each interval, and earlier when
// enough is settled and not covered. One at a time, until ctx ends. A partition
// whose commit fails rests for a while; the others go on without it.
func (b *Bridge) keepCommitting(ctx context.Context) {
	tick := time.NewTicker(b.cfg.CommitInterval)
	defer tick.Stop()
	for {
		select {
		case <-b.due:
		case <-tick.C:
			b.exposure.Look()
			if b.paused.Load() > 0 {
				b.nudge() // who must wait and who may go on is for the poll loop to see
			}
		case <-ctx.Done():
			return
		}
		b.commitOnce(ctx)
	}
}

func (b *Bridge) commitOnce(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, commitWait)
	defer cancel()
	now := time.Now()
	b.commit(ctx, slices.DeleteFunc(b.owned(), func(p *partition) bool { return p.rests(now) }))
}

// refusals are the partitions whose commit failed, and why.
type refusals map[*partition]error

// all says of every partition that it failed so.
func all(ps []*partition, err error) refusals {
	r := make(refusals, len(ps))
	for _, p := range ps {
		r[p] = err
	}
	return r
}

// any is one of the reasons, nil if there is none.
func (r refusals) any() error {
	for p, err := range r {
		return fmt.Errorf("commit offset of %s/%d: %w", p.topic, p.id, err)
	}
	return nil
}

// commit sends one atomic snapshot of each partition that has changed. The
// snapshots are taken after any earlier commit has ended and just before the
// request is written: one taken sooner could be overtaken. A partition fenced
// since is left out, since the broker accepts commits of members that own
// nothing, and would rewind the next owner.
//
// The request is our own, not kgo's CommitOffsetsSync, which waits while the
// group forms: that lasts until the last member has come or, after a crash,
// its session has ended, and delivery would stop at its bound for as long. The
// broker takes commits meanwhile.
func (b *Bridge) commit(ctx context.Context, ps []*partition) refusals {
	ps = changed(ps)
	if len(ps) == 0 {
		b.sayCommit() // who had trouble may be gone
		return nil
	}
	if err := enqueue(ctx, b.commitTurn); err != nil {
		return all(ps, err)
	}
	defer func() { <-b.commitTurn }()
	c := b.commitment(ps)
	if len(c.snapshots) == 0 {
		return nil
	}
	begun := time.Now()
	resp, err := b.send(ctx, c)
	var refused refusals
	if err != nil {
		refused = all(c.partitions(), err)
	} else {
		refused = b.acknowledged(c, resp)
	}
	b.metrics.committed(refused, time.Since(begun))
	for _, p := range c.partitions() {
		p.committed(refused[p], time.Now())
	}
	b.sayCommit()
	return refused
}

// send writes the request, after all that it covers has been flushed.
func (b *Bridge) send(ctx context.Context, c *commitment) (*kmsg.OffsetCommitResponse, error) {
	if b.cfg.Flush != nil {
		if err := b.cfg.Flush(ctx); err != nil {
			return nil, err
		}
	}
	return c.req.RequestWith(ctx, b.client)
}

// sayCommit tells the first of the partitions that cannot be committed, as
// long as there is one. A rebalance and a map to be shortened are none.
func (b *Bridge) sayCommit() {
	for _, p := range b.owned() {
		if err := p.refusal(); err != nil {
			b.troubles.begin("commit", fmt.Sprintf("offsets are not committed, delivery stops at MAX_REPEATS: %s/%d: %s", p.topic, p.id, explainKafka(err)))
			return
		}
	}
	b.troubles.end("commit")
}

// committed notes what came of the partition's commit.
func (p *partition) committed(err error, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case err == nil:
		p.refused, p.rest, p.restUntil = nil, nil, time.Time{}
		close(p.ack)
		p.ack = make(chan struct{})
		return
	case errors.Is(err, kerr.OffsetMetadataTooLarge):
		return // a shorter one goes at once
	case p.rest == nil:
		p.rest = fullJitter(mostRest)
	}
	p.restUntil = now.Add(p.rest.NextBackOff())
	if !errors.Is(err, kerr.RebalanceInProgress) {
		p.refused = err
	}
}

func (p *partition) rests(now time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return now.Before(p.restUntil)
}

// refusal is why the last commit failed, nil if it did not.
func (p *partition) refusal() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.refused
}

// changed are the partitions of which a commit would say something new.
func changed(ps []*partition) (dirty []*partition) {
	for _, p := range ps {
		if f := p.frontier(); f != nil && f.Dirty() {
			dirty = append(dirty, p)
		}
	}
	return dirty
}

// commitment is one commit on its way.
type commitment struct {
	req       *kmsg.OffsetCommitRequest
	snapshots map[place]snapshot
}

type snapshot struct {
	frontier.Snapshot
	p *partition
	f *frontier.Frontier
}

func (c *commitment) partitions() (ps []*partition) {
	for _, s := range c.snapshots {
		ps = append(ps, s.p)
	}
	return ps
}

func (b *Bridge) commitment(ps []*partition) *commitment {
	c := &commitment{req: kmsg.NewPtrOffsetCommitRequest(), snapshots: make(map[place]snapshot)}
	c.req.Group = b.cfg.Group
	c.req.MemberID, c.req.Generation = b.client.GroupMetadata()
	topics := make(map[string]int)
	for _, p := range ps {
		f := p.frontier()
		if f == nil {
			continue
		}
		b.raise(p, f)
		s, ok := f.Snapshot()
		if !ok {
			continue
		}
		c.snapshots[place{topic: p.topic, partition: p.id}] = snapshot{s, p, f}
		i, ok := topics[p.topic]
		if !ok {
			i = len(c.req.Topics)
			topics[p.topic] = i
			rt := kmsg.NewOffsetCommitRequestTopic()
			rt.Topic, rt.TopicID = p.topic, b.topicID(p)
			c.req.Topics = append(c.req.Topics, rt)
		}
		rp := kmsg.NewOffsetCommitRequestTopicPartition()
		rp.Partition, rp.Offset, rp.LeaderEpoch, rp.Metadata = p.id, s.Base, s.LeaderEpoch, &s.Metadata
		c.req.Topics[i].Partitions = append(c.req.Topics[i].Partitions, rp)
	}
	return c
}

// topicID is the one that the topic had when the partition was assigned, or,
// where that look had failed, the first one seen since.
func (b *Bridge) topicID(p *partition) [16]byte {
	if p.topicID != [16]byte{} {
		return p.topicID
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.topicIDs[p.topic]
}

// topicOf is the topic of an answer: from version 10 on it has only the id.
func topicOf(req *kmsg.OffsetCommitRequest, t kmsg.OffsetCommitResponseTopic) string {
	if t.Topic != "" {
		return t.Topic
	}
	for _, rt := range req.Topics {
		if rt.TopicID == t.TopicID {
			return rt.Topic
		}
	}
	return ""
}

// acknowledged frees the room of what the commit covers, partition by
// partition: what the broker did not take stays dirty.
func (b *Bridge) acknowledged(c *commitment, resp *kmsg.OffsetCommitResponse) refusals {
	refused := all(c.partitions(), errUnanswered)
	for _, t := range resp.Topics {
		topic := topicOf(c.req, t)
		for _, rp := range t.Partitions {
			s, ok := c.snapshots[place{topic: topic, partition: rp.Partition}]
			if !ok {
				continue
			}
			if err := kerr.ErrorForCode(rp.ErrorCode); err != nil {
				refused[s.p] = err
				b.shorten(s, err)
				continue
			}
			delete(refused, s.p)
			room := s.f.Committed(s.Snapshot)
			b.exposure.ReleaseAll(topic, room)
			b.uncovered.Add(int64(-room.Units()))
		}
	}
	return refused
}

var errUnanswered = errors.New("the broker's answer leaves it out")

// shorten has a shorter map committed at once where the broker does not take
// one of this length.
func (b *Bridge) shorten(s snapshot, err error) {
	if errors.Is(err, kerr.OffsetMetadataTooLarge) {
		s.f.TooLong(len(s.Metadata))
		signal(b.due)
	}
}

// commitTries is how often a stop tries a commit that seems hopeless: the group
// may have moved on a moment before we are told our new generation, and a broker
// that has just come back may not know the topic yet.
const commitTries = 4

var hopeless = []error{
	// The group has gone on without this member.
	kerr.UnknownMemberID, kerr.IllegalGeneration, kerr.FencedInstanceID, kerr.StaleMemberEpoch, kerr.FencedMemberEpoch, kerr.GroupAuthorizationFailed,
	// There is nothing to commit to.
	kerr.UnknownTopicOrPartition, kerr.UnknownTopicID, kerr.TopicAuthorizationFailed,
}

// commitBefore commits what a drain has finished, until all is acknowledged or
// given up, or the deadline has passed. The error is one of those given up.
func (b *Bridge) commitBefore(deadline time.Time, ps []*partition) error {
	ctx, cancel := context.WithDeadline(b.ending, deadline)
	defer cancel()
	wait := fullJitter(time.Second)
	lost := make(refusals)
	for tries := 1; ; tries++ {
		refused := b.commit(ctx, ps)
		ps = nil
		longMap := false
		for p, err := range refused {
			if tries >= commitTries && isOneOf(err, hopeless) {
				lost[p] = err
				continue
			}
			ps = append(ps, p)
			longMap = longMap || errors.Is(err, kerr.OffsetMetadataTooLarge)
		}
		if len(ps) == 0 {
			return lost.any()
		}
		if !longMap && pause.For(ctx, wait.NextBackOff()) != nil {
			return refused.any()
		}
	}
}

func isOneOf(err error, errs []error) bool {
	return slices.ContainsFunc(errs, func(e error) bool { return errors.Is(err, e) })
}
