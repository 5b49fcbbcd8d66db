package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"serbridge/bridge/deadletter"
	"serbridge/bridge/frontier"
	"serbridge/bridge/secret"
	"serbridge/bridge/stellar"
	"serbridge/transform"
)

// post is a broker with dead letters, and the commands on it.
type post struct {
	t       *testing.T
	cluster *kfake.Cluster
	client  *kgo.Client
	environ map[string]string
}

// newBroker is one on loopback with topics of two partitions, and a client that writes to the partition that a record names.
func newBroker(t *testing.T, topics ...string) (*kfake.Cluster, *kgo.Client) {
	t.Helper()
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(2, topics...))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cluster.Close)
	client, err := kgo.NewClient(kgo.SeedBrokers(cluster.ListenAddrs()...), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	return cluster, client
}

func newPost(t *testing.T) *post {
	t.Helper()
	cluster, client := newBroker(t, "detections", "g.dlq")
	return &post{t, cluster, client, map[string]string{
		"KAFKA_BROKERS": cluster.ListenAddrs()[0], "KAFKA_TOPICS": "detections", "KAFKA_GROUP": "g",
	}}
}

// fill writes n letters, half of them invalid_json.
func (p *post) fill(n int) {
	p.t.Helper()
	var rs []*kgo.Record
	for i := range n {
		l := deadletter.Letter{
			Topic: "detections", Partition: int32(i % 2), Offset: int64(i), Part: -1, Reason: []string{"invalid_json", "http_400"}[i/2%2],
			Key: fmt.Appendf(nil, "k%d", i), Value: fmt.Appendf(nil, `{"n":%d}`, i), FailedAt: time.Date(2026, 11, 20+i%3, 0, 0, i%60, 0, time.UTC),
			Headers: []kgo.RecordHeader{{Key: "a"}, {Key: "b", Value: []byte{0xff}}, {Key: "a", Value: []byte{}}},
		}
		rs = append(rs, l.Record("g.dlq"))
	}
	p.produce(rs...)
}

func (p *post) produce(rs ...*kgo.Record) {
	p.t.Helper()
	if err := p.client.ProduceSync(context.Background(), rs...).FirstErr(); err != nil {
		p.t.Fatal(err)
	}
}

// dlq runs one command.
func (p *post) dlq(args ...string) result {
	p.t.Helper()
	return runProgram(program{environ: p.environ}, append([]string{"dlq"}, args...)...)
}

// must runs one command that has to work, and returns its output.
func (p *post) must(args ...string) string {
	p.t.Helper()
	got := p.dlq(args...)
	if got.code != exitDone {
		p.t.Fatalf("dlq %q: code %d, %s", args, got.code, got.stderr)
	}
	return got.stdout
}

// census is what ls says.
func (p *post) census(args ...string) census {
	p.t.Helper()
	var c census
	if err := json.Unmarshal([]byte(p.must(append([]string{"ls", "--json"}, args...)...)), &c); err != nil {
		p.t.Fatal(err)
	}
	return c
}

func TestParkedHalfIsLeftOutAndTheOtherHalfIsNot(t *testing.T) {
	p := newPost(t)
	p.fill(2000)
	if c := p.census(); c.Letters != 2000 || c.ByStatus["open"] != 2000 || len(c.Newest) != listMost {
		t.Fatalf("before: %+v", c)
	}
	if dry := p.must("park", "--reason", "http_400", "--because", "x", "--dry-run"); !strings.Contains(dry, "1000 letters would be parked") {
		t.Errorf("dry run says %q", dry)
	}
	if c := p.census(); c.ByStatus["parked"] != 0 {
		t.Errorf("the dry run parked %d", c.ByStatus["parked"])
	}
	p.must("park", "--reason", "http_400", "--because", "the vendor mends it")
	c := p.census()
	if c.Letters != 1000 || c.LeftOut != 1000 || c.ByReason["invalid_json"] != 1000 || c.ByReason["http_400"] != 0 || c.ByStatus["parked"] != 1000 {
		t.Errorf("after: %+v", c)
	}
	if c = p.census("--all"); c.Letters != 2000 || c.LeftOut != 0 {
		t.Errorf("all: %+v", c)
	}
	if again := p.must("park", "--reason", "http_400", "--because", "again"); !strings.Contains(again, "0 letters parked") {
		t.Errorf("parked again: %s", again)
	}
	p.must("discard", "0:1", "1:1", "--because", "of no use")
	if c = p.census("--status", "discarded,parked"); c.Letters != 1000 || c.ByStatus["discarded"] != 2 {
		t.Errorf("the last mark does not count: %+v", c)
	}
}

