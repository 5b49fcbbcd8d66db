package bridge_test

import (
	"os"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"serbridge/bridge"
	"serbridge/bridge/stellar/stellartest"
)

func probing(c *bridge.Config) {
	c.OnAmbiguous = "probe"
	c.SessionTimeout = 6 * time.Second
}

// refreshed is an index that shows a document half a minute after it was stored.
var refreshed = stellartest.Config{
	Variant: stellartest.Variant{RefreshDelay: 30 * time.Second},
	Faults:  stellartest.Faults{Latency: stellartest.Latency{Median: 20 * time.Millisecond, P99: 200 * time.Millisecond}},
}

// With ON_AMBIGUOUS=probe kill -9 must leave no duplicate at all: what the dead member may have sent is searched for
// before it is sent again.
func TestKillWithProbeRepeatsNothing(t *testing.T) {
	t.Parallel()
	for _, protocol := range rows(protocols) {
		t.Run(protocol, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				const each = 400
				kills := howMany("TEST_KILLS", 6)
				w := newWorld(t, worldConfig{api: refreshed, kafka: brisk})
				found := 0.0
				for i := range kills {
					w.produce(i*each, each)
					m := w.start(func(c *bridge.Config) { probing(c); c.Protocol = protocol })
					w.stored(w.api.Ledger().Distinct + each/2 + 17*(i%5))
					m.kill()
					go m.end()
				}
				m := w.start(func(c *bridge.Config) { probing(c); c.Protocol = protocol })
				w.settled(10 * time.Minute)
				w.expect(each*kills, 0)
				if found += m.metric("probes_total", "result", "found"); found == 0 {
					t.Error("no probe found anything: the members were not killed under load")
				}
				m.expectReady()
			})
		})
	}
}

// howMany is the number that an environment variable gives for a long run.
func howMany(variable string, usually int) int {
	if n, err := strconv.Atoi(os.Getenv(variable)); err == nil {
		return n
	}
	return usually
}

// What no acknowledged commit names must not be sent: after a crash nobody would search for it.
func TestNothingIsSentAboveAnUnacknowledgedCeiling(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, worldConfig{api: refreshed})
		w.produce(0, 300)
		h := w.cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.OffsetCommit}, Err: kerr.UnknownServerError, Count: -1})
		m := w.start(probing)
		time.Sleep(time.Minute)
		if n := w.api.Ledger().Documents; n > 0 {
			t.Errorf("%d documents sent while no commit is acknowledged", n)
		}
		m.kill()
		go m.end()
		h.Remove()
		w.start(probing)
		w.settled(5 * time.Minute)
		w.expect(300, 0)
	})
}

// A document whose answer was lost is searched for, found or sent again, and is never there twice.
func TestLostAnswersWithProbeRepeatNothing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const records = 400
		w := newWorld(t, worldConfig{api: refreshed})
		w.api.Script(func(r stellartest.Request) stellartest.Fault {
			switch r.N % 10 {
			case 3:
				return stellartest.CutAfterStoring()
			case 7:
				return stellartest.CutBeforeStoring()
			}
			return stellartest.Fault{}
		})
		w.produce(0, records)
		m := w.start(probing)
		w.settled(30 * time.Minute)
		w.expect(records, 0)
		if m.metric("probes_total", "result", "found") == 0 || m.metric("probes_total", "result", "absent") == 0 {
			t.Error("not both answers of a probe were needed")
		}
		m.expectReady()
	})
}

// A search that is refused, or does not even find what was delivered, proves nothing: what may be stored is held, said,
// and neither sent again nor given up. The others go on.
func TestProbeThatCannotBeTrustedHolds(t *testing.T) {
	t.Parallel()
	for name, fault := range map[string]func(*world){
		"refused":       func(w *world) { w.api.ScriptReads(stellartest.Always(stellartest.Forbidden())) },
		"finds nothing": func(w *world) { w.api.SetVariant(stellartest.Variant{RefreshDelay: 24 * time.Hour}) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				const records = 300
				w := newWorld(t, worldConfig{api: refreshed})
				fault(w)
				w.api.Script(func(r stellartest.Request) stellartest.Fault {
					if r.N == 100 {
						return stellartest.CutAfterStoring()
					}
					return stellartest.Fault{}
				})
				w.produce(0, records)
				m := w.start(probing)
				time.Sleep(20 * time.Minute)
				m.expectNotReady("ON_AMBIGUOUS=probe")
				if l := w.api.Ledger(); l.Distinct != records || l.Repeats > 0 || len(w.letters()) > 0 || w.lag(topic) == 0 {
					t.Errorf("%d stored, %d repeats, %d dead letters, lag %d", l.Distinct, l.Repeats, len(w.letters()), w.lag(topic))
				}
				w.api.ScriptReads(nil)
				w.api.SetVariant(refreshed.Variant)
				w.settled(10 * time.Minute)
				w.expect(records, 0)
				m.expectReady()
			})
		})
	}
}

// A stop or a rebalance leaves nothing to search for: the next owner begins at once.
func TestHandOverWithProbeLeavesNothingToSearchFor(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, worldConfig{api: refreshed})
		w.produce(0, 2000)
		m := w.start(probing)
		w.stored(300)
		b := w.start(probing)
		w.stored(600)
		m.end()
		w.stored(900)
		b.end()
		m = w.start(probing)
		begun := time.Now()
		w.stored(2000)
		if took := time.Since(begun); took > 45*time.Second {
			t.Errorf("the last member took %v", took)
		}
		w.settled(time.Minute)
		w.expect(2000, 0)
		if n := m.metric("probes_total"); n > 0 {
			t.Errorf("%v probes after a clean stop", n)
		}
	})
}
