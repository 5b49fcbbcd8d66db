package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"serbridge/bridge/deadletter"
)

// liveTopic is a broker on loopback with records in partition 0 and 1 of "lab", and an admin client of it.
func liveTopic(t *testing.T, partition0, partition1 []string) (environ map[string]string, admin *kadm.Client) {
	t.Helper()
	cluster, client := newBroker(t, "lab")
	for partition, values := range [][]string{partition0, partition1} {
		for _, v := range values {
			if err := client.ProduceSync(t.Context(), &kgo.Record{Topic: "lab", Partition: int32(partition), Value: []byte(v)}).FirstErr(); err != nil {
				t.Fatal(err)
			}
		}
	}
	return map[string]string{"KAFKA_BROKERS": cluster.ListenAddrs()[0]}, kadm.NewClient(client)
}

func falco(rule, priority string) string {
	return fmt.Sprintf(`{"rule":%q,"priority":%q,"output":"o","output_fields":{"user.name":"eve"},"time":"2026-03-04T05:06:07.890Z"}`, rule, priority)
}

func report(t *testing.T, got result) (r mappingReport) {
	t.Helper()
	if err := json.Unmarshal([]byte(got.stdout), &r); err != nil || got.code != exitDone {
		t.Fatalf("%v in %+v", err, got)
	}
	return r
}

func TestReportOnLiveRecordsCountsAndCommitsNothing(t *testing.T) {
	environ, admin := liveTopic(t, []string{falco("old", "Error"), falco("a", "Error"), falco("b", "Odd"), "no json"}, []string{unknownRecord, storedRecord})
	environ["STREAMS_FILE"] = write(t, "s.yaml", "- topics: lab\n  filter: r.rule != 'a'\n")
	r := report(t, runProgram(program{environ: environ}, "transform", "--topic", "lab", "--last", "5", "--json"))
	if r.Records != 5 || r.Documents != 1 || r.Skipped["filtered"] != 1 || r.Skipped["already_stored"] != 1 || r.Formats["falco"] != 2 {
		t.Errorf("got %+v", r)
	}
	if r.Rejected["invalid_json"] != 1 || !strings.HasPrefix(r.Examples["unknown_format"], "lab:1:0: ") {
		t.Errorf("rejects %v, %v", r.Rejected, r.Examples)
	}
	if r.Defaulted["Odd"] != 1 || r.Fields["event_name"] != 1 || r.Fields["custom_ser_field.serbridge.user"] != 1 || r.Fields["fidelity"] != 0 {
		t.Errorf("defaulted %v, fields %v", r.Defaulted, r.Fields)
	}
	if r.First.IsZero() || r.Last.Before(r.First) {
		t.Errorf("from %v to %v", r.First, r.Last)
	}
	if groups, err := admin.ListGroups(t.Context()); err != nil || len(groups.Groups()) != 0 {
		t.Errorf("groups %v, %v", groups.Groups(), err)
	}
	got := runProgram(program{environ: environ}, "transform", "--topic", "lab")
	for _, want := range []string{"severity defaulted                 1", "event_name                                        100.0 %  2", "fidelity                                            0.0 %  0"} {
		if !strings.Contains(got.stdout, want) {
			t.Errorf("lacks %q: %s", want, got.stdout)
		}
	}
}

func TestReportOnATopicThatIsNotThereSaysSo(t *testing.T) {
	environ, _ := liveTopic(t, nil, nil)
	got := runProgram(program{environ: environ}, "transform", "--topic", "labb")
	if got.code != exitFailed || !strings.Contains(got.stderr, "read topic labb: ") || !strings.Contains(got.stderr, "Describe") {
		t.Errorf("got %+v", got)
	}
	if r := report(t, runProgram(program{environ: environ}, "transform", "--topic", "lab", "--json")); r.Records != 0 {
		t.Errorf("an empty topic: %+v", r)
	}
}

