package bridge

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"serbridge/bridge/admin"
	"serbridge/bridge/deadletter"
	"serbridge/bridge/pause"
	"serbridge/bridge/stellar"
	"serbridge/transform"
)

// dispatch takes records in turn and gives each a goroutine, until ctx ends.
// The hands bound how many have no room yet; the room bounds the others.
//
// A goroutine that is done takes the next record: a new one for each would
// grow its stack anew.
func (b *Bridge) dispatch(ctx context.Context) {
	for {
		r, err := b.queue.take(ctx, b.admit)
		if err != nil {
			return
		}
		if b.enter(r) {
			b.hand(ctx, r)
		}
	}
}

// enter reports whether a record that was taken may begin: not where its
// partition is handed over.
func (b *Bridge) enter(r *record) bool {
	if !r.p.enter() {
		b.queue.handBack(r)
		b.queue.ended(r)
		return false
	}
	r.hand = func() { b.queue.handBack(r) }
	return true
}

// next takes a record that waits already; nil: none does. By way of the
// dispatcher it would cost two more switches between goroutines.
func (b *Bridge) next(ctx context.Context) *record {
	for ctx.Err() == nil {
		r := b.queue.pop(b.admit)
		if r == nil || b.enter(r) {
			return r
		}
	}
	return nil
}

// hand gives the record to a goroutine that has none, or to a new one.
func (b *Bridge) hand(ctx context.Context, r *record) {
	if b.idlers.claim() {
		select {
		case b.idle <- r:
			return
		case <-ctx.Done():
		}
	}
	b.records.Go(func() { b.carry(ctx, r) })
}

// carry delivers one record after the other, until ctx ends or enough others
// are idle.
func (b *Bridge) carry(ctx context.Context, r *record) {
	for {
		for ; r != nil; r = b.next(ctx) {
			b.deliver(r)
		}
		if !b.idlers.join(4 * b.cfg.MaxInFlight) {
			return
		}
		select {
		case r = <-b.idle:
		case <-ctx.Done():
			return
		}
	}
}

// idlers counts the goroutines that wait for a record, or are about to: the
// dispatcher claims one before it waits for it, so that a new goroutine is made
// only while all have a record.
type idlers struct{ n atomic.Int64 }

