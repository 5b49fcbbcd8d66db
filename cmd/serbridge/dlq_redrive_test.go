package main

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"serbridge/bridge/deadletter"
	"serbridge/bridge/stellar/stellartest"
)

// redriveWorld is a broker with dead letters, and the API.
type redriveWorld struct {
	*post
	api *stellartest.Server
}

// newRedriveWorld has letters of which every tenth is no JSON, the next one ambiguous, and the rest wants EVENT_SOURCE.
func newRedriveWorld(t *testing.T, letters int) *redriveWorld {
	t.Helper()
	w := &redriveWorld{post: newPost(t), api: stellartest.New(stellartest.Config{})}
	running, err := w.api.Start("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.api.Close)
	maps.Copy(w.environ, map[string]string{
		"STELLAR_URL": running.URL(), "STELLAR_USER": stellartest.DefaultUser, "STELLAR_API_KEY": stellartest.DefaultAPIKey, "EVENT_SOURCE": "mended",
	})
	var rs []*kgo.Record
	for i := range letters {
		l := deadletter.Letter{Topic: "detections", Partition: int32(i % 2), Offset: int64(i), Part: -1, Reason: "missing_field", Field: "event_source",
			Certainty: "not_sent", Value: fmt.Appendf(nil, `{"event_name":"e %d","orig_id":"%d"}`, i, i), FailedAt: time.Now()}
		switch i % 10 {
		case 8:
			l.Reason, l.Certainty, l.Part = "ambiguous", "unknown", 0
		case 9:
			l.Reason, l.Field, l.Value = "invalid_json", "", []byte("no json")
		}
		rs = append(rs, l.Record("g.dlq"))
	}
	w.produce(rs...)
	return w
}

// ledger runs a redrive to its end and returns what it says.
func (w *redriveWorld) ledger(args ...string) map[string]any {
	w.t.Helper()
	return lastLine(w.t, w.must(append([]string{"redrive", "--json"}, args...)...), "ledger")
}

func (w *redriveWorld) expect(ledger map[string]any, want map[string]any) {
	w.t.Helper()
	for name, value := range want {
		if fmt.Sprint(ledger[name]) != fmt.Sprint(value) {
			w.t.Errorf("the ledger says %s=%v, want %v", name, ledger[name], value)
		}
	}
}

func TestRedriveUntilNothingIsLeftToDo(t *testing.T) {
	w := newRedriveWorld(t, 100)
	w.expect(w.ledger("--run-id", "r1"), map[string]any{"complete": true, "taken": 90, "redriven": 80, "documents": 80, "failed_again": "map[invalid_json:10]",
		"left_out": "map[ambiguous:10]", "parked": 0, "repeats_possible": 0, "command": "serbridge dlq redrive --json=true"})
	if again := w.dlq("redrive", "--run-id", "r1"); again.code != exitDone || !strings.Contains(again.stderr, "run r1 is complete") {
		t.Errorf("the same run again: %+v", again)
	}
	w.expect(w.ledger(), map[string]any{"taken": 10, "redriven": 0, "failed_again": "map[invalid_json:10]", "left_out": "map[ambiguous:10 handled:90]"})
	w.expect(w.ledger(), map[string]any{"taken": 0, "parked": 10})
	w.expect(w.ledger(), map[string]any{"taken": 0, "parked": 0, "left_out": "map[ambiguous:10 handled:110]"})
	if c := w.census("--all"); c.ByStatus["redriven"] != 80 || c.ByStatus["failed_again"] != 20 || c.ByStatus["parked"] != 10 || c.ByStatus["open"] != 10 {
		t.Errorf("by status %v", c.ByStatus)
	}
	w.expect(w.ledger("--include-ambiguous"), map[string]any{"taken": 10, "redriven": 10})
	w.expect(w.ledger("--status", "parked", "--max-redrives", "3", "--max", "4"), map[string]any{"taken": 4, "failed_again": "map[invalid_json:4]"})
	if l := w.api.Ledger(); l.Distinct != 90 || l.Repeats != 0 {
		t.Errorf("stored %d, %d again", l.Distinct, l.Repeats)
	}
	shown := w.must("show", "0:0")
	for _, want := range []string{"redriven", "r1", operator(), "delivered", "serbridge dlq redrive"} {
		if !strings.Contains(shown, want) {
			t.Errorf("%q is not in %s", want, shown)
		}
	}
}

func TestRedriveRehearsesWithoutATrace(t *testing.T) {
	w := newRedriveWorld(t, 50)
	delete(w.environ, "STELLAR_API_KEY") // nothing is sent
	text := strings.Join(strings.Fields(w.must("redrive", "--dry-run", "--rate", "8", "--topic", "detections")), " ")
	for _, want := range []string{"letters to redrive 45", "missing_field 40", "invalid_json 5", "left out 5", "ambiguous 5", "rejected 5", "documents 40",
		"5s at 8 requests", "nothing was sent or committed"} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not in %s", want, text)
		}
	}
	if w.cluster.TopicInfo("g.dlq.handled") != nil || w.api.Ledger().Documents > 0 || w.census().Letters != 50 {
		t.Error("the rehearsal left a trace")
	}
}

