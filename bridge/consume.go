package bridge

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"serbridge/bridge/frontier"
	"serbridge/bridge/pause"
	"serbridge/transform/codec"
)

// BUFFER_BYTES is divided among what holds records: our queue (with what is
// under way), what kgo holds unpacked, one batch more, and the fetches of each
// broker. Fetches are small, and smaller for one partition, so that a partition
// with a long backlog does not hold up the trickle of another.
const (
	queueShare     = 2
	unpackedShare  = 4
	unpackShare    = 4
	fetchShare     = 16
	fetchPartShare = 512

	mostQueued = 2048 // records received and not ended: more than a second of work
	pollWait   = 5 * time.Second
)

// poll receives records until ctx ends: never more than there is room for, and
// rebalances are allowed again at once after each.
func (b *Bridge) poll(ctx context.Context) {
	b.cfg.Health.Watch("poll", b.cfg.RebalanceTimeout()+time.Minute)
	for ctx.Err() == nil {
		b.cfg.Health.Beat("poll")
		room := b.queue.room()
		if room == 0 && !b.awaitFree(ctx) {
			continue
		}
		if !b.pollOnce(ctx, room) {
			return
		}
	}
}

// awaitFree waits for room; true means that partitions are to be tended, with
// a poll that receives nothing.
func (b *Bridge) awaitFree(ctx context.Context) bool {
	limit := time.NewTimer(crowdedAfter)
	defer limit.Stop()
	select {
	case <-b.queue.free:
	case <-b.nudged:
		signal(b.nudged)
		return true
	case <-limit.C: // full for this long: somebody may be crowded
		signal(b.nudged)
		return true
	case <-ctx.Done():
	}
	return false
}

func (b *Bridge) pollOnce(ctx context.Context, room int) (more bool) {
	pctx, cancel := context.WithTimeout(ctx, pollWait)
	defer cancel()
	b.cancelPoll.Store(&cancel)
	tend := false
	select {
	case <-b.nudged:
		tend = true
	default:
	}
	if tend || room == 0 {
		cancel() // a poll that has ended still holds off rebalances
	}
	b.polls++
	fs := b.client.PollRecords(pctx, max(1, room))
	defer b.client.AllowRebalance()
	if fs.IsClientClosed() {
		return false
	}
	failed := false
	fs.EachError(func(topic string, id int32, err error) { failed = b.fetchFailed(topic, id, err) || failed })
	fs.EachPartition(func(ft kgo.FetchTopicPartition) { b.receive(ft) })
	if tend {
		b.tend()
	}
	if failed && fs.Empty() {
		_ = pause.For(pctx, 250*time.Millisecond) // a fetch that fails at once would be repeated at once
	}
	return true
}

// nudge has the poll loop tend the partitions soon.
func (b *Bridge) nudge() {
	signal(b.nudged)
	if cancel := b.cancelPoll.Load(); cancel != nil {
		(*cancel)()
	}
}

// receive registers each record with its frontier and queues it. Transaction
// markers settle at once, so that lag can reach 0; so does what the last owner
// had settled.
func (b *Bridge) receive(ft kgo.FetchTopicPartition) {
	if len(ft.Records) == 0 {
		return
	}
	p := b.partition(ft.Topic, ft.Partition)
	if p == nil || p.born == b.polls {
		return
	}
	f := p.frontier()
	if f == nil {
		f = b.seed(p, ft.Records[0].Offset, -1, nil)
	}
	b.troubles.end(p.trouble())
	p.logEnd.Store(ft.HighWatermark)
	if p.begins && ft.Records[0].Offset < p.next {
		b.rewind(p, p.next) // the client set its position before it knew of ours
		return
	}
	p.begins = false
	now := time.Now()
	rs := make([]*record, 0, len(ft.Records))
	end, bounded := f.End()
	for _, k := range ft.Records {
		if bounded && k.Offset >= end {
			b.passEnd(p, f, end)
			break
		}
		if k.Offset < p.next {
			b.renew(p, k.Offset)
			return // it is fetched again, for the new frontier
		}
		p.next = k.Offset + 1
		size := size(k)
		switch settled := f.Add(k.Offset, k.LeaderEpoch, size, now); {
		case settled:
			b.metrics.restored.Inc()
		case k.Attrs.IsControl():
			f.Settle(k.Offset, 0)
		default:
			rs = append(rs, &record{p: p, k: own(k), size: size + codec.Expansion(k.Value), at: now})
		}
	}
	p.noteAges(ft.Records, f.Base())
	b.metrics.received.WithLabelValues(p.topic).Add(float64(len(rs)))
	b.queue.push(p, rs)
	if b.crowded(p) || bounded && p.over() {
		b.tendPartition(p)
	}
}

// passEnd notes that there is no more of a bounded run: offsets that are left
// out below its end are gaps.
func (b *Bridge) passEnd(p *partition, f *frontier.Frontier, end int64) {
	if p.next < end && f.Base() < end {
		f.Add(end-1, -1, 0, time.Now())
		f.Settle(end-1, 0)
	}
	p.next = end
}

// crowded reports whether a partition or its topic fills the queue beyond its
// share. While it does it is not fetched: a poll for the little room that is
// left would bring nothing of the others for as long as its batch lasts.
func (b *Bridge) crowded(p *partition) bool {
	b.mu.Lock()
	partitions, topics := 0, 0
	for _, ids := range b.partitions {
		partitions += len(ids)
		topics += min(len(ids), 1)
	}
	b.mu.Unlock()
	b.exposure.Share(topics > 1)
	b.slots.share(topics > 1)
	return b.queue.crowded(p, time.Now(), partitions, topics)
}

