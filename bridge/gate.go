package bridge

import (
	"context"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v4"

	"serbridge/bridge/stellar"
)

const (
	// failuresToClose is how many different documents in a row must fail,
	// without a delivery between, before the fault counts as everybody's.
	failuresToClose = 10
	// A closure that has lasted patience is looked at less often.
	patience      = 30 * time.Minute
	mostWaitLater = 5 * time.Minute
)

// gate is the process's shared pause. It closes when the destination, the
// network or our configuration is at fault, so that an outage costs one
// request now and then and no attempt of any record. Closed, it lets one
// canary through at a time; only a delivery opens it.
type gate struct {
	// newcomer asks the exposure to let one record beyond the room through;
	// nil means there is none.
	newcomer func() bool
	changed  func(closed bool, why stellar.Answer) // called with mu held; must not block

	mu      sync.Mutex
	closed  bool
	reason  string
	since   time.Time
	notYet  time.Time // no canary before
	closure uint64    // counts closures and openings: a ticket of another one is stale
	wait    *backoff.ExponentialBackOff
	failing map[*document]struct{} // failed since the last delivery
	waiting []*waiter              // at the closed gate, in order of arrival
	canary  *document              // on its way
	asked   bool                   // a newcomer was asked for in this turn
	stir    chan struct{}          // capacity 1: wakes run
	last    uint64                 // deliveries so far, of whatever document
	company chan struct{}          // closed and replaced at each delivery
}

type waiter struct {
	d     *document
	leave chan ticket // capacity 1
}

// ticket is the gate's leave for one attempt.
type ticket struct {
	closure uint64
	canary  bool
}

func newGate(newcomer func() bool, changed func(bool, stellar.Answer)) *gate {
	return &gate{
		newcomer: newcomer,
		changed:  changed,
		failing:  make(map[*document]struct{}),
		stir:     make(chan struct{}, 1),
		company:  make(chan struct{}),
	}
}

// enter waits until the gate is open or d is its canary. The caller owes the
// gate an answered or a giveBack for the ticket.
func (g *gate) enter(ctx context.Context, d *document) (ticket, error) {
	g.mu.Lock()
	if !g.closed {
		t := ticket{closure: g.closure}
		g.mu.Unlock()
		return t, nil
	}
	w := &waiter{d: d, leave: make(chan ticket, 1)}
	g.waiting = append(g.waiting, w)
	g.mu.Unlock()
	g.wake()
	return g.await(ctx, w, nil)
}

func (g *gate) await(ctx context.Context, w *waiter, company <-chan struct{}) (ticket, error) {
	select {
	case t := <-w.leave:
		return t, nil
	case <-company:
	case <-ctx.Done():
	}
	g.leave(w)
	select {
	case t := <-w.leave: // chosen in the moment it left
		if ctx.Err() != nil {
			g.giveBack(t)
		}
		return t, context.Cause(ctx)
	default:
		return ticket{}, context.Cause(ctx)
	}
}

func (g *gate) leave(w *waiter) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for i, other := range g.waiting {
		if other == w {
			g.waiting = append(g.waiting[:i], g.waiting[i+1:]...)
			return
		}
	}
}

// awaitCompany waits until another document was delivered after seen
// deliveries, or until d, which may not be sent again, is the canary whose
// turn it is: then its ticket must be given back by spent.
func (g *gate) awaitCompany(ctx context.Context, d *document, seen uint64) (ticket, error) {
	g.mu.Lock()
	if g.last > seen {
		g.mu.Unlock()
		return ticket{}, nil
	}
	w := &waiter{d: d, leave: make(chan ticket, 1)}
	company := g.company
	g.waiting = append(g.waiting, w)
	g.mu.Unlock()
	g.wake()
	for {
		t, err := g.await(ctx, w, company)
		if err != nil || t.canary || g.deliveries() > seen {
			return t, err
		}
		// The gate opened without a delivery that we count: wait on.
		g.mu.Lock()
		g.waiting = append(g.waiting, w)
		company = g.company
		g.mu.Unlock()
	}
}

func (g *gate) deliveries() uint64 {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.last
}

// valid reports whether the leave still holds: the gate has neither closed
// nor opened since.
func (g *gate) valid(t ticket) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return t.closure == g.closure
}

// giveBack returns an unused ticket; another canary may go in its place.
func (g *gate) giveBack(t ticket) {
	if !t.canary {
		return
	}
	g.mu.Lock()
	if t.closure == g.closure {
		g.canary = nil
	}
	g.mu.Unlock()
	g.wake()
}

// spent returns the ticket of a canary that ended without an answer of its
// own; the next one waits its turn.
func (g *gate) spent(t ticket, now time.Time) {
	g.mu.Lock()
	if t.canary && t.closure == g.closure {
		g.canary = nil
		g.delay(now, 0)
	}
	g.mu.Unlock()
	g.wake()
}

