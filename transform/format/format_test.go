package format

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"serbridge/transform"
)

func TestFormatsSettingIsObeyed(t *testing.T) {
	const record = `{"event_name":"n","event_source":"s"}`
	for _, names := range [][]string{nil, {}, {"auto"}, {"aella_ser"}, {"other", "aella_ser"}} {
		if r := Transform(input(record, &transform.Settings{Formats: names})); len(r.Parts) != 1 || r.Format != "aella_ser" {
			t.Errorf("%q: %+v", names, r)
		}
	}
	if r := Transform(input(record, &transform.Settings{Formats: []string{"other"}})); r.Reject == nil || r.Reject.Reason != transform.UnknownFormat {
		t.Errorf("a format that is switched off recognised the record: %+v", r)
	}
}

func TestCheckNamesUnknownFormats(t *testing.T) {
	for _, names := range [][]string{nil, {"auto"}, Names()} {
		if err := Check(names); err != nil {
			t.Errorf("%q: %v", names, err)
		}
	}
	err := Check([]string{"aella_ser", "surikata"})
	if err == nil || !strings.Contains(err.Error(), "surikata") || !strings.Contains(err.Error(), "aella_ser") {
		t.Errorf("got %v", err)
	}
}

func TestRepairsAreReportedWithARejectToo(t *testing.T) {
	result := Transform(input("\uFEFF{\"event_name\":NaN,\"event_source\":\"s\",\"timestamp\":1}", nil))
	if result.Reject == nil || !slices.Equal(result.Repairs, []transform.Repair{transform.RepairedNaN, transform.RepairedBOM}) {
		t.Errorf("got %+v", result)
	}
}

// Unknown records are many and large where a topic is wrong: the detail stays short and says what they look like.
func TestUnknownFormatDetailIsShort(t *testing.T) {
	var record strings.Builder
	record.WriteString(`{"a\u0000b":0`)
	for i := range 1000 {
		fmt.Fprintf(&record, `,"some_long_key_%d":%d`, i, i)
	}
	record.WriteString("}")
	detail := Transform(input(record.String(), nil)).Reject.Detail
	if len(detail) > 200 || !strings.Contains(detail, "some_long_key_0") {
		t.Errorf("detail %q", detail)
	}
}

// FuzzTransform: whatever the bytes, no panic; exactly one of skip, reject and parts; each document is JSON without a
// repeated name, valid by the vendor's table, within the limit, the same for the same input, the same at each encoding;
// so are both steps of the slimming ladder.
func FuzzTransform(f *testing.F) {
	f.Add(benchRecord, false)
	for _, seed := range []string{
		`{"event_name":"n","event_source":"s","timestamp":"2024-05-01 12:51:30","severity":1e400,"fidelity":".5","lateral":1}`,
		"\uFEFF {\"event_name\":\"\xff\",\"event_source\":\"s\",\"a\":NaN,\"a\":-Infinity}",
		`{"event_name":"n","event_source":"s","custom_ser_field":{"serbridge":{"kafka":1,"x":2},"severity":3},"x":1,"fields":{}}`,
		`{"event_name":"n","event_source":"s","detected_fields":["a",null],"detected_values":["-",{}],"stellar":{"alert_time":1714567890}}`,
		`{"timestamp":1,"event_source":[]}`, `[1,2`, `{"event_name":"a","write_by":0}`, "",
	} {
		f.Add([]byte(seed), true)
		f.Add([]byte(seed), false)
	}
	f.Fuzz(func(t *testing.T, value []byte, flat bool) {
		settings := &transform.Settings{MaxDocumentBytes: 3000, RawBytes: 300, MaxDepth: 20}
		if flat {
			settings.CustomFields = "flat"
		}
		in := input(string(value), settings)
		before := bytes.Clone(in.Value)
		result, again := Transform(in), Transform(in)
		if !bytes.Equal(before, in.Value) {
			t.Fatal("the record was changed")
		}
		if n := count(result.Skip != "", result.Reject != nil, result.Parts != nil); n != 1 {
			t.Fatalf("%d of skip, reject, parts: %+v", n, result)
		}
		for i, p := range result.Parts {
			if n := count(p.Skip != "", p.Reject != nil, p.Document != nil); n != 1 {
				t.Fatalf("%d of skip, reject, document: %+v", n, p)
			}
			if p.Document == nil {
				continue
			}
			same := again.Parts[i].Document
			checkDocument(t, p.Document, same, settings)
			checkDocument(t, p.Document.WithoutRaw(), same.WithoutRaw(), settings)
			checkDocument(t, p.Document.Bare(), same.Bare(), settings)
		}
	})
}

func count(flags ...bool) (n int) {
	for _, f := range flags {
		if f {
			n++
		}
	}
	return n
}

func checkDocument(t *testing.T, d, same *transform.Document, settings *transform.Settings) {
	t.Helper()
	encoded, err := d.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if !jsontext.Value(encoded).IsValid() { // strict: no repeated name, no invalid UTF-8
		t.Fatalf("no strict JSON: %s", encoded)
	}
	if _, err := checkAgainstTable(encoded, settings); err != nil {
		t.Fatalf("%v\n%s", err, encoded)
	}
	if len(encoded) > settings.MaxDocumentBytes {
		t.Fatalf("%d bytes", len(encoded))
	}
	twice, _ := d.Encode()
	other, _ := same.Encode()
	if !bytes.Equal(encoded, twice) || !bytes.Equal(encoded, other) {
		t.Fatalf("not deterministic:\n%s\n%s\n%s", encoded, twice, other)
	}
}

func TestTransformIsSafeForConcurrentUse(t *testing.T) {
	want, _ := Transform(benchInput()).Parts[0].Document.Encode()
	done := make(chan []byte)
	for range 4 {
		go func() {
			var last []byte
			for range 200 {
				last, _ = Transform(benchInput()).Parts[0].Document.Encode()
				Transform(transform.Input{Value: []byte(`{"event_name":NaN,"a":"\ud800`)})
			}
			done <- last
		}()
	}
	for range 4 {
		if got := <-done; !bytes.Equal(got, want) {
			t.Errorf("got %s", got)
		}
	}
}

func ExampleTransform() {
	at := time.Date(2026, 3, 4, 6, 0, 0, 0, time.UTC)
	result := Transform(transform.Input{
		Value:     []byte(`{"event_name":"Beacon","event_source":"acme_ndr","event_status":"open","timestamp":"2026-03-04T05:06:07.89Z","severity":82.4}`),
		Topic:     "detections",
		Timestamp: at,
		Now:       at,
	})
	text, err := result.Parts[0].Document.Bare().Encode()
	fmt.Println(result.Format, err)
	vendors, _, _ := strings.Cut(string(text), `,"custom_ser_field"`)
	fmt.Println(vendors)
	// Output:
	// aella_ser <nil>
	// {"event_name":"Beacon","timestamp":1772600767890,"event_status":"New","event_source":"acme_ndr","event_category":"killchain","severity":82,"event_score":82
}
