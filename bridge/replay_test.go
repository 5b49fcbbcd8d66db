package bridge_test

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"serbridge/bridge"
	"serbridge/bridge/backfill"
	"serbridge/bridge/frontier"
)

// replay is a run over the topic, as `serbridge replay` makes one.
type replay struct {
	w       *world
	request backfill.Request
	run     backfill.Run
	change  func(*bridge.Config) // of every member; may be nil
}

func (w *world) replay(q backfill.Request) *replay {
	q.Topics = []string{topic}
	return &replay{w: w, request: q, run: backfill.Run{Admin: w.admin, Group: backfill.ReplayGroup(group, "r1"), ID: "r1"}}
}

// begin reads the plan, or makes and keeps it.
func (r *replay) begin() backfill.Plan {
	r.w.t.Helper()
	ctx := context.Background()
	p, begun, err := r.run.Read(ctx, r.request.Topics)
	if err == nil && !begun {
		if p, err = backfill.Resolve(ctx, r.w.admin, r.request); err == nil && !p.Complete() {
			if err = r.run.Seed(ctx, p); err == nil {
				p, _, err = r.run.Read(ctx, r.request.Topics)
			}
		}
	}
	if err != nil {
		r.w.t.Fatal(err)
	}
	return p
}

// join starts a process of the run.
func (r *replay) join() (*member, *backfill.Ledger) {
	r.w.t.Helper()
	plan, ledger := r.begin(), new(backfill.Ledger)
	return r.w.start(func(c *bridge.Config) {
		c.Group, c.Bounded, c.RateLimit = r.run.Group, true, 100
		c.Read = func(k *kgo.Record) bridge.Reading { return plan.Reading(r.run.ID, k) }
		c.Ended = ledger.Ended
		if r.change != nil {
			r.change(c)
		}
	}), ledger
}

// endsWithin waits until the members have ended by themselves.
func (w *world) endsWithin(within time.Duration, ms ...*member) {
	w.t.Helper()
	for _, m := range ms {
		select {
		case err := <-m.done:
			if err != nil {
				w.t.Error(err)
			}
			close(m.done)
		case <-time.After(within):
			w.t.Fatalf("the run has not ended after %v: %q", within, m.health.Reasons())
		}
	}
}

func (r *replay) expectComplete() {
	r.w.t.Helper()
	if p := r.begin(); !p.Complete() || p.Left() != 0 {
		r.w.t.Errorf("the run is not complete: %+v", p)
	}
}

// A run that is killed ten times and resumed by the same command delivers everything, and repeats at most MAX_REPEATS
// documents for each kill; none where they are searched for before they are sent again.
func TestReplayKilledTenTimesLosesNothing(t *testing.T) {
	t.Parallel()
	const records, kills, bound = 5000, 10, 50
	for _, c := range rows([]struct {
		name    string
		world   worldConfig
		change  func(*bridge.Config)
		repeats int
	}{
		{"classic", worldConfig{api: lively}, func(c *bridge.Config) { c.Protocol = "classic" }, kills * bound},
		{"consumer", worldConfig{api: lively}, func(c *bridge.Config) { c.Protocol = "consumer" }, kills * bound},
		{"probe", worldConfig{api: refreshed, kafka: brisk}, probing, 0},
	}) {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, c.world)
				w.produce(0, records)
				r := w.replay(backfill.Request{})
				r.change = func(cfg *bridge.Config) { cfg.MaxRepeats = bound; c.change(cfg) }
				for i := range kills {
					m, _ := r.join()
					w.stored((i + 1) * records / (kills + 1))
					m.kill()
					go m.end()
				}
				w.produce(records, 100) // later than the run
				m, _ := r.join()
				w.endsWithin(20*time.Minute, m)
				w.expect(records, c.repeats)
				r.expectComplete()
			})
		})
	}
}

// Two processes share a run, a third joins, one leaves: nothing is lost, nothing repeated, and the ledgers of all add up.
func TestReplayIsSharedByWhoeverComesAndGoes(t *testing.T) {
	t.Parallel()
	for _, protocol := range protocols {
		t.Run(protocol, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				const records = 6000
				w := newWorld(t, worldConfig{api: lively, partitions: 6})
				w.produce(0, records)
				r := w.replay(backfill.Request{})
				r.change = func(c *bridge.Config) { c.Protocol = protocol }
				a, la := r.join()
				b, lb := r.join()
				w.stored(records / 4)
				c, lc := r.join()
				w.stored(records / 2)
				a.end()
				w.endsWithin(10*time.Minute, b, c)
				w.expect(records, 0)
				r.expectComplete()
				if n := la.Counts().Delivered + lb.Counts().Delivered + lc.Counts().Delivered; n != records {
					t.Errorf("the ledgers say %d delivered, want %d", n, records)
				}
			})
		})
	}
}

