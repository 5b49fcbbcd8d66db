package bridge

import (
	"context"
	"errors"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"serbridge/bridge/frontier"
	"serbridge/bridge/pause"
	"serbridge/bridge/stellar"
)

// ownPartition is a live one with a frontier at offset 0.
func ownPartition(ctx context.Context) *partition {
	p := newPartition(ctx, "detections", [16]byte{}, 0, newBrake(-1))
	p.setFrontier(frontier.New(frontier.Config{Group: "serbridge", Topic: p.topic, Partition: p.id, Epoch: -1}))
	return p
}

// taken is a record of some documents that the dispatcher has taken.
func taken(t *testing.T, p *partition, offset int64, units int) *record {
	t.Helper()
	p.frontier().Add(offset, -1, 1, time.Now())
	if !p.enter() {
		t.Fatal("the partition takes no record")
	}
	return &record{p: p, k: &kgo.Record{Topic: p.topic, Partition: p.id, Offset: offset}, units: units,
		lane: make(chan struct{}, abreast), asks: make(chan struct{}, 1)}
}

// send is one attempt as the record sees it.
func send(r *record, d *document, a stellar.Answer) (room int, ok bool) {
	if !r.begin() {
		return 0, false
	}
	room = r.end(d, a)
	if a.Verdict == stellar.Unknown {
		d.sends++
	}
	return room, true
}

func TestRoomIsHeldWhileACrashWouldRepeat(t *testing.T) {
	tests := []struct {
		name    string
		answers []stellar.Answer // of one document, the second of which never goes
		kept    int
	}{
		{"refused", []stellar.Answer{refused}, 0},
		{"never sent", []stellar.Answer{notSent, notSent}, 0},
		{"delivered", []stellar.Answer{stored}, 2},
		{"may be stored", []stellar.Answer{noAnswer}, 2},
		{"may be stored, then refused", []stellar.Answer{noAnswer, refused}, 2},
		{"may be stored, then delivered", []stellar.Answer{noAnswer, noAnswer, stored}, 2},
		{"refused, then may be stored", []stellar.Answer{refused, noAnswer}, 2},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := taken(t, ownPartition(t.Context()), 0, 2)
			d := &document{r: r}
			freed := 0
			for _, a := range tt.answers {
				units, _ := r.roomless()
				r.granted(units)
				room, ok := send(r, d, a)
				if !ok {
					t.Fatal("not begun")
				}
				freed = room
			}
			kept, free := r.settled()
			if kept != tt.kept || freed+free != 2-tt.kept {
				t.Errorf("kept %d and freed %d, want %d and %d", kept, freed+free, tt.kept, 2-tt.kept)
			}
			if kept, free := r.settled(); kept+free != 0 {
				t.Errorf("room is given back twice: %d", kept+free)
			}
		})
	}
}

func TestNothingIsSentWithoutRoom(t *testing.T) {
	r := taken(t, ownPartition(t.Context()), 0, 2)
	a, b := &document{r: r}, &document{r: r}
	r.granted(2)
	if _, ok := send(r, a, refused); !ok {
		t.Fatal("not begun")
	}
	if _, ok := send(r, b, stored); ok {
		t.Error("sent though the other document had given the record's room back: a crash repeats more than the bound")
	}
}

func TestOtherDocumentOnTheWireKeepsTheRoom(t *testing.T) {
	r := taken(t, ownPartition(t.Context()), 0, 2)
	a, b := &document{r: r}, &document{r: r}
	r.granted(2)
	for range 2 {
		if !r.begin() {
			t.Fatal("not begun")
		}
	}
	if room := r.end(a, refused); room != 0 {
		t.Errorf("%d given back while the other is on the wire", room)
	}
	if room := r.end(b, refused); room != 2 {
		t.Errorf("%d given back, want 2: the room leaks", room)
	}
}

// A drain waits for a record or drops it, whatever the moment: never does one
// go on the wire that nobody waits for.
func TestDrainedRecordEitherStartedOrNot(t *testing.T) {
	for range 2000 {
		p := ownPartition(t.Context())
		const n = 4
		var all sync.WaitGroup
		var mu sync.Mutex
		onWire := 0 // begun and not ended
		letters := make([]bool, n)
		for i := range n {
			r := taken(t, p, int64(i), 1)
			r.granted(1)
			d := &document{r: r}
			all.Go(func() {
				defer p.exit()
				if letters[i] = i%2 == 1 && r.beginLetter(); letters[i] {
					r.endLetter(true)
					return
				}
				if !r.begin() {
					if r.ctx().Err() == nil {
						t.Error("not begun and not dropped: it is never delivered")
					}
					return
				}
				mu.Lock()
				onWire++
				mu.Unlock()
				mu.Lock()
				onWire--
				mu.Unlock()
				r.end(d, stored)
				if r.ctx().Err() != nil {
					t.Error("started and yet dropped: its rest is left, the next owner repeats it")
				}
			})
		}
		<-p.drain()
		mu.Lock()
		if onWire > 0 {
			t.Errorf("%d on the wire after the drain", onWire)
		}
		mu.Unlock()
		late := &record{p: p, k: &kgo.Record{}, units: 1, room: 1}
		if p.enter() || late.begin() || late.beginLetter() {
			t.Error("a record started after the drain")
		}
		all.Wait()
	}
}

