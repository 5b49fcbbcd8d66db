package admin

import (
	"context"
	"sync"
	"time"

	"serbridge/bridge/pause"
)

const (
	sampleEvery = 15 * time.Second
	samples     = 240 // an hour of them
)

// sample is what the page draws of one moment; counters as they stand then.
type sample struct {
	at                                    time.Time
	delivered, rejected, skipped, unknown float64
	backlog, lag, oldest, exposed         float64
}

func sampleOf(f figures, at time.Time) sample {
	return sample{
		at: at, delivered: f.sum("documents_delivered_total"), rejected: f.sum("dead_letters_total"),
		skipped: f.sum("skipped_total"), unknown: f.sum("attempts_total", "certainty", "unknown"),
		backlog: f.sum("backlog_records"), lag: f.sum("lag_records"),
		oldest: f.most("oldest_unsettled_age_seconds"), exposed: f.sum("exposure_documents"),
	}
}

// history is the last hour, in fixed memory. The zero value is empty.
type history struct {
	mu   sync.Mutex
	ring [samples]sample
	n    int // taken so far
}

func (h *history) add(s sample) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ring[h.n%samples] = s
	h.n++
}

// all are the samples kept, the oldest first.
func (h *history) all() []sample {
	h.mu.Lock()
	defer h.mu.Unlock()
	kept := min(h.n, samples)
	all := make([]sample, 0, kept)
	for i := h.n - kept; i < h.n; i++ {
		all = append(all, h.ring[i%samples])
	}
	return all
}

// remember takes samples until ctx ends.
func (s *Server) remember(ctx context.Context) {
	pause.Every(ctx, sampleEvery, func() {
		if f, err := read(s.cfg.Gatherer); err == nil {
			s.history.add(sampleOf(f, time.Now()))
		}
	})
}
