package bridge

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"serbridge/bridge/stellar"
)

// Answers as the gate sees them; slots_test.go has more.
var (
	refused   = stellar.Answer{Verdict: stellar.Refused, Effect: stellar.EffectCounts, Reason: "http_400", Certainty: stellar.CertaintyRefused}
	notSent   = stellar.Answer{Verdict: stellar.Unavailable, Effect: stellar.EffectCounts, Reason: "dial_failed", Certainty: stellar.CertaintyNotSent}
	wrongHost = stellar.Answer{Verdict: stellar.Unavailable, Effect: stellar.EffectCloses, Reason: "http_404"}
	cancelled = stellar.Answer{Verdict: stellar.Unavailable, Effect: stellar.EffectNone, Reason: "cancelled"}
)

// changes are what a gate has said of itself.
type changes struct {
	mu   sync.Mutex
	said []string
}

func (c *changes) note(closed bool, why stellar.Answer) {
	reason := why.Reason
	c.mu.Lock()
	defer c.mu.Unlock()
	if !closed {
		reason = "open"
	}
	c.said = append(c.said, reason)
}

func (c *changes) list() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.said)
}

// runGate makes a gate that sends its canaries for as long as the test lives.
func runGate(t *testing.T, newcomer func() bool) (*gate, *changes) {
	t.Helper()
	c := new(changes)
	g := newGate(newcomer, c.note)
	go g.run(t.Context())
	return g, c
}

// leaves takes n tickets of the open gate, for documents of their own.
func leaves(t *testing.T, g *gate, n int) (ts []ticket, ds []*document) {
	t.Helper()
	for range n {
		d := new(document)
		leave, err := g.enter(t.Context(), d)
		if err != nil {
			t.Fatal(err)
		}
		ts, ds = append(ts, leave), append(ds, d)
	}
	return ts, ds
}

// shut closes the gate by one answer.
func shut(t *testing.T, g *gate, a stellar.Answer) {
	t.Helper()
	ts, ds := leaves(t, g, 1)
	g.answered(ts[0], ds[0], a, time.Now())
	if closed, _, _ := g.state(); !closed {
		t.Fatalf("open after %s", a.Reason)
	}
}

// passed is a document that has come through the gate.
type passed struct {
	d     *document
	leave ticket
	at    time.Time
}

// queueUp has the documents wait at the gate; each comes out on the channel.
func queueUp(ctx context.Context, g *gate, ds ...*document) <-chan passed {
	out := make(chan passed, len(ds))
	for _, d := range ds {
		go func() {
			if leave, err := g.enter(ctx, d); err == nil {
				out <- passed{d, leave, time.Now()}
			}
		}()
		synctest.Wait() // in this order
	}
	return out
}

// waiters are all who wait at the gate.
func (g *gate) waiters() (all []*waiter) {
	for _, s := range g.topics {
		all = append(all, s.waiting...)
	}
	return all
}

func triedAt(at time.Time) *document { return &document{lastAt: at} }

func TestGateClosesForTenDifferentDocuments(t *testing.T) {
	nine := slices.Repeat([]stellar.Answer{notSent}, 9)
	tests := []struct {
		name    string
		answers []stellar.Answer
		same    bool // all of one document
		closed  bool
	}{
		{"nine", nine, false, false},
		{"ten", append(slices.Clone(nine), refused), false, true},
		{"a hundred of one document", slices.Repeat([]stellar.Answer{refused}, 100), true, false},
		{"a delivery between", append(append(slices.Clone(nine), stored), nine...), false, false},
		{"an end of ours between", append(append(slices.Clone(nine), cancelled), notSent), false, true},
		{"ends of ours", slices.Repeat([]stellar.Answer{cancelled}, 100), false, false},
		{"one that concerns all", []stellar.Answer{wrongHost}, true, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			g := newGate(nil, new(changes).note)
			d := new(document)
			for _, a := range tt.answers {
				if !tt.same {
					d = new(document)
				}
				leave, _ := g.enter(t.Context(), d)
				g.answered(leave, d, a, time.Now())
			}
			if closed, _, _ := g.state(); closed != tt.closed {
				t.Errorf("closed %v, want %v", closed, tt.closed)
			}
		})
	}
}