// What would change is told field by field, with the first example, and counts each record once.
func TestAgainstTellsWhatWouldChange(t *testing.T) {
	dir := t.TempDir()
	mapping := "extends: falco\nseverity: {from: r.priority, words: {odd: 77}}\nskip: [{when: r.rule == \"noise\", reason: not_a_detection}]\nfields: {event_name: r.rule, event_type: r.source}\n"
	if err := os.WriteFile(filepath.Join(dir, "falco.yaml"), []byte(mapping), 0o600); err != nil {
		t.Fatal(err)
	}
	in := falco("a", "Odd") + "\n" + falco("noise", "Odd") + "\n" + goodRecord + "\n" + falco("c", "Odd") + "\n"
	got := runProgram(program{stdin: strings.NewReader(in)}, "transform", "--against", dir, "--json")
	r := report(t, got)
	c := r.Against
	if c.Records != 3 || c.Outcomes["falco: 1 document -> falco: 1 skip not_a_detection"] != 1 || len(c.Outcomes) != 1 {
		t.Errorf("got %+v", c)
	}
	if f := c.Fields["severity"]; f == nil || f.Changed != 2 || f.Example != "stdin:1 part 0: 47 -> 77" {
		t.Errorf("severity: %+v", f)
	}
	if f := c.Fields["custom_ser_field.serbridge.severity_defaulted"]; f == nil || f.Removed != 2 {
		t.Errorf("defaulted: %+v", f)
	}
	if c.Fields["custom_ser_field.serbridge.mapping"] != nil || c.Fields["event_name"] != nil {
		t.Errorf("told apart what is the same: %v", c.Fields)
	}
	same := runProgram(program{stdin: strings.NewReader(in)}, "transform", "--against", t.TempDir())
	if same.code != exitDone || !strings.Contains(same.stdout, "records that would differ          0") {
		t.Errorf("the same mappings: %+v", same)
	}
	if broken := runProgram(program{}, "transform", "--against", "/no/such/directory"); broken.code != exitUsage {
		t.Errorf("no directory: %+v", broken)
	}
}

// Whatever names a record brings along, a report does not grow with it.
func TestReportIsBounded(t *testing.T) {
	var in strings.Builder
	for i := range 2 * mostNames {
		fmt.Fprintf(&in, `{"event_name":"e","event_source":"s","severity":"w%d","n%d":1}`+"\n", i, i)
	}
	r := report(t, runProgram(program{stdin: strings.NewReader(in.String())}, "transform", "--against", t.TempDir(), "--json"))
	if len(r.Fields) > mostNames+1 || len(r.Defaulted) > mostNames+1 || r.Fields[otherNames] == 0 || r.Documents != 2*mostNames {
		t.Errorf("%d fields, %d words", len(r.Fields), len(r.Defaulted))
	}
}

func TestReportFlagsAreChecked(t *testing.T) {
	for _, line := range []string{"--topic ^a", "--last 3", "--topic a file", "--topic a --last 0", "--topic a --explain", "--topic a --as-topic b", "--topic a/b"} {
		if got := runProgram(program{}, append([]string{"transform"}, strings.Fields(line)...)...); got.code != exitUsage {
			t.Errorf("%s: %+v", line, got)
		}
	}
}

func TestLastOffsetsAreSpreadOverPartitions(t *testing.T) {
	spans := []deadletter.Span{{Partition: 0, Start: 0, End: 100}, {Partition: 1, Start: 5, End: 7}, {Partition: 2, Start: 0, End: 0}, {Partition: 3, Start: 10, End: 60}}
	got := fmt.Sprint(lastOffsets(spans, 42))
	if want := "[{0 80 100} {1 5 7} {2 0 0} {3 40 60}]"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if got := lastOffsets(spans, 1_000_000); got[0].Start != 0 || got[3].Start != 10 {
		t.Errorf("more than there are: %v", got)
	}
	if spans[0].Start != 0 {
		t.Error("the log's own spans were changed")
	}
}
