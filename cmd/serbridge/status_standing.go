package main

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"serbridge/bridge/backfill"
	"serbridge/bridge/kafka"
)

// standing is how the group is: what --json writes.
type standing struct {
	At          time.Time           `json:"at"`
	Verdict     string              `json:"verdict"`
	State       state               `json:"state"`
	Findings    []finding           `json:"findings"` // what is wrong first
	Group       groupStanding       `json:"group"`
	Seconds     float64             `json:"seconds"` // between the two readings
	Settled     float64             `json:"settled_per_second"`
	Backlog     int64               `json:"backlog"`
	MaxRepeats  int                 `json:"max_repeats"` // that a crash of one member would repeat at most; 0: no bound
	RateLimit   float64             `json:"rate_limit"`  // requests per second of the group; 0: none
	Partitions  []partitionStanding `json:"partitions"`
	Pods        []podStanding       `json:"pods,omitempty"`
	DeadLetters *int64              `json:"dead_letters"` // that nobody has handled; null: not known
	Remarks     []string            `json:"remarks"`

	// The oldest of these, by the time from which retention counts. Null: there is none, or it is not known.
	OldestLetter      *time.Time `json:"oldest_dead_letter_at"`
	LetterRetentionIn *float64   `json:"dead_letter_retention_in_seconds"` // null: never, too

	lettersNear bool // retention is near
}

// finding is one thing that somebody should know.
type finding struct {
	State state  `json:"state"`
	Says  string `json:"says"`
	Do    string `json:"do,omitempty"`
}

type groupStanding struct {
	Name     string `json:"name"`
	Protocol string `json:"protocol,omitempty"`
	State    string `json:"state,omitempty"`
	Members  int    `json:"members"`

	unknown bool // a right is missing: Members says nothing
}

type partitionStanding struct {
	Topic        string     `json:"topic"`
	Partition    int32      `json:"partition"`
	Member       string     `json:"member,omitempty"`
	Base         *int64     `json:"base"` // null: no commit
	SettledAbove int        `json:"settled_above"`
	Backlog      int64      `json:"backlog"`
	Settled      float64    `json:"settled_per_second"`
	Held         bool       `json:"held"`
	Lost         int64      `json:"lost_to_retention"`
	Oldest       *time.Time `json:"oldest_unsettled_at"`
	RetentionIn  *float64   `json:"retention_in_seconds"` // null: never, or not known
	Ignored      string     `json:"commit_metadata_ignored,omitempty"`

	fault  string
	beyond bool
}

func (p partitionStanding) String() string { return fmt.Sprintf("%s/%d", p.Topic, p.Partition) }

func sortedOnce(names []string) []string { return slices.Compact(slices.Sorted(slices.Values(names))) }

// compose sets two readings beside each other.
func compose(before, now *groupReading, oldest map[backfill.Place]time.Time, kept map[string]kafka.Retention) *standing {
	st := &standing{At: now.at.UTC(), Seconds: now.at.Sub(before.at).Seconds(), Findings: []finding{}, Remarks: []string{}}
	st.Group = groupStanding{Protocol: now.membership.kind, State: now.membership.state, Members: len(now.membership.members), unknown: now.unknown}
	owners := make(map[backfill.Place]string)
	for _, m := range now.membership.members {
		for _, p := range m.owns {
			owners[p] = m.name
		}
	}
	for place, r := range now.partitions {
		p := partitionStanding{Topic: place.Topic, Partition: place.Partition, Member: owners[place], SettledAbove: r.above.Count(), Backlog: r.backlog(),
			Held: r.above.Held, Lost: r.lost, Ignored: r.ignored, fault: r.fault, beyond: r.beyond()}
		if r.commit >= 0 {
			p.Base = &r.commit
		}
		if last, ok := before.partitions[place]; ok && st.Seconds > 0 {
			p.Settled = max(0, float64(r.settled()-last.settled())) / st.Seconds
		}
		if at, ok := oldest[place]; ok {
			at = at.UTC()
			p.Oldest = &at
			if keeps := kept[place.Topic].Time; keeps > 0 {
				left := (keeps - now.at.Sub(at)).Seconds()
				p.RetentionIn = &left
			}
		}
		st.Settled += p.Settled
		st.Backlog += p.Backlog
		st.Partitions = append(st.Partitions, p)
	}
	slices.SortFunc(st.Partitions, func(a, b partitionStanding) int {
		return cmp.Or(strings.Compare(a.Topic, b.Topic), cmp.Compare(a.Partition, b.Partition))
	})
	for _, topic := range slices.Sorted(maps.Keys(now.absent)) {
		st.fail("topic "+topic+": "+now.absent[topic], "create it, correct KAFKA_TOPICS, or grant our Kafka user Read and Describe on it")
	}
	return st
}

// cannotTell is the standing of a group of which Kafka says nothing.
func cannotTell(at time.Time, why string) *standing {
	return &standing{At: at.UTC(), State: stateFailed, Verdict: "cannot tell: " + why, Remarks: []string{},
		Findings: []finding{{stateFailed, "Kafka does not say how the group is: " + why, "serbridge check asks for each thing by itself"}}}
}

// redact takes the credentials out of what others say.
func (st *standing) redact(redact func(string) string) {
	st.Verdict = redact(st.Verdict)
	for i := range st.Findings {
		st.Findings[i].Says = redact(st.Findings[i].Says)
	}
	for i := range st.Remarks {
		st.Remarks[i] = redact(st.Remarks[i])
	}
	for i := range st.Pods {
		st.Pods[i].Fault = redact(st.Pods[i].Fault)
	}
}
