// Package turns says whose turn it is where records of several topics wait for one scarce thing: room, slots. A topic
// whose every document fails has more waiting than all others together; first come, first served, they would wait for
// each of its attempts.
package turns

import (
	"iter"
	"slices"
)

// Line is a line of waiters. Next is one of the topic that holds least, of several such the one served longest ago;
// within a topic, first come, first served. So a topic gets what it asks for up to its even part, however many wait of
// another or however long that one keeps what it has; alone, it gets all.
//
// The zero Line is ready. It forgets a topic that neither waits nor holds. It has no lock: its owner has.
type Line[W comparable] struct {
	topics  map[string]*topic[W]
	waiting int
	clock   uint64 // counts turns
}

type topic[W comparable] struct {
	waiters []W
	held    int
	served  uint64 // when it last had a turn, or came
}

// Join puts a waiter last among those of its topic.
func (l *Line[W]) Join(of string, w W) {
	t := l.topic(of)
	t.waiters = append(t.waiters, w)
	l.waiting++
}

// Leave takes a waiter out; false if it does not wait.
func (l *Line[W]) Leave(of string, w W) bool {
	t := l.topics[of]
	if t == nil {
		return false
	}
	switch i := slices.Index(t.waiters, w); i {
	case -1:
		return false
	case 0:
		var none W
		t.waiters[0] = none
		t.waiters = t.waiters[1:]
	default:
		t.waiters = slices.Delete(t.waiters, i, i+1)
	}
	l.waiting--
	l.forget(of, t)
	return true
}

// Next returns whose turn it is, and leaves the line as it was.
func (l *Line[W]) Next() (of string, w W, ok bool) {
	return l.Find(func(W) bool { return true })
}

// Find is Next among the waiters that are as asked for.
func (l *Line[W]) Find(is func(W) bool) (of string, w W, ok bool) {
	var best *topic[W]
	for name, t := range l.topics {
		if len(t.waiters) == 0 || best != nil && !t.before(best) {
			continue
		}
		if i := slices.IndexFunc(t.waiters, is); i >= 0 {
			of, w, best = name, t.waiters[i], t
		}
	}
	return of, w, best != nil
}

func (t *topic[W]) before(other *topic[W]) bool {
	if t.held != other.held {
		return t.held < other.held
	}
	return t.served < other.served
}

// Serve takes a waiter out, for whom its topic holds n more: it was its turn.
func (l *Line[W]) Serve(of string, w W, n int) {
	l.Take(of, n)
	l.clock++
	l.topics[of].served = l.clock
	l.Leave(of, w)
}

// Take notes that a topic holds n more.
func (l *Line[W]) Take(of string, n int) {
	if n > 0 { // or one that holds nothing would be remembered
		l.topic(of).held += n
	}
}

// Give notes that a topic holds n less. It panics when that is more than it holds: a fault of ours, in which silence
// would lift a bound.
func (l *Line[W]) Give(of string, n int) {
	t := l.topics[of]
	if n == 0 && t == nil {
		return
	}
	if t == nil || n > t.held {
		panic("turns: more given back than held")
	}
	t.held -= n
	l.forget(of, t)
}

// Held is how much a topic holds.
func (l *Line[W]) Held(of string) int {
	if t := l.topics[of]; t != nil {
		return t.held
	}
	return 0
}

// Len is how many wait.
func (l *Line[W]) Len() int { return l.waiting }

// All are those who wait, with their topics, in no order of topics. They may leave meanwhile.
func (l *Line[W]) All() iter.Seq2[string, W] {
	return func(yield func(string, W) bool) {
		for name, t := range l.topics {
			for _, w := range slices.Clone(t.waiters) {
				if !yield(name, w) {
					return
				}
			}
		}
	}
}

// Topics is how many topics are remembered.
func (l *Line[W]) Topics() int { return len(l.topics) }

func (l *Line[W]) topic(name string) *topic[W] {
	t := l.topics[name]
	if t == nil {
		if l.topics == nil {
			l.topics = make(map[string]*topic[W])
		}
		// A topic that comes has had its turn just now: one that went and
		// came back each time would else be before all others.
		l.clock++
		t = &topic[W]{served: l.clock}
		l.topics[name] = t
	}
	return t
}

func (l *Line[W]) forget(name string, t *topic[W]) {
	if t.held == 0 && len(t.waiters) == 0 {
		delete(l.topics, name)
	}
}
