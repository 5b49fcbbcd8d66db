package backfill

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"

	"serbridge/bridge"
	"serbridge/bridge/frontier"
)

// Run is a run by its id. What it is, and how far, stands in Kafka alone.
type Run struct {
	Admin *kadm.Client
	Group string // ReplayGroup or RedriveGroup: its members share the work, its commits say where the run is and where it ends
	ID    string
}

// ReplayGroup is the consumer group of a replay beside a live group.
func ReplayGroup(live, id string) string { return live + ".backfill." + id }

// RedriveGroup is the consumer group of a redrive of a dead-letter topic.
func RedriveGroup(topic, id string) string { return redriveGroups(topic) + id }

func redriveGroups(topic string) string { return topic + ".redrive." }

// beginning is a group without members. Its commits say of each partition where the run began, and what the live group
// had settled then.
func (r Run) beginning() string { return r.Group + ".plan" }

// Seed keeps the plan for everybody who takes part in the run, unless somebody else was first; Read tells which one
// stands. The group's own commits come last: with them the run has begun.
func (r Run) Seed(ctx context.Context, p Plan) error {
	if err := r.commit(ctx, r.beginning(), p, r.asItBegan); err != nil {
		return err
	}
	err := r.commit(ctx, r.Group, p, r.asItIs)
	if hasMembers(err) {
		return nil // by now, and so its commits
	}
	return err
}

// hasMembers reports whether a group refused a commit since only its members may commit.
func hasMembers(err error) bool {
	return errors.Is(err, kerr.UnknownMemberID) || errors.Is(err, kerr.IllegalGeneration) || errors.Is(err, kerr.NonEmptyGroup)
}

// ErrTakesPart says that a run has processes.
var ErrTakesPart = errors.New("processes take part in the run")

// Ask has a run that nobody takes part in go on as what it is asked for now: with ErrTakesPart somebody does. How far it
// is stays as it is.
func (r Run) Ask(ctx context.Context, asked Asked) error {
	commits, err := commitsOf(ctx, r.Admin, r.Group)
	if err != nil {
		return err
	}
	offsets := make(kadm.Offsets)
	commits.Each(func(c kadm.OffsetResponse) {
		m, err := frontier.Decode(r.Group, c.Topic, c.Partition, c.At, c.Metadata)
		if err == nil && m.End != nil { // of a partition that was added since nothing was asked
			m.Asked = asked
			c.Metadata = m.Encode(r.Group, c.Topic, c.Partition, c.At, 0)
			offsets.Add(c.Offset)
		}
	})
	err = coordinated(ctx, func() error {
		done, err := r.Admin.CommitOffsets(ctx, r.Group, offsets)
		return cmp.Or(err, done.Error())
	})
	switch {
	case hasMembers(err):
		return ErrTakesPart
	case err != nil:
		return fmt.Errorf("commit what is asked of the run to group %s: %w", r.Group, err)
	}
	return nil
}

func (r Run) commit(ctx context.Context, group string, p Plan, of func(Plan, Range) kadm.Offset) error {
	offsets := make(kadm.Offsets)
	for _, in := range p.Ranges {
		offsets.Add(of(p, in))
	}
	err := coordinated(ctx, func() error {
		done, err := r.Admin.CommitOffsets(ctx, group, offsets)
		return cmp.Or(err, done.Error())
	})
	if err != nil {
		return fmt.Errorf("commit the bounds of the run to group %s: %w", group, err)
	}
	return nil
}

func (r Run) asItIs(p Plan, in Range) kadm.Offset {
	m := frontier.Map{End: &in.End, Asked: p.Asked}
	if !p.Until.IsZero() {
		m.Until = new(p.Until.UnixMilli())
	}
	return kadm.Offset{Topic: in.Topic, Partition: in.Partition, At: in.At, LeaderEpoch: -1,
		Metadata: m.Encode(r.Group, in.Topic, in.Partition, in.At, 0)}
}

