package backfill

import (
	"cmp"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"serbridge/bridge"
	"serbridge/bridge/deadletter"
	"serbridge/transform"
)

// Plan is what a run reads: a range of each partition. Its value does not change while the run goes on; Progress returns
// a new one.
type Plan struct {
	Ranges []Range   // of every partition of the topics, in order; one that is none of the run's is empty
	Until  time.Time // records from here on are none of the run's; zero: there is no such time
	Asked  Asked     // nil: not known, since another build began the run
}

// Range is what a run reads of one partition.
type Range struct {
	Place
	Start int64 // where the run began
	At    int64 // where it is: all below is settled
	Done  int64 // settled above At
	End   int64 // the first offset that is none of its

	Unsettled int64 // offsets left out because the live group has not settled them; known while the plan is made

	live settled
}

// Left is how many offsets of the range are not settled yet. Some of them may hold no record: markers of transactions,
// and what compaction has removed.
func (r Range) Left() int64 { return max(0, r.End-r.At-r.Done) }

// Total is how many offsets the range had when the run began.
func (r Range) Total() int64 { return max(0, r.End-r.Start) }

// Left is that of all ranges.
func (p Plan) Left() (n int64) {
	for _, r := range p.Ranges {
		n += r.Left()
	}
	return n
}

// Total is that of all ranges.
func (p Plan) Total() (n int64) {
	for _, r := range p.Ranges {
		n += r.Total()
	}
	return n
}

// Unsettled is that of all ranges.
func (p Plan) Unsettled() (n int64) {
	for _, r := range p.Ranges {
		n += r.Unsettled
	}
	return n
}

// Complete reports whether the run has come to the end of every range.
func (p Plan) Complete() bool {
	return !slices.ContainsFunc(p.Ranges, func(r Range) bool { return r.At < r.End })
}

// Topics are those of the ranges.
func (p Plan) Topics() (topics []string) {
	for _, r := range p.Ranges {
		if !slices.Contains(topics, r.Topic) {
			topics = append(topics, r.Topic)
		}
	}
	return topics
}

func (p Plan) find(at Place) (Range, bool) {
	i, found := slices.BinarySearchFunc(p.Ranges, at, func(r Range, at Place) int { return compare(r.Place, at) })
	if !found {
		return Range{}, false
	}
	return p.Ranges[i], true
}

func compare(a, b Place) int {
	return cmp.Or(cmp.Compare(a.Topic, b.Topic), cmp.Compare(a.Partition, b.Partition))
}

// limit shortens the ranges to n offsets together, spread evenly over those that have so many.
func (p *Plan) limit(n int64) {
	byLength := slices.SortedFunc(slices.Values(indexes(p.Ranges)), func(i, j int) int {
		return cmp.Compare(p.Ranges[i].Total(), p.Ranges[j].Total())
	})
	for done, i := range byLength { // the shortest first: what they do not need is for the longer ones
		r := &p.Ranges[i]
		take := min(r.Total(), n/int64(len(byLength)-done))
		r.End = r.Start + take
		n -= take
	}
}

func indexes(ranges []Range) []int {
	is := make([]int, len(ranges))
	for i := range is {
		is[i] = i
	}
	return is
}

// Why a record of the range is not delivered.
const (
	// Unsettled: the live group had not settled it when the run began, and delivers it itself.
	Unsettled transform.SkipReason = "unsettled"
	// PastUntil: its timestamp is not before the end of the run.
	PastUntil = bridge.PastUntil
)

// Reading says what a record is to the run of this id.
func (p Plan) Reading(id string, k *kgo.Record) bridge.Reading {
	r := bridge.Reading{Part: bridge.WholeRecord, Letter: &deadletter.Letter{Headers: k.Headers, Run: id}, Input: transform.Input{
		Value: k.Value, Topic: k.Topic, Partition: k.Partition, Offset: k.Offset, Timestamp: k.Timestamp, ReplayID: id}}
	switch in, found := p.find(Place{k.Topic, k.Partition}); {
	case found && !in.live.has(k.Offset):
		r.Skip = Unsettled
	case !p.Until.IsZero() && !k.Timestamp.Before(p.Until):
		r.Skip = PastUntil
	}
	return r
}
