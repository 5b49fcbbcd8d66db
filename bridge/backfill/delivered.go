package backfill

import (
	"context"
	"errors"
	"slices"
	"time"

	"serbridge/bridge/receipt"
	"serbridge/transform"
)

// AlreadyDelivered is why a document is left out: a receipt says that it is there.
const AlreadyDelivered transform.SkipReason = "already_delivered"

// Bounds on what is kept of receipts.
const (
	deliveredPage  = 4096
	mostDelivered  = 32 << 20 // offsets in pages, eight bytes each
	mostScattered  = 200_000  // records of which some parts were delivered behind one that was not
	mostMappings   = 255
	mostContiguous = 255 // parts of a record that a byte counts
)

// Delivered is what receipts of one destination say is there. It is made once, and then safe for concurrent use.
type Delivered struct {
	pages     map[deliveredNumber]*[deliveredPage]partsThere
	mappings  []string // by number, the first is 1
	scattered map[scatteredPart]uint8
	records   int64
}

type deliveredNumber struct {
	Place
	number int64
}

// partsThere says that the first parts of a record, as the mapping of this number made them, were delivered. The time is the record's: where a topic was made anew another record stands under the offset, and to take
// it for delivered would be to lose it.
type partsThere struct {
	time           uint32
	mapping, parts uint8
}

type scatteredPart struct {
	Place
	offset int64
	time   uint32
	part   int
}

// timeOf is what is kept of a record's time.
func timeOf(t time.Time) uint32 { return uint32(t.UnixMilli()) }

// ErrTooMuch is returned for a range whose receipts would take too much memory.
var ErrTooMuch = errors.New("the range has more receipts than are kept in memory: take a part of it (--limit, --to), or send again what is there (--skip-delivered=false)")

// ReadDelivered reads which documents of the plan's records a host took from a user, whoever sent them.
func ReadDelivered(ctx context.Context, r *receipt.Reader, p Plan, host, user string) (*Delivered, error) {
	d := &Delivered{pages: make(map[deliveredNumber]*[deliveredPage]partsThere), scattered: make(map[scatteredPart]uint8)}
	err := r.Each(ctx, func(one receipt.Receipt) (bool, error) {
		in, found := p.find(Place{one.Source.Topic, one.Source.Partition})
		if !found || one.Host != host || one.User != user || one.Source.Offset < in.At || one.Source.Offset >= in.End {
			return true, nil
		}
		return true, d.take(one)
	})
	if err != nil {
		return nil, err
	}
	return d, nil
}

// Records is how many records have documents that are there.
func (d *Delivered) Records() int64 { return d.records }

func (d *Delivered) take(r receipt.Receipt) error {
	at := Place{r.Source.Topic, r.Source.Partition}
	key := deliveredNumber{at, r.Source.Offset / deliveredPage}
	for _, p := range r.Parts {
		number := d.number(p.Mapping)
		if p.Fate() != receipt.Delivered || p.Part < 0 || number == 0 {
			continue
		}
		page := d.pages[key]
		if page == nil {
			if len(d.pages) >= mostDelivered/deliveredPage {
				return ErrTooMuch
			}
			page = new([deliveredPage]partsThere)
			d.pages[key] = page
		}
		there := &page[r.Source.Offset%deliveredPage]
		if there.time != timeOf(r.Time) {
			*there = partsThere{time: timeOf(r.Time)}
		}
		d.part(there, p.Part, number, scatteredPart{at, r.Source.Offset, there.time, p.Part})
	}
	return nil
}

// part takes in one that was delivered. Of two mappings of part 0 the last counts.
func (d *Delivered) part(there *partsThere, part int, number uint8, place scatteredPart) {
	switch {
	case there.mapping == 0:
		there.mapping = number
		d.records++
	case there.mapping != number && part == 0:
		there.mapping, there.parts = number, 0
	case there.mapping != number: // a record of several formats
		d.scatter(place, number)
		return
	}
	switch {
	case part < int(there.parts):
	case part == int(there.parts) && part < mostContiguous:
		there.parts++
	default: // one before it was not delivered
		d.scatter(place, number)
	}
}

func (d *Delivered) scatter(place scatteredPart, number uint8) {
	if len(d.scattered) < mostScattered {
		d.scattered[place] = number
	}
}

// number is that of a mapping; 0: it has none, since there are more than are told apart.
func (d *Delivered) number(mapping string) uint8 {
	if mapping == "" {
		return 0
	}
	i := slices.Index(d.mappings, mapping)
	if i < 0 && len(d.mappings) < mostMappings {
		i = len(d.mappings)
		d.mappings = append(d.mappings, mapping)
	}
	return uint8(i + 1)
}

// Select skips the documents that are there.
func (d *Delivered) Select(in *transform.Input, result transform.Result) transform.Result {
	for i, p := range result.Parts {
		if p.Document != nil && d.has(in, i, p.Document.Mapping()) {
			result.Parts[i] = transform.Part{Skip: AlreadyDelivered}
		}
	}
	return result
}

func (d *Delivered) has(in *transform.Input, part int, mapping string) bool {
	number := uint8(slices.Index(d.mappings, mapping) + 1)
	if number == 0 {
		return false
	}
	at, ms := Place{in.Topic, in.Partition}, timeOf(in.Timestamp)
	if page := d.pages[deliveredNumber{at, in.Offset / deliveredPage}]; page != nil {
		if there := page[in.Offset%deliveredPage]; there.time == ms && there.mapping == number && part < int(there.parts) {
			return true
		}
	}
	return d.scattered[scatteredPart{at, in.Offset, ms, part}] == number
}