// asItBegan takes an end of all that is settled for its base where nobody was asked: a base has a highest value.
func (r Run) asItBegan(_ Plan, in Range) kadm.Offset {
	base := min(in.live.base, in.End)
	m := in.live.above
	m.End, m.Held, m.Ceiling, m.Until = &in.Start, false, nil, nil
	if base < in.live.base {
		m = frontier.Map{End: &in.Start}
	}
	return kadm.Offset{Topic: in.Topic, Partition: in.Partition, At: base, LeaderEpoch: -1,
		Metadata: m.Encode(r.beginning(), in.Topic, in.Partition, base, 0)}
}

// Read returns the plan that was kept, and how far the run is. False: it has not begun.
func (r Run) Read(ctx context.Context, topics []string) (p Plan, begun bool, err error) {
	commits, err := commitsOf(ctx, r.Admin, r.Group)
	if err != nil || len(commits) == 0 {
		return Plan{}, false, err
	}
	if err := sameTopics(r.ID, commits, topics); err != nil {
		return Plan{}, false, err
	}
	began, err := commitsOf(ctx, r.Admin, r.beginning())
	if err != nil {
		return Plan{}, false, err
	}
	for _, ids := range commits {
		for _, c := range ids {
			in := r.readRange(began, Place{c.Topic, c.Partition})
			if err := in.read(r.Group, c.Offset, &p); err != nil {
				return Plan{}, false, err
			}
			p.Ranges = append(p.Ranges, in)
		}
	}
	slices.SortFunc(p.Ranges, func(a, b Range) int { return compare(a.Place, b.Place) })
	return p, true, nil
}

// sameTopics refuses to go on with another run under the same id.
func sameTopics(id string, commits kadm.OffsetResponses, topics []string) error {
	var kept []string
	for topic := range commits {
		kept = append(kept, topic)
	}
	slices.Sort(kept)
	asked := slices.Compact(slices.Sorted(slices.Values(topics)))
	if !slices.Equal(kept, asked) {
		return fmt.Errorf("resume run %s: it is one of %s, and was asked for with %s; name the same topics, or begin another run",
			id, strings.Join(kept, ", "), strings.Join(asked, ", "))
	}
	return nil
}

// readRange is how the range began. Where that is not known any more, since it expired, it begins where it is.
func (r Run) readRange(began kadm.OffsetResponses, at Place) Range {
	in := Range{Place: at, Start: -1, live: everything}
	c, ok := began.Lookup(at.Topic, at.Partition)
	if !ok {
		return in
	}
	start, err := bridge.End(r.beginning(), c.Offset)
	if err != nil {
		return in
	}
	in.Start, in.live = start, settledOf(r.beginning(), began, at)
	return in
}

// read takes in where the range is.
func (in *Range) read(group string, c kadm.Offset, p *Plan) error {
	end, err := bridge.End(group, c)
	if err != nil {
		return err
	}
	m, _ := frontier.Decode(group, c.Topic, c.Partition, c.At, c.Metadata) // which End has read
	in.At, in.End, in.Done = c.At, end, 0
	for first, stop := range m.Runs() {
		in.Done += max(0, min(stop, end)-first)
	}
	if in.Start < 0 {
		in.Start = c.At
	}
	if m.Until != nil {
		p.Until = time.UnixMilli(*m.Until)
	}
	if len(m.Asked) > 0 { // a partition that was added since says nothing
		p.Asked = m.Asked
	}
	return nil
}

// Progress returns the plan with how far the run is now. What the group has no commit of any more, since its topic was
// deleted, stays as it was.
func (r Run) Progress(ctx context.Context, p Plan) (Plan, error) {
	commits, err := commitsOf(ctx, r.Admin, r.Group)
	if err != nil {
		return p, err
	}
	p.Ranges = slices.Clone(p.Ranges)
	for i := range p.Ranges {
		in := &p.Ranges[i]
		if c, ok := commits.Lookup(in.Topic, in.Partition); ok {
			if err := in.read(r.Group, c.Offset, &p); err != nil {
				return p, err
			}
		}
	}
	return p, nil
}
