package bridge

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"serbridge/bridge/kafka"
	"serbridge/bridge/pause"
	"serbridge/bridge/stellar"
)

// watchEvery is how often the surroundings are looked at: topics, their
// partitions, the dead-letter topic, the credentials.
const watchEvery = 10 * time.Second

func explainKafka(err error) string { return kafka.Explain(err) }

// explain says what a failure means, what to do, and its cause.
func explain(a stellar.Answer) string {
	if a.Err != nil {
		return a.Err.Error() // says so itself
	}
	return stellar.Explain(a.Reason)
}

// starting is the health key of a member that has not joined its group yet.
const starting = "starting"

// meet waits until a broker answers; before, there is no group to join and no
// cluster id for the delivery keys. What is wrong heals or is mended outside,
// so it never gives up before ctx ends.
func (b *Bridge) meet(ctx context.Context) error {
	wait := fullJitter(mostWait / 2)
	for {
		cluster, err := b.look(ctx)
		if err == nil {
			b.cluster = cluster // read without a lock by all who transform, who start later
			return nil
		}
		if err := pause.For(ctx, wait.NextBackOff()); err != nil {
			return err
		}
	}
}

// look reads the cluster's metadata: its id, and the partitions of what we
// consume.
func (b *Bridge) look(ctx context.Context) (cluster string, err error) {
	ctx, cancel := context.WithTimeout(ctx, watchEvery)
	defer cancel()
	topics, cluster, err := b.consumedTopics(ctx)
	if err != nil {
		if !errors.Is(err, context.Canceled) { // we are ending
			b.troubles.begin("kafka", "Kafka: "+explainKafka(err))
		}
		return "", err
	}
	b.troubles.end("kafka")
	b.sayTopics(topics)
	b.mu.Lock()
	defer b.mu.Unlock()
	for name := range b.totals { // one that answers with an error still has its partitions, or every member would take the whole limit
		if _, there := topics[name]; !there && len(b.partitions[name]) == 0 {
			delete(b.totals, name)
		}
	}
	for name, t := range topics {
		if t.Err == nil {
			b.totals[name] = len(t.Partitions)
			b.topicIDs[name] = t.ID
		}
	}
	return cluster, nil
}

// consumedTopics are the topics by name, or those that the pattern matches and
// that are none of our own.
func (b *Bridge) consumedTopics(ctx context.Context) (topics kadm.TopicDetails, cluster string, err error) {
	names := b.cfg.Topics
	if b.pattern != nil {
		names = nil
	}
	topics, cluster, err = b.readTopics(ctx, names)
	if err != nil || b.pattern == nil {
		return topics, cluster, err
	}
	own := make(map[string]bool)
	for _, t := range b.cfg.Internal {
		own[t] = true
	}
	for name, t := range topics {
		if t.IsInternal || own[name] || !b.pattern.MatchString(name) {
			delete(topics, name)
		}
	}
	return topics, cluster, nil
}

// readTopics reads the metadata of topics; nil: of all. It is kadm's Metadata,
// but that fails as a whole for one topic that we may not see, and goes past the
// client's cache, which would go on saying for a while that a topic just created
// is not there.
func (b *Bridge) readTopics(ctx context.Context, names []string) (topics kadm.TopicDetails, cluster string, err error) {
	req := kmsg.NewPtrMetadataRequest()
	for _, name := range names {
		rt := kmsg.NewMetadataRequestTopic()
		rt.Topic = kmsg.StringPtr(name)
		req.Topics = append(req.Topics, rt)
	}
	resp, err := req.RequestWith(ctx, b.visitor)
	if err == nil {
		err = kerr.ErrorForCode(resp.ErrorCode)
	}
	if err != nil {
		return nil, "", fmt.Errorf("read metadata: %w", err)
	}
	topics = make(kadm.TopicDetails)
	for _, t := range resp.Topics {
		if t.Topic == nil {
			continue
		}
		d := kadm.TopicDetail{Topic: *t.Topic, ID: t.TopicID, IsInternal: t.IsInternal, Err: kerr.ErrorForCode(t.ErrorCode),
			Partitions: make(kadm.PartitionDetails)}
		for _, p := range t.Partitions {
			d.Partitions[p.Partition] = kadm.PartitionDetail{Topic: d.Topic, Partition: p.Partition, Leader: p.Leader, Err: kerr.ErrorForCode(p.ErrorCode)}
		}
		topics[d.Topic] = d
	}
	if resp.ClusterID != nil {
		cluster = *resp.ClusterID
	}
	return topics, cluster, nil
}

