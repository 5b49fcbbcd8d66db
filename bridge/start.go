package bridge

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"serbridge/bridge/pause"
)

// Start is where a topic begins for which the group has no commit at all. The
// zero value is the start of the log. At most one field is set.
type Start struct {
	Latest bool
	Time   time.Time     // the first record at or after
	Ago    time.Duration // positive: so long before now
}

// startWait is how often it is looked whether a start that was not resolved can
// be now.
const startWait = time.Second

// positions are where partitions begin.
type positions map[*partition]kgo.Offset

// adjust makes the start of a fresh topic exact before its first record: a
// crash, or a second member, would resolve "latest" again and skip what came
// between. So one member, the owner of partition 0, resolves it for all
// partitions and commits it in one request; the others read theirs. It is
// kgo's AdjustFetchOffsetsFn: no record of these partitions is received before
// it returns. Those whose start is not known then are held, the others go on.
func (b *Bridge) adjust(ctx context.Context, offsets map[string]map[int32]kgo.Offset) (map[string]map[int32]kgo.Offset, error) {
	fresh := b.unseeded(offsets)
	at, why := b.placeStarts(ctx, fresh)
	if ctx.Err() != nil {
		return nil, fmt.Errorf("resolve start position: %w", context.Cause(ctx))
	}
	for _, p := range b.owned() { // also those whose commits the broker did not tell: the client leaves them out
		if p.frontier() == nil && !p.unplaced.Load() {
			at[p] = b.holdStart(p)
		}
	}
	b.sayHeld(why)
	for p, o := range at {
		if offsets[p.topic] == nil {
			offsets[p.topic] = make(map[int32]kgo.Offset)
		}
		offsets[p.topic][p.id] = o
	}
	b.sayStart(ctx, fresh)
	return offsets, nil
}

// unseeded lists the partitions of ours without a commit; a frontier was seeded
// for those that have one.
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

// holdStart has a partition wait for its start. kgo must be given a position:
// it is paused at one that no start is below, since the client may move it up
// to the start of the log.
func (b *Bridge) holdStart(p *partition) kgo.Offset {
	p.unplaced.Store(true)
	b.client.PauseFetchPartitions(map[string][]int32{p.topic: {p.id}})
	b.nudge()
	return kgo.NewOffset().At(0)
}

// awaitStarts resolves the starts that are still to be, until ctx ends.
func (b *Bridge) awaitStarts(ctx context.Context) {
	pause.Every(ctx, startWait, func() {
		ps := slices.DeleteFunc(b.owned(), func(p *partition) bool { return !p.waitsForStart() })
		var why map[string]error
		if len(ps) > 0 {
			var at positions
			if at, why = b.findStarts(ctx, ps); len(at) > 0 {
				b.sayStart(ctx, ps)
				b.nudge()
			}
		}
		b.sayHeld(why)
		for _, key := range b.troubles.keys("start ") {
			if why[strings.TrimPrefix(key, "start ")] == nil {
				b.troubles.end(key)
			}
		}
	})
}

func (p *partition) waitsForStart() bool { return p.unplaced.Load() && p.frontier() == nil }

// begin lets a held partition go on once its start is resolved. The poll loop
// calls it.
func (b *Bridge) begin(p *partition) {
	if f := p.frontier(); f != nil {
		b.rewind(p, f.Base())
		p.begins = true
		p.unplaced.Store(false)
	}
}

// findStarts seeds those of the held partitions whose start is known by now:
// what the group has committed, or else the start of one without a commit. It
// returns why the topics of the others are held.
func (b *Bridge) findStarts(ctx context.Context, ps []*partition) (at positions, why map[string]error) {
	ctx, cancel := context.WithTimeout(ctx, pollWait)
	defer cancel()
	commits, err := b.commitsOf(ctx, names(ps))
	if err != nil {
		return nil, map[string]error{"": err}
	}
	at, refused := b.seedFrom(commits, ps)
	fresh := slices.DeleteFunc(slices.Clone(ps), func(p *partition) bool { return p.frontier() != nil || refused[p.topic] != nil })
	placed, why := b.placeStarts(ctx, fresh)
	maps.Copy(at, placed)
	maps.Copy(why, refused)
	return at, why
}