func TestNewestAreListedFirstOverAllPartitions(t *testing.T) {
	p := newPost(t)
	p.fill(500)
	want := p.census("--max", "1000").Newest
	if len(want) != 500 || !slices.IsSortedFunc(want, func(a, b listing) int { return b.At.Compare(a.At) }) {
		t.Fatalf("%d listed, or not the newest first", len(want))
	}
	for i, l := range p.census("--max", "7").Newest {
		if l.Place != want[i].Place || !l.At.Equal(want[i].At) {
			t.Errorf("number %d is %s, want %s", i, l.Place, want[i].Place)
		}
	}
}

func TestExportDeleteImportExportIsEqual(t *testing.T) {
	p := newPost(t)
	p.fill(300)
	p.produce(&kgo.Record{Topic: "g.dlq", Partition: 1, Value: []byte{0xff, 0}, Key: []byte{}}, &kgo.Record{Topic: "g.dlq", Timestamp: time.UnixMilli(12)})
	file := filepath.Join(t.TempDir(), "letters.ndjson")
	p.must("export", "--output", file)
	before, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got := p.dlq("export", "--output", file); got.code != exitFailed {
		t.Error("an export was written over")
	}
	if _, err := kadm.NewClient(p.client).DeleteTopics(context.Background(), "g.dlq"); err != nil {
		t.Fatal(err)
	}
	p.must("import", file, "--dry-run")
	if got := p.dlq("ls"); got.code != exitFailed || !strings.Contains(got.stderr, "DLQ_TOPIC") {
		t.Errorf("the topic is gone, and ls says %+v", got)
	}
	p.must("import", file)
	if after := p.must("export"); after != string(before) {
		t.Errorf("%d bytes became %d, or others", len(before), len(after))
	}
}

func TestImportSaysWhereToGoOn(t *testing.T) {
	p := newPost(t)
	good := `{"partition":0,"timestamp":1,"headers":[],"value":"v"}`
	for _, c := range []struct{ file, says string }{
		{good + "\n" + good + "\n{}\n", "--from-line 3"},
		{good + "\n\n" + `{"event_name":"x"}`, "line 3"},
	} {
		got := runProgram(program{environ: p.environ, stdin: strings.NewReader(c.file)}, "dlq", "import", "-")
		if got.code != exitFailed || !strings.Contains(got.stderr, c.says) {
			t.Errorf("%q: got %+v, want %q", c.file, got, c.says)
		}
	}
	if c := p.census(); c.Letters != 3 || c.ByReason[deadletter.Unreadable] != 3 {
		t.Errorf("%+v", c)
	}
}

// Kafka counts retention from the record's time: an import of last year's letters would be gone by the next cleaning.
func TestImportWarnsOfLettersThatRetentionWillTake(t *testing.T) {
	p := newPost(t)
	line := func(at time.Time) string {
		return fmt.Sprintf(`{"partition":0,"timestamp":%d,"headers":[]}`+"\n", at.UnixMilli())
	}
	old, recent := line(time.Now().AddDate(-1, 0, 0)), line(time.Now())
	for _, c := range []struct {
		file  string
		warns bool
	}{{recent, false}, {recent + old + old, true}} {
		got := runProgram(program{environ: p.environ, stdin: strings.NewReader(c.file)}, "dlq", "import", "-")
		if got.code != exitDone || strings.Contains(got.stderr, "2 letters of a record's time") != c.warns {
			t.Errorf("%+v", got)
		}
	}
}

