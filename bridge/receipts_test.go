package bridge_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"serbridge/bridge"
	"serbridge/bridge/deadletter"
	"serbridge/bridge/frontier"
	"serbridge/bridge/receipt"
)

const receiptsTopic = group + ".receipts"

// troubleNotes are what a writer of receipts said.
type troubleNotes struct {
	mu   sync.Mutex
	says []string
}

func (n *troubleNotes) add(why string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.says = append(n.says, why)
}

// last is what holds now, and all of it.
func (n *troubleNotes) last() (string, []string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(n.says) == 0 {
		return "", nil
	}
	return n.says[len(n.says)-1], n.says
}

// withReceipts has a member write receipts over its own connections.
func (w *world) withReceipts(c *bridge.Config, change ...func(*receipt.Config)) (*receipt.Writer, *troubleNotes) {
	w.t.Helper()
	notes := new(troubleNotes)
	cfg := receipt.Config{Options: c.Kafka, Topic: receiptsTopic, Retention: time.Hour * 24 * 90, Sources: func() []string { return []string{topic} },
		Hold: 25 * time.Second, Host: "localhost", User: func() (string, error) { return "bridge@example.com", nil }, Group: group, Run: c.Instance, Trouble: notes.add}
	if os.Getenv("BRIDGE_TEST_LOG") != "" {
		cfg.Logger = slog.New(slog.NewTextHandler(os.Stderr, nil)).With("member", len(w.members))
	}
	for _, f := range change {
		f(&cfg)
	}
	writer, err := receipt.NewWriter(cfg)
	if err != nil {
		w.t.Fatal(err)
	}
	writer.Start()
	w.t.Cleanup(writer.Close)
	c.Internal = append(c.Internal, receiptsTopic)
	c.Flush = writer.Flush
	c.Ended = func(ctx context.Context, o bridge.Outcome) error { return writer.Take(ctx, receipt.Of(o, time.Now())) }
	return writer, notes
}

// receipts are all that are in the topic, by record.
func (w *world) receipts() map[deadletter.Source][]receipt.Receipt {
	w.t.Helper()
	r, err := receipt.OpenReader(context.Background(), append(w.kafka(w.net.DialContext), kgo.WithDecompressor(zstdOutside{})), receiptsTopic, time.Time{})
	if err != nil {
		w.t.Fatal(err)
	}
	defer r.Close()
	found := make(map[deadletter.Source][]receipt.Receipt)
	err = r.Each(context.Background(), func(one receipt.Receipt) (bool, error) {
		found[one.Source] = append(found[one.Source], one)
		return true, nil
	})
	if err != nil || r.Damaged > 0 {
		w.t.Fatalf("read receipts: %v, %d damaged", err, r.Damaged)
	}
	return found
}

// expectReceipts is that no offset which the group has committed, or names in its map, is without a receipt. The commits
// are read first: whatever a member does meanwhile, its receipt comes before.
func (w *world) expectReceipts() map[deadletter.Source][]receipt.Receipt {
	w.t.Helper()
	commits := w.commits(topic)
	found := w.receipts()
	missing := 0
	for id, c := range commits {
		need := func(offset int64) {
			if len(found[deadletter.Source{Topic: topic, Partition: id, Offset: offset}]) == 0 {
				missing++
			}
		}
		for offset := range c.At {
			need(offset)
		}
		m, err := frontier.Decode(group, topic, id, c.At, c.Metadata)
		if err != nil {
			w.t.Fatal(err)
		}
		for from, to := range m.Runs() {
			for offset := from; offset < to; offset++ {
				need(offset)
			}
		}
	}
	if missing > 0 {
		w.t.Errorf("%d committed offsets have no receipt", missing)
	}
	return found
}

