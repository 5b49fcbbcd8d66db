package bridge_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"serbridge/bridge"
	"serbridge/bridge/stellar"
	"serbridge/bridge/stellar/stellartest"
)

// A fresh group that starts at latest, or at a time, and is killed before it delivered anything must not start at a later
// latest the second time: what was produced between is not skipped.
func TestKilledBeforeTheFirstDeliverySkipsNothing(t *testing.T) {
	t.Parallel()
	for _, protocol := range protocols {
		for name, start := range map[string]bridge.Start{"latest": {Latest: true}, "ten minutes ago": {Ago: 10 * time.Minute}} {
			t.Run(protocol+", "+name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					w := newWorld(t, worldConfig{kafka: brisk})
					w.produce(0, 90) // before the start
					time.Sleep(time.Hour)
					w.api.Script(stellartest.Always(stellartest.Unavailable()))
					join := func() *member {
						return w.start(func(c *bridge.Config) { c.Protocol, c.Start, c.SessionTimeout = protocol, start, 6*time.Second })
					}
					m := join()
					time.Sleep(10 * time.Second)
					m.kill()
					go m.end()
					w.produce(90, 60)
					time.Sleep(30 * time.Minute)
					w.api.Script(nil)
					join()
					w.settled(time.Minute)
					w.expect(60, 0)
				})
			})
		}
	}
}

// Two members that start at latest a second apart resolve it once: what is produced between is nobody's gap.
func TestTwoMembersStartingAtLatestSkipNothing(t *testing.T) {
	t.Parallel()
	for _, protocol := range protocols {
		t.Run(protocol, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, worldConfig{partitions: 6})
				w.produce(0, 60)
				join := func() *member {
					return w.start(func(c *bridge.Config) { c.Protocol, c.Start = protocol, bridge.Start{Latest: true} })
				}
				join()
				time.Sleep(time.Second)
				decided := w.ends(topic)
				stop := w.trickle(60, 10*time.Millisecond)
				join()
				time.Sleep(20 * time.Second)
				n := stop()
				w.settled(time.Minute)
				w.expect(n-60, 0)
				for id, end := range decided {
					if end != 10 {
						t.Errorf("partition %d ended at %d when the start was decided: the test proves nothing", id, end)
					}
				}
			})
		})
	}
}

func (w *world) ends(topic string) map[int32]int64 {
	w.t.Helper()
	listed, err := w.admin.ListEndOffsets(context.Background(), topic)
	if err != nil {
		w.t.Fatal(err)
	}
	ends := make(map[int32]int64)
	listed.Each(func(o kadm.ListedOffset) { ends[o.Partition] = o.Offset })
	return ends
}

// A fresh topic whose start cannot be resolved waits alone. What the group has of others goes on, and once the topic can be
// read it starts where its start says, also if the member is killed before its first delivery.
func TestUnreadableTopicHoldsNoOthersStart(t *testing.T) {
	t.Parallel()
	faults := map[string]kfake.Fault{
		"its log":     {Keys: []kmsg.Key{kmsg.ListOffsets}, Err: kerr.TopicAuthorizationFailed},
		"its commits": {Keys: []kmsg.Key{kmsg.OffsetCommit}, Err: kerr.TopicAuthorizationFailed},
		"its leader":  {Keys: []kmsg.Key{kmsg.ListOffsets}, Err: kerr.LeaderNotAvailable, Partitions: []int32{2}},
	}
	for _, protocol := range protocols {
		for what, fault := range faults {
			for name, start := range map[string]bridge.Start{"latest": {Latest: true}, "ten minutes ago": {Ago: 10 * time.Minute}} {
				t.Run(protocol+", "+what+", "+name, func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) {
						w := newWorld(t, worldConfig{topics: []string{topic, "other"}, kafka: brisk})
						w.produceTo("other", 0, 30, detection)
						time.Sleep(time.Hour)
						w.produceTo("other", 30, 30, detection) // within the ten minutes of the first start
						fault.Topic, fault.Count = "other", -1
						broken := w.cluster.Fault(fault)
						join := func() *member {
							return w.start(func(c *bridge.Config) {
								c.Topics, c.Protocol, c.Start, c.SessionTimeout = []string{topic, "other"}, protocol, start, 6*time.Second
							})
						}
						m := join()
						time.Sleep(10 * time.Second)
						w.produce(60, 30)
						time.Sleep(15 * time.Minute)
						w.expect(30, 0)
						m.expectNotReady("topic other is held, its start position is not resolved")
						w.api.Script(stellartest.Always(stellartest.Unavailable()))
						broken.Remove()
						time.Sleep(5 * time.Second)
						if rs := strings.Join(m.health.Reasons(), "; "); strings.Contains(rs, "start position") {
							t.Errorf("not ready: %s", rs)
						}
						w.produceTo("other", 90, 30, detection)
						time.Sleep(5 * time.Second)
						m.kill()
						go m.end()
						w.produceTo("other", 120, 30, detection)
						time.Sleep(30 * time.Minute)
						w.api.Script(nil)
						join()
						w.settled(time.Minute, topic, "other")
						want := 30 + 30 + 30
						if start.Ago > 0 {
							want += 30
						}
						w.expect(want, 0)
					})
				})
			}
		}
	}
}