func TestRedriveTakesTheLettersThatAreNamed(t *testing.T) {
	w := newRedriveWorld(t, 40)
	w.must("park", "0:0", "--because", "x")
	w.expect(w.ledger("0:0", "0:1", "1:3"), map[string]any{"taken": 2, "redriven": 2, "left_out": "map[handled:1]"})
	w.expect(w.ledger("--reason", "invalid_json", "--partition", "1", "--max", "2"), map[string]any{"taken": 2, "failed_again": "map[invalid_json:2]"})
	w.expect(w.ledger("0:0", "--status", "parked"), map[string]any{"taken": 1, "redriven": 1})
}

func TestRedriveAsksForWhatItNeeds(t *testing.T) {
	w := newRedriveWorld(t, 4)
	for _, c := range []struct {
		line string
		code int
		want string
	}{
		{"--status redriven", exitUsage, "stored twice|was delivered"},
		{"--status handled", exitUsage, "want open, parked or discarded"},
		{"--max-redrives 0", exitUsage, "--max-redrives"},
		{"--rate 0", exitUsage, "above 0"},
		{"--run-id a/b", exitUsage, "--run-id"},
		{"RATE_LIMIT=0", exitUsage, "bounds a redrive"},
		{"0-1", exitUsage, "PARTITION:OFFSET"},
		{"DLQ_TOPIC=other", exitFailed, "nothing was dead-lettered yet"},
		{"STELLAR_API_KEY=", exitUsage, "STELLAR_API_KEY"},
	} {
		environ, args := maps.Clone(w.environ), []string{"dlq", "redrive"}
		for _, word := range strings.Fields(c.line) {
			if name, value, is := strings.Cut(word, "="); is {
				environ[name] = value
			} else {
				args = append(args, word)
			}
		}
		got := runProgram(program{environ: environ}, args...)
		said := false
		for want := range strings.SplitSeq(c.want, "|") {
			said = said || strings.Contains(got.stderr, want)
		}
		if got.code != c.code || !said {
			t.Errorf("redrive %s: code %d, %s\nwant %d and %q", c.line, got.code, got.stderr, c.code, c.want)
		}
	}
	if w.cluster.TopicInfo("other.handled") != nil {
		t.Error("a handled topic of no dead letters was created")
	}
}

// Interrupted, it says how to go on, and that is true; another run beside it is refused.
func TestRedriveInterruptedGoesOn(t *testing.T) {
	w := newRedriveWorld(t, 60)
	ctx, interrupt := context.WithCancel(t.Context())
	refused := make(chan result, 1)
	go func() {
		_ = w.api.Wait(ctx, func(l stellartest.Ledger) bool { return l.Distinct >= 5 })
		refused <- w.dlq("redrive", "--run-id", "r2")
		interrupt()
	}()
	var stdout, stderr bytes.Buffer
	err := execute(ctx, []string{"dlq", "redrive", "--rate", "10", "--reason", "missing_field", "--run-id", "r1"},
		&program{environ: w.environ, stdout: &stdout, stderr: &stderr})
	if got := <-refused; got.code != exitFailed || !strings.Contains(got.stderr, "another run is active on g.dlq: r1") {
		t.Errorf("beside it: %+v", got)
	}
	if err == nil || exitCode(err) != exitFailed {
		t.Fatalf("got %v", err)
	}
	_, command, said := strings.Cut(err.Error(), "to go on: serbridge dlq ")
	if !said || !strings.Contains(stdout.String(), "the run is not complete") {
		t.Fatalf("%v\n%s", err, stdout.String())
	}
	got := w.dlq(strings.Fields(strings.Replace(command, "--rate=10", "--rate=100", 1))...)
	if got.code != exitDone || !strings.Contains(got.stderr, "run r1 goes on") {
		t.Errorf("%+v", got)
	}
	if l := w.api.Ledger(); l.Distinct != 48 || l.Repeats != 0 {
		t.Errorf("stored %d, %d again", l.Distinct, l.Repeats)
	}
	if c := w.census("--all"); c.ByStatus["redriven"] != 48 || c.ByStatus["open"] != 12 {
		t.Errorf("by status %v", c.ByStatus)
	}
}

