// Package frontier knows of each partition what is settled, what a commit may say of it, and what a crash would repeat.
//
// It promises: no commit it proposes passes a record that is not settled, and none calls one settled that is not; what
// an acknowledged commit covers is known exactly, so that the room of each record comes back once, neither early (a
// crash would repeat more than the operator allowed) nor never (delivery would stop).
//
// A Frontier is one partition during one assignment. Every record in flight holds the pointer to the one that it was
// registered with, so the pointer is the epoch: a late answer reaches its own fenced frontier and no newer one. An
// Exposure is the member's bound over all of its partitions. Map is the settled set as commit metadata carries it.
//
// No clock, no I/O, no goroutine.
package frontier

import (
	"math"
	"slices"
	"sync"
	"time"
)

const (
	window     = 16384 // offsets whose bits always fit into the metadata
	kept       = 4096  // offsets below the base whose bits are kept for commitBase
	windowRuns = 300   // up to so many runs, at most 1,700 characters, the set may be wider, up to maxWidth
)

// Config seeds a Frontier.
type Config struct {
	Group, Topic string
	Partition    int32
	Base         int64 // committed offset: where consumption starts
	Epoch        int32 // leader epoch of that commit; -1: unknown
	Restored     Map   // what the commit's metadata says; its Held is not taken over, and its Ceiling only if KeepCeiling
	Limit        int   // characters of metadata; 0: 3,072

	KeepCeiling bool
}

// Frontier is the settled set of one partition during one assignment. Safe for concurrent use; the lock is never held
// for longer than it takes to encode a map.
type Frontier struct {
	key uint32 // checksum of group, topic and partition

	mu     sync.Mutex
	fenced bool
	limit  int
	fields Map // what a commit says beside the set, whose place in it is unused

	floor int64    // lowest offset whose bit is kept
	base  int64    // lowest open offset; next when none is open
	next  int64    // highest received offset + 1
	open  received // received, not settled
	epoch epochs   // of the received offsets

	// settled holds, below next, what is received and settled; at and above, what the map of an earlier commit says and
	// nobody has received yet. The latter is believed only when the record arrives, but stays in every map until then:
	// a commit without it would repeat it after a crash.
	settled       offsets
	restoredTop   int64 // no offset above it is restored
	restoredEpoch int32

	pending   []holding // settled, in that order, and not known to be covered by a commit
	uncovered Room      // theirs
	owed      Room      // of records that were forgotten; Committed returns it
	sequence  uint64    // of the next holding

	version    uint64 // counts changes of what a commit would say
	committed  uint64 // version that the last acknowledged commit says
	covered    int64  // no offset above it is covered by the last acknowledged commit
	ceiling    int64  // highest that an acknowledged commit has named
	longest    int    // metadata that the broker took, in characters
	characters int    // of the last snapshot's metadata
}

// holding is the room of a settled record until a commit covers it.
type holding struct {
	offset   int64
	room     int
	sequence uint64
}

// New returns the frontier of a new assignment. It is not dirty: the group's commit already says what it says.
func New(cfg Config) *Frontier {
	f := &Frontier{
		key:   keyChecksum(cfg.Group, cfg.Topic, cfg.Partition),
		floor: cfg.Base,
		limit: cfg.Limit,
		base:  cfg.Base,
		next:  cfg.Base,
		epoch: newEpochs(cfg.Base, cfg.Epoch),

		restoredEpoch: -1,
	}
	if f.limit == 0 {
		f.limit = defaultLimit
	}
	restored := cfg.Restored.From(cfg.Base)
	f.settled, f.fields.End, f.fields.Until, f.fields.Asked = restored.settled, restored.End, restored.Until, restored.Asked
	if cfg.KeepCeiling && restored.Ceiling != nil {
		f.fields.Ceiling, f.ceiling = restored.Ceiling, *restored.Ceiling
	}
	if restored.Epoch != nil {
		f.restoredEpoch = *restored.Epoch
	}
	f.restoredTop = f.highest()
	f.covered = f.restoredTop
	return f
}

