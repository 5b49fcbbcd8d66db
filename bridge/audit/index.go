package audit

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"golang.org/x/time/rate"

	"serbridge/bridge/pause"
	"serbridge/bridge/stellar"
)

// Index searches what Stellar Cyber has stored.
type Index struct {
	Client *stellar.Client
	Limit  *rate.Limiter // of every request; nil: none
}

const (
	searchTries = 8
	firstRest   = 500 * time.Millisecond
	longestRest = 10 * time.Second
)

// Find searches for the documents of which a field has the value: ten of them at most. A search that fails in a way that
// may heal is repeated a few times. The error says what to do.
func (x *Index) Find(ctx context.Context, by stellar.Field, value string) (found []stellar.Stored, err error) {
	rest := firstRest
	for try := 1; ; try++ {
		var after time.Duration
		var heals bool
		if found, after, heals, err = x.once(ctx, by, value); err == nil {
			return found, nil
		}
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		if !heals || try == searchTries {
			return nil, fmt.Errorf("search Stellar Cyber for %s: %w", by, err)
		}
		if err := pause.For(ctx, max(after, rand.N(rest))); err != nil {
			return nil, err
		}
		rest = min(2*rest, longestRest)
	}
}

// once asks once; heals: asking again may help, after that time at the earliest.
func (x *Index) once(ctx context.Context, by stellar.Field, value string) (found []stellar.Stored, after time.Duration, heals bool, err error) {
	auth, why, ok := x.Client.Authorize(ctx)
	if !ok {
		err := why.Err
		if err == nil {
			err = errors.New(stellar.Explain(why.Reason))
		}
		return nil, why.RetryAfter, mayHeal(why.Status), err
	}
	if x.Limit != nil {
		if err := x.Limit.Wait(ctx); err != nil {
			return nil, 0, false, err
		}
	}
	found, err = x.Client.Search(ctx, auth, by, value)
	if e, is := errors.AsType[*stellar.ReadError](err); is {
		return nil, e.RetryAfter, e.Again || e.Reason == stellar.ReasonSearchIncomplete || mayHeal(e.Status), err
	}
	return found, 0, false, err
}

func mayHeal(status int) bool { return status == 0 || status == 429 || status >= 500 }