// hostile is a letter in which all that others write would be obeyed by a terminal.
func hostile() *kgo.Record {
	evil := "\x1b]0;owned\x07\x1b[2J\u202e\u009b31m\r\n"
	l := deadletter.Letter{
		Topic: "t" + evil, Reason: "r" + evil, Field: "f" + evil, Detail: evil, Certainty: evil, Stage: evil, HTTPStatus: 400, HTTPBody: evil,
		DeliveryKey: evil, Mapping: evil, Bridge: evil, Instance: evil, Group: evil, Run: evil, Redrives: 1, LeftOut: evil, Part: 2,
		Key: []byte(evil), Value: []byte(`{"a":"` + "\u202e\u009b" + `"}`), Headers: []kgo.RecordHeader{{Key: evil, Value: []byte(evil)}},
	}
	return l.Record("g.dlq")
}

func TestHostileRecordsNeverReachTheTerminalRaw(t *testing.T) {
	p := newPost(t)
	plain := hostile()
	plain.Value = []byte("\x1b[2J\u202e no JSON")
	binary := hostile()
	binary.Value = []byte("\x1b[2J\xff")
	p.produce(hostile(), plain, binary, &kgo.Record{Topic: "g.dlq", Headers: plain.Headers[:1]})
	if r := p.dlq("park", "0:1", "--because", "\x1b[2J\u202e"); r.code != exitDone {
		t.Fatal(r.stderr)
	}
	for _, command := range []string{"ls --all", "ls --all --json", "show --all", "show 0:1", "show --all --json", "export --all", "discard --because x --reason unreadable", "show 9:9",
		"ls --since \x1b[2J", "show \x1b[2J", "export --output /no\x1b[2J"} {
		for _, terminal := range []bool{true, false} {
			got := runProgram(program{environ: p.environ, stdoutIsTerminal: terminal}, append([]string{"dlq"}, strings.Split(command, " ")...)...)
			if strings.Contains(command, "json") || strings.Contains(command, "export") {
				if !terminal {
					continue // a file of JSON keeps what is there
				}
			}
			if i := strings.IndexFunc(got.stdout+got.stderr, func(r rune) bool { return r != '\n' && !unicode.IsPrint(r) }); i >= 0 {
				t.Errorf("dlq %q: %q would be obeyed", command, (got.stdout + got.stderr)[i:][:min(20, len(got.stdout+got.stderr)-i)])
			}
		}
	}
}

func TestShowSaysWhyWhatToDoAndWhatBecameOfIt(t *testing.T) {
	p := newPost(t)
	p.fill(4)
	p.must("park", "0:0", "--because", "the vendor mends it")
	text := p.must("show", "0:0", "1:1")
	for _, want := range []string{"invalid_json", reasonAdvice["invalid_json"].do, "parked on", "because the vendor mends it", "detections:0:0", "k0", "a (null)", "(hex) ff",
		`"n": 0`, "dead letter 1:1", "http_400", reasonAdvice["http_400"].do} {
		if !strings.Contains(text, want) {
			t.Errorf("show does not say %q:\n%s", want, text)
		}
	}
	for line := range strings.Lines(p.must("show", "--all", "--json")) {
		var v view
		if err := json.Unmarshal([]byte(line), &v); err != nil {
			t.Fatal(err)
		}
		if _, err := deadletter.DecodeLine(v.Record); err != nil || v.Do == "" {
			t.Errorf("%+v, %v", v, err)
		}
	}
	if got := p.dlq("show", "0:0", "0:77"); got.code != exitFailed || !strings.Contains(got.stdout, "dead letter 0:0") || !strings.Contains(got.stderr, "0:77") {
		t.Errorf("a letter that is not there: %+v", got)
	}
}

