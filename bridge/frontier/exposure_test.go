package frontier

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// asks starts an Acquire for each size, in order, and returns the list of those that were granted.
func asks(ctx context.Context, e *Exposure, fresh bool, sizes ...int) *[]int {
	granted := new([]int)
	for i, n := range sizes {
		go func() {
			if e.Acquire(ctx, "t", n, fresh) == nil {
				*granted = append(*granted, i)
			}
		}()
		synctest.Wait()
	}
	return granted
}

func TestExposureIsTheBound(t *testing.T) {
	tests := []struct {
		name  string
		max   int
		sizes []int
		held  int
	}{
		{"documents, the last unit is kept", 5, []int{1, 1, 1, 1, 1, 1}, 4},
		{"a large record while there is room", 5, []int{1, 1, 1, 50, 1}, 53},
		{"bound of 1: one at a time", 1, []int{1, 1}, 1},
		{"bound of 2: one, and the canary", 2, []int{1, 1}, 1},
		{"no bound", 0, []int{1, 1, 50}, 52},
		{"nothing to hold", 3, []int{0, 1, 0, 1}, 2},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				e := NewExposure(tt.max)
				asks(ctx, e, true, tt.sizes...)
				if e.Held() != tt.held {
					t.Errorf("held %d, want %d", e.Held(), tt.held)
				}
			})
		})
	}
}

func TestExposureServesInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := NewExposure(2)
		granted := asks(t.Context(), e, true, 1, 1, 1, 1)
		for range 4 {
			synctest.Wait()
			e.ReleaseAll("t", e.held)
		}
		synctest.Wait()
		if !slices.Equal(*granted, []int{0, 1, 2, 3}) || e.Held() != 0 || e.Waiting() != 0 {
			t.Errorf("granted %v, held %d, waiting %d", *granted, e.Held(), e.Waiting())
		}
	})
}

func TestCanaryTakesTheLastUnit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		e := NewExposure(3)
		if e.GrantLast() {
			t.Error("granted to nobody")
		}
		asks(ctx, e, true, 1, 1)
		tried := asks(ctx, e, false, 1)
		fresh := asks(ctx, e, true, 1, 1)
		if !e.GrantLast() {
			t.Error("no canary though the last unit is free")
		}
		synctest.Wait()
		if len(*tried) != 0 || !slices.Equal(*fresh, []int{0}) || e.Held() != 3 {
			t.Errorf("tried %v, fresh %v, held %d: want the first never tried", *tried, *fresh, e.Held())
		}
		if e.GrantLast() {
			t.Error("a canary above the bound")
		}
		e.Release("t", 1)
		if !e.GrantLast() {
			t.Error("no second canary")
		}
		e.Release("t", 1)
		if !e.GrantLast() {
			t.Error("none for a tried record, when no other waits")
		}
		synctest.Wait()
		if len(*tried) != 1 || len(*fresh) != 2 {
			t.Errorf("tried %v, fresh %v", *tried, *fresh)
		}
	})
}

// Records of several documents, each with one that fails, hold what they have taken until others are delivered: these
// must not wait for it. Together they hold no more than the bound and the size of one.
func TestLargeRecordsLeaveRoomToThoseOfOneDocument(t *testing.T) {
	tests := []struct {
		name  string
		max   int
		sizes []int
		want  []int // granted
		last  bool  // and a canary may go
	}{
		{"one larger than the bound", 200, []int{500, 1, 500, 1}, []int{0, 1, 3}, true},
		{"several that fill it", 200, []int{50, 50, 50, 50, 50, 1, 1}, []int{0, 1, 2, 3, 5, 6}, true},
		{"one beside a full room of small ones", 5, []int{1, 1, 1, 1, 9, 1}, []int{0, 1, 2, 3}, true},
		{"a small bound leaves one", 5, []int{9, 1, 1, 9}, []int{0, 1}, true},
		{"a bound of 2 has none to leave", 2, []int{9, 1}, []int{0}, true},
		{"no bound", 0, []int{500, 500, 1}, []int{0, 1, 2}, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				e := NewExposure(tt.max)
				granted := asks(ctx, e, true, tt.sizes...)
				if !slices.Equal(*granted, tt.want) {
					t.Errorf("granted %v, want %v", *granted, tt.want)
				}
				fresh := asks(ctx, e, true, 1)
				if len(*fresh) == 0 && e.GrantLast() != tt.last {
					t.Errorf("a canary may go: %v, want %v", !tt.last, tt.last)
				}
				if bound := tt.max + slices.Max(tt.sizes); tt.max > 0 && e.Held() >= bound {
					t.Errorf("held %d, want less than %d", e.Held(), bound)
				}
			})
		})
	}
}