// Partitions whose commits the broker does not tell at the assignment are left out by the client, without another word.
// They are held, not ready, and go on where the group was once it tells: never from the start of the log.
func TestPartitionsWithoutAnOffsetAnswerAreHeldNotForgotten(t *testing.T) {
	t.Parallel()
	for _, protocol := range protocols {
		for name, start := range map[string]bridge.Start{"earliest": {}, "latest": {Latest: true}} {
			t.Run(protocol+", "+name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					w := newWorld(t, worldConfig{topics: []string{topic, "known", "fresh"}, kafka: brisk})
					join := func(topics ...string) *member {
						return w.start(func(c *bridge.Config) {
							c.Topics, c.Protocol, c.Start, c.SessionTimeout = topics, protocol, start, 6*time.Second
						})
					}
					m := join(topic, "known")
					time.Sleep(10 * time.Second)
					w.produceTo(topic, 0, 30, detection)
					w.produceTo("known", 30, 30, detection)
					w.settled(time.Minute, topic, "known")
					m.end()
					for _, refused := range []string{"known", "fresh"} {
						defer w.cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.OffsetFetch}, Topic: refused, Err: kerr.TopicAuthorizationFailed, Count: 40}).Remove()
					}
					w.produceTo("fresh", 60, 30, detection) // before it is decided
					w.produceTo(topic, 90, 30, detection)
					w.produceTo("known", 120, 30, detection)
					m = join(topic, "known", "fresh")
					time.Sleep(3 * time.Second)
					w.expect(60+30, 0)
					m.expectNotReady("topic known is held")
					m.expectNotReady("topic fresh is held")
					time.Sleep(3 * time.Minute)
					w.produceTo("fresh", 150, 30, detection)
					w.settled(time.Minute, topic, "known", "fresh")
					want := 60 + 30 + 30 + 30
					if !start.Latest {
						want += 30
					}
					w.expect(want, 0)
					m.expectReady()
				})
			})
		}
	}
}

// A start in the past takes the first record at or after it.
func TestStartAtATimeTakesExactlyWhatCameAfter(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, worldConfig{})
		w.produce(0, 30)
		time.Sleep(time.Hour)
		at := time.Now()
		w.produce(30, 30)
		time.Sleep(time.Hour)
		w.start(func(c *bridge.Config) { c.Start = bridge.Start{Time: at} })
		w.settled(time.Minute)
		w.expect(30, 0)
	})
}

