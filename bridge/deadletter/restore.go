package deadletter

import (
	"context"
	"fmt"

	"github.com/twmb/franz-go/pkg/kgo"
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
	for i, result := range w.client.ProduceSync(ctx, copies...) {
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