func TestRetryAfterSilencesAllWorkers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, _ := runGate(t, nil)
		begun := time.Now()
		ts, ds := leaves(t, g, 20)
		asked := tooMany
		asked.RetryAfter = time.Minute
		g.answered(ts[0], ds[0], asked, time.Now())
		for i := range ts {
			if g.valid(ts[i]) {
				t.Fatal("a ticket from before the push-back is still good")
			}
		}
		out := queueUp(t.Context(), g, ds...)
		first := <-out
		if after := first.at.Sub(begun); after < time.Minute {
			t.Errorf("a request %v after a Retry-After of a minute", after)
		}
		time.Sleep(time.Hour)
		if len(out) > 0 {
			t.Errorf("%d more while the canary is under way", len(out))
		}
	})
}

func TestNineAnswersOf429RaiseTheWaitOnce(t *testing.T) {
	for range 100 {
		synctest.Test(t, func(t *testing.T) {
			g, c := runGate(t, nil)
			ts, ds := leaves(t, g, 9)
			for i := range ts {
				g.answered(ts[i], ds[i], tooMany, time.Now())
			}
			begun := time.Now()
			if after := (<-queueUp(t.Context(), g, ds[0])).at.Sub(begun); after > firstWait {
				t.Fatalf("the first canary went after %v, want at most %v: one push-back was counted nine times", after, firstWait)
			}
			if said := c.list(); len(said) != 1 {
				t.Fatalf("said %v, want it once", said)
			}
		})
	}
}

func TestLateAnswerWithRetryAfterIsHeard(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, _ := runGate(t, nil)
		ts, ds := leaves(t, g, 2)
		g.answered(ts[0], ds[0], wrongHost, time.Now())
		begun := time.Now()
		g.answered(ts[1], ds[1], tooManyWait, time.Now())
		if after := (<-queueUp(t.Context(), g, ds[0])).at.Sub(begun); after < tooManyWait.RetryAfter {
			t.Errorf("a request after %v, the API asked for %v", after, tooManyWait.RetryAfter)
		}
	})
}

func TestLateDeliveryDoesNotOpenTheGate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, _ := runGate(t, nil)
		ts, ds := leaves(t, g, 2)
		g.answered(ts[0], ds[0], wrongHost, time.Now())
		g.answered(ts[1], ds[1], stored, time.Now())
		if closed, _, _ := g.state(); !closed {
			t.Error("opened by a delivery that was under way before it closed")
		}
		if g.deliveries() != 1 {
			t.Error("the delivery is not counted: it is company all the same")
		}
		// Nor is a canary of an earlier closure one of this.
		canary := <-queueUp(t.Context(), g, new(document))
		g.answered(canary.leave, canary.d, stored, time.Now())
		shut(t, g, wrongHost)
		g.answered(canary.leave, canary.d, stored, time.Now())
		if closed, _, _ := g.state(); !closed {
			t.Error("opened by the canary of another closure")
		}
	})
}

func TestOnlyADeliveryOpensTheGate(t *testing.T) {
	for _, a := range []stellar.Answer{refused, notSent, wrongHost, tooMany, overloaded, noAnswer, cancelled, {}, stored} {
		t.Run(cmpName(a), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g, _ := runGate(t, nil)
				shut(t, g, wrongHost)
				out := queueUp(t.Context(), g, new(document), new(document), new(document))
				canary := <-out
				g.answered(canary.leave, canary.d, a, time.Now())
				closed, _, _ := g.state()
				synctest.Wait()
				if closed != (a.Verdict != stellar.Delivered) {
					t.Errorf("closed %v", closed)
				}
				if !closed && len(out) != 2 {
					t.Errorf("%d of 2 were let go: a wake-up was lost", len(out))
				}
			})
		})
	}
}

func cmpName(a stellar.Answer) string {
	if a.Reason == "" {
		return fmt.Sprint(a.Verdict)
	}
	return a.Reason
}

func TestThoseLetGoFindTheConcurrencyAtOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g *gate
		early := 0
		g = newGate(nil, func(bool, stellar.Answer) {})
		g.turned = func() { // with the gate's lock held
			for _, w := range g.waiters() {
				early += len(w.leave)
			}
		}
		go g.run(t.Context())
		shut(t, g, wrongHost)
		out := queueUp(t.Context(), g, new(document), new(document), new(document))
		canary := <-out
		waiting := g.waiters()
		g.answered(canary.leave, canary.d, stored, time.Now())
		if early > 0 || len(waiting) != 2 {
			t.Errorf("%d of %d were let go before the slots began again: they go out all at once", early, len(waiting))
		}
	})
}

