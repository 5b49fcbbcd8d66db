package bridge_test

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"serbridge/bridge"
	"serbridge/bridge/stellar"
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

// Twenty kills while 20,000 records flow, the broker taking commits at once, late, never or with an error for a while
// before: each repeats at most the bound, and nothing is lost.
func TestKillRepeatsAtMostTheBound(t *testing.T) {
	t.Parallel()
	for _, bound := range []int{200, 80} {
		t.Run(fmt.Sprint(bound), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { killAgainAndAgain(t, bound, 1) })
		})
	}
}

// A record of many documents that is killed in the middle may repeat as many more.
func TestKillAmongLargeRecordsRepeatsAtMostTheBoundAndOne(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) { killAgainAndAgain(t, 80, 50) })
}

func killAgainAndAgain(t *testing.T, bound, parts int) {
	const each = 1000
	kills := 20
	if racing {
		kills = 5
	}
	w := newWorld(t, worldConfig{api: stellartest.Config{Faults: stellartest.Faults{
		Latency: stellartest.Latency{Median: 20 * time.Millisecond, P99: 200 * time.Millisecond}}}})
	change := func(c *bridge.Config) { c.MaxRepeats, c.SessionTimeout, c.RateLimit = bound, 6*time.Second, 0 }
	for i := range kills {
		w.produceTo(topic, i*each/parts, each/parts, func(i int) []byte { return bundle(i, parts) })
		before := w.api.Ledger()
		m := w.start(change)
		w.stored(before.Distinct + each/4 + 13*i)
		m.lines.slow(time.Duration(i%4%2) * 200 * time.Millisecond)
		heal := func() {}
		if i%4 > 1 {
			heal = w.stopCommits(i%4 == 2)
		}
		time.Sleep(time.Duration(i*37%1000) * time.Millisecond)
		m.kill()
		go m.end()
		heal()
		w.start(change).awaitRepeats(before.Repeats, bound+(parts-1))
	}
	w.settled(10 * time.Minute)
	w.expect(each*kills, kills*(bound+parts-1))
	if w.api.Ledger().Repeats == 0 {
		t.Error("no repeats at all: the members were not killed under load")
	}
	t.Logf("bound %d: %d repeats after %d kills", bound, w.api.Ledger().Repeats, kills)
}

// awaitRepeats has the member finish what a kill has left, checks what that repeated, and ends it.
func (m *member) awaitRepeats(before, most int) {
	m.w.t.Helper()
	m.w.settled(10 * time.Minute)
	if n := m.w.api.Ledger().Repeats - before; n > most {
		m.w.t.Errorf("a kill repeated %d documents, want at most %d", n, most)
	}
	m.end()
}

// The metric is what a kill repeats, no less and no more, where all that has room is on the wire and is stored.
func TestExposureMetricIsWhatAKillRepeats(t *testing.T) {
	t.Parallel()
	for name, stop := range map[string]func(*world) (heal func()){
		"commits are taken":   func(*world) func() { return func() {} },
		"commits are refused": func(w *world) func() { return w.stopCommits(false) },
		"commits hang":        func(w *world) func() { return w.stopCommits(true) },
	} {
		for _, parts := range []int{1, 20} {
			t.Run(fmt.Sprintf("%s, %d documents a record", name, parts), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					const documents, bound = 6000, 200
					w := newWorld(t, worldConfig{api: slow})
					w.produceTo(topic, 0, documents/parts, func(i int) []byte { return bundle(i, parts) })
					m := w.startWith(memberConfig{
						bridge:  func(c *bridge.Config) { c.RateLimit, c.MaxInFlight = 0, 2*bound },
						stellar: func(c *stellar.Config) { c.Timeout, c.MaxInFlight = time.Hour, 2*bound },
					})
					w.stored(documents / 2)
					heal := stop(w)
					time.Sleep(100 * time.Millisecond)
					w.api.Script(stellartest.Always(stellartest.Hang().Stored()))
					time.Sleep(2 * time.Second)
					said := int(m.metric("exposure_documents"))
					m.kill()
					go m.end()
					heal()
					w.api.Script(nil)
					w.start(nil)
					w.settled(5 * time.Minute)
					w.expect(documents, said)
					again := w.api.Ledger().Repeats
					if parts == 1 && again != said || again == 0 || said >= bound+parts {
						t.Errorf("the metric said %d, %d were repeated; the bound is %d", said, again, bound)
					}
				})
			})
		}
	}
}
