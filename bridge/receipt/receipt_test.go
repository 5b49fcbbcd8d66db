package receipt

import (
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"serbridge/bridge"
	"serbridge/bridge/deadletter"
	"serbridge/bridge/stellar"
	"serbridge/transform"
	"serbridge/transform/format"
)

func sample() Receipt {
	return Receipt{
		Source: deadletter.Source{Topic: "detections", Partition: 2, Offset: 4711},
		Time:   time.Date(2026, 11, 24, 10, 0, 0, 5e6, time.UTC), Ended: time.Date(2026, 11, 24, 10, 0, 1, 0, time.UTC),
		Format: "aella_ser", Of: 3,
		Parts: []Part{
			{Part: 0, Index: "aella-ser-1", ID: "abc", DedupKey: "d", DeliveryKey: "k", Mapping: "m@1", Orig: HashOrigID("x"), Attempts: 2},
			{Part: 1, Reason: "http_400", Attempts: 3}, {Part: 2, Skip: "already_stored"},
		},
		Host: "stellar.example.com", User: "api@example.com", Group: "g", Run: "r", Instance: "i", Bridge: "v1",
	}
}

func TestReceiptComesBackWhole(t *testing.T) {
	want := sample()
	b, err := want.Encode()
	if err != nil {
		t.Fatal(err)
	}
	got, err := Parse(&kgo.Record{Value: b})
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, %v, want %+v", got, err, want)
	}
}

func TestWhatIsNoReceiptIsSaidToBeNone(t *testing.T) {
	for _, v := range []string{"", "{}", "null", `{"schema":2,"topic":"t","partition":0,"offset":0}`, `{"schema":1,"topic":"t","partition":-1,"offset":0}`, "\xff"} {
		if r, err := Parse(&kgo.Record{Value: []byte(v)}); !errors.Is(err, ErrNotAReceipt) {
			t.Errorf("%q is read as %+v, %v", v, r, err)
		}
	}
}

func TestFateIsTheWorstOfTheParts(t *testing.T) {
	r := sample()
	for _, want := range []Fate{DeadLettered, Delivered} {
		if got := r.Fate(); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
		r.Parts = r.Parts[:1]
	}
	r.Parts, r.Skip = nil, "tombstone"
	if got := r.Fate(); got != Skipped {
		t.Errorf("got %s, want skipped", got)
	}
}

// No record content is in a receipt, and what was not wanted of a record is not either.
func TestReceiptHoldsNoContent(t *testing.T) {
	in := transform.Input{Topic: "t", Partition: 1, Offset: 2, ClusterID: "c",
		Value: []byte(`{"event_name":"CONTENT","event_source":"CONTENT","event_status":"New","timestamp":1763975287654,"orig_id":"CONTENT","x":"CONTENT"}`)}
	doc := format.Transform(in).Parts[0].Document
	o := bridge.Outcome{Reading: bridge.Reading{Input: in}, Format: "aella_ser", Parts: []bridge.PartOutcome{
		{Delivered: true, Document: doc, Attempts: 1, Answer: stellar.Answer{Index: "i", ID: "n", Body: "CONTENT"}},
		{Part: 1, Skip: "not_wanted"},
	}}
	r := Of(o, time.Now())
	b, err := r.Encode()
	if err != nil || strings.Contains(string(b), "CONTENT") {
		t.Errorf("%s, %v", b, err)
	}
	if len(r.Parts) != 1 || r.Of != 1 || r.Parts[0].Orig != HashOrigID("CONTENT") || r.Parts[0].DeliveryKey != doc.DeliveryKey() {
		t.Errorf("%+v", r)
	}
}

func TestPiecesHoldAllParts(t *testing.T) {
	for _, n := range []int{0, 1, partsAtOnce, partsAtOnce + 1, 3 * partsAtOnce} {
		r := Receipt{Parts: make([]Part, n), Of: n}
		total := 0
		pieces := r.split()
		for _, p := range pieces {
			total += len(p.Parts)
		}
		if want := max(1, (n+partsAtOnce-1)/partsAtOnce); total != n || len(pieces) != want {
			t.Errorf("%d parts: %d pieces of %d, want %d", n, len(pieces), total, want)
		}
	}
}

func FuzzParse(f *testing.F) {
	b, err := sample().Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add([]byte(`{"schema":1,"topic":"a:b","partition":0,"offset":1}`))
	f.Fuzz(func(t *testing.T, value []byte) {
		r, err := Parse(&kgo.Record{Value: value})
		if err != nil {
			return
		}
		again, err := r.Encode()
		if err != nil {
			return // a time that JSON does not hold
		}
		if back, err := Parse(&kgo.Record{Value: again}); err != nil || back.Source != r.Source || back.Fate() != r.Fate() {
			t.Errorf("%+v comes back as %+v, %v", r, back, err)
		}
	})
}
