package deadletter

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// reading are options of a client that reads within a bubble.
func (w *world) reading() []kgo.Opt { return append(w.options(), kgo.WithDecompressor(zstdOutside{})) }

// fill writes n letters of alternating reasons, in order.
func (w *world) fill(n int) {
	w.t.Helper()
	rs := make([]*kgo.Record, n)
	for i := range rs {
		l := Letter{Topic: "detections", Partition: int32(i % 4), Offset: int64(i), Part: -1, Reason: []string{"invalid_json", "http_400"}[i%2],
			Field: []string{"", "severity", "time"}[i%3], Key: fmt.Appendf(nil, "k%d", i%5), Value: fmt.Appendf(nil, "v%d", i), FailedAt: hour(i)}
		rs[i] = l.Record(dlq)
		rs[i].Partition %= 2
	}
	w.produce(rs...)
}

func hour(i int) time.Time {
	return time.UnixMilli(1_700_000_000_000).UTC().Add(time.Duration(i) * time.Hour)
}

func (w *world) produce(rs ...*kgo.Record) {
	w.t.Helper()
	if err := w.client(kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerBatchCompression(kgo.ZstdCompression())).ProduceSync(context.Background(), rs...).FirstErr(); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) reader() *Reader {
	w.t.Helper()
	r, err := OpenReader(seconds(w.t, 30), w.reading(), dlq)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(r.Close)
	return r
}

func (w *world) marks(change ...func(*MarkConfig)) *MarkWriter {
	w.t.Helper()
	cfg := MarkConfig{Options: w.options(), Topic: dlq, Create: true}
	for _, c := range change {
		c(&cfg)
	}
	m, err := NewMarkWriter(cfg)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(m.Close)
	return m
}

// places are those of the letters that are meant.
func (w *world) places(r *Reader, meant Filter) (ps []string) {
	w.t.Helper()
	err := r.Each(seconds(w.t, 300), meant, func(e *Entry) (bool, error) {
		ps = append(ps, e.Place.String())
		return true, nil
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return ps
}

func TestReaderFindsEveryLetterOnceUpToTheEndAtItsStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, kfake.SeedTopics(2, dlq))
		const n = 5000
		w.fill(n)
		r := w.reader()
		w.fill(100) // after the reader looked where the topic ends
		seen := make(map[string]int)
		passed := int64(0)
		r.OnProgress = func(n int64) { passed += n }
		for _, p := range w.places(r, Filter{}) {
			seen[p]++
		}
		if len(seen) != n || passed != n {
			t.Errorf("%d letters and %d offsets passed, want %d", len(seen), passed, n)
		}
		for p, times := range seen {
			if times != 1 {
				t.Errorf("%s came %d times", p, times)
			}
		}
	})
}

func TestFilterMeansTheseLettersAndNoOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, kfake.SeedTopics(2, dlq))
		w.fill(12) // 0:0 is of offset 0, 1:0 of 1, 0:1 of 2 and so on
		if err := w.marks().Write(seconds(t, 30), Mark{Place: Place{0, 1}, Fate: Parked}, Mark{Place: Place{1, 5}, Fate: Discarded}); err != nil {
			t.Fatal(err)
		}
		r := w.reader()
		for _, c := range []struct {
			name  string
			meant Filter
			want  string
		}{
			{"reason", Filter{Reasons: []string{"http_400"}}, "1:0 1:1 1:2 1:3 1:4 1:5"},
			{"field", Filter{Fields: []string{"time"}}, "0:1 0:4 1:2 1:5"},
			{"two fates", Filter{Fates: []Fate{Parked, Discarded}}, "0:1 1:5"},
			{"open of a partition", Filter{Fates: []Fate{Open}, Partitions: []int32{0}}, "0:0 0:2 0:3 0:4 0:5"},
			{"topic", Filter{Topics: []string{"other"}}, ""},
			{"since", Filter{Since: hour(10)}, "0:5 1:5"},
			{"until leaves its moment out", Filter{Until: hour(2)}, "0:0 1:0"},
			{"places", Filter{Places: []Place{{0, 4}, {1, 1}, {0, 2}, {0, 99}}}, "0:2 0:4 1:1"},
			{"source", Filter{Sources: []Source{{"detections", 3, 7}}}, "1:3"},
			{"key", Filter{Key: []byte("k3")}, "0:4 1:1"},
			{"all of it at once", Filter{Key: []byte("k3"), Reasons: []string{"http_400"}}, "1:1"},
		} {
			if got := strings.Join(w.places(r, c.meant), " "); got != c.want {
				t.Errorf("%s: got %s, want %s", c.name, got, c.want)
			}
		}
	})
}

