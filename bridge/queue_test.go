package bridge

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

func always(*partition) (ok, trial bool) { return true, false }

func queuedPartition(id int32) *partition { return &partition{topic: "detections", id: id} }

// fetched makes records of a partition, from an offset on.
func fetched(p *partition, from int64, n, size int) (rs []*record) {
	for i := range n {
		rs = append(rs, &record{p: p, k: &kgo.Record{Topic: p.topic, Partition: p.id, Offset: from + int64(i)}, size: size})
	}
	return rs
}

func TestBacklogOfOnePartitionDelaysNoOther(t *testing.T) {
	q := newQueue(10_000, 1<<30, 1000)
	hot, quiet, idle := queuedPartition(0), queuedPartition(1), queuedPartition(2)
	q.push(hot, fetched(hot, 0, 1000, 1))
	for i := range 10 {
		q.pop(always)
		q.push(quiet, fetched(quiet, int64(i), 1, 1))
		q.push(idle, fetched(idle, int64(i), 1, 1))
		got := []int32{q.pop(always).p.id, q.pop(always).p.id, q.pop(always).p.id}
		if slices.Sort(got); !slices.Equal(got, []int32{0, 1, 2}) {
			t.Fatalf("round %d took from %v: a partition waits for the backlog of another", i, got)
		}
	}
}

func TestQueueKeepsTheOrderOfAPartition(t *testing.T) {
	q, p := newQueue(100, 1<<20, 1000), queuedPartition(0)
	q.push(p, fetched(p, 10, 5, 1))
	q.push(p, fetched(p, 15, 5, 1))
	for want := int64(10); want < 20; want++ {
		if r := q.pop(always); r.k.Offset != want {
			t.Fatalf("offset %d, want %d: the oldest waits", r.k.Offset, want)
		}
	}
}

func TestRoomOfTheQueue(t *testing.T) {
	tests := []struct {
		name           string
		records, bytes int // bounds
		sizes          []int
		want           int
	}{
		{"empty: nobody knows how large they are", 100, 1000, nil, 8},
		{"by count", 10, 1 << 20, []int{1 << 17, 10, 10}, 7},
		{"by bytes, as large as those here", 100, 1000, []int{200, 200}, 3},
		{"full by count", 3, 1 << 20, []int{1, 1, 1}, 0},
		{"full by bytes", 100, 1000, []int{600, 400}, 0},
		{"more than full", 100, 1000, []int{5000}, 0},
		{"less free than one of the mean", 100, 1000, []int{900}, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			q, p := newQueue(tt.records, tt.bytes, 1000), queuedPartition(0)
			for i, size := range tt.sizes {
				q.push(p, fetched(p, int64(i), 1, size))
			}
			if got := q.room(); got != tt.want {
				t.Errorf("room %d, want %d", got, tt.want)
			}
			for range tt.sizes {
				if q.ended(q.pop(always)); q.records > 0 && q.room() < 0 {
					t.Errorf("room %d", q.room())
				}
			}
			if got := q.room(); got < 1 {
				t.Errorf("room %d after all have ended: a record larger than the bound is never taken", got)
			}
		})
	}
}

func TestRecordUnderWayStillTakesRoom(t *testing.T) {
	q, p := newQueue(10, 1<<20, 1000), queuedPartition(0)
	q.push(p, fetched(p, 0, 10, 1))
	r := q.pop(always)
	if q.room() != 0 {
		t.Error("an outage would fill the memory with what is under way")
	}
	q.ended(r)
	if q.room() != 1 || len(q.free) != 1 {
		t.Error("the poll loop is not woken for the room")
	}
}

func TestHeldPartitionIsGivenBackFromItsFirst(t *testing.T) {
	q, p := newQueue(100, 1<<20, 1000), queuedPartition(0)
	q.push(p, fetched(p, 40, 10, 5))
	q.pop(always)
	if from := q.giveBack(p); from != 41 {
		t.Errorf("given back from %d, want 41", from)
	}
	if from := q.giveBack(p); from != -1 {
		t.Errorf("given back from %d though nothing was queued", from)
	}
	if records, bytes := q.state(); records != 1 || bytes != 5 {
		t.Errorf("%d records, %d bytes left, want the one that is under way", records, bytes)
	}
	q.push(p, fetched(p, 41, 2, 5)) // it is fetched again
	if r := q.pop(always); r == nil || r.k.Offset != 41 {
		t.Errorf("took %v, want offset 41", r)
	}
}

