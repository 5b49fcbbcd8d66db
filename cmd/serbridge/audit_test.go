package main

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"serbridge/bridge/audit"
)

// audited is what an audit said.
type audited struct {
	result
	findings []audit.Finding
	rows     []audit.Row
	total    audit.Row
}

func (w *deliveredWorld) audit(args string) (a audited) {
	w.t.Helper()
	a.result = w.command("audit --json " + args)
	for line := range strings.Lines(a.stdout) {
		var typed struct{ Type string }
		var f audit.Finding
		var r audit.Row
		for _, v := range []any{&typed, &f, &r} {
			if err := json.Unmarshal([]byte(line), v); err != nil {
				w.t.Fatalf("%s: %v", line, err)
			}
		}
		switch typed.Type {
		case "finding":
			a.findings = append(a.findings, f)
		case "row":
			a.rows = append(a.rows, r)
		case "total":
			a.total = r
		}
	}
	if t := a.total; t.Produced != t.Delivered+t.DeadLettered+t.Skipped+t.Pending+t.Lost+t.Unexplained {
		w.t.Errorf("the sum is wrong: %+v", t)
	}
	return a
}

// places are the offsets of the findings of a kind.
func (a audited) places(kind audit.Kind) (all []string) {
	for _, f := range a.findings {
		if f.Kind == kind {
			all = append(all, f.Where())
		}
	}
	slices.Sort(all)
	return all
}

// An audit finds a document removed from, changed in and doubled in the index, and nothing else.
func TestAuditFindsWhatWasTamperedWithAndNothingElse(t *testing.T) {
	t.Parallel()
	w := newDeliveredWorld(t, 200)
	w.environ["PROBE_WAIT"] = "1s"
	clean := w.audit("--from earliest --read-back all --rate 10000")
	want := audit.Row{Produced: 200, Delivered: 160, DeadLettered: 20, Skipped: 20, Searched: 180}
	if clean.code != exitDone || len(clean.findings) != 0 || clean.total != want {
		t.Fatalf("before: %+v", clean)
	}
	gone, changed, twice := w.trace("t:0:5").Documents[0], w.trace("t:1:6").Documents[0], w.trace("t:1:8").Documents[1]
	if !w.api.Remove(gone.ID) || w.api.Alter(changed.ID, []byte(`{"event_name":"another"}`)) != nil {
		t.Fatal("tamper")
	}
	if _, ok := w.api.Repeat(twice.ID); !ok {
		t.Fatal("tamper")
	}
	if err := w.api.Alter(w.trace("t:0:7").Documents[0].ID, []byte(`{"event_status":"Closed","comments":"seen"}`)); err != nil {
		t.Fatal(err)
	}
	got := w.audit("--from earliest --read-back all --rate 10000")
	if got.code != exitFailed || len(got.findings) != 3 || !strings.Contains(got.stderr, "not everything is explained") {
		t.Fatalf("%+v", got)
	}
	for kind, f := range map[audit.Kind]audit.Finding{
		audit.Missing:   {Topic: "t", Partition: 0, First: 5, Last: 5, DeliveryKey: gone.DeliveryKey},
		audit.Different: {Topic: "t", Partition: 1, First: 6, Last: 6, DeliveryKey: changed.DeliveryKey, Index: changed.Index, ID: changed.ID, Copies: 1, Differs: []string{"event_name"}},
		audit.Doubled:   {Topic: "t", Partition: 1, First: 8, Last: 8, Part: 1, DeliveryKey: twice.DeliveryKey, Index: twice.Index, ID: twice.ID, Copies: 2},
	} {
		f.Kind = kind
		if !slices.ContainsFunc(got.findings, func(g audit.Finding) bool { return reflect.DeepEqual(f, g) }) {
			t.Errorf("no %+v among %+v", f, got.findings)
		}
	}
	want.Missing, want.Different, want.Doubled = 1, 1, 1
	if got.total != want {
		t.Errorf("got %+v, want %+v", got.total, want)
	}
	if unread := w.audit("--from earliest"); unread.code != exitDone || unread.total.Searched != 0 {
		t.Errorf("without reading back: %+v", unread)
	}
	if some := w.audit("--from earliest --read-back 1/10 --rate 10000"); some.total.Searched == 0 || some.total.Searched > 60 {
		t.Errorf("a sample: %+v", some.total)
	}
	if last := got.stdout[strings.LastIndex(got.stdout, `{"type":"total"`):]; strings.Contains(last, `"hour"`) || strings.Contains(last, `"topic"`) {
		t.Errorf("the total is of an hour: %s", last)
	}
	people := w.command("audit --from earliest --read-back all --rate 10000")
	for _, words := range []string{"t:0:5: missing", "in event_name", "2 copies", "total", "unexplained"} {
		if !strings.Contains(people.stdout, words) {
			t.Errorf("no %q in\n%s", words, people.stdout)
		}
	}
}