// A partition that is added while the group runs begins at its beginning, whatever the start says.
func TestPartitionAddedLaterStartsAtItsBeginning(t *testing.T) {
	t.Parallel()
	for _, running := range []bool{true, false} {
		t.Run(fmt.Sprintf("running: %v", running), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, worldConfig{})
				w.produce(0, 30)
				latest := func(c *bridge.Config) { c.Start = bridge.Start{Latest: true} }
				m := w.start(latest)
				time.Sleep(10 * time.Second)
				w.produce(30, 30)
				w.settled(time.Minute)
				if !running {
					m.end()
				}
				if _, err := w.admin.CreatePartitions(context.Background(), 1, topic); err != nil {
					t.Fatal(err)
				}
				w.produceRecords(&kgo.Record{Topic: topic, Partition: 3, Value: detection(60)}, &kgo.Record{Topic: topic, Partition: 3, Value: detection(61)})
				if !running {
					m = w.start(latest)
				}
				time.Sleep(10 * time.Minute) // kgo looks at the topics every five
				w.settled(time.Minute)
				w.expect(32, 0)
				m.expectReady()
			})
		})
	}
}

// A pattern takes the topics that match, also those that come later, from their beginning; and never our own.
func TestPatternTakesLaterTopicsFromTheirBeginningAndNeverOurOwn(t *testing.T) {
	t.Parallel()
	for _, start := range []bridge.Start{{}, {Latest: true}} {
		t.Run(fmt.Sprintf("latest: %v", start.Latest), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, worldConfig{topics: []string{"serbridge.a", "other"}})
				w.produceTo("serbridge.a", 0, 30, detection)
				w.produceTo("other", 0, 30, detection)
				m := w.start(func(c *bridge.Config) { c.Topics, c.Start = []string{`^serbridge\..*`}, start })
				time.Sleep(time.Minute)
				want := 30
				if start.Latest {
					want = 0
				}
				w.expect(want, 0)
				w.produceTo("serbridge.a", 30, 29, detection)
				w.produceTo("serbridge.a", 59, 1, func(int) []byte { return []byte("not JSON") })
				if err := w.cluster.CreateTopic("serbridge.b", 2, nil); err != nil {
					t.Fatal(err)
				}
				w.produceTo("serbridge.b", 60, 30, detection)
				time.Sleep(10 * time.Minute)
				w.settled(time.Minute, "serbridge.a", "serbridge.b")
				if l := w.api.Ledger(); l.Distinct != want+29+30 || l.Repeats > 0 {
					t.Errorf("%d stored, %d repeats, want %d", l.Distinct, l.Repeats, want+59)
				}
				if n := len(w.letters()); n != 1 {
					t.Errorf("%d dead letters: the dead-letter topic is read as a source", n)
				}
				m.expectReady()
			})
		})
	}
}

// An alert that compares a counter with 0, or asks how much it grew, is silent as long as the counter is not there.
func TestTopicOfAPatternHasItsCountersBeforeAnythingIsCounted(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, worldConfig{topics: []string{"serbridge.a"}})
		m := w.start(func(c *bridge.Config) { c.Topics = []string{`^serbridge\..*`} })
		time.Sleep(time.Minute)
		families, err := m.prom.Gather()
		if err != nil {
			t.Fatal(err)
		}
		there := make(map[string]bool)
		for _, family := range families {
			for _, series := range family.GetMetric() {
				for _, l := range series.GetLabel() {
					there[family.GetName()] = there[family.GetName()] || l.GetName() == "topic" && l.GetValue() == "serbridge.a"
				}
			}
		}
		for _, name := range []string{"records_received_total", "skipped_total", "dead_letters_total", "lost_to_retention_total"} {
			if !there["serbridge_"+name] {
				t.Errorf("no series of %s for the topic", name)
			}
		}
	})
}

// Lag as Kafka counts it and what is left to do are not the same above a stuck record: who scales by the first adds members
// that find nothing to do.
func TestMetricsTellLagFromBacklog(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, worldConfig{partitions: 1})
		w.api.Script(func(r stellartest.Request) stellartest.Fault {
			if strings.Contains(string(r.Body), `"detection 20"`) {
				return stellartest.Hang()
			}
			return stellartest.Fault{}
		})
		w.produce(0, 20)
		m := w.startWith(memberConfig{stellar: func(c *stellar.Config) { c.Timeout = time.Hour }})
		w.settled(time.Minute)
		w.produce(20, 100)
		w.stored(119)
		time.Sleep(20 * time.Second)
		w.produce(120, 1) // also what was never fetched counts
		w.cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.OffsetCommit}, Err: kerr.TopicAuthorizationFailed, Count: -1})
		time.Sleep(20 * time.Second)
		for name, want := range map[string]float64{"lag_records": 101, "backlog_records": 1, "settled_above_frontier": 100, "commit_metadata_runs": 1} {
			if got := m.metric(name, "topic", topic, "partition", "0"); got != want {
				t.Errorf("%s: %v, want %v", name, got, want)
			}
		}
		if n := m.metric("commit_failures_total", "code", "TOPIC_AUTHORIZATION_FAILED"); n == 0 {
			t.Error("not counted why commits fail")
		}
		age := float64(time.Now().Unix()) - m.metric("last_settled_timestamp_seconds", "topic", topic, "partition", "0")
		if age < 19 || age > 21 {
			t.Errorf("the last record was settled %v s ago, want 20", age)
		}
	})
}

