package frontier

import (
	"bytes"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// world is a partition's log, its group's commit and one owner after another, driven by a script. It knows which
// record stands where (an offset can hold another one after an unclean election) and judges the frontier by what would
// become of the records, not by what the frontier says of itself:
//
//   - no loss: what a snapshot covers was settled, and what Add calls settled was;
//   - the bound: a delivered record that the last commit does not cover holds room;
//   - room comes back exactly once.
type world struct {
	t      *testing.T
	script *bytes.Reader

	log   []entry
	end   int64 // log end offset
	epoch int32
	safe  map[entry]bool // settled by somebody, and known by the commit or this owner

	commit    Snapshot // what the broker has
	truncated int64    // the log was cut here since; end of all offsets if not

	f        *Frontier
	next     int64
	at       time.Time
	open     map[int64]time.Time
	room     map[entry]int  // held by the frontier
	inFlight *Snapshot      // a commit on the wire
	pending  map[entry]int  // room at that time
	free     map[entry]bool // settled by this owner without a document
	owed     int            // room of records that are gone
}

type entry struct {
	offset int64
	epoch  int32
}

const never = int64(1) << 60

func runWorld(t *testing.T, script []byte) {
	w := &world{
		t: t, script: bytes.NewReader(script), end: 100, safe: map[entry]bool{}, truncated: never,
		commit: Snapshot{Base: 100, LeaderEpoch: -1}, at: time.Unix(0, 0),
	}
	w.assign()
	for w.script.Len() > 0 {
		w.step()
		w.check()
	}
	w.finish()
}

func (w *world) byte() int {
	b, _ := w.script.ReadByte() // 0 at the end
	return int(b)
}

func (w *world) step() {
	switch op := w.byte(); {
	case op < 40:
		w.produce()
	case op < 90:
		w.fetch()
	case op < 170:
		w.settle()
	case op < 195:
		w.snapshot()
	case op < 220:
		w.answer()
	case op < 230:
		w.rewind()
	case op < 240:
		w.crash()
	case op < 244:
		w.epoch++
	case op < 248:
		w.truncate()
	case op < 250:
		w.f.SetLimit(w.byte())
	case op < 253:
		w.f.SetHeld(w.byte()%2 == 1)
	default:
		w.f.SetCeiling(w.next + 5)
		w.f.SetEnd(w.end)
	}
}

func (w *world) produce() {
	for range w.byte()%20 + 1 {
		if w.byte()%8 == 0 {
			w.end += int64(w.byte())*w.stride() + 1 // a gap: compacted or aborted
		}
		w.log = append(w.log, entry{w.end, w.epoch})
		w.end++
	}
}

func (w *world) stride() int64 {
	if w.byte() == 7 {
		return 1_000_000
	}
	return 1
}

func (w *world) fetch() {
	w.at = w.at.Add(time.Second)
	n := w.byte()%30 + 1
	for _, e := range w.log {
		if e.offset < w.next || n == 0 {
			continue
		}
		n--
		w.forget(e)
		settled := w.f.Add(e.offset, e.epoch, w.byte(), w.at)
		if settled && !w.safe[e] {
			w.t.Fatalf("Add(%v) = settled: a lost record", e)
		}
		if !settled && w.safe[e] {
			w.t.Fatalf("Add(%v) = not settled, though a commit or this owner says so: a repeat", e)
		}
		w.next = e.offset + 1
		if !settled {
			delete(w.safe, e)
			w.open[e.offset] = w.at
		}
	}
}

// forget: the room of records that the frontier learns by this one to be gone comes back with the next commit.
func (w *world) forget(arriving entry) {
	for e, room := range w.room {
		if e.offset >= w.next && (e.offset < arriving.offset || e.epoch < arriving.epoch) {
			w.owed += room
			delete(w.room, e)
			delete(w.pending, e)
		}
	}
}

func (w *world) settle() {
	if len(w.open) == 0 {
		return
	}
	offsets := slices.Sorted(maps.Keys(w.open))
	for range w.byte()%10 + 1 {
		offset := offsets[w.byte()%len(offsets)]
		_, open := w.open[offset]
		room := w.byte() % 4
		if ok := w.f.Settle(offset, room); ok != open {
			w.t.Fatalf("Settle(%d) = %t, open %t", offset, ok, open)
		}
		if !open {
			continue
		}
		delete(w.open, offset)
		e := w.entryAt(offset)
		w.safe[e] = true
		w.free[e] = room == 0
		if room > 0 {
			w.room[e] += room
		}
	}
}

// entryAt is the record at the offset, the zero entry if there is none.
func (w *world) entryAt(offset int64) entry {
	for _, e := range w.log {
		if e.offset == offset {
			return e
		}
	}
	return entry{}
}

func (w *world) snapshot() {
	s, ok := w.f.Snapshot()
	if !ok {
		return
	}
	m := w.decode(s)
	for _, e := range w.log {
		if covered(s, m, e) && !w.safe[e] {
			w.t.Fatalf("a commit of %d with %q covers %v, which is not settled: a lost record", s.Base, s.Metadata, e)
		}
	}
	// After a lost answer a record that holds room may play the base, below that of the commit nobody knows of.
	if s.Base < w.commit.Base && w.truncated == never && w.room[w.entryAt(s.Base)] == 0 {
		w.t.Fatalf("base goes back from %d to %d", w.commit.Base, s.Base)
	}
	if w.inFlight == nil {
		w.inFlight, w.pending = &s, maps.Clone(w.room)
	}
}

func (w *world) decode(s Snapshot) Map {
	m, err := Decode("g", "t", 3, s.Base, s.Metadata)
	if err != nil {
		w.t.Fatal(err)
	}
	return m
}

// covered is what a next owner would make of the record.
func covered(s Snapshot, m Map, e entry) bool {
	return e.offset < s.Base || m.Contains(e.offset) && m.Epoch != nil && e.epoch <= *m.Epoch
}

// answer ends the commit on the wire: acknowledged, or done and the answer lost, or not done.
func (w *world) answer() {
	if w.inFlight == nil {
		return
	}
	s, kind := *w.inFlight, w.byte()%4
	w.inFlight = nil
	if kind == 0 {
		return
	}
	w.commit, w.truncated = s, never
	if kind == 1 {
		return
	}
	m, want := w.decode(s), w.owed
	w.owed = 0
	for e, room := range w.pending {
		if e.offset < s.Base || m.Contains(e.offset) {
			want += room
			if w.room[e] -= room; w.room[e] == 0 {
				delete(w.room, e)
			}
		}
	}
	if got := w.f.Committed(s).Units(); got != want {
		w.t.Fatalf("Committed(%d) = %d, want %d", s.Base, got, want)
	}
	if got := w.f.Committed(s).Units(); got != 0 {
		w.t.Fatalf("Committed a second time = %d", got)
	}
}

func (w *world) rewind() {
	from := w.f.Stats().Base + int64(w.byte())
	w.f.Rewind(from)
	if from >= w.next {
		return
	}
	w.next = from
	maps.DeleteFunc(w.open, func(o int64, _ time.Time) bool { return o >= from })
}

func (w *world) truncate() {
	if len(w.log) == 0 {
		return
	}
	cut := w.log[max(0, len(w.log)-1-w.byte()%40)].offset
	w.log = slices.DeleteFunc(w.log, func(e entry) bool { return e.offset >= cut })
	w.end = cut
	w.epoch++
	w.inFlight = nil
	if cut < w.commit.Base {
		w.truncated = min(w.truncated, cut)
	}
	if cut >= w.next {
		return // nobody notices; the epochs of what comes next tell
	}
	for e, room := range w.room {
		if e.offset >= cut {
			w.owed += room
			delete(w.room, e)
		}
	}
	w.f.DropFrom(cut)
	w.next = cut
	maps.DeleteFunc(w.open, func(o int64, _ time.Time) bool { return o >= cut })
}

func (w *world) crash() {
	want := w.owed
	w.owed = 0
	for _, room := range w.room {
		want += room
	}
	if got := w.f.Fence().Units(); got != want {
		w.t.Fatalf("Fence = %d, want %d", got, want)
	}
	if got := w.f.Fence().Units(); got != 0 {
		w.t.Fatalf("Fence a second time = %d", got)
	}
	for o := range w.open {
		if w.f.Settle(o, 1) {
			w.t.Fatal("a late answer settled on a fenced frontier")
		}
	}
	if _, ok := w.f.Snapshot(); ok || w.inFlight != nil && w.f.Committed(*w.inFlight).Units() != 0 {
		w.t.Fatal("a fenced frontier goes on")
	}
	w.assign()
}

func (w *world) assign() {
	m := w.decode(w.commit)
	maps.DeleteFunc(w.safe, func(e entry, _ bool) bool { return !w.isCovered(m, e) })
	w.f = New(Config{Group: "g", Topic: "t", Partition: 3, Base: w.commit.Base, Epoch: w.commit.LeaderEpoch, Restored: m})
	w.next, w.open, w.room, w.inFlight = w.commit.Base, map[int64]time.Time{}, map[entry]int{}, nil
	w.free = map[entry]bool{}
	if w.truncated < w.next {
		w.next = w.truncated
		if w.byte()%2 == 0 { // else the first record tells
			w.f.DropFrom(w.next)
		}
	}
}

func (w *world) isCovered(m Map, e entry) bool {
	if w.truncated < w.commit.Base {
		return e.offset < w.truncated
	}
	return covered(w.commit, m, e)
}

// check compares what is known at any time.
func (w *world) check() {
	s := w.f.Stats()
	if s.Open != len(w.open) {
		w.t.Fatalf("open %d, want %d", s.Open, len(w.open))
	}
	if base := slices.Sorted(maps.Keys(w.open)); len(base) > 0 && (s.Base != base[0] || !s.OldestOpen.Equal(w.open[base[0]])) {
		w.t.Fatalf("base %d since %v, want %d since %v", s.Base, s.OldestOpen, base[0], w.open[base[0]])
	}
	total := 0
	for _, room := range w.room {
		total += room
	}
	if s.Uncovered != total {
		w.t.Fatalf("uncovered room %d, want %d", s.Uncovered, total)
	}
	w.checkBound()
}

// checkBound: what was delivered and would be sent again after a crash now holds room.
func (w *world) checkBound() {
	m := w.decode(w.commit)
	for _, e := range w.log {
		if w.safe[e] && !w.isCovered(m, e) && !w.free[e] && w.room[e] == 0 {
			w.t.Fatalf("a crash would repeat %v, which holds no room", e)
		}
	}
}

// finish settles all and commits: then nothing is held, but for a record before a restored one that never arrives.
func (w *world) finish() {
	for range len(w.log) + 1 {
		w.fetch()
	}
	for o := range w.open {
		w.safe[w.entryAt(o)] = true
		w.f.Settle(o, 1)
	}
	clear(w.open)
	w.inFlight = nil
	w.snapshot()
	if w.inFlight != nil {
		w.commit, w.truncated = *w.inFlight, never
		w.f.Committed(w.commit)
	}
	m, left := w.decode(w.commit), 0
	for _, e := range w.log {
		if !w.isCovered(m, e) && !w.free[e] {
			left++
		}
	}
	if left > 1 {
		w.t.Fatalf("all is settled and committed, but %d records would be sent again", left)
	}
}

// TestNoInterleavingPassesUnsettledRecord is acceptance test 15: nothing at or above an unsettled offset is ever below
// a committed base, nothing else is covered, and room comes back once.
func TestNoInterleavingPassesUnsettledRecord(t *testing.T) {
	for seed := range uint64(800) {
		random := rand.New(rand.NewPCG(seed, 1))
		script := make([]byte, 200+random.IntN(2000))
		for i := range script {
			script[i] = byte(random.Uint32())
		}
		runWorld(t, script)
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
}

// FuzzFrontier: the same invariants for any order of operations.
func FuzzFrontier(f *testing.F) {
	f.Add([]byte{10, 5, 50, 20, 100, 3, 1, 2, 180, 200, 2, 235, 50, 9})
	f.Add(bytes.Repeat([]byte{1, 41, 91, 171, 196, 2, 221, 231}, 20))
	f.Add(bytes.Repeat([]byte{15, 60, 120, 175, 245, 3, 60, 201, 3, 232, 241}, 20))
	f.Fuzz(func(t *testing.T, script []byte) {
		runWorld(t, script[:min(len(script), 4096)])
	})
}
