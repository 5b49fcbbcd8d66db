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

// MarkConfig configures a [MarkWriter].
type MarkConfig struct {
	Options []kgo.Opt // brokers, TLS, SASL, dialer
	Topic   string    // the dead-letter topic, whose handled topic is written
	Create  bool      // create the handled topic if it is missing
}

// MarkWriter writes what became of dead letters.
type MarkWriter struct {
	cfg    MarkConfig
	topic  string
	writes *kafka.Producer
	dials  *dials
}

// NewMarkWriter returns a writer. It does not connect. The caller has to Close it.
func NewMarkWriter(cfg MarkConfig) (*MarkWriter, error) {
	w := &MarkWriter{cfg: cfg, topic: HandledTopic(cfg.Topic), dials: new(dials)}
	writes, err := kafka.NewProducer(append(cfg.Options[:len(cfg.Options):len(cfg.Options)],
		kgo.RequiredAcks(kgo.AllISRAcks()),
		kgo.ProducerBatchCompression(kgo.ZstdCompression(), kgo.NoCompression()),
		kgo.ProducerLinger(0),
		kgo.AllowIdempotentProduceCancellation(),
		kgo.MetadataMinAge(250*time.Millisecond),
		kgo.DisableClientMetrics(),
		kgo.WithHooks(w.dials),
	)...)
	if err != nil {
		return nil, fmt.Errorf("configure the Kafka client for %s: %w", w.topic, err)
	}
	w.writes = writes
	return w, nil
}

// Close ends the writer's connections.
func (w *MarkWriter) Close() { w.writes.Close() }

// Write returns nil when every in-sync replica has all the marks. After an error some may be there; writing them again is
// right, since the last mark of a letter counts. It returns when ctx ends. A few hundred at a time are a good number.
func (w *MarkWriter) Write(ctx context.Context, marks ...Mark) error {
	records := make([]*kgo.Record, len(marks))
	for i, m := range marks {
		r, err := m.Record(w.topic)
		if err != nil {
			return err
		}
		records[i] = r
	}
	err := w.produce(ctx, records)
	if err != nil {
		return fmt.Errorf("write what became of dead letters to %s: %s%w", w.topic, w.advice(err), w.dials.inTime(ctx, err))
	}
	return nil
}

// Ready returns nil when the handled topic exists, after creating it if need be and allowed. It ends with ctx.
func (w *MarkWriter) Ready(ctx context.Context) error {
	topics, err := w.writes.Admin().ListTopics(kadm.WithAuthorizedOps(ctx), w.topic) // past the client's cache
	if err == nil {
		err = topics[w.topic].Err
	}
	if isUnknownTopic(err) && w.cfg.Create {
		err = w.create(ctx)
	}
	if err != nil {
		return fmt.Errorf("find or create %s: %s%w", w.topic, w.advice(err), w.dials.inTime(ctx, err))
	}
	return nil
}

// produce creates the topic if it is missing, if it may, and tries again.
func (w *MarkWriter) produce(ctx context.Context, records []*kgo.Record) (err error) {
	for range 3 {
		client := w.writes.Client()
		if err := w.writes.Identify(ctx, client); err != nil {
			return err
		}
		if err = client.ProduceSync(ctx, records...).FirstErr(); !isUnknownTopic(err) || !w.cfg.Create {
			return err
		}
		client.PurgeTopicsFromProducing(w.topic) // it may be another one of the same name
		if err := w.create(ctx); err != nil {
			return err
		}
		for _, r := range records {
			*r = kgo.Record{Topic: w.topic, Key: r.Key, Value: r.Value}
		}
	}
	return err
}

// create makes the topic with one partition, so that the marks of a letter stay in order whatever happens, and as safe as
// the dead-letter topic. Somebody who was faster is no error.
func (w *MarkWriter) create(ctx context.Context) error {
	configs := map[string]*string{"cleanup.policy": kadm.StringPtr("compact")}
	replicas := int16(-1)
	if topics, err := w.writes.Admin().ListTopics(ctx, w.cfg.Topic); err == nil && topics[w.cfg.Topic].Err == nil {
		replicas = int16(max(1, topics[w.cfg.Topic].Partitions.NumReplicas()))
	}
	if found, err := w.writes.Admin().DescribeTopicConfigs(ctx, w.cfg.Topic); err == nil {
		for _, c := range found {
			for _, one := range c.Configs {
				if one.Key == "min.insync.replicas" && c.Err == nil {
					configs[one.Key] = one.Value
				}
			}
		}
	}
	answers, err := w.writes.Admin().CreateTopics(ctx, 1, replicas, configs, w.topic)
	if err != nil {
		return err
	}
	if err := answers[w.topic].Err; err != nil && !errors.Is(err, kerr.TopicAlreadyExists) {
		return err
	}
	return nil
}

func (w *MarkWriter) advice(err error) string {
	switch {
	case isUnknownTopic(err):
		return "the topic does not exist and DLQ_CREATE is false: create it with cleanup.policy=compact, or set DLQ_CREATE=true: "
	case errors.Is(err, kerr.TopicAuthorizationFailed), errors.Is(err, kerr.ClusterAuthorizationFailed):
		return "grant Describe, Write and Create on the topic to our Kafka user, or create it with cleanup.policy=compact: "
	case errors.Is(err, kerr.InvalidRecord):
		return "the topic refuses the record: "
	}
	return ""
}
