package format

import (
	"strings"
	"testing"
	"time"

	"serbridge/transform"
)

const streamsFile = `
- topics: [falco.lab, falco.prod]
  formats: falco
  event_source: lab
  severity_default: 12
  time_zone: Europe/Berlin
  filter: r.priority != "Debug"
- topics: ^falco\.
  on_unknown: generic
  event_status: Closed
- topics: ^.
  formats: [auto]
`

func TestStreamsGoByNameThenByFirstPattern(t *testing.T) {
	s, err := ReadStreams("s.yaml", []byte(streamsFile))
	if err != nil {
		t.Fatal(err)
	}
	base := &transform.Settings{EventSource: "base", RawBytes: 7}
	of := s.Over(base)
	lab := of("falco.lab")
	if lab.EventSource != "lab" || *lab.SeverityDefault != 12 || lab.TimeZone.String() != "Europe/Berlin" || lab.RawBytes != 7 || lab.OnUnknown != "" {
		t.Errorf("named topic: %+v", lab)
	}
	if other := of("falco.other"); other.OnUnknown != "generic" || other.EventStatus != "Closed" || other.EventSource != "base" || other.Filter != "" {
		t.Errorf("first pattern: %+v", other)
	}
	if other := of("wazuh"); len(other.Formats) != 1 || other.EventStatus != "" {
		t.Errorf("second pattern: %+v", other)
	}
	if base.EventSource != "base" || base.SeverityDefault != nil {
		t.Errorf("base was changed: %+v", base)
	}
	if none := (*Streams)(nil); none.Over(base)("falco.lab") != base || none.Topics() != nil {
		t.Error("no file changes settings")
	}
}

func TestMistakesInStreamsSayWhere(t *testing.T) {
	for content, want := range map[string]string{
		"":                                     "s.yaml:1:1: streams: want a list",
		"topics: a":                            "s.yaml:1:1: streams: want a list",
		"[]":                                   "s.yaml:1:1: streams: want a list",
		"- [":                                  "s.yaml: yaml: line 1",
		"- a":                                  "s.yaml:1:3: streams: want keys and values",
		"- formats: falco":                     "s.yaml:1:3: topics: want the topics",
		"- topics: []":                         "s.yaml:1:11: topics: want at least one",
		"- topics: a b":                        `s.yaml:1:11: topics: "a b": want a topic's name`,
		"- topics: [a, a]":                     `s.yaml:1:15: topics: "a" stands here twice`,
		"- topics: a\n- topics: a":             `s.yaml:2:11: topics: "a" stands here twice`,
		"- topics: ^a(":                        "s.yaml:1:11: topics: want a regular expression",
		"- topics: [^a, b]":                    "topics: a pattern stands alone",
		"- topics: a\n  format: falco":         "s.yaml:2:3: format: unknown key",
		"- topics: a\n  formats: surikata":     `s.yaml:2:12: formats: "surikata": want auto`,
		"- topics: a\n  event_source: ' '":     "s.yaml:2:17: event_source: want a text",
		"- topics: a\n  event_status: closed":  `event_status: "closed": want one of New`,
		"- topics: a\n  severity_default: 101": "severity_default: 101: want a number from 0 to 100",
		"- topics: a\n  severity_default: low": "severity_default: want a whole number",
		"- topics: a\n  time_zone: Local":      `time_zone: "Local": want a name of the IANA`,
		"- topics: a\n  on_unknown: drop":      `on_unknown: "drop": want one of dead-letter, generic`,
		"- topics: a\n  filter: r.a = 1":       "s.yaml:2:15: filter:",
		"- topics: a\n  filter: q.a == 1":      "s.yaml:2:11: filter: undeclared reference to 'q'",
		"- topics: a\n  filter: '\"yes\"'":     "filter: is a string: want a condition",
		"- topics: a\n  topics: b":             `"topics" comes twice`,
		"- topics: a\n---\n- topics: b":        "s.yaml:2:1: streams: want one YAML document",
	} {
		if _, err := ReadStreams("s.yaml", []byte(content)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want %s", content, err, want)
		}
	}
	_, err := ReadStreams("s.yaml", []byte("- topics: a\n  format: x\n  on_unknown: drop\n- formats: y"))
	if err == nil || strings.Count(err.Error(), "s.yaml:") != 4 {
		t.Errorf("not all problems at once: %v", err)
	}
}

