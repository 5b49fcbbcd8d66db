package bridge_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"serbridge/bridge"
	"serbridge/bridge/deadletter"
	"serbridge/bridge/stellar/stellartest"
)

// noTopic is DLQ_CREATE=false.
func noTopic(c *deadletter.Config) { c.Create = false }

// withRejects is every tenth no JSON.
func withRejects(i int) []byte {
	if i%10 == 9 {
		return []byte("not JSON")
	}
	return detection(i)
}

// A dead-letter topic that is missing, refuses or hangs holds the offsets of what belongs there and of nothing else; the
// others are delivered; a stop is bounded; and the next owner finds everything.
func TestDeadLetterTopicAwayHoldsOffsetsAndBoundsTheStop(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		away func(*world) (back func())
		says string
	}{
		{"missing", func(w *world) func() {
			return func() {
				if err := w.cluster.CreateTopic(group+".dlq", 1, nil); err != nil {
					w.t.Error(err)
				}
			}
		}, "DLQ_CREATE"},
		{"refusing", func(w *world) func() {
			if err := w.cluster.CreateTopic(group+".dlq", 1, nil); err != nil {
				w.t.Error(err)
			}
			return w.cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: group + ".dlq", Err: kerr.TopicAuthorizationFailed, Count: -1}).Remove
		}, "grant"},
		{"hanging", func(w *world) func() {
			if err := w.cluster.CreateTopic(group+".dlq", 1, nil); err != nil {
				w.t.Error(err)
			}
			return w.stop(kmsg.Produce)
		}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				const records, rejects = 300, 30
				w := newWorld(t, worldConfig{})
				w.produceTo(topic, 0, records, withRejects)
				back := c.away(w)
				m := w.startWith(memberConfig{letters: noTopic})
				time.Sleep(5 * time.Minute)
				if n := w.api.Ledger().Distinct; n != records-rejects {
					t.Errorf("%d of %d good records delivered", n, records-rejects)
				}
				if lag := w.lag(topic); lag < rejects {
					t.Errorf("lag %d with %d rejects in no place", lag, rejects)
				}
				if c.says != "" {
					m.expectNotReady(c.says)
				}
				begun := time.Now()
				m.end()
				if took := time.Since(begun); took > 60*time.Second {
					t.Errorf("the stop took %v", took)
				}
				back()
				m = w.startWith(memberConfig{letters: noTopic})
				w.settled(5 * time.Minute)
				if l := w.api.Ledger(); l.Distinct != records-rejects || l.Repeats > 0 {
					t.Errorf("%d stored, %d repeats", l.Distinct, l.Repeats)
				}
				offsets := make(map[string]bool)
				for _, l := range w.letters() {
					offsets[fmt.Sprint(l.Partition, l.Offset)] = true
				}
				if len(offsets) != rejects {
					t.Errorf("dead letters of %d records, want %d", len(offsets), rejects)
				}
				m.expectReady()
			})
		})
	}
}

// stop has the broker take requests of this kind and never answer, until resumed.
func (w *world) stop(key kmsg.Key) (resume func()) {
	healed := make(chan struct{})
	w.cluster.ControlKey(int16(key), func(kmsg.Request) (kmsg.Response, error, bool) {
		select {
		case <-healed:
			w.cluster.DropControl()
			return nil, nil, false
		default:
			w.cluster.KeepControl()
			return nil, nil, true
		}
	})
	return func() { close(healed) }
}

