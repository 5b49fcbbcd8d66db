package bridge

import (
	"sync"
	"time"

	"serbridge/bridge/stellar"
)

const (
	refusalsToOwn     = 3                // refusals that make a fault the document's own
	serverFaultsToOwn = 8                // and answers of 5xx,
	serverFaultSpan   = 2 * time.Minute  // which must also spread over this long
	healedFor         = 2 * time.Minute  // how long a recovery from a fault acquits all documents of it
	newFault          = 5 * time.Second  // how long a way to fail must be known before it can be anybody's own,
	forgotten         = 10 * time.Minute // and how long nobody must have failed so for it to be new again
)

// serverFault is the one way to fail that all answers of 5xx share.
const serverFault = "server_fault"

// faults tells the documents' own faults from everybody's, by comparison: a
// failure is a document's own when the unchanged document failed in the same
// way again and again, each time after another document was delivered, and
// nobody recovers from failing in this way. So neither an outage nor half a
// broken cluster can drain a topic into the dead-letter topic.
type faults struct {
	mu     sync.Mutex
	healed map[string]time.Time // way → when a document that had failed so was last delivered unchanged
	struck map[string]spell     // way → since when somebody fails so
}

// spell is a time in which a way to fail is met again and again.
type spell struct{ first, last time.Time }

func newFaults() *faults {
	return &faults{healed: make(map[string]time.Time), struck: make(map[string]spell)}
}

// failure counts one document's failures of one way.
type failure struct {
	count      int
	deliveries uint64 // of the process, at the last failure that counted
	first      time.Time
}

// way names how an attempt failed, "" when it says nothing of the document.
func way(a stellar.Answer) string {
	switch {
	case a.Verdict == stellar.Refused:
		return a.Reason
	case a.ServerFault:
		return serverFault
	}
	return ""
}

// own records the failure a of d and reports whether it is now proven to be
// the document's own. deliveries counts those of all documents so far.
func (f *faults) own(d *document, a stellar.Answer, deliveries uint64, now time.Time) bool {
	w := way(a)
	if w == "" {
		return false
	}
	known := f.strike(w, now)
	if d.failures == nil {
		d.failures = make(map[string]*failure)
	}
	e := d.failures[w]
	if e == nil {
		e = &failure{first: now}
		d.failures[w] = e
	}
	if e.count == 0 || deliveries > e.deliveries {
		e.count++
		e.deliveries = deliveries
	}
	if w == serverFault {
		return e.count >= serverFaultsToOwn && now.Sub(e.first) >= serverFaultSpan && !f.heals(w, now)
	}
	return e.count >= refusalsToOwn && known >= newFault && !f.heals(w, now)
}

// strike notes that somebody fails so, and returns for how long that has been.
// When half a cluster begins to refuse, nobody has recovered from it yet: three
// unlucky refusals in its first second prove nothing.
func (f *faults) strike(way string, now time.Time) (known time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	s, ok := f.struck[way]
	if !ok || now.Sub(s.last) >= forgotten {
		s.first = now
	}
	s.last = now
	f.struck[way] = s
	return now.Sub(s.first)
}

func (f *faults) heals(way string, now time.Time) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	at, ok := f.healed[way]
	return ok && now.Sub(at) < healedFor
}

// delivered records that d was: unchanged, it acquits every way it had failed.
// The set of ways is that of the statuses, so the map stays small.
func (f *faults) delivered(d *document, now time.Time) {
	if d.rung > 0 || len(d.failures) == 0 {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for w := range d.failures {
		f.healed[w] = now
	}
}