// Every way in which nothing says what became of a record is named, to the last offset.
func TestAuditNamesEveryOffsetThatNoRuleExplains(t *testing.T) {
	t.Parallel()
	w := newDeliveredWorld(t, 60)
	w.environ["PROBE_WAIT"] = "1s"
	// Settled while no receipts were written: one that is stored, one that is a dead letter, one that is skipped.
	without := w.environ["RECEIPTS_TOPIC"]
	w.environ["RECEIPTS_TOPIC"] = ""
	for _, value := range []string{`{"event_name":"e","event_source":"s"}`, "no json"} {
		w.produceAt(0, []byte(value), time.Now())
	}
	w.produceAt(0, nil, time.Now())
	w.live()
	w.environ["RECEIPTS_TOPIC"] = without
	// Nobody has read these.
	w.produceAt(1, []byte(`{"event_name":"pending","event_source":"s"}`), time.Now())
	got := w.audit("--from earliest")
	if places := got.places(audit.NoReceipt); got.code != exitFailed || fmt.Sprint(places) != "[t:0:30 t:0:32]" || len(got.findings) != 2 {
		t.Errorf("without receipts: %v of %+v", places, got)
	}
	if got.total.Pending != 1 || got.total.Unexplained != 2 || got.total.DeadLettered != 7 || got.total.Produced != 64 {
		t.Errorf("%+v", got.total)
	}
	// The index explains what is there, and the record what is no detection.
	if read := w.audit("--from earliest --read-back all --rate 10000"); read.code != exitDone || read.total.Unexplained != 0 || read.total.Skipped != 7 {
		t.Errorf("read back: %+v", read)
	}
	w.environ["RECEIPTS_TOPIC"] = ""
	if alone := w.audit("--from earliest --read-back all --rate 10000"); alone.code != exitDone || alone.total.Pending != 1 || alone.total.Unexplained != 0 {
		t.Errorf("without receipts at all: %+v", alone)
	}
	w.environ["RECEIPTS_TOPIC"] = without
	// The dead letters are gone.
	if _, err := w.admin.DeleteTopics(t.Context(), "live.dlq"); err != nil {
		t.Fatal(err)
	}
	if lost := w.audit("--from earliest"); len(lost.places(audit.NoLetter)) != 6 || lost.code != exitFailed {
		t.Errorf("without letters: %+v", lost)
	}
}

