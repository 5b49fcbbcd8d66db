package receipt

import (
	"context"
	"errors"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"serbridge/bridge/deadletter"
)

// Reader reads the receipts topic as it is when the reader is opened, from a time on. It joins no group, and holds one
// fetch in memory, not the topic.
type Reader struct {
	*deadletter.Log
	Damaged    int64            // records that are no receipts
	OnProgress func(read int64) // called with the offsets passed since the last call, now and then. May be nil
	starts     map[int32]int64  // of the topic, before it was narrowed to the time
}

// OpenReader opens the topic for receipts written at or after since; zero: all. The caller has to Close it. The error is a
// [deadletter.ErrNoTopic] if there is no such topic.
func OpenReader(ctx context.Context, options []kgo.Opt, topic string, since time.Time) (*Reader, error) {
	log, err := deadletter.OpenLog(ctx, options, topic)
	if err != nil {
		return nil, err
	}
	r := &Reader{Log: log, starts: make(map[int32]int64)}
	for _, s := range log.Spans {
		r.starts[s.Partition] = s.Start
	}
	if since.IsZero() {
		return r, nil
	}
	from, err := log.OffsetsAt(ctx, since)
	if err != nil {
		log.Close()
		return nil, err
	}
	for i, s := range log.Spans {
		log.Spans[i].Start = min(max(s.Start, from[s.Partition]), s.End)
	}
	return r, nil
}

// errEnough ends a read early.
var errEnough = errors.New("enough")

// Each calls f with every receipt, partition by partition and in the order of writing, until f returns false or an error.
func (r *Reader) Each(ctx context.Context, f func(Receipt) (more bool, err error)) error {
	for _, s := range r.Spans {
		err := r.EachIn(ctx, s, f)
		if errors.Is(err, errEnough) {
			return nil
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// EachIn is Each for one span. When f has had enough the error is not nil, and for [Reader.Each] alone.
func (r *Reader) EachIn(ctx context.Context, s deadletter.Span, f func(Receipt) (bool, error)) error {
	passed := s.Start
	err := r.Read(ctx, s, func(record *kgo.Record) error {
		const step = 256
		if now := record.Offset + 1; r.OnProgress != nil && now-passed >= step {
			r.OnProgress(now - passed)
			passed = now
		}
		if record.Attrs.IsControl() {
			return nil
		}
		receipt, err := Parse(record)
		if err != nil {
			r.Damaged++
			return nil
		}
		more, err := f(receipt)
		if err == nil && !more {
			err = errEnough
		}
		return err
	})
	if r.OnProgress != nil {
		r.OnProgress(s.End - passed)
	}
	return err
}

// First is the time from which the topic has receipts: of the oldest that is there. False if there is none.
func (r *Reader) First(ctx context.Context) (first time.Time, ok bool, err error) {
	for _, s := range r.Spans {
		s.Start = r.starts[s.Partition]
		err := r.Read(ctx, s, func(record *kgo.Record) error {
			receipt, err := Parse(record)
			if record.Attrs.IsControl() || err != nil {
				return nil
			}
			if !ok || receipt.Ended.Before(first) {
				first, ok = receipt.Ended, true
			}
			return errEnough
		})
		if err != nil && !errors.Is(err, errEnough) {
			return first, ok, err
		}
	}
	return first, ok, nil
}
