package main

import (
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"serbridge/bridge/deadletter"
)

// selection is which letters the command line means.
type selection struct {
	reasons, fields, statuses, topics []string
	since, until                      string
	partitions, offsets               []string
	key                               string
	max                               int
	all                               bool

	changed func(flag string) bool // whether the command line has it
}

const statusHandled = "handled" // every fate but open

// add defines the flags; most is the default of --max, 0 for no bound.
func (s *selection) add(cmd *cobra.Command, most int, maxHelp string) {
	f := cmd.Flags()
	s.changed = f.Changed
	f.StringSliceVar(&s.reasons, "reason", nil, "only letters of this reason (repeat it or separate by commas, as with the next ones)")
	f.StringSliceVar(&s.fields, "field", nil, "only letters of which this field is at fault")
	f.StringSliceVar(&s.statuses, "status", nil, "only letters of this status: open, redriven, parked, discarded, failed_again; or handled: all but open")
	f.StringSliceVar(&s.topics, "topic", nil, "only letters of records of this topic")
	f.StringVar(&s.since, "since", "", "only letters given up from this time on: RFC 3339, a span back such as -24h, a date, today or yesterday (their start, UTC)")
	f.StringVar(&s.until, "until", "", "only letters given up before this time")
	f.StringSliceVar(&s.partitions, "partition", nil, "only letters in this partition of the dead-letter topic")
	f.StringSliceVar(&s.offsets, "offset", nil, "only this letter: PARTITION:OFFSET, or by its record, TOPIC:PARTITION:OFFSET")
	f.StringVar(&s.key, "key", "", "only letters of records with exactly this key")
	f.IntVar(&s.max, "max", most, maxHelp)
}

// addAll defines --all.
func (s *selection) addAll(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&s.all, "all", false, "handled letters too")
}

// named reports whether the command line says anything about which letters are meant.
func (s *selection) named() bool {
	named := s.all
	for _, name := range []string{"reason", "field", "status", "topic", "since", "until", "partition", "offset", "key"} {
		named = named || s.changed(name)
	}
	return named
}

// filter is the selection with places from the arguments. Handled letters are meant only where they are asked for, or
// named by their place. The error has every fault of the command line.
func (s *selection) filter(args []string, now time.Time) (deadletter.Filter, error) {
	f := deadletter.Filter{Reasons: s.reasons, Fields: s.fields, Topics: s.topics}
	var faults flagFaults
	faults.note("--since", s.moment(&f.Since, s.since, now))
	faults.note("--until", s.moment(&f.Until, s.until, now))
	faults.note("--status", s.fates(&f))
	for _, text := range s.partitions {
		faults.note("--partition", addPartition(&f, text))
	}
	for _, text := range s.offsets {
		faults.note("--offset", addOffset(&f, text))
	}
	for _, text := range args {
		faults.note("argument", addPlace(&f, text))
	}
	if s.changed("key") {
		f.Key = []byte(s.key)
	}
	if s.max < 0 {
		faults.note("--max", errors.New("want a number of at least 0"))
	}
	if len(f.Fates) == 0 && !s.all && len(f.Places) == 0 {
		f.Fates = []deadletter.Fate{deadletter.Open}
	}
	return f, faults.err()
}

// flagFaults are what is wrong with a command line, so that one try is enough to learn of all.
type flagFaults []error

func (f *flagFaults) note(flag string, err error) {
	if err != nil {
		*f = append(*f, fmt.Errorf("%s: %w", flag, err))
	}
}

func (f flagFaults) err() error {
	if len(f) == 0 {
		return nil
	}
	return usageError{errors.Join(f...)}
}

func (s *selection) moment(into *time.Time, text string, now time.Time) (err error) {
	*into, err = moment(text, now)
	return err
}

func addPartition(f *deadletter.Filter, text string) error {
	p, err := strconv.ParseUint(text, 10, 31)
	if err != nil {
		return fmt.Errorf("%q is no partition number", text)
	}
	f.Partitions = append(f.Partitions, int32(p))
	return nil
}

func addPlace(f *deadletter.Filter, text string) error {
	p, err := deadletter.ParsePlace(text)
	f.Places = append(f.Places, p)
	return err
}

func (s *selection) fates(f *deadletter.Filter) error {
	for _, name := range s.statuses {
		if name == statusHandled {
			f.Fates = append(f.Fates, deadletter.Fates()[1:]...)
			continue
		}
		fate, err := deadletter.ParseFate(name)
		if err != nil {
			return fmt.Errorf("%w, or %s", err, statusHandled)
		}
		f.Fates = append(f.Fates, fate)
	}
	return nil
}

func addOffset(f *deadletter.Filter, text string) error {
	if p, err := deadletter.ParsePlace(text); err == nil {
		f.Places = append(f.Places, p)
		return nil
	}
	s, err := deadletter.ParseSource(text)
	if err != nil {
		return fmt.Errorf("%q: want PARTITION:OFFSET of the dead letter, or TOPIC:PARTITION:OFFSET of its record", text)
	}
	f.Sources = append(f.Sources, s)
	return nil
}

// unfound are the places of the arguments that hold no letter.
func unfound(places []deadletter.Place, found map[deadletter.Place]bool, r *deadletter.Reader) error {
	var faults []error
	for _, p := range places {
		if found[p] {
			continue
		}
		where := "the topic has no such partition"
		if s, ok := r.Span(p.Partition); ok {
			where = fmt.Sprintf("the partition has offsets from %d to %d, and gaps where a transaction ended", s.Start, s.End-1)
			if s.Start == s.End {
				where = "the partition is empty"
			}
		}
		faults = append(faults, fmt.Errorf("find dead letter %s in %s: not there (or not of this selection): %s", p, r.Topic, where))
	}
	return errors.Join(faults...)
}

// moment reads a time of the command line; empty is none. A date, today and yesterday are the start of that day in UTC.
func moment(text string, now time.Time) (time.Time, error) {
	day := func(ago int) time.Time { return now.UTC().Truncate(24*time.Hour).AddDate(0, 0, -ago) }
	switch text {
	case "":
		return time.Time{}, nil
	case "now":
		return now, nil
	case "today":
		return day(0), nil
	case "yesterday":
		return day(1), nil
	}
	for _, layout := range []string{time.RFC3339, time.DateOnly} {
		if t, err := time.Parse(layout, text); err == nil {
			return t, nil
		}
	}
	if d, err := time.ParseDuration(text); err == nil && d < 0 {
		return now.Add(d), nil
	}
	return time.Time{}, fmt.Errorf("%q: want a time such as 2026-01-31T08:00:00Z, a date, a span back from now such as -24h, today or yesterday", text)
}