// Add registers a received record; offsets ascend, except after Rewind. Offsets that it leaves out are gaps (compacted,
// aborted): neither settled nor open. bytes and at are for Stats.
//
// True means that an earlier owner settled the record, and a commit says so: it must not be sent. A bit of the
// earlier map counts only for a record whose leader epoch is not above the map's. A higher one shows that another
// leader wrote from here on: then this and all later bits are dropped, since epochs never go down along a log.
//
// An offset below those already received shows that the log was cut off: as DropFrom.
func (f *Frontier) Add(offset int64, leaderEpoch int32, bytes int, at time.Time) (settled bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.fenced {
		return false
	}
	if offset < f.next {
		f.dropFrom(offset)
	}
	if f.restoredTop >= f.next {
		f.forgetRestored(offset)
		if leaderEpoch > f.restoredEpoch {
			f.forgetRestored(math.MaxInt64)
			f.restoredTop = f.next - 1
		}
		settled = f.settled.has(offset)
	}
	f.epoch.note(offset, leaderEpoch)
	f.next = offset + 1
	if !settled {
		f.open.open(offset, at, bytes)
	}
	f.advance()
	return settled
}

// forgetRestored drops the bits of records below end that will not arrive: compacted, or no longer in the log. The room
// of those settled before a Rewind is not needed any more.
func (f *Frontier) forgetRestored(end int64) {
	if f.settled.removeRange(f.next, end) {
		f.changed(true)
		f.owed = f.owed.Plus(f.release(func(h holding) bool { return f.next <= h.offset && h.offset < end }))
	}
}

// Settle says that the record is safe to pass: delivered, dead-lettered, or no detection. room is what it still holds
// in the exposure; from now on the frontier has it, and Committed or Fence returns it.
//
// False: a late answer, of a fenced frontier or a record that is not open. The room stays with the caller.
func (f *Frontier) Settle(offset int64, room int) (ok bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.fenced || !f.open.close(offset) {
		return false
	}
	f.settled.add(offset)
	if room > 0 {
		f.pending = append(f.pending, holding{offset, room, f.sequence})
		f.sequence++
		f.uncovered = f.uncovered.Plus(RoomOf(room))
	}
	f.changed(true)
	f.advance()
	return true
}

// advance moves the base to the lowest open offset.
func (f *Frontier) advance() {
	base := f.next
	if oldest, ok := f.open.oldest(); ok {
		base = oldest.offset
	}
	if base == f.base {
		return
	}
	f.base = base
	f.changed(true)
	f.floor = max(f.floor, base-kept)
	f.settled.removePagesBelow(f.floor)
	f.epoch.removeBelow(f.floor - 1) // a commit has the epoch of the offset below its base
}

func (f *Frontier) changed(yes bool) {
	if yes {
		f.version++
	}
}

// Snapshot is what one commit says, and what was true when it was taken.
type Snapshot struct {
	Base        int64  // the offset to commit, exactly
	LeaderEpoch int32  // to commit with it: of the last record below the base; -1 unknown
	Metadata    string // to commit with it

	of       *Frontier
	ceiling  int64 // that Metadata names, 0 if none
	last     int64 // highest offset in Metadata's settled set, Base if none
	sequence uint64
	version  uint64
}

// covers reports whether the commit says that the offset, settled when the snapshot was taken, is settled.
func (s Snapshot) covers(offset int64) bool {
	return offset < s.Base || s.Base < offset && offset <= s.last
}

// Snapshot returns what to commit. Base, map and epoch are read under one lock: read apart, they would encode a record
// as settled that is not (delivery.md 4, pitfall 1). False: fenced, or nothing changed since the last acknowledged
// commit, or nothing may be said yet.
func (f *Frontier) Snapshot() (Snapshot, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	base, ok := f.commitBase()
	if f.fenced || f.version == f.committed || !ok {
		return Snapshot{}, false
	}
	m := f.fields
	m.settled = f.settled
	text, last := m.encode(f.key, base, f.limit, f.epochOf)
	if f.uncovers(last) {
		return Snapshot{}, false
	}
	f.characters = len(text)
	ceiling := int64(0)
	if m.Ceiling != nil && text != "" {
		ceiling = *m.Ceiling
	}
	return Snapshot{
		Base: base, ceiling: ceiling, LeaderEpoch: f.epoch.at(base - 1), Metadata: text,
		of: f, last: last, sequence: f.sequence, version: f.version,
	}, true
}

// uncovers reports whether a map that ends at last leaves out what the last acknowledged commit says. The room of that
// is given back, so a crash would repeat it beyond the bound: better the old commit, until the base moves on.
func (f *Frontier) uncovers(last int64) bool {
	for first := range f.settled.runs(last + 1) {
		return first <= f.covered
	}
	return false
}

