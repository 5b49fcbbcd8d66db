package bridge_test

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"serbridge/bridge"
	"serbridge/bridge/stellar/stellartest"
)

// The limit is the group's, every attempt counted: however many members share it, come, leave or are killed, and
// however many attempts fail, no window holds more requests than the limit and the bursts.
func TestGroupNeverExceedsTheLimit(t *testing.T) {
	t.Parallel()
	for _, protocol := range rows(protocols) {
		for _, share := range []string{"partitions", "backlog"} {
			t.Run(protocol+", "+share, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) { shareTheLimit(t, protocol, share) })
			})
		}
	}
}

func shareTheLimit(t *testing.T, protocol, share string) {
	const limit, burst, records = 60, 5, 10000
	w := newWorld(t, worldConfig{partitions: 12, kafka: brisk, api: stellartest.Config{Faults: stellartest.Faults{
		Latency: stellartest.Latency{Median: 100 * time.Millisecond, P99: time.Second},
		Rates:   map[string]float64{"server_error": 0.1, "revoked": 0.01, "bad_request": 0.05},
	}}})
	w.produce(0, records)
	join := func() *member {
		return w.start(func(c *bridge.Config) {
			c.Protocol, c.RateLimit, c.RateBurst, c.RateShare, c.SessionTimeout = protocol, limit, burst, share, 6*time.Second
		})
	}
	a := join() // alone
	time.Sleep(15 * time.Second)
	b, c := join(), join()
	time.Sleep(30 * time.Second)
	c.lines.cut() // for longer than its session: its partitions, and their share, are others'
	time.Sleep(15 * time.Second)
	c.lines.mend()
	time.Sleep(15 * time.Second)
	b.kill()
	go b.end()
	time.Sleep(30 * time.Second)
	a.end() // and alone again
	time.Sleep(25 * time.Second)
	requests := w.api.Ledger().Requests[stellartest.KindInsert]
	if least := 130 * limit * 6 / 10; requests < least {
		t.Errorf("%d requests in 130 s, want at least %d: the limit is not used", requests, least)
	}
	// Each member may have a burst of its own part, at least one; three of five partitions' parts are at most seven.
	const bursts = burst + 3
	for _, seconds := range []int{1, 10, 50} {
		most := limit*seconds + bursts
		if share == "backlog" {
			most = limit*seconds*105/100 + bursts
		}
		if n := w.api.MaxInWindow(time.Duration(seconds) * time.Second); n > most {
			t.Errorf("%d requests within %d s, want at most %d", n, seconds, most)
		}
	}
	if n := len(w.letters()); n > 0 {
		t.Errorf("%d dead letters", n)
	}
	c.end()
}

// A lone member uses all of the limit, from the first second on, without a burst at its start.
func TestLoneMemberUsesTheWholeLimit(t *testing.T) {
	t.Parallel()
	for _, limit := range []int{2, 50, 200} {
		t.Run(fmt.Sprint(limit), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, worldConfig{})
				w.produce(0, 6000)
				m := w.start(func(c *bridge.Config) { c.RateLimit = float64(limit) })
				time.Sleep(5 * time.Second)
				before := w.api.Ledger().Distinct
				time.Sleep(20 * time.Second)
				if n := w.api.Ledger().Distinct - before; n < 20*limit*98/100 || n > 20*limit+5 {
					t.Errorf("%d delivered in 20 s at a limit of %d", n, limit)
				}
				if n := w.api.MaxInWindow(time.Second); n > limit+5 {
					t.Errorf("%d requests within a second", n)
				}
				for range 3 { // restarts add no burst
					m.end()
					m = w.start(func(c *bridge.Config) { c.RateLimit = float64(limit) })
					time.Sleep(time.Second)
				}
				if n := w.api.MaxInWindow(10 * time.Second); n > 10*limit+5 {
					t.Errorf("%d requests within ten seconds", n)
				}
				if n := w.api.Ledger().Repeats; n > 0 {
					t.Errorf("%d repeats", n)
				}
			})
		})
	}
}

// All the backlog on one of twelve partitions must have nearly all of the limit, though three members share it.
func TestHotPartitionHasTheGroupsLimit(t *testing.T) {
	t.Parallel()
	for _, protocol := range rows(protocols) {
		t.Run(protocol, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				const limit = 60
				w := newWorld(t, worldConfig{partitions: 12, api: slow})
				w.produceOn(5, 0, 8000)
				for range 3 {
					w.start(func(c *bridge.Config) { c.Protocol, c.RateLimit = protocol, limit })
				}
				time.Sleep(30 * time.Second) // the shares have moved
				before := w.api.Ledger().Distinct
				time.Sleep(time.Minute)
				if n := w.api.Ledger().Distinct - before; n < 60*limit*85/100 || n > 60*limit*105/100 {
					t.Errorf("%d delivered in a minute at a limit of %d, want at least 85 %%", n, limit)
				}
			})
		})
	}
}
