package stellar

import (
	"context"
	"sync"
	"time"
)

// idleTimeout is below the keep-alive of the servers and load balancers that
// are met (5 s at the shortest): a connection that the server closes as we
// write to it makes the outcome unknown. At a high rate none is idle for so
// long; at a low one a handshake costs nothing.
const idleTimeout = 4 * time.Second

// connections keeps the connections to one platform between attempts, and
// bounds how many there are.
type connections struct {
	dial func(context.Context) (*connection, error)
	room chan struct{} // holds one for each that is in use or being made

	mu     sync.Mutex
	idle   []*connection // the one used last is the last
	expiry *time.Timer   // runs while armed
	armed  bool
	closed bool // what is given back is closed
}

// take returns a connection for one attempt, a kept one if the server has left
// one open; nil and the outcome if there is none until ctx or the deadline ends.
func (cs *connections) take(ctx context.Context, deadline time.Time) (*connection, outcome) {
	if c := cs.takeKept(deadline); c != nil {
		return c, outcome{}
	}
	ctx, cancel := context.WithDeadlineCause(ctx, deadline, errAttemptTimeout)
	defer cancel()
	select {
	case cs.room <- struct{}{}:
	case <-ctx.Done():
		return nil, unconnected(ctx, nil)
	}
	if c := cs.kept(deadline); c != nil {
		return c, outcome{}
	}
	c, err := cs.dial(ctx)
	if err == nil {
		err = c.SetDeadline(deadline)
	}
	if err != nil {
		<-cs.room
		return nil, unconnected(ctx, err)
	}
	return c, outcome{}
}

// takeKept is take where nobody has to wait, as for nearly every document.
func (cs *connections) takeKept(deadline time.Time) *connection {
	select {
	case cs.room <- struct{}{}:
	default:
		return nil
	}
	c := cs.kept(deadline)
	if c == nil {
		<-cs.room
	}
	return c
}

func (cs *connections) kept(deadline time.Time) *connection {
	for {
		c := cs.last()
		if c == nil || c.SetDeadline(deadline) == nil && c.untouched(deadline) {
			return c
		}
		c.drop()
	}
}

func (cs *connections) last() *connection {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	if len(cs.idle) == 0 {
		return nil
	}
	last := len(cs.idle) - 1
	c := cs.idle[last]
	cs.idle = cs.idle[:last]
	return c
}

// give takes back what take gave. It is kept if it can carry another request.
func (cs *connections) give(c *connection, again bool) {
	if !again || !cs.keep(c) {
		c.drop()
	}
	<-cs.room
}

func (cs *connections) keep(c *connection) bool {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	if cs.closed {
		return false
	}
	c.since = time.Now()
	cs.idle = append(cs.idle, c)
	if !cs.armed {
		cs.arm(idleTimeout)
	}
	return true
}

// arm is called with the lock held.
func (cs *connections) arm(wait time.Duration) {
	cs.armed = true
	if cs.expiry == nil {
		cs.expiry = time.AfterFunc(wait, cs.expire)
		return
	}
	cs.expiry.Reset(wait)
}

// expire closes what has been idle for too long.
func (cs *connections) expire() {
	for _, c := range cs.expired(time.Now().Add(-idleTimeout)) {
		c.close()
	}
}

func (cs *connections) expired(before time.Time) []*connection {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	n := 0
	for n < len(cs.idle) && !cs.idle[n].since.After(before) {
		n++
	}
	expired := cs.idle[:n:n]
	cs.idle = cs.idle[n:]
	cs.armed = false
	if len(cs.idle) > 0 {
		cs.arm(cs.idle[0].since.Sub(before))
	}
	return expired
}

// close closes the idle ones, and each that is in use once it is given back.
func (cs *connections) close() {
	cs.mu.Lock()
	idle := cs.idle
	cs.idle, cs.closed = nil, true
	if cs.expiry != nil {
		cs.expiry.Stop()
	}
	cs.mu.Unlock()
	for _, c := range idle {
		c.close()
	}
}
