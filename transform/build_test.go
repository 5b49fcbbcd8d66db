package transform

import (
	"strings"
	"testing"
	"time"
)

func detectionNamed(name string) Detection {
	d := Detection{Format: "test", Mapping: "test@00000000"}
	d.Set("event_name", String(name))
	d.Set("event_source", String("s"))
	return d
}

// One bad part of a record must not cost the good ones, and a part keeps its number whatever becomes of its neighbours:
// the number is in the delivery key.
func TestPartsStandAlone(t *testing.T) {
	in := &Input{Topic: "t", Now: testNow, Timestamp: testNow}
	skipped := detectionNamed("b")
	skipped.Skip = AlreadyStored
	parts, reject := Documents(in, Tree{Text: "{}"}, []Detection{detectionNamed("a"), skipped, detectionNamed(""), detectionNamed("d")})
	if reject != nil || len(parts) != 4 {
		t.Fatalf("got %v, reject %v", parts, reject)
	}
	if parts[0].Document == nil || parts[1].Skip != AlreadyStored || parts[3].Document == nil {
		t.Errorf("got %+v", parts)
	}
	if r := parts[2].Reject; r == nil || r.Reason != MissingField || parts[2].Document != nil {
		t.Errorf("part without a name: %+v", parts[2])
	}
	if got, want := parts[3].Document.DeliveryKey(), DeliveryKey(in, 3); got != want {
		t.Errorf("part 3 has the delivery key %s, want %s", got, want)
	}
	if parts[0].Document.DedupKey() == parts[3].Document.DedupKey() {
		t.Error("two parts of a record without identity have one dedup key")
	}
}

func TestFanoutIsBounded(t *testing.T) {
	detections := make([]Detection, 3)
	for i := range detections {
		detections[i] = detectionNamed("n")
	}
	in := &Input{Now: testNow, Timestamp: testNow, Settings: &Settings{MaxFanout: 2}}
	parts, reject := Documents(in, Tree{}, detections)
	if parts != nil || reject == nil || reject.Reason != TooManyDocuments || !strings.Contains(reject.Detail, "MAX_FANOUT") {
		t.Errorf("got %v, reject %+v", parts, reject)
	}
	if _, reject := Documents(in, Tree{}, detections[:2]); reject != nil {
		t.Errorf("at the limit: %+v", reject)
	}
}

// What a format adds under a name that it owns wins over the record's own field of that name, which is kept elsewhere.
func TestFormatsOwnMembersStandOnce(t *testing.T) {
	d := detectionNamed("n")
	d.Own = []Member{{"host", String("mapped")}, {"sample", boolean(true)}}
	d.Rest = []Member{{"host", String("native")}, {"sample", boolean(false)}, {"x", number("1")}}
	parts, _ := Documents(&Input{Now: testNow, Timestamp: testNow}, Tree{}, []Detection{d})
	encoded, err := parts[0].Document.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasSuffix(string(encoded), `"host":"mapped","sample":true,"severity_defaulted":true,"time_from_kafka":true,"x":1,"fields":{"host":"native","sample":false}}}}`) {
		t.Errorf("got %s", encoded)
	}
}

func TestPairsAreBounded(t *testing.T) {
	names, values := make([]string, 3*maxPairs), make([]string, 3*maxPairs)
	for i := range names {
		names[i], values[i] = "n", "v"
	}
	d := detectionNamed("n")
	d.Set("detected_fields", texts(names))
	d.Set("detected_values", texts(values))
	parts, _ := Documents(&Input{Now: testNow, Timestamp: testNow}, Tree{}, []Detection{d})
	encoded, _ := parts[0].Document.Encode()
	if got := strings.Count(string(encoded), `"v"`); got != maxPairs || !strings.Contains(string(encoded), `"detected_cut":true`) {
		t.Errorf("%d values in %s", got, encoded)
	}
}

func TestSetTakesTheVendorsNamesAlone(t *testing.T) {
	var d Detection
	if !d.Set("stellar.alert_time", number("1")) || d.Set("srcip", number("1")) || d.Set("", number("1")) {
		t.Error("Set does not follow the vendor's table")
	}
	if d.Field("stellar.alert_time").IsAbsent() || !d.Field("srcip").IsAbsent() {
		t.Error("Field does not return what was set")
	}
}

func TestZeroDocumentIsNoDocument(t *testing.T) {
	if b, err := new(Document).Encode(); err == nil {
		t.Errorf("encoded %q", b)
	}
}

// A huge native value must not blow up a document that it is only a note in.
func TestNativeValuesAreBounded(t *testing.T) {
	d := detectionNamed("n")
	d.Set("severity", String(strings.Repeat("x", 1<<16)))
	parts, _ := Documents(&Input{Now: testNow, Timestamp: time.Time{}}, Tree{}, []Detection{d})
	if encoded, _ := parts[0].Document.Encode(); len(encoded) > 3*maxNative {
		t.Errorf("%d bytes", len(encoded))
	}
}

func TestOrigIDIsThatOfTheDocument(t *testing.T) {
	for _, c := range []struct{ record, want string }{
		{`{"event_name":"n","orig_id":"a\"b\u00e9","x":{"orig_id":"not this"}}`, "a\"bé"},
		{`{"event_name":"n","x":{"orig_id":"not this"},"detected_field":["a"]}`, ""},
	} {
		d := Detection{}
		in := &Input{Value: []byte(c.record), Timestamp: time.UnixMilli(1763975287654)}
		tree, reject := Read(in)
		if reject != nil {
			t.Fatal(reject)
		}
		for _, m := range tree.Root.Members() {
			if !d.Set(m.Name, m.Value) {
				d.Rest = append(d.Rest, m)
			}
		}
		d.Set("event_source", String("s"))
		parts, reject := Documents(in, tree, []Detection{d})
		if reject != nil || parts[0].Document == nil {
			t.Fatal(reject, parts)
		}
		if got := parts[0].Document.OrigID(); got != c.want {
			t.Errorf("%s: got %q, want %q", c.record, got, c.want)
		}
	}
}
