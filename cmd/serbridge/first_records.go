package main

import (
	"context"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"serbridge/bridge/backfill"
)

const (
	firstBytes  = 1 << 20     // of one fetch, and a sixteenth of one partition; a larger batch comes alone
	firstUnpack = 64 << 20    // of one batch
	firstWait   = time.Second // for one poll
	firstQuiet  = 2           // polls in a row without a record, after which there is none
)

// firstRecords are the first records of partitions at or after an offset.
type firstRecords struct {
	options []kgo.Opt
	from    map[backfill.Place]int64
	wanted  func(*kgo.Record) bool // nil: whichever is the first

	at     map[backfill.Place]time.Time // when they were produced; one that is not there is missing
	failed map[backfill.Place]error     // why a partition cannot be read
}

// read joins no group. Markers and aborted records count too, so that an open transaction keeps nobody waiting.
func (f *firstRecords) read(ctx context.Context) error {
	f.at, f.failed = make(map[backfill.Place]time.Time), make(map[backfill.Place]error)
	if len(f.from) == 0 {
		return nil
	}
	client, err := kgo.NewClient(append(f.options[:len(f.options):len(f.options)], kgo.ConsumePartitions(f.starts()), kgo.KeepControlRecords(),
		kgo.FetchMaxWait(250*time.Millisecond), kgo.FetchMaxPartitionBytes(firstBytes/16), kgo.FetchMaxBytes(firstBytes),
		kgo.MaxDecompressBatchBytes(firstUnpack), kgo.ConsumeResetOffset(kgo.NoResetOffset()), kgo.DisableClientMetrics())...)
	if err != nil {
		return fmt.Errorf("make a Kafka client: %w", err)
	}
	defer client.Close()
	for quiet := 0; len(f.at)+len(f.failed) < len(f.from) && quiet < firstQuiet && ctx.Err() == nil; {
		polling, cancel := context.WithTimeout(ctx, firstWait)
		fetches := client.PollFetches(polling)
		cancel()
		if quiet++; fetches.NumRecords() > 0 {
			quiet = 0
		}
		fetches.EachPartition(func(p kgo.FetchTopicPartition) { f.take(client, p) })
	}
	return nil
}

func (f *firstRecords) starts() map[string]map[int32]kgo.Offset {
	starts := make(map[string]map[int32]kgo.Offset)
	for p, offset := range f.from {
		if starts[p.Topic] == nil {
			starts[p.Topic] = make(map[int32]kgo.Offset)
		}
		starts[p.Topic][p.Partition] = kgo.NewOffset().At(offset)
	}
	return starts
}

// take keeps a time alone: a record would keep its whole batch.
func (f *firstRecords) take(client *kgo.Client, fetched kgo.FetchTopicPartition) {
	p := backfill.Place{Topic: fetched.Topic, Partition: fetched.Partition}
	if _, asked := f.from[p]; !asked || !f.at[p].IsZero() || f.failed[p] != nil {
		return
	}
	for _, r := range fetched.Records {
		if f.wanted == nil || f.wanted(r) {
			f.at[p] = r.Timestamp
			break
		}
	}
	if f.at[p].IsZero() && fetched.Err == nil {
		return
	}
	if f.at[p].IsZero() {
		f.failed[p] = fetched.Err
	}
	client.PauseFetchPartitions(map[string][]int32{p.Topic: {p.Partition}})
}
