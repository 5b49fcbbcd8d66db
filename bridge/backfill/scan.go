package backfill

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// Scan reads the ranges of a plan without a group: it commits nothing and disturbs nobody.
type Scan struct {
	Kafka       []kgo.Opt // reaches the brokers
	BufferBytes int       // bound on what is held at a time, about

	done atomic.Int64
}

// Done is how many offsets have been passed.
func (s *Scan) Done() int64 { return s.done.Load() }

// scanPoll is how many records are taken at a time, so that a cancelled scan ends soon.
const scanPoll = 1000

// Each calls f with every record of the plan, partition by partition in order, until it fails or ctx ends.
func (s *Scan) Each(ctx context.Context, p Plan, f func(*kgo.Record) error) error {
	next := make(map[Place]int64)
	starts := make(map[string]map[int32]kgo.Offset)
	for _, r := range p.Ranges {
		if r.At >= r.End {
			continue
		}
		next[r.Place] = r.At
		if starts[r.Topic] == nil {
			starts[r.Topic] = make(map[int32]kgo.Offset)
		}
		starts[r.Topic][r.Partition] = kgo.NewOffset().At(r.At)
	}
	client, err := kgo.NewClient(append(s.Kafka[:len(s.Kafka):len(s.Kafka)], s.options(starts)...)...)
	if err != nil {
		return fmt.Errorf("make Kafka client: %w", err)
	}
	defer client.Close()
	for len(next) > 0 {
		fs := client.PollRecords(ctx, scanPoll)
		if ctx.Err() != nil {
			return fmt.Errorf("read records: %w", context.Cause(ctx))
		}
		if err := fetchError(fs); err != nil {
			return err
		}
		for k := range fs.RecordsAll() {
			if err := s.record(client, p, next, k, f); err != nil {
				return err
			}
		}
	}
	return nil
}

func (s *Scan) options(starts map[string]map[int32]kgo.Offset) []kgo.Opt {
	return []kgo.Opt{
		kgo.ConsumePartitions(starts), kgo.ConsumeResetOffset(kgo.NoResetOffset()), kgo.DisableClientMetrics(),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.KeepControlRecords(),
		kgo.FetchMaxBytes(int32(max(1<<16, s.BufferBytes/8))), kgo.FetchMaxPartitionBytes(int32(max(1<<16, s.BufferBytes/64))),
		kgo.MaxDecompressBatchBytes(s.BufferBytes / 4),
	}
}

// fetchError takes no fault that the client tries to heal by itself.
func fetchError(fs kgo.Fetches) (failed error) {
	fs.EachError(func(topic string, id int32, err error) {
		at := Place{topic, id}
		switch {
		case errors.Is(err, kerr.OffsetOutOfRange):
			failed = fmt.Errorf("read %s: retention has removed the next record meanwhile; run the same again: %w", at, err)
		case errors.Is(err, kerr.UnknownTopicOrPartition), errors.Is(err, kerr.UnknownTopicID):
			failed = fmt.Errorf("read %s: the topic was deleted: %w", at, err)
		case !kerr.IsRetriable(err):
			failed = fmt.Errorf("read %s: %w", at, err)
		}
	})
	return failed
}

// record passes one record. The last one of its range, or one beyond, ends its partition.
func (s *Scan) record(client *kgo.Client, p Plan, next map[Place]int64, k *kgo.Record, f func(*kgo.Record) error) error {
	at := Place{k.Topic, k.Partition}
	from, open := next[at]
	if !open {
		return nil
	}
	r, _ := p.find(at)
	to := min(k.Offset+1, r.End)
	s.done.Add(to - from)
	next[at] = to
	if to == r.End {
		delete(next, at)
		client.PauseFetchPartitions(map[string][]int32{k.Topic: {k.Partition}})
	}
	if k.Offset >= r.End || k.Attrs.IsControl() {
		return nil
	}
	return f(k)
}