// commitBase is the base, with one exception. When nothing is open and the next offset, not yet received, is settled
// in the restored map, the base would be in the set, which the format cannot say; and a commit without that bit would
// uncover a record whose room nobody holds. So a record that holds room anyway, the last one settled, plays the base: it
// stays uncovered, as it is, and all else is covered. When none holds room, nothing is urgent: the next record will come.
func (f *Frontier) commitBase() (base int64, ok bool) {
	if f.base < f.next || !f.settled.has(f.next) {
		return f.base, true
	}
	for _, h := range slices.Backward(f.pending) {
		if f.floor <= h.offset && h.offset < f.next {
			return h.offset, true
		}
	}
	return 0, false
}

// epochOf is the leader epoch for tag 5 when the offset is the highest in the set.
func (f *Frontier) epochOf(offset int64) int32 {
	if offset >= f.next {
		return f.restoredEpoch
	}
	return f.epoch.at(offset)
}

// Committed says that the broker acknowledged the snapshot (code 0 for this partition; never otherwise: what is not
// acknowledged stays dirty). It returns the room of all records that the commit covers, for the caller to release.
// Records settled after the snapshot, and those whose bits did not fit, keep theirs.
func (f *Frontier) Committed(s Snapshot) (room Room) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.fenced || s.of != f {
		return Room{}
	}
	f.committed = max(f.committed, s.version)
	f.covered = s.Base - 1
	if s.last > s.Base {
		f.covered = s.last
	}
	f.longest = max(f.longest, len(s.Metadata))
	f.ceiling = max(f.ceiling, s.ceiling)
	room = f.release(func(h holding) bool { return h.sequence < s.sequence && s.covers(h.offset) })
	room, f.owed = room.Plus(f.owed), Room{}
	return room
}

// release takes out the holdings for which free is true and returns their room.
func (f *Frontier) release(free func(holding) bool) (room Room) {
	f.pending = slices.DeleteFunc(f.pending, func(h holding) bool {
		if !free(h) {
			return false
		}
		room = room.Plus(RoomOf(h.room))
		return true
	})
	f.uncovered = f.uncovered.minus(room)
	return room
}

// Fence ends the assignment: from now on Add, Settle, Snapshot and Committed do nothing. It returns the room that
// settled records still hold, for the caller to release; the second time none.
func (f *Frontier) Fence() (room Room) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fenced = true
	room = f.uncovered.Plus(f.owed)
	f.pending, f.uncovered, f.owed = nil, Room{}, Room{}
	return room
}

// Rewind gives queued records back, from this offset on (not below the base): as if never received. What is settled
// there stays in the map, and Add says so when it arrives again.
//
// The fetch position must be set to the same offset, from the poll loop, so that no record fetched before arrives
// after: Add would take the records given back for a gap, and the base would pass them.
func (f *Frontier) Rewind(from int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	from = max(from, f.base)
	if f.fenced || from >= f.next {
		return
	}
	if f.restoredTop < f.next { // all bits are of received records, whose epochs we know
		f.restoredTop = f.highest()
		f.restoredEpoch = f.epoch.at(f.restoredTop)
	}
	f.open.forget(from)
	f.epoch.forget(from)
	f.next = from
	f.advance()
}

func (f *Frontier) highest() int64 {
	if top, ok := f.settled.top(f.base); ok {
		return top
	}
	return f.base - 1
}

// DropFrom forgets all from this offset on, bits included: the log was cut off here (data loss), and other records may
// come to stand under the same offsets. The room that settled ones of them held comes back with the next Committed or
// Fence.
//
// Nothing from there on may be in flight, since a late answer would settle the new record under its offset: that
// record would be lost. If something is, fence this frontier and start another.
func (f *Frontier) DropFrom(offset int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.fenced {
		f.dropFrom(offset)
	}
}

func (f *Frontier) dropFrom(offset int64) {
	f.open.forget(offset)
	f.settled.removeRange(offset, math.MaxInt64)
	f.epoch.forget(offset)
	f.next = min(f.next, offset)
	f.floor = min(f.floor, offset)
	f.restoredTop = min(f.restoredTop, offset-1)
	f.covered = min(f.covered, offset-1)
	f.owed = f.owed.Plus(f.release(func(h holding) bool { return h.offset >= offset }))
	f.changed(true)
	f.advance()
}

