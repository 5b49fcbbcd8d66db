package deadletter

import (
	"context"
	"errors"
	"fmt"

	"github.com/twmb/franz-go/pkg/kgo"
)

// Reader reads the dead-letter topic as it is when the reader is opened, with what became of each letter. It commits
// nothing and joins no group; its memory does not grow with the number of letters but by half a byte each.
type Reader struct {
	*Log             // of the dead-letter topic
	Damaged    int64 // marks, when it was opened, that cannot be read; each leaves its letter as the mark before said
	handled    *Log  // nil: nobody has handled anything yet
	fates      fates
	OnProgress func(read int64) // called with the offsets passed since the last call, now and then. May be nil
}

// OpenReader looks where the topic ends and reads what became of its letters. The caller has to Close it. The error is an
// [ErrNoTopic] if there is no dead-letter topic.
func OpenReader(ctx context.Context, options []kgo.Opt, topic string) (*Reader, error) {
	letters, err := OpenLog(ctx, options, topic)
	if err != nil {
		return nil, err
	}
	r := &Reader{Log: letters}
	r.handled, err = OpenLog(ctx, options, HandledTopic(topic)) // its end after the letters': a mark is younger than its letter
	if errors.Is(err, ErrNoTopic) {
		return r, nil
	}
	if err == nil {
		err = r.eachMark(ctx, r.note)
	}
	if err != nil {
		r.Close()
		return nil, fmt.Errorf("read what became of dead letters: %w", err)
	}
	return r, nil
}

// note keeps what became of a letter. Other marks are of letters that are gone, or of none: they must not cost memory.
func (r *Reader) note(m Mark) {
	if s, ok := r.Span(m.Place.Partition); ok && s.Start <= m.Place.Offset && m.Place.Offset < s.End {
		r.fates.set(m.Place, m.Fate)
	}
}

// Close ends the reader's connections.
func (r *Reader) Close() {
	r.Log.Close()
	if r.handled != nil {
		r.handled.Close()
	}
}

// eachMark calls f with the marks of this topic's letters, the last of each letter last.
func (r *Reader) eachMark(ctx context.Context, f func(Mark)) error {
	if r.handled == nil {
		return nil
	}
	r.Damaged = 0
	for _, s := range r.handled.Spans {
		err := r.handled.Read(ctx, s, func(record *kgo.Record) error {
			if record.Attrs.IsControl() {
				return nil
			}
			if m, err := ParseMark(record); err != nil {
				r.Damaged++
			} else if m.Fate == Open || m.isOf(r.ID) {
				f(m)
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// Follow takes in what becomes of letters after the reader was opened, by whomever, until ctx ends; it never gives up
// before. There is nothing to follow if there was no handled topic then.
func (r *Reader) Follow(ctx context.Context) error {
	if r.handled == nil {
		return nil
	}
	from := make(map[int32]kgo.Offset)
	for _, s := range r.handled.Spans {
		from[s.Partition] = kgo.NewOffset().At(s.End)
	}
	client, err := kgo.NewClient(append(r.options[:len(r.options):len(r.options)],
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{r.handled.Topic: from}),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.FetchMaxBytes(fetchBytes), kgo.DisableClientMetrics())...)
	if err != nil {
		return fmt.Errorf("configure the Kafka client for %s: %w", r.handled.Topic, err)
	}
	defer client.Close()
	for ctx.Err() == nil {
		for record := range client.PollRecords(ctx, pollRecords).RecordsAll() { // errors heal, or the run meets the same ones
			if m, err := ParseMark(record); err == nil && (m.Fate == Open || m.isOf(r.ID)) {
				r.note(m)
			}
		}
	}
	return nil
}

// Fate is what became of the letter, as of when the reader was opened, or as far as Follow has come.
func (r *Reader) Fate(p Place) Fate { return r.fates.of(p) }

// Open counts the letters that nobody has handled, as of then, and returns the first of each partition. No letter is read
// for it: an offset without one, which a transaction's marker or compaction leaves, counts as an open letter.
func (r *Reader) Open() (n int64, first []Place) {
	for _, s := range r.Spans {
		found := false
		for p := (Place{s.Partition, s.Start}); p.Offset < s.End; p.Offset++ {
			if r.fates.of(p) != Open {
				continue
			}
			if n++; !found {
				first, found = append(first, p), true
			}
		}
	}
	return n, first
}

// Marks reads the last marks of these letters; one that nobody has handled is left out.
func (r *Reader) Marks(ctx context.Context, places []Place) (map[Place]Mark, error) {
	marks := make(map[Place]Mark, len(places))
	for _, p := range places {
		if r.Fate(p) != Open {
			marks[p] = Mark{}
		}
	}
	if len(marks) == 0 {
		return marks, nil
	}
	err := r.eachMark(ctx, func(m Mark) {
		if _, asked := marks[m.Place]; asked {
			marks[m.Place] = m
		}
	})
	if err != nil {
		return nil, fmt.Errorf("read what became of dead letters: %w", err)
	}
	return marks, nil
}

// errEnough ends a read early.
var errEnough = errors.New("enough")

// Each calls f with the letters that are meant, partition by partition and ascending, until f returns false or an error.
// The entry and its record are f's to keep.
func (r *Reader) Each(ctx context.Context, meant Filter, f func(*Entry) (more bool, err error)) error {
	for _, s := range r.Spans {
		s = meant.Narrow(s)
		passed := s.Start
		err := r.Read(ctx, s, func(record *kgo.Record) error {
			passed = r.progress(passed, record.Offset+1, false)
			if record.Attrs.IsControl() {
				return nil
			}
			e := r.Entry(record)
			if !meant.Matches(e) {
				return nil
			}
			more, err := f(e)
			if err == nil && !more {
				err = errEnough
			}
			return err
		})
		r.progress(passed, s.End, true)
		if errors.Is(err, errEnough) {
			return nil
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// progress tells of a few hundred offsets at a time.
func (r *Reader) progress(passed, now int64, last bool) int64 {
	const step = 256
	if r.OnProgress == nil || now <= passed || !last && now-passed < step {
		return passed
	}
	r.OnProgress(now - passed)
	return now
}

// Entry reads a record of the topic.
func (r *Reader) Entry(record *kgo.Record) *Entry {
	e := &Entry{Place: Place{record.Partition, record.Offset}, Record: record}
	e.Letter, e.Err = Parse(record)
	e.Fate = r.Fate(e.Place)
	return e
}