// seedFrom seeds the partitions that have a commit, and returns of which topics
// it is not known.
func (b *Bridge) seedFrom(commits kadm.OffsetResponses, ps []*partition) (at positions, refused map[string]error) {
	at, refused = make(positions), make(map[string]error)
	for _, p := range ps {
		c, ok := commits.Lookup(p.topic, p.id)
		switch {
		case !ok:
			refused[p.topic] = errUnanswered
		case c.Err != nil:
			refused[p.topic] = c.Err
		case c.At >= 0:
			at[p] = kgo.NewOffset().At(c.At).WithEpoch(c.LeaderEpoch)
			b.seed(p, c.At, c.LeaderEpoch, &c.Metadata)
		}
	}
	return at, refused
}

// placeStarts seeds those of the partitions, none of which has a commit, whose
// start is resolved, and returns why the topics of the others are held.
func (b *Bridge) placeStarts(ctx context.Context, ps []*partition) (at positions, why map[string]error) {
	ctx, cancel := context.WithTimeout(ctx, pollWait)
	defer cancel()
	if b.cfg.Start == (Start{}) || len(ps) == 0 {
		return b.pin(ctx, ps)
	}
	commits, why, err := b.starts(ctx, topicsOf(ps))
	if err != nil {
		return make(positions), map[string]error{"": err}
	}
	decided := slices.DeleteFunc(slices.Clone(ps), func(p *partition) bool { return why[p.topic] != nil })
	at, refused := b.seedFrom(commits, decided)
	maps.Copy(why, refused)
	pinned, refused := b.pin(ctx, slices.DeleteFunc(decided, func(p *partition) bool { return p.frontier() != nil || refused[p.topic] != nil }))
	maps.Copy(at, pinned) // added since: they start at their beginning
	maps.Copy(why, refused)
	return at, why
}

// sayHeld says of which topics the start is not resolved, and why; "" is all
// that wait for theirs.
func (b *Bridge) sayHeld(why map[string]error) {
	for topic, err := range why {
		what := "topic " + topic + " is held, its start position is not resolved: "
		switch {
		case errors.Is(err, errOthersTurn), errors.Is(err, context.Canceled):
			continue
		case topic == "":
			what = "partitions are held, their start position is not resolved: "
		}
		b.troubles.begin("start "+topic, what+explainKafka(err))
	}
}

func topicsOf(ps []*partition) (topics []string) {
	for topic := range names(ps) {
		topics = append(topics, topic)
	}
	slices.Sort(topics)
	return topics
}

var errOthersTurn = errors.New("another member resolves the start")

// starts returns the committed offsets of the topics after they were resolved,
// and why those of some are not yet; errOthersTurn: they are not ours to resolve.
//
// The generation comes first: if another member has become the owner since, and
// decided, ours is over and the broker refuses what we decide. One at a time,
// or this member would decide twice.
func (b *Bridge) starts(ctx context.Context, fresh []string) (commits kadm.OffsetResponses, why map[string]error, err error) {
	if err := enqueue(ctx, b.startTurn); err != nil {
		return nil, nil, err
	}
	defer func() { <-b.startTurn }()
	req := kmsg.NewPtrOffsetCommitRequest()
	req.Group = b.cfg.Group
	req.MemberID, req.Generation = b.client.GroupMetadata()
	parts, why, err := b.partsOf(ctx, fresh)
	if err != nil {
		return nil, nil, err
	}
	if commits, err = b.commitsOf(ctx, parts); err != nil {
		return nil, nil, err
	}
	undecided, err := b.undecided(ctx, fresh, commits)
	if err != nil {
		return nil, nil, err
	}
	for _, o := range commits.Sorted() {
		if o.Err != nil {
			why[o.Topic] = o.Err // one that is not told is not none
		}
	}
	for _, err := range why {
		if b.pattern != nil && len(undecided) > 0 {
			return nil, nil, err // they are decided together: one left out would count as found later
		}
	}
	undecided = slices.DeleteFunc(undecided, func(topic string) bool { return why[topic] != nil })
	ours := b.toDecide(undecided)
	for _, topic := range undecided {
		why[topic] = errOthersTurn // theirs are read next time
	}
	if len(ours) == 0 {
		return commits, why, nil
	}
	refused, err := b.commitStarts(ctx, req, ours)
	if err != nil {
		return nil, nil, err
	}
	for _, topic := range ours {
		delete(why, topic)
	}
	maps.Copy(why, refused)
	commits, err = b.commitsOf(ctx, parts)
	return commits, why, err
}

