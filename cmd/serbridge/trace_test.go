package main

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"serbridge/bridge/stellar/stellartest"
)

// deliveredWorld is what a live group has left behind: documents, dead letters, skipped records and receipts.
type deliveredWorld struct {
	*replayWorld
	client *kgo.Client
	ends   map[int32]int64 // of what was produced
}

// newDeliveredWorld has records in topic t: every tenth is no JSON, every tenth a tombstone, and one in both partitions has
// several documents.
func newDeliveredWorld(t *testing.T, records int) *deliveredWorld {
	t.Helper()
	w := deliveredIn(t, newReplayWorld(t, 0, recently))
	for i := range records {
		value := fmt.Appendf(nil, `{"event_name":"e %d","event_source":"s","orig_id":"%d"}`, i, i)
		switch {
		case i%10 == 9:
			value = []byte("no json")
		case i%10 == 8:
			value = nil
		case i%10 == 7:
			value = fmt.Appendf(nil, `[{"event_name":"e %da","event_source":"s","orig_id":"%da"},{"event_name":"e %db","event_source":"s","orig_id":"%db"}]`, i, i, i, i)
		}
		w.produceAt(int32(i%2), value, time.Now())
	}
	w.live()
	return w
}

// deliveredIn is such a world without records.
func deliveredIn(t *testing.T, in *replayWorld) *deliveredWorld {
	t.Helper()
	w := &deliveredWorld{replayWorld: in, ends: make(map[int32]int64)}
	w.api.SetVariant(stellartest.Variant{RefreshDelay: -1})
	var err error
	w.client, err = kgo.NewClient(kgo.SeedBrokers(w.cluster.ListenAddrs()...), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.client.Close)
	maps.Copy(w.environ, map[string]string{"KAFKA_TOPICS": "t", "RECEIPTS_TOPIC": "live.receipts", "RATE_LIMIT": "0", "REJECT_BRAKE": "0", "ADMIN_ADDR": "127.0.0.1:0"})
	return w
}

func (w *deliveredWorld) produceAt(partition int32, value []byte, at time.Time) {
	w.t.Helper()
	k := &kgo.Record{Topic: "t", Partition: partition, Value: value, Timestamp: at}
	if err := w.client.ProduceSync(w.t.Context(), k).FirstErr(); err != nil {
		w.t.Fatal(err)
	}
	w.ends[partition] = k.Offset + 1
}

// live runs the live group until it has settled all of t.
func (w *deliveredWorld) live() {
	w.t.Helper()
	w.liveUntil(func(commits map[string]map[int32]kfake.GroupCommit) bool {
		for partition, end := range w.ends {
			if commits["t"][partition].Offset != end {
				return false
			}
		}
		return true
	})
}

// liveUntil runs it until its commits are as wanted.
func (w *deliveredWorld) liveUntil(settled func(map[string]map[int32]kfake.GroupCommit) bool) {
	w.t.Helper()
	stop := running(w.t, w.environ)
	ctx, cancel := context.WithTimeout(w.t.Context(), time.Minute)
	defer cancel()
	_, err := w.cluster.WaitGroupInfo(ctx, "live", func(g *kfake.GroupInfo) bool {
		return g != nil && settled(g.Commits)
	})
	stop()
	if err != nil {
		w.t.Fatal(err)
	}
}

// command runs a command line in this world, split at blanks.
func (w *deliveredWorld) command(line string) result {
	return runProgram(program{environ: w.environ}, strings.Fields(line)...)
}

// answer is how a command ends: its code, and what it says somewhere.
type answer struct {
	code int
	says string
}

// expectAnswers runs a command with each line of arguments.
func (w *deliveredWorld) expectAnswers(command string, lines map[string]answer) {
	w.t.Helper()
	for line, want := range lines {
		got := w.command(command + " " + line)
		if got.code != want.code || !strings.Contains(got.stdout+got.stderr, want.says) {
			w.t.Errorf("%s %s: code %d, %s%s\nwant %d and %q", command, line, got.code, got.stdout, got.stderr, want.code, want.says)
		}
	}
}

func (w *deliveredWorld) trace(args string) (v traceView) {
	w.t.Helper()
	got := w.command("trace --json " + args)
	if err := json.Unmarshal([]byte(got.stdout), &v); err != nil {
		w.t.Fatalf("trace %s: %v\n%+v", args, err, got)
	}
	return v
}

// Whatever a detection is named by, its trace says where it is from, and where it is.
func TestTraceFollowsADetectionFromTopicToIndex(t *testing.T) {
	t.Parallel()
	w := newDeliveredWorld(t, 20)
	v := w.trace("t:0:1") // the third record
	if !v.Record.There || v.Group.State != "settled" || v.Recognised.Documents != 1 || len(v.Receipts) != 1 || len(v.Letters) != 0 || len(v.Documents) != 1 {
		t.Fatalf("%+v", v)
	}
	d, part := v.Documents[0], v.Receipts[0].Parts[0]
	if d.Stored != "stored" || d.Copies != 1 || d.ID != part.ID || part.Attempts != 1 || v.Receipts[0].Fate != "delivered" || !strings.Contains(string(d.Document), `"e 2"`) {
		t.Errorf("%+v of %+v", d, v.Receipts[0])
	}
	for _, name := range []string{d.DedupKey, d.DeliveryKey, d.ID, "2", "--by orig-id 2", "--read-back=false 2", "--read-back=false " + d.ID, "--read-back=false " + d.DedupKey} {
		if other := w.trace(name); other.Record.Offset != 1 || other.Record.Partition != 0 || len(other.Receipts) != 1 {
			t.Errorf("by %s: %+v", name, other)
		}
	}
	many := w.trace("t:1:3") // the eighth record
	if len(many.Documents) != 2 || many.Documents[1].Stored != "stored" || len(many.Receipts) != 1 || len(many.Receipts[0].Parts) != 2 {
		t.Errorf("of several documents: %+v", many)
	}
	if skipped := w.trace("t:0:4"); skipped.Recognised.Skip != "tombstone" || skipped.Receipts[0].Fate != "skipped" {
		t.Errorf("a tombstone: %+v", skipped)
	}
	dead := w.trace("t:1:4")
	if dead.Recognised.Reject != "invalid_json" || len(dead.Letters) != 1 || dead.Letters[0].Status != "open" || dead.Receipts[0].Fate != "dead_lettered" {
		t.Errorf("a dead letter: %+v", dead)
	}
}

