package format

import (
	"strings"
	"testing"
	"time"

	"serbridge/transform"
)

// A filter sees the record as it came and each document as it is sent; what it cannot evaluate it does not mean.
func TestFilterMeansWhatItSays(t *testing.T) {
	const record = `{"event_name":"e","event_source":"s","severity":90,"host":{"name":"Web-1"},"big":12345678901234567890}`
	at := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	for source, want := range map[string]bool{
		`record.severity >= 80`: true,
		`record.severity > 90`:  false,
		`document.severity == 90 && document.event_source == "s"`:                true,
		`document.custom_ser_field.serbridge.source_format == format`:            true,
		`format == "aella_ser" && topic == "t" && partition == 2 && offset == 7`: true,
		`key == "k1"`:                                   true,
		`headers["tenant"] == "acme"`:                   true,
		`headers.nosuch == "acme"`:                      false,
		`lower(record.host.name).startsWith("web")`:     true,
		`record.nosuch.name == "x"`:                     false,
		`record.nosuch == null`:                         true,
		`record.event_name < 3`:                         false,
		`timestamp < timestamp("2026-03-01T13:00:00Z")`: true,
		`timestamp.getHours() == 12`:                    true,
		`record.host`:                                   false,
		`!("x" in record)`:                              true,
	} {
		f, err := NewFilter(source)
		if err != nil {
			t.Errorf("%s: %v", source, err)
			continue
		}
		in := transform.Input{Value: []byte(record), Topic: "t", Partition: 2, Offset: 7, Timestamp: at, Now: at}
		got := f.Select(&in, Facts{Key: []byte("k1"), Headers: map[string]string{"tenant": "acme"}}, Transform(in))
		if meant := got.Parts[0].Document != nil; meant != want || !want && got.Parts[0].Skip != Filtered {
			t.Errorf("%s: means it %t, want %t", source, meant, want)
		}
	}
	for source, says := range map[string]string{`record.`: "1:8", `"text"`: "want a condition", `rec.x == 1`: "undeclared", `1 + 1`: "want a condition", ``: "compile filter"} {
		if _, err := NewFilter(source); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%q: %v, want %q", source, err, says)
		}
	}
}

// Of a record with several documents each is judged for itself; what makes no document is judged by the record, so that a
// reject nobody asked for is no dead letter; what is no detection stays so.
func TestFilterJudgesEachPart(t *testing.T) {
	f, err := NewFilter(`document.severity >= 50`)
	if err != nil {
		t.Fatal(err)
	}
	sel := func(f *Filter, value []byte) transform.Result {
		in := transform.Input{Value: value, Now: time.Now(), Timestamp: time.Now()}
		return f.Select(&in, Facts{}, Transform(in))
	}
	many := sel(f, []byte(`[{"event_name":"a","event_source":"s","severity":49},{"event_name":"b","event_source":"s","severity":51},{"event_source":"s","event_status":"New","timestamp":1}]`))
	if len(many.Parts) != 3 || many.Parts[0].Skip != Filtered || many.Parts[1].Document == nil || many.Parts[2].Skip != Filtered {
		t.Errorf("%+v", many)
	}
	if broken := sel(f, []byte("no json")); broken.Reject != nil || broken.Skip != Filtered {
		t.Errorf("%+v", broken)
	}
	if nothing := sel(f, nil); nothing.Skip != transform.Tombstone {
		t.Errorf("%+v", nothing)
	}
	text, err := NewFilter(`record.contains("json")`)
	if err != nil {
		t.Fatal(err)
	}
	if broken := sel(text, []byte("no json")); broken.Reject == nil {
		t.Errorf("%+v", broken)
	}
	costly, err := NewFilter(`record.list.all(a, record.list.all(b, record.list.all(c, a + b + c >= 0)))`)
	if err != nil {
		t.Fatal(err)
	}
	list := `{"event_name":"a","event_source":"s","list":[` + strings.Repeat("1,", 300) + `1]}`
	if r := sel(costly, []byte(list)); r.Parts[0].Skip != FilterFailed {
		t.Errorf("%+v", r)
	}
}
