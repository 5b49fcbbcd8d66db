package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"serbridge/bridge/backfill"
	"serbridge/bridge/frontier"
	"serbridge/bridge/kafka"
)

// groupReading is what Kafka says at one moment.
type groupReading struct {
	at         time.Time
	membership membership
	unknown    bool // who the members are
	partitions map[backfill.Place]partitionReading
	absent     map[string]string // topics that cannot be looked at, and why
	remarks    []string          // what our Kafka user may not ask
}

// partitionReading is one partition: its log, and how far the group has come.
type partitionReading struct {
	start, end int64
	commit     int64 // -1: the group has none
	from       int64 // the first offset that is not settled; never below start
	above      frontier.Map
	lost       int64  // offsets that retention removed before they were settled
	ignored    string // why the metadata of the commit says nothing
	fault      string // why the log cannot be looked up
}

// backlog is what is left to do. A commit beyond the end of the log leaves nothing that is known.
func (p partitionReading) backlog() int64 {
	return max(0, p.end-p.from-int64(p.above.Count()))
}

// settled grows by one for each offset that is settled: what two readings differ by is what was done between them.
func (p partitionReading) settled() int64 {
	if p.commit < 0 {
		return p.from
	}
	return p.commit + p.lost + int64(p.above.Count()) // what is lost is passed without having been settled
}

// beyond reports whether the group stands where the log does not reach: the topic was replaced or cut off.
func (p partitionReading) beyond() bool { return p.commit > p.end && p.fault == "" }

// readGroup asks Kafka alone, and changes nothing. An error means that nothing is known of the group.
func (s *status) readGroup(ctx context.Context) (*groupReading, error) {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	r := &groupReading{partitions: make(map[backfill.Place]partitionReading), absent: make(map[string]string)}
	topics, err := s.listTopics(ctx, r)
	if err != nil {
		return nil, err
	}
	commits, err := s.admin.FetchOffsets(ctx, s.settings.Kafka.Group)
	r.at = time.Now()
	if err != nil && !errors.Is(err, kerr.GroupIDNotFound) {
		return nil, fmt.Errorf("read the commits of group %s: %w", s.settings.Kafka.Group, err)
	}
	if r.membership, err = readMembership(ctx, s.admin, s.settings.Kafka.Group); err != nil {
		r.unknown = true
		r.remark("members are not known: %s", kafka.Explain(err))
	}
	return r, s.readLogs(ctx, r, topics, commits)
}

func (r *groupReading) remark(format string, args ...any) {
	r.remarks = append(r.remarks, fmt.Sprintf(format, args...))
}

// listTopics are the topics of the settings that are there; of the others it notes why not.
func (s *status) listTopics(ctx context.Context, r *groupReading) (topics []string, err error) {
	found, err := s.settings.listTopics(ctx, s.admin)
	if err != nil {
		return nil, fmt.Errorf("list topics: %w", err)
	}
	for _, name := range slices.Sorted(maps.Keys(found)) {
		switch err := found[name].Err; {
		case err == nil:
			topics = append(topics, name)
		case errors.Is(err, kerr.UnknownTopicOrPartition):
			r.absent[name] = "does not exist, or may not be seen"
		default:
			r.absent[name] = kafka.Explain(err)
		}
	}
	return topics, nil
}

// readLogs looks up where the logs begin and end, and sets the commits beside them.
func (s *status) readLogs(ctx context.Context, r *groupReading, topics []string, commits kadm.OffsetResponses) error {
	if len(topics) == 0 {
		return nil // kadm would list all
	}
	starts, ends := make(kadm.ListedOffsets), make(kadm.ListedOffsets)
	for _, topic := range topics {
		start, err := s.admin.ListStartOffsets(ctx, topic)
		end, endErr := s.admin.ListEndOffsets(ctx, topic)
		if err = errors.Join(err, endErr); err != nil {
			r.absent[topic] = kafka.Explain(err)
			continue
		}
		maps.Copy(starts, start)
		maps.Copy(ends, end)
	}
	first, err := s.settings.Kafka.Start.firstOffsets(ctx, s.admin, topics, starts, ends)
	if err != nil {
		r.remark("what KAFKA_START means is not known: %s", kafka.Explain(err))
		first = starts
	}
	for topic, partitions := range ends {
		fresh := s.settings.Kafka.isFresh(commits, topic)
		for id, end := range partitions {
			p := partitionReading{start: starts[topic][id].Offset, end: end.Offset, commit: -1}
			if err := errors.Join(starts[topic][id].Err, end.Err); err != nil {
				p.fault = kafka.Explain(err)
			}
			p.from = p.start
			if c, ok := commits.Lookup(topic, id); ok && c.Err == nil && c.At >= 0 {
				p.resume(s.settings.Kafka.Group, topic, id, c)
			} else if fresh {
				p.from = max(p.start, first[topic][id].Offset)
			}
			r.partitions[backfill.Place{Topic: topic, Partition: id}] = p
		}
	}
	return nil
}

// resume takes in a commit. What retention removed of it is lost, but for what was settled.
func (p *partitionReading) resume(group, topic string, id int32, c kadm.OffsetResponse) {
	m, err := frontier.Decode(group, topic, id, c.At, c.Metadata)
	if fault, ok := errors.AsType[*frontier.MapError](err); ok {
		p.ignored = string(fault.Cause)
	}
	p.commit, p.from, p.above = c.At, max(c.At, p.start), m.From(max(c.At, p.start))
	p.lost = p.from - c.At - int64(m.Count()-p.above.Count())
}

// oldest are when the first unsettled records of the partitions were produced.
func (s *status) oldest(ctx context.Context, r *groupReading) map[backfill.Place]time.Time {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	first := firstRecords{options: s.options, from: make(map[backfill.Place]int64), wanted: func(k *kgo.Record) bool {
		return !r.partitions[backfill.Place{Topic: k.Topic, Partition: k.Partition}].above.Contains(k.Offset)
	}}
	for place, p := range r.partitions {
		if p.backlog() > 0 && p.fault == "" {
			first.from[place] = p.from
		}
	}
	if err := first.read(ctx); err != nil {
		r.remark("the age of records is not known: %s", kafka.Explain(err))
	}
	for place, err := range first.failed {
		r.remark("the age of what waits in %s is not known: %s", place, kafka.Explain(err))
	}
	return first.at
}