// Transaction markers are no records: the lag reaches 0 behind them, and what was aborted is not delivered.
func TestTransactionMarkersLeaveNoLag(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, worldConfig{partitions: 1})
		producer, err := kgo.NewClient(append(w.kafka(w.net.DialContext), kgo.TransactionalID("x"), kgo.RecordPartitioner(kgo.ManualPartitioner()))...)
		if err != nil {
			t.Fatal(err)
		}
		defer producer.Close()
		ctx, n := context.Background(), 0
		m := w.start(nil)
		for i := range 5 {
			if err := producer.BeginTransaction(); err != nil {
				t.Fatal(err)
			}
			for range 10 {
				if err := producer.ProduceSync(ctx, &kgo.Record{Topic: topic, Value: detection(n)}).FirstErr(); err != nil {
					t.Fatal(err)
				}
				n++
			}
			if err := producer.EndTransaction(ctx, kgo.TransactionEndTry(i%2 == 0)); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Second)
		}
		w.settled(time.Minute)
		w.expect(30, 0)
		m.expectReady()
	})
}

// Retention that passes the group's commit takes records that nobody can bring back: they are counted, said, and what
// is left is delivered.
func TestRetentionBeyondTheCommitIsSaidAndGoesOn(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, worldConfig{})
		w.produce(0, 300)
		w.start(nil)
		w.settled(time.Minute)
		w.members[0].end()
		w.produce(300, 300)
		for id, gone := range map[int32]int64{0: 140, 1: 100} { // partition 1: up to the commit exactly
			if err := w.cluster.DeleteRecords(topic, id, gone); err != nil {
				t.Fatal(err)
			}
		}
		m := w.start(nil)
		w.settled(2 * time.Minute)
		w.expect(600-40, 0)
		if n := m.metric("lost_to_retention_total"); n != 40 {
			t.Errorf("%v counted as lost to retention, want 40", n)
		}
		m.expectReady()
	})
}

// Retention that passes a base whose map says what is settled above: what is settled stays settled, what is open and
// left is delivered.
func TestRetentionBeyondTheBaseKeepsTheMap(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, worldConfig{partitions: 1})
		w.api.Script(func(r stellartest.Request) stellartest.Fault {
			for _, i := range []int{50, 80, 110} { // one of them is gone, two are left
				if strings.Contains(string(r.Body), fmt.Sprintf(`"detection %d"`, i)) {
					return stellartest.Hang()
				}
			}
			return stellartest.Fault{}
		})
		w.produce(0, 20)
		m := w.startWith(memberConfig{stellar: func(c *stellar.Config) { c.Timeout = time.Hour }})
		w.settled(time.Minute) // so many are sent at once now that none waits for one that hangs
		w.produce(20, 100)
		w.stored(117)
		time.Sleep(time.Second)
		m.kill()
		go m.end()
		w.api.Script(nil)
		if err := w.cluster.DeleteRecords(topic, 0, w.commits(topic)[0].At+10); err != nil { // the first open one is gone
			t.Fatal(err)
		}
		m = w.start(nil)
		w.settled(3 * time.Minute)
		w.expect(119, 0)
		m.expectReady()
	})
}

