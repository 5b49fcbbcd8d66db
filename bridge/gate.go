package bridge

import (
	"context"
	"maps"
	"slices"
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
	// vouches is for how long a delivery of a topic, none of which has failed
	// since, shows that the failures of others are not everybody's.
	vouches = 10 * time.Second
	// crowdedFor is how long all room must be held by documents that fail: as
	// long as the longest backoff, so each that may be sent was sent again.
	crowdedFor = mostWait
)

// gate is the process's shared pause. It closes when the destination, the
// network or our configuration is at fault, so that an outage costs one
// request now and then and no attempt of any record. Closed, it lets one
// canary through at a time; only a delivery opens it.
//
// A topic whose every document fails is not everybody's fault: it closes the
// gate only while no other topic is delivered, and keeps it closed for no
// other that has not failed.
type gate struct {
	// newcomer asks the exposure to let one record beyond the room through;
	// nil means there is none.
	newcomer func() bool
	spare    func() bool                    // likewise, but only while nobody else may go; nil: none
	crowded  func() (held int, waited bool) // the room that is held, and whether somebody waits for some
	turned   func()                         // called with mu held when it has closed or opens, before anybody is let go; must not block
	changed  func(closed bool, why stellar.Answer)

	mu      sync.Mutex
	closed  bool
	reason  string
	since   time.Time
	notYet  time.Time // no canary before
	closure uint64    // counts closures and openings: a ticket of another one is stale
	wait    *backoff.ExponentialBackOff
	failing map[*document]struct{} // failed since the last delivery
	topics  map[string]*standing
	toAll   bool          // what closed it concerns every topic
	canary  *document     // on its way
	beside  bool          // so is one of a topic that has not failed, beside that of one that has
	asked   bool          // a newcomer was asked for in this turn
	stir    chan struct{} // capacity 1: wakes run
	last    uint64        // deliveries so far, of whatever document
	company chan struct{} // closed at the next delivery; nil while nobody waits for that
	crowd   time.Time     // since when all room is held by documents that fail; zero: it is not
	news    []change      // that changed has still to hear of
	telling bool          // somebody is at it
}

// change is one that the gate tells of.
type change struct {
	closed bool
	why    stellar.Answer
}

// standing is what the gate knows of a topic; it forgets that in time.
type standing struct {
	waiting   []*waiter // at the closed gate, in order of arrival
	delivered time.Time // last
	failed    time.Time // last; zero once one was delivered since
	canary    time.Time // when its last one went
}

// innocent reports whether none of the topic has failed since its last
// delivery.
func (s *standing) innocent() bool { return s.failed.IsZero() }

// idle reports whether nothing of it matters any more.
func (s *standing) idle(now time.Time) bool {
	return len(s.waiting) == 0 && now.Sub(s.delivered) >= vouches && now.Sub(s.failed) >= forgotten && now.Sub(s.canary) >= forgotten
}

type waiter struct {
	d     *document
	leave chan ticket // capacity 1
}

// ticket is the gate's leave for one attempt.
type ticket struct {
	closure uint64
	canary  bool
	beside  bool // of another topic's canary
}

func newGate(newcomer func() bool, changed func(bool, stellar.Answer)) *gate {
	return &gate{
		newcomer: newcomer,
		turned:   func() {},
		changed:  changed,
		failing:  make(map[*document]struct{}),
		topics:   make(map[string]*standing),
		stir:     make(chan struct{}, 1),
	}
}

// topic is a topic's standing. Those that no longer matter are forgotten when
// a new one comes, or topics that come and go would add up.
func (g *gate) topic(name string, now time.Time) *standing {
	s := g.topics[name]
	if s == nil {
		maps.DeleteFunc(g.topics, func(_ string, s *standing) bool { return s.idle(now) })
		s = new(standing)
		g.topics[name] = s
	}
	return s
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
	g.join(w)
	g.mu.Unlock()
	g.wake()
	return g.await(ctx, w, nil)
}

func (g *gate) join(w *waiter) {
	s := g.topic(w.d.topic, time.Now())
	s.waiting = append(s.waiting, w)
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
	if s := g.topics[w.d.topic]; s != nil {
		s.leave(w)
	}
}

