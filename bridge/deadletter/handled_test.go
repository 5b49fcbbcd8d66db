package deadletter

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

func sampleMark() Mark {
	return Mark{
		Place: Place{3, 17}, Fate: Parked, At: time.Unix(1_700_000_000, 5).UTC(), By: "ops@host", Because: "the vendor mends it",
		Run: "r1", Source: Source{"detections", 7, 42}, Part: -1, Redrives: 1, TopicID: [16]byte{1, 2, 15: 3},
	}
}

func TestMarkComesBackWhole(t *testing.T) {
	for _, fate := range Fates()[1:] {
		m := sampleMark()
		m.Fate = fate
		r, err := m.Record("x.dlq.handled")
		if err != nil {
			t.Fatal(err)
		}
		if string(r.Key) != "3:17" {
			t.Errorf("key %q: compaction would keep marks that were overruled", r.Key)
		}
		if got, err := ParseMark(r); err != nil || got != m {
			t.Errorf("came back as %+v, %v", got, err)
		}
	}
}

func TestTombstoneOpensTheLetterAgain(t *testing.T) {
	r, err := Mark{Place: Place{0, 1}}.Record("h")
	if err != nil || r.Value != nil {
		t.Fatalf("%q, %v", r.Value, err)
	}
	if m, err := ParseMark(r); err != nil || m.Fate != Open || m.Place != (Place{0, 1}) {
		t.Errorf("%+v, %v", m, err)
	}
}

func TestDamagedMarkHidesNoLetter(t *testing.T) {
	for _, c := range []struct{ key, value string }{
		{"", `{"schema":1,"fate":"parked"}`},
		{"0", `{"schema":1,"fate":"parked"}`},
		{"00:1", `{"schema":1,"fate":"parked"}`},
		{"0:-1", `{"schema":1,"fate":"parked"}`},
		{"0:1", ``},
		{"0:1", `{}`},
		{"0:1", `{"schema":2,"fate":"parked"}`},
		{"0:1", `{"schema":1,"fate":"lost"}`},
		{"0:1", `{"schema":1,"fate":"parked","topic_id":"ab"}`},
	} {
		if m, err := ParseMark(&kgo.Record{Key: []byte(c.key), Value: []byte(c.value)}); err == nil {
			t.Errorf("%q %q read as %+v", c.key, c.value, m)
		}
	}
}

// A topic created again has other letters under the same offsets; a mark of the former one would hide them.
func TestMarkOfAFormerTopicIsNotOfThisOne(t *testing.T) {
	m := sampleMark()
	for id, want := range map[[16]byte]bool{m.TopicID: true, {9}: false, {}: true} {
		if got := m.isOf(id); got != want {
			t.Errorf("isOf(%x) = %v, want %v", id, got, want)
		}
	}
}

func TestEveryFateHasAName(t *testing.T) {
	if len(Fates()) != len(fateNames) {
		t.Fatalf("%d fates, %d names", len(Fates()), len(fateNames))
	}
	for _, f := range Fates() {
		if back, err := ParseFate(f.String()); err != nil || back != f {
			t.Errorf("%s: %v, %v", f, back, err)
		}
	}
}

func FuzzMark(f *testing.F) {
	r, _ := sampleMark().Record("h")
	f.Add(r.Key, r.Value)
	f.Add([]byte("0:1"), []byte(nil))
	f.Fuzz(func(t *testing.T, key, value []byte) {
		m, err := ParseMark(&kgo.Record{Key: key, Value: value})
		if err != nil {
			return
		}
		if m.Place.String() != string(key) {
			t.Errorf("key %q was read as %s: two keys of one letter", key, m.Place)
		}
		if m.At.Year() < 1 || m.At.Year() > 9999 {
			return // no time of JSON's
		}
		r, err := m.Record("h")
		if err != nil {
			t.Fatal(err)
		}
		if again, err := ParseMark(r); err != nil || again.Fate != m.Fate || again.Place != m.Place {
			t.Errorf("%+v became %+v, %v", m, again, err)
		}
	})
}

func FuzzPlace(f *testing.F) {
	f.Add("0:17")
	f.Add("detections:0:17")
	f.Fuzz(func(t *testing.T, text string) {
		if p, err := ParsePlace(text); err == nil && (p.String() != text || p.Partition < 0 || p.Offset < 0) {
			t.Errorf("%q was read as %s", text, p)
		}
		if s, err := ParseSource(text); err == nil && s.String() != text {
			t.Errorf("%q was read as %s", text, s)
		}
	})
}

// The compact set says of each letter what a map would.
func TestFatesAreThoseThatWereSet(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	got, want := new(fates), make(map[Place]Fate)
	place := func() Place { return Place{random.Int32N(3), random.Int64N(3 * fatePage)} }
	for range 20_000 {
		p, fate := place(), Fates()[random.IntN(len(fateNames))]
		got.set(p, fate)
		want[p] = fate
	}
	for range 20_000 {
		if p := place(); got.of(p) != want[p] {
			t.Fatalf("%s is %s, want %s", p, got.of(p), want[p])
		}
	}
}

