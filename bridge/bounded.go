package bridge

import (
	"context"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"

	"serbridge/bridge/frontier"
)

// lookForEnd is how often a bounded run looks whether it is over.
const lookForEnd = time.Second

// awaitEnd ends a bounded run once the whole group has settled it: another
// member may have the last of it, and die before its end.
func (b *Bridge) awaitEnd(ctx context.Context, done context.CancelFunc) {
	tick := time.NewTicker(lookForEnd)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		commits, err := b.admin.FetchOffsets(ctx, b.cfg.Group)
		if err != nil {
			continue // said by the look at Kafka
		}
		if b.settledTo(commits) {
			done()
			return
		}
	}
}

// settledTo reports whether the commits have reached their ends, all of them.
func (b *Bridge) settledTo(commits kadm.OffsetResponses) (all bool) {
	all = true
	for _, topic := range b.cfg.Topics {
		all = all && len(commits[topic]) > 0
		for _, c := range commits[topic] {
			end, err := End(b.cfg.Group, c.Offset)
			if err != nil {
				b.troubles.begin("end", err.Error())
				return false
			}
			all = all && c.At >= end
		}
	}
	return all
}

// End reads where a bounded run ends from a commit of its group. The error says
// that it is none.
func End(group string, c kadm.Offset) (int64, error) {
	m, err := frontier.Decode(group, c.Topic, c.Partition, c.At, c.Metadata)
	if err == nil && m.End == nil {
		err = fmt.Errorf("it names no end")
	}
	if err != nil {
		return 0, fmt.Errorf("read the end of %s/%d from the commit of group %s, which is none of a bounded run: %w", c.Topic, c.Partition, group, err)
	}
	return *m.End, nil
}
