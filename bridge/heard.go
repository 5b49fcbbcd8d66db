package bridge

import (
	"context"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// heard knows when the group last heard from this member. A member that the
// group has not heard from for a session timeout may have been replaced: what
// it sent now, paused or cut off, the new owner sends as well.
type heard struct {
	session time.Duration

	mu      sync.Mutex
	at      time.Time     // when the last answered request was written
	changed chan struct{} // closed and replaced at each
}

func newHeard(session time.Duration) *heard {
	return &heard{session: session, changed: make(chan struct{})}
}

// OnBrokerE2E is kgo's hook: it sees each request that was answered.
func (h *heard) OnBrokerE2E(_ kgo.BrokerMetadata, key int16, e2e kgo.BrokerE2E) {
	if e2e.Err() != nil {
		return
	}
	switch kmsg.Key(key) {
	case kmsg.Heartbeat, kmsg.SyncGroup, kmsg.JoinGroup, kmsg.OffsetCommit, kmsg.ConsumerGroupHeartbeat:
		h.hear(time.Now().Add(-e2e.DurationE2E()))
	}
}

func (h *heard) hear(at time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if at.After(h.at) {
		h.at = at
		close(h.changed)
		h.changed = make(chan struct{})
	}
}

func (h *heard) fresh() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.freshLocked()
}

func (h *heard) freshLocked() bool { return !h.at.IsZero() && time.Since(h.at) < h.session }

// await waits until the group has heard from this member.
func (h *heard) await(ctx context.Context) error {
	for {
		h.mu.Lock()
		ok, changed := h.freshLocked(), h.changed
		h.mu.Unlock()
		if ok {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}
