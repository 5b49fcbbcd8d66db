package backfill

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
)

// Request is what an operator asks for.
type Request struct {
	Topics   []string
	From, To Bound
	// Live is the group whose unsettled offsets are left out; empty: none are.
	Live  string
	Limit int64 // offsets at most; 0: no limit
}

// logs are the facts that a plan is made of.
type logs struct {
	starts, ends kadm.ListedOffsets
	from         kadm.ListedOffsets // the first record of the run's time; nil: it has none
	live         kadm.OffsetResponses
}

// Resolve makes the plan of a run. The same request a moment later makes another one: resolve once, and keep it.
func Resolve(ctx context.Context, admin *kadm.Client, q Request) (Plan, error) {
	l, err := look(ctx, admin, q)
	if err != nil {
		return Plan{}, err
	}
	return l.plan(q)
}

// look reads the logs. Their end is that of what is committed: a transaction that is still open has no end, and a run
// that waited for it might have none either.
func look(ctx context.Context, admin *kadm.Client, q Request) (l logs, err error) {
	if l.starts, err = listed(admin.ListStartOffsets(ctx, q.Topics...)); err != nil {
		return l, fmt.Errorf("list the starts of the logs: %w", err)
	}
	if l.ends, err = listed(admin.ListCommittedOffsets(ctx, q.Topics...)); err != nil {
		return l, fmt.Errorf("list the ends of the logs: %w", err)
	}
	if !q.From.Time.IsZero() {
		if l.from, err = listed(admin.ListOffsetsAfterMilli(ctx, q.From.Time.UnixMilli(), q.Topics...)); err != nil {
			return l, fmt.Errorf("list the offsets of %s: %w", q.From.Time.Format(time.RFC3339), err)
		}
	}
	if q.Live == "" {
		return l, nil
	}
	l.live, err = commitsOf(ctx, admin, q.Live)
	return l, err
}

// listed also looks for the errors of single topics.
func listed(l kadm.ListedOffsets, err error) (kadm.ListedOffsets, error) {
	if err != nil {
		return nil, err
	}
	for topic, ids := range l {
		for _, o := range ids {
			if errors.Is(o.Err, kerr.UnknownTopicOrPartition) {
				return nil, fmt.Errorf("topic %s does not exist, or our Kafka user may not see it: check its name, and the right Describe: %w", topic, o.Err)
			}
			if o.Err != nil {
				return nil, fmt.Errorf("%s/%d: %w", topic, o.Partition, o.Err)
			}
		}
	}
	return l, nil
}

// commitsOf reads the commits of a group, none if there is no such group.
func commitsOf(ctx context.Context, admin *kadm.Client, group string) (kadm.OffsetResponses, error) {
	var commits kadm.OffsetResponses
	err := coordinated(ctx, func() (err error) { commits, err = admin.FetchOffsets(ctx, group); return err })
	if err != nil && !errors.Is(err, kerr.GroupIDNotFound) {
		return nil, fmt.Errorf("fetch the offsets of group %s: %w", group, err)
	}
	for _, ids := range commits {
		for _, c := range ids {
			if c.Err != nil {
				return nil, fmt.Errorf("fetch the offset of %s/%d of group %s: %w", c.Topic, c.Partition, group, c.Err)
			}
		}
	}
	return commits, nil
}

// plan is pure.
func (l logs) plan(q Request) (Plan, error) {
	named, err := l.named(q)
	if err != nil {
		return Plan{}, err
	}
	p := Plan{Until: q.To.Time}
	l.ends.Each(func(end kadm.ListedOffset) {
		p.Ranges = append(p.Ranges, l.bounds(q, Place{end.Topic, end.Partition}, named))
	})
	slices.SortFunc(p.Ranges, func(a, b Range) int { return compare(a.Place, b.Place) })
	if q.Limit > 0 {
		p.limit(q.Limit)
	}
	return p, nil
}

