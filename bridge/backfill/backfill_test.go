package backfill

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"serbridge/bridge"
	"serbridge/bridge/frontier"
)

func TestBoundsAsTheyAreGiven(t *testing.T) {
	zone := time.FixedZone("", 3600)
	now := time.Date(2026, 3, 10, 0, 30, 0, 0, zone)
	for _, c := range []struct {
		texts    string
		from, to Bound
		err      string
	}{
		{"", Bound{}, Bound{}, ""},
		{"earliest", Bound{}, Bound{}, ""},
		{"now", Bound{Now: true}, Bound{Now: true}, ""},
		{"yesterday", Bound{Time: time.Date(2026, 3, 9, 0, 0, 0, 0, zone)}, Bound{Time: time.Date(2026, 3, 10, 0, 0, 0, 0, zone)}, ""},
		{"-90m", Bound{Time: time.Date(2026, 3, 9, 23, 0, 0, 0, zone)}, Bound{Time: time.Date(2026, 3, 9, 23, 0, 0, 0, zone)}, ""},
		{"a:0:7 a:11:0", Bound{Offsets: map[Place]int64{{"a", 0}: 7, {"a", 11}: 0}}, Bound{Offsets: map[Place]int64{{"a", 0}: 7, {"a", 11}: 0}}, ""},
		{"a:0:7 a:0:8", Bound{}, Bound{}, "has one already"},
		{"a:0:7 now", Bound{}, Bound{}, "only offsets"},
		{"24h", Bound{}, Bound{}, "want earliest"},
		{"a:-1:7", Bound{}, Bound{}, "want earliest"},
		{"a:0:-7", Bound{}, Bound{}, "want earliest"},
		{"2026-01-31 08:00", Bound{}, Bound{}, "only offsets"},
	} {
		for side, parse := range map[string]func([]string, time.Time) (Bound, error){"from": ParseFrom, "to": ParseTo} {
			want := map[string]Bound{"from": c.from, "to": c.to}[side]
			got, err := parse(strings.Fields(c.texts), now)
			if c.err == "" && (err != nil || !reflect.DeepEqual(got, want)) {
				t.Errorf("%s %q: %+v, %v, want %+v", side, c.texts, got, err, want)
			}
			if c.err != "" && (err == nil || !strings.Contains(err.Error(), c.err)) {
				t.Errorf("%s %q: %v, want %q", side, c.texts, err, c.err)
			}
		}
	}
	if b, err := ParseFrom([]string{"2026-01-31T08:00:00Z"}, now); err != nil || !b.Time.Equal(time.Date(2026, 1, 31, 8, 0, 0, 0, time.UTC)) {
		t.Errorf("%v, %v", b, err)
	}
}

// offsetsOf lists the same offset of each of n partitions of the topic a.
func offsetsOf(n int32, offset int64) kadm.ListedOffsets {
	l := kadm.ListedOffsets{"a": make(map[int32]kadm.ListedOffset)}
	for i := range n {
		l["a"][i] = kadm.ListedOffset{Topic: "a", Partition: i, Offset: offset}
	}
	return l
}

// commitOf is a commit of the group with these offsets settled above it.
func commitOf(group string, partition int32, base int64, above ...int64) kadm.OffsetResponses {
	f := frontier.New(frontier.Config{Group: group, Topic: "a", Partition: partition, Base: base, Epoch: -1})
	for i := base; len(above) > 0 && i <= slices.Max(above); i++ {
		f.Add(i, -1, 0, time.Time{})
		if slices.Contains(above, i) {
			f.Settle(i, 0)
		}
	}
	s, _ := f.Snapshot()
	return kadm.OffsetResponses{"a": {partition: {Offset: kadm.Offset{Topic: "a", Partition: partition, At: base, Metadata: s.Metadata}}}}
}

