package bridge

import (
	"context"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// dispenser hands out this member's share of the group's rate, one token per
// attempt, first come, first served.
//
// Only the one whose turn it is reserves a token: in x/time/rate those that
// wait already keep their old schedule when the limit changes, so a hundred
// waiting workers would go on at yesterday's rate. It starts empty and keeps
// its tokens when the share changes, so no restart or rebalance adds a burst.
type dispenser struct {
	turn chan struct{} // capacity 1: holding it is having the turn

	mu       sync.Mutex
	limiter  *rate.Limiter // nil: no limit
	returned int           // tokens given back unused
	changed  chan struct{} // closed and replaced when the share changes
}

func newDispenser(limited bool) *dispenser {
	d := &dispenser{turn: make(chan struct{}, 1), changed: make(chan struct{})}
	if limited {
		d.limiter = rate.NewLimiter(0, 0)
	}
	return d
}

// share sets this member's part: requests per second and burst. A share of 0
// makes everybody wait.
func (d *dispenser) share(perSecond float64, burst int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.limiter == nil || (d.limiter.Limit() == rate.Limit(perSecond) && d.limiter.Burst() == burst) {
		return
	}
	d.limiter.SetLimit(rate.Limit(perSecond))
	d.limiter.SetBurst(burst)
	close(d.changed)
	d.changed = make(chan struct{})
}

// take waits for a token, or until ctx ends.
func (d *dispenser) take(ctx context.Context) error {
	if d.limiter == nil {
		return ctx.Err()
	}
	select {
	case d.turn <- struct{}{}:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	defer func() { <-d.turn }()
	for {
		wait, cancel, changed := d.reserve()
		if wait == 0 {
			return nil
		}
		if done, err := d.sleep(ctx, wait, changed); err != nil || !done {
			cancel()
			if err != nil {
				return err
			}
			continue
		}
		return nil
	}
}

// reserve takes a token that was given back, or reserves the next one; wait
// is how long until it may be used, negative for ever.
func (d *dispenser) reserve() (wait time.Duration, cancel func(), changed <-chan struct{}) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.returned > 0 {
		d.returned--
		return 0, nil, nil
	}
	if d.limiter.Limit() <= 0 {
		return -1, func() {}, d.changed
	}
	r := d.limiter.Reserve()
	if !r.OK() { // a burst of 0
		return -1, func() {}, d.changed
	}
	return r.Delay(), r.Cancel, d.changed
}

// sleep waits for the reserved token; done is false when the share changed
// first, and a new reservation is due.
func (d *dispenser) sleep(ctx context.Context, wait time.Duration, changed <-chan struct{}) (done bool, err error) {
	var timer <-chan time.Time
	if wait > 0 {
		t := time.NewTimer(wait)
		defer t.Stop()
		timer = t.C
	}
	select {
	case <-timer:
		return true, nil
	case <-changed:
		return false, nil
	case <-ctx.Done():
		return false, context.Cause(ctx)
	}
}

// giveBack returns a token whose attempt did not take place. It is kept only
// while the bucket has room, or returned tokens would add up to a burst.
func (d *dispenser) giveBack() {
	if d.limiter == nil {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.limiter.Tokens()+float64(d.returned)+1 <= float64(d.limiter.Burst()) {
		d.returned++
	}
}

// rate is the share in requests per second; limited is false without a limit.
func (d *dispenser) rate() (perSecond float64, limited bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.limiter == nil {
		return 0, false
	}
	return float64(d.limiter.Limit()), true
}
