package main

import (
	"context"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"serbridge/bridge/audit"
	"serbridge/bridge/stellar/stellartest"
)

// The tests of this file show on Apache Kafka what an embedded broker only plays: its own transactions, its own compaction,
// its own end of a topic. They run where TEST_KAFKA_BROKERS names a broker, as .ci/kafka up prints it.

// apacheWorld is a replayWorld with a real broker and no topic yet.
type apacheWorld struct {
	*replayWorld
	name   string // that topics and groups of this test begin with
	client *kgo.Client
}

var apaches atomic.Int64

func newApacheWorld(t *testing.T) *apacheWorld {
	t.Helper()
	brokers := os.Getenv("TEST_KAFKA_BROKERS")
	if brokers == "" {
		t.Skip("needs Apache Kafka: set TEST_KAFKA_BROKERS, as .ci/kafka up prints it")
	}
	w := &apacheWorld{replayWorld: &replayWorld{t: t, api: stellartest.New(stellartest.Config{})}, name: fmt.Sprintf("replay-%d-%d", time.Now().UnixNano(), apaches.Add(1))}
	running, err := w.api.Start("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.api.Close)
	w.client = w.producer()
	w.admin = kadm.NewClient(w.client)
	w.environ = map[string]string{
		"KAFKA_BROKERS": brokers, "KAFKA_GROUP": w.name + "-live", "RATE_LIMIT": "0",
		"STELLAR_URL": running.URL(), "STELLAR_USER": stellartest.DefaultUser, "STELLAR_API_KEY": stellartest.DefaultAPIKey,
	}
	return w
}

func (w *apacheWorld) producer(options ...kgo.Opt) *kgo.Client {
	w.t.Helper()
	client, err := kgo.NewClient(append(options, kgo.SeedBrokers(strings.Split(os.Getenv("TEST_KAFKA_BROKERS"), ",")...), kgo.RecordPartitioner(kgo.ManualPartitioner()))...)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(client.Close)
	return client
}

// create makes a topic, and returns its name.
func (w *apacheWorld) create(kind string, partitions int32, configs map[string]*string) string {
	w.t.Helper()
	topic := w.name + "-" + kind
	if _, err := w.admin.CreateTopic(w.t.Context(), partitions, 1, configs, topic); err != nil {
		w.t.Fatal(err)
	}
	w.await("topic "+topic, func() bool {
		found, err := w.admin.ListEndOffsets(w.t.Context(), topic)
		return err == nil && found.Error() == nil && len(found[topic]) == int(partitions)
	})
	return topic
}

// await waits until something that the broker does by itself is done.
func (w *apacheWorld) await(what string, is func() bool) {
	w.t.Helper()
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	ctx, cancel := context.WithTimeout(w.t.Context(), 3*time.Minute)
	defer cancel()
	for !is() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			w.t.Fatalf("still not: %s", what)
		}
	}
}

// detection is record i of a topic's partition, as old as that.
func (w *apacheWorld) detection(topic string, partition int32, i int, age time.Duration) *kgo.Record {
	return &kgo.Record{Topic: topic, Partition: partition, Timestamp: time.Now().Add(-age), Key: fmt.Append(nil, i%10),
		Value: fmt.Appendf(nil, `{"event_name":"e %d","event_source":"s","orig_id":"%s-%d-%d"}`, i, topic, partition, i)}
}

func (w *apacheWorld) produce(client *kgo.Client, rs ...*kgo.Record) {
	w.t.Helper()
	if err := client.ProduceSync(w.t.Context(), rs...).FirstErr(); err != nil {
		w.t.Fatal(err)
	}
}

// transactions puts ten committed records, ten aborted ones and ten committed ones into a partition, a marker behind each ten.
func (w *apacheWorld) transactions(topic string, partition int32) {
	w.t.Helper()
	client := w.producer(kgo.TransactionalID(topic))
	for n, commits := range []kgo.TransactionEndTry{kgo.TryCommit, kgo.TryAbort, kgo.TryCommit} {
		if err := client.BeginTransaction(); err != nil {
			w.t.Fatal(err)
		}
		for i := range 10 {
			w.produce(client, w.detection(topic, partition, 10*n+i, 2*time.Hour))
		}
		if err := client.EndTransaction(w.t.Context(), commits); err != nil {
			w.t.Fatal(err)
		}
	}
}

// compacted is a topic of forty records of ten keys, most of which compaction has taken out.
func (w *apacheWorld) compacted() (topic string) {
	w.t.Helper()
	configs := map[string]*string{}
	for name, value := range map[string]string{"cleanup.policy": "compact", "segment.ms": "200", "min.cleanable.dirty.ratio": "0.01", "delete.retention.ms": "0"} {
		configs[name] = &value
	}
	topic = w.create("compacted", 1, configs)
	for i := range 40 {
		w.produce(w.client, w.detection(topic, 0, i, 2*time.Hour))
	}
	w.await("compaction", func() bool {
		w.produce(w.client, w.detection(topic, 0, 9, time.Hour)) // rolls the segment
		found := lastLine(w.t, w.replay(topic+" --from earliest --include-unsettled --dry-run --json").stdout, "findings")["found"].(map[string]any)
		return found["records"].(float64) < 40
	})
	return topic
}