// A receipt is in its topic before the offset of its record is committed, whenever the member is killed.
func TestReceiptsComeBeforeCommits(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const records, kills = 2000, 8
		w := newWorld(t, worldConfig{api: lively})
		w.produceTo(topic, 0, records, func(i int) []byte {
			if i%10 == 3 {
				return nil // a tombstone
			}
			return withRejects(i)
		})
		start := func() *member {
			return w.start(func(c *bridge.Config) { w.withReceipts(c); c.RateLimit, c.SessionTimeout = 100, 10*time.Second })
		}
		m := start()
		for i := range kills {
			w.stored(w.api.Ledger().Distinct + 60 + 17*i)
			m.kill()
			go m.end()
			w.expectReceipts()
			m = start()
		}
		w.settled(10 * time.Minute)
		fates := make(map[receipt.Fate]int)
		for source, found := range w.expectReceipts() {
			for _, r := range found {
				if r.Of > 1 || r.Ended.IsZero() || r.Time.IsZero() || r.Host != "localhost" || r.User != "bridge@example.com" || r.Run == "" {
					t.Fatalf("%s: %+v", source, r)
				}
			}
			last := found[len(found)-1]
			fates[last.Fate()]++
			switch {
			case last.Fate() == receipt.Delivered && (last.Parts[0].ID == "" || len(w.api.DocumentsOf(last.Parts[0].DeliveryKey)) == 0):
				t.Errorf("%s: a receipt of what is not stored: %+v", source, last)
			case last.Fate() == receipt.DeadLettered && (last.Parts[0].Reason != "invalid_json" || last.Parts[0].Part != bridge.WholeRecord):
				t.Errorf("%s: %+v", source, last)
			case last.Fate() == receipt.Skipped && last.Skip != "tombstone":
				t.Errorf("%s: %+v", source, last)
			}
		}
		if fates[receipt.Delivered] != records*8/10 || fates[receipt.DeadLettered] != records/10 || fates[receipt.Skipped] != records/10 {
			t.Errorf("%v of %d records", fates, records)
		}
	})
}

// A receipts topic that is away holds delivery up for DRAIN_TIMEOUT at most, once, and says so; once it is back, receipts
// are written again.
func TestReceiptsTopicAwayHoldsNothingForLong(t *testing.T) {
	t.Parallel()
	create := func(w *world) {
		if err := w.cluster.CreateTopic(receiptsTopic, 3, nil); err != nil {
			w.t.Error(err)
		}
	}
	for _, c := range []struct {
		name string
		away func(*world) (back func())
		says string
	}{
		{"missing", func(w *world) func() {
			return w.cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.CreateTopics}, Err: kerr.ClusterAuthorizationFailed, Count: -1}).Remove
		}, "grant"},
		{"refusing", func(w *world) func() {
			create(w)
			return w.cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: receiptsTopic, Err: kerr.TopicAuthorizationFailed, Count: -1}).Remove
		}, "grant"},
		{"hanging", func(w *world) func() { create(w); return w.stop(kmsg.Produce) }, "no acknowledgement"},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				const records, rate, hold = 2000, 100, 25 * time.Second
				w := newWorld(t, worldConfig{})
				w.produce(0, records)
				if err := w.cluster.CreateTopic(group+".dlq", 1, nil); err != nil {
					t.Error(err)
				}
				back := c.away(w)
				var notes *troubleNotes
				var writer *receipt.Writer
				m := w.start(func(c *bridge.Config) { writer, notes = w.withReceipts(c); c.RateLimit = rate })
				begun := time.Now()
				time.Sleep(hold - 5*time.Second)
				if said := strings.Join(m.health.Reasons(), "\n"); !strings.Contains(said, "RECEIPTS_TOPIC") || strings.Contains(said, "KAFKA_BROKERS") {
					t.Errorf("while it is waited for: %q", said)
				}
				w.settled(5 * time.Minute)
				if took := time.Since(begun); took > records/rate*time.Second+hold+5*time.Second {
					t.Errorf("%d records took %v", records, took)
				}
				now, all := notes.last()
				if !strings.Contains(now, c.says) || len(all) != 1 || strings.Contains(now, "DLQ_") || strings.Contains(now, "KAFKA_TOPICS") {
					t.Errorf("said %q, want %q, once, and of no other topic", all, c.says)
				}
				w.expect(records, 0)
				begun = time.Now()
				m.end()
				if took := time.Since(begun); took > 2*time.Second {
					t.Errorf("the stop took %v", took)
				}
				m = w.start(func(c *bridge.Config) { writer, notes = w.withReceipts(c); c.RateLimit = rate })
				time.Sleep(5 * time.Second)
				back()
				time.Sleep(time.Minute) // while the client tries again
				w.produce(records, 300)
				w.settled(time.Minute)
				if now, all := notes.last(); now != "" {
					t.Errorf("still said: %q", all)
				}
				m.end()
				if s := writer.Stats(); s.Written != 300 || s.Lost != 0 || s.Waiting != 0 {
					t.Errorf("after it came back: %+v", s)
				}
				found := 0
				for source := range w.receipts() {
					if source.Offset >= records/3 {
						found++
					}
				}
				if found < 300-3 {
					t.Errorf("%d receipts of 300 records", found)
				}
			})
		})
	}
}