func TestWhoWaitsForARecordIsWoken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, p := newQueue(100, 1<<20, 1000), queuedPartition(0)
		braked := true
		admit := func(*partition) (bool, bool) { return !braked, false }
		got := make(chan *record, 1)
		go func() {
			for {
				r, err := q.take(t.Context(), admit)
				if err != nil {
					return
				}
				got <- r
			}
		}()
		synctest.Wait()
		q.push(p, fetched(p, 0, 2, 1))
		synctest.Wait()
		if len(got) > 0 {
			t.Fatal("took a record of a braked topic")
		}
		braked = false
		q.revive(p)
		synctest.Wait()
		if r := <-got; r.k.Offset != 0 {
			t.Errorf("took offset %d", r.k.Offset)
		}
		if r := <-got; r.k.Offset != 1 {
			t.Errorf("took offset %d", r.k.Offset)
		}
		ctx, cancel := context.WithCancelCause(t.Context())
		cause := errors.New("bridge has stopped")
		time.AfterFunc(time.Second, func() { cancel(cause) })
		if _, err := newQueue(1, 1, 1000).take(ctx, always); !errors.Is(err, cause) {
			t.Errorf("ended with %v, want the cause", err)
		}
	})
}

// Every record pushed comes out once: taken, or given back and pushed again;
// the bounds count what is in; each partition keeps its order.
func TestQueueLosesNoRecord(t *testing.T) {
	for seed := range uint64(200) {
		rng := rand.New(rand.NewPCG(seed, 0))
		q := newQueue(1000, 1<<20, 1000)
		ps := []*partition{queuedPartition(0), queuedPartition(1), topicPartition("others", 2), topicPartition("others", 3)}
		q.several, q.mostHands = seed%2 == 0, 1+int(seed%8)
		var hands []*record
		next, taken := make([]int64, len(ps)), make([]int64, len(ps)) // next offset to push and to come out
		var out []*record
		held := make([]bool, len(ps))
		admit := func(p *partition) (bool, bool) { return !held[p.id], false }
		for range 2000 {
			i := rng.IntN(len(ps))
			switch rng.IntN(7) {
			case 6:
				if len(hands) > 0 {
					q.handBack(hands[0])
					hands = hands[1:]
				}
			case 0:
				n := rng.IntN(20)
				q.push(ps[i], fetched(ps[i], next[i], n, 1+rng.IntN(100)))
				next[i] += int64(n)
			case 1:
				if from := q.giveBack(ps[i]); from >= 0 {
					next[i] = from
				}
			case 2:
				if held[i] = !held[i]; !held[i] {
					q.revive(ps[i])
				}
			case 3:
				if len(out) > len(hands) { // those in front have given their hands back
					q.ended(out[0])
					out = out[1:]
				}
			default:
				if r := q.pop(admit); r != nil {
					if held[r.p.id] || r.k.Offset != taken[r.p.id] {
						t.Fatalf("seed %d: took %d of partition %d, want %d; held %v", seed, r.k.Offset, r.p.id, taken[r.p.id], held[r.p.id])
					}
					taken[r.p.id]++
					out, hands = append(out, r), append(hands, r)
				}
			}
			checkQueue(t, seed, q, ps, out)
		}
		for i, p := range ps {
			held[i] = false
			q.revive(p)
		}
		for _, r := range hands {
			q.handBack(r)
		}
		for _, r := range out {
			q.ended(r)
		}
		for r := q.pop(admit); r != nil; r = q.pop(admit) {
			taken[r.p.id]++
			q.handBack(r)
			q.ended(r)
		}
		if len(q.lines) > 0 || q.hands > 0 {
			t.Fatalf("seed %d: %d topics and %d hands are left of nothing", seed, len(q.lines), q.hands)
		}
		if !slices.Equal(next, taken) {
			t.Fatalf("seed %d: pushed up to %v, taken up to %v", seed, next, taken)
		}
	}
}

func checkQueue(t *testing.T, seed uint64, q *queue, ps []*partition, out []*record) {
	t.Helper()
	records, bytes := len(out), 0
	for _, r := range out {
		bytes += r.size
	}
	for _, p := range ps {
		records += len(p.queued)
		for _, r := range p.queued {
			bytes += r.size
		}
		var turn []*partition
		if l := q.lines[p.topic]; l != nil {
			turn = slices.Clone(l.turn)
			if len(turn) > 0 && l.taken == 0 && !l.inTurn { // else it is put back when one of those taken ends
				t.Fatalf("seed %d: topic %s has something to take and is not in turn", seed, p.topic)
			}
		}
		if n := len(slices.DeleteFunc(turn, func(o *partition) bool { return o != p })); n > 1 || p.inTurn != (n == 1) {
			t.Fatalf("seed %d: partition %d is %d times in turn", seed, p.id, n)
		}
	}
	if q.records != records || q.bytes != bytes {
		t.Fatalf("seed %d: counts %d records of %d bytes, has %d of %d", seed, q.records, q.bytes, records, bytes)
	}
}

