package bridge

import (
	"context"
	"errors"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

const session = 45 * time.Second

func TestOnlyTheGroupsAnswersCount(t *testing.T) {
	answered := kgo.BrokerE2E{ReadWait: time.Second}
	tests := []struct {
		name  string
		key   kmsg.Key
		e2e   kgo.BrokerE2E
		fresh bool
	}{
		{"heartbeat", kmsg.Heartbeat, answered, true},
		{"join", kmsg.JoinGroup, answered, true},
		{"sync", kmsg.SyncGroup, answered, true},
		{"commit", kmsg.OffsetCommit, answered, true},
		{"heartbeat of KIP-848", kmsg.ConsumerGroupHeartbeat, answered, true},
		{"fetch", kmsg.Fetch, answered, false},
		{"metadata", kmsg.Metadata, answered, false},
		{"offsets, which any client may read", kmsg.OffsetFetch, answered, false},
		{"not answered", kmsg.Heartbeat, kgo.BrokerE2E{ReadErr: io.EOF}, false},
		{"not written", kmsg.Heartbeat, kgo.BrokerE2E{WriteErr: io.EOF}, false},
		{"answered too late", kmsg.Heartbeat, kgo.BrokerE2E{ReadWait: session}, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newHeard(session)
				h.OnBrokerE2E(kgo.BrokerMetadata{}, int16(tt.key), tt.e2e)
				if got := h.fresh(); got != tt.fresh {
					t.Errorf("fresh %v, want %v", got, tt.fresh)
				}
			})
		})
	}
}

func TestMemberTheGroupDoesNotHearSendsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHeard(session)
		if h.fresh() {
			t.Error("sends before it has joined")
		}
		h.hear(time.Now())
		time.Sleep(session - time.Millisecond)
		if !h.fresh() {
			t.Error("stopped before the session has ended")
		}
		h.hear(time.Now().Add(-session / 2)) // answered now, written then: the session counts from there
		time.Sleep(session / 2)
		if h.fresh() {
			t.Error("sends after its session: the next owner does as well")
		}
		got := make(chan time.Time, 1)
		go func() {
			if err := h.await(t.Context()); err != nil {
				t.Error(err)
			}
			got <- time.Now()
		}()
		time.Sleep(time.Hour)
		if len(got) > 0 {
			t.Fatal("went on without the group")
		}
		h.hear(time.Now())
		time.Sleep(time.Minute / 2)
		if len(got) == 0 {
			t.Error("was not woken when the group answered")
		}
	})
}

// A process that was stopped for longer than its session is told so by the
// answer to its next heartbeat. The answer alone must not let it go on.
func TestAnswerThatMayBeADismissalDoesNotCountYet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHeard(session)
		h.hear(time.Now())
		time.Sleep(2 * session)
		heard := time.Now()
		h.hear(heard)
		if h.fresh() {
			t.Error("sends at once: if the group has gone on, all this is sent twice")
		}
		if err := h.await(t.Context()); err != nil || time.Since(heard) != fenceTime || !h.fresh() {
			t.Errorf("went on after %v, want %v; %v", time.Since(heard), fenceTime, err)
		}
		for range 10 {
			time.Sleep(3 * time.Second)
			h.hear(time.Now())
			if !h.fresh() {
				t.Fatal("an ordinary heartbeat stops delivery")
			}
		}
	})
}

func TestEndedWaitForTheGroupSaysWhy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, silence := range []time.Duration{0, 2 * session} { // never heard, and heard but not trusted
			h := newHeard(session)
			if silence > 0 {
				h.hear(time.Now())
				time.Sleep(silence)
				h.hear(time.Now())
			}
			cause := errors.New("partition is lost")
			ctx, cancel := context.WithCancelCause(t.Context())
			time.AfterFunc(fenceTime/2, func() { cancel(cause) })
			if err := h.await(ctx); !errors.Is(err, cause) {
				t.Errorf("ended with %v, want the cause", err)
			}
		}
	})
}