func (s *standing) leave(w *waiter) {
	if i := slices.Index(s.waiting, w); i >= 0 {
		s.waiting = slices.Delete(s.waiting, i, i+1)
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
	company := g.joinForCompany(w)
	g.mu.Unlock()
	g.wake()
	for {
		t, err := g.await(ctx, w, company)
		if err != nil || t.canary || g.deliveries() > seen {
			return t, err
		}
		// The gate opened without a delivery that we count: wait on.
		g.mu.Lock()
		company = g.joinForCompany(w)
		g.mu.Unlock()
	}
}

func (g *gate) joinForCompany(w *waiter) (company <-chan struct{}) {
	g.join(w)
	if g.company == nil {
		g.company = make(chan struct{})
	}
	return g.company
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
	g.back(t)
	g.mu.Unlock()
	g.wake()
}

// back notes that a canary is no longer on its way; false if it was none of
// this closure.
func (g *gate) back(t ticket) bool {
	switch {
	case !t.canary || t.closure != g.closure:
		return false
	case t.beside:
		g.beside = false
	default:
		g.canary = nil
	}
	return true
}

// spent returns the ticket of a canary that ended without an answer of its
// own; the next one waits its turn.
func (g *gate) spent(t ticket, now time.Time) {
	g.mu.Lock()
	if g.back(t) {
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
	before := g.closed
	defer func() {
		concerned, changed := before || g.closed, len(g.news) > 0
		g.mu.Unlock()
		if concerned { // else run has nothing to do
			g.wake()
		}
		if changed {
			g.tell()
		}
	}()
	if a.Verdict == stellar.Delivered {
		g.delivered(t, d, now)
		return
	}
	if a.Effect != stellar.EffectNone {
		g.topic(d.topic, now).failed = now
	}
	switch {
	case a.Effect == stellar.EffectNone: // ours: the partition went away. It says nothing of the API
		g.back(t)
	case g.closed:
		g.stillClosed(t, a, now)
	case a.Effect == stellar.EffectCloses:
		g.close(a, now)
	case a.Effect == stellar.EffectCounts:
		if len(g.failing) < failuresToClose { // they are more while another topic vouches for the API
			g.failing[d] = struct{}{}
		}
		if len(g.failing) >= failuresToClose && !g.vouched(now) {
			g.close(a, now)
		}
	}
}

// tell tells of what has changed, in order and without mu: a log that is slow to
// take it must hold up no delivery. Whoever is at it tells also of what comes
// meanwhile.
func (g *gate) tell() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.telling {
		return
	}
	g.telling = true
	for len(g.news) > 0 {
		c := g.news[0]
		g.news = g.news[1:]
		g.mu.Unlock()
		g.changed(c.closed, c.why)
		g.mu.Lock()
	}
	g.telling = false
}

// vouched reports whether a topic is being delivered, none of which fails. In
// an outage the next answer to it says otherwise.
func (g *gate) vouched(now time.Time) bool {
	for _, s := range g.topics {
		if s.innocent() && now.Sub(s.delivered) < vouches {
			return true
		}
	}
	return false
}

func (g *gate) delivered(t ticket, d *document, now time.Time) {
	s := g.topic(d.topic, now)
	s.delivered, s.failed = now, time.Time{}
	g.last++
	if g.company != nil {
		close(g.company)
		g.company = nil
	}
	clear(g.failing)
	g.crowd = time.Time{}
	if !g.closed || t.closure != g.closure {
		return
	}
	g.closed, g.reason, g.canary, g.beside = false, "", nil, false
	g.closure++
	g.turned() // first: those let go must find the concurrency at 1, not at that of before
	g.news = append(g.news, change{})
	for _, s := range g.topics {
		for _, w := range s.waiting {
			w.leave <- ticket{closure: g.closure}
		}
		s.waiting = nil
	}
}

func (g *gate) close(a stellar.Answer, now time.Time) {
	g.closed, g.reason, g.since = true, a.Reason, now
	g.closure++
	g.canary, g.beside, g.crowd = nil, false, time.Time{}
	g.toAll = a.Effect == stellar.EffectCloses
	clear(g.failing)
	g.turned()
	g.wait = fullJitter(mostWait)
	g.notYet = time.Time{}
	g.delay(now, a.RetryAfter)
	g.news = append(g.news, change{true, a})
}

func (g *gate) stillClosed(t ticket, a stellar.Answer, now time.Time) {
	switch {
	case g.back(t):
		g.toAll = g.toAll || a.Effect == stellar.EffectCloses
		g.delay(now, a.RetryAfter)
		g.reason = a.Reason
		g.news = append(g.news, change{true, a})
	case a.RetryAfter > 0:
		g.toAll = true
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
	s := g.turn()
	beside := g.canary != nil
	if !g.closed && s != nil && g.spare != nil {
		// They wait for company, which may be waiting for the room they hold.
		g.mu.Unlock()
		if !g.spare() {
			g.closeIfCrowded(now)
		}
		return time.Second
	}
	if !g.closed || beside && !g.mayGoBeside(s) {
		g.mu.Unlock()
		return 0
	}
	if wait := g.notYet.Sub(now); wait > 0 && (g.toAll || s == nil || !s.innocent()) {
		g.mu.Unlock()
		return wait
	}
	var w *waiter
	if s != nil {
		w = s.longestUntried()
	}
	if (w == nil || !w.d.tried().IsZero()) && !g.asked && g.newcomer != nil && !beside {
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
	if w != nil {
		s.leave(w)
		s.canary = now
		if beside {
			g.beside = true
		} else {
			g.canary = w.d
		}
		w.leave <- ticket{closure: g.closure, canary: true, beside: beside}
	}
	return 0
}

// closeIfCrowded closes the gate when documents that fail hold all the room
// that is held, while others wait for some and get none. However few they are,
// no other can be delivered before one of them makes place, as a canary: where
// there is room for fewer than failuresToClose they would wait for ever.
func (g *gate) closeIfCrowded(now time.Time) {
	held, waited := g.crowded()
	g.mu.Lock()
	s := g.turn()
	switch {
	case g.closed || s == nil || !waited || g.failingRoom() < held:
		g.crowd = time.Time{}
	case g.crowd.IsZero():
		g.crowd = now
	case now.Sub(g.crowd) >= crowdedFor:
		g.close(s.waiting[0].d.last, now)
	}
	g.mu.Unlock()
	g.tell()
}

// failingRoom is the room of the records that fail, or wait for company. The
// caller holds the lock.
func (g *gate) failingRoom() (room int) {
	counted := make(map[*record]bool)
	count := func(d *document) {
		if !counted[d.r] {
			counted[d.r] = true
			room += d.r.holds()
		}
	}
	for d := range g.failing {
		count(d)
	}
	for _, s := range g.topics {
		for _, w := range s.waiting {
			count(w.d)
		}
	}
	return room
}

// mayGoBeside reports whether a topic may send its canary beside another's: it
// has not failed and the other's has, and may take its timeout to do so again.
func (g *gate) mayGoBeside(s *standing) bool {
	other := g.topics[g.canary.topic]
	return !g.beside && !g.toAll && s != nil && s.innocent() && other != nil && !other.innocent()
}

// turn is the topic whose turn it is to send the canary, nil if nobody waits:
// one that has not failed, of several the one whose last is longest ago. Unless
// what closed the gate is told to all, a topic that has not failed does not
// wait for the backoff either: the failures were of others.
func (g *gate) turn() (best *standing) {
	for _, s := range g.topics {
		if len(s.waiting) > 0 && (best == nil || s.before(best)) {
			best = s
		}
	}
	return best
}

func (s *standing) before(other *standing) bool {
	if s.innocent() != other.innocent() {
		return s.innocent()
	}
	return s.canary.Before(other.canary)
}

// longestUntried is the waiting document of the topic tried least recently,
// never tried first.
func (s *standing) longestUntried() *waiter {
	best := s.waiting[0]
	for _, w := range s.waiting {
		if w.d.tried().Before(best.d.tried()) {
			best = w
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
