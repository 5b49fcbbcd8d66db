package bridge_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"serbridge/bridge"
	"serbridge/bridge/stellar/stellartest"
)

// A topic whose every document gets a 500 must not slow the one beside it.
func TestTopicThatAlwaysFailsLeavesTheOtherItsRate(t *testing.T) {
	t.Parallel()
	for _, alone := range rows([]time.Duration{0, time.Minute}) {
		t.Run(fmt.Sprintf("alone for %v", alone), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { oneTopicFails(t, alone) })
		})
	}
}

func oneTopicFails(t *testing.T, alone time.Duration) {
	const bad, records, rate = "broken", 1000, 20
	w := newWorld(t, worldConfig{api: slow, topics: []string{topic, bad}})
	w.api.Script(poison(stellartest.ServerError()))
	m := w.start(func(c *bridge.Config) { c.Topics = []string{topic, bad}; c.RateLimit = 2 * rate })
	w.produceTo(bad, 0, 5000, poisoned)
	time.Sleep(alone)
	stop := w.trickle(0, time.Second/rate)
	time.Sleep(5 * time.Minute) // for finding out whose fault it is
	before := w.api.Ledger().Distinct
	time.Sleep(records * time.Second / rate)
	n := stop()
	time.Sleep(10 * time.Second)
	if least := int(5*time.Minute/time.Second-15) * rate; before < least {
		t.Errorf("%d good records delivered in the first five minutes, want %d: they waited for the other topic", before, least)
	}
	if stored := w.api.Ledger().Distinct; before == 0 || stored-before < records*95/100 {
		t.Errorf("%d of %d good records delivered within five minutes, then %d of %d, while the other topic fails", before, n-records, stored-before, records)
	}
	for _, l := range w.letters() {
		if l.Topic != bad || l.Reason != "retries_exhausted" {
			t.Errorf("dead letter of %s for %s", l.Topic, l.Reason)
		}
	}
	if copies := mostCopies(w); copies != 1 {
		t.Errorf("a document was stored %d times", copies)
	}
	if m.metric("attempts_total", "reason", "http_500") == 0 {
		t.Error("the other topic was not tried")
	}
}

// A topic that our Kafka user may not see, from the start or from some time on, is named, and holds up none of the others.
func TestTopicThatMayNotBeSeenHoldsUpNoOther(t *testing.T) {
	t.Parallel()
	for _, protocol := range protocols {
		for _, start := range []bridge.Start{{}, {Latest: true}} {
			t.Run(fmt.Sprintf("%s, latest: %v", protocol, start.Latest), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					w := newWorld(t, worldConfig{topics: []string{topic, "secret"}, kafka: brisk})
					deny := func() *kfake.FaultHandle {
						return w.cluster.Fault(kfake.Fault{Topic: "secret", Err: kerr.TopicAuthorizationFailed, Count: -1, Keys: []kmsg.Key{
							kmsg.Metadata, kmsg.ListOffsets, kmsg.OffsetFetch, kmsg.OffsetCommit, kmsg.Fetch}})
					}
					denied := deny()
					var log bytes.Buffer
					join := func() *member {
						return w.start(func(c *bridge.Config) {
							c.Topics, c.Protocol, c.Start = []string{topic, "secret"}, protocol, start
							c.Logger = slog.New(slog.NewTextHandler(&log, nil))
						})
					}
					m := join()
					time.Sleep(time.Minute)
					w.produce(0, 30)
					time.Sleep(time.Minute)
					w.expect(30, 0)
					m.expectNotReady("topic secret")
					m.end()
					if n := strings.Count(log.String(), "level=WARN"); n != 1 {
						t.Errorf("it is said %d times in two minutes:\n%s", n, log.String())
					}
					m = join()
					time.Sleep(10 * time.Second)
					denied.Remove()
					time.Sleep(2 * time.Minute)
					m.expectReady()
					w.produceTo("secret", 30, 30, detection)
					time.Sleep(time.Minute)
					w.expect(60, 0)
					denied = deny()
					time.Sleep(time.Minute)
					m.expectNotReady("topic secret")
					w.produce(60, 30)
					w.produceRecords(&kgo.Record{Topic: topic, Value: detection(90)})
					time.Sleep(10 * time.Minute)
					w.expect(91, 0)
					denied.Remove()
					time.Sleep(2 * time.Minute)
					w.produceTo("secret", 100, 9, detection)
					w.settled(time.Minute, topic, "secret")
					w.expect(100, 0)
					m.expectReady()
				})
			})
		}
	}
}

// A record now and then, while everything of the other topic fails and so keeps the gate closed, must not wait for the
// backoff of that topic's canaries.
func TestTrickleBesideATopicThatAlwaysFailsWaitsForNobody(t *testing.T) {
	t.Parallel()
	for _, f := range rows([]stellartest.Fault{stellartest.ServerError(), stellartest.BadRequest(), stellartest.GatewayTimeout()}) {
		t.Run(f.Name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				const bad = "broken"
				w := newWorld(t, worldConfig{api: slow, topics: []string{topic, bad}})
				w.api.Script(poison(f))
				m := w.start(func(c *bridge.Config) { c.Topics = []string{topic, bad}; c.RateLimit = 20 })
				w.produceTo(bad, 0, 3000, poisoned)
				time.Sleep(5 * time.Minute)
				closed := 0
				for i := range 20 {
					if m.gate() != "" {
						closed++
					}
					w.produce(i, 1)
					begun := time.Now()
					for w.api.Ledger().Distinct <= i && time.Since(begun) < time.Minute {
						time.Sleep(50 * time.Millisecond)
					}
					if took := time.Since(begun); took > 2*time.Second {
						t.Fatalf("record %d took %v", i, took)
					}
					time.Sleep(30 * time.Second)
				}
				if closed == 0 {
					t.Error("the gate was never closed: nothing is shown")
				}
			})
		})
	}
}

// A topic whose every document is slow must not hold all that may be on the wire: a record now and then of another would
// wait for one of its answers.
func TestTrickleBesideATopicThatIsAlwaysSlowWaitsForNobody(t *testing.T) {
	t.Parallel()
	for _, took := range []time.Duration{19 * time.Second, time.Hour} { // the latter is a timeout
		t.Run(fmt.Sprint(took), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				const bad = "slow"
				w := newWorld(t, worldConfig{api: slow, topics: []string{topic, bad}})
				w.api.Script(poison(stellartest.Slow(took)))
				w.start(func(c *bridge.Config) { c.Topics = []string{topic, bad} })
				w.produceTo(bad, 0, 3000, poisoned)
				time.Sleep(3 * time.Minute)
				for i := range 20 {
					w.produce(i, 1)
					begun := time.Now()
					for w.lag(topic) > 0 && time.Since(begun) < time.Minute {
						time.Sleep(50 * time.Millisecond)
					}
					if took := time.Since(begun); took > 2*time.Second {
						t.Errorf("record %d took %v", i, took)
					}
					time.Sleep(17 * time.Second)
				}
			})
		})
	}
}