// A log that does not take the line that tells of a closed gate must stop no delivery.
func TestGateGoesOnWhileItsChangeIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stuck := make(chan struct{})
		var told []bool
		g := newGate(nil, func(closed bool, _ stellar.Answer) {
			<-stuck
			told = append(told, closed)
		})
		go g.run(t.Context())
		ts, ds := leaves(t, g, 2)
		go g.answered(ts[0], ds[0], wrongHost, time.Now())
		synctest.Wait()
		done := false
		go func() {
			canary := <-queueUp(t.Context(), g, new(document))
			done = g.valid(canary.leave)
			g.answered(canary.leave, canary.d, stored, time.Now())
		}()
		time.Sleep(time.Hour)
		if closed, _, _ := g.state(); !done || closed {
			t.Error("the gate stands still while its change is told")
		}
		close(stuck)
		synctest.Wait()
		if fmt.Sprint(told) != "[true false]" {
			t.Errorf("told %v, want that it closed and then that it opened", told)
		}
	})
}

func TestCanaryIsTheOneTriedLeastRecently(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, _ := runGate(t, nil)
		shut(t, g, wrongHost)
		now := time.Now()
		late, early, never := triedAt(now.Add(-time.Second)), triedAt(now.Add(-time.Hour)), new(document)
		out := queueUp(t.Context(), g, late, early, never)
		for i, want := range []*document{never, early, late} {
			got := <-out
			if got.d != want {
				t.Fatalf("canary %d is another: one bad record keeps the gate shut", i+1)
			}
			g.answered(got.leave, got.d, notSent, time.Now())
		}
	})
}

func TestOneNewRecordIsAskedForPerTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g *gate
		asked := 0
		out := make(chan passed, 10)
		newcomer := func() bool {
			asked++
			go func() {
				d := new(document)
				if leave, err := g.enter(t.Context(), d); err == nil {
					out <- passed{d, leave, time.Now()}
				}
			}()
			return true
		}
		g, _ = runGate(t, newcomer)
		shut(t, g, wrongHost)
		tried := queueUp(t.Context(), g, triedAt(time.Now().Add(-time.Hour)))
		first := <-out
		if len(tried) > 0 || asked != 1 {
			t.Fatalf("the tried one went with %d asked for: the fault may be its own", asked)
		}
		g.answered(first.leave, first.d, notSent, time.Now())
		select {
		case <-out:
		case <-tried:
			t.Error("the tried one went before the next new one")
		}
		if asked != 2 {
			t.Errorf("asked %d times in two turns", asked)
		}
	})
}

func TestNewRecordThatNeverComesHoldsNobodyUp(t *testing.T) {
	for _, promised := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			g, _ := runGate(t, func() bool { return promised })
			shut(t, g, wrongHost)
			begun := time.Now()
			d := triedAt(begun.Add(-time.Hour))
			if after := (<-queueUp(t.Context(), g, d)).at.Sub(begun); after > 5*time.Second {
				t.Errorf("the canary went after %v", after)
			}
		})
	}
}

func TestCanaryThatGoesAwayMakesPlace(t *testing.T) {
	ways := map[string]func(*gate, passed){
		"given back":      func(g *gate, p passed) { g.giveBack(p.leave) },
		"spent":           func(g *gate, p passed) { g.spent(p.leave, time.Now()) },
		"partition ended": func(g *gate, p passed) { g.answered(p.leave, p.d, cancelled, time.Now()) },
		"failed":          func(g *gate, p passed) { g.answered(p.leave, p.d, notSent, time.Now()) },
	}
	for name, away := range ways {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g, _ := runGate(t, nil)
				shut(t, g, wrongHost)
				out := queueUp(t.Context(), g, new(document), new(document))
				away(g, <-out)
				select {
				case <-out:
				case <-time.After(time.Minute):
					t.Error("no other canary in a minute: the gate is shut for good")
				}
			})
		})
	}
}

