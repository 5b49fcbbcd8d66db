package format

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	"serbridge/transform"
)

// falcoAlert is a small detection to wrap.
const falcoAlert = `{"rule":"LAB","priority":"Warning","output":"o","output_fields":{},"time":"2026-03-04T05:06:07.890Z","uuid":"u-1"}`

var quotedAlert = strconv.Quote(falcoAlert)

func TestEnvelopesComeOff(t *testing.T) {
	for name, record := range map[string]string{
		"none":                      falcoAlert,
		"blanks and mark":           "\uFEFF \n" + falcoAlert,
		"array":                     "[" + falcoAlert + "]",
		"EventBridge":               `{"version":"0","detail-type":"x","source":"lab","detail":` + falcoAlert + `}`,
		"Event Hubs":                `{"records":[` + falcoAlert + `]}`,
		"SNS":                       `{"Type":"Notification","MessageId":"1","TopicArn":"arn","Message":` + quotedAlert + `}`,
		"findings":                  `{"Findings":[` + falcoAlert + `]}`,
		"Elasticsearch hit":         `{"_index":"i","_id":"1","_source":` + falcoAlert + `}`,
		"Filebeat":                  `{"@timestamp":"2026-03-04T06:00:00Z","message":` + quotedAlert + `,"log":{"offset":1}}`,
		"event.original, nested":    `{"event":{"original":` + quotedAlert + `}}`,
		"event.original, flat":      `{"event.original":` + quotedAlert + `}`,
		"Fluent Bit":                `{"stream":"stdout","log":` + quotedAlert + `}`,
		"HEC":                       `{"time":1772600767,"sourcetype":"falco","event":` + falcoAlert + `}`,
		"HEC with text":             `{"time":1772600767,"sourcetype":"falco","event":` + quotedAlert + `}`,
		"CloudEvents":               `{"specversion":"1.0","type":"t","source":"s","data":` + falcoAlert + `}`,
		"Kafka Connect":             `{"schema":null,"payload":` + falcoAlert + `}`,
		"Kafka Connect with text":   `{"schema":{"type":"string"},"payload":` + quotedAlert + `}`,
		"Graph list":                `{"@odata.context":"c","value":[` + falcoAlert + `]}`,
		"text":                      quotedAlert,
		"syslog, new":               "<134>1 2026-03-04T05:06:08Z lab falco - - - " + falcoAlert,
		"syslog, old":               "<134>Mar  4 05:06:08 lab falco: " + falcoAlert,
		"one in another in a third": `{"detail-type":"x","detail":{"records":[{"_id":"1","_source":{"message":` + quotedAlert + `}}]}}`,
	} {
		t.Run(name, func(t *testing.T) {
			d, m := document(t, record, nil)
			if d.Format() != "falco" || at(m, "orig_id") != "u-1" || fmt.Sprint(at(m, "timestamp")) != "1772600767890" {
				t.Errorf("%s: %v", d.Format(), m)
			}
			if plain, _ := document(t, falcoAlert, nil); d.DedupKey() != plain.DedupKey() {
				t.Error("the envelope changed the dedup_key")
			}
		})
	}
}

