package bridge

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/cenkalti/backoff/v4"
	"github.com/twmb/franz-go/pkg/kadm"

	"serbridge/bridge/pause"
)

// astray is a partition's state while its position is outside its log. The
// poll loop sets and ends it; in between another looks the log up, since a
// broker that does not answer must not hold up the poll.
type astray struct {
	strayed atomic.Bool
	found   atomic.Pointer[logRange]
}

// logRange is what a log holds now: from start on, below end.
type logRange struct{ start, end int64 }

const (
	searchEvery = time.Second // how often the partitions astray are looked at
	mostSearch  = time.Minute // between two looks at the same one
)

// outOfRange holds a partition whose position is outside its log. kgo would
// ask for it tens of thousands of times a second, so it is paused first.
func (b *Bridge) outOfRange(p *partition) {
	p.strayed.Store(true)
	b.tendPartition(p)
}

// search looks up the logs of the partitions astray, until ctx ends.
func (b *Bridge) search(ctx context.Context) {
	searches := make(map[*partition]*search)
	pause.Every(ctx, searchEvery, func() {
		if due := dueSearches(b.owned(), searches, time.Now()); len(due) > 0 {
			b.findRanges(ctx, due)
			b.nudge()
		}
	})
}

// search is when a partition is looked at again.
type search struct {
	next time.Time
	wait *backoff.ExponentialBackOff
}

// dueSearches lists the partitions to look at now, and forgets those found.
func dueSearches(owned []*partition, searches map[*partition]*search, now time.Time) (due []*partition) {
	for p := range searches {
		if !p.strayed.Load() || !slices.Contains(owned, p) {
			delete(searches, p)
		}
	}
	for _, p := range owned {
		if !p.strayed.Load() || p.found.Load() != nil {
			continue
		}
		s := searches[p]
		if s == nil {
			s = &search{wait: fullJitter(mostSearch)}
			searches[p] = s
		}
		if !now.Before(s.next) {
			s.next = now.Add(max(searchEvery, s.wait.NextBackOff()))
			due = append(due, p)
		}
	}
	return due
}

// findRanges looks up the logs of all of them at once.
func (b *Bridge) findRanges(ctx context.Context, ps []*partition) {
	ctx, cancel := context.WithTimeout(ctx, pollWait)
	defer cancel()
	var topics []string
	for topic := range names(ps) {
		topics = append(topics, topic)
	}
	starts, err := b.admin.ListStartOffsets(ctx, topics...)
	var ends kadm.ListedOffsets
	if err == nil {
		ends, err = b.admin.ListEndOffsets(ctx, topics...)
	}
	for _, p := range ps {
		s, _ := starts.Lookup(p.topic, p.id)
		e, _ := ends.Lookup(p.topic, p.id)
		if err := errors.Join(err, s.Err, e.Err); err != nil {
			b.troubles.begin(p.trouble(), fmt.Sprintf("%s/%d is held, its log cannot be looked up: %s", p.topic, p.id, explainKafka(err)))
			continue
		}
		p.found.Store(&logRange{s.Offset, e.Offset})
	}
}

// mend sets a partition astray to where it can go on, once its log was looked
// up. Below the start of the log the records are gone by retention, which is
// said and counted; beyond its end the log was truncated or the topic replaced,
// and only a person can tell what to do.
func (b *Bridge) mend(p *partition) {
	log := p.found.Swap(nil)
	if log == nil {
		return
	}
	f := p.frontier()
	at := p.next
	if at < 0 && f != nil {
		at = f.Base()
	}
	if at > log.end {
		b.troubles.begin(p.trouble(), fmt.Sprintf(
			"%s/%d is held: offset %d is beyond the end of the log, %d; the log was truncated or the topic replaced. "+
				"Reset the group's offset of this partition, then restart", p.topic, p.id, at, log.end))
		return
	}
	if at < log.start {
		b.sayRetention(p, at, log.start)
		if f != nil {
			f.Add(log.start-1, -1, 0, time.Now())
			f.Settle(log.start-1, 0)
		}
		at = log.start
	}
	b.rewind(p, at)
	p.strayed.Store(false)
}

func (b *Bridge) sayRetention(p *partition, from, to int64) {
	b.metrics.lostToRetention.WithLabelValues(p.topic).Add(float64(to - from))
	b.log.Error("records were lost to retention before they were read: the topic keeps them too short, or this group was away too long",
		"topic", p.topic, "partition", p.id, "from", from, "to", to, "offsets", to-from)
}