func TestOurOwnEndIsNoReasonOfTheAPIs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, c := runGate(t, nil)
		shut(t, g, wrongHost)
		out := queueUp(t.Context(), g, new(document))
		canary := <-out
		g.answered(canary.leave, canary.d, cancelled, time.Now())
		if _, reason, _ := g.state(); reason != "http_404" || len(c.list()) != 1 {
			t.Errorf("reason %q, said %v: a rebalance hides why the gate is closed", reason, c.list())
		}
		begun := time.Now()
		if after := (<-queueUp(t.Context(), g, new(document))).at.Sub(begun); after > 0 {
			t.Errorf("the next canary waits %v for it", after)
		}
	})
}

func TestEndedWaitLeavesNoCanaryBehind(t *testing.T) {
	cause := errors.New("partition is gone")
	for seed := range uint64(200) {
		synctest.Test(t, func(t *testing.T) {
			rng := rand.New(rand.NewPCG(seed, 0))
			g, _ := runGate(t, nil)
			shut(t, g, wrongHost)
			ctx, cancel := context.WithCancelCause(t.Context())
			ended := make(chan error, 1)
			go func() {
				leave, err := g.enter(ctx, new(document))
				if err == nil {
					g.giveBack(leave)
				}
				ended <- err
			}()
			time.Sleep(time.Duration(rng.Int64N(int64(firstWait)))) // the canary is chosen within this time
			go cancel(cause)
			if err := <-ended; err != nil && !errors.Is(err, cause) {
				t.Fatalf("seed %d: ended with %v, want the cause", seed, err)
			}
			select {
			case <-queueUp(t.Context(), g, new(document)):
			case <-time.After(time.Minute):
				t.Fatalf("seed %d: no other canary in a minute", seed)
			}
		})
	}
}

func TestLookingRarerHasABound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, _ := runGate(t, nil)
		begun := time.Now()
		shut(t, g, notSentCloses())
		early, late, gap := 0, 0, time.Duration(0)
		last := begun
		for time.Since(begun) < 24*time.Hour {
			canary := <-queueUp(t.Context(), g, new(document))
			since := canary.at.Sub(last)
			last = canary.at
			if at := canary.at.Sub(begun); at < patience {
				early++
				if since > mostWait {
					t.Fatalf("%v without a canary, %v into the outage", since, at)
				}
			} else {
				late++
				gap = max(gap, since)
			}
			g.answered(canary.leave, canary.d, notSent, time.Now())
		}
		if gap > mostWaitLater || gap < 2*time.Minute {
			t.Errorf("longest wait of the later hours %v, want at most %v and not much less", gap, mostWaitLater)
		}
		if early < 60 || late < 300 {
			t.Errorf("%d canaries in the first half hour and %d later: recovery is found late", early, late)
		}
		canary := <-queueUp(t.Context(), g, new(document))
		g.answered(canary.leave, canary.d, stored, time.Now())
		shut(t, g, wrongHost)
		again := time.Now()
		if after := (<-queueUp(t.Context(), g, new(document))).at.Sub(again); after > firstWait {
			t.Errorf("the next closure begins with a wait of %v", after)
		}
	})
}

func notSentCloses() stellar.Answer {
	a := notSent
	a.Effect = stellar.EffectCloses
	return a
}

func TestAmbiguousWaitsForCompany(t *testing.T) {
	type outcome struct {
		leave ticket
		err   error
	}
	tests := []struct {
		name     string
		closed   bool
		then     func(t *testing.T, g *gate, cancel func())
		returned bool
		canary   bool
		failed   bool
	}{
		{"alone it holds", false, func(*testing.T, *gate, func()) {}, false, false, false},
		{"others fail beside it", false, func(t *testing.T, g *gate, _ func()) {
			ts, ds := leaves(t, g, 1)
			g.answered(ts[0], ds[0], notSent, time.Now())
		}, false, false, false},
		{"another is delivered", false, func(t *testing.T, g *gate, _ func()) {
			ts, ds := leaves(t, g, 1)
			g.answered(ts[0], ds[0], stored, time.Now())
		}, true, false, false},
		{"its turn as the canary", true, func(*testing.T, *gate, func()) { time.Sleep(time.Minute) }, true, true, false},
		{"its partition ends", false, func(_ *testing.T, _ *gate, cancel func()) { cancel() }, true, false, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g, _ := runGate(t, nil)
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				if tt.closed {
					shut(t, g, noAnswerCloses())
				}
				out := make(chan outcome, 1)
				go func() {
					leave, err := g.awaitCompany(ctx, triedAt(time.Now()), g.deliveries())
					out <- outcome{leave, err}
				}()
				synctest.Wait()
				tt.then(t, g, cancel)
				synctest.Wait()
				if len(out) == 0 {
					if tt.returned {
						t.Error("still waits")
					}
					return
				}
				got := <-out
				if !tt.returned || got.leave.canary != tt.canary || (got.err != nil) != tt.failed {
					t.Errorf("returned %+v", got)
				}
			})
		})
	}
}

