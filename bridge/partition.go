package bridge

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cenkalti/backoff/v4"

	"serbridge/bridge/frontier"
)

type partitionState int

const (
	live     partitionState = iota
	draining                // finishing what has started
	fenced                  // no longer ours: nothing it does counts
)

// partition is one assignment of one partition. A partition that is lost and
// comes back is a new one: each record points to the assignment it was
// received under, so a late answer finds its own dead frontier and can never
// touch the new one.
type partition struct {
	topic   string
	topicID [16]byte // of this incarnation of the topic: a commit to a later one is refused
	id      int32
	brake   *brake // the topic's

	ctx       context.Context // ends when the partition is abandoned or lost
	abandon   context.CancelCauseFunc
	unstarted context.Context // ends when a drain begins; child of ctx
	drop      context.CancelCauseFunc

	mu      sync.Mutex
	state   partitionState
	active  int           // records taken and not ended
	idle    chan struct{} // closed when a drain has nothing left to wait for
	f       *frontier.Frontier
	yielded bool // its part of the rate is the next owner's

	refused   error                       // of the last commit, nil: it was taken
	rest      *backoff.ExponentialBackOff // after commits that failed
	restUntil time.Time
	ack       chan struct{} // closed and replaced when a commit is acknowledged

	since    time.Time // begin of the assignment
	suspects int64     // an earlier member may have sent what is below and not settled
	sent     int64     // highest offset of which an attempt was made, -1: none
	ages     ages      // of what was received

	// The rest belongs to the queue's lock.
	queued []*record
	inTurn bool
	crowd  int // queued when it was found crowded; 0: it is not

	// The rest belongs to the poll loop.
	next   int64 // offset after the last one received; -1: none yet
	paused bool
	born   uint64 // number of the poll in which it took another's place: that poll's records are not for it

	begins bool // its start was set while it was held, and nothing was received since

	unplaced atomic.Bool // its start is not resolved; the poll loop ends it

	logEnd      atomic.Int64 // as last seen; 0: not yet
	lastSettled atomic.Int64 // unix nanoseconds; 0: nothing was

	astray // the position is outside the log
}

func newPartition(ctx context.Context, topic string, topicID [16]byte, id int32, k *brake) *partition {
	p := &partition{topic: topic, topicID: topicID, id: id, brake: k, next: -1, idle: make(chan struct{}),
		ack: make(chan struct{}), since: time.Now(), sent: -1}
	p.ctx, p.abandon = context.WithCancelCause(ctx)
	p.unstarted, p.drop = context.WithCancelCause(p.ctx)
	return p
}

// frontier is nil until the first offset is known.
func (p *partition) frontier() *frontier.Frontier {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.f
}

func (p *partition) setFrontier(f *frontier.Frontier) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.f = f
}

// enter counts a record taken; false once the partition is drained.
func (p *partition) enter() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.state != live {
		return false
	}
	p.active++
	return true
}

func (p *partition) exit() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.active--
	if p.active == 0 && p.state == draining {
		close(p.idle)
	}
}

// drain drops what has not started and lets the rest finish; idle is closed
// when it has.
func (p *partition) drain() (idle <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.state == live {
		p.state = draining
		p.drop(errDrained)
		if p.active == 0 {
			close(p.idle)
		}
	}
	return p.idle
}

// fence ends the assignment: no answer counts from here on. It returns the
// room of what was settled and not covered, and how many records it cuts off;
// first is false when that was done before.
func (p *partition) fence(cause error) (room frontier.Room, abandoned int, first bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.state == fenced {
		return frontier.Room{}, 0, false
	}
	p.state = fenced
	p.abandon(cause)
	if p.f != nil {
		room = p.f.Fence()
	}
	return room, p.active, true
}

// untilDrained ends a while after a drain has begun.
func (p *partition) untilDrained(grace time.Duration) (context.Context, context.CancelFunc) {
	ctx, end := context.WithCancelCause(p.ctx)
	stop := context.AfterFunc(p.unstarted, func() { time.AfterFunc(grace, func() { end(errDrained) }) })
	return ctx, func() { stop(); end(nil) }
}

// isIdle reports whether no record that was taken has still to end.
func (p *partition) isIdle() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.active == 0
}

// highestSent is the highest offset of which an attempt was made, -1 if none.
func (p *partition) highestSent() int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.sent
}

// nextCommit is closed when a commit is acknowledged.
func (p *partition) nextCommit() <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.ack
}

// over reports whether all of a bounded run has been received.
func (p *partition) over() bool {
	f := p.frontier()
	if f == nil {
		return false
	}
	end, bounded := f.End()
	return bounded && max(p.next, f.Base()) >= end
}

// held reports whether records of the partition must wait in Kafka: the topic
// is braked, the window is at its edge, the start is not resolved, or the
// position is outside the log.
func (p *partition) held() bool {
	if p.unplaced.Load() || p.strayed.Load() {
		return true
	}
	if on, _ := p.brake.state(); on && !p.brake.trying() {
		return true
	}
	f := p.frontier()
	return f != nil && f.Holds(max(p.next, f.Base()))
}
