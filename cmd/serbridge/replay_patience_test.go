package main

import (
	"strings"
	"testing"

	"serbridge/bridge/stellar/stellartest"
)

// Where all that is left may be there already, and nothing was ever found by which a search could be trusted, a replay would
// hold for ever: it ends, leaves what it holds, and goes on once it is told to send again.
func TestReplayOfNothingButSuspectsEnds(t *testing.T) {
	t.Parallel()
	w := newReplayWorld(t, 1, recently)
	w.api.Script(func(r stellartest.Request) stellartest.Fault {
		if r.Kind == stellartest.KindInsert {
			return stellartest.Fault{Status: 200, Body: "{}"} // nobody knows whether it was stored
		}
		return stellartest.Fault{}
	})
	line := "t --from earliest --include-unsettled --run-id r1 --give-up-after 2s ON_AMBIGUOUS=probe PROBE_WAIT=1s DRAIN_TIMEOUT=2s STELLAR_TIMEOUT=1s"
	gaveUp := func(got result) {
		t.Helper()
		if got.code != exitFailed || !strings.Contains(got.stderr, "nothing is settled any more: 1 offsets are left after 2s") ||
			!strings.Contains(got.stderr, "--run-id r1") || !strings.Contains(got.stdout, "the run is not complete") {
			t.Fatalf("%+v", got)
		}
	}
	gaveUp(w.replay(line))
	w.api.Script(nil)
	gaveUp(w.replay(line))
	if got := w.replay(strings.Replace(line, "ON_AMBIGUOUS=probe", "ON_AMBIGUOUS=retry", 1)); got.code != exitDone || w.api.Ledger().Distinct != 1 {
		t.Errorf("%+v, %+v", got, w.api.Ledger())
	}
}

func TestReplayPatienceThatCannotBeMeant(t *testing.T) {
	if got := (&replayWorld{t: t}).replay("t --from earliest --give-up-after -1s"); got.code != exitUsage || !strings.Contains(got.stderr, "--give-up-after") {
		t.Errorf("%+v", got)
	}
}
