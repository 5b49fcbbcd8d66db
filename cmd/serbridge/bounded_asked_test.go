package main

import (
	"bytes"
	"context"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"

	"serbridge/bridge/backfill"
	"serbridge/bridge/stellar/stellartest"
)

// A second process with another filter or status would deliver what the first left out, or leave out what it was to
// deliver, and nobody would know which half is whose.
func TestReplaySharedWithOtherFlagsIsRefused(t *testing.T) {
	t.Parallel()
	w := newReplayWorld(t, 60, recently)
	begun := "t --from earliest --include-unsettled --run-id r1 --status Closed --rate 10"
	ctx, interrupt := context.WithCancel(t.Context())
	refused := make(chan result, 5)
	go func() {
		_ = w.api.Wait(ctx, func(l stellartest.Ledger) bool { return l.Distinct >= 3 })
		for _, line := range []string{
			strings.Replace(begun, "Closed", "Ignored", 1),
			begun + " --filter document.severity>3 --skip-delivered=false",
			begun + " --limit 7",
			strings.Replace(begun, "earliest", "-2h", 1),
			"t --run-id r1 --status as-mapped",
		} {
			refused <- w.replay(line)
		}
		interrupt()
	}()
	var out bytes.Buffer
	err := execute(ctx, append([]string{"replay"}, strings.Fields(begun)...), &program{environ: w.environ, stdout: &out, stderr: &out})
	if err == nil {
		t.Fatal("it was not interrupted")
	}
	for _, flags := range []string{"--status.", "--filter, --skip-delivered.", "--limit.", "--from.", "--status."} {
		if got := <-refused; got.code != exitUsage || !strings.Contains(got.stderr, "it has another value of "+flags) {
			t.Errorf("want %s: %+v", flags, got)
		}
	}
	if got := w.replay("t --run-id r1 --status Closed --rate 1000"); got.code != exitDone { // what rules the beginning may be left out
		t.Errorf("the rest: %+v", got)
	}
	if l := w.api.Ledger(); l.Distinct != 54 || l.Repeats != 0 {
		t.Errorf("stored %d, %d again", l.Distinct, l.Repeats)
	}
	if got := w.replay("t --run-id r1"); got.code != exitDone || !strings.Contains(got.stderr, "is complete") {
		t.Errorf("of a complete run: %+v", got)
	}
}

