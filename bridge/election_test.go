package bridge_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"serbridge/bridge/stellar"
	"serbridge/bridge/stellar/stellartest"
)

// An unclean leader election cuts the log off below what a stopped group has settled, and other records come to stand
// under the same offsets: none of these may be skipped as settled, and nothing below the cut be sent again. One record
// hung when the group stopped; a commit above the cut is the other case.
func TestUncleanElectionSkipsNothingAndReplaysNothingSettled(t *testing.T) {
	t.Parallel()
	for name, hanging := range map[string]int{"one hung": 50, "all settled": -1} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				const old, cut, anew = 100, 70, 60
				hang, stored := fmt.Sprintf(`"id-%d"`, hanging), old
				if hanging >= 0 {
					stored--
				}
				w := newWorld(t, worldConfig{partitions: 1, kafka: []kfake.Opt{kfake.NumBrokers(2), kfake.Ports(9092, 9093)}})
				w.api.Script(func(r stellartest.Request) stellartest.Fault {
					if strings.Contains(string(r.Body), hang) {
						return stellartest.Hang()
					}
					return stellartest.Fault{}
				})
				w.produce(0, old)
				m := w.startWith(memberConfig{stellar: func(c *stellar.Config) { c.Timeout = time.Hour }})
				w.stored(stored)
				time.Sleep(time.Second)
				m.kill()
				go m.end()
				time.Sleep(time.Minute)
				w.api.Script(nil)
				w.cutOff(cut)
				w.produceOn(0, 1000, anew)
				w.start(nil)
				w.settled(time.Minute)
				w.expectIDs(func(i int) bool { return i < old || 1000 <= i && i < 1000+anew })
			})
		})
	}
}

// cutOff makes the topic what an unclean election leaves: its records below the offset, under another leader.
func (w *world) cutOff(offset int) {
	w.t.Helper()
	commit := w.commits(topic)[0]
	if err := w.cluster.DeleteTopic(topic); err != nil {
		w.t.Fatal(err)
	}
	if err := w.cluster.CreateTopic(topic, 1, nil); err != nil {
		w.t.Fatal(err)
	}
	w.produceOn(0, 0, offset)
	next := 1 - w.cluster.LeaderFor(topic, 0)
	if err := w.cluster.MoveTopicPartition(topic, 0, next); err != nil {
		w.t.Fatal(err)
	}
	w.commit(kadm.Offset{Topic: topic, Partition: 0, At: commit.At, LeaderEpoch: commit.LeaderEpoch, Metadata: commit.Metadata})
}

// expectIDs is that exactly these detections were stored, each once.
func (w *world) expectIDs(want func(int) bool) {
	w.t.Helper()
	copies := make(map[int]int)
	for _, d := range w.api.Documents() {
		var doc struct {
			EventName string `json:"event_name"`
		}
		i := 0
		if err := json.Unmarshal(d.Body, &doc); err != nil {
			w.t.Fatal(err)
		}
		if _, err := fmt.Sscanf(doc.EventName, "detection %d", &i); err != nil {
			w.t.Fatal(err)
		}
		copies[i]++
	}
	for i := range 2000 {
		if n, once := copies[i], want(i); n != map[bool]int{true: 1}[once] {
			w.t.Errorf("detection %d stored %d times", i, n)
		}
	}
}

// A log cut off under a member that runs: it begins anew from the cut, where other records may stand, and says so.
func TestUncleanElectionUnderARunningMemberSkipsNothing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const cut = 70
		w := newWorld(t, worldConfig{partitions: 1, kafka: []kfake.Opt{kfake.NumBrokers(2), kfake.Ports(9092, 9093)}})
		w.produce(0, 100)
		m := w.start(nil)
		w.settled(time.Minute)
		w.cluster.ControlKey(int16(kmsg.OffsetForLeaderEpoch), func(req kmsg.Request) (kmsg.Response, error, bool) {
			resp := req.ResponseKind().(*kmsg.OffsetForLeaderEpochResponse)
			rt := kmsg.NewOffsetForLeaderEpochResponseTopic()
			rt.Topic = topic
			rp := kmsg.NewOffsetForLeaderEpochResponseTopicPartition()
			rp.EndOffset = cut
			rt.Partitions = append(rt.Partitions, rp)
			resp.Topics = append(resp.Topics, rt)
			return resp, nil, true
		})
		if err := w.cluster.MoveTopicPartition(topic, 0, 1-w.cluster.LeaderFor(topic, 0)); err != nil {
			t.Fatal(err)
		}
		w.produceRecords(&kgo.Record{Topic: topic, Partition: 0, Value: detection(100)})
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
		defer cancel()
		if err := w.api.Wait(ctx, func(l stellartest.Ledger) bool { return l.Distinct == 101 && l.Repeats == 100-cut }); err != nil {
			t.Errorf("stored %+v, want everything from the cut on sent again", w.api.Ledger())
		}
		w.settled(time.Minute)
		m.expectReady()
	})
}