// partsOf lists all partitions of the topics, and why those of some are not
// known.
func (b *Bridge) partsOf(ctx context.Context, topics []string) (parts map[string][]int32, why map[string]error, err error) {
	details, _, err := b.readTopics(ctx, topics)
	if err != nil {
		return nil, nil, err
	}
	parts, why = make(map[string][]int32), make(map[string]error)
	for _, topic := range topics {
		t := details[topic]
		if t.Err != nil {
			why[topic] = fmt.Errorf("list topic %s: %w", topic, t.Err)
			continue
		}
		parts[topic] = t.Partitions.Numbers()
	}
	return parts, why, nil
}

// commitsOf reads the group's commits of these partitions. They are asked for by
// name: asked for all there are, a broker leaves out those of a topic that it
// does not know yet or that we may not see, which is not to have none.
func (b *Bridge) commitsOf(ctx context.Context, parts map[string][]int32) (kadm.OffsetResponses, error) {
	g := kmsg.NewOffsetFetchRequestGroup()
	g.Group = b.cfg.Group
	for topic, ids := range parts {
		t := kmsg.NewOffsetFetchRequestGroupTopic()
		t.Topic, t.Partitions = topic, ids
		g.Topics = append(g.Topics, t)
	}
	if len(g.Topics) == 0 {
		return nil, nil // it would ask for all
	}
	req := kmsg.NewPtrOffsetFetchRequest()
	req.RequireStable = true
	req.Groups = append(req.Groups, g)
	resp, err := req.RequestWith(ctx, b.visitor)
	if err == nil {
		err = kerr.ErrorForCode(resp.ErrorCode)
	}
	if err == nil && len(resp.Groups) == 1 {
		err = kerr.ErrorForCode(resp.Groups[0].ErrorCode)
	}
	commits := make(kadm.OffsetResponses)
	switch {
	case errors.Is(err, kerr.GroupIDNotFound):
	case err != nil:
		return nil, fmt.Errorf("fetch offsets of group %s: %w", b.cfg.Group, err)
	case len(resp.Groups) != 1:
		return nil, fmt.Errorf("fetch offsets of group %s: %w", b.cfg.Group, errUnanswered)
	}
	for _, g := range resp.Groups { // none, where the answer as a whole was that there is no group
		commitsIn(g, commits)
	}
	return commits, nil
}

func commitsIn(g kmsg.OffsetFetchResponseGroup, commits kadm.OffsetResponses) {
	for _, t := range g.Topics {
		for _, rp := range t.Partitions {
			o := kadm.OffsetResponse{Err: kerr.ErrorForCode(rp.ErrorCode)}
			o.Topic, o.Partition, o.At, o.LeaderEpoch = t.Topic, rp.Partition, rp.Offset, rp.LeaderEpoch
			if rp.Metadata != nil {
				o.Metadata = *rp.Metadata
			}
			commits.Add(o)
		}
	}
}

