package bridge_test

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"serbridge/bridge"
	"serbridge/bridge/stellar"
	"serbridge/bridge/stellar/stellartest"
)

var protocols = []string{"classic", "consumer"}

// brisk is a broker that gives a silent consumer up after six seconds; classic members ask for it themselves.
var brisk = []kfake.Opt{kfake.BrokerConfigs(map[string]string{
	"group.consumer.session.timeout.ms": "6000", "group.consumer.heartbeat.interval.ms": "2000", "group.consumer.min.session.timeout.ms": "6000"})}

// lively is an API whose answers take from a twentieth to half a second.
var lively = stellartest.Config{Faults: stellartest.Faults{
	Latency: stellartest.Latency{Median: 50 * time.Millisecond, P99: 500 * time.Millisecond}}}

// Members that come and go under load must lose nothing and repeat nothing: each hands over only when all it had
// started is answered and committed, also when commits fail at first, and when a record is many documents, of which
// some are stored and some are not yet.
func TestRebalanceUnderLoadLosesAndRepeatsNothing(t *testing.T) {
	t.Parallel()
	for _, protocol := range protocols {
		for _, failing := range rows([]bool{true, false}) {
			for _, parts := range []int{1, 40} {
				t.Run(fmt.Sprintf("%s, commits fail: %v, %d documents a record", protocol, failing, parts), func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) { comeAndGo(t, protocol, failing, parts) })
				})
			}
		}
	}
}

func comeAndGo(t *testing.T, protocol string, failing bool, parts int) {
	const documents = 6000 // more than can be delivered while they come and go, however long they drain
	w := newWorld(t, worldConfig{partitions: 6, api: lively})
	w.produceTo(topic, 0, documents/parts, func(i int) []byte { return bundle(i, parts) })
	join := func() *member { return w.start(func(c *bridge.Config) { c.Protocol = protocol; c.RateLimit = 300 }) }
	rewinds := w.watchCommits()
	a := join()
	w.stored(500)
	for range 3 {
		if failing {
			w.cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.OffsetCommit}, Err: kerr.UnknownServerError, Count: 20})
		}
		b := join()
		time.Sleep(700 * time.Millisecond)
		c := join()
		time.Sleep(2300 * time.Millisecond)
		b.end()
		time.Sleep(500 * time.Millisecond)
		a.end()
		a = c
	}
	if w.api.Ledger().Distinct == documents {
		t.Error("all was delivered before the last member left: the test proves too little")
	}
	w.settled(5 * time.Minute)
	w.expect(documents, 0)
	rewinds()
	a.expectReady()
}

// stable waits until the group has so many members and all is assigned. (kfake never ends a rebalance whose leader died
// in the middle of it.)
func (w *world) stable(members int) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	if _, err := w.cluster.WaitGroupStable(ctx, group, members); err != nil {
		w.t.Fatalf("group of %d not stable: %v", members, err)
	}
}

// watchCommits looks at the group's committed offsets all the time, until the returned function, which fails the test
// if one of them ever went back.
func (w *world) watchCommits() (done func()) {
	end, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		last := make(map[int32]int64)
		for {
			select {
			case <-tick.C:
			case <-end:
				return
			}
			g := w.cluster.GroupInfo(group)
			if g == nil {
				continue
			}
			for id, c := range g.Commits[topic] {
				if c.Offset < last[id] {
					w.t.Errorf("the commit of partition %d went back from %d to %d", id, last[id], c.Offset)
				}
				last[id] = c.Offset
			}
		}
	}()
	return func() { close(end); <-ended }
}

// A member that the group has given up while its POSTs hang must not touch the offsets of those that own its partitions
// now, however late it is answered; and it sends nothing any more.
func TestLateAnswerAfterLossNeverCommits(t *testing.T) {
	t.Parallel()
	for _, protocol := range protocols {
		t.Run(protocol, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				const records, hanging = 600, 64
				w := newWorld(t, worldConfig{kafka: brisk})
				join := func() *member {
					return w.startWith(memberConfig{
						bridge:  func(c *bridge.Config) { c.Protocol = protocol; c.SessionTimeout = 6 * time.Second },
						stellar: func(c *stellar.Config) { c.Timeout = time.Minute },
					})
				}
				rewinds := w.watchCommits()
				a := join()
				w.produce(0, 200)
				w.settled(time.Minute)
				// What a sends from now on is stored and answered long after it lost everything.
				w.api.Script(stellartest.Always(stellartest.Slow(40 * time.Second)))
				w.produce(200, records-200)
				time.Sleep(2 * time.Second)
				a.lines.cut()
				b := join()
				w.api.Script(nil)
				time.Sleep(30 * time.Second)
				w.settled(time.Minute)
				sent := w.api.Ledger().Requests[stellartest.KindInsert]
				time.Sleep(20 * time.Second) // a has its answers
				a.lines.mend()
				time.Sleep(2 * time.Minute)
				w.settled(time.Minute)
				w.expect(records, hanging)
				if n := w.api.Ledger().Requests[stellartest.KindInsert]; n != sent {
					t.Errorf("%d requests after everything was settled", n-sent)
				}
				rewinds()
				a.expectReady()
				b.expectReady()
			})
		})
	}
}

