package bridge

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"serbridge/bridge/pause"
	"serbridge/bridge/stellar"
)

// full has as many attempts on the wire as may be, and returns their slots.
func full(t *testing.T, s *slots) (taken []slot) {
	t.Helper()
	for s.inUse < s.limit {
		got, err := s.acquire(t.Context(), "")
		if err != nil {
			t.Fatal(err)
		}
		taken = append(taken, got)
	}
	return taken
}

func TestConcurrencyFollowsTheAPI(t *testing.T) {
	const ok, push = false, true
	// Each window is full: as many answers as the limit.
	tests := []struct {
		name    string
		ceiling int
		windows []bool // whether each ends with a push-back
		limits  []int  // after each
	}{
		{"doubles until the first push-back", 64, []bool{ok, ok, ok, ok}, []int{2, 4, 8, 16}},
		{"never above the ceiling", 20, []bool{ok, ok, ok, ok, ok, ok, ok}, []int{2, 4, 8, 16, 20, 20, 20}},
		{"halved, then one more each", 64, []bool{ok, ok, ok, push, ok, ok, ok}, []int{2, 4, 8, 4, 5, 6, 7}},
		{"never below one", 64, []bool{push, push, push, ok, ok}, []int{1, 1, 1, 2, 3}},
		{"climbs to the ceiling and stays", 3, []bool{ok, push, ok, ok, ok, ok}, []int{2, 1, 2, 3, 3, 3}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := newSlots(tt.ceiling)
			for i, pushed := range tt.windows {
				taken := full(t, s)
				for k, got := range taken {
					s.release(got, pushed && k == 0)
				}
				if s.limit != tt.limits[i] {
					t.Errorf("limit %d after window %d, want %d", s.limit, i+1, tt.limits[i])
				}
				if s.inUse != 0 {
					t.Fatalf("%d slots leaked", s.inUse)
				}
			}
		})
	}
}

func TestPushBackOfOneLoadHalvesOnce(t *testing.T) {
	s := newSlots(64)
	s.limit = 64
	for _, got := range full(t, s) {
		s.release(got, true) // 64 answers of 503 to what was sent together
	}
	if s.limit != 32 {
		t.Errorf("limit %d, want 32: one slow moment stopped all delivery", s.limit)
	}
}

func TestLateAnswersDoNotEndTheRamp(t *testing.T) {
	s := newSlots(64)
	s.limit = 64
	taken := full(t, s)
	s.restart() // the gate closed and opened while they were under way
	for _, got := range taken {
		s.release(got, false)
	}
	if s.limit != 1 {
		t.Errorf("limit %d right after the gate opened, want 1: answers to the load before it end the ramp", s.limit)
	}
	if s.inUse != 0 {
		t.Errorf("%d slots leaked", s.inUse)
	}
}

func TestLimitThatIsNotReachedDoesNotClimb(t *testing.T) {
	s := newSlots(64)
	s.limit, s.climb = 8, true
	for range 100 {
		got, err := s.acquire(t.Context(), "")
		if err != nil {
			t.Fatal(err)
		}
		s.release(got, false)
	}
	if s.limit != 8 {
		t.Errorf("limit %d after 100 answers one by one, want 8: nothing says that the API bears more", s.limit)
	}
}

func TestUnusedSlotIsNoAnswer(t *testing.T) {
	s := newSlots(64)
	for range 100 {
		got, err := s.acquire(t.Context(), "")
		if err != nil {
			t.Fatal(err)
		}
		s.giveBack(got)
	}
	if s.limit != 1 || s.inUse != 0 {
		t.Errorf("limit %d with %d in use, want 1 and 0", s.limit, s.inUse)
	}
}

func TestSlotsAreHandedOutInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSlots(1)
		first, _ := s.acquire(t.Context(), "")
		var order []int
		var all sync.WaitGroup
		for i := range 20 {
			all.Go(func() {
				got, err := s.acquire(t.Context(), "")
				if err != nil {
					t.Error(err)
				}
				order = append(order, i) // the one slot is the lock
				s.release(got, false)
			})
			synctest.Wait()
		}
		s.release(first, false)
		all.Wait()
		for i, got := range order {
			if got != i {
				t.Fatalf("order %v: somebody was overtaken", order)
			}
		}
	})
}