func topicPartition(topic string, id int32) *partition { return &partition{topic: topic, id: id} }

// several has the queue know that topics compete.
func several(q *queue) *queue {
	q.crowded(topicPartition("nothing of it is here", 0), time.Now(), 2, 2)
	return q
}

// popAll takes all that may be taken now.
func popAll(q *queue) (rs []*record) {
	for r := q.pop(always); r != nil; r = q.pop(always) {
		rs = append(rs, r)
	}
	return rs
}

func TestTopicUnderWayLeavesSomethingToOthers(t *testing.T) {
	tests := []struct {
		name          string
		several       bool
		records, size int
		hands         int
		handsFree     bool  // each as soon as it is taken
		want          []int // taken of three topics with a long backlog, one after the other
	}{
		{"alone it gets all hands", false, 1000, 1, 64, false, []int{64}},
		{"alone it may be under way with all", false, 1000, 1, 64, true, []int{1200}},
		{"half of the hands, and of what is left", true, 10_000, 1, 64, false, []int{32, 16, 8}},
		{"half of the records", true, 1000, 1, 64, true, []int{500, 250, 125}},
		{"half of the bytes", true, 1 << 20, 1 << 10, 64, true, []int{512, 256, 128}},
		{"one hand each, at least", true, 1000, 1, 1, false, []int{1, 1, 1}},
		{"one record each, at least", true, 2, 1, 64, true, []int{1, 1, 1}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			q := newQueue(tt.records, 1<<20, tt.hands)
			if tt.several {
				several(q)
			}
			var under []*record
			for i, want := range tt.want {
				p := topicPartition(string(rune('a'+i)), 0)
				q.push(p, fetched(p, 0, 1200, tt.size))
				n := 0
				for r := q.pop(always); r != nil; r = q.pop(always) {
					n++
					under = append(under, r)
					if tt.handsFree {
						q.handBack(r)
					}
				}
				if n > want || n < want-1 {
					t.Errorf("took %d of topic %s, want %d", n, p.topic, want)
				}
				q.giveBack(p) // the rest of its backlog waits in Kafka
			}
			for _, r := range under {
				if !tt.handsFree {
					q.handBack(r)
				}
				q.ended(r)
			}
			if len(q.lines) != 0 || q.hands != 0 || q.records != 0 {
				t.Errorf("%d topics, %d hands, %d records are left of nothing", len(q.lines), q.hands, q.records)
			}
		})
	}
}

// Each place that a topic makes is for the next of its partitions in turn, and none is forgotten.
func TestPlaceThatATopicMakesIsTaken(t *testing.T) {
	q := several(newQueue(100_000, 1<<30, 8))
	ps := []*partition{topicPartition("a", 0), topicPartition("a", 1), topicPartition("a", 2)}
	for _, p := range ps {
		q.push(p, fetched(p, 0, 20, 1))
	}
	under, taken := popAll(q), make([]int, len(ps))
	if len(under) != 4 {
		t.Fatalf("%d have a hand, want half of 8", len(under))
	}
	for len(under) > 0 {
		r := under[0]
		under = under[1:]
		taken[r.p.id]++
		if most, least := slices.Max(taken), slices.Min(taken); most-least > 2 {
			t.Fatalf("taken %v: a partition is left out", taken)
		}
		q.handBack(r)
		q.ended(r)
		if got := popAll(q); len(got) > 1 {
			t.Fatalf("%d taken for one place", len(got))
		} else {
			under = append(under, got...)
		}
	}
	if !slices.Equal(taken, []int{20, 20, 20}) || len(q.lines) != 0 {
		t.Errorf("taken %v of 20 each, %d topics left", taken, len(q.lines))
	}
}

// A partition that may not be taken from does not keep the place from its topic's others, nor is it lost when it is
// empty meanwhile and comes back.
func TestPlaceGoesPastHeldAndEmptyPartitions(t *testing.T) {
	q := several(newQueue(100_000, 1<<30, 2))
	held, empty, ready := topicPartition("a", 0), topicPartition("a", 1), topicPartition("a", 2)
	q.push(ready, fetched(ready, 0, 5, 1))
	first := q.pop(always)
	for _, p := range []*partition{held, empty} {
		q.push(p, fetched(p, 0, 5, 1))
	}
	admit := func(p *partition) (bool, bool) { return p != held, false }
	if q.pop(admit) != nil {
		t.Fatal("taken without a hand")
	}
	q.giveBack(empty)
	q.handBack(first)
	r := q.pop(admit)
	if r == nil || r.p != ready {
		t.Fatalf("took %v: the place was kept for a partition that cannot use it", r)
	}
	q.handBack(r)
	q.ended(first)
	q.ended(r)
	q.giveBack(ready)
	q.giveBack(held)
	if len(q.lines) != 0 {
		t.Fatal("a topic is remembered of which nothing is here")
	}
	for _, p := range []*partition{held, empty, ready} {
		q.push(p, fetched(p, 5, 1, 1))
		got := q.pop(always)
		if got == nil || got.p != p {
			t.Fatalf("partition %d is never taken from again", p.id)
		}
		q.handBack(got)
		q.ended(got)
	}
}