// Timestamps that descend, an empty partition, markers of transactions and what compaction has left out: the range ends, each
// record of it is delivered once, and nothing else is.
func TestApacheReplayOfOddTopicsIsWholeAndEnds(t *testing.T) {
	t.Parallel()
	w := newApacheWorld(t)
	odd := w.create("odd", 3, nil) // of which 2 stays empty
	for i := range 60 {
		w.produce(w.client, w.detection(odd, 0, i, time.Hour+time.Duration(i)*time.Minute))
	}
	w.transactions(odd, 1)
	for _, protocol := range []string{"classic", "consumer"} {
		w.api.Reset()
		got := w.replay(odd + " --from earliest --to -90m30s --include-unsettled --json KAFKA_GROUP_PROTOCOL=" + protocol + " RATE_LIMIT=500")
		ledger := lastLine(t, got.stdout, "ledger")
		if got.code != exitDone || ledger["complete"] != true || ledger["delivered"] != 29.0+20 || fmt.Sprint(ledger["skipped"]) != "map[past_until:31]" {
			t.Errorf("%s: %+v", protocol, got)
		}
		if l := w.api.Ledger(); l.Distinct != 29+20 || l.Repeats != 0 {
			t.Errorf("%s: stored %d, %d again", protocol, l.Distinct, l.Repeats)
		}
	}
	for _, line := range []string{" --from now", " --from " + time.Now().Add(time.Hour).UTC().Format(time.RFC3339), " --from " + odd + ":2:0"} {
		got := w.replay(odd + line + " --include-unsettled RATE_LIMIT=500")
		if got.code != exitDone || !strings.Contains(got.stderr, "nothing to replay: the range holds no offsets") {
			t.Errorf("%s: %+v", line, got)
		}
	}
}

func TestApacheReplayOfACompactedTopicIsWholeAndEnds(t *testing.T) {
	t.Parallel()
	w := newApacheWorld(t)
	topic := w.compacted()
	got := w.replay(topic + " --from earliest --include-unsettled --json RATE_LIMIT=500")
	ledger := lastLine(t, got.stdout, "ledger")
	if got.code != exitDone || ledger["complete"] != true || ledger["delivered"] != ledger["records"] || ledger["delivered"].(float64) < 10 {
		t.Errorf("%+v", got)
	}
	if l := w.api.Ledger(); float64(l.Distinct) != ledger["delivered"] || l.Repeats != 0 {
		t.Errorf("stored %d, %d again", l.Distinct, l.Repeats)
	}
}

func TestApacheReplayOfADeletedTopicSaysSo(t *testing.T) {
	t.Parallel()
	w := newApacheWorld(t)
	topic := w.create("deleted", 2, nil)
	for i := range 200 {
		w.produce(w.client, w.detection(topic, int32(i%2), i, time.Minute))
	}
	done := make(chan result, 1)
	go func() {
		done <- w.replay(topic + " --from earliest --include-unsettled --rate 5 DRAIN_TIMEOUT=2s STELLAR_TIMEOUT=1s")
	}()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := w.api.Wait(ctx, func(l stellartest.Ledger) bool { return l.Distinct > 3 }); err != nil {
		t.Fatal(err)
	}
	if _, err := w.admin.DeleteTopic(ctx, topic); err != nil {
		t.Fatal(err)
	}
	if got := <-done; got.code != exitFailed || !strings.Contains(got.stderr, topic+" is not there any more") || !strings.Contains(got.stdout, "the run is not complete") {
		t.Errorf("%+v", got)
	}
}

// deliverLive runs the live group until it has settled all of the topic.
func (w *apacheWorld) deliverLive(topic string, records int64) {
	w.t.Helper()
	defer running(w.t, w.environ)()
	w.await("all settled", func() bool {
		commits, err := w.admin.FetchOffsets(w.t.Context(), w.environ["KAFKA_GROUP"])
		settled := int64(0)
		commits.Each(func(c kadm.OffsetResponse) { settled += max(0, c.At) })
		return err == nil && settled == records
	})
}

// An audit over what real brokers keep finds what was removed, changed and doubled in the index, and nothing else.
func TestApacheAuditFindsWhatWasTamperedWith(t *testing.T) {
	t.Parallel()
	w := newApacheWorld(t)
	topic := w.create("audited", 2, nil)
	for i := range 80 {
		w.produce(w.client, w.detection(topic, int32(i%2), i, time.Minute))
	}
	w.api.SetVariant(stellartest.Variant{RefreshDelay: -1})
	maps.Copy(w.environ, map[string]string{"KAFKA_TOPICS": topic, "RECEIPTS_TOPIC": w.name + ".receipts", "PROBE_WAIT": "1s", "ADMIN_ADDR": "127.0.0.1:0"})
	w.deliverLive(topic, 80)
	d := &deliveredWorld{replayWorld: w.replayWorld, client: w.client}
	const line = "--from earliest --read-back all --rate 10000"
	if clean := d.audit(line); clean.code != exitDone || len(clean.findings) != 0 || clean.total.Delivered != 80 || clean.total.Searched != 80 {
		t.Fatalf("before: %+v", clean)
	}
	id := func(place string) string { return d.trace(topic + place).Documents[0].ID }
	_, repeated := w.api.Repeat(id(":1:8"))
	if !w.api.Remove(id(":0:5")) || w.api.Alter(id(":1:6"), []byte(`{"event_name":"another"}`)) != nil || !repeated {
		t.Fatal("tamper")
	}
	got := d.audit(line)
	if got.code != exitFailed || len(got.findings) != 3 {
		t.Errorf("%+v", got)
	}
	for kind, place := range map[audit.Kind]string{audit.Missing: ":0:5", audit.Different: ":1:6", audit.Doubled: ":1:8"} {
		if found := got.places(kind); !slices.Equal(found, []string{topic + place}) {
			t.Errorf("%s: %v", kind, found)
		}
	}
}
