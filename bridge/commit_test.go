package bridge_test

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"serbridge/bridge"
)

// produceOn writes n sound detections to one partition.
func (w *world) produceOn(partition int32, first, n int) {
	w.t.Helper()
	rs := make([]*kgo.Record, n)
	for i := range rs {
		rs[i] = &kgo.Record{Topic: topic, Partition: partition, Value: detection(first + i)}
	}
	w.produceRecords(rs...)
}

// One partition whose commits are refused, or that the broker's answers leave out, must not slow the commits of the
// others down: with them delivery would slow down for all.
func TestRefusedPartitionDelaysNoOther(t *testing.T) {
	t.Parallel()
	leaveOut := func(w *world) {
		w.cluster.ControlKey(int16(kmsg.OffsetCommit), func(req kmsg.Request) (kmsg.Response, error, bool) {
			w.cluster.KeepControl()
			for i, t := range req.(*kmsg.OffsetCommitRequest).Topics {
				for j, p := range t.Partitions {
					if p.Partition == 0 {
						req.(*kmsg.OffsetCommitRequest).Topics[i].Partitions = append(t.Partitions[:j:j], t.Partitions[j+1:]...)
					}
				}
			}
			return nil, nil, false
		})
	}
	refuse := func(w *world) {
		w.cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.OffsetCommit}, Topic: topic, Partitions: []int32{0}, Err: kerr.UnknownTopicOrPartition, Count: -1})
	}
	for name, fault := range map[string]func(*world){"refused": refuse, "left out": leaveOut} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				const few, many = 30, 5000
				w := newWorld(t, worldConfig{})
				fault(w)
				m := w.start(nil)
				w.produceOn(0, 0, few)
				time.Sleep(5 * time.Second) // settled, and not committed
				w.produceOn(1, few, many)
				begun := time.Now()
				w.stored(few + many)
				time.Sleep(time.Second)
				if took := time.Since(begun); took > 5*time.Second || w.commits(topic)[1].At != many {
					t.Errorf("%d documents of the other partition took %v, and it is committed up to %d", many, took, w.commits(topic)[1].At)
				}
				m.expectNotReady("offsets are not committed")
				begun = time.Now()
				m.end()
				if took := time.Since(begun); took > 12*time.Second {
					t.Errorf("the stop took %v", took)
				}
			})
		})
	}
}

// Told at its last commit that its generation has passed, a member must not give up at once: a moment later it learns the
// new one, and what it has delivered would be sent again.
func TestLastCommitOutlivesAStaleGeneration(t *testing.T) {
	t.Parallel()
	for _, stale := range []*kerr.Error{kerr.IllegalGeneration, kerr.StaleMemberEpoch, kerr.UnknownTopicOrPartition} {
		t.Run(stale.Message, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, worldConfig{})
				w.produce(0, 60)
				m := w.start(func(c *bridge.Config) { c.CommitInterval = time.Hour })
				w.stored(60)
				w.cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.OffsetCommit}, Err: stale, Count: 2})
				m.end()
				w.start(nil)
				w.settled(time.Minute)
				w.expect(60, 0)
			})
		})
	}
}

// SIGTERM in the middle of a hand-over must not wait for the end of that first: a pod has its grace period and no more.
func TestStopDuringAHandOverEndsInTime(t *testing.T) {
	t.Parallel()
	for _, protocol := range protocols {
		t.Run(protocol, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				const drain = 5 * time.Second
				w := newWorld(t, worldConfig{kafka: brisk})
				w.produce(0, 300)
				join := func() *member {
					return w.start(func(c *bridge.Config) { c.Protocol, c.DrainTimeout, c.SessionTimeout = protocol, drain, 6*time.Second })
				}
				a := join()
				w.stored(300)
				time.Sleep(time.Second)
				h := w.cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.OffsetCommit}, Err: kerr.UnknownServerError, Count: -1})
				w.produce(300, 60) // settled, and never committed
				w.stored(360)
				join()
				time.Sleep(6 * time.Second) // a is handing over
				begun := time.Now()
				a.end()
				if took := time.Since(begun); took > drain+15*time.Second {
					t.Errorf("the stop took %v", took)
				}
				h.Remove()
				w.settled(2 * time.Minute)
				w.expect(360, 60)
			})
		})
	}
}

