package deadletter

import (
	"bytes"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// Entry is one record of the dead-letter topic.
type Entry struct {
	Place  Place
	Letter Letter
	Err    error       // why it cannot be read as a letter; then Letter is empty
	Record *kgo.Record // as it stands in the topic
	Fate   Fate
}

// Reason is the letter's, or what stands in for one.
func (e *Entry) Reason() string {
	switch {
	case e.Err != nil:
		return Unreadable
	case e.Letter.Reason == "":
		return OfConnect
	}
	return e.Letter.Reason
}

// At is when the letter was given up. Kafka Connect does not say it: then it is the record's own time.
func (e *Entry) At() time.Time {
	if e.Letter.FailedAt.IsZero() {
		return e.Record.Timestamp
	}
	return e.Letter.FailedAt
}

// Source is where the letter's record came from; its topic is empty if nobody can say.
func (e *Entry) Source() Source {
	return Source{e.Letter.Topic, e.Letter.Partition, e.Letter.Offset}
}

// ReadAt is where the record stood that was given up: not its Source if a redrive had produced it to a topic again.
func (e *Entry) ReadAt() Source {
	l, err := read(e.Record.Headers).coordinates(connectTopic, connectPartition, connectOffset)
	if err != nil {
		return e.Source()
	}
	return Source{l.Topic, l.Partition, l.Offset}
}

// Mark returns a mark of the letter, to be completed.
func (e *Entry) Mark(fate Fate) Mark {
	m := Mark{Place: e.Place, Fate: fate, Source: e.Source(), Part: e.Letter.Part, Redrives: e.Letter.Redrives}
	if e.Err != nil {
		m.Part = -1
	}
	return m
}

// Filter says which letters are meant. Each field that is set must fit; the zero value is all of them.
type Filter struct {
	Reasons []string // one of them
	Fields  []string
	Fates   []Fate
	Topics  []string // of the source

	Since, Until time.Time // of At: from Since on, before Until

	Partitions []int32 // of the dead-letter topic
	Places     []Place
	Sources    []Source
	Key        []byte // not nil: exactly this one
}

// Matches reports whether the letter is meant.
func (f *Filter) Matches(e *Entry) bool {
	return oneOf(f.Reasons, e.Reason()) && oneOf(f.Fields, e.Letter.Field) && oneOf(f.Fates, e.Fate) &&
		oneOf(f.Topics, e.Letter.Topic) && oneOf(f.Partitions, e.Place.Partition) &&
		oneOf(f.Places, e.Place) && oneOf(f.Sources, e.Source()) &&
		(f.Since.IsZero() || !e.At().Before(f.Since)) && (f.Until.IsZero() || e.At().Before(f.Until)) &&
		(f.Key == nil || e.Record.Key != nil && bytes.Equal(f.Key, e.Record.Key))
}

// oneOf is true for an empty list: nothing was asked.
func oneOf[T comparable](list []T, v T) bool { return len(list) == 0 || slices.Contains(list, v) }

// mayHold reports whether a letter of the partition can be meant, so that a topic need not be read for one letter.
func (f *Filter) mayHold(partition int32) bool {
	return oneOf(f.Partitions, partition) &&
		(len(f.Places) == 0 || slices.ContainsFunc(f.Places, func(p Place) bool { return p.Partition == partition }))
}

// Narrow cuts a span to where letters that are meant can be; nothing is left of one that can hold none.
func (f *Filter) Narrow(s Span) Span {
	if !f.mayHold(s.Partition) {
		return Span{s.Partition, s.End, s.End}
	}
	if len(f.Places) == 0 {
		return s
	}
	first, end := s.End, s.Start
	for _, p := range f.Places {
		if p.Partition == s.Partition {
			first, end = min(first, p.Offset), max(end, p.Offset+1)
		}
	}
	start := min(max(s.Start, first), s.End)
	return Span{s.Partition, start, max(start, min(s.End, end))}
}
