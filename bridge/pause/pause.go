// Package pause waits between tries, and between looks. It promises that no wait
// outlasts its context.
package pause

import (
	"context"
	"time"
)

// For waits for d, or until ctx ends; then it returns the cause of that. A d of
// zero or less is no wait, and fails only if ctx has ended already.
func For(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return context.Cause(ctx)
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Every calls do each interval, the first time after one, until ctx ends. It
// never calls it twice at once: an interval that do takes up is left out.
func Every(ctx context.Context, interval time.Duration, do func()) {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			do()
		case <-ctx.Done():
			return
		}
	}
}
