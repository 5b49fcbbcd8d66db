package deadletter

import (
	"context"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"serbridge/bridge/kafka"
)

// Restore writes records that were read from a dead-letter topic back to it as they are, each into the partition that it had,
// mod the number that there are now. It returns how many of them, from the first on, every in-sync replica has, and why not
// all; writing the rest again is right. Their order is kept.
func (w *Writer) Restore(ctx context.Context, records ...*kgo.Record) (written int, err error) {
	if err := w.Ready(ctx); err != nil {
		return 0, err
	}
	copies := make([]*kgo.Record, len(records))
	for i, r := range records {
		copies[i] = w.again(r)
	}
	for i, result := range w.writes.Client().ProduceSync(ctx, copies...) {
		err := result.Err
		if isTooLarge(err) { // perhaps only together with its neighbours, which a broker refuses as a whole
			err = w.produce(ctx, w.again(records[i]))
		}
		if err != nil {
			return i, fmt.Errorf("write dead letter back: %w", w.explain("produce to", err))
		}
	}
	return len(records), nil
}

func (w *Writer) again(r *kgo.Record) *kgo.Record {
	return &kgo.Record{
		Topic: w.cfg.Topic, Partition: r.Partition, Key: r.Key, Value: r.Value, Headers: r.Headers, Timestamp: r.Timestamp,
	}
}

// Retention is how long the topic keeps a letter, counted from the record's own time; 0: for ever, or our Kafka user may not
// know it (DescribeConfigs). What is restored with an older time is removed again at the next cleaning.
func (w *Writer) Retention(ctx context.Context) time.Duration {
	found, _ := kafka.ReadRetention(ctx, w.writes.Admin(), w.cfg.Topic) // what is refused is not there
	return found[w.cfg.Topic].Time
}
