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
		ps := []*partition{queuedPartition(0), queuedPartition(1), queuedPartition(2), queuedPartition(3)}
		next, taken := make([]int64, len(ps)), make([]int64, len(ps)) // next offset to push and to come out
		var out []*record
		held := make([]bool, len(ps))
		admit := func(p *partition) (bool, bool) { return !held[p.id], false }
		for range 2000 {
			i := rng.IntN(len(ps))
			switch rng.IntN(6) {
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
				if len(out) > 0 {
					q.ended(out[0])
					out = out[1:]
				}
			default:
				if r := q.pop(admit); r != nil {
					if held[r.p.id] || r.k.Offset != taken[r.p.id] {
						t.Fatalf("seed %d: took %d of partition %d, want %d; held %v", seed, r.k.Offset, r.p.id, taken[r.p.id], held[r.p.id])
					}
					taken[r.p.id]++
					out = append(out, r)
				}
			}
			checkQueue(t, seed, q, ps, out)
		}
		for i, p := range ps {
			held[i] = false
			q.revive(p)
		}
		for r := q.pop(admit); r != nil; r = q.pop(admit) {
			taken[r.p.id]++
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
		if n := len(slices.DeleteFunc(slices.Clone(q.turn), func(o *partition) bool { return o != p })); n > 1 || p.inTurn != (n == 1) {
			t.Fatalf("seed %d: partition %d is %d times in turn", seed, p.id, n)
		}
	}
	if q.records != records || q.bytes != bytes {
		t.Fatalf("seed %d: counts %d records of %d bytes, has %d of %d", seed, q.records, q.bytes, records, bytes)
	}
}
