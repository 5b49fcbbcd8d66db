package deadletter

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// Oldest is the letter that retention takes first of those that nobody has handled.
type Oldest struct {
	Open      bool          // there is one
	Timestamp time.Time     // the record's own, from which retention counts: that of the source's record
	Retention time.Duration // retention.ms of the topic; 0: unlimited, or we may not read it
}

// OldestOpen looks for the oldest letter that nobody has handled. It reads what was handled, and of each partition the
// first that was not: give it a ctx that bounds that. A topic that does not exist holds none.
func (w *Writer) OldestOpen(ctx context.Context) (o Oldest, err error) {
	r, err := OpenReader(ctx, w.cfg.Options, w.cfg.Topic)
	if errors.Is(err, ErrNoTopic) {
		return o, nil
	}
	if err != nil {
		return o, fmt.Errorf("look for the oldest dead letter: %w", err)
	}
	defer r.Close()
	if o, err = r.Oldest(ctx); err == nil {
		o.Retention = w.Retention(ctx)
	}
	return o, err
}

// Oldest looks for the oldest letter that nobody has handled: of each partition it reads the first. The retention it leaves
// open.
func (r *Reader) Oldest(ctx context.Context) (o Oldest, err error) {
	_, first := r.Open()
	for _, p := range first {
		s, _ := r.Span(p.Partition)
		s.Start = p.Offset
		err := r.Read(ctx, s, func(record *kgo.Record) error {
			if record.Attrs.IsControl() || r.Fate(Place{record.Partition, record.Offset}) != Open {
				return nil
			}
			if at := record.Timestamp; !o.Open || at.Before(o.Timestamp) {
				o.Open, o.Timestamp = true, at
			}
			return errEnough
		})
		if err != nil && !errors.Is(err, errEnough) {
			return o, fmt.Errorf("look for the oldest dead letter: %w", err)
		}
	}
	return o, nil
}
