package byhand

import (
	"errors"
	"fmt"

	"github.com/twmb/franz-go/pkg/kgo"

	"serbridge/bridge/frontier"
)

// claim is what the group's commit says of one partition.
type claim struct {
	group, topic string
	partition    int32
	base         int64
	epoch        int32        // of the commit; -1: unknown
	said         frontier.Map // what is settled above the base
}

// top is the highest offset that the commit speaks of.
func (c claim) top() int64 {
	top := c.base
	for _, end := range c.said.Runs() {
		top = max(top, end-1)
	}
	return top
}

// settling is an owner of the partition that receives what an owner would, and settles one record of it.
type settling struct {
	claim
	at int64
	f  *frontier.Frontier

	record  *kgo.Record // at that offset
	settled bool        // and it is already
}

func (c claim) settle(at int64) *settling {
	f := frontier.New(frontier.Config{
		Group: c.group, Topic: c.topic, Partition: c.partition, Base: c.base, Epoch: c.epoch, Restored: c.said,
	})
	if c.said.Ceiling != nil {
		f.SetCeiling(*c.said.Ceiling) // a frontier does not take these over by itself
	}
	f.SetHeld(c.said.Held)
	return &settling{claim: c, at: at, f: f}
}

// take registers one record from the base on, transaction markers included. All of them are needed, up to the last one that
// the commit speaks of: a record that is left out would be a gap to the frontier, which the base passes.
func (s *settling) take(r *kgo.Record) {
	already := s.f.Add(r.Offset, r.LeaderEpoch, len(r.Key)+len(r.Value), r.Timestamp)
	switch {
	case r.Attrs.IsControl() && !already:
		s.f.Settle(r.Offset, 0) // no detection, as the bridge treats it
	case r.Offset == s.at && !r.Attrs.IsControl():
		s.record, s.settled = r, already
	}
}

var (
	errSettled  = errors.New("the group has settled this record already: there is nothing to do")
	errNoRecord = errors.New("there is no record at this offset (compacted, aborted, or a transaction marker): the bridge passes it by itself")
	errNoRoom   = errors.New("the commit's metadata has no room for it beside what else is settled above the first open record: put that one first")
)

// finish settles the record and returns what to commit.
func (s *settling) finish() (frontier.Snapshot, error) {
	switch {
	case s.at < s.base || s.settled:
		return frontier.Snapshot{}, errSettled
	case s.record == nil:
		return frontier.Snapshot{}, errNoRecord
	case !s.f.Settle(s.at, 0):
		return frontier.Snapshot{}, fmt.Errorf("settle offset %d: the frontier refuses it", s.at)
	}
	return s.snapshot()
}

// snapshot refuses a commit that does not say that the record is settled: the letter would be written and the record still
// be held.
func (s *settling) snapshot() (frontier.Snapshot, error) {
	shot, ok := s.f.Snapshot()
	if !ok {
		return frontier.Snapshot{}, errNoRoom
	}
	m, err := frontier.Decode(s.group, s.topic, s.partition, shot.Base, shot.Metadata)
	if err != nil {
		return frontier.Snapshot{}, err
	}
	if s.at >= shot.Base && !m.Contains(s.at) {
		return frontier.Snapshot{}, errNoRoom
	}
	return shot, nil
}