func TestDLQCommandLines(t *testing.T) {
	p := newPost(t)
	for _, c := range []struct {
		args string
		code int
		says string
	}{
		{"", exitDone, ""},
		{"list", exitUsage, "unknown command"},
		{"ls 0:1", exitUsage, "unknown command"},
		{"ls --since tomorrow", exitUsage, "yesterday"},
		{"ls --status lost", exitUsage, "open, redriven, parked, discarded, failed_again, or handled"},
		{"ls --max 1000000", exitUsage, "--max"},
		{"ls --max -1", exitUsage, "--max"},
		{"ls --partition x --offset y", exitUsage, "--offset"}, // both are said
		{"show", exitUsage, "say which letters"},
		{"show 17", exitUsage, "PARTITION:OFFSET"},
		{"show 0:17", exitFailed, "the partition is empty"},
		{"show --reason none", exitDone, "no letter is of this selection"},
		{"park 0:1", exitUsage, "--because"},
		{"park --because x", exitUsage, "say which letters"},
		{"discard --reason a --because " + strings.Repeat("x", 600), exitUsage, "512"},
		{"import", exitUsage, "arg"},
		{"import /does/not/exist", exitFailed, "/does/not/exist"},
		{"put detections:0:1", exitUsage, "--because"},
		{"put 0:1 --because x", exitUsage, "TOPIC:PARTITION:OFFSET"},
		{"put other:0:1 --because x", exitUsage, "KAFKA_TOPICS"},
		{"put detections:0:1 --because x", exitFailed, "not in the topic"},
		{"put detections:9:1 --because x", exitFailed, "not in the topic"},
	} {
		got := p.dlq(strings.Fields(c.args)...)
		if got.code != c.code || !strings.Contains(got.stderr, c.says) {
			t.Errorf("dlq %s: got code %d and %q, want %d and %q", c.args, got.code, got.stderr, c.code, c.says)
		}
	}
}

func TestDLQNeedsKafkaAloneAndSaysEveryProblemAtOnce(t *testing.T) {
	got := runProgram(program{environ: map[string]string{"KAFKA_TLS": "perhaps", "DLQ_CREATE": "yes", "STELLAR_URL": "nonsense", "KAFKA_BROKER": "b"}}, "dlq", "ls")
	for _, name := range []string{"KAFKA_BROKERS: required", "KAFKA_TOPICS", "KAFKA_TLS=", "DLQ_CREATE=", "KAFKA_BROKER: no setting"} {
		if got.code != exitUsage || !strings.Contains(got.stderr, name) {
			t.Errorf("code %d, %q does not name %s", got.code, got.stderr, name)
		}
	}
	if strings.Contains(got.stderr, "STELLAR_") {
		t.Errorf("the platform's settings are no business of dlq: %s", got.stderr)
	}
}

func TestNoCredentialInAFault(t *testing.T) {
	b := &letterBox{red: new(secret.Redactor)}
	b.red.Add("s3cr3t-password")
	if text := b.fault("read", errors.New("server says: bad s3cr3t-password")).Error(); strings.Contains(text, "s3cr3t") {
		t.Error(text)
	}
}

// commit has the group say of partition 0 that these are settled: base, and offsets above it.
func (p *post) commit(base int64, above ...int64) {
	p.t.Helper()
	f := frontier.New(frontier.Config{Group: "g", Topic: "detections", Base: 0, Epoch: 0})
	for o := range int64(10) {
		f.Add(o, 0, 1, time.Now())
		if o < base || slices.Contains(above, o) {
			f.Settle(o, 0)
		}
	}
	shot, ok := f.Snapshot()
	if !ok || shot.Base != base {
		p.t.Fatalf("snapshot %+v", shot)
	}
	o := kadm.Offset{Topic: "detections", At: shot.Base, LeaderEpoch: shot.LeaderEpoch, Metadata: shot.Metadata}
	if err := kadm.NewClient(p.client).CommitAllOffsets(context.Background(), "g", kadm.Offsets{"detections": {0: o}}); err != nil {
		p.t.Fatal(err)
	}
}

// committed is the base and what is settled above it.
func (p *post) committed() string {
	p.t.Helper()
	commits, err := kadm.NewClient(p.client).FetchOffsets(context.Background(), "g")
	if err != nil {
		p.t.Fatal(err)
	}
	o, _ := commits.Lookup("detections", 0)
	m, err := frontier.Decode("g", "detections", 0, o.At, o.Metadata)
	if err != nil {
		p.t.Fatal(err)
	}
	text := fmt.Sprint(o.At, ":")
	for i := range int64(12) {
		if m.Contains(i) {
			text += fmt.Sprint(" ", i)
		}
	}
	return text
}

