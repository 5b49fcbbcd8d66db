package deadletter

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"serbridge/bridge/kafka"
)

// Forwarded is the record of the letter as it was, for the topic that it came from or another one, sent there by the run of
// this id. Of our headers stay those that tell whoever gives it up again where it came from first and how often it was
// redriven; what was wrong with it, and Kafka Connect's headers, do not.
//
// Its Partition is the source's; a partitioner has to fold it into what the topic has.
func (l Letter) Forwarded(topic, run string) *kgo.Record {
	next := l.Redriven(run)
	next.Topic, next.Partition, next.Offset, next.Part = l.Topic, l.Partition, l.Offset, l.Part
	return &kgo.Record{Topic: topic, Partition: l.Partition, Key: l.Key, Value: l.Value, Timestamp: l.Timestamp,
		Headers: append(l.Headers[:len(l.Headers):len(l.Headers)], next.own()...)}
}

// Forwarder produces records of letters to a topic that is there. The caller has to Close it.
type Forwarder struct {
	topic  string
	writes *kafka.Producer
	dials  *dials
}

// NewForwarder returns a forwarder to the topic. It does not connect.
func NewForwarder(options []kgo.Opt, topic string) (*Forwarder, error) {
	f := &Forwarder{topic: topic, dials: new(dials)}
	writes, err := kafka.NewProducer(append(options[:len(options):len(options)],
		kgo.RequiredAcks(kgo.AllISRAcks()),
		kgo.ProducerBatchMaxBytes(maxRecordBytes),
		kgo.RecordPartitioner(kgo.BasicConsistentPartitioner(sourcePartition)),
		kgo.AllowIdempotentProduceCancellation(),
		kgo.MetadataMinAge(250*time.Millisecond),
		kgo.DisableClientMetrics(),
		kgo.WithHooks(f.dials),
	)...)
	if err != nil {
		return nil, fmt.Errorf("configure the Kafka client for %s: %w", topic, err)
	}
	f.writes = writes
	return f, nil
}

// sourcePartition is the partition that the record had, mod the number that there are.
func sourcePartition(string) func(*kgo.Record, int) int {
	return func(r *kgo.Record, n int) int { return int(r.Partition) % n }
}

// Topic is where the records go.
func (f *Forwarder) Topic() string { return f.topic }

// Close ends the forwarder's connections.
func (f *Forwarder) Close() { f.writes.Close() }

// Ready returns nil if the topic is there. None is created: a name that is misspelt would be a topic that nobody reads.
func (f *Forwarder) Ready(ctx context.Context) error {
	topics, err := f.writes.Admin().ListTopics(kadm.WithAuthorizedOps(ctx), f.topic) // past the client's cache
	if err == nil {
		err = topics[f.topic].Err
	}
	if err != nil {
		return fmt.Errorf("find topic %s: %s%w", f.topic, f.advice(err), f.dials.inTime(ctx, err))
	}
	return nil
}

// Forward returns nil when every in-sync replica has the record of the letter. It returns when ctx ends, even if the broker
// is silent; whether the record is there is then unknown. It is safe for concurrent use.
func (f *Forwarder) Forward(ctx context.Context, l Letter, run string) error {
	client := f.writes.Client()
	err := f.writes.Identify(ctx, client)
	if err == nil {
		err = client.ProduceSync(ctx, l.Forwarded(f.topic, run)).FirstErr()
	}
	if err != nil {
		return fmt.Errorf("produce the record of %s/%d offset %d to %s: %s%w", l.Topic, l.Partition, l.Offset, f.topic, f.advice(err), f.dials.inTime(ctx, err))
	}
	return nil
}

func (f *Forwarder) advice(err error) string {
	switch {
	case isUnknownTopic(err):
		return "it does not exist, or our Kafka user may not see it: check its name, or create it: "
	case errors.Is(err, kerr.TopicAuthorizationFailed), errors.Is(err, kerr.ClusterAuthorizationFailed):
		return "grant Describe and Write on it to our Kafka user: "
	case isTooLarge(err):
		return "the record is larger than it takes: raise its max.message.bytes: "
	case errors.Is(err, kerr.InvalidTimestamp):
		return "it does not take a record of that time: raise its message.timestamp.before.max.ms: "
	case errors.Is(err, kerr.InvalidRecord):
		return "it refuses the record (a compacted topic takes none without a key): "
	}
	return ""
}