// What retention took before it was settled is lost, what it took later is accounted for by receipts, and markers of
// transactions are nothing.
func TestAuditOfWhatIsNotInTheLog(t *testing.T) {
	t.Parallel()
	w := newDeliveredWorld(t, 40) // 20 in each partition
	w.transaction(0, 3, kgo.TryCommit)
	w.transaction(0, 2, kgo.TryAbort)
	w.live()
	whole := w.audit("--from earliest")
	if whole.code != exitDone || whole.total.Produced != 43 || whole.total.Pending != 0 || len(whole.findings) != 0 {
		t.Fatalf("with transactions: %+v", whole)
	}
	for range 5 {
		w.produceAt(1, []byte(`{"event_name":"lost","event_source":"s"}`), time.Now())
	}
	w.produceAt(1, []byte(`{"event_name":"pending","event_source":"s"}`), time.Now())
	if _, err := w.admin.DeleteRecords(t.Context(), kadm.Offsets{"t": {1: {Topic: "t", Partition: 1, At: 25}, 0: {Topic: "t", Partition: 0, At: 10}}}); err != nil {
		t.Fatal(err)
	}
	got := w.audit("--from earliest")
	if got.code != exitDone || got.total.Produced != 49 || got.total.Lost != 5 || got.total.Pending != 1 || got.total.Gone != 30 || got.total.Delivered != whole.total.Delivered {
		t.Errorf("%+v", got)
	}
	if places := got.places(audit.Lost); fmt.Sprint(places) != "[t:1:20-24]" {
		t.Errorf("lost %v", places)
	}
}

// A record that was put by hand has a receipt like any other: once retention has taken the record, it must not be taken for lost.
func TestAuditKnowsWhatWasPutByHand(t *testing.T) {
	t.Parallel()
	w := newDeliveredWorld(t, 4) // 2 in each partition
	w.produceAt(1, []byte(`{"event_name":"hangs","event_source":"s"}`), time.Now())
	if got := w.command("dlq put t:1:2 --because hangs"); got.code != exitDone {
		t.Fatalf("%+v", got)
	}
	if got := w.audit("--from earliest"); got.code != exitDone || got.total.DeadLettered != 1 || got.total.Pending != 0 {
		t.Errorf("%+v", got)
	}
	if seen := w.command("trace t:1:2"); !strings.Contains(seen.stdout, "receipt    dead_lettered") || !strings.Contains(seen.stdout, "part -1 dead_lettered, by_hand") {
		t.Errorf("%+v", seen)
	}
	if _, err := w.admin.DeleteRecords(t.Context(), kadm.Offsets{"t": {1: {Topic: "t", Partition: 1, At: 3}}}); err != nil {
		t.Fatal(err)
	}
	if got := w.audit("--from earliest"); got.code != exitDone || got.total.DeadLettered != 1 || got.total.Lost != 0 || len(got.findings) != 0 {
		t.Errorf("once it is gone: %+v", got)
	}
}

// What compaction removed after it was delivered is accounted for by its receipt; what it removed is no gap in the account.
func TestAuditOfACompactedTopic(t *testing.T) {
	t.Parallel()
	w := newDeliveredWorld(t, 0)
	if err := w.cluster.CreateTopic("c", 1, map[string]string{"cleanup.policy": "compact"}); err != nil {
		t.Fatal(err)
	}
	w.environ["KAFKA_TOPICS"] = "t,c"
	for i := range 30 {
		k := &kgo.Record{Topic: "c", Key: fmt.Appendf(nil, "key %d", i%10), Value: fmt.Appendf(nil, `{"event_name":"e %d","event_source":"s"}`, i)}
		if err := w.client.ProduceSync(t.Context(), k).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	w.liveUntil(func(commits map[string]map[int32]kfake.GroupCommit) bool { return commits["c"][0].Offset == 30 })
	w.cluster.Compact()
	got := w.audit("c --from earliest --read-back all --rate 10000")
	if got.code != exitDone || got.total.Produced != 30 || got.total.Delivered != 30 || got.total.Gone == 0 || got.total.Searched+got.total.Gone != 30 {
		t.Errorf("%+v", got)
	}
}

// transaction writes n records and ends.
func (w *deliveredWorld) transaction(partition int32, n int, end kgo.TransactionEndTry) {
	w.t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(w.cluster.ListenAddrs()...), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.TransactionalID("tx"))
	if err != nil {
		w.t.Fatal(err)
	}
	defer client.Close()
	if err := client.BeginTransaction(); err != nil {
		w.t.Fatal(err)
	}
	for i := range n {
		k := &kgo.Record{Topic: "t", Partition: partition, Value: fmt.Appendf(nil, `{"event_name":"tx %d","event_source":"s"}`, i)}
		if err := client.ProduceSync(w.t.Context(), k).FirstErr(); err != nil {
			w.t.Fatal(err)
		}
		w.ends[partition] = k.Offset + 1
	}
	if err := client.EndTransaction(w.t.Context(), end); err != nil {
		w.t.Fatal(err)
	}
	w.ends[partition]++ // the marker
}