// A range in time, of a log whose timestamps do not ascend: it begins at the first record of its time, and each record
// after that is judged by its own timestamp.
func TestReplayOfATimeRangeJudgesEachRecord(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, worldConfig{partitions: 2})
		noon := time.Now().Add(-10 * time.Hour)
		minutes := []int{-60, -1, 0, 30, 70, 10, 59, 60, 61, 5} // 1 is empty
		for i, m := range minutes {
			w.produceRecords(&kgo.Record{Topic: topic, Value: detection(i), Timestamp: noon.Add(time.Duration(m) * time.Minute)})
		}
		r := w.replay(backfill.Request{From: backfill.Bound{Time: noon}, To: backfill.Bound{Time: noon.Add(time.Hour)}})
		m, ledger := r.join()
		w.endsWithin(time.Minute, m)
		w.expect(5, 0) // 0, 30, 10, 59, 5
		if c := ledger.Counts(); c.Records != 8 || c.Skipped[string(backfill.PastUntil)] != 3 {
			t.Errorf("counted %+v", c)
		}
		r.expectComplete()
	})
}

// What the live group has not settled is its own to deliver, also when it has done so before a second process joins.
func TestReplayLeavesOutWhatTheLiveGroupHasNotSettled(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, worldConfig{partitions: 1})
		w.produce(0, 100)
		live := frontier.New(frontier.Config{Group: group, Topic: topic, Base: 0, Epoch: -1})
		for i := range int64(80) { // settled: 0 to 39, and the even ones up to 78
			live.Add(i, 0, 0, time.Now())
			if i < 40 || i%2 == 0 {
				live.Settle(i, 0)
			}
		}
		s, _ := live.Snapshot()
		w.commit(kadm.Offset{Topic: topic, At: s.Base, LeaderEpoch: -1, Metadata: s.Metadata})
		r := w.replay(backfill.Request{Live: group})
		if p := r.begin(); p.Total() != 79 {
			t.Errorf("the range has %d offsets, want 79: %+v", p.Total(), p)
		}
		w.commit(kadm.Offset{Topic: topic, At: 100, LeaderEpoch: -1})
		m, ledger := r.join()
		w.endsWithin(time.Minute, m)
		w.expect(60, 0)
		if c := ledger.Counts(); c.Skipped[string(backfill.Unsettled)] != 19 {
			t.Errorf("counted %+v, want 19 left out", c)
		}
		w.expectIDs(func(i int) bool { return i < 40 || i < 80 && i%2 == 0 })
	})
}

// Ranges that hold nothing are complete at once, and are no reason to wait for the others.
func TestReplayOfNothingIsComplete(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, worldConfig{})
		w.produce(0, 30)
		for name, q := range map[string]backfill.Request{
			"after all":           {From: backfill.Bound{Now: true}},
			"no time like this":   {From: backfill.Bound{Time: time.Now().Add(time.Hour)}},
			"end before start":    {From: at(0, 8), To: at(0, 3)},
			"nothing settled yet": {Live: group},
		} {
			if p := w.replay(q).begin(); !p.Complete() || p.Total() != 0 {
				t.Errorf("%s: %+v", name, p)
			}
		}
		r := w.replay(backfill.Request{From: at(1, 4), To: at(1, 7)})
		m, _ := r.join()
		w.endsWithin(time.Minute, m)
		w.expect(3, 0)
	})
}

func at(partition int32, offset int64) backfill.Bound {
	return backfill.Bound{Offsets: map[backfill.Place]int64{{Topic: topic, Partition: partition}: offset}}
}

// Compaction leaves gaps, also at the end of the range; markers of transactions are offsets without a record; and what a
// transaction has not committed yet is none of the range.
func TestReplayPassesOffsetsWithoutRecords(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, worldConfig{partitions: 2, topics: []string{"other"}})
		if err := w.cluster.CreateTopic(topic, 2, map[string]string{"cleanup.policy": "compact"}); err != nil {
			t.Fatal(err)
		}
		for i := range 40 { // 40 records of 10 keys in 0
			w.produceRecords(&kgo.Record{Topic: topic, Key: fmt.Append(nil, i%10), Value: detection(i)})
		}
		r := w.replay(backfill.Request{To: backfill.Bound{Offsets: map[backfill.Place]int64{
			{Topic: topic, Partition: 0}: 35, {Topic: topic, Partition: 1}: 1000}}})
		end := w.transactions(1)
		r.begin()
		end()
		w.cluster.Compact() // 29, since compaction leaves out the last batch, and 30 to 39 are left of 0
		if p, _, err := r.run.Read(context.Background(), []string{topic}); err != nil {
			t.Fatal(err)
		} else if old, err := backfill.HoldsOlder(context.Background(), w.admin, p, time.Now().Add(-24*time.Hour)); old || err != nil {
			t.Errorf("what compaction took out is said to be old: %v", err)
		}
		m, ledger := r.join()
		w.endsWithin(time.Minute, m)
		if c := ledger.Counts(); c.Delivered != 6+10 || c.Records != 16 {
			t.Errorf("counted %+v", c)
		}
		r.expectComplete()
	})
}

