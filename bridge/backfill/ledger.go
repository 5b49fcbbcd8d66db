package backfill

import (
	"context"
	"maps"
	"sync"

	"serbridge/bridge"
)

// Ledger counts what became of the records of a run, in this process. The zero value is empty; it is safe for concurrent
// use.
type Ledger struct {
	mu sync.Mutex
	c  Counts
}

// Counts are what a ledger says.
type Counts struct {
	Records      int            `json:"records"`       // read, and at their end
	Delivered    int            `json:"delivered"`     // documents that got their 200
	DeadLettered map[string]int `json:"dead_lettered"` // documents, or records that made none, by reason
	Skipped      map[string]int `json:"skipped"`       // records, or parts of them, by reason
	// Repeats are the documents that may be stored more than once: an earlier attempt had no answer that says whether
	// it was.
	Repeats int `json:"repeats_possible"`
}

// Ended takes in what became of a record. It is the bridge's Config.Ended, and never fails.
func (l *Ledger) Ended(_ context.Context, o bridge.Outcome) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.c.Skipped == nil {
		l.c.Skipped, l.c.DeadLettered = make(map[string]int), make(map[string]int)
	}
	l.c.Records++
	if o.Skip != "" {
		l.c.Skipped[o.Skip]++
	}
	for _, part := range o.Parts {
		switch {
		case part.Delivered:
			l.c.Delivered++
		case part.Reason != "":
			l.c.DeadLettered[part.Reason]++
		default:
			l.c.Skipped[part.Skip]++
		}
		if repeats(part) {
			l.c.Repeats++
		}
	}
	return nil
}

// repeats reports whether the document may be stored more than once.
func repeats(p bridge.PartOutcome) bool { return p.Delivered && p.Doubts > 0 || p.Doubts > 1 }

// Counts returns what was counted so far.
func (l *Ledger) Counts() Counts {
	l.mu.Lock()
	defer l.mu.Unlock()
	c := l.c
	c.DeadLettered, c.Skipped = maps.Clone(c.DeadLettered), maps.Clone(c.Skipped)
	return c
}

// Rejects is how many of them became dead letters.
func (c Counts) Rejects() int { return sum(c.DeadLettered) }

// Skips is how many of them are no detection, or none of the run's.
func (c Counts) Skips() int { return sum(c.Skipped) }

func sum(by map[string]int) (n int) {
	for _, m := range by {
		n += m
	}
	return n
}
