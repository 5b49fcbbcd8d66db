package bridge

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// Start is where a topic begins for which the group has no commit at all. The
// zero value is the start of the log. At most one field is set.
type Start struct {
	Latest bool
	Time   time.Time     // the first record at or after
	Ago    time.Duration // positive: so long before now
}

// startWait is how often a member looks whether the start was committed.
const startWait = time.Second

// adjust makes the start of a fresh topic exact before its first record: a
// crash, or a second member, would resolve "latest" again and skip what came
// between. So one member, the owner of partition 0, resolves it for all
// partitions and commits it in one request; the others read theirs. It is
// kgo's AdjustFetchOffsetsFn: no record of these partitions is received before
// it returns.
func (b *Bridge) adjust(ctx context.Context, offsets map[string]map[int32]kgo.Offset) (map[string]map[int32]kgo.Offset, error) {
	fresh := b.uncommitted(offsets)
	if len(fresh) == 0 {
		return offsets, nil
	}
	ours := b.unseeded(offsets)
	if b.cfg.Start == (Start{}) {
		b.pin(ctx, offsets, fresh, ours)
		b.sayStart(ctx, fresh, ours)
		return offsets, nil
	}
	for {
		starts, err := b.starts(ctx, fresh)
		if err == nil {
			b.troubles.end("start")
			placed := b.place(offsets, starts)
			b.pin(ctx, placed, fresh, ours)
			b.sayStart(ctx, fresh, ours)
			return placed, nil
		}
		if ctx.Err() != nil {
			return nil, fmt.Errorf("resolve start position: %w", context.Cause(ctx))
		}
		if !errors.Is(err, errOthersTurn) {
			b.troubles.begin("start", "start position not resolved; no record is taken of the partitions assigned with it: "+explainKafka(err))
		}
		if err := pause(ctx, startWait); err != nil {
			return nil, fmt.Errorf("resolve start position: %w", err)
		}
	}
}

// uncommitted lists the topics of which a partition of ours has no commit; a
// frontier was seeded for those that have one.
func (b *Bridge) uncommitted(offsets map[string]map[int32]kgo.Offset) (topics []string) {
	for topic, ids := range offsets {
		for id := range ids {
			if p := b.partition(topic, id); p != nil && p.frontier() == nil {
				topics = append(topics, topic)
				break
			}
		}
	}
	slices.Sort(topics)
	return topics
}

// unseeded lists the partitions of ours without a commit.
func (b *Bridge) unseeded(offsets map[string]map[int32]kgo.Offset) (ps []*partition) {
	for topic, ids := range offsets {
		for id := range ids {
			if p := b.partition(topic, id); p != nil && p.frontier() == nil {
				ps = append(ps, p)
			}
		}
	}
	return ps
}

var errOthersTurn = errors.New("another member resolves the start")

// starts returns the committed offsets of the group after they were resolved;
// errOthersTurn means that some are not yet, and not ours to resolve.
func (b *Bridge) starts(ctx context.Context, fresh []string) (kadm.OffsetResponses, error) {
	commits, err := b.admin.FetchOffsets(ctx, b.cfg.Group)
	if err != nil && !errors.Is(err, kerr.GroupIDNotFound) {
		return nil, fmt.Errorf("fetch offsets of group %s: %w", b.cfg.Group, err)
	}
	undecided, err := b.undecided(ctx, fresh, commits)
	if err != nil {
		return nil, err
	}
	if len(undecided) == 0 {
		return commits, nil
	}
	ours := b.toDecide(undecided)
	if len(ours) > 0 {
		if err := b.commitStarts(ctx, ours); err != nil {
			return nil, err
		}
	}
	if len(ours) < len(undecided) {
		return nil, errOthersTurn // theirs are read next time
	}
	return b.admin.FetchOffsets(ctx, b.cfg.Group)
}

// undecided lists the topics whose start is still to be resolved. A named topic
// is fresh while the group has no commit for it. With a pattern that is all
// topics at once, while the group has no commit at all: a topic that the
// pattern finds later starts at the earliest.
func (b *Bridge) undecided(ctx context.Context, fresh []string, commits kadm.OffsetResponses) ([]string, error) {
	if b.pattern == nil {
		return slices.DeleteFunc(slices.Clone(fresh), func(t string) bool { return committed(commits, t) }), nil
	}
	for topic := range commits {
		if committed(commits, topic) {
			return nil, nil
		}
	}
	all, _, err := b.consumedTopics(ctx)
	if err != nil {
		return nil, err
	}
	topics := append(all.Names(), fresh...) // a broker may not know of the latest one yet
	slices.Sort(topics)
	return slices.Compact(topics), nil
}

// toDecide are those of the undecided topics whose start is this member's to
// resolve: it owns their partition 0, with a pattern that of the first.
func (b *Bridge) toDecide(undecided []string) []string {
	others := func(topic string) bool { return b.partition(topic, 0) == nil }
	if b.pattern != nil {
		if others(undecided[0]) {
			return nil
		}
		return undecided
	}
	return slices.DeleteFunc(slices.Clone(undecided), others)
}

func committed(commits kadm.OffsetResponses, topic string) bool {
	for _, o := range commits[topic] {
		if o.Err == nil && o.At >= 0 {
			return true
		}
	}
	return false
}

