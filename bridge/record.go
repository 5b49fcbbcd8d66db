package bridge

import (
	"context"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v4"
	"github.com/twmb/franz-go/pkg/kgo"

	"serbridge/bridge/stellar"
	"serbridge/transform"
)

// place is where a record stands in Kafka.
type place struct {
	topic     string
	partition int32
	offset    int64
}

// abreast is how many documents of one record may be under way at once, so
// that a record of five hundred takes its turn among the others.
const abreast = 8

// record is one Kafka record on its way through the bridge.
type record struct {
	p     *partition
	k     *kgo.Record
	size  int
	at    time.Time     // received
	lane  chan struct{} // capacity abreast; nil for a record of one document
	asks  chan struct{} // capacity 1: one of its documents asks for room; nil likewise
	taken bool          // from the queue; belongs to the queue's lock
	trial bool          // let through a braked topic, to see whether it is well again

	trail    *trail // nil: it is not traced
	reading  Reading
	outcomes []PartOutcome // of its parts, each written by its own; nil when nobody wants to know

	mu        sync.Mutex
	hand      func() // gives the dispatcher's hand back; nil once it has
	units     int    // documents, so the room it needs
	room      int    // room it holds: 0 or units
	tried     bool   // at least one attempt was made
	onWire    int
	letters   int // dead letters being written
	lettered  int // and acknowledged
	delivered int
	unknown   int // documents that may be stored and are not known to be
}

func (r *record) place() place { return place{r.k.Topic, r.k.Partition, r.k.Offset} }

// started reports whether a drain waits for the record: an attempt is on the
// wire, or one of its documents was delivered or may have been stored.
func (r *record) started() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.startedLocked()
}

func (r *record) startedLocked() bool {
	return r.atRisk() || r.letters+r.lettered > 0
}

// atRisk reports whether a crash now could repeat a document of the record.
func (r *record) atRisk() bool { return r.onWire+r.delivered+r.unknown > 0 }

// risks is atRisk, for those without the lock.
func (r *record) risks() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.atRisk()
}

// ctx bounds the record's waits: until its partition is drained while nothing
// of it has started, until it is abandoned from then on.
func (r *record) ctx() context.Context {
	if r.started() {
		return r.p.ctx
	}
	return r.p.unstarted
}

// wait runs one wait, again when the record started meanwhile and so outlives
// the drain that ended it.
func (r *record) wait(f func(context.Context) error) error {
	for {
		ctx := r.ctx()
		err := f(ctx)
		if err == nil || ctx.Err() == nil {
			return err
		}
		if next := r.ctx(); next == ctx || next.Err() != nil {
			return err
		}
	}
}

// freeHand lets the dispatcher take another record.
func (r *record) freeHand() {
	r.mu.Lock()
	hand := r.hand
	r.hand = nil
	r.mu.Unlock()
	if hand != nil {
		hand()
	}
}

// roomless is how much room the record must ask for before its next attempt.
func (r *record) roomless() (units int, fresh bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.units - r.room, !r.tried
}

// holds is the room that the record holds.
func (r *record) holds() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.room
}

// note keeps what became of a part. A record that was refused as a whole has one
// outcome, whichever part of it was wanted.
func (r *record) note(part int, o PartOutcome) {
	if r.outcomes == nil {
		return
	}
	o.Part = part
	r.outcomes[min(max(0, part), len(r.outcomes)-1)] = o
}

// granted notes the room it was given.
func (r *record) granted(units int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.room += units
}

// begin puts an attempt on the wire, unless the partition is no longer ours,
// or is drained and nothing of the record has started, or another document of
// it has given the room back. It is the last check before a POST, and one
// with the start of a drain: both hold the partition's lock, so a record is
// either dropped or waited for, never both.
func (r *record) begin() bool {
	r.p.mu.Lock()
	defer r.p.mu.Unlock()
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.room == 0 || r.p.state == fenced || r.p.state == draining && !r.startedLocked() {
		return false
	}
	r.onWire++
	r.tried = true
	r.p.sent = max(r.p.sent, r.k.Offset)
	return true
}

// end takes an attempt off the wire and returns the room that the record gives
// back: all of it while a crash would repeat nothing.
func (r *record) end(d *document, a stellar.Answer) (room int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.onWire--
	switch {
	case a.Verdict == stellar.Delivered:
		r.delivered++
		if d.sends > 0 {
			r.unknown--
		}
	case a.Verdict == stellar.Unknown && d.sends == 0:
		r.unknown++
	}
	if r.atRisk() {
		return 0
	}
	room, r.room = r.room, 0
	return room
}

// beginLetter is begin for a dead letter, which needs no room: what a crash
// repeats of it is a dead letter, recognisable by its coordinates.
func (r *record) beginLetter() bool {
	r.p.mu.Lock()
	defer r.p.mu.Unlock()
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.p.state == fenced || r.p.state == draining && !r.startedLocked() {
		return false
	}
	r.letters++
	return true
}

func (r *record) endLetter(acknowledged bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.letters--
	if acknowledged {
		r.lettered++
	}
}

// settled takes the record's room from it: kept is what must stay held until a
// commit covers the record, free what is not at risk.
func (r *record) settled() (kept, free int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	room := r.room
	r.room = 0
	if r.atRisk() {
		return room, 0
	}
	return 0, room
}

// document is one document of a record on its way.
type document struct {
	r     *record
	topic string // the record's
	part  int
	doc   *transform.Document
	body  []byte
	rung  int // of the slimming ladder: 0 unchanged
	trail *trail

	attempts    int
	sends       int       // attempts that may have been stored
	maySince    time.Time // of the last of them, or of an earlier member's; zero: none
	seen        uint64    // deliveries of the process when it was last sent
	firstFailed time.Time
	last        stellar.Answer // that failed
	loud        bool           // it was said that it is held
	failures    map[string]*failure
	backoff     *backoff.ExponentialBackOff

	mu     sync.Mutex
	lastAt time.Time // of the last attempt; zero: never tried
}

// tried is when the document was last tried, zero if never.
func (d *document) tried() time.Time {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.lastAt
}

func (d *document) tries(now time.Time) {
	d.mu.Lock()
	d.lastAt = now
	d.mu.Unlock()
	d.attempts++
}

// certainty is the worst of all attempts: once it may have been stored, that
// stays true whatever later attempts say.
func (d *document) certainty() stellar.Certainty {
	if d.sends > 0 {
		return stellar.CertaintyUnknown
	}
	return d.last.Certainty
}
