package bridge

import (
	"context"
	"fmt"
	"time"

	"github.com/cenkalti/backoff/v4"
	"github.com/twmb/franz-go/pkg/kgo"

	"serbridge/bridge/deadletter"
	"serbridge/bridge/pause"
	"serbridge/bridge/stellar"
	"serbridge/transform"
	"serbridge/transform/format"
)

// Reading is what a record of this run is, before it is transformed.
type Reading struct {
	Input transform.Input
	Part  int                  // the one document of the record that is wanted; WholeRecord: all of them
	Skip  transform.SkipReason // why the record is not wanted at all; empty: it is
	// Letter is what a dead letter of the record starts from: its headers, when it
	// first failed, how often it was redriven, and by which run. nil: from the
	// record's headers alone.
	Letter *deadletter.Letter
	// Select leaves out of what the record makes what this run does not mean: parts of it become skips. nil: nothing.
	Select func(*transform.Input, transform.Result) transform.Result
}

// WholeRecord is the number of the part that is all of its record.
const WholeRecord = -1

// Outcome is what became of a record, all of it.
type Outcome struct {
	Record  *kgo.Record
	Reading Reading
	Format  string        // that recognised it; empty: none did
	Skip    string        // why all of it is no detection; empty: see Parts
	Parts   []PartOutcome // a record that was refused as a whole has one, numbered as what was wanted of it
	// Leaving is closed when the record's partition is to be handed over. What Ended has not begun by then need not begin: its
	// error leaves a record of which nothing was sent to the next owner.
	Leaving <-chan struct{}
}

// PartOutcome is what became of one document of a record: exactly one of Skip,
// Reason and Delivered says something.
type PartOutcome struct {
	Part      int
	Skip      string // why it is no detection
	Reason    string // of its dead letter
	Delivered bool
	Answer    stellar.Answer      // of its last attempt; its Index and ID name what was stored
	Document  *transform.Document // nil: none was made
	Attempts  int
	Doubts    int // of these, attempts that may have stored it as well, which nobody knows
}

// Wanted reports whether the part was asked for: of a record of which one part is
// sent again, the others are not.
func (o PartOutcome) Wanted() bool { return o.Skip != string(NotWanted) }

// read is what cfg.Read says of the record; without it, that it is itself. One
// later than a bounded run's time is not wanted: log offsets do not follow the
// clock, so the time cannot be an offset.
func (b *Bridge) read(r *record) Reading {
	reading := b.readWhole(r)
	if until, bounded := r.p.frontier().Until(); bounded && reading.Skip == "" && r.k.Timestamp.UnixMilli() >= until {
		reading.Skip = PastUntil
	}
	return reading
}

func (b *Bridge) readWhole(r *record) Reading {
	if b.cfg.Read != nil {
		return b.cfg.Read(r.k)
	}
	return Reading{Part: WholeRecord, Input: transform.Input{
		Value: r.k.Value, Topic: r.k.Topic, Partition: r.k.Partition, Offset: r.k.Offset, Timestamp: r.k.Timestamp}}
}

// PastUntil is why a record of a bounded run is not delivered that is later than
// the run's time (frontier.Map.Until).
const PastUntil transform.SkipReason = "past_until"

// NotWanted are the parts of a record of which another is.
const NotWanted transform.SkipReason = "not_wanted"

// transform makes the documents of the record, or the one of them that is
// wanted. The error, of a record whose schema has not come, leaves it to the
// next owner.
func (b *Bridge) transform(r *record) (transform.Result, error) {
	if skip := r.reading.Skip; skip != "" {
		return transform.Result{Skip: skip}, nil
	}
	var wait *backoff.ExponentialBackOff
	for {
		begun := r.trail.now()
		in := r.reading.Input
		in.Now, in.ClusterID, in.Settings = time.Now(), b.cluster, b.cfg.Transform(in.Topic)
		result := r.reading.Transform(in)
		if result.Hold == nil {
			r.trail.transformed(begun, result)
			return result, nil
		}
		if wait == nil {
			wait = fullJitter(mostWait)
		}
		if err := b.awaitSchema(r, result.Hold.SchemaID, wait); err != nil {
			return result, err
		}
	}
}

// awaitSchema reads the schema that a record waits for, or waits before the next
// try: a registry that is away is an outage like any other, and no fault of the
// record.
func (b *Bridge) awaitSchema(r *record, id uint32, next *backoff.ExponentialBackOff) error {
	r.freeHand()
	err := r.wait(func(ctx context.Context) error { return b.cfg.Schema(ctx, id) })
	if err == nil {
		b.troubles.end("schemas")
		return nil
	}
	if r.ctx().Err() == nil {
		b.troubles.begin("schemas", fmt.Sprintf("records wait for their schema, their offsets are held: %v", err))
		err = r.wait(func(ctx context.Context) error { return pause.For(ctx, next.NextBackOff()) })
	}
	if err != nil {
		b.troubles.drop("schemas") // whoever still waits says so again
	}
	return err
}

// Transform makes of the record's input what this run means of it.
func (r Reading) Transform(in transform.Input) transform.Result {
	result := r.Wanted(format.Transform(in))
	if r.Select != nil {
		result = r.Select(&in, result)
	}
	return result
}

// Wanted is what of the record's documents is wanted.
func (r Reading) Wanted(result transform.Result) transform.Result {
	if len(result.Parts) == 0 || r.Part == WholeRecord {
		return result
	}
	if r.Part >= len(result.Parts) {
		return transform.Result{Format: result.Format, Reject: &transform.Reject{Reason: transform.UnknownFormat,
			Detail: fmt.Sprintf("part %d is wanted, and the record makes %d documents by now", r.Part, len(result.Parts))}}
	}
	for i := range result.Parts {
		if i != r.Part {
			result.Parts[i] = transform.Part{Skip: NotWanted}
		}
	}
	return result
}

// outcome is where the record's end is noted, if anybody wants to know it.
func (b *Bridge) outcome(r *record, result transform.Result) *Outcome {
	if b.cfg.Ended == nil {
		return nil
	}
	r.outcomes = make([]PartOutcome, max(1, len(result.Parts)))
	for i, part := range result.Parts {
		r.outcomes[i] = PartOutcome{Part: i, Skip: string(part.Skip)}
	}
	if result.Skip != "" {
		r.outcomes = nil
	}
	return &Outcome{Record: r.k, Reading: r.reading, Format: result.Format, Skip: string(result.Skip), Parts: r.outcomes,
		Leaving: r.p.unstarted.Done()}
}

// finish tells what became of the record before its offset counts as settled,
// again and again until that is taken in.
func (b *Bridge) finish(r *record, o *Outcome) error {
	if o == nil {
		return nil
	}
	wait := fullJitter(mostWait)
	for {
		err := b.cfg.Ended(r.p.ctx, *o)
		if err == nil {
			b.troubles.end("outcomes")
			return nil
		}
		if ctx := r.ctx(); ctx.Err() != nil {
			return context.Cause(ctx)
		}
		b.troubles.begin("outcomes", "what became of records is not taken in, their offsets are held: "+explainKafka(err))
		if err := r.wait(func(ctx context.Context) error { return pause.For(ctx, wait.NextBackOff()) }); err != nil {
			return err
		}
	}
}
