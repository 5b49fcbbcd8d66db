package bridge_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"serbridge/bridge"
	"serbridge/transform"
)

// schemas is a registry whose one schema is read once it is there: JSON under a frame.
type schemas struct {
	there, read atomic.Bool
	asked       atomic.Int32
}

func (s *schemas) schema(uint32) (transform.Schema, error) {
	if !s.read.Load() {
		return nil, nil
	}
	return func(payload []byte, _ int) ([]byte, error) { return payload, nil }, nil
}

func (s *schemas) fetch(context.Context, uint32) error {
	s.asked.Add(1)
	if !s.there.Load() {
		return errors.New("read schema 1 from the registry: connection refused")
	}
	s.read.Store(true)
	return nil
}

func (s *schemas) configure(c *bridge.Config) {
	settings := &transform.Settings{Schemas: s.schema}
	c.Transform, c.Schema = func(string) *transform.Settings { return settings }, s.fetch
}

func framed(i int) []byte { return append([]byte{0, 0, 0, 0, 1}, detection(i)...) }

// A registry that is away is an outage: what it describes is held, and neither dead-lettered nor skipped; other topics go on.
func TestRegistryThatIsAwayHoldsWhatItDescribesAndNothingElse(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const other = "other"
		var s schemas
		w := newWorld(t, worldConfig{topics: []string{topic, other}})
		w.produceTo(topic, 0, 300, framed)
		m := w.start(func(c *bridge.Config) { c.Topics = []string{topic, other}; s.configure(c) })
		time.Sleep(time.Minute)
		w.produceTo(other, 300, 300, detection)
		time.Sleep(9 * time.Minute)
		if lag, stored := w.lag(topic), w.api.Ledger().Distinct; lag != 300 || stored != 300 || len(w.letters()) != 0 {
			t.Errorf("lag %d, %d stored, %d dead letters", lag, stored, len(w.letters()))
		}
		m.expectNotReady("records wait for their schema")
		s.there.Store(true)
		w.settled(2*time.Minute, topic, other)
		w.expect(600, 0)
		if rs := m.health.Reasons(); len(rs) > 0 {
			t.Errorf("not ready after it came back: %v", rs)
		}
	})
}

// A drain does not wait for a registry that is away: what waits is the next owner's.
func TestStopWhileSchemasAreAwaitedLosesNothing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var s schemas
		w := newWorld(t, worldConfig{})
		w.produceTo(topic, 0, 100, framed)
		m := w.start(s.configure)
		time.Sleep(time.Minute)
		begun := time.Now()
		m.end()
		if took := time.Since(begun); took > 5*time.Second {
			t.Errorf("the stop took %v", took)
		}
		s.there.Store(true)
		w.start(s.configure)
		w.settled(time.Minute)
		w.expect(100, 0)
	})
}

// Without a registry in the settings of the bridge nothing is settled that waits for one.
func TestHoldWithoutARegistryHolds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var s schemas
		w := newWorld(t, worldConfig{})
		w.produceTo(topic, 0, 3, framed)
		m := w.start(func(c *bridge.Config) { s.configure(c); c.Schema = nil })
		time.Sleep(time.Minute)
		if lag := w.lag(topic); lag != 3 {
			t.Errorf("lag %d", lag)
		}
		m.expectNotReady("no schema registry is configured")
	})
}

// What is compressed takes room for all that it may hold, and more than the whole buffer if need be: then it goes alone.
func TestPackedRecordsGoThroughASmallBuffer(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, worldConfig{})
		w.produceTo(topic, 0, 60, func(i int) []byte {
			var b bytes.Buffer
			z := gzip.NewWriter(&b)
			for range 30_000 / 16 { // text that does not compress, so that the record is large
				fmt.Fprintf(z, "%016x\n", rand.Uint64())
			}
			if i%2 == 0 {
				b.Reset()
				z.Reset(&b)
			}
			z.Write(detection(i)) //nolint:errcheck // into memory
			if err := z.Close(); err != nil {
				t.Error(err)
			}
			return b.Bytes()
		})
		w.start(func(c *bridge.Config) { c.BufferBytes = 4 << 20; c.RejectBrake = -1 })
		w.settled(2 * time.Minute)
		if l := w.api.Ledger(); l.Distinct != 30 || len(w.letters()) != 30 {
			t.Errorf("%d stored, %d dead letters", l.Distinct, len(w.letters()))
		}
	})
}

// During an outage the records of a topic fill the buffer by what may come of them, and not by their few bytes.
func TestPackedRecordsFillTheBufferByWhatMayComeOfThem(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var s schemas // which is away
		w := newWorld(t, worldConfig{})
		w.produceTo(topic, 0, 2000, framed)
		m := w.start(func(c *bridge.Config) { s.configure(c); c.BufferBytes = 4 << 20 })
		time.Sleep(time.Minute)
		if n := m.metric("records_in_memory"); n == 0 || n > 4<<20/(16<<10) {
			t.Errorf("%v records of at most 16 KiB each in a buffer of 4 MiB", n)
		}
	})
}