// A run of which nothing is left but what fails, while nothing else is delivered, ends by itself: what it holds stays open,
// and the same run goes on once the platform takes it.
func TestRedriveOfNothingButFailuresEnds(t *testing.T) {
	t.Parallel()
	w := newRedriveWorld(t, 30)
	refused := func(r stellartest.Request) bool {
		return bytes.Contains(r.Body, []byte(`"e 3"`)) || bytes.Contains(r.Body, []byte(`"e 7"`))
	}
	w.api.Script(func(r stellartest.Request) stellartest.Fault {
		if refused(r) {
			return stellartest.Fault{Status: 403, Body: "Request blocked"}
		}
		return stellartest.Fault{}
	})
	got := w.dlq("redrive", "--reason", "missing_field", "--run-id", "r1", "--give-up-after", "2s")
	if got.code != exitFailed || !strings.Contains(got.stderr, "nothing is settled any more: 2 offsets are left after 2s") || !strings.Contains(got.stdout, "the run is not complete") {
		t.Fatalf("%+v", got)
	}
	if c := w.census("--all"); c.ByStatus["redriven"] != 22 || c.ByStatus["failed_again"] != 0 {
		t.Errorf("by status %v", c.ByStatus)
	}
	w.api.Script(nil)
	_, command, _ := strings.Cut(strings.TrimSpace(got.stderr), "to go on: serbridge dlq ")
	if again := w.dlq(strings.Fields(command)...); again.code != exitDone {
		t.Errorf("%q: %+v", command, again)
	}
	if c := w.census("--all"); c.ByStatus["redriven"] != 24 || w.api.Ledger().Repeats != 0 {
		t.Errorf("by status %v", c.ByStatus)
	}
}

// Old detections that arrive as New set off playbooks, so a redrive asks; it asks for no letter that is left out.
func TestRedriveAsksWhatOldDetectionsArriveAs(t *testing.T) {
	t.Parallel()
	w := newRedriveWorld(t, 10)
	old := deadletter.Letter{Topic: "detections", Offset: 77, Part: -1, Reason: "missing_field", Value: []byte(`{"event_name":"old"}`), Timestamp: time.Now().Add(-48 * time.Hour)}
	w.produce(old.Record("g.dlq"))
	if got := w.dlq("redrive"); got.code != exitUsage || !strings.Contains(got.stderr, "--event-status") || w.api.Ledger().Documents > 0 {
		t.Fatalf("%+v", got)
	}
	w.expect(w.ledger("--reason", "invalid_json"), map[string]any{"taken": 1})
	w.expect(w.ledger("--event-status", "Closed"), map[string]any{"taken": 10, "redriven": 9})
	for _, d := range w.api.Documents() {
		if !strings.Contains(string(d.Body), `"event_status":"Closed"`) {
			t.Errorf("arrived as %s", d.Body)
		}
	}
}

// What happens now comes before what has happened: a redrive waits while the live group is behind.
func TestRedriveYieldsToTheLiveGroup(t *testing.T) {
	t.Parallel()
	w := newRedriveWorld(t, 10)
	w.produce(&kgo.Record{Topic: "detections", Value: []byte("{}"), Timestamp: time.Now().Add(-time.Hour)})
	if err := kadm.NewClient(w.client).CommitAllOffsets(t.Context(), "g", kadm.Offsets{"detections": {0: {Topic: "detections", LeaderEpoch: -1}}}); err != nil {
		t.Fatal(err)
	}
	live, err := kgo.NewClient(kgo.SeedBrokers(w.cluster.ListenAddrs()...), kgo.ConsumerGroup("g"), kgo.ConsumeTopics("detections"), kgo.DisableAutoCommit())
	if err != nil {
		t.Fatal(err)
	}
	defer live.Close()
	if fs := live.PollFetches(t.Context()); fs.Err() != nil {
		t.Fatal(fs.Err())
	}
	said := &saidLines{words: map[string]func(){
		"the redrive stops: group g is behind": func() {
			if w.api.Ledger().Documents > 0 {
				t.Error("it has not waited")
			}
			if err := live.CommitUncommittedOffsets(t.Context()); err != nil {
				t.Error(err)
			}
		},
		"the redrive goes on": func() {},
	}}
	err = execute(t.Context(), []string{"dlq", "redrive", "--reason", "missing_field"}, &program{environ: w.environ, stdout: said, stderr: said})
	if err != nil || len(said.words) > 0 || w.api.Ledger().Documents != 8 {
		t.Errorf("%v, not said %v, %d documents", err, said.words, w.api.Ledger().Documents)
	}
}

// saidLines calls what belongs to words when they are written, once.
type saidLines struct {
	mu    sync.Mutex
	words map[string]func()
}

func (s *saidLines) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for words, then := range s.words {
		if strings.Contains(string(b), words) {
			delete(s.words, words)
			then()
		}
	}
	return len(b), nil
}
