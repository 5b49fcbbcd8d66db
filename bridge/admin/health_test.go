package admin

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

func TestReasonsAreAKeyedSet(t *testing.T) {
	var h Health
	if got := h.Reasons(); len(got) != 0 {
		t.Errorf("the zero value is not ready: %q", got)
	}
	h.Ready("nobody said otherwise")
	h.NotReady("kafka", "no broker answers")
	h.NotReady("gate", "closed: http_401")
	h.NotReady("gate", "closed: http_404")
	if got, want := h.Reasons(), []string{"closed: http_404", "no broker answers"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	h.Ready("gate")
	h.Ready("gate")
	if got, want := h.Reasons(), []string{"no broker answers"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// TestSinceIsOfTheKeyNotOfTheText: a reason whose text counts up still began when it began.
func TestSinceIsOfTheKeyNotOfTheText(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var h Health
		began := time.Now()
		h.NotReady("gate", "closed for 1 s")
		time.Sleep(time.Second)
		h.NotReady("gate", "closed for 2 s")
		if got := h.notReady()[0].Since; !got.Equal(began) {
			t.Errorf("since %s, want %s", got, began)
		}
		h.Ready("gate")
		h.NotReady("gate", "closed for 1 s")
		if got := h.notReady()[0].Since; !got.Equal(time.Now()) {
			t.Errorf("since %s, want now", got)
		}
	})
}

// TestStalledLoopIsNamed: a loop is allowed to be silent for its own maxAge, from the watch on, and no longer.
func TestStalledLoopIsNamed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var h Health
		names := func() (names []string) {
			for _, l := range h.Stalled() {
				names = append(names, l.Name)
			}
			return names
		}
		expect := func(step string, want ...string) {
			t.Helper()
			if got := names(); !slices.Equal(got, want) {
				t.Errorf("%s: got %q, want %q", step, got, want)
			}
		}
		h.Beat("nobody watches")
		h.Watch("poll", 30*time.Second)
		h.Watch("commit", time.Minute)
		expect("start")
		time.Sleep(30 * time.Second)
		expect("at the limit")
		time.Sleep(time.Nanosecond)
		expect("beyond it", "poll")
		h.Beat("poll")
		expect("it turns again")
		time.Sleep(time.Minute)
		expect("both", "commit", "poll")
		if got := h.Stalled()[0]; got.Age != 90*time.Second+1 || got.MaxAge != time.Minute {
			t.Errorf("commit: age %s of %s, want 1m30.000000001s of 1m0s", got.Age, got.MaxAge)
		}
		h.Watch("poll", 0)
		h.Beat("poll") // a last beat after the end of the watch
		h.Watch("commit", time.Minute)
		time.Sleep(time.Minute)
		expect("poll ended on purpose, commit watched anew")
	})
}