// Records count for the hour of their own time, whatever the order of the log; what is out of the range does not count.
func TestAuditCountsByTheHourOfEachRecord(t *testing.T) {
	t.Parallel()
	w := newDeliveredWorld(t, 0)
	day := time.Now().UTC().Truncate(time.Hour).Add(-10 * time.Hour)
	for i, hours := range []int{0, 3, 1, -2, 3, 5, 0, 4} {
		w.produceAt(0, fmt.Appendf(nil, `{"event_name":"e %d","event_source":"s"}`, i), day.Add(time.Duration(hours)*time.Hour+time.Minute))
	}
	w.live()
	got := w.audit("t --from " + day.Format(time.RFC3339) + " --to " + day.Add(5*time.Hour).Format(time.RFC3339))
	var hours []string
	for _, r := range got.rows {
		hours = append(hours, fmt.Sprintf("%g:%d", r.Hour.Sub(day).Hours(), r.Delivered))
	}
	if strings.Join(hours, " ") != "0:2 1:1 3:2 4:1" || got.code != exitDone {
		t.Errorf("%v of %+v", hours, got)
	}
}

// Who reads topics by a pattern has those accounted for that the group reads, and neither ours nor the broker's own.
func TestAuditOfAPatternTakesTheTopicsOfTheGroup(t *testing.T) {
	t.Parallel()
	w := newDeliveredWorld(t, 20)
	for topic, configs := range map[string]map[string]string{"other": nil, "tx-state": {"kfake.is_internal": "true"}} {
		if err := w.cluster.CreateTopic(topic, 1, configs); err != nil {
			t.Fatal(err)
		}
		if err := w.client.ProduceSync(t.Context(), &kgo.Record{Topic: topic, Value: []byte("no json")}).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	w.environ["KAFKA_TOPICS"] = "^(t.*|live.*)$"
	got := w.audit("--from earliest")
	if got.code != exitDone || got.total.Produced != 20 || len(got.rows) == 0 || slices.ContainsFunc(got.rows, func(r audit.Row) bool { return r.Topic != "t" }) {
		t.Errorf("%+v", got)
	}
	w.environ["KAFKA_TOPICS"] = "^none"
	if got := w.audit("--from earliest"); got.code != exitFailed || !strings.Contains(got.stderr, "matches no topic") {
		t.Errorf("%+v", got)
	}
}

func TestAuditAsksForWhatItNeeds(t *testing.T) {
	t.Parallel()
	w := newDeliveredWorld(t, 2)
	w.expectAnswers("audit", map[string]answer{
		"":                                     {exitUsage, "--from is needed"},
		"--from soon":                          {exitUsage, "want earliest"},
		"--from earliest --to soon":            {exitUsage, "--to"},
		"--from earliest --read-back some":     {exitUsage, "1/1000"},
		"--from earliest --read-back 1/0":      {exitUsage, "1/1000"},
		"--from earliest --read-back all":      {exitUsage, "--rate"},
		"--from earliest --rate -1":            {exitUsage, "--rate"},
		"--from earliest ^t":                   {exitUsage, "no patterns"},
		"--from earliest u":                    {exitFailed, "topic u does not exist"},
		"--from now":                           {exitDone, "total"},
		"--from earliest --read-back none":     {exitDone, "total"},
		"--from 2030-01-01T00:00:00Z --to now": {exitDone, "total"},
	})
	delete(w.environ, "RECEIPTS_TOPIC")
	if got := w.command("audit --from earliest"); got.code != exitUsage || !strings.Contains(got.stderr, "RECEIPTS_TOPIC") {
		t.Errorf("%+v", got)
	}
}
