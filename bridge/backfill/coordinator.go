package backfill

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"serbridge/bridge/pause"
)

const (
	coordinatorTries = 20
	coordinatorRest  = 2 * time.Second // at most, between two of them
)

// coordinated asks again while there is no coordinator: a broker that nobody has ever asked for one makes the topic of the
// commits first, which takes longer than a client waits by itself. The error is ask's last.
func coordinated(ctx context.Context, ask func() error) error {
	for try := 1; ; try++ {
		err := ask()
		if !noCoordinator(err) || try == coordinatorTries {
			return err
		}
		if pause.For(ctx, coordinatorRest/4+rand.N(coordinatorRest*3/4)) != nil {
			return err // says more than that the time is over
		}
	}
}

func noCoordinator(err error) bool {
	return errors.Is(err, kerr.CoordinatorNotAvailable) || errors.Is(err, kerr.CoordinatorLoadInProgress) || errors.Is(err, kerr.NotCoordinator)
}