// A start of the log that retention passes before the first fetch must not leave the partition standing for ever.
func TestRetentionBeforeTheFirstFetchIsSaidAndGoesOn(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, worldConfig{})
		w.produce(0, 300)
		resume := w.stop(kmsg.Fetch)
		m := w.start(nil)
		time.Sleep(5 * time.Second)
		if err := w.cluster.DeleteRecords(topic, 0, 40); err != nil {
			t.Fatal(err)
		}
		resume()
		time.Sleep(time.Minute) // the fetch that hangs ends
		w.produce(300, 3)
		w.settled(2 * time.Minute)
		w.expect(263, 0)
		if n := m.metric("lost_to_retention_total"); n != 40 {
			t.Errorf("%v counted as lost to retention, want 40", n)
		}
		m.expectReady()
	})
}

// Logs that cannot be looked up must not hold up the poll: the member would be taken for dead, and the others' records
// repeated.
func TestUnansweredLookupsDelayNoOther(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const partitions = 13
		w := newWorld(t, worldConfig{partitions: partitions, kafka: brisk})
		w.produce(0, partitions*10)
		w.start(nil)
		w.settled(time.Minute)
		w.members[0].end()
		w.produce(0, partitions*10)
		for id := range int32(partitions - 1) {
			if err := w.cluster.DeleteRecords(topic, id, 15); err != nil {
				t.Fatal(err)
			}
		}
		resume := w.stop(kmsg.ListOffsets)
		m := w.start(func(c *bridge.Config) { c.SessionTimeout, c.DrainTimeout = 6*time.Second, 5*time.Second })
		time.Sleep(time.Minute)
		before := w.api.Ledger().Documents
		w.produceOn(partitions-1, 1000, 10)
		time.Sleep(3 * time.Second)
		if n := w.api.Ledger().Documents - before; n < 10 {
			t.Errorf("%d of 10 delivered of the partition whose log is sound", n)
		}
		resume()
		w.settled(3 * time.Minute)
		if n := m.metric("lost_to_retention_total"); n != 5*(partitions-1) {
			t.Errorf("%v counted as lost to retention, want %d", n, 5*(partitions-1))
		}
		time.Sleep(time.Minute)
		m.expectReady()
	})
}

// A fetch that failed and is well again must not leave an idle partition not ready: nothing would arrive to say so.
func TestHealedFetchOfAnIdlePartitionIsReady(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, worldConfig{})
		m := w.start(nil)
		time.Sleep(5 * time.Second)
		h := w.cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Fetch}, Topic: topic, Partitions: []int32{0}, Err: kerr.UnknownServerError, Count: -1})
		time.Sleep(5 * time.Second)
		m.expectNotReady("cannot be fetched")
		time.Sleep(time.Minute)
		m.expectNotReady("cannot be fetched")
		h.Remove()
		time.Sleep(time.Minute)
		m.expectReady()
	})
}

// A member that stops while it cannot be told so by its own client still leaves the group at once, in both protocols.
func TestStopWhileTheGroupFormsLeavesNobodyBehind(t *testing.T) {
	t.Parallel()
	for _, protocol := range protocols {
		t.Run(protocol, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, worldConfig{})
				join := func() *member { return w.start(func(c *bridge.Config) { c.Protocol = protocol }) }
				a, b := join(), join()
				time.Sleep(20 * time.Second)
				a.kill() // its session ends in 45 s
				c := join()
				time.Sleep(2 * time.Second)
				b.end()
				c.end()
				time.Sleep(time.Second)
				groups, err := w.admin.DescribeGroups(context.Background(), group)
				if err != nil {
					t.Fatal(err)
				}
				for _, m := range groups[group].Members {
					if fmt.Sprint(m.ClientID) != "member-0" {
						t.Errorf("%s is still in the group", m.ClientID)
					}
				}
			})
		})
	}
}
