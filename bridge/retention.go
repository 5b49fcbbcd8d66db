package bridge

import (
	"context"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"serbridge/bridge/kafka"
)

// retentionEvery is how often the topics' retention is read: it changes by hand.
const retentionEvery = 5 * time.Minute

// retentions are those of the consumed topics.
type retentions struct {
	of     map[string]kafka.Retention
	looked time.Time
}

// lookAtRetention reads how long the topics keep their records, now and then.
// What cannot be read, for want of DescribeConfigs perhaps, has no figure.
func (b *Bridge) lookAtRetention(ctx context.Context) {
	topics := b.topics()
	b.mu.Lock()
	old := b.retention
	b.mu.Unlock()
	if len(topics) == 0 || time.Since(old.looked) < retentionEvery {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, watchEvery/2)
	defer cancel()
	of, err := kafka.ReadRetention(ctx, b.admin, topics...)
	if err != nil && len(of) == 0 {
		of = old.of // what was known; asked again after the same while
	}
	b.mu.Lock()
	b.retention = retentions{of: of, looked: time.Now()}
	b.mu.Unlock()
}

func (b *Bridge) retentionOf(topic string) (time.Duration, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	d := b.retention.of[topic].Time
	return d, d > 0
}

// ages remember how old the records of a partition are by their own timestamps,
// from which retention counts: one entry for each poll that brought some.
type ages []age

type age struct {
	first  int64 // offset
	oldest time.Time
}

// add notes what a poll brought, and forgets what is settled below base.
func (a ages) add(rs []*kgo.Record, base int64) ages {
	if len(rs) == 0 {
		return a
	}
	now := age{first: rs[0].Offset, oldest: rs[0].Timestamp}
	for _, r := range rs {
		if r.Timestamp.Before(now.oldest) {
			now.oldest = r.Timestamp
		}
	}
	kept := a.from(base)
	for len(kept) > 0 && kept[len(kept)-1].first >= now.first { // fetched again
		kept = kept[:len(kept)-1]
	}
	return append(append(ages(nil), kept...), now)
}

// from leaves out the entries that lie below the base as a whole.
func (a ages) from(base int64) ages {
	for len(a) > 1 && a[1].first <= base {
		a = a[1:]
	}
	return a
}

// oldest is no younger than the record at base.
func (a ages) oldest(base int64) (time.Time, bool) {
	if a = a.from(base); len(a) == 0 || a[0].first > base {
		return time.Time{}, false
	}
	return a[0].oldest, true
}

func (p *partition) noteAges(rs []*kgo.Record, base int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ages = p.ages.add(rs, base)
}

// headroom is how long it is until retention may remove the first record that
// is received and not settled; while there is none, retention in full. Kafka
// removes whole segments, so it may be later, never earlier.
func (p *partition) headroom(base int64, open bool, retention time.Duration) (time.Duration, bool) {
	if !open {
		return retention, true
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	at, ok := p.ages.oldest(base)
	return retention - time.Since(at), ok
}