// SetLimit lowers (or sets) the characters of metadata, after error 12; 0 or less: none at all. It becomes dirty, so
// that the next commit is tried at once.
func (f *Frontier) SetLimit(characters int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.limit = characters
	f.changed(true)
}

// TooLong says that the broker refused metadata of so many characters (error 12). The limit is then searched for between
// that and the most it ever took; where it never took any, below a least there will be none.
func (f *Frontier) TooLong(characters int) {
	const least, near = 64, 16
	f.mu.Lock()
	took := min(f.longest, characters)
	f.mu.Unlock()
	limit := took + (characters-took)/2
	switch {
	case took > 0 && characters-took < near:
		limit = took
	case limit < least:
		limit = took
	}
	f.SetLimit(limit)
}

// SetHeld says in every commit from now on whether the partition is braked or paused.
func (f *Frontier) SetHeld(held bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.changed(f.fields.Held != held)
	f.fields.Held = held
}

// SetCeiling says in every commit from now on that no offset at or above it has been sent; a lower one than before says
// nothing. The caller sends at and above it only once Ceiling is higher.
func (f *Frontier) SetCeiling(offset int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.fields.Ceiling == nil || *f.fields.Ceiling < offset {
		f.fields.Ceiling = &offset
		f.changed(true)
	}
}

// DropCeiling says in every commit from now on that nothing that is not settled has been sent.
func (f *Frontier) DropCeiling() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.changed(f.fields.Ceiling != nil)
	f.fields.Ceiling = nil
}

// Ceiling is the highest one that an acknowledged commit has named, 0 if none has.
func (f *Frontier) Ceiling() int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.ceiling
}

// End is where the replay ends: the first offset that is none of its. False: it is no replay.
func (f *Frontier) End() (offset int64, ok bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.fields.End == nil {
		return 0, false
	}
	return *f.fields.End, true
}

// Until is the time of which on records are none of the replay, in milliseconds since 1970. False: it has no such time.
func (f *Frontier) Until() (milli int64, ok bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.fields.Until == nil {
		return 0, false
	}
	return *f.fields.Until, true
}

// SetEnd says in every commit from now on where the replay ends.
func (f *Frontier) SetEnd(offset int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.changed(f.fields.End == nil || *f.fields.End != offset)
	f.fields.End = &offset
}

// Base is that of Stats, at no cost.
func (f *Frontier) Base() int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.base
}

// Holds reports whether this record must wait: the set is as wide as a map may be, and the offset is above it. Those in it
// go on, retries included, since they make the map smaller.
func (f *Frontier) Holds(offset int64) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	top, full := f.edge()
	return full && offset > top
}

func (f *Frontier) edge() (top int64, full bool) {
	top = f.highest()
	if width := top - f.base; width <= window || width > maxWidth {
		return top, width > window
	}
	runs := 0
	for range f.settled.runs(f.base) {
		if runs++; runs > windowRuns {
			return top, true
		}
	}
	return top, false
}

// Stats is a frontier at one moment.
type Stats struct {
	Base          int64     // lowest received offset that is not settled; Next if all are
	Top           int64     // highest settled offset, Base-1 if none is above the base
	Next          int64     // highest received offset + 1
	Open          int       // received, not settled
	OpenBytes     int       // of these, as given to Add
	OldestOpen    time.Time // when the one at Base arrived; zero if none is open
	SettledAbove  int       // settled above the base: lag to Kafka, but no work
	Runs          int       // in which these lie
	Uncovered     int       // room of settled records that no acknowledged commit covers
	Dirty         bool      // a commit would say something new
	MapCharacters int       // of the last snapshot's metadata
	Held, Fenced  bool
}

// Stats returns the figures for metrics and the page.
func (f *Frontier) Stats() Stats {
	f.mu.Lock()
	defer f.mu.Unlock()
	oldest, _ := f.open.oldest()
	runs := 0
	for range f.settled.runs(f.base) {
		runs++
	}
	return Stats{
		Base: f.base, Top: f.highest(), Next: f.next,
		Open: f.open.len(), OpenBytes: f.open.bytes, OldestOpen: oldest.at,
		SettledAbove: f.settled.count(f.base), Runs: runs,
		Uncovered: f.uncovered.Units(), Dirty: f.version != f.committed, MapCharacters: f.characters,
		Held: f.fields.Held, Fenced: f.fenced,
	}
}
