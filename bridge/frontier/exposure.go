package frontier

import (
	"context"
	"slices"
	"sync"

	"serbridge/bridge/turns"
)

// Room is what records hold in an Exposure, in documents. That of records of several documents is counted apart.
type Room struct{ One, Several int }

// RoomOf is the room of one record.
func RoomOf(documents int) Room {
	if documents > 1 {
		return Room{Several: documents}
	}
	return Room{One: documents}
}

// Units is the room in documents.
func (r Room) Units() int { return r.One + r.Several }

// Plus is the room of both.
func (r Room) Plus(o Room) Room { return Room{r.One + o.One, r.Several + o.Several} }

func (r Room) minus(o Room) Room { return Room{r.One - o.One, r.Several - o.Several} }

// Exposure is a member's bound on repeats: how many documents a crash at this moment could send again. A record takes
// room, one unit per document, before its first attempt, and holds it until an acknowledged commit covers it, or it is
// fenced, or everything tried of it is known not to be stored.
//
// It starts no goroutine. Safe for concurrent use.
type Exposure struct {
	max int

	mu     sync.Mutex
	held   Room
	shared bool                // by several topics
	line   turns.Line[*waiter] // nobody waits who may go. It knows of the room of records of one document only
	first  []*waiter           // at their partition's base: before the line, and they may take the last unit
}

type waiter struct {
	topic   string
	n       int
	fresh   bool
	atBase  func() bool   // nil: never
	has     bool          // the room was given
	granted chan struct{} // closed, under the lock, when it is; nil while nobody waits for that
}

// NewExposure returns a bound of max documents (MAX_REPEATS); 0 or less is no bound, then room is only counted.
func NewExposure(max int) *Exposure {
	return &Exposure{max: max}
}

// Acquire waits until fewer than max-1 units are held, then takes n, however many they are. (The last unit is for a
// canary: GrantLast. With a max of 1 there is no other, and all use it.) So records of one document never hold more than
// max, larger ones a record's size more. Who waits is served topic by topic in turn, within a topic first come, first
// served. fresh says that the record was never tried.
//
// Records of several documents leave an eighth of the room to those of one, who pass them meanwhile. A large record keeps
// its room until the last of its documents is settled, and one that fails is given up only once others are delivered:
// without that eighth they would wait for it, and it for them, for ever.
//
// The error is the context's; then nothing is held.
func (e *Exposure) Acquire(ctx context.Context, topic string, n int, fresh bool) error {
	return e.AcquireAtBase(ctx, topic, n, fresh, nil)
}

// AcquireAtBase is Acquire for a record that goes before all others and may take the last unit once it is at its
// partition's base: then, where commits cannot say all that is settled above the base, only its end gives that room
// back, and behind the others it would wait for room that waits for it. atBase is asked here and by Look, with the lock
// held.
func (e *Exposure) AcquireAtBase(ctx context.Context, topic string, n int, fresh bool, atBase func() bool) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	w := &waiter{topic: topic, n: max(n, 0), fresh: fresh, atBase: atBase}
	if e.join(w) {
		return nil
	}
	select {
	case <-w.granted:
		return nil
	case <-ctx.Done():
		e.leave(w)
		return ctx.Err()
	}
}

// Look asks those that wait whether they are at the base by now. The caller does so now and then.
func (e *Exposure) Look() {
	e.mu.Lock()
	defer e.mu.Unlock()
	for topic, w := range e.line.All() {
		if w.atBase != nil && w.atBase() {
			e.line.Leave(topic, w)
			e.first = append(e.first, w)
		}
	}
	e.grant()
}

// join reports whether there is room at once.
func (e *Exposure) join(w *waiter) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if w.atBase != nil && w.atBase() {
		e.first = append(e.first, w)
	} else {
		e.line.Join(w.topic, w)
	}
	e.grant()
	if !w.has {
		w.granted = make(chan struct{})
	}
	return w.has
}

// leave takes a waiter out whose context ended. The grant may have come at the same moment: it is given back, or the
// room would be lost until the restart.
func (e *Exposure) leave(w *waiter) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if i := slices.Index(e.first, w); i >= 0 {
		e.first = slices.Delete(e.first, i, i+1)
		return
	}
	if e.line.Leave(w.topic, w) {
		return
	}
	e.release(w.topic, RoomOf(w.n))
}

