package audit

import (
	"context"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"serbridge/bridge/backfill"
	"serbridge/bridge/deadletter"
	"serbridge/bridge/receipt"
)

// Config is what is audited. Order matters to whoever makes it: first the ranges, then the commits, then receipts and
// letters, so that what a commit says is settled has its receipt in what is read.
type Config struct {
	Options []kgo.Opt // reach the brokers
	Group   string    // the live one: what others wrote of a record, a replay for one, is not what became of it

	Plan    backfill.Plan            // the ranges, and the time up to which records count
	From    time.Time                // from which they count; zero: all
	Starts  map[backfill.Place]int64 // of the logs
	Commits backfill.Commits

	Receipts *receipt.Reader    // nil: none are written
	Letters  *deadletter.Reader // nil: there are none

	ReadBack *ReadBack                 // nil: the index is not searched
	Tell     func(Finding) error       // is told each, soon
	Progress func(read, offsets int64) // may be nil

	windowOffsets int64 // of tests
}

// windowOffsets is how many offsets are accounted for at a time: eight bytes each are kept where something is written of
// them. The receipts are read once for each window.
const windowOffsets = 8 << 20

// chunk is a part of a range: what is below the start of the log is gone.
type chunk struct {
	backfill.Place
	start, end, logStart int64
}

// run is one audit.
type run struct {
	Config
	account  Account
	findings findings
	read, of int64
}

// Run accounts for every offset of the ranges. The error is that something could not be read; what was found until then
// was told.
func Run(ctx context.Context, cfg Config) (*Account, error) {
	r := &run{Config: cfg, findings: findings{tell: cfg.Tell}}
	if r.windowOffsets == 0 {
		r.windowOffsets = windowOffsets
	}
	chunks, err := r.chunks(ctx)
	if err != nil {
		return nil, err
	}
	for _, c := range chunks {
		r.of += c.end - c.start
	}
	for len(chunks) > 0 {
		var window []chunk
		window, chunks = r.window(chunks)
		n := newNotes(window, r.From, r.Plan.Until)
		if err := r.gather(ctx, n); err != nil {
			return nil, err
		}
		for _, c := range window {
			if err := r.chunk(ctx, n, c); err != nil {
				return nil, fmt.Errorf("account for %s: %w", c.Place, err)
			}
		}
	}
	return &r.account, nil
}

// window cuts off what is accounted for at once.
func (r *run) window(chunks []chunk) (window, rest []chunk) {
	room := r.windowOffsets
	for len(chunks) > 0 && room > 0 {
		c := chunks[0]
		if c.end-c.start > room {
			first := c
			first.end = c.start + room
			chunks[0].start = first.end
			return append(window, first), chunks
		}
		room -= c.end - c.start
		window, chunks = append(window, c), chunks[1:]
	}
	return window, chunks
}

// chunks are the ranges, and what retention has taken before them: a range that begins where the log does may have begun
// earlier, as far back as something is written of it, or the group has it open.
func (r *run) chunks(ctx context.Context) ([]chunk, error) {
	lowest := make(map[backfill.Place]int64)
	for _, in := range r.Plan.Ranges {
		if start := r.Starts[in.Place]; in.Start == start && start > 0 {
			lowest[in.Place] = start
			if base, begun := r.Commits.Base(in.Place); begun {
				lowest[in.Place] = min(start, base)
			}
		}
	}
	if len(lowest) > 0 {
		err := r.eachReceipt(ctx, func(one receipt.Receipt) {
			at := backfill.Place{Topic: one.Source.Topic, Partition: one.Source.Partition}
			if low, gone := lowest[at]; gone && one.Source.Offset < low && inTime(one.Time, r.From, r.Plan.Until) {
				lowest[at] = one.Source.Offset
			}
		})
		if err != nil {
			return nil, err
		}
	}
	var all []chunk
	for _, in := range r.Plan.Ranges {
		c := chunk{in.Place, in.Start, in.End, r.Starts[in.Place]}
		if low, gone := lowest[in.Place]; gone {
			c.start = low
		}
		if c.start < c.end {
			all = append(all, c)
		}
	}
	return all, nil
}

// gather reads what is written of the window.
func (r *run) gather(ctx context.Context, n *notes) error {
	if err := r.eachReceipt(ctx, n.receipt); err != nil {
		return err
	}
	if r.Letters == nil {
		return nil
	}
	err := r.Letters.Each(ctx, deadletter.Filter{}, func(e *deadletter.Entry) (bool, error) {
		if e.Err == nil {
			n.letter(e.Source())
			n.letter(e.ReadAt())
		}
		return true, nil
	})
	if err != nil {
		return fmt.Errorf("read dead letters: %w", err)
	}
	return nil
}

// eachReceipt calls f with those of the live group.
func (r *run) eachReceipt(ctx context.Context, f func(receipt.Receipt)) error {
	if r.Receipts == nil {
		return nil
	}
	err := r.Receipts.Each(ctx, func(one receipt.Receipt) (bool, error) {
		if one.Group == r.Group {
			f(one)
		}
		return true, nil
	})
	if err != nil {
		return fmt.Errorf("read receipts: %w", err)
	}
	return nil
}