func TestLastMarkOfALetterCounts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, kfake.SeedTopics(2, dlq))
		w.fill(8)
		marks := w.marks()
		for _, m := range []Mark{
			{Place: Place{0, 0}, Fate: Parked}, {Place: Place{0, 0}, Fate: Discarded, Because: "last"}, {Place: Place{0, 1}, Fate: Parked},
			{Place: Place{0, 1}}, {Place: Place{7, 7}, Fate: Parked}, {Place: Place{0, 2}, Fate: Parked, TopicID: [16]byte{1}},
		} {
			if err := marks.Write(seconds(t, 30), m); err != nil {
				t.Fatal(err)
			}
		}
		w.produce(&kgo.Record{Topic: HandledTopic(dlq), Key: []byte("0:3"), Value: []byte("\x1b[2J")})
		r := w.reader()
		if got := strings.Join(w.places(r, Filter{Fates: []Fate{Open}, Partitions: []int32{0}}), " "); got != "0:1 0:2 0:3" {
			t.Errorf("open: %s; 0:1 was opened again, the mark of 0:2 is of another topic, that of 0:3 damaged", got)
		}
		if n, first := r.Open(); n != 7 || !slices.Equal(first, []Place{{0, 1}, {1, 0}}) {
			t.Errorf("%d open letters, the first %v: want 7, 0:1 and 1:0", n, first)
		}
		if r.Damaged != 1 {
			t.Errorf("%d damaged marks, want 1", r.Damaged)
		}
		found, err := r.Marks(seconds(t, 30), []Place{{0, 0}, {0, 1}})
		if err != nil || len(found) != 1 || found[Place{0, 0}].Because != "last" {
			t.Errorf("marks %+v, %v", found, err)
		}
		if len(r.fates.pages) != 1 {
			t.Error("a mark of no letter costs memory")
		}
	})
}

func TestHandledTopicIsCompactedAndAcknowledgedByAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.createTopic(dlq, 2, map[string]*string{"min.insync.replicas": kadm.StringPtr("1")})
		acks := w.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Observe: true, Count: -1, When: func(r kmsg.Request) bool {
			return r.(*kmsg.ProduceRequest).Acks == -1
		}})
		if err := w.marks().Write(seconds(t, 30), sampleMark()); err != nil {
			t.Fatal(err)
		}
		info := w.TopicInfo(HandledTopic(dlq))
		if info == nil || info.Configs["cleanup.policy"] == nil || *info.Configs["cleanup.policy"] != "compact" {
			t.Errorf("created as %+v: retention would forget what was handled", info)
		}
		if acks.Hits() == 0 {
			t.Error("a mark without acks=all")
		}
	})
}

func TestHandledTopicIsNotCreatedAgainstTheOperatorsWill(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, kfake.SeedTopics(1, dlq))
		m := w.marks(func(c *MarkConfig) { c.Create = false })
		mustSay(t, m.Write(seconds(t, 10), sampleMark()), HandledTopic(dlq), "DLQ_CREATE", "compact")
	})
}

