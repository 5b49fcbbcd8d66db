package bridge

import (
	"context"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"serbridge/bridge/pause"
)

// heard knows when the group last heard from this member. A member that the
// group has not heard from for a session timeout may have been replaced: what
// it sent now, paused or cut off, the new owner sends as well.
type heard struct {
	session time.Duration

	mu      sync.Mutex
	at      time.Time     // when the last answered request was written
	trusted time.Time     // and from when on it counts
	changed chan struct{} // closed and replaced at each
}

// fenceTime is how long an answer after a silence of a whole session does not
// count yet: it may say that the group has gone on without this member, which
// the hook cannot see, and for which the partitions are fenced only then.
const fenceTime = time.Second

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
		if !h.at.IsZero() && at.Sub(h.at) >= h.session {
			h.trusted = time.Now().Add(fenceTime)
		}
		h.at = at
		close(h.changed)
		h.changed = make(chan struct{})
	}
}

func (h *heard) fresh() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.freshLocked() && time.Until(h.trusted) <= 0
}

func (h *heard) freshLocked() bool { return !h.at.IsZero() && time.Since(h.at) < h.session }

// await waits until the group has heard from this member.
func (h *heard) await(ctx context.Context) error {
	for {
		h.mu.Lock()
		ok, trusted, changed := h.freshLocked(), time.Until(h.trusted), h.changed
		h.mu.Unlock()
		if ok {
			if trusted <= 0 {
				return nil
			}
			if err := pause.For(ctx, trusted); err != nil {
				return err
			}
			continue
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}
