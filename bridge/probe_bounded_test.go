package bridge_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"serbridge/bridge/backfill"
	"serbridge/bridge/deadletter"
	"serbridge/bridge/stellar/stellartest"
)

// A bounded run that was killed before anything of it was stored may have nothing left that was surely not sent: its search
// is believed by what others have delivered of the topic, or the run would never end.
func TestBoundedRunOfNothingButSuspectsEnds(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"replay", "redrive"} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				const live, letters = 60, 30
				w := newWorld(t, worldConfig{api: refreshed, kafka: brisk, topics: append([]string{topic}, letterTopics...)})
				w.produce(0, live)
				m := w.start(probing)
				w.settled(time.Minute)
				m.end()
				var join func() *member
				want := 2 * live
				if name == "replay" {
					r := w.replay(backfill.Request{})
					r.change = probing
					join = func() *member { m, _ := r.join(); return m }
				} else {
					var rs []*kgo.Record
					for i := range letters {
						rs = append(rs, deadletter.Letter{Topic: topic, Offset: int64(1000 + i), Part: -1, Reason: "missing_field", Value: detection(1000 + i)}.Record(letterTopic))
					}
					w.putLetters(rs)
					r := w.redrive("r1")
					r.change, want = probing, live+letters
					join = func() *member { m, _ := r.join(); return m }
				}
				w.api.Script(stellartest.Always(stellartest.Hang()))
				m = join()
				time.Sleep(10 * time.Second)
				m.kill()
				go m.end()
				w.api.Script(nil)
				w.endsWithin(15*time.Minute, join())
				if l := w.api.Ledger(); l.Documents != want || l.Repeats != 0 {
					t.Errorf("stored %d, %d of them again, want %d", l.Documents, l.Repeats, want)
				}
			})
		})
	}
}