func TestSlowTopicGivesItsTailBack(t *testing.T) {
	const records = 1000
	tests := []struct {
		name   string
		topics int
		queued int           // in each of the topic's two partitions
		taken  int           // of the first
		other  int           // records of another topic
		waited time.Duration // by the first record
		keep   []int         // queued, in each; nil: nothing is given back
	}{
		{"alone", 1, 500, 0, 0, time.Minute, nil},
		{"not slow", 2, 500, 0, 0, time.Second, nil},
		{"no more than its part", 2, 250, 0, 0, time.Minute, nil},
		{"half of all", 2, 500, 0, 0, time.Minute, []int{250, 250}},
		{"half of what another leaves", 2, 400, 0, 200, time.Minute, []int{200, 200}},
		{"what is under way counts", 2, 400, 300, 0, time.Minute, []int{100, 100}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			q, now := newQueue(records, 1<<30, records), time.Now()
			ps := []*partition{topicPartition("a", 0), topicPartition("a", 1)}
			other := topicPartition("b", 0)
			q.push(other, fetched(other, 0, tt.other, 1))
			q.push(ps[0], fetched(ps[0], 0, tt.taken, 1))
			for range tt.taken + tt.other {
				q.pop(always)
			}
			for _, p := range ps {
				q.push(p, fetched(p, int64(tt.taken), tt.queued, 1))
				for _, r := range p.queued {
					r.at = now.Add(-tt.waited)
				}
			}
			for i, p := range ps {
				crowded := q.topicCrowdedOf(p, now, tt.topics)
				from, want := q.giveTailBack(p, len(ps)), int64(-1)
				if tt.keep != nil {
					want = int64(tt.taken + tt.keep[i])
				}
				if from != want || crowded != (tt.keep != nil) {
					t.Errorf("partition %d: crowded %v, given back from %d, want %d", i, crowded, from, want)
				}
			}
			sum := tt.other + tt.taken
			for _, p := range ps {
				sum += len(p.queued)
			}
			if got, _ := q.state(); got != sum {
				t.Errorf("counts %d records, has %d", got, sum)
			}
		})
	}
}

// topicCrowdedOf is crowded for the topic alone.
func (q *queue) topicCrowdedOf(p *partition, now time.Time, topics int) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.several = topics > 1
	return q.topicCrowded(p, now)
}

// A topic found slow is not fetched until half of its part is done, and is found crowded at once the next time; one that
// was quick about it may fill the queue again.
func TestCrowdedTopicHasToShowThatItIsQuick(t *testing.T) {
	for _, quick := range []bool{true, false} {
		q, p, now := newQueue(1000, 1<<30, 1000), topicPartition("a", 0), time.Now()
		q.push(p, fetched(p, 0, 1000, 1))
		p.queued[0].at = now.Add(-time.Minute)
		if !q.topicCrowdedOf(p, now, 2) {
			t.Fatal("not crowded")
		}
		next := q.giveTailBack(p, 1)
		for range 249 {
			q.ended(q.pop(always))
		}
		if !q.topicCrowdedOf(p, now, 2) {
			t.Error("no longer crowded with half of its part to do")
		}
		q.ended(q.pop(always))
		if !quick {
			now = now.Add(time.Minute)
		}
		if q.topicCrowdedOf(p, now, 2) {
			t.Error("crowded with half of its part done")
		}
		q.push(p, fetched(p, next, 700, 1))
		p.queued[0].at = now
		if got := q.topicCrowdedOf(p, now, 2); got == quick {
			t.Errorf("crowded at once %v, though it was quick: %v", got, quick)
		}
	}
}

// A topic that is under way with all that it may be goes on when one of its records ends, its hands long given back.
func TestRecordThatEndsMakesPlaceForTheNextOfItsTopic(t *testing.T) {
	q, p := several(newQueue(100, 1<<30, 64)), topicPartition("a", 0)
	q.push(p, fetched(p, 0, 80, 1))
	var under []*record
	for r := q.pop(always); r != nil; r = q.pop(always) {
		q.handBack(r)
		under = append(under, r)
	}
	if len(under) != 50 {
		t.Fatalf("%d under way, want half of 100", len(under))
	}
	q.ended(under[0])
	if len(q.ready) == 0 || q.pop(always) == nil {
		t.Error("the dispatcher is not woken: the topic stands still for good")
	}
}