func TestStartedRecordGoesOnInADrainAndEndsWithTheFence(t *testing.T) {
	for name, start := range map[string]func(*record){
		"delivered in part": func(r *record) { send(r, &document{r: r}, stored) },
		"may be stored":     func(r *record) { send(r, &document{r: r}, noAnswer) },
		"on the wire":       func(r *record) { r.begin() },
		"dead-lettered in part": func(r *record) {
			r.beginLetter()
			r.endLetter(true)
		},
		"letter being written": func(r *record) { r.beginLetter() },
	} {
		t.Run(name, func(t *testing.T) {
			r := taken(t, ownPartition(t.Context()), 0, 2)
			r.granted(2)
			start(r)
			r.p.drain()
			if r.ctx().Err() != nil || !r.begin() || !r.beginLetter() {
				t.Error("the rest is dropped: the next owner repeats what is done of it")
			}
			r.p.fence(errAbandoned)
			if !errors.Is(context.Cause(r.ctx()), errAbandoned) || r.begin() || r.beginLetter() {
				t.Error("goes on after the fence: the next owner does as well")
			}
		})
	}
}

func TestNotStartedRecordIsDroppedByADrain(t *testing.T) {
	for name, start := range map[string]func(*record){
		"never tried": func(*record) {},
		"refused":     func(r *record) { send(r, &document{r: r}, refused) },
		"never sent":  func(r *record) { send(r, &document{r: r}, notSent) },
		"letter that was not acknowledged": func(r *record) {
			r.beginLetter()
			r.endLetter(false)
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := taken(t, ownPartition(t.Context()), 0, 1)
			r.granted(1)
			start(r)
			r.granted(1)
			r.p.drain()
			if !errors.Is(context.Cause(r.ctx()), errDrained) || r.begin() || r.beginLetter() {
				t.Error("goes on: the drain lasts as long as its backoff")
			}
		})
	}
}

func TestWaitOutlivesTheDrainOfARecordThatStartedMeanwhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := taken(t, ownPartition(t.Context()), 0, 2)
		r.granted(2)
		waits := 0
		done := make(chan error, 1)
		go func() {
			done <- r.wait(func(ctx context.Context) error { waits++; return pause.For(ctx, time.Hour) })
		}()
		synctest.Wait()
		send(r, &document{r: r}, stored) // its other document
		r.p.drain()
		synctest.Wait()
		if len(done) > 0 {
			t.Fatal("dropped, though one document is delivered")
		}
		r.p.fence(errLost)
		if err := <-done; !errors.Is(err, errLost) || waits != 2 {
			t.Errorf("ended with %v after %d waits, want the fence's cause after 2", err, waits)
		}
	})
}

func TestDrainOfAnIdlePartitionDoesNotWait(t *testing.T) {
	p := ownPartition(t.Context())
	<-p.drain()
	<-p.drain() // a second one finds it so
	if room, n, _ := p.fence(errAbandoned); room.Units()+n != 0 {
		t.Errorf("fence: room %d, %d cut off", room, n)
	}
}

func TestFenceGivesRoomBackOnce(t *testing.T) {
	p := ownPartition(t.Context())
	r := taken(t, p, 0, 3)
	r.granted(3)
	send(r, &document{r: r}, stored)
	kept, _ := r.settled()
	p.frontier().Settle(0, kept)
	if room, n, _ := p.fence(errLost); room.Units() != 3 || n != 1 {
		t.Errorf("room %d, cut off %d, want 3 and 1", room, n)
	}
	if room, n, _ := p.fence(errLost); room.Units()+n != 0 {
		t.Errorf("again: room %d, cut off %d", room, n)
	}
	if p.frontier().Settle(0, 3) {
		t.Error("a late answer settles an offset of the next owner")
	}
}

// The room of the first partition that is fenced must not let records of the others be sent in the moment before their
// turn: the next owner would repeat them on top of the bound.
func TestFenceOfManyStartsNothing(t *testing.T) {
	for range 10 { // a fence that lets them shows it in most of the tries
		if n := startedDuringFence(t, 1000, 100); n > 0 {
			t.Fatalf("%d records were sent with the room of those that the next owner repeats", n)
		}
	}
}