func (p *post) detections(n int) {
	p.t.Helper()
	for i := range n {
		p.produce(&kgo.Record{Topic: "detections", Key: fmt.Appendf(nil, "k%d", i), Value: []byte("v"), Headers: []kgo.RecordHeader{{Key: "h"}}})
	}
}

func TestPutMovesOneRecordAndSkipsNoOther(t *testing.T) {
	p := newPost(t)
	p.detections(10)
	p.commit(3, 5, 8)
	before := p.committed()
	if out := p.must("put", "detections:0:7", "--because", "x", "--dry-run"); !strings.Contains(out, "would become") || p.committed() != before || p.census().Letters != 0 {
		t.Errorf("the dry run did something: %s", out)
	}
	for _, step := range []struct{ offset, want string }{{"7", "3: 5 7 8"}, {"4", "3: 4 5 7 8"}, {"3", "6: 7 8"}, {"6", "9:"}, {"9", "10:"}} {
		p.must("put", "detections:0:"+step.offset, "--because", "it is held")
		if got := p.committed(); got != step.want {
			t.Fatalf("after offset %s the group says %s, want %s", step.offset, got, step.want)
		}
	}
	if got := p.dlq("put", "detections:0:7", "--because", "x"); got.code != exitFailed || !strings.Contains(got.stderr, "settled this record already") {
		t.Errorf("put twice: %+v", got)
	}
	c := p.census()
	if c.Letters != 5 || c.ByReason[deadletter.ByHand] != 5 {
		t.Errorf("letters: %+v", c)
	}
	if text := p.must("show", "--offset", "detections:0:7"); !strings.Contains(text, "it is held") || !strings.Contains(text, "k7") || !strings.Contains(text, "it may be stored") {
		t.Errorf("the letter is\n%s", text)
	}
}

func TestPutOfTheVeryFirstRecordOfAGroupWithoutACommit(t *testing.T) {
	p := newPost(t)
	p.detections(3)
	p.environ["KAFKA_START"] = "latest"
	if got := p.dlq("put", "detections:0:0", "--because", "x"); got.code != exitFailed || !strings.Contains(got.stderr, "start serbridge once") {
		t.Errorf("where the group begins is not known: %+v", got)
	}
	delete(p.environ, "KAFKA_START")
	p.must("put", "detections:0:0", "--because", "x")
	if got := p.committed(); got != "1:" {
		t.Errorf("the group says %s, want 1:", got)
	}
}

func TestPutLeavesARunningGroupAlone(t *testing.T) {
	p := newPost(t)
	p.detections(3)
	member, err := kgo.NewClient(kgo.SeedBrokers(p.cluster.ListenAddrs()...), kgo.ConsumerGroup("g"), kgo.ConsumeTopics("detections"), kgo.DisableAutoCommit())
	if err != nil {
		t.Fatal(err)
	}
	defer member.Close()
	if n := member.PollRecords(context.Background(), 1).NumRecords(); n != 1 { // in the group by now
		t.Fatal("no record")
	}
	if got := p.dlq("put", "detections:0:0", "--because", "x"); got.code != exitFailed || !strings.Contains(got.stderr, "stop every serbridge") {
		t.Errorf("got %+v", got)
	}
	if c := p.census(); c.Letters != 0 {
		t.Errorf("%d letters were written", c.Letters)
	}
}

func TestPutWithoutItsLetterSettlesNothing(t *testing.T) {
	p := newPost(t)
	p.detections(3)
	p.commit(1)
	before := p.committed()
	p.cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Err: kerr.TopicAuthorizationFailed, Count: -1})
	if got := p.dlq("put", "detections:0:1", "--because", "x"); got.code != exitFailed || !strings.Contains(got.stderr, "grant") {
		t.Errorf("got %+v", got)
	}
	if got := p.committed(); got != before {
		t.Errorf("the record is lost: the group says %s", got)
	}
}

