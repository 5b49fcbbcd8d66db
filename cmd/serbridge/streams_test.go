package main

import (
	"log/slog"
	"slices"
	"strings"
	"testing"

	"serbridge/bridge"
	"serbridge/bridge/secret"
	"serbridge/transform"
)

func TestStreamsFileRulesTransform(t *testing.T) {
	file := write(t, "s.yaml", "- topics: lab\n  event_source: from lab\n  filter: r.id != 2\n")
	in := `{"event_name":"e","id":1}` + "\n" + `{"event_name":"e","id":2}`
	environ := map[string]string{"STREAMS_FILE": file}
	got := runProgram(program{environ: environ, stdin: strings.NewReader(in)}, "transform", "--as-topic", "lab")
	if got.code != exitDone || strings.Count(got.stdout, `"event_source":"from lab"`) != 1 || !strings.Contains(got.stderr, "1 skipped (filtered 1)") {
		t.Errorf("as the topic: %+v", got)
	}
	got = runProgram(program{environ: environ, stdin: strings.NewReader(in)}, "transform")
	if got.code != exitFailed || strings.Count(got.stderr, "missing_field event_source") != 2 {
		t.Errorf("as another topic: %+v", got)
	}
}

// A mistake that started would give a topic the settings of all others, until somebody looks at its alerts.
func TestMalformedStreamsFileStopsEveryCommandThatTransforms(t *testing.T) {
	file := write(t, "s.yaml", "- topics: a\n  format: x\n- topics: b\n  severity_default: 200\n")
	environ := map[string]string{
		"STREAMS_FILE": file, "KAFKA_BROKERS": "127.0.0.1:1", "KAFKA_TOPICS": "t", "STELLAR_URL": "https://h.example", "STELLAR_USER": "u", "STELLAR_API_KEY": "k",
	}
	for _, line := range []string{"run", "replay t --from earliest", "dlq redrive", "transform", "audit t --from earliest"} {
		got := runProgram(program{environ: environ}, strings.Fields(line)...)
		for _, want := range []string{"STREAMS_FILE: " + file + ":2:3: format: unknown key", "STREAMS_FILE: " + file + ":4:21: severity_default: 200"} {
			if got.code != exitUsage || !strings.Contains(got.stderr, want) {
				t.Errorf("%s: code %d, lacks %q: %s", line, got.code, want, got.stderr)
			}
		}
	}
}

func TestStreamsFileRulesTheService(t *testing.T) {
	environ := map[string]string{
		"STREAMS_FILE":  write(t, "s.yaml", "- topics: [t, tt]\n  event_source: lab\n- topics: ^x\n  on_unknown: generic\n"),
		"KAFKA_BROKERS": "127.0.0.1:1", "KAFKA_TOPICS": "t", "STELLAR_URL": "https://h.example", "STELLAR_USER": "u", "STELLAR_API_KEY": "k",
	}
	red := new(secret.Redactor)
	s, err := loadSettings(environ, red)
	if err != nil {
		t.Fatal(err)
	}
	var of func(string) *transform.Settings
	v, err := newService(s, slog.New(slog.DiscardHandler), red, func(c *bridge.Config) { of = c.Transform })
	if err != nil {
		t.Fatal(err)
	}
	v.close()
	if of("t").EventSource != "lab" || of("xy").OnUnknown != "generic" || of("other").EventSource != "" {
		t.Errorf("got %+v, %+v, %+v", of("t"), of("xy"), of("other"))
	}
	if names := s.strangers(); !slices.Equal(names, []string{"tt"}) {
		t.Errorf("named and not consumed: %v", names)
	}
}

func TestStreamsFileRulesAReplay(t *testing.T) {
	w := newReplayWorld(t, 20, recently)
	w.environ["STREAMS_FILE"] = write(t, "s.yaml", "- topics: t\n  filter: 'int(number(r.orig_id)) < 4'\n")
	if got := w.replay("t --from earliest --include-unsettled --dry-run"); got.code != exitDone || !strings.Contains(got.stdout+got.stderr, "filtered") {
		t.Errorf("dry run: %+v", got)
	}
	got := w.replay("t --from earliest --include-unsettled --json")
	if ledger := lastLine(t, got.stdout, "ledger"); got.code != exitDone || ledger["delivered"] != 4.0 {
		t.Errorf("%+v", got)
	}
}

// A letter is read by the settings of the topic it came from, not of the dead-letter topic.
func TestStreamsFileRulesARedriveByTheSourceTopic(t *testing.T) {
	w := newRedriveWorld(t, 10)
	delete(w.environ, "EVENT_SOURCE")
	w.environ["STREAMS_FILE"] = write(t, "s.yaml", "- topics: detections\n  event_source: mended\n")
	if got := w.dlq("redrive", "--dry-run", "--json"); !strings.Contains(got.stdout, `"documents":8`) {
		t.Errorf("dry run: %+v", got)
	}
	w.expect(w.ledger(), map[string]any{"taken": 9, "redriven": 8, "failed_again": "map[invalid_json:1]"})
}