func TestMarkThatIsNotAcknowledgedIsAnError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, kfake.SeedTopics(1, dlq, HandledTopic(dlq)))
		w.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Err: kerr.TopicAuthorizationFailed, Count: -1})
		mustSay(t, w.marks().Write(seconds(t, 10), sampleMark()), "grant")
	})
}

func TestNoTopicIsSaid(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		if _, err := OpenReader(seconds(t, 30), w.reading(), dlq); !errors.Is(err, ErrNoTopic) {
			t.Errorf("got %v", err)
		}
	})
}

func TestSilentBrokerIsAnErrorInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &world{t: t, net: new(kfake.VirtualNetwork)} // nobody listens
		begun := time.Now()
		_, err := OpenReader(context.Background(), w.reading(), dlq)
		mustSay(t, err, "dial")
		if took := time.Since(begun); took > 2*askWait {
			t.Errorf("it took %v", took)
		}
	})
}

// What becomes of a letter while a long command runs must reach it, also when nobody had handled any before.
func TestFollowedReaderLearnsOfMarks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, kfake.SeedTopics(2, dlq))
		w.fill(6)
		marks := w.marks()
		for range 2 {
			if err := marks.Ready(seconds(t, 30)); err != nil {
				t.Fatal(err)
			}
		}
		r := w.reader()
		ctx, cancel := context.WithCancel(context.Background())
		ended := make(chan error)
		go func() { ended <- r.Follow(ctx) }()
		for _, fate := range []Fate{Redriven, Parked} {
			if err := marks.Write(seconds(t, 30), Mark{Place: Place{0, 1}, Fate: fate}); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Second) // of the bubble
			if got := r.Fate(Place{0, 1}); got != fate || r.Fate(Place{0, 2}) != Open {
				t.Errorf("1 is %s, want %s", got, fate)
			}
		}
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

// Transaction markers, aborted records and gaps must neither be letters nor hold the end of the read up.
func TestGapsEndNoReadEarlyAndHoldNoneUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, kfake.SeedTopics(1, dlq))
		l := Letter{Topic: "t", Part: -1}
		cl := w.client(kgo.TransactionalID("x"), kgo.ProducerBatchCompression(kgo.ZstdCompression()), kgo.RecordPartitioner(kgo.ManualPartitioner()))
		for i, end := range []kgo.TransactionEndTry{kgo.TryCommit, kgo.TryAbort, kgo.TryCommit, kgo.TryAbort} {
			if err := cl.BeginTransaction(); err != nil {
				t.Fatal(err)
			}
			l.Offset = int64(i)
			if err := cl.ProduceSync(context.Background(), l.Record(dlq)).FirstErr(); err != nil {
				t.Fatal(err)
			}
			if err := cl.EndTransaction(context.Background(), end); err != nil {
				t.Fatal(err)
			}
		}
		if got := strings.Join(w.places(w.reader(), Filter{}), " "); got != "0:0 0:4" {
			t.Errorf("letters at %s, want 0:0 0:4", got)
		}
		// A log whose last offsets are gone: it says that it ends later than any record.
		r := w.reader()
		r.Spans[0].End += 3
		begun := time.Now()
		if got := strings.Join(w.places(r, Filter{}), " "); got != "0:0 0:4" {
			t.Errorf("letters at %s, want 0:0 0:4", got)
		}
		if took := time.Since(begun); took > 10*time.Second {
			t.Errorf("the gap at the end held the read up for %v", took)
		}
	})
}

func TestOpenTransactionEndsTheReadBeforeIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, kfake.SeedTopics(1, dlq))
		w.produce(Letter{Topic: "t", Part: -1}.Record(dlq))
		cl := w.client(kgo.TransactionalID("x"), kgo.ProducerBatchCompression(kgo.ZstdCompression()), kgo.RecordPartitioner(kgo.ManualPartitioner()))
		if err := cl.BeginTransaction(); err != nil {
			t.Fatal(err)
		}
		if err := cl.ProduceSync(context.Background(), Letter{Topic: "t", Part: -1}.Record(dlq)).FirstErr(); err != nil {
			t.Fatal(err)
		}
		if got := w.places(w.reader(), Filter{}); len(got) != 1 {
			t.Errorf("letters at %v, want one", got)
		}
	})
}

func TestRetentionDuringTheReadIsNoEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, kfake.SeedTopics(1, dlq))
		var rs []*kgo.Record
		for i := range 10 {
			rs = append(rs, Letter{Topic: "t", Part: -1, Offset: int64(i)}.Record(dlq))
		}
		w.produce(rs...)
		r := w.reader()
		if _, err := kadm.NewClient(w.client()).DeleteRecords(context.Background(), kadm.Offsets{dlq: {0: {Topic: dlq, At: 6}}}); err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(w.places(r, Filter{}), " "); got != "0:6 0:7 0:8 0:9" {
			t.Errorf("letters at %s, want those that are left", got)
		}
	})
}

func TestTopicDeletedDuringTheReadIsAnError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, kfake.SeedTopics(2, dlq))
		w.fill(10)
		r := w.reader()
		w.DeleteTopic(dlq)
		err := r.Each(seconds(t, 600), Filter{}, func(*Entry) (bool, error) { return true, nil })
		mustSay(t, err, dlq)
	})
}

func TestWhatIsNoLetterIsShownNotHidden(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, kfake.SeedTopics(1, dlq))
		connect := []kgo.RecordHeader{{Key: connectTopic, Value: []byte("orders")}, {Key: connectPartition, Value: []byte("2")}, {Key: connectOffset, Value: []byte("17")}}
		w.produce(&kgo.Record{Topic: dlq, Value: []byte("no letter")}, &kgo.Record{Topic: dlq, Headers: connect})
		var reasons []string
		err := w.reader().Each(seconds(t, 30), Filter{}, func(e *Entry) (bool, error) {
			reasons = append(reasons, e.Reason())
			return true, nil
		})
		if err != nil || !slices.Equal(reasons, []string{Unreadable, OfConnect}) {
			t.Errorf("reasons %v, %v", reasons, err)
		}
	})
}

// Export, delete the topic, import: the topic is as it was.
func TestRestoredTopicIsAsItWas(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, kfake.SeedTopics(2, dlq))
		w.fill(30)
		odd := record()
		odd.Topic, odd.Partition, odd.Timestamp = dlq, 1, time.UnixMilli(3)
		w.produce(odd)
		lines := func() (all []string) {
			err := w.reader().Each(seconds(t, 60), Filter{}, func(e *Entry) (bool, error) {
				b, err := EncodeLine(e.Record)
				all = append(all, string(b))
				return true, err
			})
			if err != nil {
				t.Fatal(err)
			}
			return all
		}
		before := lines()
		w.DeleteTopic(dlq)
		w.createTopic(dlq, 2, nil)
		var rs []*kgo.Record
		for _, line := range before {
			r, err := DecodeLine([]byte(line))
			if err != nil {
				t.Fatal(err)
			}
			rs = append(rs, r)
		}
		if n, err := w.writer().Restore(seconds(t, 60), rs...); n != len(rs) || err != nil {
			t.Fatalf("%d written, %v", n, err)
		}
		if after := lines(); !slices.Equal(before, after) {
			t.Errorf("%d lines became %d, or others", len(before), len(after))
		}
	})
}

// What fits alone must not be refused because of its neighbours.
func TestRestoreSendsAgainWhatWasTooLargeTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.createTopic(dlq, 1, map[string]*string{"max.message.bytes": kadm.StringPtr("20480")})
		var rs []*kgo.Record
		for i := range 5 {
			rs = append(rs, &kgo.Record{Value: noise(15_000 + i)})
		}
		if n, err := w.writer().Restore(seconds(t, 60), rs...); n != 5 || err != nil {
			t.Fatalf("%d written, %v", n, err)
		}
		w.letters(5)
	})
}
