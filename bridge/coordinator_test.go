package bridge_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"serbridge/bridge/backfill"
)

// A broker that nobody has asked for a coordinator before makes the topic of the commits first. The first command against
// it waits for that, and no longer than its context lasts.
func TestRunBeginsOnABrandNewBroker(t *testing.T) {
	t.Parallel()
	for _, key := range []kmsg.Key{kmsg.FindCoordinator, kmsg.OffsetFetch} {
		t.Run(key.Name(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, worldConfig{})
				w.produce(0, 10)
				fault := w.cluster.Fault(kfake.Fault{Keys: []kmsg.Key{key}, Err: kerr.CoordinatorNotAvailable, Count: -1})
				defer fault.Remove()
				r := w.replay(backfill.Request{})
				begun := time.Now()
				brief, cancel := context.WithTimeout(context.Background(), 30*time.Second)
				defer cancel()
				if _, _, err := r.run.Read(brief, r.request.Topics); err == nil || time.Since(begun) > 31*time.Second {
					t.Errorf("after %v: %v", time.Since(begun), err)
				}
				time.AfterFunc(15*time.Second, fault.Remove)
				if _, begun, err := r.run.Read(context.Background(), r.request.Topics); err != nil || begun {
					t.Errorf("begun %t, %v", begun, err)
				}
			})
		})
	}
}
