package deadletter

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Oldest is the letter that retention takes first of those that nobody has handled.
type Oldest struct {
	Open      bool          // there is one
	Timestamp time.Time     // the record's own, from which retention counts: that of the source's record
	Retention time.Duration // retention.ms of the topic; 0: unlimited, or we may not read it
}

// OldestOpen looks for the oldest letter that nobody has handled. It reads what was handled, and of each partition up to
// the first that was not: give it a ctx that bounds that. A topic that does not exist holds none.
func (w *Writer) OldestOpen(ctx context.Context) (o Oldest, err error) {
	r, err := OpenReader(ctx, w.cfg.Options, w.cfg.Topic)
	if errors.Is(err, ErrNoTopic) {
		return o, nil
	}
	if err != nil {
		return o, fmt.Errorf("look for the oldest dead letter: %w", err)
	}
	defer r.Close()
	for _, s := range r.Spans {
		meant := Filter{Fates: []Fate{Open}, Partitions: []int32{s.Partition}}
		err := r.Each(ctx, meant, func(e *Entry) (bool, error) {
			if at := e.Record.Timestamp; !o.Open || at.Before(o.Timestamp) {
				o.Open, o.Timestamp = true, at
			}
			return false, nil
		})
		if err != nil {
			return o, fmt.Errorf("look for the oldest dead letter: %w", err)
		}
	}
	o.Retention = w.Retention(ctx)
	return o, nil
}
