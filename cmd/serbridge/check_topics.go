package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"

	"serbridge/bridge/backfill"
	"serbridge/bridge/kafka"
)

// checkTopics says of each topic what it is, what waits in it, and whether we may read it.
func (c *check) checkTopics(ctx context.Context) {
	asking, cancel := c.ask(ctx)
	defer cancel()
	found, err := c.settings.listTopics(asking, c.admin)
	if err != nil {
		c.facts.fail("topics", "", "grant our Kafka user Describe on the topics, and see that the brokers answer", "%s", kafka.Explain(err))
		return
	}
	if pattern := c.settings.Kafka.topicPattern(); pattern != "" && len(found) == 0 {
		c.facts.fail("topics", pattern, "check KAFKA_TOPICS, and grant our Kafka user Describe on the topics: others are not seen", "matches no topic")
	}
	c.found.topics = found
	var readable []string
	for _, topic := range slices.Sorted(maps.Keys(found)) {
		if c.checkTopic(found[topic]) {
			readable = append(readable, topic)
		}
	}
	if len(readable) > 0 {
		c.checkBacklog(ctx, readable)
	}
}

// isRefusal tells a right that is missing from a broker that does not answer.
func isRefusal(err error) bool {
	var refusal *kadm.AuthError
	return errors.As(err, &refusal)
}

// checkTopic reports whether the topic is there and may be read.
func (c *check) checkTopic(t kadm.TopicDetail) bool {
	switch {
	case errors.Is(t.Err, kerr.UnknownTopicOrPartition):
		c.facts.fail("topic", t.Topic, "create it, correct KAFKA_TOPICS, or grant our Kafka user Describe on it", "does not exist, or may not be seen")
		return false
	case t.Err != nil:
		c.facts.fail("topic", t.Topic, "grant our Kafka user Read and Describe on it", "%s", kafka.Explain(t.Err))
		return false
	}
	c.found.partitions += len(t.Partitions)
	c.facts.ok("topic", t.Topic, "%d partitions, %d replicas", len(t.Partitions), t.Partitions.NumReplicas())
	return c.checkRights("topic rights", t.Topic, t.AuthorizedOperations, kadm.OpRead, kadm.OpDescribe)
}

// checkRights compares what a broker says that we may do with what is needed. Without an answer it claims nothing.
func (c *check) checkRights(name, of string, have []kadm.ACLOperation, needed ...kadm.ACLOperation) bool {
	var missing, all []string
	for _, right := range needed {
		all = append(all, rightName(right))
		if !slices.Contains(have, right) {
			missing = append(missing, rightName(right))
		}
	}
	switch {
	case len(have) == 0:
		c.facts.warn(name, of, "see that our Kafka user has "+strings.Join(all, " and "), "the broker does not say what our Kafka user may do")
	case len(missing) > 0:
		c.facts.fail(name, of, "grant our Kafka user "+strings.Join(missing, " and ")+" on "+of, "our Kafka user lacks %s", strings.Join(missing, " and "))
		return false
	default:
		c.facts.ok(name, of, "%s", strings.Join(all, ", "))
	}
	return true
}

// rightName is the operation as Kafka's tools write it.
func rightName(op kadm.ACLOperation) string {
	name := op.String()
	return name[:1] + strings.ToLower(name[1:])
}

// backlog is what the group has not committed of one topic.
type backlog struct {
	records int64
	lost    int64           // below the start of the log: retention was faster
	beyond  int             // partitions whose commit lies beyond the end of the log
	fresh   bool            // without any commit, so that KAFKA_START decides
	from    map[int32]int64 // the first offset that waits
}

// checkBacklog says what waits, how old it is, how long it takes, and whether retention is faster.
func (c *check) checkBacklog(ctx context.Context, topics []string) {
	asking, cancel := c.ask(ctx)
	defer cancel()
	backlogs, err := c.backlogs(asking, topics)
	if err != nil {
		c.facts.fail("backlog", "", "grant our Kafka user Describe on the topics, and Read on KAFKA_GROUP", "%s", kafka.Explain(err))
		return
	}
	oldest := c.oldest(ctx, backlogs)
	retention, _ := kafka.ReadRetention(asking, c.admin, topics...)
	for _, topic := range topics {
		c.sayBacklog(topic, backlogs[topic], oldest[topic], retention[topic].Time)
	}
}

func (c *check) sayBacklog(topic string, b backlog, oldest time.Time, retention time.Duration) {
	says := fmt.Sprintf("%d records wait", b.records)
	if b.fresh {
		says = fmt.Sprintf("no commit of group %s, so KAFKA_START=%s: %d records", c.settings.Kafka.Group, c.settings.Kafka.Start, b.records)
	}
	var age, takes time.Duration
	if !oldest.IsZero() {
		age = time.Since(oldest)
		says += fmt.Sprintf(", the oldest %s old", days(age))
	}
	if rate := c.settings.Delivery.RateLimit; rate > 0 && b.records > 0 {
		takes = time.Duration(float64(b.records) / rate * float64(time.Second))
		says += fmt.Sprintf(", %s at %g a second", days(takes), rate)
	}
	if retention > 0 {
		says += fmt.Sprintf("; retention %s", days(retention))
	}
	switch {
	case b.beyond > 0:
		c.facts.fail("backlog", topic, "the topic was replaced or cut off: reset the group's offsets of it, or take another KAFKA_GROUP",
			"%s; the commits of %d partitions lie beyond the end of the log", says, b.beyond)
	case b.lost > 0:
		c.facts.warn("backlog", topic, "raise retention.ms of the topic, and RATE_LIMIT if the platform bears it",
			"%s; retention removed %d records that were not yet delivered", says, b.lost)
	case retention > 0 && age > 0 && takes > retention-age:
		c.facts.warn("backlog", topic, "raise retention.ms of the topic, or RATE_LIMIT if the platform bears it",
			"%s: retention removes the first of it before it is delivered", says)
	default:
		c.facts.ok("backlog", topic, "%s", says)
	}
}

