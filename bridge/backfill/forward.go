package backfill

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"golang.org/x/time/rate"

	"serbridge/bridge"
	"serbridge/bridge/deadletter"
	"serbridge/transform"
)

// What becomes of a letter whose record is produced to a topic, in place of being delivered.
const (
	Forwarded    transform.SkipReason = "forwarded"      // its record goes to the topic
	OneOfSeveral transform.SkipReason = "one_of_several" // left out: the other documents of its record would go with it
)

// Forward produces the records of letters to a topic. Who dies between the acknowledgement of a record and that of its mark
// leaves the record there twice, once the run goes on.
type Forward struct {
	To    *deadletter.Forwarder
	Limit *rate.Limiter // records of this process; nil: none

	mu   sync.Mutex
	sent map[deadletter.Place]bool // and not marked yet: a mark that fails is no reason to produce again
}

// Select lets through to Ended what is to be produced, whatever today's mapping makes of it. Of a letter of one document
// only the whole record can be produced.
func (f *Forward) Select(part int) func(*transform.Input, transform.Result) transform.Result {
	return func(_ *transform.Input, result transform.Result) transform.Result {
		if part > 0 || part == 0 && len(result.Parts) > 1 {
			return transform.Result{Format: result.Format, Skip: OneOfSeveral}
		}
		return transform.Result{Format: result.Format, Skip: Forwarded}
	}
}

// send returns once the record of the letter is in the topic, produced by this call or by an earlier one. It begins nothing
// once the partition is to be handed over: at a low rate whatever is in hand would hold that up.
func (f *Forward) send(ctx context.Context, e *deadletter.Entry, run string, leaving <-chan struct{}) error {
	f.mu.Lock()
	sent := f.sent[e.Place]
	f.mu.Unlock()
	if sent {
		return nil
	}
	if err := f.turn(ctx, leaving); err != nil {
		return err
	}
	if err := f.To.Forward(ctx, e.Letter, run); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.sent == nil {
		f.sent = make(map[deadletter.Place]bool)
	}
	f.sent[e.Place] = true
	return nil
}

// turn waits for the rate.
func (f *Forward) turn(ctx context.Context, leaving <-chan struct{}) error {
	if f.Limit == nil {
		return nil
	}
	turn := f.Limit.Reserve()
	select {
	case <-leaving:
		turn.Cancel()
		return errLeft
	case <-ctx.Done():
		turn.Cancel()
		return context.Cause(ctx)
	case <-time.After(turn.Delay()):
		return nil
	}
}

var errLeft = errors.New("the partition is handed over")

// marked forgets a letter whose mark is written.
func (f *Forward) marked(at deadletter.Place) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.sent, at)
}

// forwards reports whether the record of this outcome is to be produced to a topic.
func (r *Redrive) forwards(o bridge.Outcome) bool {
	return r.Forward != nil && o.Skip == string(Forwarded)
}

// Reading says what a record of the dead-letter topic is: the record that the letter holds, under its own coordinates.
func (r *Redrive) Reading(k *kgo.Record) bridge.Reading {
	e := r.Letters.Entry(k)
	return r.ReadingOf(e, r.skip(e))
}

// ReadingOf is what a letter is to the redrive that leaves it out for that reason, if for any.
func (r *Redrive) ReadingOf(e *deadletter.Entry, skip transform.SkipReason) bridge.Reading {
	l, again := e.Letter, e.Letter.Redriven(r.ID)
	reading := bridge.Reading{Part: l.Part, Skip: skip, Letter: &again, Input: transform.Input{
		Value: l.Value, Topic: l.Topic, Partition: l.Partition, Offset: l.Offset, Timestamp: l.Timestamp}}
	if r.Forward != nil {
		reading.Select = r.Forward.Select(l.Part)
	}
	return reading
}