// grant serves those who wait while there is room. Called with the lock held after every change.
func (e *Exposure) grant() {
	e.first = slices.DeleteFunc(e.first, func(w *waiter) bool {
		goes := e.max <= 0 || e.taken() < e.max && e.admits(w)
		if goes {
			e.take(w)
			e.give(w)
		}
		return goes
	})
	for e.line.Len() > 0 {
		topic, w, ok := e.line.Find(e.admits)
		if !ok || !e.hasRoom(topic) {
			return // nor has any other, of which no less is held
		}
		e.serve(w)
	}
}

// leaves is what part of the room that the others leave it a topic leaves in turn, and what part records of several
// documents leave to those of one.
const leaves = 8

// ordinary is the room without the last unit.
func (e *Exposure) ordinary() int { return max(e.max-1, 1) }

// mostOfSeveral is how much of the room records of several documents may take from those of one.
func (e *Exposure) mostOfSeveral() int {
	if e.ordinary() < 2 {
		return e.ordinary()
	}
	return e.ordinary() - max(1, e.ordinary()/leaves)
}

// taken is how much of the room is no longer there for records of one document.
func (e *Exposure) taken() int { return e.held.One + min(e.held.Several, e.mostOfSeveral()) }

// admits reports whether a record may be served once there is room. Of several documents only while those like it have
// not taken their part: so no more than one of them is ever beyond the room.
func (e *Exposure) admits(w *waiter) bool {
	return w.n <= 1 || e.max <= 0 || e.held.Several == 0 || e.held.Several < e.mostOfSeveral()
}

func (e *Exposure) hasRoom(topic string) bool {
	free := e.ordinary() - e.taken()
	if !e.shared || e.max < 4 {
		return e.max <= 0 || free > 0
	}
	return free > max(1, (free+e.line.Held(topic))/leaves)
}

func (e *Exposure) serve(w *waiter) {
	e.line.Serve(w.topic, w, RoomOf(w.n).One)
	e.give(w)
}

// take is serve for one who is not in the line.
func (e *Exposure) take(w *waiter) { e.line.Take(w.topic, RoomOf(w.n).One) }

func (e *Exposure) give(w *waiter) {
	e.held = e.held.Plus(RoomOf(w.n))
	w.has = true
	if w.granted != nil {
		close(w.granted)
	}
}

// Share says whether several topics are consumed. Then none takes all of the room, but for the last units: records of one
// that fails keep theirs at a closed gate, and for as long as it is unknown whether they are stored, and whoever comes
// would wait for that.
func (e *Exposure) Share(several bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.shared = several
	e.grant()
}

// GrantLast gives the last unit to a new canary: the first waiter never tried before, or else the first waiter. False
// if nobody waits or the last unit is held too. The caller is the gate, which must let only one canary go at a time.
func (e *Exposure) GrantLast() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.grantLast()
}

// GrantSpare is GrantLast while all but the last unit is taken: what topics leave to others stays theirs.
func (e *Exposure) GrantSpare() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.taken() >= e.ordinary() && e.grantLast()
}

func (e *Exposure) grantLast() bool {
	if e.taken() >= e.max {
		return false
	}
	_, w, ok := e.line.Find(func(w *waiter) bool { return w.fresh && e.admits(w) })
	if !ok {
		_, w, ok = e.line.Find(e.admits)
	}
	if ok {
		e.serve(w)
	}
	return ok
}

// Release gives the room of one record of n documents back. It panics when more is given back than is held: that is a
// fault of ours, and silence would lift the bound.
func (e *Exposure) Release(topic string, n int) { e.ReleaseAll(topic, RoomOf(max(n, 0))) }

// ReleaseAll is Release for records of a topic together.
func (e *Exposure) ReleaseAll(topic string, r Room) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.release(topic, r)
}

func (e *Exposure) release(topic string, r Room) {
	e.line.Give(topic, r.One)
	if e.held = e.held.minus(r); e.held.Several < 0 {
		panic("exposure: more given back than held")
	}
	e.grant()
}

// Held returns the units held: what a crash now could send again (metric serbridge_exposure_documents).
func (e *Exposure) Held() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.held.Units()
}

// Waiting returns how many records wait for room.
func (e *Exposure) Waiting() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return len(e.first) + e.line.Len()
}