func sayTopic(name string, err error) string {
	return fmt.Sprintf("topic %s: %s", name, explainKafka(err))
}

func (b *Bridge) sayTopics(topics kadm.TopicDetails) {
	for name, t := range topics {
		if t.Err != nil {
			b.troubles.begin("topic "+name, sayTopic(name, t.Err))
		}
	}
	for _, key := range b.troubles.keys("topic ") {
		if t, there := topics[strings.TrimPrefix(key, "topic ")]; !there || t.Err == nil {
			b.troubles.end(key)
		}
	}
	if b.pattern == nil {
		return
	}
	if len(topics) == 0 {
		b.troubles.begin("topics", fmt.Sprintf("KAFKA_TOPICS=%s matches no topic that this user may see", b.cfg.Topics[0]))
	} else {
		b.troubles.end("topics")
	}
}

// topics are those that the group consumes and that are there, in no order.
func (b *Bridge) topics() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Collect(maps.Keys(b.totals))
}

// watch looks at the surroundings until ctx ends, so that what is wrong shows
// before a record runs into it.
func (b *Bridge) watch(ctx context.Context) {
	deadLetters, credentials := false, false
	b.lookAtBacklog(ctx)
	b.reshare()
	b.lookAtRetention(ctx)
	for {
		if !deadLetters {
			deadLetters = b.lookAtDeadLetters(ctx)
		}
		if !credentials {
			credentials = b.lookAtCredentials(ctx)
		}
		if pause.For(ctx, toMark(time.Now())) != nil {
			return
		}
		b.lookAtBacklog(ctx)
		b.reshare()
		_, _ = b.look(ctx)
		b.troubles.fade()
		b.lookAtMixes()
		b.lookAtRetention(ctx)
	}
}

func (b *Bridge) lookAtDeadLetters(ctx context.Context) (ok bool) {
	ctx, cancel := context.WithTimeout(ctx, watchEvery)
	defer cancel()
	if err := b.cfg.DeadLetters.Ready(ctx); err != nil {
		b.troubles.begin("dead_letter_topic", fmt.Sprintf("no dead-letter topic: %v", err))
		return false
	}
	b.troubles.end("dead_letter_topic")
	return true
}

func (b *Bridge) lookAtCredentials(ctx context.Context) (ok bool) {
	ctx, cancel := context.WithTimeout(ctx, watchEvery)
	defer cancel()
	if _, a, ok := b.cfg.Stellar.Authorize(ctx); !ok {
		b.troubles.begin("credentials", "no access to Stellar Cyber: "+explain(a))
		return false
	}
	b.troubles.end("credentials")
	return true
}

// hasShare reports whether the partition's part of the rate is still ours: a
// drain needs it for what has started.
func (p *partition) hasShare() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.state != fenced && !p.yielded
}

// yield leaves the partition's part of the rate to its next owner.
func (p *partition) yield() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.yielded = true
}

// tryBrakes lets a few records of each braked topic through now and then,
// until ctx ends.
func (b *Bridge) tryBrakes(ctx context.Context) {
	pause.Every(ctx, brakeTrial, func() {
		b.mu.Lock()
		for _, k := range b.brakes {
			k.try()
		}
		b.mu.Unlock()
		b.nudge()
	})
}

func (b *Bridge) brakeTripped(topic string) {
	b.mu.Lock()
	_, first := b.brake(topic).state()
	b.mu.Unlock()
	b.holdAll(topic, true)
	b.troubles.begin("brake "+topic, fmt.Sprintf(
		"topic %s is paused: %d records in a row were refused or not recognised, from %s/%d offset %d on; "+
			"see the dead letters, mend the mapping or take the topic out of KAFKA_TOPICS",
		topic, b.cfg.RejectBrake, topic, first.partition, first.offset))
	b.nudge()
}

func (b *Bridge) brakeReleased(topic string) {
	b.holdAll(topic, false)
	b.troubles.end("brake " + topic)
	b.nudge()
}

// holdAll says in the commits of the topic's partitions whether they are held,
// so that their backlog takes no share of the rate.
func (b *Bridge) holdAll(topic string, held bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, p := range b.partitions[topic] {
		if f := p.frontier(); f != nil {
			f.SetHeld(held)
		}
	}
}

// quoted makes patterns that match the names alone.
func quoted(names []string) []string {
	q := make([]string, len(names))
	for i, n := range names {
		q[i] = "^" + regexp.QuoteMeta(n) + "$"
	}
	return q
}
