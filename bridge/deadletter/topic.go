package deadletter

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
)

const (
	// keep is how long a letter stays at least. Kafka counts from the record's own timestamp, which is as old as the source's
	// retention at most, so a created topic gets both.
	keep = 14 * 24 * time.Hour
	// headroom is what a letter may be larger than its source: headers, and compression that does without neighbours.
	headroom = 1 << 20
)

// Ready returns nil when the topic exists, after creating it if need be and allowed. It ends with ctx.
func (w *Writer) Ready(ctx context.Context) error {
	if err := w.ready(ctx); err != nil {
		return fmt.Errorf("prepare the dead-letter topic: %w", w.explain("find or create", err))
	}
	return nil
}

func (w *Writer) ready(ctx context.Context) error {
	select {
	case w.setting <- struct{}{}:
		defer func() { <-w.setting }()
	case <-ctx.Done():
		return w.unanswered(ctx)
	}
	topics, err := w.listTopics(ctx, w.cfg.Topic)
	if err != nil {
		return w.inTime(ctx, err)
	}
	switch err := topics[w.cfg.Topic].Err; {
	case err == nil:
		return nil
	case !isUnknownTopic(err) || !w.cfg.Create:
		return err
	}
	return w.create(ctx)
}

// listTopics asks the broker. The client's cache would go on saying that a topic is there, or missing; asking for rights too
// is how to pass it by.
func (w *Writer) listTopics(ctx context.Context, names ...string) (kadm.TopicDetails, error) {
	return w.writes.Admin().ListTopics(kadm.WithAuthorizedOps(ctx), names...)
}

// inTime says more of a request that ended with its context.
func (w *Writer) inTime(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return w.unanswered(ctx)
	}
	return err
}

// create makes the topic like the largest of its sources. A replica that was faster is no error.
func (w *Writer) create(ctx context.Context) error {
	p, err := w.plan(ctx)
	if err != nil {
		return w.inTime(ctx, err)
	}
	answers, err := w.writes.Admin().CreateTopics(ctx, p.partitions, p.replicas, p.configs, w.cfg.Topic)
	if err != nil {
		return w.inTime(ctx, err)
	}
	switch answer := answers[w.cfg.Topic]; {
	case answer.Err == nil:
		w.log.InfoContext(ctx, "created the dead-letter topic", "dlq_topic", w.cfg.Topic, "partitions", p.partitions, "replicas", p.replicas, "configs", p.String())
		return nil
	case errors.Is(answer.Err, kerr.TopicAlreadyExists):
		return nil
	case answer.ErrMessage != "":
		return fmt.Errorf("%w (%s)", answer.Err, answer.ErrMessage)
	default:
		return answer.Err
	}
}

// plan is what a topic is created with; -1 leaves a number to the broker.
type plan struct {
	partitions int32
	replicas   int16
	configs    map[string]*string
}

func (p *plan) set(name, value string) { p.configs[name] = &value }

// String lists the configs for the log.
func (p *plan) String() string {
	var all []string
	for name, value := range p.configs {
		all = append(all, name+"="+*value)
	}
	slices.Sort(all)
	return strings.Join(all, " ")
}

func (w *Writer) plan(ctx context.Context) (*plan, error) {
	p := &plan{partitions: -1, replicas: -1, configs: make(map[string]*string)}
	p.set("cleanup.policy", "delete")
	if w.cfg.Sources == nil {
		return p, nil
	}
	names := w.cfg.Sources()
	if len(names) == 0 {
		return p, nil
	}
	sources, err := w.listTopics(ctx, names...)
	if isRefusal(err) { // of one, it is the answer for all
		sources, err = w.listSeen(ctx, names)
	}
	if err != nil {
		return nil, err
	}
	var found []string
	for _, s := range sources {
		if s.Err == nil && len(s.Partitions) > 0 {
			found = append(found, s.Topic)
			p.partitions = max(p.partitions, int32(len(s.Partitions)))
			p.replicas = max(p.replicas, int16(s.Partitions.NumReplicas()))
		}
	}
	if len(found) == 0 { // with what the broker would choose, one partition perhaps, it would stay for ever
		return nil, errors.New("no topic to read exists yet (KAFKA_TOPICS), so its size is unknown")
	}
	return p, w.copyLimits(ctx, p, found)
}

// listSeen lists those of the topics that our user may see. The letters of these wait for a topic, whatever is with the
// others.
func (w *Writer) listSeen(ctx context.Context, names []string) (kadm.TopicDetails, error) {
	seen := make(kadm.TopicDetails)
	var refused error
	for _, name := range names {
		one, err := w.listTopics(ctx, name)
		if isRefusal(err) { // not wrapped: it is no refusal of the dead-letter topic
			refused = fmt.Errorf("grant our Kafka user Describe on the topics to read (KAFKA_TOPICS), such as %s: %v", name, err)
			continue
		}
		if err != nil {
			return nil, err
		}
		maps.Copy(seen, one)
	}
	if len(seen) == 0 {
		return nil, refused
	}
	w.log.WarnContext(ctx, "the dead-letter topic is sized without a source that our Kafka user may not see", "error", refused)
	return seen, nil
}

// copyLimits gives the topic at least its sources' limits. A user that may not read their configs gets the broker's defaults.
func (w *Writer) copyLimits(ctx context.Context, p *plan, sources []string) error {
	configs, err := w.writes.Admin().DescribeTopicConfigs(ctx, sources...)
	if isRefusal(err) {
		w.log.WarnContext(ctx, "the dead-letter topic gets the broker's limits, not its sources': grant DescribeConfigs on them", "error", err)
		return nil
	}
	if err != nil {
		return err
	}
	l := limits{}
	for _, c := range configs {
		if c.Err != nil {
			w.log.WarnContext(ctx, "a source's limits are not copied to the dead-letter topic", "topic", c.Name, "error", c.Err)
			continue
		}
		for _, config := range c.Configs {
			l.add(config)
		}
	}
	if most, ok := l["retention.ms"]; ok {
		if most != unlimited {
			most = plus(most, keep.Milliseconds(), math.MaxInt64)
		}
		p.set("retention.ms", strconv.FormatInt(most, 10))
	}
	if most, ok := l["retention.bytes"]; ok {
		p.set("retention.bytes", strconv.FormatInt(most, 10))
	}
	if most, ok := l["max.message.bytes"]; ok {
		p.set("max.message.bytes", strconv.FormatInt(plus(most, headroom, math.MaxInt32), 10))
	}
	if most, ok := l["min.insync.replicas"]; ok {
		p.set("min.insync.replicas", strconv.FormatInt(min(most, max(1, int64(p.replicas))), 10))
	}
	return nil
}

func isRefusal(err error) bool {
	var refusal *kadm.AuthError
	return errors.As(err, &refusal)
}

// unlimited is Kafka's word for it in retention.ms and retention.bytes; it is more than any number.
const unlimited = -1

// limits holds the largest value of each number that the sources have.
type limits map[string]int64

func (l limits) add(c kadm.Config) {
	n, err := strconv.ParseInt(c.MaybeValue(), 10, 64)
	if err != nil {
		return
	}
	most, ok := l[c.Key]
	if !ok || n == unlimited || (most != unlimited && n > most) {
		l[c.Key] = n
	}
}

// plus adds without passing limit.
func plus(a, b, limit int64) int64 {
	if a > limit-b {
		return limit
	}
	return a + b
}