// commitStarts resolves the start of every partition of the topics and commits
// all in one request, so that either all or none of a topic is decided. The
// broker takes commits for partitions of others in the same generation.
func (b *Bridge) commitStarts(ctx context.Context, topics []string) error {
	at, err := b.resolve(ctx, topics)
	if err != nil {
		return fmt.Errorf("list offsets: %w", err)
	}
	details, err := b.admin.ListTopics(kadm.WithAuthorizedOps(ctx), topics...) // past the cache, as in consumedTopics
	if err != nil {
		return fmt.Errorf("list topics: %w", err)
	}
	req := kmsg.NewPtrOffsetCommitRequest()
	req.Group = b.cfg.Group
	req.MemberID, req.Generation = b.client.GroupMetadata()
	for topic, ids := range at {
		rt := kmsg.NewOffsetCommitRequestTopic()
		rt.Topic, rt.TopicID = topic, details[topic].ID
		for id, o := range ids {
			if o.Err != nil {
				return fmt.Errorf("list offset of %s/%d: %w", topic, id, o.Err)
			}
			rp := kmsg.NewOffsetCommitRequestTopicPartition()
			rp.Partition, rp.Offset, rp.LeaderEpoch = id, o.Offset, o.LeaderEpoch
			rp.Metadata = kmsg.StringPtr("")
			rt.Partitions = append(rt.Partitions, rp)
		}
		req.Topics = append(req.Topics, rt)
	}
	resp, err := req.RequestWith(ctx, b.client)
	if err != nil {
		return fmt.Errorf("commit start: %w", err)
	}
	for _, t := range resp.Topics {
		for _, rp := range t.Partitions {
			if err := kerr.ErrorForCode(rp.ErrorCode); err != nil {
				return fmt.Errorf("commit start of %s/%d: %w", t.Topic, rp.Partition, err)
			}
		}
	}
	return nil
}

func (b *Bridge) resolve(ctx context.Context, topics []string) (kadm.ListedOffsets, error) {
	switch s := b.cfg.Start; {
	case s.Latest:
		return b.admin.ListEndOffsets(ctx, topics...)
	case s.Ago > 0:
		return b.admin.ListOffsetsAfterMilli(ctx, time.Now().Add(-s.Ago).UnixMilli(), topics...)
	default:
		return b.admin.ListOffsetsAfterMilli(ctx, s.Time.UnixMilli(), topics...)
	}
}

// place sets the fetch positions to what is committed by now. A partition
// without a commit was added later, and starts at its beginning.
func (b *Bridge) place(offsets map[string]map[int32]kgo.Offset, commits kadm.OffsetResponses) map[string]map[int32]kgo.Offset {
	for topic, ids := range offsets {
		for id := range ids {
			p := b.partition(topic, id)
			if p == nil || p.frontier() != nil {
				continue
			}
			if c, ok := commits.Lookup(topic, id); ok && c.Err == nil && c.At >= 0 {
				ids[id] = kgo.NewOffset().At(c.At).WithEpoch(c.LeaderEpoch)
				b.seed(p, c.At, c.LeaderEpoch, &c.Metadata)
			}
		}
	}
	return offsets
}

// sayStart tells what a fresh start means: how much there is to deliver, and
// how long that takes at the rate.
func (b *Bridge) sayStart(ctx context.Context, topics []string, ps []*partition) {
	if ps = b.untold(ps); len(ps) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, pollWait) // what is said is no reason to wait long
	defer cancel()
	ends, err := b.admin.ListEndOffsets(ctx, topics...)
	if err != nil {
		return
	}
	starts, err := b.admin.ListStartOffsets(ctx, topics...)
	if err != nil {
		return
	}
	records := int64(0)
	for _, p := range ps {
		end, _ := ends.Lookup(p.topic, p.id)
		start, _ := starts.Lookup(p.topic, p.id)
		from := start.Offset
		if f := p.frontier(); f != nil {
			from = f.Base()
		}
		records += max(0, end.Offset-from)
	}
	attrs := []any{"partitions", names(ps), "records", records}
	if b.cfg.RateLimit > 0 {
		took := time.Duration(float64(records) / b.cfg.RateLimit * float64(time.Second))
		attrs = append(attrs, "at_the_rate", took.Round(time.Second))
	}
	b.log.Info("first start of partitions for which the group has no commit", attrs...)
}

// untold are those whose start was not told yet: an empty one has no commit,
// and would be told of at each rebalance.
func (b *Bridge) untold(ps []*partition) (untold []*partition) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, p := range ps {
		if at := (place{topic: p.topic, partition: p.id}); !b.said[at] {
			b.said[at] = true
			untold = append(untold, p)
		}
	}
	return untold
}

// pin gives partitions without a commit the numbered start of their log: kgo
// cannot set the position of one that has neither a commit nor a record yet, so
// one whose start retention passes before the first poll would stand for ever.
func (b *Bridge) pin(ctx context.Context, offsets map[string]map[int32]kgo.Offset, topics []string, ps []*partition) {
	ctx, cancel := context.WithTimeout(ctx, pollWait)
	defer cancel()
	starts, err := b.admin.ListStartOffsets(ctx, topics...)
	if err != nil {
		return
	}
	for _, p := range ps {
		if s, ok := starts.Lookup(p.topic, p.id); ok && s.Err == nil && p.frontier() == nil {
			offsets[p.topic][p.id] = kgo.NewOffset().At(s.Offset).WithEpoch(s.LeaderEpoch)
			b.seed(p, s.Offset, s.LeaderEpoch, nil)
		}
	}
}
