package bridge_test

import (
	"bytes"
	"encoding/json"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"serbridge/bridge"
	"serbridge/bridge/backfill"
	"serbridge/bridge/stellar/stellartest"
)

// liveLatencies are those of the live group's documents: from the record's time to its being stored, ascending.
func (w *world) liveLatencies() (all []time.Duration) {
	w.t.Helper()
	for _, d := range w.api.Documents() {
		if bytes.Contains(d.Body, []byte(`"replay_id"`)) {
			continue
		}
		var document struct {
			Custom struct {
				Serbridge struct {
					Kafka struct {
						Timestamp int64 `json:"timestamp_ms"`
					} `json:"kafka"`
				} `json:"serbridge"`
			} `json:"custom_ser_field"`
		}
		if err := json.Unmarshal(d.Body, &document); err != nil {
			w.t.Fatal(err)
		}
		all = append(all, d.At.Sub(time.UnixMilli(document.Custom.Serbridge.Kafka.Timestamp)))
	}
	slices.Sort(all)
	return all
}

// A replay beside the live group takes none of its rate, and none of its time: together they stay within the sum of the
// two rates in every window, and what is live is stored as soon as without it.
func TestReplayBesideLiveTrafficDelaysNothing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const history, rate, phase = 7_000, 100, time.Minute
		w := newWorld(t, worldConfig{api: stellartest.Config{Faults: stellartest.Faults{Latency: stellartest.Latency{Median: 100 * time.Millisecond, P99: 150 * time.Millisecond}}}})
		w.produce(0, history)
		live := w.start(func(c *bridge.Config) { c.RateLimit = 0 })
		w.settled(10 * time.Minute)
		live.end()
		live = w.start(func(c *bridge.Config) { c.RateLimit = rate })
		stop := w.trickle(history, 20*time.Millisecond) // 50 a second
		time.Sleep(30 * time.Second)                    // until its concurrency has grown
		w.api.Reset()
		time.Sleep(phase)
		alone := w.liveLatencies()

		r := w.replay(backfill.Request{Live: group})
		r.change = func(c *bridge.Config) { c.RateLimit = rate }
		m, ledger := r.join()
		time.Sleep(5 * time.Second)
		w.api.Reset()
		begun := ledger.Counts().Delivered
		time.Sleep(phase)
		beside := w.liveLatencies()
		if n := ledger.Counts().Delivered - begun; n < int(phase.Seconds())*rate*9/10 {
			t.Errorf("the replay delivered %d documents in %v: it was no load", n, phase)
		}
		for _, seconds := range []int{1, 10, 60} {
			if n, most := w.api.MaxInWindow(time.Duration(seconds)*time.Second), 2*(seconds*rate+5); n > most {
				t.Errorf("%d requests in %d s, want at most %d of both", n, seconds, most)
			}
		}
		was, is := alone[len(alone)*99/100], beside[len(beside)*99/100]
		t.Logf("p99 of %d live documents alone %v, of %d beside the replay %v", len(alone), was, len(beside), is)
		if is > was+was/10 {
			t.Errorf("p99 was %v and is %v beside the replay", was, is)
		}
		stop()
		m.end()
		live.end()
	})
}