// A detection that was a dead letter first, and then redriven, is followed to its end.
func TestTraceFollowsARedrivenLetter(t *testing.T) {
	t.Parallel()
	w := newDeliveredWorld(t, 0)
	w.produceAt(0, []byte(`{"event_name":"e","orig_id":"7","severity":5}`), time.Now())
	w.live()
	w.environ["EVENT_SOURCE"] = "mended"
	if before := w.trace("t:0:0"); before.Letters[0].Status != "open" || before.Receipts[0].Fate != "dead_lettered" || before.Documents[0].Stored != "missing" {
		t.Fatalf("%+v", before)
	}
	if got := w.command("dlq redrive --rate 100 --run-id r1"); got.code != exitDone {
		t.Fatalf("%+v", got)
	}
	v := w.trace("7")
	if len(v.Receipts) != 2 || v.Receipts[1].Fate != "delivered" || v.Receipts[1].Group != "live.dlq.redrive.r1" || len(v.Letters) != 1 || v.Letters[0].Status != "redriven" ||
		len(v.Documents) != 1 || v.Documents[0].Stored != "stored" {
		t.Errorf("%+v", v)
	}
	if audit := w.audit("--from earliest"); audit.code != exitDone || audit.total.DeadLettered != 1 {
		t.Errorf("%+v", audit)
	}
}

// What was removed, altered or doubled in the index shows.
func TestTraceSaysWhatTheIndexHasNow(t *testing.T) {
	t.Parallel()
	w := newDeliveredWorld(t, 6)
	ids := make(map[int]string)
	for i, at := range []string{"t:0:0", "t:0:1", "t:0:2"} {
		ids[i] = w.trace(at).Documents[0].ID
	}
	if !w.api.Remove(ids[0]) || w.api.Alter(ids[1], []byte(`{"severity":99}`)) != nil {
		t.Fatal("tamper")
	}
	w.api.Repeat(ids[2])
	for at, want := range map[string]string{"t:0:0": "missing", "t:0:1": "different", "t:0:2": "doubled", "t:1:0": "stored"} {
		if d := w.trace(at).Documents[0]; d.Stored != want {
			t.Errorf("%s: %+v, want %s", at, d, want)
		}
	}
	got := w.command("trace t:0:1")
	for _, words := range []string{"record t:0:1", "live has settled it", "delivered 20", "not as it was sent: severity", `"event_name": "e 2"`, "value"} {
		if !strings.Contains(got.stdout, words) {
			t.Errorf("no %q in\n%s", words, got.stdout)
		}
	}
}

func TestTraceOfWhatIsNotThere(t *testing.T) {
	t.Parallel()
	w := newDeliveredWorld(t, 2)
	w.expectAnswers("trace", map[string]answer{
		"t:0:7":            {exitFailed, "has not come so far"},
		"t:9:0":            {exitFailed, "no such partition"},
		"u:0:0":            {exitFailed, "no such topic"},
		"nosuch":           {exitFailed, "nothing is known of it"},
		"--by record x":    {exitUsage, "TOPIC:PARTITION:OFFSET"},
		"--by name x":      {exitUsage, "--by wants"},
		"--since soon x":   {exitUsage, "--since"},
		"--rate -1 t:0:0":  {exitUsage, "--rate"},
		"":                 {exitUsage, "accepts 1 arg"},
		"t:0:0 --rate 100": {exitDone, "yes, "},
	})
	if _, err := w.admin.DeleteRecords(t.Context(), kadm.Offsets{"t": {0: {Topic: "t", Partition: 0, At: 1}}}); err != nil {
		t.Fatal(err)
	}
	if v := w.trace("t:0:0"); v.Record.There || !strings.Contains(v.Record.Why, "retention") || len(v.Receipts) != 1 || v.Documents[0].Stored != "stored" {
		t.Errorf("%+v", v)
	}
}

// What a record holds must not reach a terminal as it is.
func TestTraceEscapesWhatRecordsHold(t *testing.T) {
	t.Parallel()
	w := newDeliveredWorld(t, 0)
	w.produceAt(0, []byte("{\"event_name\":\"\x1b[2Jred \u202e\",\"event_source\":\"s\"}"), time.Now())
	w.live()
	for _, line := range []string{"trace t:0:0", "trace --json t:0:0"} {
		got := runProgram(program{environ: w.environ, stdoutIsTerminal: true, stderrIsTerminal: true}, strings.Fields(line)...)
		if got.code != exitDone || strings.ContainsAny(got.stdout, "\x1b\u202e") {
			t.Errorf("%s: code %d, %q", line, got.code, got.stdout)
		}
	}
}
