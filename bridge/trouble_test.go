package bridge

import (
	"bytes"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"serbridge/bridge/admin"
)

func newTestTroubles() (*troubles, *bytes.Buffer, *admin.Health) {
	out, health := new(bytes.Buffer), new(admin.Health)
	return newTroubles(slog.New(slog.NewTextHandler(out, nil)), health), out, health
}

func TestTroubleIsSaidOnceAndItsEndWithHowLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tr, out, health := newTestTroubles()
		for range 1000 {
			tr.begin("gate", "gate closed: busy", "reason", "http_429")
			time.Sleep(time.Second)
		}
		if n := strings.Count(out.String(), "\n"); n != 1 {
			t.Errorf("%d lines for one trouble: the others drown in it", n)
		}
		if !slices.Equal(health.Reasons(), []string{"gate closed: busy"}) {
			t.Errorf("readiness says %q", health.Reasons())
		}
		out.Reset()
		tr.end("gate")
		for _, want := range []string{"recovered", "trouble=gate", "times=1000", "after=16m40s", `from="gate closed: busy"`} {
			if !strings.Contains(out.String(), want) {
				t.Errorf("the end says %q, without %s", out, want)
			}
		}
		if len(health.Reasons()) > 0 {
			t.Errorf("not ready after the end: %q", health.Reasons())
		}
		out.Reset()
		tr.end("gate")
		tr.end("never begun")
		if out.Len() > 0 {
			t.Errorf("an end of nothing says %q", out)
		}
	})
}

func TestTroubleThatChangesIsSaidAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tr, out, health := newTestTroubles()
		tr.begin("gate", "busy")
		time.Sleep(time.Minute)
		tr.begin("gate", "wrong address")
		if !strings.Contains(out.String(), "wrong address") || !slices.Equal(health.Reasons(), []string{"wrong address"}) {
			t.Errorf("log %q, readiness %q: the operator mends what is no longer broken", out, health.Reasons())
		}
		tr.end("gate")
		if !strings.Contains(out.String(), "after=1m0s") {
			t.Errorf("%q: the time counts from its beginning", out)
		}
	})
}

func TestEndOfOneTroubleLeavesTheOthers(t *testing.T) {
	tr, _, health := newTestTroubles()
	tr.begin("gate", "gate closed")
	tr.begin("commit", "no commits")
	tr.end("gate")
	if !slices.Equal(health.Reasons(), []string{"no commits"}) {
		t.Errorf("readiness says %q", health.Reasons())
	}
}
