package audit

import (
	"bytes"
	"context"
	"hash/fnv"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"serbridge/bridge/deadletter"
	"serbridge/bridge/pause"
	"serbridge/bridge/stellar"
	"serbridge/transform"
	"serbridge/transform/format"
)

// ReadBack searches the index for what was delivered.
type ReadBack struct {
	Index *Index
	Ours  func(stellar.Stored) stellar.Ours
	Input func(*kgo.Record) transform.Input // of the record, as the bridge reads it
	// Schema reads the schema that the record waits for, as for the bridge; nil: Input's settings know of no registry.
	Schema func(ctx context.Context, id uint32) error
	Every  int64 // one of so many records, always the same ones; 1: all
	// Shown is when the index must show what was delivered before the audit began: what is not found earlier is searched
	// for once more.
	Shown time.Time
}

// wants reports whether the documents of the record are searched for.
func (b *ReadBack) wants(s deadletter.Source) bool {
	if b == nil {
		return false
	}
	h := fnv.New64a()
	h.Write([]byte(s.String())) //nolint:errcheck // never fails
	return b.Every <= 1 || h.Sum64()%uint64(b.Every) == 0
}

// Bounds of what is searched for at a time.
const (
	queueLength = 256
	queueBytes  = 16 << 20
	searchers   = 16
)

// searched is one record whose documents are searched for.
type searched struct {
	record *kgo.Record
	note   note
	hour   time.Time
	dead   map[int]bool // parts that are dead letters
	result transform.Result
	parts  []searchedPart
}

// searchedPart is one document of it.
type searchedPart struct {
	part     int
	key      string
	document *transform.Document // nil: the mappings of now do not make it
	copies   Copies
	err      error
}

type queue struct {
	all   []*searched
	bytes int
}

func (w *walk) enqueue(ctx context.Context, k *kgo.Record, n note) error {
	s := &searched{record: k, note: n, hour: w.hour, dead: w.dead[w.source(k.Offset)]}
	result, err := w.ReadBack.transform(ctx, k)
	if err != nil {
		return err
	}
	s.prepare(w.ReadBack.Input(k), result)
	w.queue.all = append(w.queue.all, s)
	w.queue.bytes += 4 * len(k.Value) // with its documents
	if len(w.queue.all) < queueLength && w.queue.bytes < queueBytes {
		return nil
	}
	return w.flush(ctx)
}

// transform makes of a record what the bridge makes of it. The error is that of a schema that cannot be read.
func (b *ReadBack) transform(ctx context.Context, k *kgo.Record) (transform.Result, error) {
	for {
		result := format.Transform(b.Input(k))
		if result.Hold == nil {
			return result, nil
		}
		if err := b.Schema(ctx, result.Hold.SchemaID); err != nil {
			return result, err
		}
	}
}

// prepare says what to search for. One delivered document has the key of part 0, whatever the record makes now.
func (s *searched) prepare(in transform.Input, result transform.Result) {
	s.result = result
	for i, p := range s.result.Parts {
		if p.Document != nil && !s.dead[i] {
			s.parts = append(s.parts, searchedPart{part: i, key: p.Document.DeliveryKey(), document: p.Document})
		}
	}
	if s.note.fate == delivered && !s.note.many && (len(s.result.Parts) != 1 || len(s.parts) != 1) {
		s.parts = []searchedPart{{key: transform.DeliveryKey(&in, 0)}}
	}
}

// flush searches for what is queued, several at a time, and takes in what is found in order.
func (w *walk) flush(ctx context.Context) error {
	jobs := make(chan *searched)
	var all sync.WaitGroup
	for range min(searchers, len(w.queue.all)) {
		all.Go(func() {
			for s := range jobs {
				w.ReadBack.search(ctx, s)
			}
		})
	}
	for _, s := range w.queue.all {
		jobs <- s // a search ends with ctx
	}
	close(jobs)
	all.Wait()
	for _, s := range w.queue.all {
		if err := w.found(s); err != nil {
			return err
		}
	}
	w.queue = queue{}
	return nil
}

func (b *ReadBack) search(ctx context.Context, s *searched) {
	for i := range s.parts {
		p := &s.parts[i]
		if p.copies, p.err = b.find(ctx, s, p); p.err != nil {
			return
		}
	}
}