// startedDuringFence fences partitions of which the first holds all the room and each of the others has a record waiting
// for it, and counts those that got away.
func startedDuringFence(t *testing.T, partitions, room int) int64 {
	b := &Bridge{exposure: frontier.NewExposure(room), metrics: newMetrics(nil), troubles: newTroubles(nil, nil)}
	ps := []*partition{ownPartition(t.Context())}
	for i := range int64(room) {
		if err := b.makeRoom(t.Context(), taken(t, ps[0], i, 1)); err != nil {
			t.Fatal(err)
		}
		ps[0].frontier().Settle(i, 1)
	}
	var started atomic.Int64
	var all sync.WaitGroup
	for range partitions {
		p := ownPartition(t.Context())
		ps = append(ps, p)
		r := taken(t, p, 0, 1)
		all.Go(func() {
			if r.wait(func(ctx context.Context) error { return b.makeRoom(ctx, r) }) == nil && r.begin() {
				started.Add(1)
			}
		})
	}
	for b.exposure.Waiting() < partitions {
		runtime.Gosched()
	}
	b.fence(ps, errLost)
	all.Wait()
	return started.Load()
}

// Room is neither lost nor given twice, whatever becomes of the documents of
// records large and small, with drains and fences at any moment; and what may
// be stored of unfinished work is within the bound.
func TestRoomAddsUp(t *testing.T) {
	const bound, largest = 20, 5
	for seed := range uint64(100) {
		synctest.Test(t, func(t *testing.T) {
			rng := rand.New(rand.NewPCG(seed, 0))
			b := &Bridge{exposure: frontier.NewExposure(bound), metrics: newMetrics(nil), due: make(chan struct{}, 1)}
			b.queue = newQueue(1000, 1<<20, 1000)
			var ps []*partition
			var all sync.WaitGroup
			for range 3 {
				p := ownPartition(t.Context())
				ps = append(ps, p)
				for i := range int64(20) {
					r := taken(t, p, i, 1+rng.IntN(largest))
					seed := rng.Uint64()
					all.Go(func() { carry(b, r, seed) })
				}
			}
			done := make(chan struct{})
			go func() { all.Wait(); close(done) }()
			for running := true; running; {
				select {
				case <-done:
					running = false
				case <-time.After(100 * time.Millisecond):
				}
				synctest.Wait()
				if held := b.exposure.Held(); held > bound+largest-1 {
					t.Fatalf("seed %d: %d held, bound %d", seed, held, bound)
				}
				p := ps[rng.IntN(len(ps))]
				switch rng.IntN(20) {
				case 0:
					p.drain()
				case 1:
					room, _, _ := p.fence(errLost)
					b.exposure.ReleaseAll("detections", room)
				default: // a commit
					if s, ok := p.frontier().Snapshot(); ok {
						b.exposure.ReleaseAll("detections", p.frontier().Committed(s))
					}
				}
			}
			for _, p := range ps {
				room, active, _ := p.fence(errLost)
				b.exposure.ReleaseAll("detections", room)
				if active != 0 {
					t.Errorf("seed %d: %d records never ended: a drain would wait for ever", seed, active)
				}
			}
			if held, waiting := b.exposure.Held(), b.exposure.Waiting(); held != 0 || waiting != 0 {
				t.Errorf("seed %d: %d held and %d waiting at the end", seed, held, waiting)
			}
		})
	}
}

// carry is deliver with the API's part played by chance.
func carry(b *Bridge, r *record, seed uint64) {
	b.queue.push(r.p, []*record{r}) // its place in the budget
	defer b.ended(r)
	var all sync.WaitGroup
	errs := make([]error, r.units)
	for i := range r.units {
		all.Go(func() { errs[i] = carryDocument(b, &document{r: r, part: i}, rand.New(rand.NewPCG(seed, uint64(i)))) })
	}
	all.Wait()
	if errors.Join(errs...) == nil {
		b.settle(r)
	}
}

func carryDocument(b *Bridge, d *document, rng *rand.Rand) error {
	answers := []stellar.Answer{stored, stored, refused, notSent, noAnswer, overloaded}
	for {
		if err := d.r.wait(func(ctx context.Context) error { return b.makeRoom(ctx, d.r) }); err != nil {
			return err
		}
		if rng.IntN(8) == 0 { // no authorization
			b.giveRoomBack(d.r)
		} else if d.r.begin() {
			time.Sleep(time.Duration(rng.IntN(100)) * time.Millisecond)
			a := answers[rng.IntN(len(answers))]
			b.exposure.Release("detections", d.r.end(d, a))
			if a.Verdict == stellar.Delivered {
				return nil
			}
			if a.Verdict == stellar.Unknown {
				d.sends++
			}
		}
		wait := time.Duration(rng.IntN(300)) * time.Millisecond
		if err := d.r.wait(func(ctx context.Context) error { return pause.For(ctx, wait) }); err != nil {
			return err
		}
	}
}
