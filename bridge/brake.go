package bridge

import (
	"context"
	"sync"
	"time"
)

const (
	brakeTrial  = time.Minute // how often a braked topic is tried again
	brakeTrials = 10          // and with how many records
)

// brake is the reject brake of one topic: so many records in a row that we
// refuse or do not recognise pause it, since then the mapping is broken or the
// topic is none of detections, and a dead-letter topic full of it helps nobody.
// A record that is no detection neither counts nor releases it.
type brake struct {
	limit int // records in a row; 0 never brakes

	mu      sync.Mutex
	row     int
	first   place // of the row
	on      bool
	trials  int           // records that may still be let through
	release chan struct{} // closed when it is released
}

func newBrake(limit int) *brake { return &brake{limit: limit, release: make(chan struct{})} }

// rejected counts a record that our own rules refuse. tripped is true for the
// one that trips the brake, held for one that was taken before and is refused
// after.
func (k *brake) rejected(at place) (tripped, held bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.on || k.limit <= 0 {
		return false, k.on
	}
	if k.row == 0 || at.partition == k.first.partition && at.offset < k.first.offset {
		k.first = at // transforms end in any order
	}
	k.row++
	k.on = k.row >= k.limit
	return k.on, false
}

// sound notes a record that made a document and was no trial: it ends the row,
// but one taken before the brake says nothing of what came after.
func (k *brake) sound() {
	k.mu.Lock()
	defer k.mu.Unlock()
	if !k.on {
		k.row = 0
	}
}

// accepted notes a trial record that made a document; released is true for the
// one that releases the brake.
func (k *brake) accepted() (released bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.row = 0
	if !k.on {
		return false
	}
	k.on, k.trials = false, 0
	close(k.release)
	k.release = make(chan struct{})
	return true
}

// admit reports whether a record of the topic may be taken now; while braked,
// only the trial records may.
func (k *brake) admit() (ok, trial bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if !k.on {
		return true, false
	}
	if k.trials == 0 {
		return false, false
	}
	k.trials--
	return true, true
}

// try lets the next few records through.
func (k *brake) try() {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.on {
		k.trials = brakeTrials
	}
}

// await waits until the brake is released. A record that was taken before the
// brake and is refused after it waits here, so that exactly as many go to the
// dead-letter topic as the brake allows.
func (k *brake) await(ctx context.Context) error {
	k.mu.Lock()
	on, release := k.on, k.release
	k.mu.Unlock()
	if !on {
		return ctx.Err()
	}
	select {
	case <-release:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (k *brake) state() (on bool, first place) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.on, k.first
}

// trying reports whether trial records may still be let through.
func (k *brake) trying() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.trials > 0
}