// kicks are how the broker tells a member that it is none.
var kicks = map[string]kfake.Fault{
	"classic":  {Keys: []kmsg.Key{kmsg.Heartbeat}, Group: group, TopLevel: true, Err: kerr.UnknownMemberID},
	"consumer": {Keys: []kmsg.Key{kmsg.ConsumerGroupHeartbeat}, Group: group, TopLevel: true, Err: kerr.FencedMemberEpoch},
}

// kick waits until a member was told so.
func (w *world) kick(f kfake.Fault) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := w.cluster.Fault(f).Wait(ctx, 1); err != nil {
		w.t.Fatal(err)
	}
}

// A member that is told that it is none, while its POSTs hang, comes back with frontiers of its own: the answers to what
// it sent before settle nothing.
func TestKickedMemberBeginsAnew(t *testing.T) {
	t.Parallel()
	for protocol, f := range kicks {
		t.Run(protocol, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				const records = 2000
				w := newWorld(t, worldConfig{api: lively})
				rewinds := w.watchCommits()
				m := w.start(func(c *bridge.Config) { c.Protocol = protocol; c.RateLimit = 100 })
				w.produce(0, records)
				for range 3 {
					time.Sleep(5 * time.Second)
					w.kick(f)
				}
				w.settled(5 * time.Minute)
				w.expect(records, 3*200)
				if m.metric("late_answers_total")+float64(w.api.Ledger().Repeats) == 0 {
					t.Error("nothing was under way when the member was kicked")
				}
				rewinds()
				time.Sleep(15 * time.Second) // the next look at Kafka
				m.expectReady()
			})
		})
	}
}

// All partitions of a member are lost at one moment, and the room of the first must not let records of the others start:
// the next owner would repeat those on top of the bound.
func TestLossRepeatsAtMostTheBound(t *testing.T) {
	t.Parallel()
	for protocol, f := range kicks {
		t.Run(protocol, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				const each, bound, losses = 600, 200, 8
				w := newWorld(t, worldConfig{partitions: 24, api: lively})
				m := w.start(func(c *bridge.Config) { c.Protocol, c.MaxRepeats = protocol, bound })
				for i := range losses {
					before := w.api.Ledger()
					w.produce(i*each, each)
					w.stored(before.Distinct + 100)
					heal := w.stopCommits(false)
					time.Sleep(10 * time.Second)
					if n := m.metric("exposure_documents"); n != bound {
						t.Errorf("a crash now repeats %v, want %d: the loss proves too little", n, bound)
					}
					w.kick(f)
					heal()
					w.settled(time.Minute)
					if n := w.api.Ledger().Repeats - before.Repeats; n > bound {
						t.Errorf("%d documents stored again after a loss, the bound is %d", n, bound)
					}
				}
				w.expect(losses*each, losses*bound)
			})
		})
	}
}

// A commit that failed stays due: nothing else has to happen for it to be tried again.
func TestFailedCommitStaysDue(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, worldConfig{})
		w.produce(0, 50)
		h := w.cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.OffsetCommit}, Err: kerr.UnknownServerError, Count: -1})
		m := w.start(nil)
		w.stored(50)
		time.Sleep(30 * time.Second)
		if lag := w.lag(topic); lag != 50 {
			t.Errorf("lag %d while commits fail", lag)
		}
		m.expectNotReady("offsets are not committed")
		h.Remove()
		w.settled(time.Minute)
		time.Sleep(time.Second) // for the answer
		m.expectReady()
		m.end()
		w.start(nil)
		time.Sleep(time.Minute)
		w.expect(50, 0)
	})
}