// Half of a run made by another mapping, or delivered to another platform, is neither's. Whoever has mended what was wrong
// and means it may go on, once it is alone, and then the others have to be mended too.
func TestReplaySharedWithOtherSettingsIsRefused(t *testing.T) {
	t.Parallel()
	w := newReplayWorld(t, 60, recently)
	streams := func(status string) string {
		path := filepath.Join(t.TempDir(), "streams.yaml")
		if err := os.WriteFile(path, []byte("- topics: [t]\n  event_status: "+status+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	begun := "t --run-id r1 STREAMS_FILE=" + streams("Closed")
	mended := "t --run-id r1 EVENT_SOURCE=mended STREAMS_FILE=" + streams("Ignored")
	ctx, interrupt := context.WithCancel(t.Context())
	refused := make(chan result, 4)
	go func() {
		_ = w.api.Wait(ctx, func(l stellartest.Ledger) bool { return l.Distinct >= 3 })
		for _, line := range []string{mended, mended + " --new-settings", begun + " STELLAR_URL=http://127.0.0.1:1 RAW_BYTES=0", "t --run-id r1"} {
			refused <- w.replay(line)
		}
		interrupt()
	}()
	environ := maps.Clone(w.environ)
	environ["STREAMS_FILE"] = streams("Closed") // another file that says the same is the same
	var out bytes.Buffer
	err := execute(ctx, strings.Fields("replay t --from earliest --include-unsettled --run-id r1 --rate 10"), &program{environ: environ, stdout: &out, stderr: &out})
	if err == nil {
		t.Fatal("it was not interrupted")
	}
	for _, words := range []string{"STREAMS_FILE, EVENT_SOURCE. ", "end them first", "RAW_BYTES, STELLAR_URL. ", "STREAMS_FILE. "} {
		if got := <-refused; got.code == exitDone || !strings.Contains(got.stderr, words) || words != "end them first" && !strings.Contains(got.stderr, "--new-settings") {
			t.Errorf("want %s: %+v", words, got)
		}
	}
	before := w.api.Ledger().Distinct
	for line, words := range map[string]string{mended: "EVENT_SOURCE. ", mended + " --new-settings --status Closed": "--status. "} {
		if got := w.replay(line); got.code != exitUsage || !strings.Contains(got.stderr, words) {
			t.Errorf("want %s: %+v", words, got)
		}
	}
	if got := w.replay(mended + " --new-settings --rate 1000"); got.code != exitDone {
		t.Fatalf("the rest: %+v", got)
	}
	if l := w.api.Ledger(); l.Distinct != 54 || l.Repeats != 0 {
		t.Errorf("stored %d, %d again", l.Distinct, l.Repeats)
	}
	ignored := 0
	for _, d := range w.api.Documents() {
		if strings.Contains(string(d.Body), `"event_status":"Ignored"`) {
			ignored++
		}
	}
	if ignored != 54-before {
		t.Errorf("%d of %d are as mended", ignored, 54-before)
	}
}

// A name that was mistyped would deliver the whole range again.
func TestNewSettingsBeginNoRun(t *testing.T) {
	t.Parallel()
	w := newReplayWorld(t, 4, recently)
	got := w.replay("t --from earliest --include-unsettled --run-id nope --new-settings --rate 1000")
	if got.code != exitUsage || !strings.Contains(got.stderr, "run nope: there is none of this name") || w.api.Ledger().Distinct != 0 {
		t.Errorf("%+v, %d stored", got, w.api.Ledger().Distinct)
	}
}

// What was mended is asked of everybody from then on.
func TestRunThatWasMendedRefusesTheFormerSettings(t *testing.T) {
	t.Parallel()
	w := newReplayWorld(t, 4, recently)
	with := func(source string) *boundedRun {
		r := &boundedRun{name: "replay", flags: pflag.NewFlagSet("", pflag.ContinueOnError), newSettings: source == "mended",
			pins: append([]pin{{flag: "filter"}}, settingPins...), run: backfill.Run{Admin: w.admin, Group: "live.backfill.r1", ID: "r1"}}
		r.flags.String("filter", "a", "")
		r.settings.Transform.EventSource = source
		return r
	}
	first, mended := with("first"), with("mended")
	plan, err := backfill.Resolve(t.Context(), w.admin, backfill.Request{Topics: []string{"t"}})
	if err != nil {
		t.Fatal(err)
	}
	plan.Asked = first.asked()
	if err := first.run.Seed(t.Context(), plan); err != nil {
		t.Fatal(err)
	}
	if _, err := mended.goOn(t.Context(), &plan); err != nil {
		t.Fatal(err)
	}
	kept, _, err := first.run.Read(t.Context(), []string{"t"})
	if err != nil || kept.Left() != plan.Left() {
		t.Fatal(kept, err)
	}
	if err := first.agree(kept); !errors.Is(err, errOtherwise) || !strings.Contains(err.Error(), "EVENT_SOURCE") {
		t.Error(err)
	}
	if err := mended.agree(kept); err != nil {
		t.Error(err)
	}
}

// Who began a run at the same moment with other flags is found out before the first record: the bounds of one of the two stand.
func TestReplayBegunTwiceAtATimeIsOneOfThem(t *testing.T) {
	t.Parallel()
	w := newReplayWorld(t, 40, recently)
	done := make(chan result, 4)
	for _, status := range []string{"Closed", "Ignored", "Closed", "Ignored"} {
		go func() {
			done <- w.replay("t --from earliest --include-unsettled --run-id r1 --rate 1000 --status " + status)
		}()
	}
	complete := 0
	for range 4 {
		switch got := <-done; {
		case got.code == exitDone:
			complete++
		case !strings.Contains(got.stderr, "it has another value of --status"):
			t.Errorf("%+v", got)
		}
	}
	closed := 0
	for _, d := range w.api.Documents() {
		if strings.Contains(string(d.Body), `"event_status":"Closed"`) {
			closed++
		}
	}
	if all := len(w.api.Documents()); complete == 0 || all != 36 || closed != 0 && closed != all {
		t.Errorf("%d processes came to the end; %d of %d documents are Closed", complete, closed, all)
	}
}

func TestRedriveSharedWithOtherFlagsIsRefused(t *testing.T) {
	t.Parallel()
	w := newRedriveWorld(t, 40)
	ctx, interrupt := context.WithCancel(t.Context())
	refused := make(chan result, 5)
	go func() {
		_ = w.api.Wait(ctx, func(l stellartest.Ledger) bool { return l.Distinct >= 3 })
		for _, line := range []string{"--reason missing_field --to topic=detections", "--reason missing_field,invalid_json", "", "0:0 --reason missing_field --include-ambiguous"} {
			refused <- w.dlq(append([]string{"redrive", "--run-id", "r1"}, strings.Fields(line)...)...)
		}
		other := maps.Clone(w.environ)
		other["ON_UNKNOWN"] = "generic"
		refused <- runProgram(program{environ: other}, strings.Fields("dlq redrive --run-id r1 --reason missing_field")...)
		interrupt()
	}()
	var out bytes.Buffer
	if err := execute(ctx, strings.Fields("dlq redrive --rate 8 --reason missing_field --run-id r1"), &program{environ: w.environ, stdout: &out, stderr: &out}); err == nil {
		t.Fatal("it was not interrupted")
	}
	for _, flags := range []string{"--to.", "--reason.", "--reason.", "--include-ambiguous, the letters that are named.", "ON_UNKNOWN."} {
		if got := <-refused; got.code != exitUsage || !strings.Contains(got.stderr, "it has another value of "+flags) {
			t.Errorf("want %s: %+v", flags, got)
		}
	}
	w.expect(w.ledger("--reason", "missing_field", "--run-id", "r1"), map[string]any{"complete": true})
}

// Between the look at a run and the first member of it another process may have kept other bounds: no record is begun then.
func TestRunReplacedBeforeItHasMembersBeginsNothing(t *testing.T) {
	t.Parallel()
	w := newReplayWorld(t, 4, recently)
	mine := func(filter string) *boundedRun {
		r := &boundedRun{name: "replay", flags: pflag.NewFlagSet("", pflag.ContinueOnError), pins: []pin{{flag: "filter"}},
			run: backfill.Run{Admin: w.admin, Group: "live.backfill.r1", ID: "r1"}}
		r.flags.String("filter", filter, "")
		return r
	}
	first, other := mine("a"), mine("b")
	plan, err := backfill.Resolve(t.Context(), w.admin, backfill.Request{Topics: []string{"t"}})
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range []*boundedRun{first, other} {
		plan.Asked = r.asked()
		if err := r.run.Seed(t.Context(), plan); err != nil {
			t.Fatal(err)
		}
	}
	for r, refused := range map[*boundedRun]bool{first: true, other: false} {
		ctx, stop := context.WithCancelCause(t.Context())
		err := (&agreement{run: r}).begin(ctx, plan, stop)
		if errors.Is(err, errOtherwise) != refused || (err != nil) != refused {
			t.Errorf("filter %s: %v", r.flags.Lookup("filter").Value, err)
		}
	}
}

// Records grow old while a run is interrupted. Who goes on with it must not be asked for a --status, and then be refused for it.
func TestReplayThatGoesOnAsksForNoStatus(t *testing.T) {
	t.Parallel()
	w := newReplayWorld(t, 20, func(int) time.Time { return time.Now().Add(-48 * time.Hour) })
	plan, err := backfill.Resolve(t.Context(), w.admin, backfill.Request{Topics: []string{"t"}})
	if err != nil {
		t.Fatal(err)
	}
	if err := (backfill.Run{Admin: w.admin, Group: "live.backfill.r1", ID: "r1"}).Seed(t.Context(), plan); err != nil {
		t.Fatal(err)
	}
	if got := w.replay("t --run-id r1"); got.code != exitDone || w.api.Ledger().Distinct != 18 {
		t.Errorf("%+v", got)
	}
}
