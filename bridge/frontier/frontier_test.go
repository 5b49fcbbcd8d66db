package frontier

import (
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

var noon = time.Date(2026, 9, 1, 12, 0, 0, 0, time.UTC)

// open returns a frontier with the offsets first to end-1 received and open.
func open(cfg Config, first, end int64) *Frontier {
	f := New(cfg)
	for o := first; o < end; o++ {
		f.Add(o, 1, 10, noon.Add(time.Duration(o)*time.Second))
	}
	return f
}

func settle(t *testing.T, f *Frontier, room int, offsets ...int64) {
	t.Helper()
	for _, o := range offsets {
		if !f.Settle(o, room) {
			t.Fatalf("Settle(%d) = false", o)
		}
	}
}

func snapshot(t *testing.T, f *Frontier) Snapshot {
	t.Helper()
	s, ok := f.Snapshot()
	if !ok {
		t.Fatal("nothing to commit")
	}
	return s
}

// restored is the map of a previous owner of group "", topic "", partition 0, with leader epoch 1.
func restored(base int64, runs ...[2]int64) Map {
	var m Map
	m.Epoch = new(int32(1))
	for _, r := range runs {
		m.settled.addRange(r[0], r[1])
	}
	return m
}

func decodeSnapshot(t *testing.T, s Snapshot) Map {
	t.Helper()
	m, err := Decode("", "", 0, s.Base, s.Metadata)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestFrontierNeverPassesUnsettled(t *testing.T) {
	f := open(Config{Base: 10, Epoch: -1}, 10, 20)
	settle(t, f, 1, 11, 12, 13, 19)
	if s := snapshot(t, f); s.Base != 10 {
		t.Errorf("committed %d over an open 10", s.Base)
	}
	settle(t, f, 1, 10)
	if s := snapshot(t, f); s.Base != 14 || s.LeaderEpoch != 1 {
		t.Errorf("committed %d epoch %d, want 14 epoch 1", s.Base, s.LeaderEpoch)
	}
}

func TestStats(t *testing.T) {
	f := open(Config{Base: 10}, 10, 20)
	settle(t, f, 2, 10, 13, 14, 17)
	want := Stats{
		Base: 11, Top: 17, Next: 20, Open: 6, OpenBytes: 60, OldestOpen: noon.Add(11 * time.Second),
		SettledAbove: 3, Runs: 2, Uncovered: 8, Dirty: true,
	}
	if got := f.Stats(); got != want {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	s := snapshot(t, f)
	f.Committed(s)
	f.Fence()
	want.Uncovered, want.Dirty, want.MapCharacters, want.Fenced = 0, false, len(s.Metadata), true
	if got := f.Stats(); got != want {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

// Markers and gaps: the lag reaches 0, and no offset is invented.
func TestBaseJumpsOverGaps(t *testing.T) {
	f := New(Config{Base: 5})
	f.Add(7, 1, 0, noon)
	if s := snapshot(t, f); s.Base != 7 {
		t.Errorf("base %d, want the first received", s.Base)
	}
	f.Add(10_000_007, 1, 0, noon)
	settle(t, f, 0, 10_000_007)
	if f.Settle(8, 0) {
		t.Error("an offset in a gap settled")
	}
	settle(t, f, 0, 7)
	if s := snapshot(t, f); s.Base != 10_000_008 || s.LeaderEpoch != 1 || s.Metadata != "" {
		t.Errorf("base %d with %q, want the log end and no map", s.Base, s.Metadata)
	}
}

// Pitfall 1: what settles between snapshot and acknowledgement is not covered by it.
func TestSettledAfterSnapshotKeepsItsRoom(t *testing.T) {
	f := open(Config{Base: 0}, 0, 10)
	settle(t, f, 1, 1, 5)
	s := snapshot(t, f)
	settle(t, f, 4, 0, 3)
	if room := f.Committed(s).Units(); room != 2 {
		t.Errorf("room %d came back, want that of 1 and 5", room)
	}
	if st := f.Stats(); !st.Dirty || st.Uncovered != 8 {
		t.Errorf("dirty %t, uncovered %d, want the later records", st.Dirty, st.Uncovered)
	}
}

// Pitfall 7, and a commit that failed: dirty until acknowledged.
func TestDirtyUntilAcknowledged(t *testing.T) {
	f := open(Config{Base: 0}, 0, 3)
	if _, ok := f.Snapshot(); ok {
		t.Error("a commit of nothing new")
	}
	settle(t, f, 1, 2) // only the map changes
	s := snapshot(t, f)
	if s2 := snapshot(t, f); s2 != s {
		t.Errorf("an unacknowledged commit changed from %v to %v", s, s2)
	}
	f.Committed(s)
	if _, ok := f.Snapshot(); ok {
		t.Error("still dirty after the acknowledgement")
	}
	f.SetHeld(false)
	if f.Stats().Dirty {
		t.Error("dirty by a field that did not change")
	}
	f.SetHeld(true)
	f.SetCeiling(7)
	f.SetEnd(9)
	m := decodeSnapshot(t, snapshot(t, f))
	if !m.Held || *m.Ceiling != 7 || *m.End != 9 || *m.Epoch != 1 {
		t.Errorf("fields %v %d %d %d", m.Held, *m.Ceiling, *m.End, *m.Epoch)
	}
}

// Guarantee 2: nothing that the last commit covers is sent again by the next owner.
func TestNextOwnerRepeatsNothingCovered(t *testing.T) {
	f := open(Config{Base: 0, Epoch: -1}, 0, 50_001)
	for o := int64(1); o <= 50_000; o++ {
		f.Settle(o, 1)
	}
	s := snapshot(t, f)
	if room := f.Committed(s).Units(); room != 50_000 {
		t.Errorf("room %d", room)
	}
	next := New(Config{Base: s.Base, Epoch: s.LeaderEpoch, Restored: decodeSnapshot(t, s)})
	if next.Add(0, 1, 0, noon) {
		t.Error("the stuck record is lost")
	}
	for o := int64(1); o <= 50_000; o++ {
		if !next.Add(o, 1, 0, noon) {
			t.Fatalf("%d is repeated", o)
		}
	}
	settle(t, next, 1, 0)
	if s := snapshot(t, next); s.Base != 50_001 {
		t.Errorf("base %d", s.Base)
	}
}

// A second crash before the restored records were received must not repeat them either.
func TestRestoredBitsStayInTheMapUntilReceived(t *testing.T) {
	f := New(Config{Base: 10, Restored: restored(10, [2]int64{12, 40})})
	f.Add(10, 1, 0, noon)
	f.Add(11, 1, 0, noon)
	settle(t, f, 1, 10)
	s := snapshot(t, f)
	if m := decodeSnapshot(t, s); s.Base != 11 || m.Count() != 28 || *m.Epoch != 1 {
		t.Errorf("base %d, %d settled of epoch %d, want 11, 28, 1", s.Base, m.Count(), *m.Epoch)
	}
}

// The base is never in the set. With everything received settled, and the next offset restored, a record that holds
// room anyway plays the base: all else is covered, and nothing that was covered is uncovered.
func TestBaseIsNeverInTheSet(t *testing.T) {
	f := New(Config{Base: 10, Restored: restored(10, [2]int64{12, 13}, [2]int64{14, 40})})
	for o := int64(10); o < 14; o++ {
		f.Add(o, 1, 0, noon)
	}
	settle(t, f, 1, 10, 11)
	settle(t, f, 0, 13) // no document: repeating it costs nothing, but it is not known
	s := snapshot(t, f)
	if m := decodeSnapshot(t, s); s.Base != 11 || m.Count() != 28 || m.Contains(11) {
		t.Errorf("base %d with %d settled, want 11 with 28", s.Base, m.Count())
	}
	if room := f.Committed(s).Units(); room != 1 || f.Stats().Uncovered != 1 {
		t.Errorf("room %d came back, %d left, want 1 and 1", room, f.Stats().Uncovered)
	}
	if !f.Add(14, 1, 0, noon) {
		t.Error("a restored record is repeated")
	}
	if room := f.Committed(snapshot(t, f)).Units(); room != 0 {
		t.Error("room came back for a record that plays the base")
	}
	for o := int64(15); o < 40; o++ {
		f.Add(o, 1, 0, noon)
	}
	if s = snapshot(t, f); s.Base != 40 {
		t.Errorf("base %d, want 40", s.Base)
	}
	if room := f.Committed(s).Units(); room != 1 {
		t.Errorf("room %d, want the last", room)
	}
}

// When the log start passed the committed base: the new base may be in the restored set. Nothing is received, so
// nothing is committed: the group's commit still says it.
func TestLogStartPassedTheBase(t *testing.T) {
	m := restored(10, [2]int64{12, 40}).From(20)
	f := New(Config{Base: 20, Restored: m})
	f.SetHeld(true)
	if s, ok := f.Snapshot(); ok {
		t.Errorf("commit of %d with %q", s.Base, s.Metadata)
	}
	for o := int64(20); o < 40; o++ {
		if !f.Add(o, 1, 0, noon) {
			t.Fatalf("%d is repeated", o)
		}
	}
	if s := snapshot(t, f); s.Base != 40 {
		t.Errorf("base %d, want 40", s.Base)
	}
}

// After an unclean election other records stand under the same offsets: their epoch is higher, and the bits from there
// up are worth nothing. A commit must not say that they count for the new epoch.
func TestRewrittenOffsetsAreNotSkipped(t *testing.T) {
	f := New(Config{Base: 10, Restored: restored(10, [2]int64{11, 40})})
	f.Add(10, 1, 0, noon)
	if !f.Add(11, 1, 0, noon) {
		t.Error("11 is repeated")
	}
	for _, o := range []int64{12, 13} {
		if f.Add(o, 2, 0, noon) {
			t.Errorf("%d, rewritten under a later leader, is lost", o)
		}
	}
	settle(t, f, 1, 13)
	m := decodeSnapshot(t, snapshot(t, f))
	if m.Count() != 2 || !m.Contains(11) || !m.Contains(13) || *m.Epoch != 2 {
		t.Errorf("%d settled of epoch %d, want 11 and 13 of 2", m.Count(), *m.Epoch)
	}
}

func TestMapWithoutEpochCountsForNoRecordWithOne(t *testing.T) {
	m := restored(10, [2]int64{11, 40})
	m.Epoch = nil
	if f := New(Config{Base: 10, Restored: m}); f.Add(11, 0, 0, noon) {
		t.Error("11 is skipped without proof")
	}
	if f := New(Config{Base: 10, Restored: m}); !f.Add(11, -1, 0, noon) {
		t.Error("11 of a broker without epochs is repeated")
	}
}

// A restored record that was compacted away is a gap like any other: it leaves the map.
func TestRestoredGapLeavesTheMap(t *testing.T) {
	f := New(Config{Base: 10, Restored: restored(10, [2]int64{12, 20})})
	f.Add(10, 1, 0, noon)
	if !f.Add(15, 1, 0, noon) {
		t.Error("15 is repeated")
	}
	if m := decodeSnapshot(t, snapshot(t, f)); m.Count() != 5 || m.Contains(12) || m.Contains(14) {
		t.Errorf("%d settled, want 15 to 19", m.Count())
	}
}

func TestEndOfReplayIsTakenOverAndHeldIsNot(t *testing.T) {
	f := open(Config{Base: 0, Restored: Map{End: new(int64(77)), Until: new(int64(88)), Asked: []byte{7}, Ceiling: new(int64(5)), Held: true}}, 0, 2)
	settle(t, f, 1, 1)
	if m := decodeSnapshot(t, snapshot(t, f)); m.End == nil || *m.End != 77 || m.Until == nil || *m.Until != 88 || string(m.Asked) != "\a" || m.Ceiling != nil || m.Held {
		t.Errorf("%+v", m)
	}
}

// The tag-5 epoch is that of the highest offset written, not of those that were cut off.
func TestEpochOfTheHighestSettledOffset(t *testing.T) {
	f := New(Config{Base: 0, Epoch: 3})
	if f.Add(0, 4, 0, noon); f.Stats().Dirty {
		t.Error("dirty before anything settled")
	}
	f.Add(1, 4, 0, noon)
	f.Add(2, 4, 0, noon)
	f.Add(3, 7, 0, noon)
	settle(t, f, 1, 2)
	s := snapshot(t, f)
	if m := decodeSnapshot(t, s); s.LeaderEpoch != 3 || *m.Epoch != 4 {
		t.Errorf("commit epoch %d, map epoch %d, want 3 and 4", s.LeaderEpoch, *m.Epoch)
	}
	settle(t, f, 1, 3, 0)
	s = snapshot(t, f)
	if m := decodeSnapshot(t, s); s.LeaderEpoch != 4 || *m.Epoch != 7 {
		t.Errorf("commit epoch %d, map epoch %d, want 4 and 7", s.LeaderEpoch, *m.Epoch)
	}
	f.Add(4, 8, 0, noon)
	settle(t, f, 1, 1)
	if s = snapshot(t, f); s.Base != 4 || s.LeaderEpoch != 7 {
		t.Errorf("commit of %d epoch %d, want 4 and that of the record below", s.Base, s.LeaderEpoch)
	}
}

// Pitfall 9: a topic made anew starts below the base; a kept bit over a rewritten offset is a lost record.
func TestRecreatedTopicLosesNothing(t *testing.T) {
	f := New(Config{Base: 100, Epoch: 5, Restored: restored(100, [2]int64{101, 200})})
	f.Add(0, 0, 0, noon)
	settle(t, f, 1, 0)
	if s := snapshot(t, f); s.Base != 1 || s.LeaderEpoch != 0 || s.Metadata != "" {
		t.Errorf("commit of %d epoch %d %q, want 1 of the new log", s.Base, s.LeaderEpoch, s.Metadata)
	}
	if f.Add(101, 0, 0, noon) {
		t.Error("101 of the new topic is lost")
	}
	f.Add(102, 0, 0, noon)
	settle(t, f, 1, 102)
	f.Rewind(101)
	f.SetHeld(true)
	if m := decodeSnapshot(t, snapshot(t, f)); *m.Epoch != 0 {
		t.Errorf("map of epoch %d: of the old topic", *m.Epoch)
	}
}

// Of the record below the cut, or unknown: an epoch of the lost log would make the client see data loss again.
func TestCommitAfterDataLossHasNoEpochOfTheLostLog(t *testing.T) {
	for _, cut := range []int64{20, 5} {
		f := open(Config{Base: 10, Epoch: 7}, 10, 50)
		for o := int64(10); o < 50; o++ {
			f.Settle(o, 0)
		}
		f.DropFrom(cut)
		want := int32(1)
		if cut < 10 {
			want = -1
		}
		if s := snapshot(t, f); s.Base != cut || s.LeaderEpoch != want {
			t.Errorf("commit of %d epoch %d, want %d epoch %d", s.Base, s.LeaderEpoch, cut, want)
		}
	}
}

// A record that holds room but lies where bits are not kept any more cannot play the base: what is between would be
// uncovered.
func TestNothingFarBelowPlaysTheBase(t *testing.T) {
	f := open(Config{Base: 0, Restored: restored(0, [2]int64{20_000, 20_001})}, 0, 20_000)
	for o := range int64(20_000) {
		f.Settle(o, int(max(0, 1-o)))
	}
	if s, ok := f.Snapshot(); ok {
		t.Errorf("commit of %d", s.Base)
	}
	f.Add(20_000, 1, 0, noon)
	if room := f.Committed(snapshot(t, f)).Units(); room != 1 {
		t.Errorf("room %d, want 1", room)
	}
}

func TestDropFromGivesRoomBack(t *testing.T) {
	f := open(Config{Base: 0}, 0, 10)
	settle(t, f, 1, 2, 6, 8)
	f.DropFrom(6)
	if s := f.Stats(); s.Next != 6 || s.Top != 2 || s.Open != 5 || s.OpenBytes != 50 {
		t.Errorf("%+v", s)
	}
	if f.Settle(7, 1) {
		t.Error("a record of the cut-off log settled")
	}
	if room := f.Committed(snapshot(t, f)).Units(); room != 3 {
		t.Errorf("room %d, want that of 2, 6 and 8", room)
	}
}

// Pitfalls 6 and error 12: the prefix that fits; the rest keeps its room.
func TestWhatDoesNotFitKeepsItsRoom(t *testing.T) {
	f := open(Config{Base: 0, Limit: 100}, 0, 2001)
	for o := int64(2); o <= 2000; o += 4 {
		f.Settle(o, 1)
	}
	s := snapshot(t, f)
	m := decodeSnapshot(t, s)
	if len(s.Metadata) > 100 || m.Count() < 100 {
		t.Errorf("%d characters for %d settled", len(s.Metadata), m.Count())
	}
	covered := 0
	for o := int64(2); o <= 2000; o += 4 {
		if m.Contains(o) {
			covered++
		}
	}
	if room := f.Committed(s).Units(); room != covered || f.Stats().Uncovered != 500-covered {
		t.Errorf("room %d, left %d, want %d of 500", room, f.Stats().Uncovered, covered)
	}
}

func TestNoMetadataAtALimitOfNothing(t *testing.T) {
	f := open(Config{Base: 0, Limit: -1}, 0, 10)
	f.Settle(0, 1)
	f.Settle(5, 1)
	if s := snapshot(t, f); s.Metadata != "" || s.Base != 1 || f.Committed(s).Units() != 1 {
		t.Errorf("%q at %d", s.Metadata, s.Base)
	}
}

// After error 12 a shorter map must not leave out what an acknowledged one said: the room of that is given back, so a
// crash would repeat it beyond the bound.
func TestShorterMapUncoversNothing(t *testing.T) {
	f := open(Config{Base: 0}, 0, 2001)
	for o := int64(1); o <= 2000; o += 2 {
		f.Settle(o, 1)
	}
	first := snapshot(t, f)
	f.Committed(first)
	for o := int64(2); o <= 2000; o += 4 {
		f.Settle(o, 1)
	}
	f.SetLimit(100)
	if s, ok := f.Snapshot(); ok {
		t.Errorf("%d characters after %d were acknowledged", len(s.Metadata), len(first.Metadata))
	}
	for o := int64(0); o < 1990; o += 2 {
		f.Settle(o, 1)
	}
	if s := snapshot(t, f); s.Base != 1992 || len(s.Metadata) > 100 || decodeSnapshot(t, s).Count() == 0 {
		t.Errorf("%d characters at %d, though what is left fits", len(s.Metadata), s.Base)
	}
}

// The limit is found by halving: never below what the broker took, and at last exactly that.
func TestLimitIsFoundBetweenWhatWasTakenAndWhatWasNot(t *testing.T) {
	for most := range 400 {
		f := open(Config{Base: 0}, 0, 4000)
		for o := int64(1); o < 4000; o += 1 + o%5 {
			f.Settle(o, 1)
		}
		for tries := 0; ; tries++ {
			s, ok := f.Snapshot()
			if !ok || tries > 20 {
				t.Fatalf("no commit within %d tries at a limit of %d", tries, most)
			}
			if len(s.Metadata) <= most {
				f.Committed(s)
				break
			}
			f.TooLong(len(s.Metadata))
		}
	}
}

func TestLateAnswerNeverCommits(t *testing.T) {
	f := open(Config{Base: 0}, 0, 10)
	settle(t, f, 3, 0, 4)
	s := snapshot(t, f)
	if room := f.Fence().Units(); room != 6 {
		t.Errorf("room %d, want 6", room)
	}
	if f.Fence().Units() != 0 || f.Settle(1, 1) || f.Committed(s).Units() != 0 || f.Add(10, 1, 0, noon) || !f.Stats().Fenced {
		t.Error("a fenced frontier goes on")
	}
	if _, ok := f.Snapshot(); ok {
		t.Error("a fenced frontier commits")
	}
	other := open(Config{Base: 0}, 0, 10)
	settle(t, other, 1, 0)
	other.Snapshot()
	if other.Committed(s).Units() != 0 {
		t.Error("a snapshot of another assignment gives room back")
	}
}

func TestSecondSettleKeepsRoomWithTheCaller(t *testing.T) {
	f := open(Config{Base: 0}, 0, 3)
	settle(t, f, 1, 1)
	if f.Settle(1, 1) || f.Settle(7, 1) {
		t.Error("settled twice, or never received")
	}
	if room := f.Fence().Units(); room != 1 {
		t.Errorf("room %d, want 1", room)
	}
}

// What is given back is fetched again; what was delivered meanwhile is not sent again.
func TestRewindStrandsNothingAndRepeatsNothing(t *testing.T) {
	f := open(Config{Base: 0}, 0, 10)
	settle(t, f, 1, 1, 6, 9)
	f.Rewind(4)
	if s := f.Stats(); s.Next != 4 || s.Open != 3 || s.Top != 9 {
		t.Errorf("%+v", s)
	}
	settle(t, f, 1, 0, 2, 3)
	s := snapshot(t, f)
	if m := decodeSnapshot(t, s); s.Base != 4 || m.Count() != 2 {
		t.Errorf("base %d with %d settled, want 4 with 6 and 9", s.Base, m.Count())
	}
	if room := f.Committed(s).Units(); room != 6 {
		t.Errorf("room %d, want 6", room)
	}
	for o := int64(4); o < 10; o++ {
		if settled := f.Add(o, 1, 10, noon); settled != (o == 6 || o == 9) {
			t.Errorf("Add(%d) = %t", o, settled)
		}
	}
	settle(t, f, 1, 4, 5, 7, 8)
	if s := snapshot(t, f); s.Base != 10 {
		t.Errorf("base %d, want 10", s.Base)
	}
}

func TestRewindBelowTheBaseStopsThere(t *testing.T) {
	f := open(Config{Base: 0}, 0, 5)
	settle(t, f, 1, 0, 1, 2)
	f.Rewind(1)
	if s := snapshot(t, f); s.Base != 3 || f.Stats().Next != 3 {
		t.Errorf("base %d, next %d, want 3", s.Base, f.Stats().Next)
	}
}

func TestWindowEdgeHoldsNewRecordsOnly(t *testing.T) {
	tests := []struct {
		name  string
		width int64
		every int64 // one open record in so many
		full  bool
	}{
		{"inside the window", window, 2, false},
		{"wide, one run", 100_000, 1 << 40, false},
		{"wide, 300 runs", 30_000, 101, false},
		{"wide, more runs", 30_000, 99, true},
		{"above a million", maxWidth + 1, 1 << 40, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := open(Config{Base: 0}, 0, tt.width+10)
			for o := int64(1); o <= tt.width; o++ {
				if o%tt.every != 0 || o == tt.width {
					f.Settle(o, 0)
				}
			}
			if f.Holds(tt.width+1) != tt.full {
				t.Errorf("holds %t, want %t", f.Holds(tt.width+1), tt.full)
			}
			if f.Holds(tt.width) || f.Holds(0) {
				t.Error("a record below top is held: the window could never move")
			}
		})
	}
}

// A window of 16,384 always fits, whatever is set beside it.
func TestWindowAlwaysFits(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 1))
	for _, share := range []float64{0.01, 0.05, 0.2, 0.5, 0.8, 0.99} {
		f := open(Config{Base: 1 << 40, Epoch: 1 << 30}, 1<<40, 1<<40+window+1)
		for o := int64(1); o <= window; o++ {
			if o == window || random.Float64() < share {
				f.Settle(1<<40+o, 1)
			}
		}
		f.SetHeld(true)
		f.SetCeiling(1 << 50)
		f.SetEnd(1 << 60)
		held := f.Stats().Uncovered
		s := snapshot(t, f)
		if len(s.Metadata) > defaultLimit || f.Committed(s).Units() != held {
			t.Errorf("share %v: %d characters, %d of %d not covered", share, len(s.Metadata), f.Stats().Uncovered, held)
		}
	}
}

// A stuck record must not cost memory for what goes on behind it: a million settled records are bits.
func TestMemoryBehindStuckRecordIsBounded(t *testing.T) {
	f := New(Config{Base: 0})
	f.Add(0, 1, 0, noon)
	for o := int64(1); o <= maxWidth; o++ {
		f.Add(o, 1, 0, noon)
		f.Settle(o, 0)
	}
	if n := cap(f.open.records); n > 1024 {
		t.Errorf("%d entries kept for 1 open record", n)
	}
	if n := len(f.settled.pages); n > maxWidth/4096+1 {
		t.Errorf("%d pages", n)
	}
	f.Settle(0, 0)
	if n := len(f.settled.pages); n > 2 {
		t.Errorf("%d pages kept below the base", n)
	}
}

// Workers settle, the committer commits, then the assignment is lost: each unit comes back once, to somebody.
func TestRoomComesBackOnceUnderConcurrency(t *testing.T) {
	const workers, each = 8, 2000
	f := open(Config{Base: 0}, 0, workers*each)
	var back, kept atomic.Int64
	var working, committing sync.WaitGroup
	for w := range int64(workers) {
		working.Go(func() {
			for i := range int64(each) {
				if !f.Settle(i*workers+w, 1) {
					back.Add(1)
				}
				if w == 0 && i == each/2 {
					kept.Add(int64(f.Fence().Units()))
				}
			}
		})
	}
	committing.Go(func() {
		for !f.Stats().Fenced {
			if s, ok := f.Snapshot(); ok {
				kept.Add(int64(f.Committed(s).Units()))
			}
		}
	})
	working.Wait()
	committing.Wait()
	if total := back.Load() + kept.Load(); total != workers*each {
		t.Errorf("%d units came back of %d", total, workers*each)
	}
}

func TestDamagedMetadataQuotesNothing(t *testing.T) {
	_, err := Decode("g", "t", 0, 0, "hunter2")
	if err == nil || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("error %v", err)
	}
}

func BenchmarkSettle(b *testing.B) {
	const queued = 512
	f := New(Config{Base: 0})
	order := rand.New(rand.NewPCG(1, 1)).Perm(queued)
	for n := 0; n < b.N; n += queued {
		b.StopTimer()
		base := int64(n)
		for o := range int64(queued) {
			f.Add(base+o, 1, 100, noon)
		}
		if s, ok := f.Snapshot(); ok {
			f.Committed(s)
		}
		b.StartTimer()
		for _, o := range order[:min(queued, b.N-n)] {
			f.Settle(base+int64(o), 1)
		}
	}
}

// BenchmarkSettleBehindStuckRecord: the base does not move, half a million are settled above it.
func BenchmarkSettleBehindStuckRecord(b *testing.B) {
	f := New(Config{Base: 0})
	f.Add(0, 1, 0, noon)
	next := int64(1)
	for n := 0; n < b.N; n += 512 {
		b.StopTimer()
		if next > 500_000 {
			f, next = New(Config{Base: 0}), 1
			f.Add(0, 1, 0, noon)
		}
		first := next
		for ; next < first+512; next++ {
			f.Add(next, 1, 0, noon)
		}
		b.StartTimer()
		for o := first; o < next; o++ {
			f.Settle(o, 0)
		}
	}
}

func BenchmarkEncodeWindow16384(b *testing.B) {
	for _, tt := range []struct {
		name string
		open float64
	}{{"1%", 0.01}, {"50%", 0.5}, {"99%", 0.99}} {
		b.Run(tt.name, func(b *testing.B) {
			random := rand.New(rand.NewPCG(1, 1))
			f := open(Config{Base: 77}, 77, 77+window+1)
			for o := int64(1); o <= window; o++ {
				if random.Float64() >= tt.open {
					f.Settle(77+o, 0)
				}
			}
			for b.Loop() {
				f.Snapshot()
			}
		})
	}
}

func TestFrontierAfterACutKeepsWhatIsSettledBelowIt(t *testing.T) {
	key := Config{Group: "g", Topic: "t", Base: 10, Epoch: 1}
	f := New(key)
	for o := int64(10); o < 20; o++ {
		f.Add(o, 1, 0, time.Time{})
	}
	for _, o := range []int64{12, 13, 17} {
		f.Settle(o, 1)
	}
	if !f.Dirty() {
		t.Error("settled records leave nothing to commit")
	}
	base, m := f.Settled()
	f.Fence()
	if base != 10 || f.Dirty() {
		t.Errorf("base %d, dirty %t after the fence; want 10 and false", base, f.Dirty())
	}
	key.Restored = m
	g := New(key)
	g.DropFrom(15)
	var settled []int64
	for o := int64(10); o < 20; o++ {
		if g.Add(o, 1, 0, time.Time{}) {
			settled = append(settled, o)
		}
	}
	if want := []int64{12, 13}; !slices.Equal(settled, want) {
		t.Errorf("settled %v, want %v: 17 stands above the cut, where other records are now", settled, want)
	}
}