// undecided lists the topics whose start is still to be resolved. A named topic
// is fresh while the group has no commit for it. With a pattern that is all
// topics at once, while the group has no commit at all: a topic that the
// pattern finds later starts at the earliest.
func (b *Bridge) undecided(ctx context.Context, fresh []string, commits kadm.OffsetResponses) ([]string, error) {
	if b.pattern == nil {
		return slices.DeleteFunc(slices.Clone(fresh), func(t string) bool { return committed(commits, t) }), nil
	}
	whole, err := b.admin.FetchOffsets(ctx, b.cfg.Group)
	if err != nil && !errors.Is(err, kerr.GroupIDNotFound) {
		return nil, fmt.Errorf("fetch offsets of group %s: %w", b.cfg.Group, err)
	}
	for topic := range whole {
		if committed(whole, topic) {
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
		if len(undecided) == 0 || others(undecided[0]) {
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
// all in one request, so that either all or none of a topic is decided; it
// returns why some are not. The broker takes commits for partitions of others
// in the same generation.
func (b *Bridge) commitStarts(ctx context.Context, req *kmsg.OffsetCommitRequest, topics []string) (refused map[string]error, err error) {
	details, _, err := b.readTopics(ctx, topics)
	if err != nil {
		return nil, err
	}
	at, refused := listEach(ctx, b.resolve, topics)
	for _, topic := range topics {
		rt, err := startOf(details[topic], at[topic])
		switch {
		case refused[topic] != nil:
		case err != nil:
			refused[topic] = err
		default:
			req.Topics = append(req.Topics, rt)
		}
	}
	for _, err := range refused {
		if b.pattern != nil {
			return nil, err // as in starts
		}
	}
	if len(req.Topics) == 0 {
		return refused, nil
	}
	resp, err := req.RequestWith(ctx, b.client)
	if err != nil {
		return nil, fmt.Errorf("commit start: %w", err)
	}
	for _, t := range resp.Topics {
		topic := topicOf(req, t)
		for _, rp := range t.Partitions {
			if err := kerr.ErrorForCode(rp.ErrorCode); err != nil {
				refused[topic] = fmt.Errorf("commit start of %s/%d: %w", topic, rp.Partition, err)
			}
		}
	}
	return refused, nil
}

// startOf is the commit of a topic's start, all of its partitions.
func startOf(t kadm.TopicDetail, at map[int32]kadm.ListedOffset) (rt kmsg.OffsetCommitRequestTopic, err error) {
	if t.Err != nil {
		return rt, fmt.Errorf("list topic %s: %w", t.Topic, t.Err)
	}
	rt = kmsg.NewOffsetCommitRequestTopic()
	rt.Topic, rt.TopicID = t.Topic, t.ID
	for id := range t.Partitions {
		o, there := at[id]
		if !there {
			o.Err = errUnanswered
		}
		if o.Err != nil {
			return rt, fmt.Errorf("list offset of %s/%d: %w", t.Topic, id, o.Err)
		}
		rp := kmsg.NewOffsetCommitRequestTopicPartition()
		rp.Partition, rp.Offset, rp.LeaderEpoch = id, o.Offset, o.LeaderEpoch
		rp.Metadata = kmsg.StringPtr("")
		rt.Partitions = append(rt.Partitions, rp)
	}
	return rt, nil
}

// listEach lists offsets of the topics, and says of which it cannot: an error
// of one fails kadm's answer for all, so then they are asked for one by one.
func listEach(ctx context.Context, list func(context.Context, ...string) (kadm.ListedOffsets, error), topics []string) (kadm.ListedOffsets, map[string]error) {
	refused := make(map[string]error)
	all, err := list(ctx, topics...)
	if err == nil {
		return all, refused
	}
	all = make(kadm.ListedOffsets)
	for _, topic := range topics {
		one, err := list(ctx, topic)
		if err != nil {
			refused[topic] = fmt.Errorf("list offsets of %s: %w", topic, err)
			continue
		}
		maps.Copy(all, one)
	}
	return all, refused
}

func (b *Bridge) resolve(ctx context.Context, topics ...string) (kadm.ListedOffsets, error) {
	switch s := b.cfg.Start; {
	case s.Latest:
		return b.admin.ListEndOffsets(ctx, topics...)
	case s.Ago > 0:
		return b.admin.ListOffsetsAfterMilli(ctx, b.began.Add(-s.Ago).UnixMilli(), topics...)
	default:
		return b.admin.ListOffsetsAfterMilli(ctx, s.Time.UnixMilli(), topics...)
	}
}

// sayStart tells what a fresh start means: how much there is to deliver, and
// how long that takes at the rate.
func (b *Bridge) sayStart(ctx context.Context, ps []*partition) {
	ps = slices.DeleteFunc(slices.Clone(ps), (*partition).waitsForStart)
	if ps = b.untold(ps); len(ps) == 0 {
		return
	}
	topics := topicsOf(ps)
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
func (b *Bridge) pin(ctx context.Context, ps []*partition) (at positions, refused map[string]error) {
	at = make(positions)
	if len(ps) == 0 {
		return at, make(map[string]error)
	}
	ctx, cancel := context.WithTimeout(ctx, pollWait)
	defer cancel()
	starts, refused := listEach(ctx, b.admin.ListStartOffsets, topicsOf(ps))
	for _, p := range ps {
		s, ok := starts.Lookup(p.topic, p.id)
		switch {
		case ok && s.Err != nil:
			refused[p.topic] = s.Err
		case ok && p.frontier() == nil:
			at[p] = kgo.NewOffset().At(s.Offset).WithEpoch(s.LeaderEpoch)
			b.seed(p, s.Offset, s.LeaderEpoch, nil)
		}
	}
	return at, refused
}
