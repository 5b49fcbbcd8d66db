package backfill

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Place is a partition of a topic.
type Place struct {
	Topic     string
	Partition int32
}

// String is topic/partition.
func (p Place) String() string { return fmt.Sprintf("%s/%d", p.Topic, p.Partition) }

// Bound is one end of a run as an operator gives it: the start of the log, now, a time, or offsets of single partitions.
// The zero value is none of them, and stands for the widest.
type Bound struct {
	Time    time.Time // records from here on; as the end of a run, up to here
	Now     bool      // the end of the log
	Offsets map[Place]int64
}

const wantBound = "want earliest, now, yesterday, a time such as 2026-01-31T08:00:00Z, a span back from now such as -24h, " +
	"or offsets as topic:partition:offset, once for each partition"

// ParseFrom reads the beginning of a run. Spans count from now, days from midnight in the zone of now.
func ParseFrom(texts []string, now time.Time) (Bound, error) {
	return parseBound(texts, now, midnight(now, -1))
}

// ParseTo reads the end of a run: the first offset or moment that is none of it. Yesterday ends with its last moment.
func ParseTo(texts []string, now time.Time) (Bound, error) {
	return parseBound(texts, now, midnight(now, 0))
}

func midnight(now time.Time, days int) time.Time {
	year, month, day := now.Date()
	return time.Date(year, month, day+days, 0, 0, 0, 0, now.Location())
}

func parseBound(texts []string, now, yesterday time.Time) (Bound, error) {
	var b Bound
	for _, text := range texts {
		place, offset, isOffset := parseOffset(text)
		switch {
		case isOffset && b.Offsets == nil:
			b.Offsets = map[Place]int64{place: offset}
		case isOffset:
			if _, twice := b.Offsets[place]; twice {
				return Bound{}, fmt.Errorf("read bound %q: %s has one already", text, place)
			}
			b.Offsets[place] = offset
		case len(texts) > 1:
			return Bound{}, fmt.Errorf("read bound %q: only offsets may be given more than once", text)
		default:
			return parseMoment(text, now, yesterday)
		}
	}
	return b, nil
}

func parseMoment(text string, now, yesterday time.Time) (Bound, error) {
	switch text {
	case "earliest":
		return Bound{}, nil
	case "now":
		return Bound{Now: true}, nil
	case "yesterday":
		return Bound{Time: yesterday}, nil
	}
	if t, err := time.Parse(time.RFC3339, text); err == nil {
		return Bound{Time: t}, nil
	}
	if d, err := time.ParseDuration(text); err == nil && d < 0 {
		return Bound{Time: now.Add(d)}, nil
	}
	return Bound{}, fmt.Errorf("read bound %q: %w", text, errors.New(wantBound))
}

// parseOffset reads topic:partition:offset. A time has colons too, and no topic is named like its start.
func parseOffset(text string) (place Place, offset int64, ok bool) {
	parts := strings.Split(text, ":")
	if len(parts) != 3 || parts[0] == "" {
		return Place{}, 0, false
	}
	partition, err := strconv.ParseInt(parts[1], 10, 32)
	if err != nil || partition < 0 {
		return Place{}, 0, false
	}
	offset, err = strconv.ParseInt(parts[2], 10, 64)
	if err != nil || offset < 0 {
		return Place{}, 0, false
	}
	return Place{parts[0], int32(partition)}, offset, true
}
