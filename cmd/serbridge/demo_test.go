package main

import (
	"bytes"
	"context"
	"encoding/json"
	"strings"
	"testing"
)

// runDemo runs the demo in this process and returns its ledger.
func runDemo(t *testing.T, args ...string) account {
	t.Helper()
	var out, errs bytes.Buffer
	p := &program{stdout: &out, stderr: &errs, stdin: strings.NewReader("")}
	if err := execute(context.Background(), append([]string{"demo", "--json"}, args...), p); err != nil {
		t.Fatalf("demo: %v\n%s%s", err, out.String(), errs.String())
	}
	var a account
	if err := json.Unmarshal(out.Bytes(), &a); err != nil {
		t.Fatalf("%v in %q", err, out.String())
	}
	return a
}

func TestDemoLosesAndRepeatsNothing(t *testing.T) {
	a := runDemo(t, "--records", "1000", "--seed", "7")
	if a.Lost != 0 || a.Duplicates != 0 || a.GoodRefused != 0 {
		t.Errorf("lost %d, duplicates %d, good records dead-lettered %d, want none", a.Lost, a.Duplicates, a.GoodRefused)
	}
	dead := 0
	for reason, n := range a.DeadLettered {
		if n == 0 {
			t.Errorf("reason %s with no record", reason)
		}
		dead += n
	}
	if sum := a.Delivered + dead + a.Skipped; sum != a.Produced || a.Produced != 1000 {
		t.Errorf("delivered %d + dead-lettered %d + skipped %d = %d of %d produced", a.Delivered, dead, a.Skipped, sum, a.Produced)
	}
	for _, reason := range []string{"invalid_json", "missing_field", "unknown_format"} {
		if a.DeadLettered[reason] == 0 {
			t.Errorf("no dead letter %s: the mix is not what it says", reason)
		}
	}
}

func TestDemoOnABadDayLosesNothingAndExplainsItsRepeats(t *testing.T) {
	a := runDemo(t, "--records", "400", "--faults", "--seed", "11")
	if a.Lost != 0 || a.Unexplained != 0 || a.GoodRefused != 0 {
		t.Errorf("lost %d, unexplained duplicates %d, good records dead-lettered %d, want none", a.Lost, a.Unexplained, a.GoodRefused)
	}
}

func TestDemoIsTheSameAgainWithTheSameSeed(t *testing.T) {
	a, b := runDemo(t, "--records", "200", "--seed", "3"), runDemo(t, "--records", "200", "--seed", "3")
	if a.Delivered != b.Delivered || a.Skipped != b.Skipped {
		t.Errorf("delivered %d and %d, skipped %d and %d with one seed", a.Delivered, b.Delivered, a.Skipped, b.Skipped)
	}
}

func TestDemoThatLostARecordFails(t *testing.T) {
	var out bytes.Buffer
	d := &demo{program: &program{stdout: &out, stderr: &out}}
	if err := d.say(account{Produced: 2, Delivered: 1, Lost: 1}); err == nil {
		t.Error("a lost record is no error")
	}
	if !strings.Contains(out.String(), "lost") {
		t.Errorf("the ledger does not say so: %s", out.String())
	}
}