// A member that owns nothing any more must not say for ever what was wrong with its partitions.
func TestMemberWithoutPartitionsIsReady(t *testing.T) {
	t.Parallel()
	for name, commitsFail := range map[string]bool{"commits fail": true, "braked": false} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, worldConfig{partitions: 1, kafka: brisk})
				if commitsFail {
					w.cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.OffsetCommit}, Err: kerr.UnknownServerError, Count: -1})
					w.produce(0, 10)
				} else {
					w.produceTo(topic, 0, 1000, sourceless)
				}
				a := w.start(func(c *bridge.Config) { c.SessionTimeout = 6 * time.Second })
				time.Sleep(10 * time.Second)
				if len(a.health.Reasons()) == 0 {
					t.Fatal("nothing is wrong with the first member")
				}
				a.lines.cut()
				w.start(func(c *bridge.Config) { c.SessionTimeout = 6 * time.Second })
				time.Sleep(time.Minute) // it is the other's now
				a.lines.mend()
				time.Sleep(time.Minute)
				idle := 0
				for _, gm := range w.cluster.GroupInfo(group).Members {
					for i, m := range w.members {
						if gm.ClientID != fmt.Sprintf("member-%d", i) {
							continue
						}
						if gm.NumAssigned() == 0 {
							m.expectReady()
							idle++
						} else if len(m.health.Reasons()) == 0 {
							t.Errorf("member %d owns the partition and says that all is well", i)
						}
					}
				}
				if idle != 1 {
					t.Errorf("%d members without a partition", idle)
				}
			})
		})
	}
}

// While no commit is acknowledged delivery must stop at the bound, or a crash would repeat it all.
func TestUnacknowledgedCommitsStopDeliveryAtTheBound(t *testing.T) {
	t.Parallel()
	for _, bound := range []int{200, 80} {
		for _, hangs := range []bool{false, true} {
			t.Run(fmt.Sprintf("%d, hanging: %v", bound, hangs), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					const records = 1000
					w := newWorld(t, worldConfig{})
					heal := w.stopCommits(hangs)
					w.produce(0, records)
					m := w.start(func(c *bridge.Config) { c.MaxRepeats = bound })
					time.Sleep(30 * time.Second) // less than a session: the member is not given up
					if n := w.api.Ledger().Documents; n > bound || n < bound-1 {
						t.Errorf("%d documents stored while no commit is acknowledged, want %d", n, bound)
					}
					if n := m.metric("exposure_documents"); n != float64(w.api.Ledger().Documents) {
						t.Errorf("the metric says that a crash now repeats %v, %d are stored and uncovered", n, w.api.Ledger().Documents)
					}
					m.kill()
					go m.end()
					heal()
					w.start(nil)
					w.settled(5 * time.Minute)
					w.expect(records, bound)
				})
			})
		}
	}
}

// stopCommits has the broker refuse commits, or take and never answer them.
func (w *world) stopCommits(hang bool) (heal func()) {
	if !hang {
		return w.cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.OffsetCommit}, Err: kerr.UnknownServerError, Count: -1}).Remove
	}
	return w.stop(kmsg.OffsetCommit)
}

// A broker that takes less metadata than we write must get less within one cycle, not the same again for ever.
func TestMetadataTooLargeIsWrittenShorter(t *testing.T) {
	t.Parallel()
	for _, most := range []int{60, 0} {
		t.Run(fmt.Sprint(most), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				const records = 400
				w := newWorld(t, worldConfig{partitions: 1})
				var longest atomic.Int64
				w.cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.OffsetCommit}, Err: kerr.OffsetMetadataTooLarge, Count: -1, When: func(r kmsg.Request) bool {
					n := len(*r.(*kmsg.OffsetCommitRequest).Topics[0].Partitions[0].Metadata)
					longest.Store(max(longest.Load(), int64(n)))
					return n > most
				}})
				w.api.Script(hangEvery(7))
				w.produce(0, records)
				slow := func(c *stellar.Config) { c.Timeout = 2 * time.Hour }
				m := w.startWith(memberConfig{stellar: slow})
				time.Sleep(5 * time.Second)
				if n := longest.Load(); n <= int64(most) {
					t.Fatalf("the longest metadata had %d characters: nothing was too large", n)
				}
				c := w.commits(topic)[0]
				if n := len(c.Metadata); n > most || most > 0 && n < most/4 {
					t.Errorf("%d characters of metadata committed, of at most %d", n, most)
				}
				if m.metric("exposure_documents") > 200 {
					t.Errorf("room for %v documents is held", m.metric("exposure_documents"))
				}
				m.kill()
				go m.end()
				w.api.Script(nil)
				w.startWith(memberConfig{stellar: slow})
				w.settled(5 * time.Minute)
				w.expect(records, 200)
			})
		})
	}
}

// hangEvery lets every nth request wait for an hour.
func hangEvery(n int) func(stellartest.Request) stellartest.Fault {
	return func(r stellartest.Request) stellartest.Fault {
		if r.N%n == 0 {
			return stellartest.Slow(time.Hour)
		}
		return stellartest.Fault{}
	}
}

