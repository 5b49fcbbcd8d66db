package main

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"serbridge/bridge/audit"
	"serbridge/bridge/backfill"
	"serbridge/bridge/deadletter"
	"serbridge/bridge/receipt"
	"serbridge/bridge/stellar"
	"serbridge/transform"
	"serbridge/transform/format"
)

// traced is what is known of one record.
type traced struct {
	source   deadletter.Source
	there    string      // why there is no record at the place; empty: there is
	record   *kgo.Record // nil: none
	group    string      // what the group says of it
	result   transform.Result
	receipts []receipt.Receipt
	letters  []tracedLetter
	copies   []tracedDocument
	asked    bool // Stellar Cyber
}

type tracedLetter struct {
	entry *deadletter.Entry
	mark  deadletter.Mark
}

// tracedDocument is one document that the record makes now, or one that a receipt names.
type tracedDocument struct {
	part        int
	deliveryKey string
	run         string              // group of the replay whose delivery it is; empty: none
	document    *transform.Document // nil: the record does not make it, by now
	copies      audit.Copies
}

func (f *traced) known() bool {
	return f.record != nil || len(f.receipts) > 0 || len(f.letters) > 0 || slices.ContainsFunc(f.copies, func(d tracedDocument) bool { return d.copies.N > 0 })
}

// trace gathers what is known of the record.
func (t *tracer) trace(ctx context.Context, s deadletter.Source) (*traced, error) {
	f := &traced{source: s, asked: t.index != nil}
	for _, look := range []func(context.Context, *traced) error{t.lookAtRecord, t.lookAtGroup, t.lookAtReceipts, t.lookAtLetters, t.lookAtIndex} {
		if err := look(ctx, f); err != nil {
			return nil, t.box.fault("trace "+s.String(), err)
		}
	}
	return f, nil
}

func (t *tracer) lookAtRecord(ctx context.Context, f *traced) error {
	log, err := deadletter.OpenLog(ctx, t.options, f.source.Topic)
	if errors.Is(err, deadletter.ErrNoTopic) {
		f.there = "there is no such topic, or our Kafka user may not see it (Describe)"
		return nil
	}
	if err != nil {
		return err
	}
	defer log.Close()
	at := f.source.Offset
	span, ok := log.Span(f.source.Partition)
	switch {
	case !ok:
		f.there = "the topic has no such partition"
		return nil
	case at < span.Start:
		f.there = "retention has removed it"
		return nil
	case at >= span.End:
		f.there = "the partition has not come so far, or a transaction is still open there"
		return nil
	}
	f.there = "no record stands there: compaction has removed it, or its transaction was aborted"
	span.Start, span.End = at, at+1
	return log.Read(ctx, span, func(k *kgo.Record) error {
		if k.Attrs.IsControl() {
			f.there = "it is the marker of a transaction, and no record"
			return nil
		}
		f.there, f.record = "", k
		var err error
		f.result, err = t.settings.Registry.reading(ctx, func() transform.Result { return format.Transform(t.input(k)) })
		return err
	})
}

func (t *tracer) lookAtGroup(ctx context.Context, f *traced) error {
	ctx, cancel := planning(ctx)
	defer cancel()
	commits, err := backfill.CommitsOf(ctx, t.admin, t.settings.Kafka.Group)
	if err != nil {
		return err
	}
	at := backfill.Place{Topic: f.source.Topic, Partition: f.source.Partition}
	switch _, begun := commits.Base(at); {
	case !begun:
		f.group = "no_commit"
	case commits.Settled(at)(f.source.Offset):
		f.group = "settled"
	default:
		f.group = "pending"
	}
	return nil
}

// since is a time before which nothing was written of the record; zero: any.
func (f *traced) since() time.Time {
	if f.record == nil {
		return time.Time{}
	}
	return f.record.Timestamp
}

// lookAtReceipts reads the partition of the record's receipts; the others only if it has none, since it may have been
// another one before the topic grew.
func (t *tracer) lookAtReceipts(ctx context.Context, f *traced) error {
	r, err := t.receipts(ctx, f.since())
	if r == nil || err != nil {
		return err
	}
	defer r.Close()
	progress := t.newReading("reading receipts", r.Offsets())
	r.OnProgress = progress.add
	defer progress.end()
	for _, s := range likely(r.Spans, f.source.Partition) {
		err := r.EachIn(ctx, s, func(one receipt.Receipt) (bool, error) {
			if one.Source == f.source {
				f.receipts = append(f.receipts, one)
			}
			return true, nil
		})
		if err != nil || len(f.receipts) > 0 {
			return err
		}
	}
	return nil
}

// likely has the span first in which something of the source partition stands, if its topic has not grown.
func likely(spans []deadletter.Span, partition int32) []deadletter.Span {
	if len(spans) == 0 {
		return nil
	}
	first := int(partition) % len(spans)
	all := append([]deadletter.Span{spans[first]}, spans[:first]...)
	return append(all, spans[first+1:]...)
}

func (t *tracer) lookAtLetters(ctx context.Context, f *traced) error {
	r, err := t.letters(ctx)
	if r == nil || err != nil {
		return err
	}
	defer r.Close()
	progress := t.newReading("reading dead letters", r.Offsets())
	r.OnProgress = progress.add
	var places []deadletter.Place
	for _, s := range likely(r.Spans, f.source.Partition) {
		meant := deadletter.Filter{Sources: []deadletter.Source{f.source}, Partitions: []int32{s.Partition}}
		err := r.Each(ctx, meant, func(e *deadletter.Entry) (bool, error) {
			f.letters = append(f.letters, tracedLetter{entry: e})
			places = append(places, e.Place)
			return true, nil
		})
		if err != nil {
			return err
		}
		if len(f.letters) > 0 {
			break
		}
	}
	progress.end()
	marks, err := r.Marks(ctx, places)
	for i := range f.letters {
		f.letters[i].mark = marks[f.letters[i].entry.Place]
	}
	return err
}

// lookAtIndex searches for what the record makes now, and for what receipts name besides, such as a replay's.
func (t *tracer) lookAtIndex(ctx context.Context, f *traced) error {
	for i, p := range f.result.Parts {
		if p.Document != nil {
			f.copies = append(f.copies, tracedDocument{part: i, deliveryKey: p.Document.DeliveryKey(), document: p.Document})
		}
	}
	for _, r := range f.receipts {
		for _, p := range r.Parts {
			known := slices.ContainsFunc(f.copies, func(d tracedDocument) bool { return d.deliveryKey == p.DeliveryKey })
			if p.DeliveryKey == "" || known {
				continue
			}
			d := tracedDocument{part: p.Part, deliveryKey: p.DeliveryKey}
			if r.Group != t.settings.Kafka.Group {
				d.run = r.Group
			}
			f.copies = append(f.copies, d)
		}
	}
	if t.index == nil {
		return nil
	}
	for i := range f.copies {
		d := &f.copies[i]
		found, err := t.index.Find(ctx, stellar.ByDeliveryKey, d.deliveryKey)
		if err != nil {
			return err
		}
		d.copies = audit.Compare(found, t.stellar.Ours, d.document)
	}
	return nil
}
