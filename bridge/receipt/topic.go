package receipt

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"

	"serbridge/bridge/kafka"
)

func isUnknownTopic(err error) bool {
	return errors.Is(err, kerr.UnknownTopicOrPartition) || errors.Is(err, kerr.UnknownTopicID)
}

// findOrCreate returns nil when the topic is there.
func (w *Writer) findOrCreate(ctx context.Context) error {
	topics, err := w.writes.Admin().ListTopics(kadm.WithAuthorizedOps(ctx), w.cfg.Topic) // past the client's cache
	if err != nil {
		return err
	}
	err = topics[w.cfg.Topic].Err
	if !isUnknownTopic(err) {
		return err
	}
	w.writes.Client().PurgeTopicsFromProducing(w.cfg.Topic) // it may become another one of the same name
	return w.create(ctx)
}

// create makes the topic with as many partitions as the largest source. A replica that was faster is no error.
func (w *Writer) create(ctx context.Context) error {
	retention := strconv.FormatInt(w.cfg.Retention.Milliseconds(), 10)
	configs := map[string]*string{"cleanup.policy": kadm.StringPtr("delete"), "retention.ms": &retention}
	partitions, replicas := int32(-1), int16(-1)
	if names := w.sources(); len(names) > 0 {
		var err error
		if partitions, replicas, err = w.sizeOf(ctx, names); err != nil {
			return err
		}
		w.copySafety(ctx, names, configs)
	}
	answers, err := w.writes.Admin().CreateTopics(ctx, partitions, replicas, configs, w.cfg.Topic)
	if err != nil {
		return err
	}
	switch err := answers[w.cfg.Topic].Err; {
	case err == nil:
		w.log.Info("created the receipts topic", "receipts_topic", w.cfg.Topic, "partitions", partitions, "retention", w.cfg.Retention)
	case !errors.Is(err, kerr.TopicAlreadyExists):
		return err
	}
	return nil
}

func (w *Writer) sources() []string {
	if w.cfg.Sources == nil {
		return nil
	}
	return w.cfg.Sources()
}

func (w *Writer) sizeOf(ctx context.Context, names []string) (partitions int32, replicas int16, err error) {
	topics, err := w.writes.Admin().ListTopics(kadm.WithAuthorizedOps(ctx), names...)
	if err != nil {
		return 0, 0, err
	}
	for _, t := range topics {
		if t.Err == nil {
			partitions = max(partitions, int32(len(t.Partitions)))
			replicas = max(replicas, int16(t.Partitions.NumReplicas()))
		}
	}
	if partitions == 0 { // with what the broker would choose, one partition perhaps, it would stay for ever
		return 0, 0, fmt.Errorf("no topic to read exists yet (KAFKA_TOPICS), so its size is unknown")
	}
	return partitions, max(1, replicas), nil
}

// copySafety has as many replicas acknowledge a receipt as the sources demand. A user that may not read that gets the
// broker's default.
func (w *Writer) copySafety(ctx context.Context, names []string, configs map[string]*string) {
	found, err := w.writes.Admin().DescribeTopicConfigs(ctx, names...)
	if err != nil {
		return
	}
	most := 0
	for _, c := range found {
		for _, one := range c.Configs {
			if n, err := strconv.Atoi(one.MaybeValue()); one.Key == "min.insync.replicas" && c.Err == nil && err == nil && n > most {
				most, configs[one.Key] = n, one.Value
			}
		}
	}
}

// explain says what to do about an error. What an operator mends at this topic the package kafka explains by other topics.
func explain(err error) string {
	if own := advice(err); own != "" {
		return own + err.Error()
	}
	return kafka.Explain(err)
}

func advice(err error) string {
	switch {
	case errors.Is(err, kerr.TopicAuthorizationFailed), errors.Is(err, kerr.ClusterAuthorizationFailed):
		return "grant Describe, Write and Create on the topic (RECEIPTS_TOPIC) to our Kafka user, or create it by hand: "
	case errors.Is(err, kerr.MessageTooLarge), errors.Is(err, kerr.RecordListTooLarge):
		return "raise the topic's max.message.bytes to 512 KiB at least: "
	case errors.Is(err, kerr.InvalidTimestamp):
		return "the topic refuses our clock's time: set the clock right, or the topic's message.timestamp bounds: "
	case isUnknownTopic(err):
		return "create the topic, or see why we could not: "
	case errors.Is(err, kerr.InvalidReplicationFactor), errors.Is(err, kerr.PolicyViolation), errors.Is(err, kerr.InvalidConfig):
		return "create the topic by hand: "
	}
	return ""
}