// Whatever is asked for and given back, records of one document hold at most the bound, and with larger ones all
// together less than the bound and the size of one.
func TestExposureNeverExceedsTheBoundByMoreThanARecord(t *testing.T) {
	const largest = 30
	for seed := range uint64(300) {
		synctest.Test(t, func(t *testing.T) {
			random := rand.New(rand.NewPCG(seed, 5))
			bound := 1 + random.IntN(40)
			e := NewExposure(bound)
			e.Share(random.IntN(2) == 0)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			var mu sync.Mutex
			var held []int
			for range 200 {
				switch random.IntN(4) {
				case 0:
					mu.Lock()
					if i := len(held) - 1; i >= 0 {
						j := random.IntN(len(held))
						held[i], held[j] = held[j], held[i]
						e.Release("t", held[i])
						held = held[:i]
					}
					mu.Unlock()
				case 1:
					e.GrantLast()
				default:
					n, base := 1, random.IntN(4) == 0
					if random.IntN(3) == 0 {
						n = 1 + random.IntN(largest)
					}
					go func() {
						if e.AcquireAtBase(ctx, "t", n, true, func() bool { return base }) == nil {
							mu.Lock()
							held = append(held, n)
							mu.Unlock()
						}
					}()
				}
				synctest.Wait()
				e.mu.Lock()
				one := e.held.One
				e.mu.Unlock()
				if one > bound {
					t.Fatalf("seed %d: records of one document hold %d, the bound is %d", seed, one, bound)
				}
				if e.Held() >= bound+largest {
					t.Fatalf("seed %d: %d held, bound %d, records of up to %d", seed, e.Held(), bound, largest)
				}
			}
		})
	}
}

// A context that ends while its record waits, or at the moment of the grant, leaks no room.
func TestCancelledWaitLeaksNoRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := NewExposure(4)
		random := rand.New(rand.NewPCG(3, 3))
		for range 200 {
			ctx, cancel := context.WithTimeout(t.Context(), time.Duration(random.IntN(50))*time.Millisecond)
			hold := time.Duration(random.IntN(10)) * time.Millisecond
			go func() {
				defer cancel()
				if e.Acquire(ctx, "t", 1+int(hold)%3, true) == nil {
					time.Sleep(hold)
					e.Release("t", 1+int(hold)%3)
				}
			}()
		}
		time.Sleep(time.Second)
		if e.Held() != 0 || e.Waiting() != 0 {
			t.Errorf("held %d, waiting %d", e.Held(), e.Waiting())
		}
	})
}

// Both at once, on the very path: granted, and the context ended.
func TestGrantAtTheMomentOfCancelIsGivenBack(t *testing.T) {
	e := NewExposure(2)
	first, second := &waiter{topic: "t", n: 1, fresh: true, granted: make(chan struct{})}, &waiter{topic: "t", n: 1, fresh: true, granted: make(chan struct{})}
	e.join(first)
	e.join(second)
	e.leave(first)
	select {
	case <-second.granted:
	default:
		t.Error("the next one still waits")
	}
	if e.Held() != 1 {
		t.Errorf("held %d, want 1", e.Held())
	}
}

func TestEndedContextGetsNothing(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	e := NewExposure(5)
	for range 100 {
		if err := e.Acquire(ctx, "t", 1, true); !errors.Is(err, context.Canceled) || e.Held() != 0 {
			t.Fatalf("error %v, held %d", err, e.Held())
		}
	}
}