// answered tells the gate what became of the attempt it gave t for.
//
// An answer to an attempt that began before the gate closed neither opens it
// nor lengthens its wait (but for a Retry-After): nine answers of 429 to nine
// requests sent together are one push-back, and a delivery that was under way
// proves nothing about now.
func (g *gate) answered(t ticket, d *document, a stellar.Answer, now time.Time) {
	g.mu.Lock()
	defer g.wake()
	defer g.mu.Unlock()
	if a.Verdict == stellar.Delivered {
		g.delivered(t)
		return
	}
	switch {
	case a.Effect == stellar.EffectNone: // ours: the partition went away. It says nothing of the API
		if t.canary && t.closure == g.closure {
			g.canary = nil
		}
	case g.closed:
		g.stillClosed(t, a, now)
	case a.Effect == stellar.EffectCloses:
		g.close(a, now)
	case a.Effect == stellar.EffectCounts:
		g.failing[d] = struct{}{}
		if len(g.failing) >= failuresToClose {
			g.close(a, now)
		}
	}
}

func (g *gate) delivered(t ticket) {
	g.last++
	close(g.company)
	g.company = make(chan struct{})
	clear(g.failing)
	if !g.closed || t.closure != g.closure {
		return
	}
	g.closed, g.reason, g.canary = false, "", nil
	g.closure++
	g.changed(false, stellar.Answer{}) // first: those let go must find the concurrency at 1, not at that of before
	for _, w := range g.waiting {
		w.leave <- ticket{closure: g.closure}
	}
	g.waiting = nil
}

func (g *gate) close(a stellar.Answer, now time.Time) {
	g.closed, g.reason, g.since = true, a.Reason, now
	g.closure++
	g.canary = nil
	clear(g.failing)
	g.wait = fullJitter(mostWait)
	g.notYet = time.Time{}
	g.delay(now, a.RetryAfter)
	g.changed(true, a)
}

func (g *gate) stillClosed(t ticket, a stellar.Answer, now time.Time) {
	switch {
	case t.canary && t.closure == g.closure:
		g.canary = nil
		g.delay(now, a.RetryAfter)
		g.reason = a.Reason
		g.changed(true, a)
	case a.RetryAfter > 0:
		g.notBefore(now.Add(a.RetryAfter))
	}
}

// delay sets when the next canary may go: after a backoff, and never before
// what the API asked for.
func (g *gate) delay(now time.Time, retryAfter time.Duration) {
	if now.Sub(g.since) > patience {
		g.wait.MaxInterval = mostWaitLater / 2
	}
	g.asked = false
	g.notBefore(now.Add(max(g.wait.NextBackOff(), retryAfter)))
}

func (g *gate) notBefore(t time.Time) {
	if t.After(g.notYet) {
		g.notYet = t
	}
}

func (g *gate) wake() {
	select {
	case g.stir <- struct{}{}:
	default:
	}
}

// run sends the canaries, until ctx ends. The Bridge owns it.
func (g *gate) run(ctx context.Context) {
	for {
		wait := g.next(time.Now())
		var timer <-chan time.Time
		if wait > 0 {
			timer = time.After(wait)
		}
		select {
		case <-ctx.Done():
			return
		case <-g.stir:
		case <-timer:
		}
	}
}

// next sends a canary if one is due, and returns how long to wait before it
// looks again; 0 means until it is stirred.
func (g *gate) next(now time.Time) time.Duration {
	g.mu.Lock()
	if !g.closed || g.canary != nil {
		g.mu.Unlock()
		return 0
	}
	if wait := g.notYet.Sub(now); wait > 0 {
		g.mu.Unlock()
		return wait
	}
	i := g.longestUntried()
	if (i < 0 || !g.waiting[i].d.tried().IsZero()) && !g.asked && g.newcomer != nil {
		// All that wait were tried: a record beyond the room may show that
		// the fault is theirs. The lock is not held across the exposure's.
		g.asked = true
		g.mu.Unlock()
		if g.newcomer() {
			return time.Second // it is on its way here; if it never comes, go on without
		}
		return g.next(now)
	}
	defer g.mu.Unlock()
	if i < 0 {
		return 0
	}
	w := g.waiting[i]
	g.waiting = append(g.waiting[:i], g.waiting[i+1:]...)
	g.canary = w.d
	w.leave <- ticket{closure: g.closure, canary: true}
	return 0
}

// longestUntried is the index of the waiting document tried least recently,
// never tried first; -1 if none waits.
func (g *gate) longestUntried() int {
	best := -1
	for i, w := range g.waiting {
		if best < 0 || w.d.tried().Before(g.waiting[best].d.tried()) {
			best = i
		}
	}
	return best
}

// state is what the gate shows: since is zero while it is open.
func (g *gate) state() (closed bool, reason string, since time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.closed, g.reason, g.since
}