// named are the partitions of which an offset is given: then all others are none of the run's. Whoever asks for ten
// offsets of one partition does not ask for all of the others.
func (l logs) named(q Request) (map[Place]bool, error) {
	named := make(map[Place]bool)
	for _, offsets := range []map[Place]int64{q.From.Offsets, q.To.Offsets} {
		for at := range offsets {
			if !slices.Contains(q.Topics, at.Topic) {
				return nil, fmt.Errorf("resolve bounds: offset of %s given, and its topic is none of the run's: name it too", at)
			}
			if _, there := l.ends.Lookup(at.Topic, at.Partition); !there {
				return nil, fmt.Errorf("resolve bounds: there is no partition %s", at)
			}
			named[at] = true
		}
	}
	return named, nil
}

// bounds are those of one partition.
func (l logs) bounds(q Request, at Place, named map[Place]bool) Range {
	log := Range{Place: at, live: everything}
	start, _ := l.starts.Lookup(at.Topic, at.Partition)
	end, _ := l.ends.Lookup(at.Topic, at.Partition)
	log.Start, log.End = start.Offset, max(start.Offset, end.Offset)
	if len(named) > 0 && !named[at] {
		log.Start = log.End
	}
	within := func(offset int64) int64 { return min(max(offset, log.Start), log.End) }
	if to, given := q.To.Offsets[at]; given {
		log.End = within(to)
	}
	from, _ := l.from.Lookup(at.Topic, at.Partition)
	log.Start = within(max(from.Offset, q.From.Offsets[at]))
	if q.From.Now {
		log.Start = log.End
	}
	if q.Live != "" {
		log.live = settledOf(q.Live, l.live, at)
		all := log.Total()
		log.Unsettled = all - log.live.count(log.Start, log.End)
		log.End = max(log.Start, min(log.End, log.live.top()))
	}
	log.At = log.Start
	return log
}

// HoldsOlder reports whether what is left of the plan begins with a record older than t. What compaction removed is none: a
// partition may begin with offsets of which no record is there any more.
func HoldsOlder(ctx context.Context, admin *kadm.Client, p Plan, t time.Time) (bool, error) {
	first, err := firstRecords(ctx, admin, p)
	if err != nil {
		return false, err
	}
	younger, err := recordsFrom(ctx, admin, p, t)
	if err != nil {
		return false, err
	}
	return slices.ContainsFunc(p.Ranges, func(r Range) bool {
		o, there := younger.Lookup(r.Topic, r.Partition)
		return there && r.Left() > 0 && first.from(r) < o.Offset
	}), nil
}

// recordsFrom are the first records at or after a time.
func recordsFrom(ctx context.Context, admin *kadm.Client, p Plan, t time.Time) (kadm.ListedOffsets, error) {
	o, err := listed(admin.ListOffsetsAfterMilli(ctx, t.UnixMilli(), p.Topics()...))
	if err != nil {
		return nil, fmt.Errorf("list the offsets of %s: %w", t.Format(time.RFC3339), err)
	}
	return o, nil
}

// logStarts are the first records of logs. A log begins with offsets that hold none where compaction took them out.
type logStarts struct{ kadm.ListedOffsets }

func firstRecords(ctx context.Context, admin *kadm.Client, p Plan) (logStarts, error) {
	o, err := recordsFrom(ctx, admin, p, time.UnixMilli(0))
	return logStarts{o}, err
}

// from is where the first record of what is left of the range may stand.
func (l logStarts) from(r Range) int64 {
	o, _ := l.Lookup(r.Topic, r.Partition)
	return max(r.At, o.Offset)
}

// longestAgo is how far back Oldest looks.
const longestAgo = 4 * 365 * 24 * time.Hour

// Oldest is a time at which nothing of what is left of the plan had been written yet, if producers' clocks are right; zero:
// none is known. It looks back in steps that double, by the brokers' index of times.
func Oldest(ctx context.Context, admin *kadm.Client, p Plan) (time.Time, error) {
	first, err := firstRecords(ctx, admin, p)
	if err != nil {
		return time.Time{}, err
	}
	now := time.Now()
	for ago := time.Hour; ago < longestAgo; ago *= 2 {
		t := now.Add(-ago)
		younger, err := recordsFrom(ctx, admin, p, t)
		if err != nil {
			return time.Time{}, err
		}
		later := slices.ContainsFunc(p.Ranges, func(r Range) bool {
			o, there := younger.Lookup(r.Topic, r.Partition)
			return r.Left() > 0 && (!there || o.Offset > first.from(r))
		})
		if !later {
			return t, nil
		}
	}
	return time.Time{}, nil
}
