package backfill

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
)

// OtherRedrives are the ids of the redrives of a dead-letter topic that have members, but for the group's own. A member
// that was killed counts until its session ends.
func OtherRedrives(ctx context.Context, admin *kadm.Client, topic, group string) (ids []string, err error) {
	var groups kadm.ListedGroups
	err = coordinated(ctx, func() (err error) { groups, err = admin.ListGroups(ctx); return err })
	if err != nil && !errors.Is(err, kerr.GroupIDNotFound) {
		return nil, fmt.Errorf("list groups: %w", err)
	}
	for name, g := range groups {
		id, is := strings.CutPrefix(name, redriveGroups(topic))
		if is && name != group && g.State != "Empty" && g.State != "Dead" {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids, nil
}

// Alone lets a redrive begin only if no other one of its topic has members. It looks when this run has some, so of two that
// begin in the same moment at least one sees the other.
type Alone struct {
	Admin  *kadm.Client
	Topic  string
	Group  string
	Refuse func(others []string) // ends the run, which has begun nothing

	mu    sync.Mutex
	alone bool
}

const (
	lookWithin = 10 * time.Second
	lookAgain  = time.Second
)

// Begin waits until it is known that there is no other, or until the run is ended because there is one. A broker that does
// not answer holds the run, which meets the same broker. It is the bridge's Config.Begin.
func (a *Alone) Begin(ctx context.Context) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	for !a.alone {
		others, err := a.look(ctx)
		switch {
		case err == nil && len(others) == 0:
			a.alone = true
			return nil
		case err == nil:
			a.Refuse(others)
			<-ctx.Done()
		default:
			select {
			case <-time.After(lookAgain):
			case <-ctx.Done():
			}
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
	}
	return nil
}

func (a *Alone) look(ctx context.Context) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, lookWithin)
	defer cancel()
	return OtherRedrives(ctx, a.Admin, a.Topic, a.Group)
}