// recordOverhead is about what a record costs beside its bytes.
const recordOverhead = 512

func size(k *kgo.Record) int {
	n := recordOverhead + len(k.Key) + len(k.Value)
	for _, h := range k.Headers {
		n += len(h.Key) + len(h.Value)
	}
	return n
}

// fetchFailed deals with an error of a poll; failed is false for those that
// say nothing.
func (b *Bridge) fetchFailed(topic string, id int32, err error) (failed bool) {
	var loss *kgo.ErrDataLoss
	var tooLarge *kgo.ErrDecompressTooLarge
	p := b.partition(topic, id)
	switch {
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded), errors.Is(err, kgo.ErrClientClosed):
		return false
	case errors.Is(err, errNoRoomToUnpack): // it is fetched again
	case p == nil && topic != "": // the words of sayTopics, or each would end the other's again and again
		b.troubles.begin("topic "+topic, sayTopic(topic, err))
	case p == nil:
		b.troubles.begin("kafka", explainKafka(err))
	case errors.As(err, &loss):
		b.forgetFrom(p, loss)
	case errors.Is(err, kerr.OffsetOutOfRange):
		b.outOfRange(p)
	case errors.As(err, &tooLarge):
		b.troubles.begin(p.trouble(), fmt.Sprintf(
			"%s/%d is held at offset %d: a batch decompresses to more than a quarter of BUFFER_BYTES; raise it",
			topic, id, tooLarge.Offset))
	default:
		b.troubles.strike(p.trouble(), fmt.Sprintf("%s/%d cannot be fetched: %s", topic, id, explainKafka(err)))
	}
	return true
}

// renew starts a partition anew whose log was cut off at an offset: from there
// on other records may stand under the same offsets. What is settled below is
// kept; what is known from there up is forgotten, or the new records would be
// skipped as settled; and what is under way ends with the old frontier, or a
// late answer would settle a record that it was not for.
func (b *Bridge) renew(p *partition, cut int64) {
	f := p.frontier()
	if f == nil {
		return
	}
	b.queue.giveBack(p)
	b.fence([]*partition{p}, errCutOff)
	base, settled := f.Settled() // what settles from here on is refused, so nothing is missed
	base = min(base, cut)
	anew := newPartition(b.life, p.topic, p.topicID, p.id, p.brake)
	g := frontier.New(frontier.Config{Group: b.cfg.Group, Topic: p.topic, Partition: p.id, Base: base, Epoch: -1, Restored: settled})
	g.DropFrom(cut)
	b.setFrontier(anew, g)
	anew.born = b.polls
	b.mu.Lock()
	b.partitions[p.topic][p.id] = anew
	b.mu.Unlock()
	b.client.ResumeFetchPartitions(map[string][]int32{p.topic: {p.id}})
	b.rewind(anew, base)
}

// forgetFrom deals with an unclean leader election.
func (b *Bridge) forgetFrom(p *partition, loss *kgo.ErrDataLoss) {
	b.renew(p, loss.ResetTo)
	b.log.Error("records were lost in Kafka by an unclean leader election", "topic", p.topic, "partition", p.id,
		"from", loss.ResetTo, "to", loss.ConsumedTo)
}

// tend pauses the partitions whose records must wait in Kafka and resumes
// those that may go on. It runs between a poll and AllowRebalance: only then
// can no rebalance come between the look and the rewind.
func (b *Bridge) tend() {
	for _, p := range b.owned() {
		b.tendPartition(p)
	}
}

func (b *Bridge) tendPartition(p *partition) {
	one := map[string][]int32{p.topic: {p.id}}
	held, crowded := p.held(), b.crowded(p)
	wait := held || crowded || p.over()
	if wait && !p.paused {
		b.client.PauseFetchPartitions(one)
		p.paused = true
		b.paused.Add(1)
	}
	switch {
	case held:
		b.giveQueueBack(p)
	case crowded:
		b.giveTailBack(p)
	}
	if p.unplaced.Load() || p.strayed.Load() {
		if p.unplaced.Load() {
			b.begin(p)
		} else {
			b.mend(p)
		}
		wait = p.held() || crowded || p.over()
	}
	if !wait && p.paused {
		p.paused = false
		b.paused.Add(-1)
		b.client.ResumeFetchPartitions(one)
	}
	b.queue.revive(p)
}

// giveQueueBack returns what is queued of a held partition to Kafka: it may
// wait for long, and would take the room of the others.
func (b *Bridge) giveQueueBack(p *partition) {
	if from := b.queue.giveBack(p); from >= 0 {
		p.frontier().Rewind(from)
		b.rewind(p, from)
	}
}

// giveTailBack returns what a crowded topic has queued beyond its part: it may
// be long in getting there, and would take the room of the others.
func (b *Bridge) giveTailBack(p *partition) {
	b.mu.Lock()
	of := len(b.partitions[p.topic])
	b.mu.Unlock()
	if from := b.queue.giveTailBack(p, of); from >= 0 {
		p.frontier().Rewind(from)
		b.rewind(p, from)
	}
}

func (b *Bridge) rewind(p *partition, to int64) {
	p.next = to
	b.client.SetOffsets(map[string]map[int32]kgo.EpochOffset{p.topic: {p.id: {Epoch: -1, Offset: to}}})
}
