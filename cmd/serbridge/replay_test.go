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
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"serbridge/bridge/backfill"
	"serbridge/bridge/stellar/stellartest"
)

// replayWorld is a broker with one topic, and the API, on loopback.
type replayWorld struct {
	t       *testing.T
	cluster *kfake.Cluster
	api     *stellartest.Server
	admin   *kadm.Client
	environ map[string]string
}

func newReplayWorld(t *testing.T, records int, at func(i int) time.Time) *replayWorld {
	t.Helper()
	w := &replayWorld{t: t, api: stellartest.New(stellartest.Config{})}
	var client *kgo.Client
	w.cluster, client = newBroker(t, "t")
	running, err := w.api.Start("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.api.Close)
	w.admin = kadm.NewClient(client)
	for i := range records {
		value := fmt.Appendf(nil, `{"event_name":"e %d","event_source":"s","orig_id":"%d"}`, i, i)
		if i%10 == 9 {
			value = []byte("no json")
		}
		if err := client.ProduceSync(t.Context(), &kgo.Record{Topic: "t", Partition: int32(i % 2), Value: value, Timestamp: at(i)}).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	w.environ = map[string]string{
		"KAFKA_BROKERS": w.cluster.ListenAddrs()[0], "KAFKA_GROUP": "live",
		"STELLAR_URL": running.URL(), "STELLAR_USER": stellartest.DefaultUser, "STELLAR_API_KEY": stellartest.DefaultAPIKey,
	}
	return w
}

func recently(int) time.Time { return time.Now() }

// replay runs the command line; "NAME=value" among the words is a variable.
func (w *replayWorld) replay(line string) result {
	environ, args := maps.Clone(w.environ), []string{"replay"}
	for _, word := range strings.Fields(line) {
		if name, value, is := strings.Cut(word, "="); is && !strings.HasPrefix(word, "-") {
			environ[name] = value
		} else {
			args = append(args, word)
		}
	}
	return runProgram(program{environ: environ}, args...)
}

func (w *replayWorld) groups() []string {
	w.t.Helper()
	groups, err := w.admin.ListGroups(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	return groups.Groups()
}

func (w *replayWorld) sent() int { return w.api.Ledger().Requests[stellartest.KindInsert] }

func TestReplayDeliversARangeEndsAndIsComplete(t *testing.T) {
	w := newReplayWorld(t, 100, recently)
	got := w.replay("t --from earliest --include-unsettled --run-id r1 --json")
	if got.code != exitDone {
		t.Fatalf("%+v", got)
	}
	if until, is := lastLine(t, got.stdout, "plan")["until"]; is {
		t.Errorf("a range without an end in time ends at %v", until)
	}
	ledger := lastLine(t, got.stdout, "ledger")
	for name, want := range map[string]any{"complete": true, "records": 100.0, "delivered": 90.0, "left": 0.0, "resumed": false, "repeats_possible": 0.0} {
		if ledger[name] != want {
			t.Errorf("the ledger says %s=%v, want %v", name, ledger[name], want)
		}
	}
	if dead := ledger["dead_lettered"].(map[string]any); dead["invalid_json"] != 10.0 {
		t.Errorf("dead letters %v", dead)
	}
	if l := w.api.Ledger(); l.Distinct != 90 || l.Repeats != 0 {
		t.Errorf("stored %d, %d again", l.Distinct, l.Repeats)
	}
	w.expectRunInLetters("r1")
	again := w.replay("t --from earliest --include-unsettled --run-id r1")
	if again.code != exitDone || !strings.Contains(again.stderr, "run r1 is complete") || w.sent() != 90 {
		t.Errorf("the second time: %+v, %d sent", again, w.sent())
	}
	other := w.replay("t live.dlq --from earliest --run-id r1")
	if other.code == exitDone || !strings.Contains(other.stderr, "live.dlq") {
		t.Errorf("with other topics: %+v", other)
	}
}

// lastLine is the last JSON line of a kind.
func lastLine(t *testing.T, text, kind string) (found map[string]any) {
	t.Helper()
	for line := range strings.Lines(text) {
		var event map[string]any
		if err := json.Unmarshal([]byte(line), &event); err != nil {
			t.Fatalf("%v in %q", err, line)
		}
		if event["type"] == kind {
			found = event[kind].(map[string]any)
		}
	}
	if found == nil {
		t.Fatalf("no %s in %s", kind, text)
	}
	return found
}

func (w *replayWorld) expectRunInLetters(id string) {
	w.t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(w.cluster.ListenAddrs()...), kgo.ConsumeTopics("live.dlq"))
	if err != nil {
		w.t.Fatal(err)
	}
	defer client.Close()
	for k := range client.PollFetches(w.t.Context()).RecordsAll() {
		for _, h := range k.Headers {
			if h.Key == "dlq.run" && string(h.Value) == id {
				return
			}
		}
		w.t.Errorf("a dead letter without dlq.run: %v", k.Headers)
	}
}

func TestReplayRehearsesWithoutATrace(t *testing.T) {
	w := newReplayWorld(t, 50, recently)
	delete(w.environ, "STELLAR_API_KEY") // nothing is sent
	got := w.replay("t --from earliest --include-unsettled --dry-run --rate 9")
	if got.code != exitDone {
		t.Fatalf("%+v", got)
	}
	for _, want := range []string{"records 50", "aella_ser 45", "invalid_json 5", "documents 45", "5s at 9 requests"} {
		if !strings.Contains(strings.Join(strings.Fields(got.stdout), " "), want) {
			t.Errorf("%q is not in %s", want, got.stdout)
		}
	}
	if groups := w.groups(); w.sent() > 0 || len(groups) > 0 || w.cluster.TopicInfo("live.dlq") != nil {
		t.Errorf("%d requests, groups %v, or a dead-letter topic", w.sent(), groups)
	}
}

// Whoever rehearses a range to a time decides by its size and its times: what lies behind the end is none of them.
func TestRehearsalOfATimeRangeMeasuresTheRange(t *testing.T) {
	t.Parallel()
	begin := time.Now().Add(-time.Hour).Truncate(time.Second)
	w := newReplayWorld(t, 40, func(i int) time.Time { return begin.Add(time.Duration(i) * time.Second) })
	got := w.replay("t --from earliest --include-unsettled --dry-run --json --to " + begin.Add(5*time.Second).Format(time.RFC3339))
	if lastLine(t, got.stdout, "plan")["until"] == nil {
		t.Errorf("the plan does not say where it ends: %s", got.stdout)
	}
	var found findings
	text, _ := json.Marshal(lastLine(t, got.stdout, "findings")["found"])
	if err := json.Unmarshal(text, &found); err != nil {
		t.Fatal(err)
	}
	size := int64(5 * len(`{"event_name":"e 0","event_source":"s","orig_id":"0"}`))
	if found.Records != 40 || found.Documents != 5 || found.Bytes != size || !found.First.Equal(begin) || !found.Last.Equal(begin.Add(4*time.Second)) {
		t.Errorf("from %s: %+v, want %d bytes", begin, found, size)
	}
}

func TestReplayWritesDocumentsToAFile(t *testing.T) {
	w := newReplayWorld(t, 50, recently)
	file := filepath.Join(t.TempDir(), "out.ndjson")
	got := w.replay("t --from t:1:5 --include-unsettled --output " + file)
	if got.code != exitDone {
		t.Fatalf("%+v", got)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	dash := w.replay("t --from t:1:5 --include-unsettled --output - --status Closed")
	for name, out := range map[string]string{"file": string(text), "-": dash.stdout} {
		if n := strings.Count(out, "\n"); n != 16 { // of 20 records of partition 1 each fifth is no JSON
			t.Errorf("%s: %d documents, want 16:\n%s", name, n, out)
		}
		if strings.Contains(out, `"event_status":"Closed"`) != (name == "-") || !strings.Contains(out, `"replay_id":"`) {
			t.Errorf("%s: %s", name, out)
		}
	}
	if entries, err := os.ReadDir(filepath.Dir(file)); err != nil || len(entries) != 1 {
		t.Errorf("left behind: %v, %v", entries, err)
	}
	if groups := w.groups(); w.sent() > 0 || len(groups) > 0 {
		t.Errorf("%d requests, groups %v", w.sent(), groups)
	}
}

func TestReplayLeavesNoHalfFile(t *testing.T) {
	w := newReplayWorld(t, 10, recently)
	dir := t.TempDir()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	p := &program{stdout: new(bytes.Buffer), stderr: new(bytes.Buffer), environ: w.environ}
	r := &replay{boundedRun: boundedRun{program: p, topics: []string{"t"}}, output: filepath.Join(dir, "out")}
	if err := r.load(); err != nil {
		t.Fatal(err)
	}
	r.admin = w.admin
	plan, err := backfill.Resolve(t.Context(), w.admin, backfill.Request{Topics: r.topics})
	if err != nil {
		t.Fatal(err)
	}
	if err := r.export(ctx, plan); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if entries, _ := os.ReadDir(dir); len(entries) > 0 {
		t.Errorf("left behind: %v", entries)
	}
}

func TestReplayAsksForWhatItNeeds(t *testing.T) {
	w := newReplayWorld(t, 4, func(i int) time.Time { return time.Now().Add(-48 * time.Hour) })
	for _, c := range []struct {
		line string
		code int
		want string
	}{
		{"", exitUsage, "requires at least 1 arg"},
		{"t", exitUsage, "--from is needed"},
		{"t --from soon", exitUsage, "want earliest"},
		{"t --from earliest --to soon", exitUsage, "--to"},
		{"^t --from earliest", exitUsage, "no patterns"},
		{"t --from earliest --rate 0", exitUsage, "above 0"},
		{"RATE_LIMIT=0 t --from earliest", exitUsage, "--rate"},
		{"t --from earliest --run-id a/b", exitUsage, "--run-id"},
		{"t --from earliest --status New", exitUsage, "as-mapped"},
		{"t --from earliest --output - --json", exitUsage, "standard output"},
		{"t --from earliest --include-unsettled", exitUsage, "older than a day"},
		{"t --from -1h --include-unsettled", exitDone, "holds no offsets"},
		{"t --from earliest", exitDone, "--include-unsettled takes them too"},
		{"t --from x:0:1", exitFailed, "name it too"},
		{"u --from earliest", exitFailed, "topic u does not exist"},
		{"live.dlq --from earliest", exitUsage, "dead-letter"},
		{"t --from earliest --include-unsettled --status as-mapped", exitDone, ""},
	} {
		got := w.replay(c.line)
		if got.code != c.code || !strings.Contains(got.stderr, c.want) {
			t.Errorf("replay %s: code %d, %s\nwant %d and %q", c.line, got.code, got.stderr, c.code, c.want)
		}
	}
	for _, d := range w.api.Documents() {
		if text := string(d.Body); !strings.Contains(text, "late") || !strings.Contains(text, "replay_id") {
			t.Errorf("unmarked: %s", text)
		}
	}
}

// Interrupted, it says how to go on, and that is true.
func TestReplayInterruptedSaysHowToGoOn(t *testing.T) {
	w := newReplayWorld(t, 60, recently)
	ctx, interrupt := context.WithCancel(t.Context())
	go func() {
		_ = w.api.Wait(ctx, func(l stellartest.Ledger) bool { return l.Distinct >= 5 })
		interrupt()
	}()
	var stdout, stderr bytes.Buffer
	p := &program{environ: w.environ, stdout: &stdout, stderr: &stderr}
	err := execute(ctx, []string{"replay", "t", "--from", "earliest", "--include-unsettled", "--rate", "10", "--run-id", "r1"}, p)
	if err == nil || exitCode(err) != exitFailed {
		t.Fatalf("got %v", err)
	}
	_, command, said := strings.Cut(err.Error(), "to go on: serbridge ")
	if !said || !strings.Contains(stdout.String(), "the run is not complete") {
		t.Fatalf("%v\n%s", err, stdout.String())
	}
	got := w.replay(strings.TrimPrefix(strings.Replace(command, "--rate=10", "--rate=100", 1), "replay "))
	if got.code != exitDone || !strings.Contains(got.stderr, "run r1 goes on") {
		t.Errorf("%+v", got)
	}
	if l := w.api.Ledger(); l.Distinct != 54 || l.Repeats != 0 {
		t.Errorf("stored %d, %d again", l.Distinct, l.Repeats)
	}
}

func TestReplayOfADeletedTopicSaysSo(t *testing.T) {
	w := newReplayWorld(t, 1, recently)
	watch := &runWatch{boundedRun: &boundedRun{topics: []string{"t"}, admin: w.admin}, ids: make(map[string]kadm.TopicID), gone: make(map[string]int)}
	look := func(want string) {
		t.Helper()
		err := watch.lookAtTopics(t.Context())
		if (err != nil) != (want != "") || err != nil && (!errors.Is(err, errTopicGone) || !strings.Contains(err.Error(), want)) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
	look("")
	if err := w.cluster.DeleteTopic("t"); err != nil {
		t.Fatal(err)
	}
	look("")
	look("")
	look("not there any more")
	if err := w.cluster.CreateTopic("t", 2, nil); err != nil {
		t.Fatal(err)
	}
	look("another one")
}

func TestShellWords(t *testing.T) {
	for word, want := range map[string]string{"a-b:0:7": "a-b:0:7", "it's": `'it'\''s'`, "$x": "'$x'", "": "''"} {
		if got := shellWord(word); got != want {
			t.Errorf("%q: %s, want %s", word, got, want)
		}
	}
}

func TestBarTellsHowLongItTakes(t *testing.T) {
	for _, c := range []struct {
		done, total int64
		rate        float64
		terminal    bool
		want        string
	}{
		{0, 0, 0, false, "0 of 0 (100.0 %), 0/s"},
		{50, 200, 10, false, "50 of 200 (25.0 %), 10/s, 15s left"},
		{50, 200, 10, true, "[#####...............] 50 of 200 (25.0 %), 10/s, 15s left"},
	} {
		if got := barText(c.done, c.total, c.rate, c.terminal); got != c.want {
			t.Errorf("%s, want %s", got, c.want)
		}
	}
	var s speed
	begun := time.Now()
	for i := range 100 {
		if rate := s.at(begun.Add(time.Duration(i)*time.Second), int64(7*i)); i > 0 && rate != 7 {
			t.Errorf("%d: rate %f", i, rate)
		}
	}
	if len(s.seen) > 40 {
		t.Errorf("%d measurements kept", len(s.seen))
	}
}