func noAnswerCloses() stellar.Answer {
	a := noAnswer
	a.Effect = stellar.EffectCloses
	return a
}

func TestCompanyBeforeTheWaitCounts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, _ := runGate(t, nil)
		seen := g.deliveries()
		ts, ds := leaves(t, g, 1)
		g.answered(ts[0], ds[0], stored, time.Now())
		if _, err := g.awaitCompany(t.Context(), new(document), seen); err != nil {
			t.Error(err)
		}
	})
}

func TestAmbiguousCanaryDoesNotOpenAndLetsTheNextFollow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, _ := runGate(t, nil)
		shut(t, g, noAnswerCloses())
		leave, err := g.awaitCompany(t.Context(), triedAt(time.Now()), g.deliveries())
		if err != nil || !leave.canary {
			t.Fatal(leave, err)
		}
		next := queueUp(t.Context(), g, new(document))
		time.Sleep(time.Minute)
		if len(next) > 0 {
			t.Fatal("two canaries")
		}
		g.spent(leave, time.Now())
		if closed, _, _ := g.state(); !closed {
			t.Error("opened by a document that was given up")
		}
		<-next
	})
}

// While the gate is closed one canary at most is on its way, whoever goes away
// meanwhile; and it never stays shut for want of one.
func TestOneCanaryAtATime(t *testing.T) {
	for seed := range uint64(60) {
		synctest.Test(t, func(t *testing.T) {
			m := &crowd{t: t, seed: seed, heals: time.Now().Add(10 * time.Minute)}
			m.g = newGate(nil, func(bool, stellar.Answer) {})
			ctx, stop := context.WithCancel(t.Context())
			go m.g.run(ctx)
			var all sync.WaitGroup
			for w := range uint64(30) {
				all.Go(func() { m.work(rand.New(rand.NewPCG(seed, w))) })
			}
			all.Wait()
			stop()
			if closed, _, _ := m.g.state(); closed || m.canaries != 0 || len(m.g.waiters()) != 0 {
				t.Fatalf("seed %d: closed %v, %d canaries, %d waiting at the end", seed, closed, m.canaries, len(m.g.waiters()))
			}
		})
	}
}

type crowd struct {
	t     *testing.T
	seed  uint64
	g     *gate
	heals time.Time

	mu       sync.Mutex
	canaries int
}

