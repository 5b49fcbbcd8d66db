package bridge_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"serbridge/bridge/stellar/stellartest"
)

// Records that an outage holds are lost when retention passes them: how long that takes must show while it can be helped.
func TestHeadroomShrinksWhileRecordsAreHeldAndComesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, worldConfig{partitions: 1})
		const retention = 24 * time.Hour
		ms := "86400000"
		if _, err := w.admin.AlterTopicConfigs(context.Background(), []kadm.AlterConfig{{Name: "retention.ms", Value: &ms}}, topic); err != nil {
			t.Fatal(err)
		}
		m := w.start(nil)
		time.Sleep(11 * time.Second)
		headroom := func() time.Duration {
			return time.Duration(m.metric("retention_headroom_seconds", "topic", topic, "partition", "0") * float64(time.Second)).Round(time.Second)
		}
		if got := headroom(); got != retention {
			t.Errorf("with nothing to do %s, want %s", got, retention)
		}
		w.api.Script(stellartest.Always(stellartest.Unavailable()))
		w.produceRecords(&kgo.Record{Topic: topic, Value: detection(0), Timestamp: time.Now().Add(-3 * time.Hour)})
		time.Sleep(time.Hour)
		w.produce(1, 5) // younger ones do not hide it
		time.Sleep(time.Hour)
		if got, want := headroom(), retention-5*time.Hour; got != want {
			t.Errorf("after two hours of outage %s, want %s", got, want)
		}
		w.api.Script(nil)
		w.settled(time.Hour)
		if got := headroom(); got != retention {
			t.Errorf("after the outage %s, want %s", got, retention)
		}
	})
}
