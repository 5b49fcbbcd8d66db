package backfill

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
)

// Yield holds a run back while the live group is behind: what happens now comes before what has happened. It is made with
// its exported fields, and Watch is what tells it.
type Yield struct {
	Admin    *kadm.Client
	Group    string                         // the live one
	Patience time.Duration                  // how far behind the live group may be
	Say      func(held bool, behind string) // is told when the run is held and when it goes on; may be nil

	mu     sync.Mutex
	looked chan struct{} // closed after the first look
	held   chan struct{} // closed when the run may go on; nil: it may
}

// lookEvery is how often the live group is looked at.
const lookEvery = 5 * time.Second

// Watch looks at the live group until ctx ends. A look that fails changes nothing: the run meets the same Kafka.
func (y *Yield) Watch(ctx context.Context) {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	first := sync.OnceFunc(func() { close(y.firstLook()) })
	defer first()
	for {
		look, cancel := context.WithTimeout(ctx, lookEvery)
		if behind, err := y.behind(look, time.Now()); err == nil {
			y.set(behind)
		}
		cancel()
		first()
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

func (y *Yield) firstLook() chan struct{} {
	y.mu.Lock()
	defer y.mu.Unlock()
	if y.looked == nil {
		y.looked = make(chan struct{})
	}
	return y.looked
}

func (y *Yield) set(behind string) {
	y.mu.Lock()
	was := y.held != nil
	switch {
	case behind != "" && !was:
		y.held = make(chan struct{})
	case behind == "" && was:
		close(y.held)
		y.held = nil
	}
	y.mu.Unlock()
	if is := behind != ""; is != was && y.Say != nil {
		y.Say(is, behind)
	}
}

// Begin waits for the first look of Watch, and while the run is held. It is the bridge's Config.Begin.
func (y *Yield) Begin(ctx context.Context) error {
	select {
	case <-y.firstLook():
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	y.mu.Lock()
	held := y.held
	y.mu.Unlock()
	if held == nil {
		return nil
	}
	select {
	case <-held:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// behind says where the live group is behind, empty if it is not. It has come to the highest offset that it has settled;
// if the next one is older than the patience, that is its lag. A single record that is held below counts for nothing: it
// may be held for days, and nothing that we do makes it faster. Nor does a group that does not run, or a partition that
// is braked.
func (y *Yield) behind(ctx context.Context, now time.Time) (string, error) {
	commits, err := commitsOf(ctx, y.Admin, y.Group)
	if err != nil || len(commits) == 0 {
		return "", err
	}
	groups, err := y.Admin.ListGroups(ctx)
	if err != nil {
		return "", fmt.Errorf("list groups: %w", err)
	}
	if g, there := groups[y.Group]; !there || g.State == "Empty" || g.State == "Dead" {
		return "", nil
	}
	topics := make([]string, 0, len(commits))
	for topic := range commits {
		topics = append(topics, topic)
	}
	recent, err := y.Admin.ListOffsetsAfterMilli(ctx, now.Add(-y.Patience).UnixMilli(), topics...)
	if err != nil {
		return "", fmt.Errorf("list the offsets of %s ago: %w", y.Patience, err)
	}
	return y.firstBehind(commits, recent), nil
}

func (y *Yield) firstBehind(commits kadm.OffsetResponses, recent kadm.ListedOffsets) (behind string) {
	worst := int64(0)
	recent.Each(func(o kadm.ListedOffset) {
		at := Place{o.Topic, o.Partition}
		s := settledOf(y.Group, commits, at)
		if _, there := commits.Lookup(at.Topic, at.Partition); !there || o.Err != nil || s.above.Held {
			return
		}
		if n := o.Offset - s.top(); n > worst {
			worst = n
			behind = fmt.Sprintf("%d records of %s have waited for it for more than %s", n, at, y.Patience)
		}
	})
	return behind
}
