package bridge

import (
	"context"
	"time"

	"serbridge/bridge/stellar"
)

// permit is all that an attempt needs: the gate's leave, a slot, the right to
// speak, and a token of the rate.
type permit struct {
	ticket ticket
	slot   slot
	auth   stellar.Authorization
}

// attempt POSTs the document once, when everything permits it. The error is
// that the record is no longer ours; every other failure is in the answer.
func (b *Bridge) attempt(d *document) (stellar.Answer, error) {
	if d.r.lane != nil {
		if err := d.r.wait(func(ctx context.Context) error { return enqueue(ctx, d.r.lane) }); err != nil {
			return stellar.Answer{}, err
		}
		defer func() { <-d.r.lane }()
	}
	for {
		if err := d.r.wait(func(ctx context.Context) error { return b.makeRoom(ctx, d.r) }); err != nil {
			return stellar.Answer{}, err
		}
		if err := d.r.wait(func(ctx context.Context) error { return b.awaitCeiling(ctx, d.r) }); err != nil {
			return stellar.Answer{}, err
		}
		var p permit
		var refused stellar.Answer
		if err := d.r.wait(func(ctx context.Context) (err error) {
			p, refused, err = b.permit(ctx, d)
			return err
		}); err != nil {
			return stellar.Answer{}, err
		}
		if refused.Verdict == stellar.Unavailable && refused.Reason != "" {
			b.giveRoomBack(d.r)
			return refused, nil
		}
		// A long wait lies between the first look and now. This is the last.
		if !b.gate.valid(p.ticket) || !b.heard.fresh() || !d.r.begin() {
			b.giveBack(p)
			continue
		}
		a := b.insert(d, p)
		if !a.Again {
			return a, nil
		}
	}
}

func enqueue(ctx context.Context, c chan struct{}) error {
	select {
	case c <- struct{}{}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// makeRoom gets the record its room in the exposure, if it holds none.
//
// One of its documents asks for all: the others, asking beside it, would wait
// for room that only their own record holds.
func (b *Bridge) makeRoom(ctx context.Context, r *record) error {
	if r.asks != nil {
		if err := enqueue(ctx, r.asks); err != nil {
			return err
		}
		defer func() { <-r.asks }()
	}
	units, fresh := r.roomless()
	if units == 0 {
		return ctx.Err()
	}
	if !fresh {
		r.freeHand() // it has been tried; others need not wait for it
	}
	f := r.p.frontier()
	atBase := func() bool { return f.Base() == r.k.Offset }
	if err := b.exposure.AcquireAtBase(ctx, r.p.topic, units, fresh, atBase); err != nil {
		return err
	}
	r.granted(units)
	r.freeHand()
	return nil
}

func (b *Bridge) giveRoomBack(r *record) {
	r.mu.Lock()
	free := 0
	if !r.atRisk() {
		free, r.room = r.room, 0
	}
	r.mu.Unlock()
	b.exposure.Release(r.p.topic, free)
}

// permit waits for the group, the gate, a slot, the authorization and a token,
// in this order: a token is worth most, so it is taken last. An authorization
// that is refused is an answer.
func (b *Bridge) permit(ctx context.Context, d *document) (p permit, refused stellar.Answer, err error) {
	if err := b.heard.await(ctx); err != nil {
		return p, refused, err
	}
	if p.ticket, err = b.gate.enter(ctx, d); err != nil {
		return p, refused, err
	}
	if p.slot, err = b.slots.acquire(ctx, d.topic); err != nil {
		b.gate.giveBack(p.ticket)
		return p, refused, err
	}
	if refused, err = b.authorize(ctx, d, &p); err != nil || refused.Reason != "" {
		return p, refused, err
	}
	if err := b.tokens.await(ctx); err != nil {
		b.slots.giveBack(p.slot)
		b.gate.giveBack(p.ticket)
		return p, refused, err
	}
	// At a small share the wait outlives an authorization: without a new one
	// every token of the rate would go into a 401. It is had before the next
	// token is given, or those that gather behind a token call were a burst.
	defer b.tokens.next()
	if refused, err = b.authorize(ctx, d, &p); err != nil || refused.Reason != "" {
		b.tokens.giveBack()
	}
	return p, refused, err
}

// authorize gets the right to speak. When there is none, for the reason of the
// answer, or ctx ends, it gives slot and ticket back.
func (b *Bridge) authorize(ctx context.Context, d *document, p *permit) (refused stellar.Answer, err error) {
	auth, answer, ok := b.cfg.Stellar.Authorize(ctx)
	if ok {
		p.auth = auth
		return refused, nil
	}
	b.slots.giveBack(p.slot)
	if ctx.Err() != nil {
		b.gate.giveBack(p.ticket)
		return refused, context.Cause(ctx)
	}
	d.tries(time.Now())
	d.attempts-- // a token call is no attempt of the record's
	b.metrics.attempt(answer)
	b.gate.answered(p.ticket, d, answer, time.Now())
	return answer, nil
}

func (b *Bridge) giveBack(p permit) {
	b.tokens.giveBack()
	b.slots.giveBack(p.slot)
	b.gate.giveBack(p.ticket)
}

// insert POSTs the document and tells everybody what came of it.
func (b *Bridge) insert(d *document, p permit) stellar.Answer {
	begun := time.Now()
	d.tries(begun)
	a := b.cfg.Stellar.Insert(d.r.p.ctx, p.auth, d.body)
	ended := time.Now()
	b.exposure.Release(d.topic, d.r.end(d, a))
	b.slots.release(p.slot, a.PushBack)
	b.metrics.attempt(a)
	d.trail.attempted(begun, d.attempts-1, a)
	if a.Again {
		d.attempts-- // a token that had to be renewed is not the record's failure
		b.gate.giveBack(p.ticket)
		return a
	}
	if a.Verdict == stellar.Unknown {
		d.sends++
		d.maySince = ended
	}
	if a.Verdict == stellar.Delivered {
		b.faults.delivered(d, ended) // before it counts as company: it acquits whoever is weighed next
	}
	b.gate.answered(p.ticket, d, a, ended)
	d.seen = b.gate.deliveries()
	b.metrics.seconds.Observe(ended.Sub(begun).Seconds())
	return a
}