func record() *kgo.Record {
	return &kgo.Record{
		Partition: 2, Offset: 9, Timestamp: time.UnixMilli(1_763_975_287_654),
		Key: []byte{0, 0xff}, Value: []byte("{\"a\":\"\u2028<&>\ufffd\x00\"}"), Headers: []kgo.RecordHeader{
			{Key: "b", Value: []byte("2")}, {Key: "a"}, {Key: "b", Value: []byte{}}, {Key: "", Value: []byte{0x80}}, {Key: "\xff\n"},
		},
	}
}

func sameRecord(a, b *kgo.Record) bool {
	return bytes.Equal(a.Key, b.Key) && (a.Key == nil) == (b.Key == nil) && bytes.Equal(a.Value, b.Value) &&
		(a.Value == nil) == (b.Value == nil) && sameHeaders(a.Headers, b.Headers) && a.Timestamp.Equal(b.Timestamp) &&
		a.Partition == b.Partition && a.Offset == b.Offset
}

func TestLineKeepsEveryByte(t *testing.T) {
	for _, r := range []*kgo.Record{record(), {Timestamp: time.UnixMilli(-1)}, {Key: []byte{}, Value: []byte{}, Timestamp: time.UnixMilli(0)}} {
		b, err := EncodeLine(r)
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(b, []byte("\n")) {
			t.Errorf("more than one line: %q", b)
		}
		if back, err := DecodeLine(b); err != nil || !sameRecord(back, r) {
			t.Errorf("%s became %+v, %v", b, back, err)
		}
	}
}

func TestOtherJSONBecomesNoLetter(t *testing.T) {
	for _, c := range []struct{ line, says string }{
		{``, "decode"},
		{`[]`, "decode"},
		{`{}`, "required"},
		{`{"event_name":"x"}`, "event_name"},
		{`{"partition":0,"timestamp":1,"headers":[]}{}`, "more than one"},
		{`{"partition":-1,"timestamp":1,"headers":[]}`, "required"},
		{`{"partition":0,"timestamp":1,"headers":[{"value":"v"}]}`, "no key"},
		{`{"partition":0,"timestamp":1,"headers":[],"key":"a","key_base64":"YQ=="}`, "twice"},
		{`{"partition":0,"timestamp":1,"headers":[],"value_base64":"*"}`, "decode"},
	} {
		if r, err := DecodeLine([]byte(c.line)); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: read as %+v, %v, want an error that says %q", c.line, r, err, c.says)
		}
	}
}

func FuzzLine(f *testing.F) {
	b, _ := EncodeLine(record())
	f.Add(b, []byte("k"), []byte("v"), []byte("a\x00b"))
	f.Fuzz(func(t *testing.T, line, key, value, packed []byte) {
		r := &kgo.Record{Key: key, Value: value, Headers: unpack(packed), Timestamp: time.UnixMilli(7)}
		b, err := EncodeLine(r)
		if err != nil {
			t.Fatal(err)
		}
		if back, err := DecodeLine(b); err != nil || !sameRecord(back, r) {
			t.Errorf("%s became %+v, %v", b, back, err)
		}
		if r, err = DecodeLine(line); err != nil {
			return
		}
		if b, err = EncodeLine(r); err != nil {
			t.Fatal(err)
		}
		if back, err := DecodeLine(b); err != nil || !sameRecord(back, r) {
			t.Errorf("%s became %+v, %v", b, back, err)
		}
	})
}

func ExampleEncodeLine() {
	b, _ := EncodeLine(&kgo.Record{
		Partition: 1, Offset: 17, Timestamp: time.UnixMilli(1763975287654), Key: []byte{0xff}, Value: []byte(`{"broken":`),
		Headers: []kgo.RecordHeader{{Key: "source", Value: []byte("suricata")}, {Key: "source", Value: nil}},
	})
	fmt.Println(string(b))
	// Output: {"partition":1,"offset":17,"timestamp":1763975287654,"key":null,"key_base64":"/w==","headers":[{"key":"source","value":"suricata"},{"key":"source","value":null}],"value":"{\"broken\":"}
}

func ExampleMark() {
	m := Mark{
		Place: Place{Partition: 0, Offset: 17}, Fate: Parked, At: time.Unix(1763975287, 0), By: "ops@jump-1",
		Because: "waits for the vendor", Run: "k3x9", Source: Source{"detections", 2, 4711}, Part: -1,
	}
	r, _ := m.Record("serbridge.dlq.handled")
	fmt.Printf("%s %s\n", r.Key, r.Value)
	// Output: 0:17 {"schema":1,"fate":"parked","at":"2025-11-24T09:08:07Z","by":"ops@jump-1","because":"waits for the vendor","run":"k3x9","topic":"detections","partition":2,"offset":4711,"part":-1,"redrives":0}
}