// transactions writes ten committed records, ten aborted ones and ten of a transaction that ends when end is called.
func (w *world) transactions(partition int32) (end func()) {
	w.t.Helper()
	ctx := context.Background()
	for i, id := range []string{"committed", "aborted", "open"} {
		producer, err := kgo.NewClient(append(w.kafka(w.net.DialContext), kgo.TransactionalID(id), kgo.RecordPartitioner(kgo.ManualPartitioner()))...)
		if err != nil {
			w.t.Fatal(err)
		}
		w.t.Cleanup(producer.Close)
		if err := producer.BeginTransaction(); err != nil {
			w.t.Fatal(err)
		}
		for n := range 10 {
			k := &kgo.Record{Topic: topic, Partition: partition, Key: fmt.Append(nil, id, n), Value: detection(1000 + 10*i + n)}
			if err := producer.ProduceSync(ctx, k).FirstErr(); err != nil {
				w.t.Fatal(err)
			}
		}
		end = func() {
			if err := producer.EndTransaction(ctx, kgo.TransactionEndTry(id != "aborted")); err != nil {
				w.t.Fatal(err)
			}
		}
		if id != "open" {
			end()
		}
	}
	return end
}

// A partition that is added while a run goes on holds nothing of its range.
func TestReplayLeavesOutPartitionsAddedLater(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, worldConfig{partitions: 2, api: lively})
		w.produce(0, 400)
		r := w.replay(backfill.Request{})
		r.change = func(c *bridge.Config) { c.RateLimit = 2 }
		m, _ := r.join()
		w.stored(10)
		if _, err := w.admin.UpdatePartitions(context.Background(), 4, topic); err != nil {
			t.Fatal(err)
		}
		w.produceWith([]*kgo.Record{{Topic: topic, Partition: 3, Value: detection(1000)}})
		w.endsWithin(10*time.Minute, m)
		w.expect(400, 0)
	})
}

// While the live group is behind the run stops, and says so; a record that the live group merely holds stops nothing, nor
// does a group that does not run.
func TestReplayYieldsToTheLiveGroup(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, worldConfig{})
		w.produce(0, 300)
		live := w.start(func(c *bridge.Config) { c.RateLimit = 5 }) // for a minute
		var said []bool
		y := &backfill.Yield{Admin: w.admin, Group: group, Patience: 30 * time.Second, Say: func(held bool, _ string) { said = append(said, held) }}
		ctx, stop := context.WithCancel(context.Background())
		defer stop()
		ended := make(chan struct{})
		go func() { y.Watch(ctx); close(ended) }()
		time.Sleep(40 * time.Second)
		r := w.replay(backfill.Request{})
		r.change = func(c *bridge.Config) { c.Begin = y.Begin }
		m, ledger := r.join()
		time.Sleep(10 * time.Second)
		if c := ledger.Counts(); c.Records != 0 {
			t.Errorf("%d records replayed while the live group is behind", c.Records)
		}
		m.end() // held, it can be ended, and another takes its place
		m, _ = r.join()
		w.endsWithin(5*time.Minute, m)
		w.expect(600, 0)
		stop()
		<-ended
		if len(said) != 2 || !said[0] || said[1] {
			t.Errorf("said %v, want that it stops and goes on", said)
		}
		live.end()
	})
}

// What retention removes before a run has come to it is counted, and no reason to wait: also when nothing of the range is
// left.
func TestReplayEndsWhereRetentionWasFaster(t *testing.T) {
	t.Parallel()
	for name, first := range map[string]int64{"a part": 200, "all": 340} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, worldConfig{partitions: 1})
				w.produce(0, 300)
				r := w.replay(backfill.Request{})
				r.change = func(c *bridge.Config) { c.RateLimit, c.BufferBytes = 5, 4<<20 }
				r.begin()
				w.produce(300, 50)
				if err := w.cluster.DeleteRecords(topic, 0, first); err != nil {
					t.Fatal(err)
				}
				m, _ := r.join()
				w.endsWithin(5*time.Minute, m)
				w.expect(int(max(0, 300-first)), 0)
				if lost := m.metric("lost_to_retention_total"); lost == 0 {
					t.Error("lost records are not counted")
				}
				r.expectComplete()
			})
		})
	}
}

// Receipts of a run are looked for from a time on at which nothing that is left of it was written: one too late would have
// what is there sent again.
func TestOldestIsBeforeWhatIsLeft(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, worldConfig{partitions: 2})
		begun := time.Now()
		w.produce(0, 10)
		time.Sleep(100 * time.Hour)
		w.produce(10, 10)
		time.Sleep(5 * time.Hour)
		for _, c := range []struct {
			at   int64 // in both partitions
			past time.Duration
		}{{0, 0}, {4, 0}, {6, 100 * time.Hour}} {
			p := backfill.Plan{}
			for id := range int32(2) {
				p.Ranges = append(p.Ranges, backfill.Range{Place: backfill.Place{Topic: topic, Partition: id}, At: c.at, End: 10})
			}
			oldest, err := backfill.Oldest(context.Background(), w.admin, p)
			if err != nil || oldest.After(begun.Add(c.past)) || oldest.IsZero() || c.past > 0 && oldest.Before(begun.Add(90*time.Hour)) {
				t.Errorf("from offset %d on: %v, began %v", c.at, oldest, begun)
			}
		}
	})
}