// Never more on the wire than the limit, but for what was granted before it
// fell; no slot is lost; and nobody waits while one is free.
func TestSlotsAreNeitherExceededNorLost(t *testing.T) {
	for seed := range uint64(100) {
		synctest.Test(t, func(t *testing.T) {
			rng := rand.New(rand.NewPCG(seed, 0))
			s := newSlots(1 + rng.IntN(32))
			s.share(rng.IntN(2) == 0)
			var mu sync.Mutex
			granted := make(map[uint64]int) // in use by era
			var all sync.WaitGroup
			for w := range uint64(50) {
				all.Go(func() { useSlots(t, s, &mu, granted, rand.New(rand.NewPCG(seed, w+1))) })
			}
			done := make(chan struct{})
			go func() { all.Wait(); close(done) }()
			for watching := true; watching; {
				select {
				case <-done:
					watching = false
				case <-time.After(time.Duration(1+rng.IntN(50)) * time.Millisecond):
				}
				synctest.Wait()
				checkSlots(t, seed, s, &mu, granted)
				if rng.IntN(40) == 0 {
					s.restart()
				}
			}
			if s.inUse != 0 || s.before != 0 || s.beside != 0 || s.line.Len() != 0 || s.line.Topics() != 0 {
				t.Fatalf("seed %d: %d in use and %d waiting at the end", seed, s.inUse, s.line.Len())
			}
		})
	}
}

func useSlots(t *testing.T, s *slots, mu *sync.Mutex, granted map[uint64]int, rng *rand.Rand) {
	for range 30 {
		ctx, cancel := context.WithTimeout(t.Context(), time.Duration(1+rng.IntN(100))*time.Millisecond)
		got, err := s.acquire(ctx, fmt.Sprint(rng.IntN(3)))
		cancel()
		if err != nil {
			continue
		}
		mu.Lock()
		granted[got.era]++
		mu.Unlock()
		time.Sleep(time.Duration(rng.IntN(20)) * time.Millisecond)
		mu.Lock()
		granted[got.era]--
		mu.Unlock()
		switch rng.IntN(6) {
		case 0:
			s.giveBack(got)
		case 1:
			s.release(got, true)
		default:
			s.release(got, false)
		}
	}
}

func checkSlots(t *testing.T, seed uint64, s *slots, mu *sync.Mutex, granted map[uint64]int) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	mu.Lock()
	defer mu.Unlock()
	sum := 0
	for _, n := range granted {
		sum += n
	}
	if s.inUse != sum {
		t.Fatalf("seed %d: %d in use, counted %d", seed, s.inUse, sum)
	}
	if s.limit < 1 || s.limit > s.ceiling || s.inUse > s.ceiling || granted[s.era] > s.limit+s.beside || s.beside > 1 {
		t.Fatalf("seed %d: %d of this load on the wire at a limit of %d, ceiling %d", seed, granted[s.era], s.limit, s.ceiling)
	}
	if s.line.Len() > 0 && s.free() {
		t.Fatalf("seed %d: %d wait at %d of %d: a wake-up was lost", seed, s.line.Len(), s.inUse, s.limit)
	}
}

// api is what an API does under a load, in virtual time.
type api struct {
	answer func(load int, since time.Duration) (stellar.Answer, time.Duration)

	mu        sync.Mutex
	load      int
	most      int
	delivered int
	pushed    int
	begun     time.Time
}

func (a *api) insert() stellar.Answer {
	a.mu.Lock()
	a.load++
	a.most = max(a.most, a.load)
	got, took := a.answer(a.load, time.Since(a.begun))
	a.mu.Unlock()
	time.Sleep(took)
	a.mu.Lock()
	defer a.mu.Unlock()
	a.load--
	if got.Verdict == stellar.Delivered {
		a.delivered++
	} else {
		a.pushed++
	}
	return got
}

var (
	stored      = stellar.Answer{Verdict: stellar.Delivered, Effect: stellar.EffectOpens}
	overloaded  = stellar.Answer{Verdict: stellar.Unavailable, Effect: stellar.EffectCounts, Reason: "http_503", PushBack: true, ServerFault: true}
	noAnswer    = stellar.Answer{Verdict: stellar.Unknown, Effect: stellar.EffectCounts, Reason: "timeout", PushBack: true}
	tooMany     = stellar.Answer{Verdict: stellar.Unavailable, Effect: stellar.EffectCloses, Reason: "http_429"}
	tooManyWait = stellar.Answer{Verdict: stellar.Unavailable, Effect: stellar.EffectCloses, Reason: "http_429", RetryAfter: 10 * time.Second}
)