// A commit beyond the end of the log says that the log was truncated or the topic replaced. Only a person can tell what
// to do: the partition is held, not ready, and the others go on.
func TestCommitBeyondTheEndIsHeldAndOthersGoOn(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, worldConfig{})
		w.produce(0, 300)
		w.commit(kadm.Offset{Topic: topic, Partition: 1, At: 5000, LeaderEpoch: -1})
		m := w.start(nil)
		time.Sleep(time.Minute)
		m.expectNotReady("beyond the end of the log")
		if n := w.api.Ledger().Distinct; n != 200 {
			t.Errorf("%d stored, want the 200 of the other partitions", n)
		}
		if c := w.commits(topic); c[1].At != 5000 || c[0].At != 100 || c[2].At != 100 {
			t.Errorf("commits %d, %d, %d: want the one beyond the end untouched", c[0].At, c[1].At, c[2].At)
		}
		m.end()
		w.commit(kadm.Offset{Topic: topic, Partition: 1, At: 40, LeaderEpoch: -1}) // what the message says
		m = w.start(nil)
		w.settled(time.Minute)
		w.expect(260, 0)
		m.expectReady()
	})
}

// Offsets that compaction has taken are nobody's: the base passes them, lag reaches 0, and the next owner repeats nothing.
func TestCompactedOffsetsLeaveNoLag(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const compacted = "compacted"
		w := newWorld(t, worldConfig{})
		if err := w.cluster.CreateTopic(compacted, 1, map[string]string{"cleanup.policy": "compact"}); err != nil {
			t.Fatal(err)
		}
		for i := range 40 { // 10 keys; the last batch is left out
			w.produceRecords(&kgo.Record{Topic: compacted, Key: fmt.Append(nil, i%10), Value: detection(i)})
		}
		w.cluster.Compact()
		join := func() *member { return w.start(func(c *bridge.Config) { c.Topics = []string{compacted} }) }
		m := join()
		w.settled(time.Minute, compacted)
		n := w.api.Ledger().Distinct
		if n < 10 || n > 11 {
			t.Errorf("%d stored, want one for each key and at most one more", n)
		}
		m.end()
		m = join()
		w.produceRecords(&kgo.Record{Topic: compacted, Key: []byte("new"), Value: detection(40)})
		w.settled(time.Minute, compacted)
		w.expect(n+1, 0)
		m.expectReady()
	})
}

// A set too wide for any map holds its partition, not the others, and goes on when what is open below is done.
func TestFullWindowHoldsItsPartitionAlone(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const wide, window = 20_000, 16_384
		w := newWorld(t, worldConfig{partitions: 2})
		rs := make([]*kgo.Record, wide)
		for i := range rs {
			rs[i] = &kgo.Record{Topic: topic, Partition: 0, Value: detection(i)}
			if i%40 == 0 { // so many holes that no wider set is allowed: these wait for a dead-letter topic
				rs[i].Value = []byte("not JSON")
			}
		}
		w.produceRecords(rs...)
		m := w.startWith(memberConfig{letters: noTopic})
		time.Sleep(30 * time.Second)
		stored := w.api.Ledger().Distinct
		if least := window * 39 / 40; stored < least || stored > least+2100 {
			t.Errorf("%d stored, want what the window of %d bears", stored, window)
		}
		for i := range rs[:1000] {
			rs[i] = &kgo.Record{Topic: topic, Partition: 1, Value: detection(wide + i)}
		}
		w.produceRecords(rs[:1000]...)
		time.Sleep(10 * time.Second)
		if n := w.api.Ledger().Distinct; n != stored+1000 {
			t.Errorf("%d of 1000 stored of the other partition", n-stored)
		}
		if err := w.cluster.CreateTopic(group+".dlq", 1, nil); err != nil {
			t.Fatal(err)
		}
		w.settled(5 * time.Minute)
		if l := w.api.Ledger(); l.Distinct != wide*39/40+1000 || l.Repeats > 0 {
			t.Errorf("%d stored, %d repeats", l.Distinct, l.Repeats)
		}
		if n := len(w.letters()); n != wide/40 {
			t.Errorf("%d dead letters, want %d", n, wide/40)
		}
		time.Sleep(10 * time.Second) // the next look
		m.expectReady()
	})
}