func (m *crowd) count(leave ticket, n int) {
	if !leave.canary {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.canaries += n; m.canaries > 1 {
		m.t.Errorf("seed %d: %d canaries at once", m.seed, m.canaries)
	}
}

// work brings documents through until each is delivered, which it is from
// heals on.
func (m *crowd) work(rng *rand.Rand) {
	for range 5 {
		d := new(document)
		for m.try(rng, d) != stellar.Delivered {
			time.Sleep(time.Duration(rng.IntN(3000)) * time.Millisecond)
		}
		time.Sleep(time.Duration(rng.IntN(60)) * time.Second)
	}
}

func (m *crowd) try(rng *rand.Rand, d *document) stellar.Verdict {
	ctx, cancel := m.t.Context(), func() {}
	if rng.IntN(3) == 0 {
		ctx, cancel = context.WithTimeout(ctx, time.Duration(rng.IntN(2000))*time.Millisecond)
	}
	defer cancel()
	leave, err := m.g.enter(ctx, d)
	if err != nil {
		return 0
	}
	m.count(leave, 1)
	time.Sleep(time.Duration(rng.IntN(500)) * time.Millisecond)
	m.count(leave, -1)
	if rng.IntN(5) == 0 || !m.g.valid(leave) {
		m.g.giveBack(leave)
		return 0
	}
	d.tries(time.Now())
	a := stored
	if time.Now().Before(m.heals) {
		a = []stellar.Answer{refused, notSent, wrongHost, tooMany, tooManyWait, noAnswer, cancelled, stored}[rng.IntN(8)]
	}
	m.g.answered(leave, d, a, time.Now())
	return a.Verdict
}

// event is what befalls a topic at an open gate.
type event struct {
	topic  string
	answer stellar.Answer
	times  int           // each a document of its own
	after  time.Duration // since the one before
}

func TestFailingTopicClosesTheGateOnlyWhileNoOtherIsDelivered(t *testing.T) {
	const good, bad, other = "good", "bad", "other"
	tests := []struct {
		name   string
		events []event
		closed bool
	}{
		{"one topic, from the start", []event{{bad, notSent, 10, 0}}, true},
		{"one topic, after deliveries of its own", []event{{bad, stored, 5, 0}, {bad, notSent, 10, 0}}, true},
		{"beside one that is delivered", []event{{good, stored, 1, 0}, {bad, refused, 100, 0}}, false},
		{"beside one that was, until a while ago", []event{{good, stored, 1, 0}, {bad, refused, 100, vouches}}, true},
		{"whose silence lasts", []event{{good, stored, 1, 0}, {bad, refused, 100, 0}, {bad, refused, 1, vouches}}, true},
		{"beside one that fails by now, too", []event{{good, stored, 1, 0}, {bad, refused, 9, 0}, {good, refused, 1, 0}}, true},
		{"beside one that failed and is delivered", []event{{good, refused, 1, 0}, {good, stored, 1, 0}, {bad, refused, 100, 0}}, false},
		{"beside one whose request we ended", []event{{good, stored, 1, 0}, {good, cancelled, 1, 0}, {bad, refused, 100, 0}}, false},
		{"two that fail beside one that is delivered", []event{{good, stored, 1, 0}, {bad, refused, 50, 0}, {other, notSent, 50, 0}}, false},
		{"an outage of all", []event{{good, stored, 1, 0}, {bad, stored, 1, 0}, {bad, notSent, 5, 0}, {good, notSent, 5, 0}}, true},
		{"what concerns all", []event{{good, stored, 1, 0}, {bad, tooMany, 1, 0}}, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			g, now := newGate(nil, new(changes).note), time.Now()
			for _, e := range tt.events {
				now = now.Add(e.after)
				for range e.times {
					d := &document{topic: e.topic}
					leave, ok := g.leaveNow()
					if !ok {
						break
					}
					g.answered(leave, d, e.answer, now)
				}
			}
			if closed, _, _ := g.state(); closed != tt.closed {
				t.Errorf("closed %v, want %v", closed, tt.closed)
			}
			if len(g.failing) > failuresToClose {
				t.Errorf("%d failed documents are kept", len(g.failing))
			}
		})
	}
}

// leaveNow is a ticket of the open gate.
func (g *gate) leaveNow() (ticket, bool) {
	closed, _, _ := g.state()
	return ticket{closure: g.closure}, !closed
}

func of(topic string, lastAt time.Time) *document { return &document{topic: topic, lastAt: lastAt} }

func TestTopicsSendTheCanaryInTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, _ := runGate(t, nil)
		shut(t, g, wrongHost)
		begun := time.Now()
		g.mu.Lock()
		for i, topic := range []string{"bad", "bad", "bad", "good", "good"} { // all have failed before
			g.topic(topic, begun).failed = begun
			g.topic(topic, begun).canary = begun.Add(-time.Hour + time.Duration(i)*time.Second)
		}
		g.mu.Unlock()
		out := queueUp(t.Context(), g, of("bad", begun.Add(-3*time.Second)), of("bad", begun.Add(-time.Minute)), of("bad", time.Time{}),
			of("good", begun), of("good", begun.Add(-time.Second)))
		var order []string
		for range 5 {
			got := <-out
			order = append(order, fmt.Sprint(got.d.topic, " ", got.d.lastAt.IsZero()))
			g.answered(got.leave, got.d, notSent, time.Now())
		}
		if want := []string{"bad true", "good false", "bad false", "good false", "bad false"}; !slices.Equal(order, want) {
			t.Errorf("canaries %v, want %v", order, want)
		}
	})
}

