package bridge_test

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"serbridge/bridge"
	"serbridge/bridge/stellar/stellartest"
)

// Records of any size must not fill the memory while the API is away: what is received stays within its part of the
// buffer, one record more at most.
func TestQueueStaysWithinItsBound(t *testing.T) {
	t.Parallel()
	for _, size := range rows([]int{20_000, 200, 300_000}) {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				const buffer = 8 << 20
				records := min(4000, 3*buffer/size)
				w := newWorld(t, worldConfig{api: stellartest.Config{StoreLimit: 100}})
				w.api.Script(stellartest.Always(stellartest.Unavailable()))
				for first := 0; first < records; first += 100 {
					w.produceTo(topic, first, min(100, records-first), func(i int) []byte { return sized(i, size) })
				}
				m := w.start(func(c *bridge.Config) { c.BufferBytes = buffer })
				most := 0.0
				for range 100 {
					time.Sleep(100 * time.Millisecond)
					most = max(most, m.metric("records_in_memory_bytes"))
				}
				if bound := float64(buffer/2 + size + 1000); most > bound || most == 0 {
					t.Errorf("%.0f bytes in memory, want at most %.0f", most, bound)
				}
				w.api.Script(nil)
				for i := 0; w.lag(topic) > 0 && i < 600; i++ {
					time.Sleep(time.Second)
					if n := m.metric("records_in_memory_bytes"); n > float64(buffer/2+size+1000) {
						t.Errorf("%.0f bytes in memory under way", n)
					}
				}
				w.expect(records, 0)
			})
		})
	}
}

// A record larger than all that the queue may hold is still delivered, between others.
func TestRecordLargerThanTheQueueIsDelivered(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, worldConfig{partitions: 1})
		w.produceUnpacked(0, 30, func(i int) []byte {
			if i%10 == 5 {
				return sized(i, 900_000)
			}
			return detection(i)
		})
		m := w.start(func(c *bridge.Config) { c.BufferBytes = 512 << 10 })
		w.settled(time.Minute)
		w.expect(30, 0)
		m.expectReady()
	})
}

// produceUnpacked writes to partition 0 without compression.
func (w *world) produceUnpacked(first, n int, value func(int) []byte) {
	w.t.Helper()
	rs := make([]*kgo.Record, n)
	for i := range rs {
		rs[i] = &kgo.Record{Topic: topic, Value: value(first + i)}
	}
	w.produceWith(rs, kgo.ProducerBatchCompression(kgo.NoCompression()))
}

// A batch that unpacks to more than its part of the buffer holds its partition, and readiness says which setting to
// raise; it is never skipped.
func TestBatchAboveTheUnpackingLimitIsHeldNotSkipped(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, worldConfig{partitions: 2})
		w.produceRecords(&kgo.Record{Topic: topic, Partition: 0, Value: detection(0)}, &kgo.Record{Topic: topic, Partition: 1, Value: detection(1)})
		w.produceRecords(&kgo.Record{Topic: topic, Partition: 0, Value: sized(2, 900_000)})
		w.produceRecords(&kgo.Record{Topic: topic, Partition: 0, Value: detection(3)}, &kgo.Record{Topic: topic, Partition: 1, Value: detection(4)})
		m := w.start(func(c *bridge.Config) { c.BufferBytes = 1 << 20 })
		time.Sleep(time.Minute)
		m.expectNotReady("BUFFER_BYTES")
		if c := w.commits(topic); c[0].At != 1 || c[1].At != 2 {
			t.Errorf("committed %d and %d, want 1 and 2", c[0].At, c[1].At)
		}
		m.end()
		m = w.start(nil)
		w.settled(time.Minute)
		w.expect(5, 0)
		m.expectReady()
	})
}

// A partition with a long backlog does not delay the trickle of another, nor does one that is held.
func TestFullPartitionDelaysNoOther(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const trickle = "trickle"
		w := newWorld(t, worldConfig{partitions: 1, topics: []string{topic, trickle}, api: slow})
		w.produceUnpacked(0, 8000, detection)
		w.start(func(c *bridge.Config) { c.Topics = []string{topic, trickle}; c.RateLimit = 200 })
		time.Sleep(5 * time.Second)
		for i := range 10 {
			w.produceTo(trickle, 30_000+i, 1, detection)
			begun := time.Now()
			for w.lag(trickle) > 0 && time.Since(begun) < 10*time.Second {
				time.Sleep(50 * time.Millisecond)
			}
			if took := time.Since(begun); took > 4*time.Second {
				t.Fatalf("record %d of the trickle took %v behind the backlog of the other topic", i, took)
			}
		}
	})
}

// The bound must cost no throughput at its default: with answers of a twentieth of a second, 64 at once and a broker that
// takes its time for commits, as many are delivered as without any.
func TestBoundCostsNoThroughput(t *testing.T) {
	t.Parallel()
	took := make(map[int]time.Duration)
	for _, bound := range []int{200, -1} {
		synctest.Test(t, func(t *testing.T) {
			const records = 6000
			w := newWorld(t, worldConfig{api: slow})
			m := w.start(func(c *bridge.Config) { c.MaxRepeats, c.RateLimit = bound, 0 })
			w.produce(0, records/2)
			w.settled(time.Minute) // the ramp
			m.lines.slow(time.Millisecond)
			begun := time.Now()
			w.produce(records/2, records/2)
			w.stored(records - 64)
			took[bound] = time.Since(begun)
			w.settled(time.Minute)
			w.expect(records, 0)
		})
	}
	if most := took[-1] * 103 / 100; took[200] > most {
		t.Errorf("%v with the bound, %v without", took[200], took[-1])
	}
	t.Log(took)
}
