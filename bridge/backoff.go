package bridge

import (
	"time"

	"github.com/cenkalti/backoff/v4"
)

// The waits of a record between its attempts, and of the gate between its
// canaries: full jitter, uniform in [0, min(most, first·2ⁿ)].
const (
	firstWait = 500 * time.Millisecond
	mostWait  = 30 * time.Second
)

// fullJitter returns an endless exponential backoff with full jitter that
// starts at firstWait and ends at most.
//
// backoff/v4 draws from [0, 2·interval] at randomization factor 1, and caps
// the interval, not what is drawn: so both are halved here. Its
// MaxElapsedTime of 15 minutes would end the retries of a long outage.
func fullJitter(most time.Duration) *backoff.ExponentialBackOff {
	b := &backoff.ExponentialBackOff{
		InitialInterval:     firstWait / 2,
		RandomizationFactor: 1,
		Multiplier:          2,
		MaxInterval:         most / 2,
		MaxElapsedTime:      0,
		Stop:                backoff.Stop,
		Clock:               backoff.SystemClock,
	}
	b.Reset()
	return b
}
