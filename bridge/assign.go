package bridge

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"

	"serbridge/bridge/frontier"
)

// memberOptions are the group member's. Records never reach a frontier that
// was just fenced, since polls and callbacks exclude each other; only the
// frontiers decide what is committed, and where to go on when a position is
// gone: kgo's own reset would replay a partition in silence.
func (b *Bridge) memberOptions() []kgo.Opt {
	balancer := kgo.Balancers(kgo.CooperativeStickyBalancer())
	if b.cfg.Protocol == "consumer" {
		balancer = kgo.ServerSideBalancer()
	}
	opts := append(b.cfg.Kafka[:len(b.cfg.Kafka):len(b.cfg.Kafka)],
		kgo.ClientID(b.cfg.Instance),
		kgo.WithContext(b.member),
		kgo.DisableClientMetrics(),      // no call-home, and no wait for it at the end
		kgo.MetadataMaxAge(time.Minute), // new partitions, and topics of a pattern, are found within
		kgo.ConsumerGroup(b.cfg.Group),
		kgo.ConsumeTopics(b.cfg.Topics...),
		kgo.DisableAutoCommit(),
		kgo.BlockRebalanceOnPoll(),
		balancer,
		kgo.SessionTimeout(b.cfg.SessionTimeout),
		kgo.HeartbeatInterval(heartbeat(b.cfg.SessionTimeout)),
		kgo.RebalanceTimeout(b.cfg.RebalanceTimeout()),
		kgo.OnPartitionsAssigned(b.assigned),
		kgo.OnOffsetsFetched(b.offsetsFetched),
		kgo.OnPartitionsRevoked(b.revoked),
		kgo.OnPartitionsLost(b.lost),
		kgo.AdjustFetchOffsetsFn(b.adjust),
		kgo.ConsumeStartOffset(kgo.NewOffset().AtStart()),
		kgo.ConsumeResetOffset(kgo.NoResetOffset()),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.KeepControlRecords(),
		kgo.FetchMaxWait(250*time.Millisecond),
		kgo.FetchMaxBytes(int32(max(1<<16, b.cfg.BufferBytes/fetchShare))),
		kgo.FetchMaxPartitionBytes(int32(max(1<<16, b.cfg.BufferBytes/fetchPartShare))),
		kgo.WithDecompressor(b.unpacker),
		kgo.WithHooks(b.heard, groupErrors{b.troubles}),
	)
	if b.pattern != nil {
		opts = append(opts, kgo.ConsumeRegex(), kgo.ConsumeExcludeTopics(quoted(b.cfg.Internal)...))
	}
	if b.nameless() {
		versions := kversion.Stable()
		versions.SetMaxKeyVersion(kmsg.OffsetCommit.Int16(), 9) // the last one that names topics
		opts = append(opts, kgo.MaxVersions(versions))
	}
	if b.cfg.Rack != "" {
		opts = append(opts, kgo.Rack(b.cfg.Rack))
	}
	return append(opts, b.cfg.Member...)
}

// nameless reports whether the brokers give topics no ids, as Azure Event Hubs
// does.
func (b *Bridge) nameless() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, id := range b.topicIDs {
		if id == [16]byte{} {
			return true
		}
	}
	return false
}

// heartbeat is Kafka's 3 s, or a third of a shorter session.
func heartbeat(session time.Duration) time.Duration { return min(3*time.Second, session/3) }

// groupErrors is kgo's hook for what kills a group session before any poll
// sees it, such as a missing right.
type groupErrors struct{ *troubles }

func (e groupErrors) OnGroupManageError(err error) {
	if !errors.Is(err, context.Canceled) {
		e.begin("group", "not in the consumer group: "+explainKafka(err))
	}
}

// owned lists the partitions of this member.
func (b *Bridge) owned() []*partition {
	b.mu.Lock()
	defer b.mu.Unlock()
	var ps []*partition
	for _, ids := range b.partitions {
		for _, p := range ids {
			ps = append(ps, p)
		}
	}
	return ps
}

func (b *Bridge) partition(topic string, id int32) *partition {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.partitions[topic][id]
}

func (b *Bridge) brake(topic string) *brake {
	k := b.brakes[topic]
	if k == nil {
		k = newBrake(b.cfg.RejectBrake)
		b.brakes[topic] = k
	}
	return k
}

