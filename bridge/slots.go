package bridge

import (
	"context"
	"sync"

	"serbridge/bridge/turns"
)

// slots bounds the attempts on the wire and finds out how many the API bears:
// one after the gate opens, doubled per window of answers until the first
// push-back, then one more per window in which the limit was reached; halved
// on a push-back. A window is as many answers as the limit. It reads no
// latencies: a refusal is a normal fast answer, and our own waits for the gate
// and the rate are no sign of the API's.
//
// Those who wait are served topic by topic in turn. While there are several
// topics, one attempt of one that has none on the wire may go beside the limit,
// within the ceiling: a topic whose every document is slow would keep a lone
// record of another waiting for one of its answers.
type slots struct {
	ceiling int

	mu       sync.Mutex
	several  bool // topics are consumed
	limit    int
	inUse    int
	before   int  // of those in use, on the wire since before the last restart
	beside   int  // of those in use since then, beside the limit: 0 or 1
	climb    bool // one more per window instead of twice as many
	answers  int  // in this window
	reached  bool // the limit was reached in this window
	era      uint64
	restarts uint64
	line     turns.Line[chan slot] // capacity 1 each
}

// slot is the leave for one attempt. An answer to one that began before the
// last halving or restart belongs to the load before it: a push-back would
// halve for the same load twice, others would end the new window at once.
type slot struct {
	topic    string
	era      uint64
	restarts uint64
	beside   bool
}

func newSlots(ceiling int) *slots { return &slots{ceiling: ceiling, limit: 1} }

// share says whether several topics are consumed.
func (s *slots) share(several bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.several = several
	s.grant()
}

// acquire waits for a slot; the caller owes release or giveBack.
func (s *slots) acquire(ctx context.Context, topic string) (slot, error) {
	s.mu.Lock()
	if s.free() && s.line.Len() == 0 {
		defer s.mu.Unlock()
		s.line.Take(topic, 1)
		return s.take(topic), nil
	}
	s.reached = true
	c := make(chan slot, 1)
	s.line.Join(topic, c)
	s.grant()
	s.mu.Unlock()
	select {
	case got := <-c:
		return got, nil
	case <-ctx.Done():
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.line.Leave(topic, c) {
		s.give(<-c) // granted in the moment it left
		s.grant()
	}
	return slot{}, context.Cause(ctx)
}

// free reports whether one more may go. An attempt from before the restart is
// no load that we try now: one that waits for its timeout would keep the only
// slot for as long. The ceiling holds for all.
func (s *slots) free() bool {
	ceiling := s.ceiling
	if s.several && ceiling > 1 {
		ceiling-- // the last is for the one beside
	}
	return s.inUse-s.before-s.beside < s.limit && s.inUse-s.beside < ceiling
}

// freeBeside reports whether one of the topic may go beside the limit.
func (s *slots) freeBeside(topic string) bool {
	return s.several && s.beside == 0 && s.inUse < s.ceiling && s.line.Held(topic) == 0
}

func (s *slots) take(topic string) slot {
	s.inUse++
	if !s.free() {
		s.reached = true
	}
	return slot{topic: topic, era: s.era, restarts: s.restarts}
}

func (s *slots) takeBeside(topic string) slot {
	s.beside++
	got := s.take(topic)
	got.beside = true
	return got
}

func (s *slots) give(got slot) {
	s.inUse--
	switch {
	case got.restarts != s.restarts:
		s.before--
	case got.beside:
		s.beside--
	}
	s.line.Give(got.topic, 1)
}

func (s *slots) grant() {
	for s.line.Len() > 0 {
		topic, c, _ := s.line.Next() // of the topic that has least: if this one has some, so has every other
		take := s.take
		switch {
		case s.free():
		case s.freeBeside(topic):
			take = s.takeBeside
		default:
			return
		}
		s.line.Serve(topic, c, 1)
		c <- take(topic)
	}
}

// giveBack returns a slot that was not used.
func (s *slots) giveBack(got slot) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.give(got)
	s.grant()
}

// release returns the slot of an attempt that was answered, or pushed back.
func (s *slots) release(got slot, pushBack bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.give(got)
	switch {
	case pushBack && got.era == s.era:
		s.limit = max(1, s.limit/2)
		s.climb = true
		s.era++
		s.answers, s.reached = 0, false
	case !pushBack && got.era == s.era:
		s.window()
	}
	s.grant()
}

func (s *slots) window() {
	s.answers++
	if s.answers < s.limit {
		return
	}
	if !s.climb {
		s.limit = min(s.ceiling, 2*s.limit)
	} else if s.reached {
		s.limit = min(s.ceiling, s.limit+1)
	}
	s.answers, s.reached = 0, false
}

// restart begins again at one attempt: the gate has opened, or closed, and what
// is on the wire shall not keep its canary.
func (s *slots) restart() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.limit, s.climb, s.answers, s.reached = 1, false, 0, false
	s.era++
	s.restarts++
	s.before, s.beside = s.inUse, 0
	s.grant()
}

func (s *slots) state() (limit, inUse int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.limit, s.inUse
}

// waiting is how many attempts wait for a slot.
func (s *slots) waiting() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.line.Len()
}
