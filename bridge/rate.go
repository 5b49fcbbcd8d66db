package bridge

import (
	"context"
	"sync"
	"sync/atomic"
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

	asleep atomic.Bool // the one whose turn it is waits for its token

	mu       sync.Mutex
	limiter  *rate.Limiter // nil: no limit
	returned float64       // tokens given back unused, beside those of the limiter, which takes none back
	changed  chan struct{} // closed and replaced when the share changes or a token is given back
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
	d.stir()
}

// stir has the one whose turn it is look again. Called with mu held.
func (d *dispenser) stir() {
	close(d.changed)
	d.changed = make(chan struct{})
}

// await waits for a token, or until ctx ends. The caller who got one owes a
// next: until then nobody else gets any.
func (d *dispenser) await(ctx context.Context) error {
	if d.limiter == nil {
		return ctx.Err()
	}
	select {
	case d.turn <- struct{}{}:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	err := d.token(ctx)
	if err != nil {
		d.next()
	}
	return err
}

// next ends the turn.
func (d *dispenser) next() {
	if d.limiter != nil {
		<-d.turn
	}
}

func (d *dispenser) token(ctx context.Context) error {
	defer d.asleep.Store(false)
	for {
		wait, cancel, changed := d.reserve()
		if wait == 0 {
			return nil
		}
		d.asleep.Store(true)
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

// reserve reserves the next token; wait is how long until it may be used,
// negative for ever. Tokens that were given back make it shorter.
func (d *dispenser) reserve() (wait time.Duration, cancel func(), changed <-chan struct{}) {
	d.mu.Lock()
	defer d.mu.Unlock()
	// What was given back is kept only while the bucket has room beside it, or
	// it would add up to a burst.
	if d.returned > 0 {
		d.returned = max(0, min(d.returned, float64(d.limiter.Burst())-d.limiter.Tokens()))
	}
	if d.limiter.Limit() <= 0 {
		return -1, func() {}, d.changed
	}
	r := d.limiter.Reserve()
	if !r.OK() { // a burst of 0
		return -1, func() {}, d.changed
	}
	back := time.Duration(d.returned / float64(d.limiter.Limit()) * float64(time.Second))
	return max(0, r.Delay()-back), r.Cancel, d.changed
}

// sleep waits for the reserved token; done is false when the share changed or
// a token came back first, and a new reservation is due.
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

// giveBack returns a token whose attempt did not take place.
func (d *dispenser) giveBack() {
	if d.limiter == nil {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.returned++
	d.stir() // or the one whose turn it is waits for its own while this one lies here
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

// isAwaited reports whether somebody waits for a token that is not there yet.
func (d *dispenser) isAwaited() bool { return d.asleep.Load() }
