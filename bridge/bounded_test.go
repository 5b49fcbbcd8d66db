package bridge_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"

	"serbridge/bridge"
	"serbridge/bridge/frontier"
)

// bound commits where a run of the group begins and ends in each partition.
func (w *world) bound(from, to map[int32]int64) {
	w.t.Helper()
	all := make(kadm.Offsets)
	for id, end := range to {
		m := frontier.Map{End: &end}
		all.Add(kadm.Offset{Topic: topic, Partition: id, At: from[id], LeaderEpoch: -1, Metadata: m.Encode(group, topic, id, from[id], 0)})
	}
	if err := w.admin.CommitAllOffsets(context.Background(), group, all); err != nil {
		w.t.Fatal(err)
	}
}

// A bounded run delivers what lies between its bounds, no record before and none after, and ends by itself: with several
// members, one of which is killed, while the topic grows, and where a partition has nothing.
func TestBoundedRunDeliversItsRangeAndEnds(t *testing.T) {
	t.Parallel()
	for _, protocol := range protocols {
		t.Run(protocol, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, worldConfig{api: lively, partitions: 4})
				w.produce(0, 3000)
				w.bound(map[int32]int64{0: 100, 1: 0, 2: 750, 3: 700}, map[int32]int64{0: 600, 1: 750, 2: 750, 3: 740})
				const want = 500 + 750 + 0 + 40
				w.produce(3000, 400)
				join := func() *member {
					return w.start(func(c *bridge.Config) { c.Bounded, c.Protocol, c.RateLimit = true, protocol, 100 })
				}
				a, killed, b := join(), join(), join()
				stop := w.trickle(3400, time.Second)
				w.stored(want / 2)
				killed.kill()
				go killed.end()
				for _, m := range []*member{a, b} {
					select {
					case err := <-m.done:
						if err != nil {
							t.Error(err)
						}
						close(m.done)
					case <-time.After(10 * time.Minute):
						t.Fatalf("the run has not ended: %+v", w.commits(topic))
					}
				}
				stop()
				w.expect(want, 200)
				for id, end := range map[int32]int64{0: 600, 1: 750, 2: 750, 3: 740} {
					if c := w.commits(topic)[id]; c.At != end {
						t.Errorf("partition %d is committed up to %d, want %d", id, c.At, end)
					}
				}
			})
		})
	}
}

// What became of a record must be taken in before its offset counts as settled, also when that fails for a while and the
// member is killed meanwhile.
func TestOutcomeIsTakenInBeforeTheOffset(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const records, rejects = 300, 30
		w := newWorld(t, worldConfig{})
		w.produceTo(topic, 0, records, withRejects)
		var mu sync.Mutex
		told := make(map[string]map[string]bool) // what of which; a killed member, which is in this process, tells as well
		failing := true
		take := func(_ context.Context, o bridge.Outcome) error {
			mu.Lock()
			defer mu.Unlock()
			if failing {
				return errors.New("no room")
			}
			what := "anything else"
			switch p := o.Parts[0]; {
			case len(o.Parts) != 1:
			case p.Delivered && p.Answer.ID != "" && p.Document != nil && p.Part == 0:
				what = "delivered"
			case p.Part == bridge.WholeRecord && p.Reason != "":
				what = "dead letter"
			}
			if told[what] == nil {
				told[what] = make(map[string]bool)
			}
			told[what][fmt.Sprint(o.Record.Partition, o.Record.Offset)] = true
			return nil
		}
		start := func() *member { return w.start(func(c *bridge.Config) { c.Ended = take; c.MaxRepeats = 1000 }) }
		m := start()
		time.Sleep(time.Minute)
		if lag := w.lag(topic); lag != records {
			t.Errorf("lag %d: committed what was not taken in", lag)
		}
		m.expectNotReady("no room")
		m.kill()
		go m.end()
		mu.Lock()
		failing = false
		mu.Unlock()
		m = start()
		w.settled(5 * time.Minute)
		if len(told["delivered"]) != records-rejects || len(told["dead letter"]) != rejects || len(told) != 2 {
			t.Errorf("told of %d delivered and %d dead letters, want %d and %d", len(told["delivered"]), len(told["dead letter"]), records-rejects, rejects)
		}
		m.expectReady()
	})
}
