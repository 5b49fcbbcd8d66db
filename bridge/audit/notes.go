package audit

import (
	"slices"
	"time"

	"serbridge/bridge/backfill"
	"serbridge/bridge/deadletter"
	"serbridge/bridge/receipt"
)

// fate is what became of a record, as it is written. Of several receipts the highest counts: a record of which a part is in
// the dead-letter topic is dead-lettered.
type fate uint8

const (
	unwritten fate = iota
	skipped
	delivered
	deadLettered
)

var fates = map[receipt.Fate]fate{receipt.Skipped: skipped, receipt.Delivered: delivered, receipt.DeadLettered: deadLettered}

// note is what is written of one offset.
type note struct {
	fate    fate
	letter  bool   // the dead-letter topic holds one of it
	many    bool   // it had several documents
	mapping uint8  // number of the mapping that made them; 0: unknown, or several
	time    uint32 // of the record, in milliseconds: under the same offset another one may have stood
}

// pageOffsets are kept together.
const pageOffsets = 4096

// page is what is written of as many offsets in a row, 32 KiB, where anything is.
type page struct {
	notes [pageOffsets]note
	hour  time.Time // of one of its records, for offsets whose record nobody knows any more
}

type pageNumber struct {
	backfill.Place
	number int64
}

// mostDead bounds the records with several documents of which is kept which are dead letters.
const mostDead = 100_000

// notes are what is written of the offsets of one window.
type notes struct {
	window   map[backfill.Place]chunk
	from     time.Time // of the records
	until    time.Time // zero: no end
	pages    map[pageNumber]*page
	mappings []string // by number, the first is 1
	pieces   map[deadletter.Source]map[int]bool
	dead     map[deadletter.Source]map[int]bool // parts that are dead letters, of records with several
	overflow bool                               // of dead: which parts are is not known of all
}

func newNotes(window []chunk, from, until time.Time) *notes {
	n := &notes{window: make(map[backfill.Place]chunk), from: from, until: until, pages: make(map[pageNumber]*page),
		pieces: make(map[deadletter.Source]map[int]bool), dead: make(map[deadletter.Source]map[int]bool)}
	for _, c := range window {
		n.window[c.Place] = c // no window has two of one partition
	}
	return n
}

// covers reports whether the window has the offset.
func (n *notes) covers(s deadletter.Source) bool {
	c, there := n.window[backfill.Place{Topic: s.Topic, Partition: s.Partition}]
	return there && c.start <= s.Offset && s.Offset < c.end
}

func inTime(t, from, until time.Time) bool {
	return !t.Before(from) && (until.IsZero() || t.Before(until))
}

// page is where the offset's note stands; nil: nothing is written of any near it.
func (n *notes) page(at backfill.Place, offset int64) *page {
	return n.pages[pageNumber{at, offset / pageOffsets}]
}

func (n *notes) at(s deadletter.Source) (*note, *page) {
	key := pageNumber{backfill.Place{Topic: s.Topic, Partition: s.Partition}, s.Offset / pageOffsets}
	p := n.pages[key]
	if p == nil {
		p = new(page)
		n.pages[key] = p
	}
	return &p.notes[s.Offset%pageOffsets], p
}

// receipt takes one in, if it is of the window.
func (n *notes) receipt(r receipt.Receipt) {
	if !n.covers(r.Source) || !inTime(r.Time, n.from, n.until) || !n.whole(r) {
		return
	}
	at, p := n.at(r.Source)
	at.take(r.Time)
	at.fate = max(at.fate, fates[r.Fate()])
	at.many = at.many || r.Of > 1
	at.mapping = n.number(r)
	p.hour = hourOf(r.Time)
	n.parts(r)
}

// whole reports whether all pieces of a receipt that was split have come, with this one. What they say adds up then.
func (n *notes) whole(r receipt.Receipt) bool {
	if len(r.Parts) >= r.Of {
		return true
	}
	seen := n.pieces[r.Source]
	if seen == nil {
		seen = make(map[int]bool)
		n.pieces[r.Source] = seen
	}
	for _, p := range r.Parts {
		seen[p.Part] = true
	}
	if len(seen) < r.Of {
		at, _ := n.at(r.Source)
		at.take(r.Time)
		at.fate, at.many = max(at.fate, fates[r.Fate()]), true
		n.parts(r)
		return false
	}
	delete(n.pieces, r.Source)
	return true
}

// parts keeps which parts of a record are dead letters, if others are not.
func (n *notes) parts(r receipt.Receipt) {
	if r.Of < 2 {
		return
	}
	for _, p := range r.Parts {
		if p.Fate() != receipt.DeadLettered {
			continue
		}
		if n.dead[r.Source] == nil {
			if len(n.dead) == mostDead {
				n.overflow = true
				return
			}
			n.dead[r.Source] = make(map[int]bool)
		}
		n.dead[r.Source][p.Part] = true
	}
}

// number is that of the receipt's mapping.
func (n *notes) number(r receipt.Receipt) uint8 {
	name := ""
	for _, p := range r.Parts {
		if p.Mapping != "" && name != "" && p.Mapping != name {
			return 0
		}
		if p.Mapping != "" {
			name = p.Mapping
		}
	}
	if name == "" {
		return 0
	}
	i := slices.Index(n.mappings, name)
	if i < 0 && len(n.mappings) < 255 {
		i = len(n.mappings)
		n.mappings = append(n.mappings, name)
	}
	return uint8(i + 1)
}

// mapping is its name; empty: unknown.
func (n *notes) mapping(of note) string {
	if of.mapping == 0 {
		return ""
	}
	return n.mappings[of.mapping-1]
}

// letter takes in that there is one.
func (n *notes) letter(s deadletter.Source) {
	if n.covers(s) {
		at, _ := n.at(s)
		at.letter = true
	}
}

// take forgets what is written of another record than that of this time. What is written last counts.
func (n *note) take(t time.Time) {
	if n.fate != unwritten && n.time != millis(t) {
		*n = note{letter: n.letter}
	}
	n.time = millis(t)
}

// of is what of the note is written of the record of this time: that there is a letter does not say of which.
func (n note) of(t time.Time) note {
	if n.fate != unwritten && n.time != millis(t) {
		return note{letter: n.letter}
	}
	return n
}

func millis(t time.Time) uint32 { return uint32(t.UnixMilli()) }

func hourOf(t time.Time) time.Time { return t.UTC().Truncate(time.Hour) }
