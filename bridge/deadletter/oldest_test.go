package deadletter

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
)

// A letter that nobody has looked at is lost when retention takes it; one that was handled is nobody's worry.
func TestOldestIsOfTheLettersNobodyHandled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, kfake.SeedTopics(2, dlq))
		letters := w.writer(func(c *Config) { c.Options = append(c.Options, kgo.WithDecompressor(zstdOutside{})) })
		expect := func(step string, open bool, at time.Time) {
			t.Helper()
			o, err := letters.OldestOpen(seconds(t, 30))
			if err != nil || o.Open != open || !o.Timestamp.Equal(at) || o.Retention <= 0 {
				t.Errorf("%s: %+v, %v; want %v at %s, and a retention", step, o, err, open, at)
			}
		}
		expect("none yet", false, time.Time{})
		now := time.Now().Truncate(time.Millisecond)
		for i := range 4 {
			l := Letter{Topic: "detections", Partition: int32(i % 2), Reason: "invalid_json", Value: []byte("v"), Timestamp: now.Add(time.Duration(i) * time.Hour)}
			r := l.Record(dlq)
			r.Partition = int32(i % 2)
			w.produce(r)
		}
		expect("all four", true, now)
		handled := w.marks()
		mark := func(fate Fate, partition int32, offset int64) {
			t.Helper()
			if err := handled.Write(seconds(t, 30), Mark{Place: Place{partition, offset}, Fate: fate, TopicID: w.reader().ID}); err != nil {
				t.Fatal(err)
			}
		}
		mark(Parked, 0, 0)
		expect("the first is parked", true, now.Add(time.Hour))
		mark(Parked, 1, 0)
		expect("and the second", true, now.Add(2*time.Hour))
		mark(Parked, 0, 1)
		mark(Parked, 1, 1)
		expect("all handled", false, time.Time{})
	})
}
