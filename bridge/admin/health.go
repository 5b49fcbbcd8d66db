package admin

import (
	"cmp"
	"maps"
	"slices"
	"sync"
	"time"
)

// Health is what one process knows of itself: why it is not ready, and which of its own loops still turn.
// The two are kept apart. A broker or API that is down makes the process not ready; only a loop of ours that
// stopped turning makes it dead, since a restart cures nothing else. The zero value is ready and alive; it is
// safe for concurrent use.
type Health struct {
	mu      sync.Mutex
	reasons map[string]Reason
	loops   map[string]loop
}

// Reason is one cause of not being ready.
type Reason struct {
	Key   string    `json:"key"`   // what NotReady was called with
	Text  string    `json:"text"`  // for the operator
	Since time.Time `json:"since"` // when the key became not ready, whatever the text was then
}

// loop is one heartbeat: a goroutine that promised to say so when it turns.
type loop struct {
	maxAge time.Duration
	beat   time.Time
}

// NotReady says under key why the process is not ready, until Ready is called with the same key. A second call
// replaces the text and keeps the time.
func (h *Health) NotReady(key, reason string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.reasons == nil {
		h.reasons = make(map[string]Reason)
	}
	since := time.Now()
	if old, ok := h.reasons[key]; ok {
		since = old.Since
	}
	h.reasons[key] = Reason{Key: key, Text: reason, Since: since}
}

// Ready takes back what NotReady said under key.
func (h *Health) Ready(key string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.reasons, key)
}

// Reasons returns the texts of all reasons, in the order of their keys; none means ready.
func (h *Health) Reasons() []string {
	var texts []string
	for _, r := range h.notReady() {
		texts = append(texts, r.Text)
	}
	return texts
}

// notReady returns all reasons in the order of their keys.
func (h *Health) notReady() []Reason {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.SortedFunc(maps.Values(h.reasons), func(a, b Reason) int { return cmp.Compare(a.Key, b.Key) })
}

// Watch expects a Beat of that name at least every maxAge from now on. A maxAge of zero or less ends the watch:
// a loop that has ended on purpose is not a stalled one.
func (h *Health) Watch(name string, maxAge time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if maxAge <= 0 {
		delete(h.loops, name)
		return
	}
	if h.loops == nil {
		h.loops = make(map[string]loop)
	}
	h.loops[name] = loop{maxAge: maxAge, beat: time.Now()}
}

// Beat says that the loop of that name turned. One that nobody watches is ignored, so that a last beat after the
// end of the watch brings nothing back.
func (h *Health) Beat(name string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if l, ok := h.loops[name]; ok {
		l.beat = time.Now()
		h.loops[name] = l
	}
}

// Stalled is a loop whose last beat is older than its watch allows.
type Stalled struct {
	Name        string
	Age, MaxAge time.Duration
}

// Stalled returns the loops that stopped turning, by name; none means alive.
func (h *Health) Stalled() []Stalled {
	h.mu.Lock()
	defer h.mu.Unlock()
	var stalled []Stalled
	for name, l := range h.loops {
		if age := time.Since(l.beat); age > l.maxAge {
			stalled = append(stalled, Stalled{Name: name, Age: age, MaxAge: l.maxAge})
		}
	}
	slices.SortFunc(stalled, func(a, b Stalled) int { return cmp.Compare(a.Name, b.Name) })
	return stalled
}