// One bad part of several costs none of the others, and every part keeps its number.
func TestPartsStandEachForThemselves(t *testing.T) {
	const flow = `{"event_type":"flow","src_ip":"10.0.0.1"}`
	want := []string{"falco", "not_a_detection", "unknown_format", "falco"}
	for name, record := range map[string]string{
		"array":   "[" + strings.Join([]string{falcoAlert, flow, `{"x":1}`, falcoAlert}, ",") + "]",
		"records": `{"records":[` + strings.Join([]string{falcoAlert, flow, `7`, falcoAlert}, ",") + "]}",
		"lines":   strings.Join([]string{falcoAlert, flow, `{"x":1}`, "", falcoAlert}, "\n"),
	} {
		var got []string
		for _, p := range Transform(input(record, nil)).Parts {
			switch {
			case p.Document != nil:
				got = append(got, p.Document.Format())
			case p.Reject != nil:
				got = append(got, string(p.Reject.Reason))
			default:
				got = append(got, string(p.Skip))
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: got %v, want %v", name, got, want)
		}
	}
	result := Transform(input(falcoAlert+"\n{broken\n"+falcoAlert, nil))
	if len(result.Parts) != 3 || result.Parts[1].Reject == nil || result.Parts[1].Reject.Reason != transform.InvalidJSON {
		t.Errorf("a broken line: %+v", result)
	}
}

// Each document of several holds the native record of its own detection.
func TestPartsKeepTheirOwnRecord(t *testing.T) {
	second := strings.Replace(falcoAlert, "u-1", "u-2", 1)
	result := Transform(input("["+falcoAlert+","+second+"]", nil))
	for i, want := range []string{falcoAlert, second} {
		m := decoded(t, result.Parts[i].Document, nil)
		if got := at(m, "custom_ser_field", "serbridge", "raw_json"); got != want {
			t.Errorf("part %d: %v", i, got)
		}
	}
	if result.Parts[0].Document.DedupKey() == result.Parts[1].Document.DedupKey() {
		t.Error("one dedup_key for two detections")
	}
}

func TestHostileNestingIsBounded(t *testing.T) {
	for name, tc := range map[string]struct {
		record string
		want   transform.Reason
	}{
		"envelopes": {strings.Repeat(`{"records":[`, 20) + falcoAlert + strings.Repeat("]}", 20), transform.TooDeep},
		"fan-out":   {"[" + strings.Repeat(falcoAlert+",", 10) + falcoAlert + "]", transform.TooManyDocuments},
		"depth":     {`{"message":"` + strings.Repeat("[", 70) + `"}`, transform.TooDeep},
	} {
		result := Transform(input(tc.record, &transform.Settings{MaxFanout: 10}))
		if result.Reject == nil || result.Reject.Reason != tc.want {
			t.Errorf("%s: %+v", name, result)
		}
	}
}

// A list of many elements that each look at a large record does not multiply what the record may cost: a megabyte took an
// hour. What was mapped before the limit is kept, and the rest says why it was not.
func TestAListDoesNotMultiplyWhatARecordMayCost(t *testing.T) {
	const left = 50_000 // steps
	list := func(element string, n int) string { return "[" + strings.Repeat(element+",", n-1) + element + "]" }
	for name, members := range map[string]string{
		"a loop over a list of the whole": `"title":"t","tags":` + list(`""`, 2_000) + `,"matches":` + list(`{"a":1}`, 100),
		"a text of the whole":             `"title":"` + strings.Repeat("t", 100_000) + `","matches":` + list(`{"a":1}`, 100),
		"a pattern over a text of it":     `"title":"t","tags":["` + strings.Repeat("a", 100_000) + `"],"matches":` + list(`{"a":1}`, 100),
		"a text of a deep value":          `"title":"t","id":{"deep":` + list(`1`, 2_000) + `},"matches":` + list(`{"a":1}`, 100),
		"the whole as the identity":       `"title":"","id":"","tags":[],"more":` + list(`1`, 200_000) + `,"matches":` + list(`""`, 100),
	} {
		tree, reject := transform.Read(&transform.Input{Value: []byte(`{"sigmafile":"f","rule_level":"high","count":1,` + members + `}`)})
		if reject != nil {
			t.Fatal(name, reject.Detail)
		}
		found := detections{most: 100, spent: recordLimit - left}
		builtIn().byName["zircolite"].mapLeaf(&found, &leaf{record: tree.Root}, &transform.Input{Now: caseTime})
		mapped := 0
		for _, d := range found.all {
			switch {
			case d.Reject == nil:
				mapped++
			case d.Reject.Reason != transform.MappingCost:
				t.Fatalf("%s: %+v", name, d.Reject)
			}
		}
		if len(found.all) != 100 || mapped == 0 || mapped > 60 {
			t.Errorf("%s: %d of %d were mapped in %d steps", name, mapped, len(found.all), left)
		}
	}
}

// A record of too many detections is refused whole: to map the rest of them would be work for nothing.
func TestMappingEndsWithTheFanOut(t *testing.T) {
	m := builtIn().byName["zircolite"]
	tree, _ := transform.Read(&transform.Input{Value: []byte(`{"title":"t","matches":[` + strings.Repeat(`{"a":1},`, 50) + `{}]}`)})
	found := detections{most: 3}
	m.mapLeaf(&found, &leaf{record: tree.Root}, &transform.Input{Now: caseTime})
	if len(found.all) != 4 {
		t.Errorf("%d detections were mapped where 3 are allowed", len(found.all))
	}
}

// Each leaf gathers the facts around it for itself.
func TestFactsOfAnEnvelopeAreBounded(t *testing.T) {
	members := make([]transform.Member, 5*maxFacts)
	for i := range members {
		members[i].Name = fmt.Sprint(i)
	}
	l := leaf{outer: []transform.Value{transform.Object(members...), transform.Object(transform.Member{Name: "near", Value: transform.Bool(true)})}}
	if facts := l.facts(); facts.Len() != maxFacts || facts.Members()[0].Name != "near" {
		t.Errorf("%d facts, the first %q", facts.Len(), facts.Members()[0].Name)
	}
}

// What is skipped makes no document, and does not count.
func TestSkippedPartsAreNoFanOut(t *testing.T) {
	const flow = `{"event_type":"flow","src_ip":"10.0.0.1"},`
	result := Transform(input("["+strings.Repeat(flow, 30)+falcoAlert+"]", &transform.Settings{MaxFanout: 1}))
	if result.Reject != nil || len(result.Parts) != 31 {
		t.Errorf("got %+v", result.Reject)
	}
}

func TestFormatsNarrowAndForce(t *testing.T) {
	const trivy = `{"SchemaVersion":2,"ArtifactName":"a","CreatedAt":"2026-03-04T05:06:07Z","Results":[{"Target":"t","Secrets":[{"RuleID":"r","Title":"LAB key","Severity":"HIGH"}]}]}`
	const bare = `{"rule":"LAB","time":"2026-03-04T05:06:07Z"}` // without what Falco is recognised by
	for name, tc := range map[string]struct {
		record  string
		formats []string
		want    string
	}{
		"narrowed away":     {falcoAlert, []string{"suricata", "zeek"}, "reject unknown_format"},
		"narrowed to":       {falcoAlert, []string{"suricata", "falco"}, "falco"},
		"off":               {trivy, nil, "skip format_off"},
		"switched on":       {trivy, []string{"auto", "trivy"}, "trivy"},
		"named alone":       {trivy, []string{"trivy"}, "trivy"},
		"forced":            {bare, []string{"falco"}, "falco"},
		"not forced":        {bare, nil, "reject unknown_format"},
		"forced on nothing": {`{"a":1}`, []string{"falco"}, "reject unknown_format"},
		"no detection":      {`{"event_type":"flow","src_ip":"1.1.1.1"}`, []string{"suricata"}, "skip not_a_detection"},
	} {
		result := Transform(input(tc.record, &transform.Settings{Formats: tc.formats}))
		got := strings.SplitN(describe(result), " :", 2)[0]
		if len(result.Parts) == 1 && result.Parts[0].Document != nil {
			got = result.Format
		}
		if got != tc.want {
			t.Errorf("%s: got %s, want %s", name, got, tc.want)
		}
	}
}
