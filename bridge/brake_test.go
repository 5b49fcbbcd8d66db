package bridge_test

import (
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"serbridge/bridge"
	"serbridge/bridge/deadletter"
	"serbridge/transform"
)

// sourceless is a detection without event_source: a reject, until EVENT_SOURCE names one.
func sourceless(i int) []byte {
	return fmt.Appendf(nil, `{"event_name":"detection %d","timestamp":%d,"event_status":"New"}`, i, 1_750_000_000_000+int64(i))
}

// settings are EVENT_SOURCE of all topics, as a person mends it.
type settings struct{ source atomic.Pointer[string] }

func (s *settings) of(string) *transform.Settings {
	t := new(transform.Settings)
	if source := s.source.Load(); source != nil {
		t.EventSource = *source
	}
	return t
}

// A topic whose mapping is broken must not end in the dead-letter topic: after 200 rejects in a row it pauses, tries ten
// records a minute, says where it began, leaves the other topic alone, and goes on by itself once the mapping is right.
func TestBrokenMappingDoesNotDrainItsTopic(t *testing.T) {
	t.Parallel()
	for _, partitions := range []int32{1, 3} {
		t.Run(fmt.Sprintf("%d partitions", partitions), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				const records, other = 2000, "other"
				var mapping settings
				w := newWorld(t, worldConfig{partitions: partitions, topics: []string{topic, other}, api: slow})
				w.produceTo(topic, 0, 30, detection)
				m := w.start(func(c *bridge.Config) { c.Topics = []string{topic, other}; c.Transform = mapping.of })
				w.settled(20*time.Second, topic, other) // so that none of them ends a row
				w.produceTo(topic, 30, records, func(i int) []byte {
					if i%5 == 0 {
						return nil // a tombstone neither counts nor releases
					}
					return sourceless(i)
				})
				time.Sleep(40 * time.Second)
				if n := len(w.letters()); n != 200 {
					t.Errorf("%d dead letters, want exactly 200", n)
				}
				m.expectNotReady("topic detections is paused")
				for minute := range 3 {
					time.Sleep(time.Minute)
					// Two of ten are tombstones, give or take one.
					if n := len(w.letters()); n < 200+7*(minute+1) || n > 200+9*(minute+1) {
						t.Errorf("%d dead letters after %d trials of ten", n, minute+1)
					}
				}
				refused := len(w.letters())
				expectFirst(t, m, w.letters())
				w.produceTo(other, 0, 500, detection)
				w.settled(20*time.Second, other)
				if n := w.api.Ledger().Distinct; n != 530 {
					t.Errorf("%d stored, want 30 and the 500 of the other topic", n)
				}
				mended := "suricata"
				mapping.source.Store(&mended)
				w.settled(3*time.Minute, topic, other)
				if l := w.api.Ledger(); l.Distinct != 530+records*4/5-refused || l.Repeats > 0 {
					t.Errorf("%d stored, %d repeats, want all but %d", l.Distinct, l.Repeats, refused)
				}
				if n := len(w.letters()); n != refused {
					t.Errorf("%d dead letters, want the %d from before", n, refused)
				}
				m.expectReady()
			})
		})
	}
}

// expectFirst is that readiness names where the row began: one of the dead letters, in the order in which transforms end.
func expectFirst(t *testing.T, m *member, letters []deadletter.Letter) {
	t.Helper()
	said := strings.Join(m.health.Reasons(), "\n")
	for _, l := range letters {
		if strings.Contains(said, fmt.Sprintf("/%d offset %d on", l.Partition, l.Offset)) {
			return
		}
	}
	t.Errorf("readiness names no offset of a dead letter: %s", said)
}

// A member that takes over a braked topic, or one that restarts, does not drain it either.
func TestRestartDoesNotReleaseMoreThanAnotherRow(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, worldConfig{partitions: 1})
		w.produceTo(topic, 0, 2000, sourceless)
		m := w.start(nil)
		time.Sleep(30 * time.Second)
		begun := time.Now()
		m.end()
		if took := time.Since(begun); took > 40*time.Second {
			t.Errorf("the stop took %v", took)
		}
		m = w.start(nil)
		time.Sleep(30 * time.Second)
		if n := len(w.letters()); n != 400 {
			t.Errorf("%d dead letters, want a row of 200 per member", n)
		}
		expectFirst(t, m, w.letters())
	})
}

// Rejects with a good one among them, again and again, are no broken mapping. The row is counted in the order in which
// transforms end, which on a busy machine is not quite that of the topic, so they lie closer than the limit.
func TestGoodRecordEndsTheRow(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, worldConfig{partitions: 1})
		w.produceTo(topic, 0, 1000, func(i int) []byte {
			if i%20 == 19 {
				return detection(i)
			}
			return sourceless(i)
		})
		m := w.start(nil)
		w.settled(time.Minute)
		if n := len(w.letters()); n != 950 || w.api.Ledger().Distinct != 50 {
			t.Errorf("%d dead letters, %d stored", n, w.api.Ledger().Distinct)
		}
		m.expectReady()
	})
}
