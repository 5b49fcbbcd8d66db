package bridge

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"

	"serbridge/bridge/frontier"
)

// evenPart of the limit is spread evenly over all partitions, so that one that
// was idle at the last look need not wait for the next.
const evenPart = 0.1

// shares are what the owner of each partition may take of the group's rate.
// They belong to partitions, not to members: a partition has one owner, so
// whoever owns what, they add up to the limit.
type shares map[place]float64

// sharesOf divides the limit among partitions by their backlog: an even part
// for each, the rest in proportion; all of it evenly while there is none.
func sharesOf(limit float64, backlog map[place]int64) shares {
	total := int64(0)
	for _, n := range backlog {
		total += n
	}
	s := make(shares, len(backlog))
	even := limit / float64(len(backlog))
	for p, n := range backlog {
		s[p] = even
		if total > 0 {
			s[p] = evenPart*even + (1-evenPart)*limit*float64(n)/float64(total)
		}
	}
	return s
}

// after is what counts from this look on: lowered at once, raised one look
// later. The others, who look at the same marks of the clock, have lowered
// theirs by then, so that the sum stays at the limit while shares move. Before
// the first look a partition has its part of the even tenth.
func (s shares) after(last shares, limit float64) shares {
	now := maps.Clone(s)
	for p := range now {
		before, known := last[p]
		if !known {
			before = evenPart * limit / float64(len(s))
		}
		now[p] = min(now[p], before)
	}
	return now
}

// reshare sets this member's part of the group's rate from the shares of what
// it owns. With RATE_SHARE=partitions, or when the backlog could not be looked
// at, that is owned of all partitions; these parts add up to the limit at most,
// whatever the members know of each other. Whoever owns all has all.
func (b *Bridge) reshare() {
	b.mu.Lock()
	defer b.mu.Unlock() // to the end: a count from before a drain must not raise the share after it
	owned, total, byBacklog := b.count()
	part := 0.0
	if total > 0 {
		part = float64(owned) / float64(total)
	}
	share := b.cfg.RateLimit * part
	if b.cfg.RateShare == "backlog" && owned < total {
		if b.blind {
			byBacklog = min(byBacklog, share)
		}
		share, part = byBacklog, byBacklog/max(b.cfg.RateLimit, 1e-9)
	}
	b.tokens.share(share, max(1, int(float64(b.cfg.RateBurst)*part)))
}

// count counts the partitions that are ours and live, all there are, and sums
// up the shares of ours. Called with mu held.
func (b *Bridge) count() (owned, total int, byBacklog float64) {
	unseen := 0
	for topic, ids := range b.partitions {
		known := b.totals[topic] > 0 // else all of them would seem to be ours
		for id, p := range ids {
			if known && p.hasShare() {
				owned++
				share, seen := b.shares[place{topic: topic, partition: id}]
				if byBacklog += share; !seen {
					unseen++ // no look has found it yet
				}
			}
		}
		total += max(b.totals[topic], len(ids))
	}
	for topic, n := range b.totals {
		if _, counted := b.partitions[topic]; !counted {
			total += n
		}
	}
	if unseen > 0 {
		byBacklog += evenPart * b.cfg.RateLimit * float64(unseen) / float64(total)
	}
	return owned, total, byBacklog
}

// lookAtBacklog reads the group's commits and the ends of the logs, and sets
// the shares.
func (b *Bridge) lookAtBacklog(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, watchEvery/2)
	defer cancel()
	backlog, err := b.backlog(ctx)
	if b.cfg.RateShare != "backlog" || b.cfg.RateLimit <= 0 {
		return // it is for the metrics alone
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.blind = err != nil || len(backlog) == 0; b.blind {
		return
	}
	looked := sharesOf(b.cfg.RateLimit, backlog)
	b.shares, b.looked = looked.after(b.looked, b.cfg.RateLimit), looked
}

// backlog is what is left to deliver of each partition: settled offsets above
// the base are none, nor is what is held.
func (b *Bridge) backlog(ctx context.Context) (map[place]int64, error) {
	topics := b.topics()
	if len(topics) == 0 {
		return nil, nil // kadm would list all
	}
	commits, err := b.admin.FetchOffsets(ctx, b.cfg.Group)
	if err != nil && !errors.Is(err, kerr.GroupIDNotFound) {
		return nil, fmt.Errorf("fetch offsets: %w", err)
	}
	ends, err := b.admin.ListEndOffsets(ctx, topics...)
	if err != nil {
		return nil, fmt.Errorf("list end offsets: %w", err)
	}
	starts, err := b.admin.ListStartOffsets(ctx, topics...)
	if err != nil {
		return nil, fmt.Errorf("list start offsets: %w", err)
	}
	left := make(map[place]int64)
	ends.Each(func(end kadm.ListedOffset) {
		from := int64(0)
		if s, ok := starts.Lookup(end.Topic, end.Partition); ok {
			from = s.Offset
		}
		if p := b.partition(end.Topic, end.Partition); p != nil && end.Err == nil {
			p.logEnd.Store(end.Offset)
		}
		at := place{topic: end.Topic, partition: end.Partition}
		c, ok := commits.Lookup(end.Topic, end.Partition)
		if !ok || c.At < 0 {
			left[at] = max(0, end.Offset-from)
			return
		}
		m, _ := frontier.Decode(b.cfg.Group, end.Topic, end.Partition, c.At, c.Metadata)
		left[at] = max(0, end.Offset-max(c.At, from)-int64(m.Count()))
		if m.Held {
			left[at] = 0
		}
	})
	return left, nil
}

// toMark is how long it is until the next mark of the clock: all members look
// at the same ones.
func toMark(now time.Time) time.Duration {
	return now.Truncate(watchEvery).Add(watchEvery).Sub(now)
}
