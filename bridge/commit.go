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

// keepCommitting commits what has changed: each interval, and earlier when
// enough is settled and not covered. One at a time, until ctx ends.
func (b *Bridge) keepCommitting(ctx context.Context) {
	tick := time.NewTicker(b.cfg.CommitInterval)
	defer tick.Stop()
	wait := fullJitter(mostWait / 10)
	for {
		select {
		case <-b.due:
		case <-tick.C:
			b.exposure.Look()
			if b.metrics.paused.Load() > 0 {
				b.nudge() // who must wait and who may go on is for the poll loop to see
			}
		case <-ctx.Done():
			return
		}
		if err := b.commit(ctx, b.owned()); err == nil {
			wait.Reset()
		} else if pause(ctx, wait.NextBackOff()) != nil {
			return
		}
	}
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
func (b *Bridge) commit(ctx context.Context, ps []*partition) error {
	if !slices.ContainsFunc(ps, (*partition).dirty) {
		return nil
	}
	if err := enqueue(ctx, b.commitTurn); err != nil {
		return err
	}
	defer func() { <-b.commitTurn }()
	c := b.commitment(ps)
	if len(c.snapshots) == 0 {
		return nil
	}
	begun := time.Now()
	resp, err := c.req.RequestWith(ctx, b.client)
	if err == nil {
		err = b.acknowledged(c, resp)
	}
	b.metrics.committed(err, time.Since(begun))
	b.sayCommit(ctx, err)
	return err
}

func (b *Bridge) sayCommit(ctx context.Context, err error) {
	switch {
	case err == nil:
		b.troubles.end("commit")
	case ctx.Err() != nil || errors.Is(err, kerr.RebalanceInProgress) || errors.Is(err, kerr.OffsetMetadataTooLarge):
	default:
		b.troubles.begin("commit", fmt.Sprintf("offsets are not committed, delivery stops at MAX_REPEATS: %v", err))
	}
}

// dirty reports whether a commit would say something new of the partition.
func (p *partition) dirty() bool {
	f := p.frontier()
	return f != nil && f.Dirty()
}

// commitment is one commit on its way.
type commitment struct {
	req       *kmsg.OffsetCommitRequest
	snapshots map[place]snapshot
}

type snapshot struct {
	frontier.Snapshot
	f *frontier.Frontier
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
		s, ok := f.Snapshot()
		if !ok {
			continue
		}
		c.snapshots[place{topic: p.topic, partition: p.id}] = snapshot{s, f}
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

// name is the topic of an answer: from version 10 on it has only the id.
func (c *commitment) name(t kmsg.OffsetCommitResponseTopic) string {
	if t.Topic != "" {
		return t.Topic
	}
	for _, rt := range c.req.Topics {
		if rt.TopicID == t.TopicID {
			return rt.Topic
		}
	}
	return ""
}

// acknowledged frees the room of what the commit covers, partition by
// partition: what the broker did not take stays dirty.
func (b *Bridge) acknowledged(c *commitment, resp *kmsg.OffsetCommitResponse) error {
	var first error
	for _, t := range resp.Topics {
		topic := c.name(t)
		for _, rp := range t.Partitions {
			s, ok := c.snapshots[place{topic: topic, partition: rp.Partition}]
			if !ok {
				continue
			}
			err := kerr.ErrorForCode(rp.ErrorCode)
			switch {
			case err == nil:
				room := s.f.Committed(s.Snapshot)
				b.exposure.Release(room)
				b.uncovered.Add(int64(-room))
			case errors.Is(err, kerr.OffsetMetadataTooLarge):
				s.f.TooLong(len(s.Metadata))
				signal(b.due)
			}
			if err != nil && first == nil {
				first = fmt.Errorf("commit offset of %s/%d: %w", topic, rp.Partition, err)
			}
		}
	}
	return first
}

// commitBefore commits what a drain has finished, until it is acknowledged or
// the deadline has passed.
func (b *Bridge) commitBefore(deadline time.Time, ps []*partition) error {
	ctx, cancel := context.WithDeadline(b.life, deadline)
	defer cancel()
	wait := fullJitter(time.Second)
	for hopelessly := 0; ; {
		err := b.commit(ctx, ps)
		if hopeless(err) {
			hopelessly++ // once or twice: the group may have moved on a moment before we are told our new generation
		}
		if err == nil || hopelessly > 3 {
			return err
		}
		if pause(ctx, wait.NextBackOff()) != nil {
			return err
		}
	}
}

// hopeless reports whether the group has gone on without this member.
func hopeless(err error) bool {
	for _, gone := range []error{kerr.UnknownMemberID, kerr.IllegalGeneration, kerr.FencedInstanceID, kerr.StaleMemberEpoch, kerr.FencedMemberEpoch, kerr.GroupAuthorizationFailed} {
		if errors.Is(err, gone) {
			return true
		}
	}
	return false
}
