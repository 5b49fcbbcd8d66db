package bridge_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// Of all members one shows how old the dead letters are: a sum or a maximum over members must not count them twice, and
// whoever hands its partitions over must not go on showing what it saw then.
func TestOneMemberShowsTheAgeOfTheDeadLetters(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, worldConfig{partitions: 2})
		begun := time.Now()
		w.produceRecords(&kgo.Record{Topic: topic, Value: []byte("not JSON"), Timestamp: begun})
		a, b := w.start(nil), w.start(nil)
		time.Sleep(10*time.Minute + 30*time.Second)
		ages := func() (all []float64) {
			for _, m := range w.members {
				if age := m.metric("dead_letter_oldest_open_age_seconds"); age > 0 {
					all = append(all, age)
				}
			}
			return all
		}
		if got := ages(); len(got) != 1 || got[0] != time.Since(begun).Seconds() {
			t.Errorf("ages %v, want one of %v", got, time.Since(begun).Seconds())
		}
		first, other := a, b
		if a.metric("dead_letter_oldest_open_age_seconds") == 0 {
			first, other = b, a
		}
		first.end()
		time.Sleep(10 * time.Minute)
		if got := other.metric("dead_letter_oldest_open_age_seconds"); got != time.Since(begun).Seconds() {
			t.Errorf("after the one left the other shows %v, want %v", got, time.Since(begun).Seconds())
		}
	})
}