// A stop waits a few seconds for receipts, not longer than it tries to commit: a lost receipt costs no repeat.
func TestStopDoesNotWaitForReceipts(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, worldConfig{})
		for _, name := range []string{receiptsTopic, group + ".dlq"} {
			if err := w.cluster.CreateTopic(name, 3, nil); err != nil {
				t.Fatal(err)
			}
		}
		w.produce(0, 100)
		var writer *receipt.Writer
		m := w.start(func(c *bridge.Config) { writer, _ = w.withReceipts(c); c.RateLimit = 100 })
		w.settled(time.Minute)
		w.produce(100, 100)
		resume := w.stop(kmsg.Produce)
		defer resume()
		w.stored(200)
		begun := time.Now()
		writer.Hurry()
		m.end()
		if took := time.Since(begun); took > 8*time.Second {
			t.Errorf("the stop took %v", took)
		}
		if lag := w.lag(topic); lag > 0 {
			t.Errorf("%d delivered records are not committed and will be repeated", lag)
		}
		writer.Close()
		if s := writer.Stats(); s.Lost == 0 || s.Lost+s.Written != 200 {
			t.Errorf("%+v", s)
		}
	})
}

// Receipts of a record with many parts are several, and hold all of them.
func TestReceiptsOfManyParts(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, worldConfig{})
		cfg := bridge.Config{Kafka: w.kafka(w.net.DialContext)}
		writer, _ := w.withReceipts(&cfg)
		const parts = 1234
		r := receipt.Receipt{Source: deadletter.Source{Topic: topic, Partition: 1, Offset: 7}, Ended: time.Now(), Of: parts}
		for i := range parts {
			r.Parts = append(r.Parts, receipt.Part{Part: i, ID: fmt.Sprintf("%0500d", i), Index: strings.Repeat("i", 500)})
		}
		if err := writer.Take(context.Background(), r); err != nil {
			t.Fatal(err)
		}
		if err := writer.Flush(context.Background()); err != nil {
			t.Fatal(err)
		}
		seen := make(map[int]bool)
		for _, one := range w.receipts()[r.Source] {
			if one.Of != parts {
				t.Errorf("a piece says that there are %d parts", one.Of)
			}
			for _, p := range one.Parts {
				seen[p.Part] = true
			}
		}
		if len(seen) != parts {
			t.Errorf("%d parts come back, want %d", len(seen), parts)
		}
	})
}

// A right to write that is granted later must let the receipts through, those that were refused too: the refusal must not be
// remembered until the restart.
func TestReceiptsAreWrittenOnceTheRightIsGranted(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const records = 100
		w := newWorld(t, worldConfig{})
		w.produce(0, records) // the test's own client is known before
		granted := w.cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.InitProducerID}, Err: kerr.ClusterAuthorizationFailed, TopLevel: true, Count: -1})
		var writer *receipt.Writer
		var notes *troubleNotes
		w.start(func(c *bridge.Config) { writer, notes = w.withReceipts(c) })
		w.settled(5 * time.Minute)
		if why, _ := notes.last(); !strings.Contains(why, "grant") {
			t.Errorf("says %q", why)
		}
		granted.Remove()
		time.Sleep(time.Minute)
		if s := writer.Stats(); s.Written != records || s.Waiting != 0 || s.Lost != 0 {
			t.Errorf("%+v, want %d written", s, records)
		}
		if why, _ := notes.last(); why != "" {
			t.Errorf("still says %q", why)
		}
	})
}