// A dead letter is the record, byte for byte, with what a person needs to act.
func TestDeadLetterHoldsTheWholeRecord(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, worldConfig{})
		at := time.Date(2025, 11, 24, 9, 8, 7, 654_000_000, time.UTC)
		want := &kgo.Record{Topic: topic, Partition: 2, Key: []byte{0, 255, 'k'}, Value: []byte("\xff{not JSON"), Timestamp: at, Headers: []kgo.RecordHeader{
			{Key: "b", Value: []byte("2")}, {Key: "a", Value: nil}, {Key: "b", Value: []byte("1")}, {Key: "", Value: []byte{0}},
		}}
		w.produceRecords(&kgo.Record{Topic: topic, Partition: 2, Value: detection(0)}, want)
		w.start(func(c *bridge.Config) { c.Version = "v0.1" })
		w.settled(time.Minute)
		letters := w.letters()
		if len(letters) != 1 {
			t.Fatalf("%d dead letters", len(letters))
		}
		l := letters[0]
		if !bytes.Equal(l.Key, want.Key) || !bytes.Equal(l.Value, want.Value) || !l.Timestamp.Equal(at) {
			t.Errorf("key %q, value %q, timestamp %v", l.Key, l.Value, l.Timestamp)
		}
		same := func(a, b kgo.RecordHeader) bool {
			return a.Key == b.Key && bytes.Equal(a.Value, b.Value) && (a.Value == nil) == (b.Value == nil)
		}
		if !slices.EqualFunc(l.Headers, want.Headers, same) {
			t.Errorf("headers %v, want %v", l.Headers, want.Headers)
		}
		if l.Topic != topic || l.Partition != 2 || l.Offset != 1 || l.Part != -1 || l.Reason != "invalid_json" || l.Stage != deadletter.StageConvert ||
			l.Certainty != "not_sent" || l.Bridge != "v0.1" || l.Instance != "member-0" || l.Group != group || l.FailedAt.IsZero() || l.FirstFailedAt.After(l.FailedAt) {
			t.Errorf("dead letter says %+v", l)
		}
	})
}

// A rebalance while the dead-letter topic is away must not write what the next owner writes, or lose what neither has.
func TestRebalanceWhileDeadLettersWaitLosesNone(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const records, rejects = 300, 30
		w := newWorld(t, worldConfig{})
		w.produceTo(topic, 0, records, withRejects)
		a := w.startWith(memberConfig{letters: noTopic})
		time.Sleep(time.Minute)
		w.startWith(memberConfig{letters: noTopic})
		time.Sleep(2 * time.Minute) // the drain has waited for them in vain
		a.end()
		if err := w.cluster.CreateTopic(group+".dlq", 1, nil); err != nil {
			t.Fatal(err)
		}
		w.settled(5 * time.Minute)
		if l := w.api.Ledger(); l.Distinct != records-rejects || l.Repeats > 0 {
			t.Errorf("%d stored, %d repeats", l.Distinct, l.Repeats)
		}
		if n := len(w.letters()); n != rejects {
			t.Errorf("%d dead letters, want %d", n, rejects)
		}
	})
}

// A stop must not wait for what cannot come: another try of a letter that was refused, or company for a document that
// may not be sent again. It is said before, and nothing is said to have recovered.
func TestStopDoesNotWaitForWhatCannotCome(t *testing.T) {
	t.Parallel()
	for name, hold := range map[string]func(*world) memberConfig{
		"a letter without a topic": func(w *world) memberConfig {
			w.produceTo(topic, 0, 10, withRejects)
			return memberConfig{letters: noTopic}
		},
		"a document sent as often as it may be": func(w *world) memberConfig {
			w.api.Script(stellartest.Always(stellartest.BadGateway().Stored()))
			w.produce(0, 1)
			return memberConfig{}
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, worldConfig{})
				var log bytes.Buffer
				mc := hold(w)
				mc.bridge = func(c *bridge.Config) { c.Logger = slog.New(slog.NewTextHandler(&log, nil)) }
				m := w.startWith(mc)
				time.Sleep(2 * time.Minute)
				begun := time.Now()
				m.end()
				if took := time.Since(begun); took > 5*time.Second {
					t.Errorf("the stop took %v", took)
				}
				if !strings.Contains(log.String(), "held") {
					t.Errorf("not said that it is held: %s", log.String())
				}
				if strings.Contains(log.String(), "trouble=dead_letters from") {
					t.Errorf("said to have recovered: %s", log.String())
				}
			})
		})
	}
}
