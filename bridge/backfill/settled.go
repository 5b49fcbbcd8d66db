package backfill

import (
	"context"
	"math"

	"github.com/twmb/franz-go/pkg/kadm"

	"serbridge/bridge/frontier"
)

// settled is what a group has settled of a partition: all below its commit, and what the commit's metadata says above.
type settled struct {
	base  int64
	above frontier.Map
}

// everything is settled where nobody is asked.
var everything = settled{base: math.MaxInt64}

// settledOf reads a group's commit of a partition. Metadata that is not ours says nothing, as it does to the group itself.
func settledOf(group string, commits kadm.OffsetResponses, at Place) settled {
	c, ok := commits.Lookup(at.Topic, at.Partition)
	if !ok || c.Err != nil || c.At < 0 {
		return settled{}
	}
	m, _ := frontier.Decode(group, at.Topic, at.Partition, c.At, c.Metadata)
	return settled{base: c.At, above: m}
}

func (s settled) has(offset int64) bool { return offset < s.base || s.above.Contains(offset) }

// top is the first offset above all that is settled.
func (s settled) top() int64 {
	top := s.base
	for _, end := range s.above.Runs() {
		top = max(top, end)
	}
	return top
}

// count counts the settled offsets from from on and below end.
func (s settled) count(from, end int64) int64 {
	n := max(0, min(s.base, end)-from)
	for first, stop := range s.above.Runs() {
		n += max(0, min(stop, end)-max(first, from, s.base))
	}
	return n
}

// Commits are those of a group, with what each says is settled above it.
type Commits struct {
	group   string
	commits kadm.OffsetResponses
}

// CommitsOf reads them; a group that does not exist has none.
func CommitsOf(ctx context.Context, admin *kadm.Client, group string) (Commits, error) {
	commits, err := commitsOf(ctx, admin, group)
	return Commits{group, commits}, err
}

// Base is what the group has committed of the partition; false: nothing.
func (c Commits) Base(at Place) (int64, bool) {
	commit, ok := c.commits.Lookup(at.Topic, at.Partition)
	return commit.At, ok && commit.Err == nil && commit.At >= 0
}

// Settled returns what tells whether the group has settled an offset of the partition.
func (c Commits) Settled(at Place) func(offset int64) bool {
	return settledOf(c.group, c.commits, at).has
}
