package bridge_test

import (
	"bytes"
	"runtime"
	"runtime/debug"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"serbridge/bridge"
	"serbridge/bridge/stellar/stellartest"
)

// heap is the most of the heap that was in use while batches were unpacked. As a hook of kgo it looks after each.
type heap struct{ before, most, looks atomic.Int64 }

func (h *heap) OnFetchBatchRead(kgo.BrokerMetadata, string, int32, kgo.FetchBatchMetrics) {
	h.looks.Add(1)
	h.most.Store(max(h.most.Load(), heapInUse()-h.before.Load()))
}

func heapInUse() int64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// A few bytes of a topic may unpack to gigabytes. What the client holds of them is bounded whatever they hold, with the
// API away and after, and nothing is skipped. It runs alone: the heap is the whole process's.
func TestWhatAFetchUnpacksToIsBounded(t *testing.T) {
	const buffer = 8 << 20
	defer debug.SetGCPercent(debug.SetGCPercent(20)) // what is measured is not to be what nobody has collected yet
	type row struct {
		name           string
		codec          kgo.CompressionCodec
		records, bytes int // of a batch
	}
	for _, tt := range rows([]row{
		{"large records, zstd", kgo.ZstdCompression(), 10, 100_000},
		{"large records, gzip", kgo.GzipCompression(), 10, 100_000},
		{"large records, lz4", kgo.Lz4Compression(), 10, 100_000},
		{"large records, snappy", kgo.SnappyCompression(), 10, 100_000},
		{"small records, zstd", kgo.ZstdCompression(), 1500, 20},
	}) {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				const partitions, batches = 16, 4 // 64 MiB unpacked, of a few kilobytes
				w := newWorld(t, worldConfig{partitions: partitions, api: stellartest.Config{StoreLimit: 100}})
				w.api.Script(stellartest.Always(stellartest.Unavailable()))
				skipped := []byte(`{"event_name":"n","write_by":"` + string(bytes.Repeat([]byte("x"), tt.bytes)) + `"}`)
				for p := range int32(partitions) {
					rs := []*kgo.Record{{Topic: topic, Partition: p, Value: detection(int(p))}}
					for range batches * tt.records {
						rs = append(rs, &kgo.Record{Topic: topic, Partition: p, Value: skipped})
					}
					w.produceWith(rs, kgo.ProducerBatchCompression(tt.codec), kgo.ProducerBatchMaxBytes(1<<20), kgo.MaxBufferedRecords(1<<16))
				}
				runtime.GC()
				var h heap
				h.before.Store(heapInUse())
				w.start(func(c *bridge.Config) {
					c.BufferBytes = buffer
					c.Member = append(c.Member, kgo.WithHooks(&h))
				})
				time.Sleep(10 * time.Second)
				w.api.Script(nil)
				w.settled(10 * time.Minute)
				w.expect(partitions, 0)
				if most := h.most.Load(); most > 3*buffer || h.looks.Load() == 0 {
					t.Errorf("%d MiB of heap for a buffer of %d MiB", most>>20, buffer>>20)
				}
			})
		})
	}
}
