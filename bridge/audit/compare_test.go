package audit

import (
	"slices"
	"testing"
	"time"

	"serbridge/bridge/stellar"
	"serbridge/transform"
	"serbridge/transform/format"
)

// What a platform does to every document is no difference, and everything else is.
func TestDifferencesAreThoseOfOurFields(t *testing.T) {
	const sent = `{"event_name":"e","severity":47,"fidelity":0.50,"event_status":"New","timestamp":1,"detected_fields":["a","b"],
		"custom_ser_field":{"theirs":1,"serbridge":{"dedup_key":"d","kafka":{"topic":"t","offset":7},"big":12345678901234567890}}}`
	const custom = `"theirs":1,"serbridge":{"dedup_key":"d","kafka":{"topic":"t","offset":7},"big":12345678901234567890}`
	const rest = `"event_name":"e","severity":47.0,"fidelity":0.5,"event_status":"Closed","timestamp":1,"detected_fields":["a","b"],"write_time":5`
	for _, c := range []struct {
		stored string
		want   []string
	}{
		{`{` + rest + `,"custom_ser_field":{` + custom + `}}`, nil},
		{`{` + rest + `,"custom_ser_field":{"more":1,"custom_ser_field":{` + custom + `}}}`, nil},
		{`{` + rest + `}`, []string{"custom_ser_field.serbridge", "custom_ser_field.theirs"}},
		{`{"event_name":"e","timestamp":1,"detected_fields":["b","a"],"custom_ser_field":{"severity":47,"fidelity":"0.5",` + custom + `}}`,
			[]string{"detected_fields", "fidelity"}},
		{`{` + rest + `,"custom_ser_field":{"theirs":1,"serbridge":{"dedup_key":"d","kafka":{"topic":"t","offset":8},"big":1}}}`,
			[]string{"custom_ser_field.serbridge.big", "custom_ser_field.serbridge.kafka.offset"}},
		{`[]`, []string{"(the stored document cannot be read)"}},
	} {
		if got := Differences([]byte(sent), []byte(c.stored)); !slices.Equal(got, c.want) {
			t.Errorf("%s\ndiffers in %q, want %q", c.stored, got, c.want)
		}
	}
	flat := `{"event_name":"e","serbridge":{"dedup_key":"d"}}`
	if got := Differences([]byte(flat), []byte(`{"event_name":"e","custom_ser_field":{"serbridge":{"dedup_key":"d"}}}`)); got != nil {
		t.Errorf("flat: %q", got)
	}
}

// A document that the slimming ladder took something off is not a changed one; the same without the mark is.
func TestSlimmedDocumentIsNotDifferent(t *testing.T) {
	d := format.Transform(transform.Input{Value: []byte(`{"event_name":"e","event_source":"s","note":"n"}`), Timestamp: time.Now(), Now: time.Now()}).Parts[0].Document
	for _, c := range []struct {
		stored   *transform.Document
		degraded bool
		same     bool
	}{{d, false, true}, {d.WithoutRaw(), true, true}, {d.Bare(), true, true}, {d.Bare(), false, false}} {
		text, err := c.stored.Encode()
		if err != nil {
			t.Fatal(err)
		}
		ours := func(stellar.Stored) stellar.Ours { return stellar.Ours{Degraded: c.degraded, Mapping: d.Mapping()} }
		got := Compare([]stellar.Stored{{ID: "1", Source: text}}, ours, d)
		if (len(got.Differs) == 0) != c.same || got.N != 1 || got.ID != "1" {
			t.Errorf("%+v: %+v", c, got)
		}
	}
	other := Compare([]stellar.Stored{{Source: []byte("{}")}}, func(stellar.Stored) stellar.Ours { return stellar.Ours{Mapping: "other@1"} }, d)
	if other.Elsewise != "other@1" || len(other.Differs) > 0 {
		t.Errorf("by another mapping: %+v", other)
	}
}