// deliverTo has 200 records always wait, through gate and slots as attempt
// does, each with its own backoff.
func deliverTo(t *testing.T, a *api, lasting time.Duration) {
	ctx, cancel := context.WithTimeout(t.Context(), lasting)
	defer cancel()
	s := newSlots(64)
	g := newGate(nil, func(bool, stellar.Answer) {})
	g.turned = s.restart
	a.begun = time.Now()
	var all sync.WaitGroup
	all.Go(func() { g.run(ctx) })
	for range 200 {
		all.Go(func() {
			for ctx.Err() == nil {
				deliverOne(ctx, g, s, a)
			}
		})
	}
	all.Wait()
	if s.inUse != 0 {
		t.Errorf("%d slots leaked", s.inUse)
	}
}

func deliverOne(ctx context.Context, g *gate, s *slots, a *api) {
	d, wait := &document{}, fullJitter(mostWait)
	for {
		leave, err := g.enter(ctx, d)
		if err != nil {
			return
		}
		got, err := s.acquire(ctx, "")
		if err != nil {
			g.giveBack(leave)
			return
		}
		if !g.valid(leave) {
			s.giveBack(got)
			g.giveBack(leave)
			continue
		}
		d.tries(time.Now())
		answer := a.insert()
		s.release(got, answer.PushBack)
		g.answered(leave, d, answer, time.Now())
		if answer.Verdict == stellar.Delivered {
			return
		}
		if pause.For(ctx, max(wait.NextBackOff(), answer.RetryAfter)) != nil {
			return
		}
	}
}

// Scenarios of an API under load, each for three minutes, with bounds on what
// is delivered, on what the API must bear, and on what it must turn away.
func TestConcurrencySettlesWhereTheAPIDelivers(t *testing.T) {
	const lasting = 3 * time.Minute
	tests := []struct {
		name       string
		answer     func(load int, since time.Duration) (stellar.Answer, time.Duration)
		atLeast    float64 // delivered per second
		atMost     int     // on the wire
		turnedAway float64 // at most, per delivered one
	}{
		{"fast", func(int, time.Duration) (stellar.Answer, time.Duration) { return stored, 50 * time.Millisecond },
			1_250, 64, 0},
		{"slow", func(int, time.Duration) (stellar.Answer, time.Duration) { return stored, 4 * time.Second },
			14, 64, 0},
		{"slower with load, turns away above thirty", func(load int, _ time.Duration) (stellar.Answer, time.Duration) {
			if load > 30 {
				return overloaded, 50 * time.Millisecond
			}
			return stored, time.Duration(20+5*load) * time.Millisecond
		}, 100, 32, 0.05},
		{"429 above twenty", func(load int, _ time.Duration) (stellar.Answer, time.Duration) {
			if load > 20 {
				return tooMany, 10 * time.Millisecond
			}
			return stored, 100 * time.Millisecond
		}, 40, 32, 0.3},
		{"a wall of 429 for a minute", func(_ int, since time.Duration) (stellar.Answer, time.Duration) {
			if since > 30*time.Second && since < 90*time.Second {
				return tooManyWait, 10 * time.Millisecond
			}
			return stored, 100 * time.Millisecond
		}, 350, 64, 0.01},
		{"one in a hundred is slow", oneSlow(100, 8*time.Second), 300, 64, 0},
		{"one in a hundred runs into the timeout", oneLost(100), 8, 64, 0.02},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a := &api{answer: tt.answer}
				deliverTo(t, a, lasting)
				rate := float64(a.delivered) / lasting.Seconds()
				t.Logf("%.1f/s delivered, %d turned away, most on the wire %d", rate, a.pushed, a.most)
				if rate < tt.atLeast {
					t.Errorf("%.1f/s delivered, want %.0f", rate, tt.atLeast)
				}
				if a.most > tt.atMost {
					t.Errorf("%d on the wire, want at most %d", a.most, tt.atMost)
				}
				if most := tt.turnedAway * float64(a.delivered); float64(a.pushed) > most {
					t.Errorf("%d turned away, want at most %.0f of %d", a.pushed, most, a.delivered)
				}
			})
		})
	}
}

func oneSlow(in int, slow time.Duration) func(int, time.Duration) (stellar.Answer, time.Duration) {
	n := 0
	return func(int, time.Duration) (stellar.Answer, time.Duration) {
		if n++; n%in == 0 {
			return stored, slow
		}
		return stored, 100 * time.Millisecond
	}
}

func oneLost(in int) func(int, time.Duration) (stellar.Answer, time.Duration) {
	n := 0
	return func(int, time.Duration) (stellar.Answer, time.Duration) {
		if n++; n%in == 0 {
			return noAnswer, 20 * time.Second
		}
		return stored, 100 * time.Millisecond
	}
}

