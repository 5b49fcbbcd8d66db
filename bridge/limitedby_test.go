package bridge_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"serbridge/bridge"
	"serbridge/bridge/stellar/stellartest"
)

// Delivery that is slow for one cause must not be blamed on another: who raises RATE_LIMIT while commits hang waits in vain.
func TestWhatLimitsDeliveryIsNamed(t *testing.T) {
	t.Parallel()
	slow := stellartest.Config{Faults: stellartest.Faults{Latency: stellartest.Latency{Median: time.Second, P99: time.Second}}}
	for _, c := range []struct {
		by      string
		api     stellartest.Config
		change  func(*bridge.Config)
		disturb func(*world)
	}{
		{by: "rate", change: func(c *bridge.Config) { c.RateLimit = 2 }},
		{by: "gate", disturb: func(w *world) { w.api.Script(stellartest.Always(stellartest.Unavailable())) }},
		{by: "concurrency", api: slow, change: func(c *bridge.Config) { c.MaxInFlight = 2 }},
		{by: "commit", change: func(c *bridge.Config) { c.MaxRepeats = 5 }, disturb: func(w *world) { w.stop(kmsg.OffsetCommit) }},
		{by: "nothing"},
	} {
		t.Run(c.by, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, worldConfig{partitions: 1, api: c.api})
				m := w.start(c.change)
				time.Sleep(10 * time.Second)
				if c.disturb != nil {
					c.disturb(w)
				}
				w.produce(0, 300)
				time.Sleep(20*time.Second + 130*time.Millisecond) // not in the moment of a token
				if m.metric("limited_by", "by", c.by) != 1 || m.metric("limited_by") != 1 {
					for _, by := range []string{"rate", "gate", "concurrency", "commit", "nothing"} {
						t.Logf("%s %v", by, m.metric("limited_by", "by", by))
					}
					t.Errorf("limited by something else than %s", c.by)
				}
				m.kill()
			})
		})
	}
}