// A map that is not ours, damaged, or of another base must skip nothing and stop nothing: what it covered is sent again.
func TestStrangeCommitMetadataSkipsNothing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, worldConfig{partitions: 1})
		w.api.Script(func(r stellartest.Request) stellartest.Fault {
			if strings.Contains(string(r.Body), `"detection 0"`) {
				return stellartest.Hang()
			}
			return stellartest.Fault{}
		})
		w.produce(0, 50)
		slow := func(c *stellar.Config) { c.Timeout = time.Hour }
		m := w.startWith(memberConfig{stellar: slow})
		w.stored(49)
		time.Sleep(time.Second)
		m.kill()
		go m.end()
		time.Sleep(time.Minute) // the group has given it up
		w.api.Script(nil)
		good := w.commits(topic)[0]
		if good.At != 0 || !strings.HasPrefix(good.Metadata, "sb1.") {
			t.Fatalf("commit %d with %q, want 0 and a map", good.At, good.Metadata)
		}
		damaged := []byte(good.Metadata)
		damaged[len(damaged)-1] ^= 1
		for i, strange := range []struct {
			at       int64
			metadata string
			fresh    int // documents stored for the first time
		}{
			{0, good.Metadata[:len(good.Metadata)-2], 1},
			{0, string(damaged), 0},
			{0, "AAAAAAAAAAEAAAAAAAAAAQ==", 0},
			{0, strings.Repeat("x", 4096), 0},
			{3, good.Metadata, 0},
			{0, "member-0", 0},
		} {
			before := w.api.Ledger()
			w.commit(kadm.Offset{Topic: topic, Partition: 0, At: strange.at, LeaderEpoch: -1, Metadata: strange.metadata})
			m := w.start(nil)
			w.settled(time.Minute)
			m.expectReady()
			l := w.api.Ledger()
			if n := l.Documents - before.Documents; n != 50-int(strange.at) {
				t.Errorf("%d: %d documents sent from offset %d on, want all %d", i, n, strange.at, 50-strange.at)
			}
			if n := l.Distinct - before.Distinct; n != strange.fresh {
				t.Errorf("%d: %d new documents", i, n)
			}
			if n := m.metric("commit_metadata_ignored_total"); n != 1 {
				t.Errorf("%d: %v maps counted as ignored", i, n)
			}
			m.end()
		}
	})
}

// commit sets the offset of an empty group.
func (w *world) commit(o kadm.Offset) {
	w.t.Helper()
	all := make(kadm.Offsets)
	all.Add(o)
	if err := w.admin.CommitAllOffsets(context.Background(), group, all); err != nil {
		w.t.Fatal(err)
	}
}

// One record that hangs with fifty thousand settled above it: after kill -9 none of those is sent again but what the
// last commit did not cover.
func TestKillWithAHangingRecordRepeatsAtMostTheBound(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		records := 50_001
		if racing {
			records = 4001
		}
		w := newWorld(t, worldConfig{partitions: 1})
		hung := ""
		w.api.Script(func(r stellartest.Request) stellartest.Fault {
			if r.N == 20 {
				hung = r.DeliveryKey
				return stellartest.Hang()
			}
			return stellartest.Fault{}
		})
		w.produce(0, records)
		slow := func(c *stellar.Config) { c.Timeout = 2 * time.Hour }
		m := w.startWith(memberConfig{stellar: slow})
		w.stored(records - 1)
		m.kill()
		go m.end()
		if at := w.commits(topic)[0].At; at > 1000 || hung == "" { // the twentieth request is of one of the first records
			t.Fatalf("commit %d passed the hanging record", at)
		}
		before := w.api.Ledger().Requests[stellartest.KindInsert]
		w.startWith(memberConfig{stellar: slow})
		w.settled(5 * time.Minute)
		w.expect(records, 200)
		if n := w.api.Ledger().Requests[stellartest.KindInsert] - before; n > 200 {
			t.Errorf("%d requests after the kill, for one open record and at most 200 that were not covered", n)
		}
	})
}

// Members killed at any moment, while the broker takes its time for commits, repeat at most the bound each.
func TestKillAmongSeveralRepeatsAtMostTheBound(t *testing.T) {
	t.Parallel()
	for _, protocol := range rows(protocols) {
		t.Run(protocol, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				const records, bound, kills = 6000, 80, 3
				w := newWorld(t, worldConfig{partitions: 6, api: lively, kafka: brisk})
				w.produce(0, records)
				join := func() *member {
					m := w.start(func(c *bridge.Config) {
						c.Protocol, c.MaxRepeats, c.RateLimit, c.SessionTimeout = protocol, bound, 200, 6*time.Second
					})
					m.lines.slow(150 * time.Millisecond)
					return m
				}
				ms := []*member{join(), join(), join()}
				for i := range kills {
					w.stable(3)
					time.Sleep(time.Duration(1000+370*i) * time.Millisecond)
					ms[i].kill()
					go ms[i].end()
					ms = append(ms, join())
				}
				w.settled(10 * time.Minute)
				w.expect(records, kills*bound)
				if w.api.Ledger().Repeats == 0 {
					t.Error("no repeats at all: nobody was killed under load")
				}
			})
		})
	}
}
