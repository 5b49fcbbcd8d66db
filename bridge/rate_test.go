package bridge

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// take is an attempt as far as the rate sees it.
func take(ctx context.Context, d *dispenser) error {
	if err := d.await(ctx); err != nil {
		return err
	}
	d.next()
	return nil
}

// taker takes tokens one after the other for as long as the test lives and
// notes when.
type taker struct {
	mu sync.Mutex
	at []time.Time
}

func (k *taker) run(ctx context.Context, d *dispenser, workers int) {
	for range workers {
		go func() {
			for take(ctx, d) == nil {
				k.mu.Lock()
				k.at = append(k.at, time.Now())
				k.mu.Unlock()
			}
		}()
	}
}

// since counts the tokens of the time after from.
func (k *taker) since(from time.Time) (n int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, t := range k.at {
		if !t.Before(from) {
			n++
		}
	}
	return n
}

func TestRateStartsEmpty(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDispenser(true)
		time.Sleep(time.Hour) // an idle hour saves nothing up
		begun := time.Now()
		d.share(10, 5)
		for i := range 20 {
			if err := take(t.Context(), d); err != nil {
				t.Fatal(err)
			}
			if got, want := time.Since(begun), time.Duration(i+1)*100*time.Millisecond; got < want-time.Microsecond {
				t.Fatalf("token %d after %v, want %v: a restart adds a burst", i+1, got, want)
			}
		}
	})
}

func TestShareLoweredReachesThoseWhoWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, k := newDispenser(true), new(taker)
		d.share(100, 1)
		k.run(t.Context(), d, 64)
		time.Sleep(10 * time.Second)
		lowered := time.Now()
		d.share(1, 1)
		time.Sleep(time.Minute)
		if n := k.since(lowered); n < 59 || n > 62 {
			t.Errorf("%d tokens in the minute after the share fell to 1/s: those who waited kept the old rate", n)
		}
	})
}

func TestShareRaisedReachesThoseWhoWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, k := newDispenser(true), new(taker)
		d.share(0.01, 1)
		k.run(t.Context(), d, 64)
		time.Sleep(time.Second)
		raised := time.Now()
		d.share(100, 1)
		time.Sleep(time.Second)
		if n := k.since(raised); n < 98 {
			t.Errorf("%d tokens in the second after the share rose to 100/s: those who waited kept the old rate", n)
		}
	})
}

func TestShareOfNoneSendsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, k := newDispenser(true), new(taker)
		d.share(100, 5)
		time.Sleep(time.Second) // the bucket is full
		d.giveBack()
		d.share(0, 1)
		begun := time.Now()
		k.run(t.Context(), d, 8)
		time.Sleep(time.Hour)
		if n := k.since(begun); n > 0 {
			t.Errorf("%d tokens without a partition: the next owner has that share", n)
		}
		d.share(100, 5)
		time.Sleep(time.Second)
		if n := k.since(begun); n < 90 || n > 101 {
			t.Errorf("%d tokens in the second after the share came back, want 100", n)
		}
	})
}

func TestGivenBackTokensNeverAddUpToABurst(t *testing.T) {
	const burst = 5
	tests := []struct {
		name string
		idle time.Duration // between the give-back and the rush
		then int           // burst after it
	}{
		{"at once", 0, burst},
		{"after the bucket has filled again", time.Minute, burst},
		{"after the share was lowered", time.Minute, 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d, k := newDispenser(true), new(taker)
				d.share(10, burst)
				for range 50 {
					if err := take(t.Context(), d); err != nil {
						t.Fatal(err)
					}
				}
				for range 50 { // the gate closed under all of them
					d.giveBack()
				}
				time.Sleep(tt.idle)
				d.share(10, tt.then)
				rush := time.Now()
				k.run(t.Context(), d, 64)
				synctest.Wait()
				if n := k.since(rush); n > tt.then {
					t.Errorf("%d tokens at once, want at most the burst of %d", n, tt.then)
				}
			})
		})
	}
}

func TestGivenBackTokenGoesToTheOneWhoWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDispenser(true)
		d.share(0.01, 1) // one in 100 s
		if err := take(t.Context(), d); err != nil {
			t.Fatal(err)
		}
		begun := time.Now()
		got := make(chan time.Duration, 1)
		go func() {
			_ = take(t.Context(), d)
			got <- time.Since(begun)
		}()
		time.Sleep(50 * time.Second)
		d.giveBack()
		// Sixty holders of a closed gate's tickets would else keep its canary
		// behind them for an hour and more.
		if after := <-got; after > 50*time.Second {
			t.Errorf("the token came %v after it was given back", after-50*time.Second)
		}
	})
}

func TestEndedWaitCostsNoToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDispenser(true)
		d.share(1, 1)
		begun := time.Now()
		cause := errors.New("partition is gone")
		for range 9 {
			ctx, cancel := context.WithCancelCause(t.Context())
			go func() { time.Sleep(100 * time.Millisecond); cancel(cause) }()
			if err := take(ctx, d); !errors.Is(err, cause) {
				t.Fatalf("take ended with %v, want the cause", err)
			}
		}
		if err := take(t.Context(), d); err != nil {
			t.Fatal(err)
		}
		if after := time.Since(begun); after > time.Second {
			t.Errorf("first token after %v, want 1s: waits that ended have spent some", after)
		}
	})
}

func TestEndedWaitHandsTheTurnOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDispenser(true)
		d.share(1, 1)
		ctx, cancel := context.WithCancel(t.Context())
		for range 20 {
			go func() { _ = take(ctx, d) }()
		}
		synctest.Wait()
		got := make(chan error, 1)
		go func() { got <- take(t.Context(), d) }()
		cancel()
		select {
		case err := <-got:
			if err != nil {
				t.Error(err)
			}
		case <-time.After(2 * time.Second):
			t.Error("nobody has the turn")
		}
	})
}

func TestNoLimitNeverWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, begun := newDispenser(false), time.Now()
		for range 10_000 {
			if err := take(t.Context(), d); err != nil {
				t.Fatal(err)
			}
		}
		d.giveBack()
		d.share(1, 1)
		if time.Since(begun) > 0 {
			t.Errorf("waited %v without a limit", time.Since(begun))
		}
		if _, limited := d.rate(); limited {
			t.Error("a share was set without a limit")
		}
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		if take(ended, d) == nil {
			t.Error("took a token after the end")
		}
	})
}

// The law of the dispenser: in any window, whatever is given back or ended
// and however the share moves, no more tokens are used than the largest share
// times the window and the largest burst. And none is withheld: who waits gets
// nearly all of it.
func TestRateIsNeverExceeded(t *testing.T) {
	for seed := range uint64(60) {
		synctest.Test(t, func(t *testing.T) {
			rng := rand.New(rand.NewPCG(seed, 1))
			d, used := newDispenser(true), new(taker)
			limit, burst := 1+rng.Float64()*200, 1+rng.IntN(8)
			d.share(limit, burst)
			ctx, cancel := context.WithCancel(t.Context())
			var all sync.WaitGroup
			for w := range uint64(1 + rng.IntN(40)) {
				all.Go(func() { useTokens(ctx, d, used, rand.New(rand.NewPCG(seed, w+2))) })
			}
			moves := rng.IntN(2) == 0
			begun := time.Now()
			for time.Since(begun) < 20*time.Second {
				time.Sleep(time.Duration(rng.IntN(1000)) * time.Millisecond)
				if moves {
					d.share(limit*float64(rng.IntN(5))/4, 1+rng.IntN(burst))
				}
			}
			cancel()
			all.Wait()
			checkWindows(t, seed, used.at, limit, burst)
		})
	}
}

// useTokens takes tokens until ctx ends, and gives some back at once.
func useTokens(ctx context.Context, d *dispenser, used *taker, rng *rand.Rand) {
	for {
		one, cancel := context.WithCancel(ctx)
		if rng.IntN(4) == 0 {
			time.AfterFunc(time.Duration(rng.IntN(300))*time.Millisecond, cancel)
		}
		err := take(one, d)
		cancel()
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			continue
		}
		if rng.IntN(3) == 0 { // the last look said no
			d.giveBack()
			continue
		}
		used.mu.Lock()
		used.at = append(used.at, time.Now())
		used.mu.Unlock()
		time.Sleep(time.Duration(rng.IntN(200)) * time.Millisecond)
	}
}

func checkWindows(t *testing.T, seed uint64, at []time.Time, limit float64, burst int) {
	t.Helper()
	slices.SortFunc(at, time.Time.Compare)
	// Ahead of the rate by how much, and the least that it was before: the
	// difference is the worst window that ends here.
	least := 0.0
	for i := range at {
		since := at[i].Sub(at[0]).Seconds()
		ahead := float64(i) - limit*since
		least = min(least, ahead)
		if over := ahead - least + 1 - float64(burst); over > 1e-3 {
			t.Fatalf("seed %d: in some window that ends %.3f s from the first token %.2f more than %.1f/s and a burst of %d allow", seed, since, over, limit, burst)
		}
	}
}

func TestRateIsUsedUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, k := newDispenser(true), new(taker)
		d.share(200, 5)
		begun := time.Now()
		k.run(t.Context(), d, 64)
		for range 100 { // a share that trembles costs nothing
			time.Sleep(100 * time.Millisecond)
			d.share(200, 5)
			d.share(199.9, 5)
		}
		if n := k.since(begun); n < 1985 || n > 2005 {
			t.Errorf("%d tokens in 10 s at 200/s", n)
		}
	})
}

// A member whose looks at the backlog fail from the start must deliver all the
// same: it has its part of the even tenth.
func TestMemberThatNeverSawTheBacklogHasAShare(t *testing.T) {
	for _, blind := range []bool{false, true} {
		b := &Bridge{cfg: Config{RateLimit: 100, RateBurst: 5, RateShare: "backlog"}, tokens: newDispenser(true), blind: blind,
			totals: map[string]int{"detections": 4}, partitions: map[string]map[int32]*partition{"detections": {0: ownPartition(t.Context())}}}
		b.reshare()
		if got, _ := b.tokens.rate(); got != 2.5 {
			t.Errorf("blind %v: share %v of 100/s with one of four partitions, want 2.5", blind, got)
		}
	}
}
