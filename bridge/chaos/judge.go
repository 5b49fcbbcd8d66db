package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"serbridge/bridge/deadletter"
	"serbridge/transform"
	"serbridge/transform/format"
)

// judge compares the ledgers: what was produced, what the API stored, what the
// dead-letter topic holds.
func (w *world) judge(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	letters, err := w.letters(ctx)
	if err != nil {
		return err
	}
	keys, err := w.deliveryKeys(ctx)
	if err != nil {
		return err
	}
	copies := w.api.Copies()
	lost, refused, wrong := 0, 0, 0
	for at, good := range w.wanted {
		stored := copies[keys[at]] > 0
		switch {
		case good && !stored && letters[at]:
			refused++
		case good && !stored, !good && !letters[at]:
			lost++
		case !good && stored:
			wrong++
		}
	}
	l := w.api.Ledger()
	most := w.kills * w.o.maxRepeats
	if w.o.probe {
		most = 0
	}
	fmt.Printf("seed %d: produced %d, stored %d, lost %d, good records dead-lettered %d, stored again %d: %d of them answers lost on purpose, %d of at most %d by %d kills\n",
		w.o.seed, w.produced, l.Distinct, lost, refused, l.Repeats, l.Repeats-l.Unexplained, l.Unexplained, most, w.kills)
	var faults []error
	if lost > 0 {
		faults = append(faults, fmt.Errorf("%d records lost", lost))
	}
	if refused+wrong > 0 {
		faults = append(faults, fmt.Errorf("%d good records dead-lettered, %d bad ones stored", refused, wrong))
	}
	if l.Unexplained > most {
		faults = append(faults, fmt.Errorf("%d documents stored again, at most %d are explained", l.Unexplained, most))
	}
	return errors.Join(faults...)
}

func (w *world) letters(ctx context.Context) (map[place]bool, error) {
	at := make(map[place]bool)
	err := w.read(ctx, w.group+".dlq", func(r *kgo.Record) error {
		l, err := deadletter.Parse(r)
		at[place{l.Partition, l.Offset}] = true
		return err
	})
	return at, err
}

// deliveryKeys are the keys under which the API must know the documents.
func (w *world) deliveryKeys(ctx context.Context) (map[place]string, error) {
	m, err := w.admin.BrokerMetadata(ctx)
	if err != nil {
		return nil, err
	}
	keys := make(map[place]string)
	err = w.read(ctx, w.topic, func(r *kgo.Record) error {
		result := format.Transform(transform.Input{Value: r.Value, Topic: r.Topic, Partition: r.Partition, Offset: r.Offset,
			Timestamp: r.Timestamp, ClusterID: m.Cluster, ReplayID: w.runID})
		if len(result.Parts) == 1 && result.Parts[0].Document != nil {
			keys[place{r.Partition, r.Offset}] = result.Parts[0].Document.DeliveryKey()
		}
		return nil
	})
	return keys, err
}

// read calls f with every record that a topic has now.
func (w *world) read(ctx context.Context, topic string, f func(*kgo.Record) error) error {
	ends, err := w.admin.ListEndOffsets(ctx, topic)
	if err != nil {
		return fmt.Errorf("list offsets of %s: %w", topic, err)
	}
	left := int64(0)
	ends.Each(func(o kadm.ListedOffset) { left += max(0, o.Offset) })
	cl, err := kgo.NewClient(kgo.SeedBrokers(w.brokers...), kgo.ConsumeTopics(topic))
	if err != nil {
		return err
	}
	defer cl.Close()
	for left > 0 {
		fs := cl.PollFetches(ctx)
		if err := fs.Err0(); err != nil {
			return fmt.Errorf("read %s: %w", topic, err)
		}
		for r := range fs.RecordsAll() {
			left--
			if err := f(r); err != nil {
				return err
			}
		}
	}
	return nil
}
