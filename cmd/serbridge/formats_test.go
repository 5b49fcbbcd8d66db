package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const falcoRecord = `{"rule":"LAB shell","priority":"Error","output":"o","output_fields":{"user.name":"eve"},"time":"2026-03-04T05:06:07.890Z"}`

func TestFormatsListsShowsAndTests(t *testing.T) {
	got := runProgram(program{}, "formats", "ls")
	for _, want := range []string{"aella_ser", "suricata@", "OCSF", "trivy", "off unless"} {
		if !strings.Contains(got.stdout, want) {
			t.Errorf("ls lacks %q: %s", want, got.stdout)
		}
	}
	if got := runProgram(program{}, "formats", "show", "falco"); !strings.Contains(got.stdout, "output_fields: !object") || got.code != exitDone {
		t.Errorf("show: %+v", got)
	}
	if got := runProgram(program{}, "formats", "show", "nothing"); got.code != exitUsage || !strings.Contains(got.stderr, "falco") {
		t.Errorf("show of nothing: %+v", got)
	}
	if got := runProgram(program{}, "formats", "test"); got.code != exitDone || !strings.Contains(got.stdout, " 0 differences") {
		t.Errorf("test: %+v", got)
	}
}

// A first mapping can be tested as it is, and tells what differs once somebody expects something else.
func TestFormatsNewIsTestedInItsDirectory(t *testing.T) {
	dir := t.TempDir()
	got := runProgram(program{stdin: strings.NewReader(`{"title":"LAB","severity":"high","id":"x"}`)}, "formats", "new", "acme")
	if got.code != exitDone {
		t.Fatalf("new: %+v", got)
	}
	write := func(content string) {
		if err := os.WriteFile(filepath.Join(dir, "acme.yaml"), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(got.stdout)
	if got := runProgram(program{}, "formats", "test", dir); got.code != exitDone || !strings.Contains(got.stdout, "1 cases, 0 differences") {
		t.Errorf("test: %+v", got)
	}
	write(strings.Replace(got.stdout, "{event_source: acme}", "{event_source: other}", 1))
	if got := runProgram(program{}, "formats", "test", dir); got.code != exitFailed || !strings.Contains(got.stdout, `event_source: want "other", got "acme"`) {
		t.Errorf("a case that differs: %+v", got)
	}
	write("nonsense: 1\n")
	if got := runProgram(program{}, "formats", "test", dir); got.code != exitFailed || !strings.Contains(got.stderr, "acme.yaml:1:1: nonsense: unknown key") {
		t.Errorf("a file with a mistake: %+v", got)
	}
}

func TestTransformExplains(t *testing.T) {
	got := runProgram(program{stdin: strings.NewReader(falcoRecord)}, "transform", "--explain")
	for _, want := range []string{"mapping   falco@", "since output_fields is an object", "event_name = LAB shell  <- r.rule", "user.name = eve"} {
		if !strings.Contains(got.stderr, want) {
			t.Errorf("lacks %q: %s", want, got.stderr)
		}
	}
}
