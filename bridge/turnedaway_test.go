package bridge_test

import (
	"testing"
	"testing/synctest"
	"time"
)

// A source that changes its format is skipped without one error: that it ever was otherwise, and since when it is not, must
// be remembered while it lasts, and forgotten when it is over.
func TestSourceThatTurnsIntoNoDetectionsIsRemembered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, worldConfig{partitions: 1})
		m := w.start(nil)
		tombstones := false
		n := 0
		feed := func(long time.Duration) {
			for end := time.Now().Add(long); time.Now().Before(end); time.Sleep(time.Second) {
				w.produceTo(topic, n, 2, func(i int) []byte {
					if tombstones || i%20 == 0 {
						return nil
					}
					return detection(i)
				})
				n += 2
			}
		}
		since := func() float64 { return m.metric("turned_away_since_timestamp_seconds") }
		feed(5 * time.Minute)
		if since() != 0 {
			t.Error("a jump without one")
		}
		turned := time.Now()
		tombstones = true
		feed(5 * time.Minute)
		if d := since() - float64(turned.Unix()); d < -10 || d > 10 {
			t.Errorf("it jumped %v s after it did", d)
		}
		if before, now := m.metric("turned_away_before_ratio"), m.metric("turned_away_ratio"); before < 0.04 || before > 0.06 || now != 1 {
			t.Errorf("it is %v and was %v, want 1 and 0.05", now, before)
		}
		tombstones = false
		feed(5 * time.Minute)
		if since() != 0 {
			t.Error("it is over, and still said")
		}
	})
}
