package bridge

import (
	"context"
	"sync"
)

// slots bounds the attempts on the wire and finds out how many the API bears:
// one after the gate opens, doubled per window of answers until the first
// push-back, then one more per window in which the limit was reached; halved
// on a push-back. A window is as many answers as the limit. It reads no
// latencies: a refusal is a normal fast answer, and our own waits for the gate
// and the rate are no sign of the API's.
type slots struct {
	ceiling int

	mu      sync.Mutex
	limit   int
	inUse   int
	climb   bool // one more per window instead of twice as many
	answers int  // in this window
	reached bool // the limit was reached in this window
	era     uint64
	waiting []chan slot // capacity 1 each, first come, first served
}

// slot is the leave for one attempt. An answer to one that began before the
// last halving or restart belongs to the load before it: a push-back would
// halve for the same load twice, others would end the new window at once.
type slot struct{ era uint64 }

func newSlots(ceiling int) *slots { return &slots{ceiling: ceiling, limit: 1} }

// acquire waits for a slot; the caller owes release.
func (s *slots) acquire(ctx context.Context) (slot, error) {
	s.mu.Lock()
	if s.inUse < s.limit && len(s.waiting) == 0 {
		defer s.mu.Unlock()
		return s.take(), nil
	}
	s.reached = true
	c := make(chan slot, 1)
	s.waiting = append(s.waiting, c)
	s.mu.Unlock()
	select {
	case got := <-c:
		return got, nil
	case <-ctx.Done():
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, other := range s.waiting {
		if other == c {
			s.waiting = append(s.waiting[:i], s.waiting[i+1:]...)
			return slot{}, context.Cause(ctx)
		}
	}
	<-c // granted in the moment it left
	s.inUse--
	s.grant()
	return slot{}, context.Cause(ctx)
}

func (s *slots) take() slot {
	s.inUse++
	if s.inUse >= s.limit {
		s.reached = true
	}
	return slot{era: s.era}
}

func (s *slots) grant() {
	for len(s.waiting) > 0 && s.inUse < s.limit {
		s.waiting[0] <- s.take()
		s.waiting = s.waiting[1:]
	}
}

// giveBack returns a slot that was not used.
func (s *slots) giveBack() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.inUse--
	s.grant()
}

// release returns the slot of an attempt that was answered, or pushed back.
func (s *slots) release(got slot, pushBack bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.inUse--
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

// restart begins again at one attempt: the gate has opened.
func (s *slots) restart() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.limit, s.climb, s.answers, s.reached = 1, false, 0, false
	s.era++
}

func (s *slots) state() (limit, inUse int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.limit, s.inUse
}
