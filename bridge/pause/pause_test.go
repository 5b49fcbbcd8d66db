package pause_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"serbridge/bridge/pause"
)

func ExampleFor() {
	ctx, stop := context.WithCancelCause(context.Background())
	stop(errors.New("the pod is going away"))
	fmt.Println(pause.For(ctx, time.Hour))
	// Output: the pod is going away
}

// A wait that is longer than asked for delays what waits; one that outlasts its context holds up the stop.
func TestForEndsWithTheTimeOrTheContext(t *testing.T) {
	gone := errors.New("gone")
	for _, tt := range []struct {
		name   string
		d      time.Duration
		stopAt time.Duration // 0: never; negative: before
		took   time.Duration
		err    error
	}{
		{"the time is over", time.Minute, 0, time.Minute, nil},
		{"no time", 0, 0, 0, nil},
		{"less than no time", -time.Second, 0, 0, nil},
		{"the context ends first", time.Minute, time.Second, time.Second, gone},
		{"it has ended before", time.Minute, -1, 0, gone},
		{"it has ended before, and no time", 0, -1, 0, gone},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, stop := context.WithCancelCause(t.Context())
				defer stop(nil)
				switch {
				case tt.stopAt < 0:
					stop(gone)
				case tt.stopAt > 0:
					time.AfterFunc(tt.stopAt, func() { stop(gone) })
				}
				begun := time.Now()
				if err := pause.For(ctx, tt.d); !errors.Is(err, tt.err) || (err == nil) != (tt.err == nil) {
					t.Errorf("%v, want %v", err, tt.err)
				}
				if took := time.Since(begun); took != tt.took {
					t.Errorf("took %v, want %v", took, tt.took)
				}
			})
		})
	}
}

// A look that takes long must not be followed by those that it missed, nor go on once its context has ended.
func TestEveryKeepsItsPaceAndEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithTimeout(t.Context(), 7500*time.Millisecond)
		defer stop()
		begun := time.Now()
		var at []time.Duration
		pause.Every(ctx, time.Second, func() {
			at = append(at, time.Since(begun))
			if len(at) == 2 {
				time.Sleep(3500 * time.Millisecond)
			}
		})
		want := []time.Duration{1000, 2000, 5500, 6000, 7000}
		for i := range want {
			want[i] *= time.Millisecond
		}
		if !slices.Equal(at, want) || time.Since(begun) != 7500*time.Millisecond {
			t.Errorf("called after %v, want %v; ended after %v", at, want, time.Since(begun))
		}
	})
}
