package admin

import (
	"cmp"
	"slices"
	"sync"
	"time"
)

// The bounds on what a Journal keeps.
const (
	mostFailures = 20
	mostReasons  = 50
	mostPlaces   = 3 // of each reason
)

// Event is something that went wrong with one record: why and where, never what the record holds.
type Event struct {
	At        time.Time
	Reason    string // of the closed set that metrics use too
	Topic     string
	Partition int32
	Offset    int64
}

// Rejects are the dead letters of one reason since the process began.
type Rejects struct {
	Reason string
	Count  int
	Last   []Event // the newest first, three at most
}

// Journal remembers the last failures for the page. The zero value is empty; it is bounded, and safe for concurrent use.
type Journal struct {
	mu       sync.Mutex
	failures []Event
	rejects  map[string]*Rejects
}

// Failed notes an attempt that did not deliver.
func (j *Journal) Failed(e Event) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.failures = newest(j.failures, e, mostFailures)
}

// Rejected notes a dead letter.
func (j *Journal) Rejected(e Event) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.rejects == nil {
		j.rejects = make(map[string]*Rejects)
	}
	if j.rejects[e.Reason] == nil && len(j.rejects) >= mostReasons {
		e.Reason = "other"
	}
	r := j.rejects[e.Reason]
	if r == nil {
		r = &Rejects{Reason: e.Reason}
		j.rejects[e.Reason] = r
	}
	r.Count++
	r.Last = newest(r.Last, e, mostPlaces)
}

// newest is es with e in front, cut to most; it reuses es.
func newest(es []Event, e Event, most int) []Event {
	if len(es) < most {
		es = append(es, Event{})
	}
	copy(es[1:], es)
	es[0] = e
	return es
}

// Failures are the last ones, the newest first.
func (j *Journal) Failures() []Event {
	j.mu.Lock()
	defer j.mu.Unlock()
	return slices.Clone(j.failures)
}

// Rejects are those of each reason, the most frequent first.
func (j *Journal) Rejects() (all []Rejects) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, r := range j.rejects {
		all = append(all, Rejects{r.Reason, r.Count, slices.Clone(r.Last)})
	}
	slices.SortFunc(all, func(a, b Rejects) int { return cmp.Or(b.Count-a.Count, cmp.Compare(a.Reason, b.Reason)) })
	return all
}
