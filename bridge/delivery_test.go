package bridge_test

import (
	"testing"
	"testing/synctest"
	"time"

	"serbridge/bridge"
	"serbridge/bridge/stellar/stellartest"
)

func TestDeliversEachDetectionOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, worldConfig{})
		w.produce(0, 300)
		w.start(nil)
		w.settled(time.Minute)
		w.expect(300, 0)
	})
}

func TestOutageCommitsNothingAndDeadLettersNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, worldConfig{})
		w.api.Script(stellartest.Always(stellartest.Unavailable()))
		w.produce(0, 300)
		m := w.start(nil)
		time.Sleep(10 * time.Minute)
		if lag := w.lag(topic); lag != 300 {
			t.Errorf("lag %d during the outage, want 300: something was committed", lag)
		}
		if rs := m.health.Reasons(); len(rs) == 0 {
			t.Error("ready during the outage")
		}
		if n := w.api.Ledger().Requests[stellartest.KindInsert]; n > 120 {
			t.Errorf("%d requests in ten minutes of outage: the gate did not hold", n)
		}
		w.api.Script(nil)
		w.settled(5 * time.Minute)
		w.expect(300, 0)
		if rs := m.health.Reasons(); len(rs) > 0 {
			t.Errorf("not ready after the outage: %v", rs)
		}
	})
}

func TestStopUnderLoadRepeatsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, worldConfig{api: stellartest.Config{Faults: stellartest.Faults{
			Latency: stellartest.Latency{Median: 50 * time.Millisecond, P99: 500 * time.Millisecond}}}})
		w.produce(0, 2000)
		for range 5 {
			m := w.start(nil)
			time.Sleep(1700 * time.Millisecond)
			m.end()
		}
		w.start(nil)
		w.settled(5 * time.Minute)
		w.expect(2000, 0)
	})
}

func TestKillRepeatsAtMostTheBound(t *testing.T) {
	for _, bound := range []int{200, 80} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, worldConfig{api: stellartest.Config{Faults: stellartest.Faults{
				Latency: stellartest.Latency{Median: 20 * time.Millisecond, P99: 200 * time.Millisecond}}}})
			const each, kills = 1200, 5
			for i := range kills {
				w.produce(i*each, each)
				before := w.api.Ledger()
				m := w.start(func(c *bridge.Config) { c.MaxRepeats = bound; c.SessionTimeout = 6 * time.Second })
				w.stored(before.Distinct + each/2 + 37*i)
				m.kill()
				go m.end()
			}
			w.start(func(c *bridge.Config) { c.MaxRepeats = bound })
			w.settled(10 * time.Minute)
			w.expect(each*kills, kills*bound)
			if w.api.Ledger().Repeats == 0 {
				t.Error("no repeats at all: the members were not killed under load")
			}
			t.Logf("bound %d: %d repeats after %d kills", bound, w.api.Ledger().Repeats, kills)
		})
	}
}