func TestPlanHoldsTheRangesThatWereAskedFor(t *testing.T) {
	one := func(partition int32, offset int64) Bound {
		return Bound{Offsets: map[Place]int64{{"a", partition}: offset}}
	}
	for _, c := range []struct {
		name      string
		request   Request
		want      string
		unsettled int64
	}{
		{"all", Request{}, "10-100 10-100 10-100", 0},
		{"from now", Request{From: Bound{Now: true}}, "100-100 100-100 100-100", 0},
		{"from a time", Request{From: Bound{Time: time.Unix(1, 0)}}, "40-100 40-100 40-100", 0},
		{"to a time", Request{To: Bound{Time: time.Unix(1, 0)}}, "10-100 10-100 10-100", 0},
		{"from an offset", Request{From: one(1, 50)}, "100-100 50-100 100-100", 0},
		{"to an offset", Request{To: one(1, 50)}, "100-100 10-50 100-100", 0},
		{"between offsets", Request{From: one(1, 20), To: one(1, 50)}, "100-100 20-50 100-100", 0},
		{"of different partitions", Request{From: one(1, 20), To: one(2, 50)}, "100-100 20-100 10-50", 0},
		{"outside the log", Request{From: one(1, 3), To: one(1, 5000)}, "100-100 10-100 100-100", 0},
		{"backwards", Request{From: one(1, 50), To: one(1, 20)}, "100-100 20-20 100-100", 0},
		{"limit", Request{Limit: 32}, "10-20 10-21 10-21", 0},
		{"limit beside a short one", Request{From: one(1, 97), To: one(2, 30), Limit: 13}, "100-100 97-100 10-20", 0},
		{"live", Request{Live: "g"}, "10-10 10-56 10-10", 90 + 90 + 48},
		{"live, above its end", Request{Live: "g", From: one(1, 53)}, "100-100 53-56 100-100", 45},
		{"live, below its base", Request{Live: "g", To: one(1, 30)}, "100-100 10-30 100-100", 0},
	} {
		l := logs{starts: offsetsOf(3, 10), ends: offsetsOf(3, 100)}
		if !c.request.From.Time.IsZero() {
			l.from = offsetsOf(3, 40)
		}
		l.live = commitOf("g", 1, 50, 54, 55)
		c.request.Topics = []string{"a"}
		p, err := l.plan(c.request)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, r := range p.Ranges {
			got = append(got, fmt.Sprintf("%d-%d", r.Start, r.End))
		}
		if strings.Join(got, " ") != c.want || p.Unsettled() != c.unsettled {
			t.Errorf("%s: %v, %d unsettled, want %s, %d", c.name, got, p.Unsettled(), c.want, c.unsettled)
		}
	}
}

func TestPlanRefusesOffsetsOfWhatIsNotThere(t *testing.T) {
	l := logs{starts: offsetsOf(1, 0), ends: offsetsOf(1, 9)}
	for _, at := range []Place{{"b", 0}, {"a", 1}} {
		q := Request{Topics: []string{"a"}, From: Bound{Offsets: map[Place]int64{at: 1}}}
		if _, err := l.plan(q); err == nil || !strings.Contains(err.Error(), at.String()) {
			t.Errorf("%s: %v", at, err)
		}
	}
}

// What a run keeps of a plan is what it reads back.
func TestPlanIsReadBackAsItWasKept(t *testing.T) {
	run := Run{Group: ReplayGroup("g", "r"), ID: "r"}
	l := logs{starts: offsetsOf(3, 10), ends: offsetsOf(3, 100), live: commitOf("g", 1, 50, 54, 55)}
	maps.Copy(l.live["a"], commitOf("g", 2, 2000, 2002)["a"])
	until := time.UnixMilli(1_750_000_000_123)
	for _, live := range []string{"", "g"} {
		p, err := l.plan(Request{Topics: []string{"a"}, Live: live, To: Bound{Time: until}})
		if err != nil {
			t.Fatal(err)
		}
		p.Asked.Add("--filter x")
		began := kadm.OffsetResponses{"a": make(map[int32]kadm.OffsetResponse)}
		for _, in := range p.Ranges {
			began["a"][in.Partition] = kadm.OffsetResponse{Offset: run.asItBegan(p, in)}
		}
		for _, in := range p.Ranges {
			got, kept := run.readRange(began, in.Place), Plan{}
			if err := got.read(run.Group, run.asItIs(p, in), &kept); err != nil || !kept.Until.Equal(until) || !slices.Equal(kept.Asked, p.Asked) {
				t.Fatal(kept, err)
			}
			for offset := in.Start; offset < in.End; offset++ {
				if got.live.has(offset) != in.live.has(offset) {
					t.Errorf("live %q, %s, offset %d: settled %t, want %t", live, in.Place, offset, got.live.has(offset), in.live.has(offset))
				}
			}
			got.live, in.live, in.Unsettled = settled{}, settled{}, 0
			if !reflect.DeepEqual(got, in) {
				t.Errorf("live %q: read %+v, kept %+v", live, got, in)
			}
		}
	}
}

