package main

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"serbridge/bridge/deadletter"
)

// topicRecords are the records of a topic.
func (p *post) topicRecords(topic string, n int) (rs []*kgo.Record) {
	p.t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(p.cluster.ListenAddrs()...), kgo.ConsumeTopics(topic))
	if err != nil {
		p.t.Fatal(err)
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(p.t.Context(), time.Minute)
	defer cancel()
	for len(rs) < n {
		fs := client.PollFetches(ctx)
		if err := fs.Err(); err != nil {
			p.t.Fatalf("%d of %d records of %s: %v", len(rs), n, topic, err)
		}
		rs = append(rs, fs.Records()...)
	}
	return rs
}

// produced is how many records a topic has.
func (p *post) produced(topic string) (n int64) {
	p.t.Helper()
	ends, err := kadm.NewClient(p.client).ListEndOffsets(p.t.Context(), topic)
	if err != nil {
		p.t.Fatal(err)
	}
	ends.Each(func(o kadm.ListedOffset) { n += o.Offset })
	return n
}

// Produced to its topic again, a record must be the one that it was, once, and nothing may go to the platform beside.
func TestRedriveToATopicProducesEachRecordOnce(t *testing.T) {
	t.Parallel()
	w := newRedriveWorld(t, 100)
	two := deadletter.Letter{Topic: "detections", Offset: 500, Part: 0, Reason: "http_400", Certainty: "refused", FailedAt: time.Now(),
		Value: []byte(`[{"event_name":"one","orig_id":"1"},{"event_name":"two","orig_id":"2"}]`)}
	second := two
	second.Offset, second.Part = 501, 1
	w.produce(two.Record("g.dlq"), second.Record("g.dlq"))
	dry := strings.Join(strings.Fields(w.must("redrive", "--dry-run", "--to", "topic=detections", "--rate", "9")), " ")
	for _, want := range []string{"letters to redrive 90", "one_of_several 2", "10s at 9 records per second, to topic detections", "nothing was sent"} {
		if !strings.Contains(dry, want) {
			t.Errorf("%q is not in %s", want, dry)
		}
	}
	w.expect(w.ledger("--to", "topic=detections", "--run-id", "r1"), map[string]any{"complete": true, "taken": 90, "redriven": 90, "documents": 0,
		"failed_again": "map[]", "left_out": "map[ambiguous:10 one_of_several:2]", "to": "topic=detections"})
	w.expect(w.ledger("--to", "topic=detections"), map[string]any{"taken": 0, "left_out": "map[ambiguous:10 handled:90 one_of_several:2]"})
	found := make(map[string]int)
	for _, r := range w.topicRecords("detections", 90) {
		l, err := deadletter.Parse(r) // of the record, as of a letter
		if err != nil || l.Redrives != 1 || l.Run != "r1" || l.Reason != "" || int32(l.Offset%2) != r.Partition {
			t.Errorf("partition %d: %+v, %v", r.Partition, l, err)
		}
		found[fmt.Sprintf("%d %s", l.Offset, r.Value)]++
	}
	for i := range 100 {
		want := fmt.Sprintf(`%d {"event_name":"e %d","orig_id":"%d"}`, i, i, i)
		if i%10 == 9 {
			want = fmt.Sprintf("%d no json", i)
		}
		if n := found[want]; n != 1 && i%10 != 8 {
			t.Errorf("%q is in the topic %d times", want, n)
		}
	}
	if l := w.api.Ledger(); l.Documents != 0 || len(found) != 90 {
		t.Errorf("%d documents went to the platform, %d records to the topic", l.Documents, len(found))
	}
	if shown := w.must("show", "0:0"); !strings.Contains(shown, "produced to topic detections") {
		t.Error(shown)
	}
}

func TestRedriveToATopicThatCannotBeMeant(t *testing.T) {
	t.Parallel()
	w := newRedriveWorld(t, 4)
	for to, want := range map[string]string{
		"detections": "topic=NAME", "topic=": "no name of a topic", "topic=^a": "no name of a topic", "topic=g.dlq": "topic of our own", "topic=g.dlq.handled": "topic of our own",
		"topic=misspelt": "it does not exist", "topic=detections --event-status Closed": "exclude each other",
	} {
		if got := w.dlq(append([]string{"redrive", "--to"}, strings.Fields(to)...)...); got.code == exitDone || !strings.Contains(got.stderr, want) {
			t.Errorf("--to %s: code %d, %s", to, got.code, got.stderr)
		}
	}
	if c := w.census("--all"); c.ByStatus["open"] != 4 || w.cluster.TopicInfo("misspelt") != nil {
		t.Errorf("by status %v, or a topic was created", c.ByStatus)
	}
}

// Interrupted, it produces nothing again when it goes on.
func TestRedriveToATopicInterruptedRepeatsNothing(t *testing.T) {
	t.Parallel()
	w := newRedriveWorld(t, 60)
	ctx, interrupt := context.WithCancel(t.Context())
	go func() {
		w.topicRecords("detections", 5)
		interrupt()
	}()
	var out saidLines
	args := []string{"dlq", "redrive", "--to", "topic=detections", "--run-id", "r1", "--rate"}
	if err := execute(ctx, append(args, "8"), &program{environ: w.environ, stdout: &out, stderr: &out}); err == nil {
		t.Fatal("it was not interrupted")
	}
	if n := w.produced("detections"); n >= 54 {
		t.Fatalf("%d records before the interruption", n)
	}
	w.must(append(args[1:], "1000")...)
	seen := make(map[string]bool)
	for _, r := range w.topicRecords("detections", 54) {
		if seen[string(r.Value)] && string(r.Value) != "no json" {
			t.Errorf("twice: %s", r.Value)
		}
		seen[string(r.Value)] = true
	}
	if c := w.census("--all"); c.ByStatus["redriven"] != 54 {
		t.Errorf("by status %v", c.ByStatus)
	}
	if all := w.produced("detections"); all != 54 {
		t.Errorf("%d records in the topic, want 54", all)
	}
}