func TestReleaseOfMoreThanHeldIsLoud(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("no panic: the bound would be lifted in silence")
		}
	}()
	NewExposure(5).Release("t", 1)
}

func TestRecordAtTheBaseDoesNotWaitForRoomThatWaitsForIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := NewExposure(3)
		if n := len(*asks(t.Context(), e, true, 1, 1)); n != 2 { // all but the last unit, never covered
			t.Fatal(n)
		}
		others := make(chan error, 1)
		ctx, cancel := context.WithCancel(t.Context())
		go func() { others <- e.Acquire(ctx, "t", 1, true) }()
		synctest.Wait()
		// It comes to the base only while it waits, behind the others.
		atBase, done := false, make(chan error, 1)
		go func() { done <- e.AcquireAtBase(t.Context(), "t", 1, true, func() bool { return atBase }) }()
		synctest.Wait()
		if e.Look(); e.Waiting() != 2 {
			t.Fatal("went first, though not at the base")
		}
		atBase = true
		e.Look()
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		if held, waiting := e.Held(), e.Waiting(); held != 3 || waiting != 1 {
			t.Errorf("held %d with %d waiting, want the bound of 3 with the other one waiting", held, waiting)
		}
		cancel()
		<-others
	})
}

// A topic with a thousand records waiting does not make the trickle of another wait for them.
func TestRoomIsGivenTopicByTopic(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		e := NewExposure(6)
		var order []string
		ask := func(topic string, n int) {
			for range n {
				go func() {
					if e.Acquire(ctx, topic, 1, true) == nil {
						order = append(order, topic)
					}
				}()
				synctest.Wait()
			}
		}
		ask("bad", 1000)
		ask("good", 2)
		for range 3 {
			e.Release("bad", 1)
			synctest.Wait()
		}
		if got := order[5:]; !slices.Equal(got, []string{"good", "good", "bad"}) {
			t.Errorf("room went to %v: the others waited for one topic's backlog", got)
		}
		cancel()
		synctest.Wait()
		e.ReleaseAll("bad", Room{One: 3})
		e.ReleaseAll("good", Room{One: 2})
		if e.Waiting() != 0 || e.line.Topics() != 0 {
			t.Errorf("%d wait and %d topics are remembered, though all are gone", e.Waiting(), e.line.Topics())
		}
	})
}

func TestTopicLeavesRoomToOthers(t *testing.T) {
	tests := []struct {
		name   string
		max    int
		shared bool
		asks   []string // 300 records each, in this order
		want   []int    // held, of each
	}{
		{"alone it gets all but the last unit", 200, false, []string{"a"}, []int{199}},
		{"of several it leaves an eighth", 200, true, []string{"a"}, []int{175}},
		{"and so does the next, of that", 200, true, []string{"a", "b"}, []int{175, 21}},
		{"and the next", 200, true, []string{"a", "b", "c"}, []int{175, 21, 2}},
		{"a small bound leaves one", 4, true, []string{"a", "b"}, []int{2, 0}},
		{"a smaller one has none to leave", 3, true, []string{"a", "b"}, []int{2, 0}},
		{"a bound of 1", 1, true, []string{"a"}, []int{1}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				e := NewExposure(tt.max)
				e.Share(tt.shared)
				for i, topic := range tt.asks {
					for range 300 {
						go func() { _ = e.Acquire(ctx, topic, 1, true) }()
					}
					synctest.Wait()
					if got := e.line.Held(topic); got != tt.want[i] {
						t.Errorf("%s holds %d, want %d", topic, got, tt.want[i])
					}
				}
				if !e.GrantLast() && tt.max > 1 {
					t.Error("the last unit is gone")
				}
			})
		})
	}
}

func TestRoomIsNoLongerSharedOnceATopicIsAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		e := NewExposure(200)
		e.Share(true)
		for range 300 {
			go func() { _ = e.Acquire(ctx, "a", 1, true) }()
		}
		synctest.Wait()
		if e.Share(false); e.Held() != 199 {
			t.Errorf("held %d, want 199", e.Held())
		}
	})
}