func TestRunRefusesOtherTopicsUnderItsID(t *testing.T) {
	commits := kadm.OffsetResponses{"a": nil, "b": nil}
	if err := sameTopics("r", commits, []string{"b", "a", "a"}); err != nil {
		t.Error(err)
	}
	for _, topics := range [][]string{{"a"}, {"a", "b", "c"}, {"a", "c"}} {
		if err := sameTopics("r", commits, topics); err == nil {
			t.Errorf("%v is taken for a, b", topics)
		}
	}
}

func TestYieldNamesTheWorstPartitionBehind(t *testing.T) {
	y := Yield{Group: "g", Patience: 30 * time.Second}
	for _, c := range []struct {
		name    string
		commits kadm.OffsetResponses
		want    bool
	}{
		{"no commit", nil, false},
		{"caught up", commitOf("g", 0, 100), false},
		{"behind", commitOf("g", 0, 60), true},
		{"one record held", commitOf("g", 0, 60, span(61, 99)...), false},
		{"many behind, some settled above", commitOf("g", 0, 60, 61, 63), true},
	} {
		if got := y.firstBehind(c.commits, offsetsOf(1, 100)); (got != "") != c.want {
			t.Errorf("%s: %q", c.name, got)
		}
	}
}

func span(first, last int64) (all []int64) {
	for i := first; i <= last; i++ {
		all = append(all, i)
	}
	return all
}

func TestLedgerCountsEveryEnd(t *testing.T) {
	l := new(Ledger)
	for _, o := range []bridge.Outcome{
		{Skip: "tombstone"},
		{Parts: []bridge.PartOutcome{{Delivered: true}, {Delivered: true, Doubts: 1}, {Skip: "already_stored"}}},
		{Parts: []bridge.PartOutcome{{Part: bridge.WholeRecord, Reason: "invalid_json"}}},
		{Parts: []bridge.PartOutcome{{Reason: "ambiguous", Doubts: 3}}},
		{Parts: []bridge.PartOutcome{{Reason: "ambiguous", Doubts: 1}}},
	} {
		if err := l.Ended(t.Context(), o); err != nil {
			t.Fatal(err)
		}
	}
	want := Counts{Records: 5, Delivered: 2, Repeats: 2, DeadLettered: map[string]int{"invalid_json": 1, "ambiguous": 2},
		Skipped: map[string]int{"tombstone": 1, "already_stored": 1}}
	if got := l.Counts(); !reflect.DeepEqual(got, want) || got.Rejects() != 3 || got.Skips() != 2 {
		t.Errorf("%+v, want %+v", got, want)
	}
}

// A plan says what a record is to the run: one that is later than its end in time is passed over, whatever its offset.
func ExamplePlan_Reading() {
	noon := time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC)
	plan := Plan{Until: noon, Ranges: []Range{{Place: Place{"detections", 0}, End: 100, live: everything}}}
	for _, at := range []time.Time{noon.Add(-time.Second), noon} {
		r := plan.Reading("run-1", &kgo.Record{Topic: "detections", Offset: 7, Timestamp: at})
		fmt.Printf("%s %q\n", r.Input.ReplayID, r.Skip)
	}
	// Output:
	// run-1 ""
	// run-1 "past_until"
}

// Two processes of one run that mean different things by it must find out, and which things.
func TestAskedOtherwiseIsTold(t *testing.T) {
	asked := func(values ...string) (a Asked) {
		for _, v := range values {
			a.Add(v)
		}
		return a
	}
	for _, c := range []struct {
		a, b Asked
		want []int
	}{
		{asked("x", "", "2"), asked("x", "", "2"), nil},
		{asked("x", "", "2"), asked("y", "", "3"), []int{0, 2}},
		{asked("x", ""), asked("x", "a", "new"), []int{1}},
		{nil, asked("x"), nil},
		{asked("x")[:3], asked("y"), nil},
	} {
		if got := c.a.Differ(c.b); !slices.Equal(got, c.want) || !slices.Equal(c.b.Differ(c.a), c.want) {
			t.Errorf("%x and %x differ in %v, want %v", c.a, c.b, got, c.want)
		}
	}
	kept := asked("x", "", "2")
	for number, want := range []Asked{asked("new", "", "2"), asked("x", "new", "2"), asked("x", "", "new"), asked("x", "", "2", "new"), asked("x", "", "2")} {
		if got := kept.With(number, "new"); !slices.Equal(got, want) || !slices.Equal(kept, asked("x", "", "2")) {
			t.Errorf("with another thing of number %d: %x, want %x", number, got, want)
		}
	}
}