// assigned makes a new partition, and later a new frontier, for each one
// gained; kgo calls it before it fetches their offsets.
func (b *Bridge) assigned(ctx context.Context, cl *kgo.Client, gained map[string][]int32) {
	<-b.made // the first callback of all: those that follow use the client
	b.learn(ctx, gained)
	b.troubles.end("group")
	b.cfg.Health.Ready(starting)
	b.mu.Lock()
	for topic, ids := range gained {
		if b.partitions[topic] == nil {
			b.partitions[topic] = make(map[int32]*partition)
		}
		for _, id := range ids {
			p := newPartition(b.life, topic, b.topicIDs[topic], id, b.brake(topic))
			if !b.stopped.IsZero() {
				p.drain()
			}
			b.partitions[topic][id] = p
		}
	}
	b.mu.Unlock()
	for topic := range gained {
		b.metrics.expect(topic)
	}
	b.sayBrakes(gained)
	if len(gained) > 0 {
		// A pause of an earlier assignment would starve the partition for ever.
		cl.ResumeFetchPartitions(gained)
		b.log.Info("partitions assigned", "partitions", gained)
	}
	b.reshare()
}

// learn looks at the topics again if one of them, or of its partitions, was
// not there at the last look.
func (b *Bridge) learn(ctx context.Context, gained map[string][]int32) {
	b.mu.Lock()
	known := true
	for topic, ids := range gained {
		known = known && b.topicIDs[topic] != [16]byte{} && int(slices.Max(ids)) < b.totals[topic]
	}
	b.mu.Unlock()
	if !known {
		_, _ = b.look(ctx) // else the next look tells, before which a commit is refused
	}
}

// offsetsFetched seeds the frontiers from the committed offsets and metadata.
// It never fails the rebalance, whatever the metadata holds.
func (b *Bridge) offsetsFetched(_ context.Context, _ *kgo.Client, resp *kmsg.OffsetFetchResponse) error {
	for _, g := range resp.Groups {
		for _, t := range g.Topics {
			for _, rp := range t.Partitions {
				p := b.partition(t.Topic, rp.Partition)
				if p == nil || rp.ErrorCode != 0 || rp.Offset < 0 {
					continue
				}
				b.seed(p, rp.Offset, rp.LeaderEpoch, rp.Metadata)
			}
		}
	}
	return nil
}

func (b *Bridge) seed(p *partition, base int64, epoch int32, metadata *string) *frontier.Frontier {
	cfg := frontier.Config{Group: b.cfg.Group, Topic: p.topic, Partition: p.id, Base: base, Epoch: epoch, KeepCeiling: b.probing()}
	if metadata != nil && *metadata != "" {
		m, err := frontier.Decode(b.cfg.Group, p.topic, p.id, base, *metadata)
		if err != nil {
			// Foreign or damaged: what it covered is sent again, nothing is skipped.
			b.metrics.mapIgnored(err)
			b.log.Warn("commit metadata ignored", "topic", p.topic, "partition", p.id, "error", err)
		}
		cfg.Restored = m
		if m.Ceiling != nil {
			p.suspects = *m.Ceiling
		}
	}
	if b.cfg.Bounded && cfg.Restored.End == nil {
		cfg.Restored.End = &base // added since the run began, or reset by somebody: nothing of it is the run's
	}
	f := frontier.New(cfg)
	b.setFrontier(p, f)
	return f
}

// setFrontier also has the partition's commits say whether its topic is braked.
func (b *Bridge) setFrontier(p *partition, f *frontier.Frontier) {
	on, _ := p.brake.state()
	f.SetHeld(on)
	p.setFrontier(f)
}

// revoked hands partitions over: what has started finishes, is committed, and
// only then the frontiers are fenced. Fenced first, finished work would be
// refused its offset and repeated; committed without a fence, a late answer
// could move the next owner's offset. kgo also calls it with nothing at each
// end of a generation.
func (b *Bridge) revoked(_ context.Context, _ *kgo.Client, gone map[string][]int32) {
	ps := b.find(gone)
	if len(ps) == 0 {
		return
	}
	b.handOver(ps)
	b.quiet(gone)
}

// rejoinMargin is what a hand-over leaves of the rebalance timeout: two
// heartbeats until it is begun, and the way back into the group.
const rejoinMargin = 11 * time.Second

