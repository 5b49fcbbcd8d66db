package frontier

import (
	"context"
	"slices"
	"sync"
)

// Exposure is a member's bound on repeats: how many documents a crash at this moment could send again. A record takes
// room, one unit per document, before its first attempt, and holds it until an acknowledged commit covers it, or it is
// fenced, or everything tried of it is known not to be stored.
//
// It starts no goroutine. Safe for concurrent use.
type Exposure struct {
	max int

	mu      sync.Mutex
	held    int
	waiters []*waiter // first come first; empty while there is room
}

type waiter struct {
	n       int
	fresh   bool
	atBase  func() bool   // nil: never
	first   bool          // atBase said so: may take the last unit
	granted chan struct{} // closed, under the lock, when the room is given
}

// NewExposure returns a bound of max documents (MAX_REPEATS); 0 or less is no bound, then room is only counted.
func NewExposure(max int) *Exposure {
	return &Exposure{max: max}
}

// Acquire waits, first come first served, until fewer than max-1 units are held, then takes n, however many they are.
// (The last unit is for a canary: GrantLast. With a max of 1 there is no other, and all use it.) So records of one
// document never hold more than max, larger ones a record's size more. fresh says that the record was never tried.
//
// The error is the context's; then nothing is held.
func (e *Exposure) Acquire(ctx context.Context, n int, fresh bool) error {
	return e.acquire(ctx, &waiter{n: max(n, 0), fresh: fresh, granted: make(chan struct{})})
}

// AcquireAtBase is Acquire for a record that goes before all others and may take the last unit once it is at its
// partition's base: then, where commits cannot say all that is settled above the base, only its end gives that room
// back, and behind the others it would wait for room that waits for it. atBase is asked here and by Look, with the lock
// held.
func (e *Exposure) AcquireAtBase(ctx context.Context, n int, fresh bool, atBase func() bool) error {
	return e.acquire(ctx, &waiter{n: max(n, 0), fresh: fresh, atBase: atBase, granted: make(chan struct{})})
}

// Look asks those that wait whether they are at the base by now. The caller does so now and then.
func (e *Exposure) Look() {
	e.mu.Lock()
	defer e.mu.Unlock()
	for i, w := range e.waiters {
		if !w.first && w.atBase != nil && w.atBase() {
			w.first = true
			e.waiters = slices.Insert(slices.Delete(e.waiters, i, i+1), 0, w)
		}
	}
	e.grant()
}

func (e *Exposure) acquire(ctx context.Context, w *waiter) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	e.join(w)
	select {
	case <-w.granted:
		return nil
	case <-ctx.Done():
		e.leave(w)
		return ctx.Err()
	}
}

func (e *Exposure) join(w *waiter) {
	e.mu.Lock()
	defer e.mu.Unlock()
	at := len(e.waiters)
	if w.first = w.atBase != nil && w.atBase(); w.first {
		at = 0
	}
	e.waiters = slices.Insert(e.waiters, at, w)
	e.grant()
}

// leave takes a waiter out whose context ended. The grant may have come at the same moment: it is given back, or the
// room would be lost until the restart.
func (e *Exposure) leave(w *waiter) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if i := slices.Index(e.waiters, w); i >= 0 {
		e.waiters = slices.Delete(e.waiters, i, i+1)
		return
	}
	e.held -= w.n
	e.grant()
}

// grant serves the queue while there is room. Called with the lock held after every change.
func (e *Exposure) grant() {
	for len(e.waiters) > 0 && e.hasRoom(e.waiters[0]) {
		e.give(0)
	}
}

func (e *Exposure) hasRoom(w *waiter) bool {
	return e.max <= 0 || e.held < max(e.max-1, 1) || w.first && e.held < e.max
}

func (e *Exposure) give(i int) {
	w := e.waiters[i]
	e.waiters = slices.Delete(e.waiters, i, i+1)
	e.held += w.n
	close(w.granted)
}

// GrantLast gives the last unit to a new canary: the first waiter never tried before, or else the first waiter. False
// if nobody waits or the last unit is held too. The caller is the gate, which must let only one canary go at a time.
func (e *Exposure) GrantLast() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.waiters) == 0 || e.held >= e.max {
		return false
	}
	e.give(max(0, slices.IndexFunc(e.waiters, func(w *waiter) bool { return w.fresh })))
	return true
}

// Release gives n units back. It panics when more is given back than is held: that is a fault of ours, and silence
// would lift the bound.
func (e *Exposure) Release(n int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if n > e.held {
		panic("frontier: more room released than held")
	}
	e.held -= max(n, 0)
	e.grant()
}

// Held returns the units held: what a crash now could send again (metric serbridge_exposure_documents).
func (e *Exposure) Held() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.held
}

// Waiting returns how many records wait for room.
func (e *Exposure) Waiting() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return len(e.waiters)
}
