package main

import (
	"strings"
	"testing"

	"serbridge/bridge/stellar/stellartest"
)

// What receipts say is there is left out; whatever the receipts do not say is sent: the same to another platform, or as
// another user, and what the live group's mapping of then did not make.
func TestReplaySkipsWhatReceiptsSayIsThere(t *testing.T) {
	t.Parallel()
	w := newDeliveredWorld(t, 100)
	before := w.sent()
	got := w.command("replay t --from earliest --rate 10000 --json")
	ledger := lastLine(t, got.stdout, "ledger")
	skipped := ledger["skipped"].(map[string]any)
	if got.code != exitDone || w.sent() != before || skipped["already_delivered"] != 90.0 || ledger["delivered"] != 0.0 || ledger["records"] != 100.0 {
		t.Fatalf("%+v", got)
	}
	dry := w.command("replay t --from earliest --rate 10000 --dry-run")
	if dry.code != exitDone || !strings.Contains(dry.stdout, "already_delivered") || !strings.Contains(dry.stderr, "--skip-delivered=false") {
		t.Errorf("rehearsed: %+v", dry)
	}
	if l := w.api.Ledger(); l.Repeats != 0 {
		t.Errorf("%d repeats", l.Repeats)
	}
	w.replayed("--skip-delivered=false", 90)

	other := stellartest.New(stellartest.Config{})
	running, err := other.Start("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(other.Close)
	first := w.environ["STELLAR_URL"]
	w.environ["STELLAR_URL"] = running.URL()
	w.replayed("", 90)
	w.replayed("", 0) // what the replay delivered is there as well
	w.environ["STELLAR_URL"] = first
	delete(w.environ, "RECEIPTS_TOPIC")
	if got := w.command("replay t --from earliest --rate 10000 --skip-delivered"); got.code != exitUsage || !strings.Contains(got.stderr, "RECEIPTS_TOPIC") {
		t.Errorf("without receipts: %+v", got)
	}
	w.replayed("", 90)
	w.environ["RECEIPTS_TOPIC"] = "nosuch"
	if got := w.command("replay t --from earliest --rate 10000 --dry-run"); got.code != exitDone || !strings.Contains(got.stderr, "there are no receipts") {
		t.Errorf("with a topic that is not there: %+v", got)
	}
}

// replayed runs a replay that delivers so many documents.
func (w *deliveredWorld) replayed(flags string, want int) {
	w.t.Helper()
	got := w.command("replay t --from earliest --rate 10000 --json " + flags)
	if delivered := lastLine(w.t, got.stdout, "ledger")["delivered"]; got.code != exitDone || delivered != float64(want) {
		w.t.Errorf("replay %s: %v delivered, want %d: %+v", flags, delivered, want, got)
	}
}

// A filter decides document by document what is sent; what it does not mean is no dead letter.
func TestReplayDeliversWhatTheFilterMeans(t *testing.T) {
	t.Parallel()
	w := newReplayWorld(t, 100, recently)
	run := func(filter string, more ...string) result {
		return runProgram(program{environ: w.environ}, append([]string{"replay", "t", "--from", "earliest", "--include-unsettled", "--json", "--filter", filter}, more...)...)
	}
	got := run(`int(record.orig_id) < 50 && document.event_source == "s"`)
	ledger := lastLine(t, got.stdout, "ledger")
	if got.code != exitDone || ledger["delivered"] != 45.0 || ledger["skipped"].(map[string]any)["filtered"] != 55.0 || len(ledger["dead_lettered"].(map[string]any)) != 0 {
		t.Errorf("%+v", got)
	}
	found := lastLine(t, run(`partition == 1 && offset < 10`, "--dry-run").stdout, "findings")["found"].(map[string]any)
	if found["documents"] != 8.0 || found["rejected"].(map[string]any)["invalid_json"] != 2.0 {
		t.Errorf("rehearsed: %v", found)
	}
	if bad := run(`document.severity >=`); bad.code != exitUsage || !strings.Contains(bad.stderr, "--filter") || !strings.Contains(bad.stderr, "1:21") {
		t.Errorf("%+v", bad)
	}
}