// handOver drains, commits and fences.
func (b *Bridge) handOver(ps []*partition) {
	begun := time.Now()
	for _, p := range ps {
		b.queue.giveBack(p)
		p.drain()
	}
	b.awaitDrain(ps, begun)
	for _, p := range ps {
		p.yield()
		b.lower(p)
	}
	b.reshare() // lowered before the commit lets the next owner start
	drained := time.Now()
	deadline := begun.Add(b.cfg.RebalanceTimeout() - rejoinMargin)
	if !b.stopBegan().IsZero() {
		deadline = drained.Add(lastCommit)
	}
	err := b.commitBefore(deadline, ps)
	abandoned := b.fence(ps, errAbandoned)
	gone := names(ps)
	b.metrics.drained(drained.Sub(begun), abandoned)
	switch {
	case err != nil:
		b.log.Error("partitions handed over without a commit: the next owner repeats what this one settled last, at most MAX_REPEATS documents",
			"partitions", gone, "error", err)
	case abandoned > 0:
		b.log.Warn("partitions handed over; records left unfinished for the next owner", "partitions", gone, "records", abandoned)
	default:
		b.log.Info("partitions handed over", "partitions", gone, "after", time.Since(begun).Round(time.Millisecond))
	}
}

// names lists partitions for the log.
func names(ps []*partition) map[string][]int32 {
	m := make(map[string][]int32)
	for _, p := range ps {
		m[p.topic] = append(m[p.topic], p.id)
	}
	return m
}

// awaitDrain waits until everything that has started is finished, at most the
// drain timeout from when it, or a stop of everything, began.
func (b *Bridge) awaitDrain(ps []*partition, begun time.Time) {
	if stop := b.stopBegan(); !stop.IsZero() && stop.Before(begun) {
		begun = stop
	}
	limit := time.NewTimer(time.Until(begun.Add(b.cfg.DrainTimeout)))
	defer limit.Stop()
	for _, p := range ps {
		select {
		case <-p.idle:
		case <-limit.C:
			return
		}
	}
}

// lost fences only: the group has gone on without us.
func (b *Bridge) lost(_ context.Context, _ *kgo.Client, gone map[string][]int32) {
	ps := b.find(gone)
	if len(ps) == 0 {
		return
	}
	for _, p := range ps {
		b.queue.giveBack(p)
	}
	n := b.fence(ps, errLost)
	b.quiet(gone)
	b.reshare()
	b.log.Warn("partitions lost: the group has not heard from this member in time; their next owner repeats what was not committed",
		"partitions", gone, "records", n)
}

func (b *Bridge) find(m map[string][]int32) []*partition {
	b.mu.Lock()
	defer b.mu.Unlock()
	var ps []*partition
	for topic, ids := range m {
		for _, id := range ids {
			if p := b.partitions[topic][id]; p != nil {
				ps = append(ps, p)
			}
		}
	}
	return ps
}

// fence ends the assignments and takes them off the list; it returns how many
// records were cut off.
//
// None of them starts anything before the first gives its room back: a record
// of another, waiting for that room, would be sent in the moment before its own
// partition is fenced, and repeated by the next owner on top of the bound.
func (b *Bridge) fence(ps []*partition, cause error) (abandoned int) {
	for _, p := range ps {
		p.drain()
	}
	for _, p := range ps {
		room, n, first := p.fence(cause)
		if !first {
			continue // leave and revoked may both be at it
		}
		b.exposure.ReleaseAll(p.topic, room)
		b.uncovered.Add(int64(-room.Units()))
		abandoned += n
		if p.paused {
			b.paused.Add(-1)
		}
		b.troubles.end(p.trouble())
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, p := range ps {
		if b.partitions[p.topic][p.id] == p {
			delete(b.partitions[p.topic], p.id)
		}
	}
	return abandoned
}

// quiet takes back what was said of partitions that are gone: whoever owns them
// now says it. Without that a member that owns nothing any more would never be
// ready again.
func (b *Bridge) quiet(gone map[string][]int32) {
	b.mu.Lock()
	defer b.mu.Unlock()
	owned := 0
	for _, ids := range b.partitions {
		owned += len(ids)
	}
	if owned == 0 {
		b.troubles.end("commit")
	}
	for topic := range gone {
		if len(b.partitions[topic]) == 0 {
			b.troubles.end("brake " + topic)
		}
	}
}

// sayBrakes says again which topics of those gained are paused.
func (b *Bridge) sayBrakes(gained map[string][]int32) {
	for topic := range gained {
		b.mu.Lock()
		on, _ := b.brake(topic).state()
		b.mu.Unlock()
		if on {
			b.brakeTripped(topic)
		}
	}
}

// trouble is the key of what is wrong with this partition.
func (p *partition) trouble() string { return fmt.Sprintf("partition %s/%d", p.topic, p.id) }
