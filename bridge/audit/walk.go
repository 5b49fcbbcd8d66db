package audit

import (
	"context"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"serbridge/bridge/deadletter"
)

// walk passes the offsets of one chunk, in order.
type walk struct {
	*run
	*notes
	chunk
	settled func(offset int64) bool
	next    int64
	hour    time.Time // of the last record, for what nobody knows the hour of
	queue   queue
}

func (r *run) chunk(ctx context.Context, n *notes, c chunk) error {
	w := &walk{run: r, notes: n, chunk: c, settled: r.Commits.Settled(c.Place), next: c.start, hour: hourOf(r.From)}
	if r.From.IsZero() {
		w.hour = time.Time{}
	}
	if first := max(c.start, c.logStart); first < c.end {
		log, err := deadletter.OpenLog(ctx, r.Options, c.Topic)
		if err != nil {
			return err
		}
		defer log.Close()
		err = log.Read(ctx, deadletter.Span{Partition: c.Partition, Start: first, End: c.end}, func(k *kgo.Record) error { return w.record(ctx, k) })
		if err != nil {
			return err
		}
	}
	if err := w.gap(c.end); err != nil {
		return err
	}
	if err := w.flush(ctx); err != nil {
		return err
	}
	return r.findings.closeAll()
}

func (w *walk) source(offset int64) deadletter.Source {
	return deadletter.Source{Topic: w.Topic, Partition: w.Partition, Offset: offset}
}

// pass notes that all below the offset is accounted for.
func (w *walk) pass(offset int64) {
	const step = 256
	before := w.read
	w.read += offset - w.next
	w.next = offset
	if w.Progress != nil && before/step != w.read/step {
		w.Progress(w.read, w.of)
	}
}

// gap accounts for offsets without a record. Above the start of the log they are markers, aborted or compacted; if a receipt
// says what became of them they were records. Below it they are gone, and what nothing is written of is lost.
func (w *walk) gap(end int64) error {
	for w.next < end {
		p := w.page(w.Place, w.next)
		if p != nil && p.notes[w.next%pageOffsets].fate != unwritten {
			w.goneRecord(p.notes[w.next%pageOffsets], p)
			w.pass(w.next + 1)
			continue
		}
		until := min(end, p.written(w.next))
		if w.next < w.logStart {
			until = min(until, w.logStart)
			if err := w.lost(until); err != nil {
				return err
			}
		}
		w.pass(until)
	}
	return nil
}

// written is the next offset of which something is written, or the first behind the page.
func (p *page) written(offset int64) int64 {
	end := (offset/pageOffsets + 1) * pageOffsets
	for p != nil && offset < end && p.notes[offset%pageOffsets].fate == unwritten {
		offset++
	}
	if p == nil {
		return end
	}
	return offset
}

// goneRecord counts a record that the log has no more.
func (w *walk) goneRecord(n note, p *page) {
	w.hour = p.hour
	row := w.account.row(w.Topic, w.hour)
	row.Produced++
	row.Gone++
	switch n.fate {
	case delivered:
		row.Delivered++
	case deadLettered:
		row.DeadLettered++
	case skipped:
		row.Skipped++
	}
}

// lost counts the offsets from next on that are gone, and of which nothing is written.
func (w *walk) lost(end int64) error {
	row := w.account.row(w.Topic, w.hour)
	row.Produced += end - w.next
	row.Lost += end - w.next
	return w.findings.offsets(Lost, w.source(w.next), end)
}

// record accounts for one.
func (w *walk) record(ctx context.Context, k *kgo.Record) error {
	if err := w.gap(k.Offset); err != nil {
		return err
	}
	defer w.pass(k.Offset + 1)
	if k.Attrs.IsControl() || !inTime(k.Timestamp, w.From, w.Plan.Until) {
		return nil
	}
	w.hour = hourOf(k.Timestamp)
	var n note
	if p := w.page(w.Place, k.Offset); p != nil {
		n = p.notes[k.Offset%pageOffsets].of(k.Timestamp)
	}
	return w.judge(ctx, k, n)
}

func (w *walk) judge(ctx context.Context, k *kgo.Record, n note) error {
	row, at := w.account.row(w.Topic, w.hour), w.source(k.Offset)
	row.Produced++
	_, incomplete := w.pieces[at]
	switch settled := w.settled(k.Offset); {
	case incomplete:
		return w.unexplained(row, Incomplete, at)
	case n.fate == deadLettered && !n.letter:
		return w.unexplained(row, NoLetter, at)
	case n.fate == deadLettered, n.fate == unwritten && settled && n.letter: // put by hand leaves a letter alone
		row.DeadLettered++
	case n.fate == delivered:
		row.Delivered++
	case n.fate == skipped:
		row.Skipped++
	case !settled:
		row.Pending++
		return nil
	case !w.ReadBack.wants(at):
		return w.unexplained(row, NoReceipt, at)
	}
	if !w.ReadBack.wants(at) || n.fate == skipped || n.fate == deadLettered && !n.many || n.fate == unwritten && n.letter {
		return nil
	}
	return w.enqueue(ctx, k, n)
}

func (w *walk) unexplained(row *Row, kind Kind, at deadletter.Source) error {
	row.Unexplained++
	return w.findings.offsets(kind, at, at.Offset+1)
}