// backlogs compares the group's commits with the log.
func (c *check) backlogs(ctx context.Context, topics []string) (map[string]backlog, error) {
	commits, err := c.admin.FetchOffsets(ctx, c.settings.Kafka.Group)
	if err != nil && !errors.Is(err, kerr.GroupIDNotFound) {
		commits = nil // the fact about the group says it
	}
	starts, err := c.admin.ListStartOffsets(ctx, topics...)
	if err != nil {
		return nil, err
	}
	ends, err := c.admin.ListEndOffsets(ctx, topics...)
	if err != nil {
		return nil, err
	}
	first, err := c.settings.Kafka.Start.firstOffsets(ctx, c.admin, topics, starts, ends)
	if err != nil {
		return nil, err
	}
	found := make(map[string]backlog, len(topics))
	for _, topic := range topics {
		b := backlog{fresh: c.settings.Kafka.isFresh(commits, topic), from: make(map[int32]int64)}
		for id, end := range ends[topic] {
			start := starts[topic][id].Offset
			from := start
			if o, ok := commits.Lookup(topic, id); ok && o.Err == nil && o.At >= 0 {
				from = o.At
			} else if b.fresh {
				from = first[topic][id].Offset
			}
			b.add(id, from, start, end.Offset)
		}
		found[topic] = b
	}
	return found, nil
}

func (b *backlog) add(id int32, from, start, end int64) {
	switch {
	case from > end:
		b.beyond++
		return
	case from < start:
		b.lost += start - from
		from = start
	}
	b.records += end - from
	if from < end {
		b.from[id] = from
	}
}

// isFresh tells whether KAFKA_START rules the topic: the same rule as the bridge's.
func (s kafkaSettings) isFresh(commits kadm.OffsetResponses, topic string) bool {
	committed := func(t string) bool {
		return slices.ContainsFunc(slices.Collect(maps.Values(commits[t])), func(o kadm.OffsetResponse) bool { return o.Err == nil && o.At >= 0 })
	}
	if s.topicPattern() == "" {
		return !committed(topic)
	}
	return !slices.ContainsFunc(slices.Collect(maps.Keys(commits)), committed)
}

// firstOffsets are what KAFKA_START means now.
func (s startPosition) firstOffsets(ctx context.Context, admin *kadm.Client, topics []string, starts, ends kadm.ListedOffsets) (kadm.ListedOffsets, error) {
	switch {
	case s.Latest:
		return ends, nil
	case s.Ago > 0:
		return admin.ListOffsetsAfterMilli(ctx, time.Now().Add(-s.Ago).UnixMilli(), topics...)
	case !s.Time.IsZero():
		return admin.ListOffsetsAfterMilli(ctx, s.Time.UnixMilli(), topics...)
	}
	return starts, nil
}

// oldest reads the first record that waits in each partition, without a group: its time, and the proof that we may read.
func (c *check) oldest(ctx context.Context, backlogs map[string]backlog) map[string]time.Time {
	ctx, cancel := c.ask(ctx)
	defer cancel()
	options, err := c.settings.Kafka.options(c.log, c.red)
	if err != nil {
		return nil
	}
	first := firstRecords{options: options, from: make(map[backfill.Place]int64)}
	for topic, b := range backlogs {
		for id, offset := range b.from {
			first.from[backfill.Place{Topic: topic, Partition: id}] = offset
		}
	}
	if first.read(ctx) != nil {
		return nil
	}
	for p, err := range first.failed {
		c.facts.fail("read", p.String(), "see that our Kafka user has Read on the topic", "%s", kafka.Explain(err))
	}
	oldest := make(map[string]time.Time)
	for p, at := range first.at {
		if known, ok := oldest[p.Topic]; !ok || at.Before(known) {
			oldest[p.Topic] = at
		}
	}
	return oldest
}

// days writes a duration in the two largest of its units.
func days(d time.Duration) string {
	switch d = d.Abs(); {
	case d >= 48*time.Hour:
		return fmt.Sprintf("%d days", d/(24*time.Hour))
	case d >= time.Hour:
		return fmt.Sprintf("%d h %d min", d/time.Hour, d%time.Hour/time.Minute)
	case d >= time.Minute:
		return fmt.Sprintf("%d min %d s", d/time.Minute, d%time.Minute/time.Second)
	}
	return fmt.Sprintf("%d s", d/time.Second)
}
