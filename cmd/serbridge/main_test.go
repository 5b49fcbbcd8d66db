package main

import (
	"bytes"
	"encoding/json"
	"runtime/debug"
	"strings"
	"syscall"
	"testing"
)

// result is what one command line did.
type result struct {
	stdout, stderr string
	code           int
}

func runProgram(p program, args ...string) result {
	var stdout, stderr bytes.Buffer
	if p.stdin == nil {
		p.stdin = strings.NewReader("")
	}
	if p.stdout == nil {
		p.stdout = &stdout
	}
	p.stderr = &stderr
	code := run(args, &p)
	return result{stdout.String(), stderr.String(), code}
}

func TestExitCodes(t *testing.T) {
	for _, c := range []struct {
		args string
		code int
		want string // on standard error
	}{
		{"", exitDone, ""},
		{"--help", exitDone, ""},
		{"help settings", exitDone, ""},
		{"version", exitDone, ""},
		{"version --jsom", exitUsage, "unknown flag"},
		{"version now", exitUsage, "unknown command"},
		{"verzion", exitUsage, "unknown command"},
		{"transform /does/not/exist", exitFailed, "/does/not/exist"},
		{"simulator --token-lifetime -1s", exitUsage, "--token-lifetime"},
		{"simulator --token-lifetime 0s", exitUsage, "--token-lifetime"},
		{"verz\x1b[2Jion", exitUsage, `\x1b[2J`},
	} {
		got := runProgram(program{}, strings.Fields(c.args)...)
		if got.code != c.code || !strings.Contains(got.stderr, c.want) || c.want == "" && got.stderr != "" {
			t.Errorf("serbridge %q: got code %d and %q, want %d and %q", c.args, got.code, got.stderr, c.code, c.want)
		}
		if strings.Contains(got.stderr, "\x1b") {
			t.Errorf("serbridge %q: control characters on the terminal", c.args)
		}
	}
}

type full struct{}

func (full) Write([]byte) (int, error) { return 0, syscall.ENOSPC }

// What could not be written was not done, whichever command wrote it: a script would go on with half a file.
func TestFullDiskIsNoSuccess(t *testing.T) {
	for _, args := range []string{"", "--help", "help", "help settings", "help run", "run --help", "version", "version --json", "formats ls", "formats show suricata", "simulator --list-faults", "completion bash"} {
		got := runProgram(program{stdout: full{}}, strings.Fields(args)...)
		if got.code != exitFailed || !strings.Contains(got.stderr, "no space left") {
			t.Errorf("serbridge %q: code %d and %q, want %d and why", args, got.code, got.stderr, exitFailed)
		}
	}
}

func TestMalformedSettingsExitWithUsage(t *testing.T) {
	got := runProgram(program{environ: map[string]string{"RAW_BYTES": "much", "MAX_FANOUT": "0"}}, "transform")
	if got.code != exitUsage || !strings.Contains(got.stderr, "RAW_BYTES=") || !strings.Contains(got.stderr, "MAX_FANOUT=") {
		t.Errorf("got %+v", got)
	}
}

func TestVersionNamesTheBuild(t *testing.T) {
	vcs := []debug.BuildSetting{{Key: "vcs.revision", Value: "abc123"}, {Key: "vcs.time", Value: "2026-01-31T08:00:00Z"}, {Key: "vcs.modified", Value: "true"}}
	for _, c := range []struct {
		name    string
		stamped string
		info    *debug.BuildInfo
		want    string
	}{
		{"stamped", "v1.2.3", &debug.BuildInfo{Main: debug.Module{Version: "v0.0.0"}}, "serbridge v1.2.3, go"},
		{"module", "", &debug.BuildInfo{Main: debug.Module{Version: "v1.0.0"}}, "serbridge v1.0.0, go"},
		{"checkout", "", &debug.BuildInfo{Main: debug.Module{Version: "(devel)"}, Settings: vcs}, "serbridge (devel), commit abc123 (modified), go"},
		{"nothing", "", nil, "serbridge (devel), go"},
	} {
		if got := describeBuild(c.stamped, c.info).String(); !strings.HasPrefix(got, c.want) {
			t.Errorf("%s: got %q, want %q…", c.name, got, c.want)
		}
	}
}

func TestVersionJSON(t *testing.T) {
	got := runProgram(program{}, "version", "--json")
	var b build
	if err := json.Unmarshal([]byte(got.stdout), &b); err != nil || b.Version == "" || !strings.HasPrefix(b.Go, "go") {
		t.Errorf("got %q, %v", got.stdout, err)
	}
}

func TestEnvironmentKeepsEqualSigns(t *testing.T) {
	got := environment([]string{"A=b=c", "EMPTY=", "ODD"})
	if got["A"] != "b=c" || got["EMPTY"] != "" || len(got) != 3 {
		t.Errorf("got %v", got)
	}
}

func TestEscapeKeepsTerminalsSafe(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{"plain äöü 漢字 🙂", "plain äöü 漢字 🙂"},
		{"\x1b[2J", `\u001b[2J`},
		{"\u009b2J", `\u009b2J`},           // the one-character form of the same
		{"a\u202eb", `a\u202eb`},           // right to left from here
		{"a\U000e0041b", `a\udb40\udc41b`}, // an invisible letter
		{"a\nb\rc\x7f", `a\u000ab\u000dc\u007f`},
	} {
		if got := escape(c.in); got != c.want {
			t.Errorf("escape(%q) = %s, want %s", c.in, got, c.want)
		}
	}
	if got := escapeLines("a\nb\r"); got != "a\nb\\u000d" {
		t.Errorf("escapeLines: got %q", got)
	}
}

// FuzzEscape: the result holds only printable characters, and inside a JSON string it means the same.
func FuzzEscape(f *testing.F) {
	f.Add("a\x1b[31m\u202e\U000e0041\"\\")
	f.Fuzz(func(t *testing.T, s string) {
		s = strings.ToValidUTF8(s, "\ufffd")
		text, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		shown := escape(string(text))
		if escape(shown) != shown {
			t.Errorf("%q: something is left to escape in %q", s, shown)
		}
		var back string
		if err := json.Unmarshal([]byte(shown), &back); err != nil || back != s {
			t.Errorf("%q reads back as %q, %v", s, back, err)
		}
	})
}