// join reports whether one more may wait; it must do so then.
func (i *idlers) join(most int) bool {
	for {
		n := i.n.Load()
		if n >= int64(most) {
			return false
		}
		if i.n.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

// claim takes one from the count. Only the dispatcher does.
func (i *idlers) claim() bool {
	if i.n.Load() == 0 {
		return false
	}
	i.n.Add(-1)
	return true
}

// admit reports whether the partition's next record may be taken; the queue
// asks with its lock held.
func (b *Bridge) admit(p *partition) (ok, trial bool) {
	if f := p.frontier(); f.Holds(p.queued[0].k.Offset) {
		b.nudge()
		return false, false
	}
	if ok, trial = p.brake.admit(); !ok {
		b.nudge()
	}
	return ok, trial
}

// deliver is the life of one record: transformed, its documents inserted or
// dead-lettered, settled. It returns early, unsettled, when the partition is
// no longer ours: the next owner begins it anew.
func (b *Bridge) deliver(r *record) {
	defer b.ended(r)
	if b.cfg.Begin != nil && r.wait(b.cfg.Begin) != nil {
		return
	}
	r.trail = b.tracing.follow(r)
	r.reading = b.read(r)
	result, err := b.transform(r)
	for again := true; again; {
		if err != nil {
			return
		}
		if again, err = b.braked(r, result); err == nil && again {
			result, err = b.transform(r)
		}
	}
	o := b.outcome(r, result)
	switch {
	case result.Skip != "":
		b.metrics.skip(r, result.Skip)
	case result.Reject != nil:
		if b.reject(r, r.reading.Part, result.Reject, nil) != nil {
			return
		}
	default:
		if b.deliverParts(r, result.Parts) != nil {
			return
		}
	}
	begun := r.trail.now()
	if b.finish(r, o) != nil {
		return
	}
	b.settle(r)
	r.trail.settled(begun, r.k.Topic)
}

// deliverParts brings every part of the record to its end; the error is the
// first that left one of them open.
func (b *Bridge) deliverParts(r *record, parts []transform.Part) error {
	for _, part := range parts {
		if part.Document != nil {
			r.units++
		}
	}
	switch {
	case r.units == 0:
	case !r.trial:
		r.p.brake.sound()
	case r.p.brake.accepted():
		b.brakeReleased(r.p.topic)
	}
	if len(parts) == 1 {
		return b.deliverPart(r, 0, parts[0])
	}
	r.lane, r.asks = make(chan struct{}, abreast), make(chan struct{}, 1)
	var all sync.WaitGroup
	errs := make([]error, len(parts))
	for i, part := range parts {
		all.Go(func() { errs[i] = b.deliverPart(r, i, part) })
	}
	all.Wait()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

func (b *Bridge) deliverPart(r *record, i int, part transform.Part) error {
	switch {
	case part.Skip == NotWanted:
		return nil
	case part.Skip != "":
		b.metrics.skip(r, part.Skip)
		return nil
	case part.Reject != nil:
		return b.reject(r, i, part.Reject, nil)
	}
	d := &document{r: r, topic: r.p.topic, part: i, doc: part.Document, trail: r.trail}
	if r.lane != nil { // one of several
		d.trail = r.trail.part(i)
		defer d.trail.end()
	}
	if err := d.encode(); err != nil {
		return b.reject(r, i, &transform.Reject{Reason: transform.InvalidField, Detail: err.Error()}, part.Document)
	}
	return b.deliverDocument(d)
}

func (d *document) encode() (err error) {
	d.body, err = d.doc.Encode()
	return err
}

// deliverDocument inserts one document: attempt after attempt, with a backoff
// between, for ever, until it is delivered or its failure is proven its own.
func (b *Bridge) deliverDocument(d *document) error {
	b.suspect(d)
	for {
		if b.probing() && !d.maySince.IsZero() {
			if stored, err := b.probe(d); stored || err != nil {
				return err
			}
		}
		if d.sends >= b.cfg.MaxSends {
			return b.ambiguous(d)
		}
		a, err := b.attempt(d)
		if err != nil {
			return err
		}
		if a.Verdict == stellar.Delivered {
			b.delivered(d, a)
			return nil
		}
		switch b.weigh(d, a) {
		case slimmer:
			continue
		case giveUp:
			return b.deadLetter(d, d.reason())
		}
		if err := b.backOff(d, a); err != nil {
			return err
		}
	}
}

func (b *Bridge) delivered(d *document, a stellar.Answer) {
	b.metrics.delivered(d, time.Now())
	b.prober.delivered(d.doc.DeliveryKey(), time.Now())
	d.r.note(d.part, PartOutcome{Delivered: true, Answer: a, Document: d.doc, Attempts: d.attempts, Doubts: b.doubts(d)})
}

// doubts are the attempts of which nobody knows whether they stored the document.
// A probe has found that out of each before the next.
func (b *Bridge) doubts(d *document) int {
	if b.probing() {
		return 0
	}
	return d.sends
}

// next is what a failed attempt leads to.
type next int

const (
	again   next = iota // the same document, after a backoff
	slimmer             // the next rung of the slimming ladder, at once
	giveUp              // dead letter
)

// loudAfter is how many attempts of one document are worth a line in the log.
const loudAfter = 5

// weigh decides whose fault a failure is. Until it is proven to be the
// document's own the document is tried again.
func (b *Bridge) weigh(d *document, a stellar.Answer) next {
	now := time.Now()
	if d.firstFailed.IsZero() {
		d.firstFailed = now
	}
	d.last = a
	b.cfg.Journal.Failed(eventOf(d.r, a.Reason))
	if d.attempts >= loudAfter && !d.loud {
		d.loud = true
		b.log.Warn("a record fails again and again and is held; it is given up only if it fails while others are delivered",
			"topic", d.r.k.Topic, "partition", d.r.k.Partition, "offset", d.r.k.Offset, "reason", a.Reason, "attempts", d.attempts)
	}
	if d.rung > 0 && a.Verdict == stellar.Refused {
		return b.slim(d) // proven before: a rung is tried once
	}
	if !b.faults.own(d, a, b.gate.deliveries(), now) {
		return again
	}
	if a.Verdict != stellar.Refused || a.Documented || b.cfg.OnRefused != "slim" {
		return giveUp
	}
	return b.slim(d)
}

func eventOf(r *record, reason string) admin.Event {
	return admin.Event{At: time.Now(), Reason: reason, Topic: r.k.Topic, Partition: r.k.Partition, Offset: r.k.Offset}
}

// slim takes the next rung of the slimming ladder, leaving out one that takes
// nothing off: an alert with less beside it beats no alert.
func (b *Bridge) slim(d *document) next {
	rungs := []func() *transform.Document{d.doc.WithoutRaw, d.doc.Bare}
	for d.rung < len(rungs) {
		doc := rungs[d.rung]()
		d.rung++
		if doc == d.doc {
			continue
		}
		if d.doc = doc; d.encode() != nil {
			return giveUp
		}
		return slimmer
	}
	return giveUp
}

// reason is why the document is dead-lettered.
func (d *document) reason() string {
	if d.last.ServerFault {
		return deadletter.RetriesExhausted
	}
	return d.last.Reason
}

// backOff waits before the next attempt: what the API asked for, and full
// jitter on top. Without that on top a record that alone is pushed back comes
// again in the moment the gate opens, and closes it before the others are
// through.
func (b *Bridge) backOff(d *document, a stellar.Answer) error {
	if d.backoff == nil {
		d.backoff = fullJitter(mostWait)
	}
	wait := a.RetryAfter + d.backoff.NextBackOff()
	d.r.freeHand()
	return d.r.wait(func(ctx context.Context) error { return pause.For(ctx, wait) })
}

// ambiguous ends a document that was sent as often as it may be and that may
// be stored: a dead letter, once others are being delivered. Until then it
// holds, or an outage that answers nothing would empty the topic; as the
// gate's canary it makes place for the next.
//
// A drain waits for company a moment only: it cannot be sent, and nobody may
// come.
func (b *Bridge) ambiguous(d *document) error {
	d.r.freeHand()
	if !d.loud {
		d.loud = true
		b.log.Warn("a document was sent as often as it may be, may be stored, and is held; it becomes a dead letter once another is delivered",
			"topic", d.r.k.Topic, "partition", d.r.k.Partition, "offset", d.r.k.Offset, "reason", d.last.Reason, "sends", d.sends)
	}
	ctx, cancel := d.r.p.untilDrained(companyWait)
	defer cancel()
	t, err := b.gate.awaitCompany(ctx, d, d.seen)
	if err != nil {
		return err
	}
	b.gate.spent(t, time.Now()) // before the letter: a dead-letter topic that is away must not keep the gate shut
	return b.deadLetter(d, deadletter.Ambiguous)
}

// companyWait is how long a drain waits for another document to be delivered.
const companyWait = 2 * time.Second

// reject dead-letters what our own rules refuse.
func (b *Bridge) reject(r *record, part int, why *transform.Reject, doc *transform.Document) error {
	l := b.letter(r, part, doc)
	l.Reason, l.Field, l.Detail = string(why.Reason), why.Field, why.Detail
	l.Certainty, l.Stage = string(stellar.CertaintyNotSent), deadletter.StageTransform
	switch why.Reason {
	case transform.InvalidJSON, transform.InvalidEncoding, transform.ExpandsTooFar, transform.UnknownSchema:
		l.Stage = deadletter.StageConvert
	}
	l.FailedAt = time.Now()
	def(&l.FirstFailedAt, l.FailedAt)
	r.note(part, PartOutcome{Reason: l.Reason, Document: doc})
	return b.write(r, r.trail, l)
}

// braked tells the topic's brake of a result that holds no detection to us. It
// waits while the brake is on; then the record is to be transformed again,
// since the mapping may have been mended.
func (b *Bridge) braked(r *record, result transform.Result) (again bool, err error) {
	if !isReject(result) {
		return false, nil
	}
	tripped, held := r.p.brake.rejected(r.place())
	if tripped {
		b.brakeTripped(r.p.topic) // this one is the last of the row
	}
	if !held || r.trial {
		return false, nil
	}
	r.freeHand()
	return true, r.wait(r.p.brake.await)
}

func isReject(result transform.Result) bool {
	return result.Reject != nil || len(result.Parts) > 0 &&
		!slices.ContainsFunc(result.Parts, func(p transform.Part) bool { return p.Document != nil }) &&
		slices.ContainsFunc(result.Parts, func(p transform.Part) bool { return p.Reject != nil })
}

func (b *Bridge) deadLetter(d *document, reason string) error {
	l := b.letter(d.r, d.part, d.doc)
	l.Reason, l.Stage = reason, deadletter.StagePut
	l.Detail = d.last.Reason
	if d.last.Err != nil {
		l.Detail = d.last.Err.Error()
	}
	l.Certainty = string(d.certainty())
	l.Attempts, l.HTTPStatus, l.HTTPBody = d.attempts, d.last.Status, b.cfg.Redact(d.last.Body)
	l.FailedAt = time.Now()
	def(&l.FirstFailedAt, d.firstFailed)
	d.r.note(d.part, PartOutcome{Reason: reason, Answer: d.last, Document: d.doc, Attempts: d.attempts, Doubts: b.doubts(d)})
	return b.write(d.r, cmp.Or(d.trail, d.r.trail), l)
}

func (b *Bridge) letter(r *record, part int, doc *transform.Document) deadletter.Letter {
	l := deadletter.Letter{Headers: r.k.Headers}
	if r.reading.Letter != nil {
		l = *r.reading.Letter
	}
	in := r.reading.Input
	l.Key, l.Value, l.Timestamp = r.k.Key, r.k.Value, r.k.Timestamp
	l.Topic, l.Partition, l.Offset, l.Part = in.Topic, in.Partition, in.Offset, part
	l.Bridge, l.Instance, l.Group = b.cfg.Version, b.cfg.Instance, b.cfg.Group
	if doc != nil {
		l.DeliveryKey, l.Mapping = doc.DeliveryKey(), doc.Mapping()
	}
	return l
}

// write brings the letter into the dead-letter topic, however long that takes:
// what is in neither place is lost. A drain waits for a write like for a POST,
// so that the next owner does not write it again, but not for another try,
// unless a part of the record was delivered.
func (b *Bridge) write(r *record, t *trail, l deadletter.Letter) error {
	if !r.beginLetter() {
		return errDrained
	}
	acknowledged := false
	defer func() { b.letterEnded(r, acknowledged) }()
	r.freeHand()
	wait, begun := fullJitter(mostWait), t.now()
	for {
		err := b.cfg.DeadLetters.Write(r.p.ctx, l)
		if err == nil {
			acknowledged = true
			b.metrics.deadLettered(r, l.Reason)
			t.lettered(begun, b.cfg.DeadLetters.Topic(), l.Reason)
			b.cfg.Journal.Rejected(eventOf(r, l.Reason))
			return nil
		}
		if r.p.ctx.Err() != nil {
			return context.Cause(r.p.ctx)
		}
		b.troubles.begin("dead_letters", fmt.Sprintf("rejects wait, their offsets are held: %v", cmp.Or(errors.Unwrap(err), err)))
		ctx := r.p.unstarted
		if r.risks() {
			ctx = r.p.ctx
		}
		if err := pause.For(ctx, wait.NextBackOff()); err != nil {
			return err
		}
	}
}

// letterEnded takes a letter off the books, written or given up: whoever still
// waits says so again.
func (b *Bridge) letterEnded(r *record, acknowledged bool) {
	r.endLetter(acknowledged)
	if acknowledged {
		b.troubles.end("dead_letters")
	} else {
		b.troubles.drop("dead_letters")
	}
}

// settle marks the record safe to pass. What it still risks to repeat stays in
// the exposure until a commit covers it.
func (b *Bridge) settle(r *record) {
	kept, free := r.settled()
	b.exposure.Release(r.p.topic, free)
	f := r.p.frontier()
	if !f.Settle(r.k.Offset, kept) {
		b.exposure.Release(r.p.topic, kept) // fenced: it is the next owner's, who sends it again
		b.metrics.late.Inc()
		return
	}
	r.p.lastSettled.Store(time.Now().UnixNano())
	b.commitSoon(kept)
}

// ended takes the record off the books, settled or not.
func (b *Bridge) ended(r *record) {
	r.freeHand()
	r.trail.end()
	kept, free := r.settled()
	b.exposure.Release(r.p.topic, kept+free)
	b.queue.ended(r)
	r.p.exit()
}