func TestPutWithoutItsCommitSaysWhatIsThere(t *testing.T) {
	p := newPost(t)
	p.detections(3)
	p.cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.OffsetCommit}, Err: kerr.UnknownMemberID, Count: -1})
	if got := p.dlq("put", "detections:0:0", "--because", "x"); got.code != exitFailed || !strings.Contains(got.stderr, "the dead letter is written") {
		t.Errorf("got %+v", got)
	}
}

func TestPutShortensAMapThatTheBrokerDoesNotTake(t *testing.T) {
	p := newPost(t)
	p.detections(10)
	p.commit(3, 5, 8)
	p.cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.OffsetCommit}, Err: kerr.OffsetMetadataTooLarge, Count: -1})
	if got := p.dlq("put", "detections:0:7", "--because", "x"); got.code != exitFailed || !strings.Contains(got.stderr, "no room") {
		t.Errorf("got %+v", got)
	}
}

func TestMissingRightIsNamed(t *testing.T) {
	p := newPost(t)
	p.fill(2)
	p.cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.ListOffsets}, Topic: "g.dlq", Err: kerr.TopicAuthorizationFailed, Count: -1})
	if got := p.dlq("ls"); got.code != exitFailed || !strings.Contains(got.stderr, "grant Describe and Read on g.dlq") {
		t.Errorf("got %+v", got)
	}
}

// Every reason of the closed set says what to do.
func TestEveryReasonHasAdvice(t *testing.T) {
	reasons := slices.Concat(stellar.Reasons(), deadletter.Reasons(), []string{deadletter.OfConnect, deadletter.Unreadable})
	for _, r := range transform.Reasons() {
		reasons = append(reasons, string(r))
	}
	for _, r := range reasons {
		if a, ok := reasonAdvice[r]; !ok || a.means == "" || a.do == "" {
			t.Errorf("%s has no advice: %+v", r, a)
		}
	}
	for _, r := range slices.Sorted(maps.Keys(reasonAdvice)) {
		if !slices.Contains(reasons, r) {
			t.Errorf("%s is no reason any more", r)
		}
	}
	if a := adviceFor("of another build"); a.do == "" {
		t.Error("an unknown reason has no advice")
	}
}

func TestMomentIsWhatItSays(t *testing.T) {
	now := time.Date(2026, 11, 25, 13, 30, 0, 0, time.FixedZone("CET", 3600))
	for text, want := range map[string]string{
		"2026-01-31T08:00:00+01:00": "2026-01-31T07:00:00Z", "-24h": "2026-11-24T12:30:00Z", "today": "2026-11-25T00:00:00Z",
		"yesterday": "2026-11-24T00:00:00Z", "2026-02-03": "2026-02-03T00:00:00Z", "now": "2026-11-25T12:30:00Z",
	} {
		if got, err := moment(text, now); err != nil || got.UTC().Format(time.RFC3339) != want {
			t.Errorf("%s: got %v, %v, want %s", text, got, err, want)
		}
	}
	for _, text := range []string{"24h", "tomorrow", "2026-13-01", "1764000000", " "} {
		if got, err := moment(text, now); err == nil {
			t.Errorf("%q: got %v", text, got)
		}
	}
}

// FuzzMoment: no text makes it panic, and none is taken for a time after now that does not say so itself.
func FuzzMoment(f *testing.F) {
	for _, text := range []string{"-24h", "yesterday", "2026-01-31T08:00:00Z", "2026-01-31", "-"} {
		f.Add(text)
	}
	now := time.Date(2026, 11, 25, 13, 30, 0, 0, time.UTC)
	f.Fuzz(func(t *testing.T, text string) {
		got, err := moment(text, now)
		if err == nil && strings.HasPrefix(text, "-") && got.After(now) {
			t.Errorf("%q is %v", text, got)
		}
		if err != nil && !got.IsZero() {
			t.Errorf("%q: %v beside %v", text, got, err)
		}
	})
}