// With one slot, a topic with a backlog and one with a trickle go in turn.
func TestSlotsAreHandedOutTopicByTopic(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSlots(1)
		first, _ := s.acquire(t.Context(), "bad")
		var order []string
		var all sync.WaitGroup
		use := func(topic string, n int) {
			for range n {
				all.Go(func() {
					got, err := s.acquire(t.Context(), topic)
					if err != nil {
						t.Error(err)
					}
					order = append(order, topic) // the one slot is the lock
					s.release(got, false)
				})
				synctest.Wait()
			}
		}
		use("bad", 100)
		use("good", 3)
		s.release(first, false)
		all.Wait()
		if want := []string{"good", "bad", "good", "bad", "good", "bad", "bad"}; !slices.Equal(order[1:8], want) {
			t.Errorf("order %v, want %v: the trickle waits for the backlog", order[1:8], want)
		}
		if n := s.line.Topics(); n != 0 {
			t.Errorf("%d topics are remembered, though none has or wants a slot", n)
		}
	})
}

// A topic whose every document is slow leaves a slot to a lone record of another, at any limit, and one only; what it had
// on the wire before a restart does as well.
func TestSlowTopicLeavesASlot(t *testing.T) {
	for _, limit := range []int{1, 8, 64} {
		for _, restarted := range []bool{false, true} {
			synctest.Test(t, func(t *testing.T) {
				s := newSlots(64)
				s.share(true)
				s.limit = limit
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				ask := func(topic string, n int) *[]slot {
					var got []slot
					for range n {
						go func() {
							if one, err := s.acquire(ctx, topic); err == nil {
								got = append(got, one)
							}
						}()
						synctest.Wait()
					}
					return &got
				}
				if slow := ask("slow", 100); len(*slow) != min(limit, 63) {
					t.Errorf("limit %d: the slow topic has %d", limit, len(*slow))
				}
				if restarted {
					s.restart()
				}
				good := ask("good", 2)
				if len(*good) != 1 || s.inUse > 64 {
					t.Fatalf("limit %d, restarted %v: %d beside the slow topic, %d in use", limit, restarted, len(*good), s.inUse)
				}
				s.release((*good)[0], false)
				synctest.Wait()
				if len(*good) != 2 {
					t.Errorf("limit %d, restarted %v: the next of it waits", limit, restarted)
				}
			})
		}
	}
}

func TestEndedWaitForASlotLeavesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSlots(1)
		held, _ := s.acquire(t.Context(), "a")
		for i := range 50 {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			go func() { _, _ = s.acquire(ctx, fmt.Sprint(i)) }()
		}
		time.Sleep(time.Minute)
		s.release(held, false)
		if s.line.Len() != 0 || s.line.Topics() != 0 || s.inUse != 0 {
			t.Errorf("%d wait, %d topics, %d in use", s.line.Len(), s.line.Topics(), s.inUse)
		}
	})
}

// An attempt that waits for its timeout since before the gate closed must not keep the only slot once it is open again.
func TestAttemptFromBeforeTheRestartKeepsNoSlot(t *testing.T) {
	tests := []struct {
		name     string
		ceiling  int
		before   int // on the wire at the restart
		restarts int
		now      int // may go beside them
	}{
		{"one hangs", 64, 1, 1, 1},
		{"many do", 64, 63, 1, 1},
		{"as many as may be on the wire at all", 64, 64, 1, 0},
		{"over several closures", 64, 8, 3, 1},
		{"nothing is on the wire", 64, 0, 1, 1},
		{"a ceiling of one", 1, 1, 1, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newSlots(tt.ceiling)
				s.limit = tt.ceiling
				var old []slot
				for range tt.before {
					got, _ := s.acquire(t.Context(), "")
					old = append(old, got)
				}
				for range tt.restarts {
					s.restart()
				}
				granted := make(chan slot, 3)
				for range 3 {
					go func() {
						if got, err := s.acquire(t.Context(), ""); err == nil {
							granted <- got
						}
					}()
				}
				synctest.Wait()
				if len(granted) != tt.now {
					t.Errorf("%d may go beside the %d from before, want %d", len(granted), tt.before, tt.now)
				}
				for _, got := range old {
					s.release(got, false)
				}
				for range 3 {
					s.release(<-granted, false)
				}
				if s.inUse != 0 || s.before != 0 {
					t.Errorf("%d in use, %d of them from before, at the end", s.inUse, s.before)
				}
			})
		})
	}
}