// find searches once, and once more where the index may not have shown the document yet.
func (b *ReadBack) find(ctx context.Context, s *searched, p *searchedPart) (Copies, error) {
	found, err := b.Index.Find(ctx, stellar.ByDeliveryKey, p.key)
	if early := time.Until(b.Shown); err == nil && len(found) == 0 && early > 0 {
		if err = pause.For(ctx, early); err == nil {
			found, err = b.Index.Find(ctx, stellar.ByDeliveryKey, p.key)
		}
	}
	if err != nil {
		return Copies{}, err
	}
	c := Compare(found, b.Ours, p.document)
	if len(c.Differs) == 0 || c.WriteTime == 0 {
		return c, nil
	}
	return b.then(s, p, found, c), nil
}

// then compares once more with the document as it was made then: a time that is too far ahead of the clock is not taken, and
// where there is none at all it is the clock's.
func (b *ReadBack) then(s *searched, p *searchedPart, found []stellar.Stored, now Copies) Copies {
	in := b.Input(s.record)
	in.Now = time.UnixMilli(now.WriteTime)
	result := format.Transform(in)
	if p.part >= len(result.Parts) || result.Parts[p.part].Document == nil {
		return now
	}
	document := result.Parts[p.part].Document
	c := Compare(found, b.Ours, document)
	if text, err := document.Encode(); err == nil && bytes.Contains(text, []byte(`"time_from_clock":true`)) {
		c.Differs = slices.DeleteFunc(c.Differs, func(name string) bool { return name == "timestamp" })
	}
	return c
}

// found takes in what was found of a record.
func (w *walk) found(s *searched) error {
	row, at := w.account.row(w.Topic, s.hour), w.source(s.record.Offset)
	for _, p := range s.parts {
		if p.err != nil {
			return p.err
		}
	}
	if s.note.fate == unwritten {
		return w.unwritten(row, at, s)
	}
	for _, p := range s.parts {
		if err := w.foundPart(row, at, s, p); err != nil {
			return err
		}
	}
	return nil
}

// unwritten judges a settled record without a receipt by what the index has, and by what it makes now.
func (w *walk) unwritten(row *Row, at deadletter.Source, s *searched) error {
	there := len(s.parts) > 0
	for _, p := range s.parts {
		there = there && p.copies.N > 0
	}
	noDetection := s.result.Reject == nil && len(s.parts) == 0
	for _, p := range s.result.Parts {
		noDetection = noDetection && p.Reject == nil
	}
	switch {
	case there:
		row.Delivered++
	case noDetection:
		row.Skipped++
	default:
		row.Searched += int64(len(s.parts))
		return w.unexplained(row, NoReceipt, at)
	}
	for _, p := range s.parts {
		if err := w.foundPart(row, at, s, p); err != nil {
			return err
		}
	}
	return nil
}

func (w *walk) foundPart(row *Row, at deadletter.Source, s *searched, p searchedPart) error {
	row.Searched++
	f := Finding{Topic: at.Topic, Partition: at.Partition, First: at.Offset, Last: at.Offset, Part: p.part, DeliveryKey: p.key,
		Index: p.copies.Index, ID: p.copies.ID, Copies: p.copies.N, Differs: p.copies.Differs}
	was := w.mapping(s.note)
	otherwise := p.document != nil && was != "" && was != p.document.Mapping()
	switch c := p.copies; {
	case c.N == 0 && s.note.many && (otherwise || p.document == nil || s.note.fate == deadLettered && s.dead == nil):
		row.Uncompared++ // the record may have had other parts
		return nil
	case c.N == 0:
		row.Missing++
		f.Kind = Missing
	case c.N > 1:
		row.Doubled++
		f.Kind = Doubled
	case len(c.Differs) > 0:
		row.Different++
		f.Kind = Different
	default:
		if c.Elsewise != "" || p.document == nil {
			row.Uncompared++
		}
		return nil
	}
	return w.findings.tell(f)
}

// Where is the offsets of a finding, as the commands take them.
func (f Finding) Where() string {
	s := deadletter.Source{Topic: f.Topic, Partition: f.Partition, Offset: f.First}.String()
	if f.Last > f.First {
		s += "-" + strconv.FormatInt(f.Last, 10)
	}
	return s
}
