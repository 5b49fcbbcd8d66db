package bridge

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"serbridge/bridge/admin"
	"serbridge/transform"
)

func TestBrake(t *testing.T) {
	// r: refused, a: accepted, t: a minute has passed, n: one is admitted,
	// x: none is, T: the refused one that trips it, R: the accepted one that releases it.
	const ten = "nnnnnnnnnn"
	tests := []struct {
		name  string
		limit int
		steps string
	}{
		{"a row trips it", 3, "nrrTxx"},
		{"an accepted one ends the row", 3, "rrarrarrTx"},
		{"ten a minute are let through", 3, "rrTx" + "t" + ten + "xx" + "t" + ten + "x"},
		{"trials that were not used do not add up", 3, "rrTtnnntt" + ten + "x"},
		{"refused trials do not trip it again", 3, "rrTtnrnrnrnr" + "nnnnnn" + "x"},
		{"the first accepted releases it", 3, "rrTtnR" + ten + ten},
		{"and the row begins anew", 3, "rrTtnRrrTx"},
		{"one taken before it releases it too", 3, "rrTRn"},
		{"never", -1, "rrrrrrrrrrrrn"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			k := newBrake(tt.limit)
			for i, step := range tt.steps {
				ok := true
				switch step {
				case 'r', 'T':
					tripped, _ := k.rejected(place{offset: int64(i)})
					ok = tripped == (step == 'T')
				case 'a', 'R':
					ok = k.accepted() == (step == 'R')
				case 't':
					k.try()
				case 'n', 'x':
					admitted, _ := k.admit()
					ok = admitted == (step == 'n')
				}
				if !ok {
					t.Fatalf("step %d of %q", i, tt.steps)
				}
			}
		})
	}
}

func TestBrakeNamesTheFirstOfTheRow(t *testing.T) {
	k := newBrake(2)
	k.rejected(place{offset: 1})
	k.accepted()
	k.rejected(place{offset: 7})
	k.rejected(place{offset: 8})
	if _, first := k.state(); first.offset != 7 {
		t.Errorf("first offset %d, want 7: the operator looks in the wrong place", first.offset)
	}
}

func TestReleasedBrakeWakesAllWhoWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newBrake(1)
		k.rejected(place{})
		cause := errors.New("partition is gone")
		ctx, cancel := context.WithCancelCause(t.Context())
		var all sync.WaitGroup
		for range 10 {
			all.Go(func() {
				if err := k.await(t.Context()); err != nil {
					t.Error(err)
				}
			})
		}
		all.Go(func() {
			if err := k.await(ctx); !errors.Is(err, cause) {
				t.Errorf("ended with %v, want the cause", err)
			}
		})
		synctest.Wait()
		cancel(cause)
		synctest.Wait()
		k.accepted()
		all.Wait()
		if err := k.await(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// brakeBridge has what counting a reject needs, and one partition.
func brakeBridge(t *testing.T, limit int) (*Bridge, *partition) {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	b := &Bridge{cfg: Config{RejectBrake: limit}, log: log, troubles: newTroubles(log, new(admin.Health)),
		nudged: make(chan struct{}, 1), brakes: make(map[string]*brake)}
	b.metrics = newMetrics(b)
	return b, newPartition(t.Context(), "netflow", [16]byte{}, 0, b.brake("netflow"))
}

func brakeRecord(p *partition, offset int64) *record {
	return &record{p: p, k: &kgo.Record{Topic: p.topic, Partition: p.id, Offset: offset}}
}

var rejectedRecord = transform.Result{Reject: &transform.Reject{Reason: transform.UnknownFormat}}

func TestExactlyTheBrakesNumberIsDeadLettered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const limit = 200
		b, p := brakeBridge(t, limit)
		through := 0
		var mu sync.Mutex
		var all sync.WaitGroup
		for i := range 500 { // all were taken before the brake
			all.Go(func() {
				if _, err := b.braked(brakeRecord(p, int64(i)), rejectedRecord); err == nil {
					mu.Lock()
					through++
					mu.Unlock()
				}
			})
		}
		time.Sleep(time.Hour)
		mu.Lock()
		if through != limit {
			t.Errorf("%d went on to the dead-letter topic, want %d", through, limit)
		}
		mu.Unlock()
		trial := brakeRecord(p, 500)
		trial.trial = true
		if _, err := b.braked(trial, rejectedRecord); err != nil {
			t.Error(err)
		}
		p.drain() // and those who wait are the next owner's
		all.Wait()
		if through != limit {
			t.Errorf("%d went on after the drain, want %d", through, limit)
		}
	})
}

func TestRecordRefusedInAllItsPartsCountsForTheBrake(t *testing.T) {
	bad := transform.Part{Reject: &transform.Reject{Reason: transform.InvalidField}}
	skip := transform.Part{Skip: transform.Tombstone}
	tests := []struct {
		name   string
		parts  []transform.Part
		counts bool
	}{
		{"all refused", []transform.Part{bad, bad}, true},
		{"refused or no detection", []transform.Part{skip, bad}, true},
		{"no detection", []transform.Part{skip, skip}, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b, p := brakeBridge(t, 1)
				p.brake.rejected(place{}) // it is on: who counts waits
				done := make(chan error, 1)
				go func() {
					_, err := b.braked(brakeRecord(p, 1), transform.Result{Parts: tt.parts})
					done <- err
				}()
				synctest.Wait()
				if waits := len(done) == 0; waits != tt.counts {
					t.Errorf("waits %v, want %v", waits, tt.counts)
				}
				p.drain()
				if err := <-done; (err != nil) != tt.counts {
					t.Error(err)
				}
			})
		})
	}
}