func TestSelectionLeavesHandledLettersOutUnlessTheyAreMeant(t *testing.T) {
	for _, c := range []struct {
		flags, args string
		want        []deadletter.Fate
	}{
		{"", "", []deadletter.Fate{deadletter.Open}},
		{"--all", "", nil},
		{"", "0:1", nil},
		{"--status parked", "0:1", []deadletter.Fate{deadletter.Parked}},
		{"--status handled", "", deadletter.Fates()[1:]},
		{"--offset 0:1", "", nil},
		{"--offset t:0:1", "", []deadletter.Fate{deadletter.Open}},
	} {
		var s selection
		cmd := new(cobra.Command)
		s.add(cmd, 0, "")
		s.addAll(cmd)
		if err := cmd.ParseFlags(strings.Fields(c.flags)); err != nil {
			t.Fatal(err)
		}
		got, err := s.filter(strings.Fields(c.args), time.Now())
		if err != nil || !slices.Equal(got.Fates, c.want) {
			t.Errorf("%s %s: means %v, %v, want %v", c.flags, c.args, got.Fates, err, c.want)
		}
	}
}

// entries are letters of a kilobyte with texts of their own, as hostile as a writer can make them.
func entries(n int, f func(*deadletter.Entry)) {
	for i := range n {
		own := fmt.Sprintf("%d-%s", i, strings.Repeat("x", 200))
		l := deadletter.Letter{Topic: own, Offset: int64(i), Part: 1, Reason: own, Field: own, FailedAt: time.Unix(int64(i), 0), Value: make([]byte, 1<<10)}
		r := l.Record("g.dlq")
		e := &deadletter.Entry{Place: deadletter.Place{Offset: int64(i)}, Record: r}
		e.Letter, e.Err = deadletter.Parse(r)
		f(e)
	}
}

// listed is the heap that a list of n letters holds at the end.
func listed(n int) uint64 {
	c := newCensus("g.dlq", deadletter.Filter{}, 1000)
	entries(n, c.add)
	c.finish(0)
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	runtime.KeepAlive(c)
	return m.HeapAlloc
}

func TestListOfManyLettersHoldsNoMoreThanOfFew(t *testing.T) {
	few, many := listed(5_000), listed(50_000)
	if many > few+1<<20 {
		t.Errorf("%d KiB for 5,000 letters, %d KiB for 50,000", few>>10, many>>10)
	}
}

// BenchmarkListAMillionLetters reports what the list holds at the end: -benchtime 1x.
func BenchmarkListAMillionLetters(b *testing.B) {
	for b.Loop() {
		before := listed(0)
		b.ReportMetric(float64(listed(1_000_000)-before)/(1<<20), "MiB")
	}
}

// FuzzShow: whatever a value is, what is shown holds nothing that a terminal would obey, and is bounded.
func FuzzShow(f *testing.F) {
	f.Add([]byte(`{"a":["b",{}]}`), []byte("\x1b[2J"))
	f.Add([]byte(strings.Repeat("[", 5000)), []byte{0xff})
	f.Fuzz(func(t *testing.T, value, other []byte) {
		l := deadletter.Letter{Topic: "t", Part: -1, Reason: string(other), Detail: string(other), Key: other, Value: value, Headers: []kgo.RecordHeader{{Key: string(other), Value: other}}}
		r := l.Record("g.dlq")
		e := &deadletter.Entry{Record: r, Fate: deadletter.Parked}
		e.Letter, e.Err = deadletter.Parse(r)
		w, err := newView(e, deadletter.Mark{By: string(other), Because: string(other)})
		if err != nil {
			t.Fatal(err)
		}
		var out bytes.Buffer
		w.print(&out)
		if i := bytes.IndexFunc(out.Bytes(), func(r rune) bool { return r != '\n' && !unicode.IsPrint(r) }); i >= 0 {
			t.Errorf("%q would be obeyed", out.Bytes()[i:])
		}
		if out.Len() > 20*shownBytes*mostNesting {
			t.Errorf("%d bytes shown", out.Len())
		}
	})
}