// A topic that has not failed waits for the backoff only when what closed the gate concerns it.
func TestClosureForTheFailuresOfOthersHoldsNobodyElse(t *testing.T) {
	later := notSentCloses()
	later.RetryAfter = time.Minute
	tests := []struct {
		name   string
		before *stellar.Answer // of the good topic
		closes []stellar.Answer
		atOnce bool
	}{
		{"ten failures", nil, slices.Repeat([]stellar.Answer{notSent}, 10), true},
		{"of its own among them", &refused, slices.Repeat([]stellar.Answer{notSent}, 10), false},
		{"it was delivered last", &stored, slices.Repeat([]stellar.Answer{notSent}, 10), true},
		{"an answer that concerns all", nil, []stellar.Answer{tooManyWait}, false},
		{"a late one", nil, append(slices.Repeat([]stellar.Answer{notSent}, 10), tooManyWait), false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g, _ := runGate(t, nil)
				ts, _ := leaves(t, g, 20)
				if tt.before != nil {
					g.answered(ts[0], of("good", time.Time{}), *tt.before, time.Now().Add(-vouches))
				}
				for i, a := range tt.closes {
					g.answered(ts[i+1], of("bad", time.Time{}), a, time.Now())
				}
				synctest.Wait()
				for range 8 { // the backoff grows, while the other topic sends the canaries
					canary := <-queueUp(t.Context(), g, of("bad", time.Now()))
					g.answered(canary.leave, canary.d, notSent, time.Now())
				}
				g.mu.Lock()
				g.notYet = g.notYet.Add(time.Hour)
				g.mu.Unlock()
				begun := time.Now()
				took := (<-queueUp(t.Context(), g, of("good", time.Time{}))).at.Sub(begun)
				if (took == 0) != tt.atOnce {
					t.Errorf("a good record waits %v, want it to go at once: %v", took, tt.atOnce)
				}
			})
		})
	}
}

// The canary of a topic that fails may hang for its whole timeout: a record of one that has not failed goes beside it.
// Only one, and only where what closed the gate is not told to all.
func TestHangingCanaryHoldsNobodyOfAnotherTopic(t *testing.T) {
	for name, closes := range map[string]stellar.Answer{"failures of the one topic": notSent, "an answer to all": tooMany} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g, _ := runGate(t, nil)
				ts, _ := leaves(t, g, failuresToClose)
				for _, leave := range ts {
					g.answered(leave, of("bad", time.Time{}), closes, time.Now())
				}
				hanging := <-queueUp(t.Context(), g, of("bad", time.Now()))
				out := queueUp(t.Context(), g, of("good", time.Time{}), of("third", time.Time{}), of("bad", time.Time{}))
				time.Sleep(time.Hour)
				if closes == tooMany {
					if len(out) != 0 {
						t.Errorf("%d beside a canary, though all were told to wait", len(out))
					}
					return
				}
				if len(out) != 1 {
					t.Fatalf("%d beside the hanging canary, want 1", len(out))
				}
				beside := <-out
				g.answered(beside.leave, beside.d, notSent, time.Now())
				time.Sleep(time.Hour)
				if len(out) != 1 {
					t.Fatalf("%d after it has failed as well, want the next that has not", len(out))
				}
				beside = <-out
				g.giveBack(beside.leave)
				g.answered(hanging.leave, hanging.d, notSent, time.Now())
				time.Sleep(time.Hour)
				if len(out) != 1 {
					t.Errorf("%d after both have ended, want the one that waits", len(out))
				}
			})
		})
	}
}

// A pattern finds and loses topics for months.
func TestGateForgetsTopics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, _ := runGate(t, nil)
		for i := range 1000 {
			d := of(fmt.Sprint("topic ", i), time.Time{})
			for _, a := range []stellar.Answer{stored, refused, wrongHost} {
				leave, err := g.enter(t.Context(), d)
				if err != nil {
					t.Fatal(err)
				}
				g.answered(leave, d, a, time.Now())
			}
			canary := <-queueUp(t.Context(), g, d)
			g.answered(canary.leave, canary.d, stored, time.Now())
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			shut(t, g, tooManyWait)
			if _, err := g.enter(ctx, d); err == nil {
				t.Fatal("let through before the API may be asked")
			}
			cancel()
			canary = <-queueUp(t.Context(), g, d)
			g.answered(canary.leave, canary.d, stored, time.Now())
			time.Sleep(time.Minute)
		}
		if n := len(g.topics); n > 15 {
			t.Errorf("%d topics are remembered of those of the last quarter of an hour", n)
		}
	})
}
