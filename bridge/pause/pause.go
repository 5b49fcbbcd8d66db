// Package pause waits between tries. It promises that no wait outlasts its
// context.
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