// A filter reads a record as its mapping does; what it leaves out is counted, and what it says nothing of is kept.
func TestFilterLeavesOutOnlyWhatItSaysFalseOf(t *testing.T) {
	const (
		aella     = `{"event_name":"n","event_source":"s","site":"a"}`
		guardDuty = `{"schemaVersion":"2.0","accountId":"1","region":"r","arn":"arn:aws:guardduty:r:1:detector/d/finding/f","id":"f","type":"Recon:EC2/X","severity":2,"title":"LAB","updatedAt":"2026-03-04T05:06:07Z","service":{"serviceName":"guardduty"}}`
	)
	for name, tc := range map[string]struct{ record, filter, want string }{
		"mapped, kept":           {falcoAlert, `r.priority != "Debug"`, "documents"},
		"mapped, left out":       {falcoAlert, `r.priority == "Debug"`, "skip filtered"},
		"own format, left out":   {aella, `r.site == "b"`, "skip filtered"},
		"own format, kept":       {aella, `r.site == "a"`, "documents"},
		"says nothing":           {aella, `r.site > 5`, "documents"},
		"says another thing":     {aella, `r.site`, "documents"},
		"unknown, left out":      {`{"netflow":1}`, `has(r.rule)`, "skip filtered"},
		"unknown, kept":          {`{"netflow":1}`, `r.netflow == 1`, "reject unknown_format"},
		"unreadable":             {`{"netflow":`, `false`, "reject invalid_json"},
		"by what is around it":   {`{"records":[` + falcoAlert + `],"tenant":"x"}`, `outer.tenant == "y"`, "skip filtered"},
		"of several, one":        {`[` + falcoAlert + `,` + aella + `]`, `r.site == "a"`, "parts"},
		"case does not count":    {guardDuty, `r.SEVERITY > 100`, "skip filtered"},
		"a mapping's own reason": {`{"records":[]}`, `false`, "skip no_detections"},
	} {
		result := Transform(input(tc.record, &transform.Settings{Filter: tc.filter}))
		got := "documents"
		switch {
		case result.Skip != "":
			got = "skip " + string(result.Skip)
		case result.Reject != nil:
			got = "reject " + string(result.Reject.Reason)
		case len(result.Parts) == 2 && result.Parts[0].Skip == transform.Filtered && result.Parts[1].Document != nil:
			got = "parts"
		}
		if got != tc.want {
			t.Errorf("%s: got %s, want %s", name, got, tc.want)
		}
	}
}

// A filter made costly by a record ends like a mapping that is.
func TestCostlyFilterIsARejectAndNoStall(t *testing.T) {
	record := `{"event_name":"n","event_source":"s","l":[` + strings.Repeat("1,", 2000) + `1]}`
	begun := time.Now()
	result := Transform(input(record, &transform.Settings{Filter: `r.l.all(a, r.l.all(b, a == b || b == a))`}))
	if result.Reject == nil || result.Reject.Reason != transform.MappingCost {
		t.Errorf("got %+v after %s", result, time.Since(begun))
	}
}

func TestExplainSaysThatTheFilterLeftItOut(t *testing.T) {
	for _, record := range []string{falcoAlert, `{"event_name":"n","event_source":"s"}`} {
		if all := Explain(input(record, &transform.Settings{Filter: "has(r.x)"})); len(all) != 1 || !strings.HasPrefix(all[0].Outcome, "skipped: filtered") {
			t.Errorf("got %+v", all)
		}
	}
}

// FuzzReadStreams: whatever the file, no panic, and either streams or errors that name it.
func FuzzReadStreams(f *testing.F) {
	f.Add(streamsFile)
	f.Add("- topics: &a [x]\n  formats: *a\n- !!binary x")
	f.Fuzz(func(t *testing.T, content string) {
		s, err := ReadStreams("s.yaml", []byte(content))
		if err != nil && !strings.HasPrefix(err.Error(), "s.yaml:") {
			t.Errorf("%v does not name the file", err)
		}
		s.Over(new(transform.Settings))("x")
	})
}
