package byhand

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"serbridge/bridge/frontier"
)

// wave is a partition and what its group says of it, at random.
type wave struct {
	claim
	log     []*kgo.Record
	settled map[int64]bool // of the records at and above the base
}

// newWave makes a log with gaps, markers and rising epochs, lets an owner settle some of it and commit, and takes over what
// that owner said.
func newWave(t *testing.T, random *rand.Rand) *wave {
	t.Helper()
	w := &wave{claim: claim{group: "g", topic: "t", partition: random.Int32N(3), base: random.Int64N(1000), epoch: 0}, settled: make(map[int64]bool)}
	f := frontier.New(frontier.Config{Group: w.group, Topic: w.topic, Partition: w.partition, Base: w.base, Epoch: 0})
	if random.IntN(4) == 0 {
		f.SetCeiling(w.base + random.Int64N(500))
	}
	f.SetHeld(random.IntN(4) == 0)
	offset, epoch, often := w.base, int32(0), random.Float64()
	records := 1 + random.IntN(300)
	received := random.IntN(records + 1) // by that owner; nobody has seen the others yet
	for i := range records {
		r := &kgo.Record{Topic: "t", Partition: w.partition, Offset: offset, LeaderEpoch: epoch, Value: []byte("v")}
		if random.IntN(10) == 0 {
			r.Attrs = control()
		}
		if i < received {
			f.Add(r.Offset, r.LeaderEpoch, 1, time.Time{})
		}
		if i < received && (r.Attrs.IsControl() || random.Float64() < often) {
			f.Settle(r.Offset, 0)
			w.settled[r.Offset] = true
		}
		w.log = append(w.log, r)
		offset += 1 + max(0, random.Int64N(20)-15)
		if random.IntN(50) == 0 {
			epoch++
		}
	}
	if shot, ok := f.Snapshot(); ok {
		m, err := frontier.Decode(w.group, w.topic, w.partition, shot.Base, shot.Metadata)
		if err != nil {
			t.Fatal(err)
		}
		w.base, w.epoch, w.said = shot.Base, shot.LeaderEpoch, m
	}
	return w
}

// control are the attributes of a transaction marker.
func control() (a kgo.RecordAttrs) { return kgo.NewRecordAttrs(kgo.RecordAttrsOpts{Control: true}) }

// receive is what the next owner would receive: from the base on, up to the last record that matters.
func (w *wave) receive(s *settling) {
	last := max(w.top(), s.at)
	for _, r := range w.log {
		if w.base <= r.Offset && r.Offset <= last {
			s.take(r)
		}
	}
}

// Whatever is settled and wherever the record stands, the commit says of it that it is settled, and of no other record
// anything new.
func TestPutSettlesThisRecordAndNoOther(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	puts := 0
	for range 3000 {
		w := newWave(t, random)
		r := w.log[random.IntN(len(w.log))]
		s := w.settle(r.Offset)
		w.receive(s)
		shot, err := s.finish()
		switch {
		case r.Attrs.IsControl() || w.settled[r.Offset]:
			if err == nil {
				t.Fatalf("a record that is settled was put: offset %d, base %d", r.Offset, w.base)
			}
			continue
		case err != nil:
			t.Fatalf("offset %d, base %d: %v", r.Offset, w.base, err)
		}
		puts++
		m, err := frontier.Decode(w.group, w.topic, w.partition, shot.Base, shot.Metadata)
		if err != nil {
			t.Fatal(err)
		}
		for _, other := range w.log {
			got := other.Offset < shot.Base || m.Contains(other.Offset)
			if other.Attrs.IsControl() && !w.settled[other.Offset] {
				w.settled[other.Offset] = got // a marker is no record: it settles as soon as it is received
			}
			want := w.settled[other.Offset] || other.Offset == r.Offset
			if got != want {
				t.Fatalf("offset %d: settled %v, want %v; put %d, base %d became %d", other.Offset, got, want, r.Offset, w.base, shot.Base)
			}
		}
		if (m.Ceiling == nil) != (w.said.Ceiling == nil) || m.Ceiling != nil && *m.Ceiling != *w.said.Ceiling || m.Held != w.said.Held {
			t.Fatalf("what else the commit said became %+v, was %+v", m, w.said)
		}
		if w.believes(shot, m, r.Offset) != nil {
			t.Fatal(w.believes(shot, m, r.Offset))
		}
	}
	if puts < 500 {
		t.Errorf("only %d records were put", puts)
	}
}

// believes: an owner that takes the commit over sends exactly what is open.
func (w *wave) believes(shot frontier.Snapshot, m frontier.Map, at int64) error {
	f := frontier.New(frontier.Config{Group: w.group, Topic: w.topic, Partition: w.partition, Base: shot.Base, Epoch: shot.LeaderEpoch, Restored: m})
	for _, r := range w.log {
		if r.Offset < shot.Base {
			continue
		}
		got, want := f.Add(r.Offset, r.LeaderEpoch, 1, time.Time{}), w.settled[r.Offset] || r.Offset == at
		if got != want {
			return fmt.Errorf("the next owner takes offset %d for settled: %v, want %v", r.Offset, got, want)
		}
	}
	return nil
}

func TestPutOfTheFirstOpenRecordMovesTheBaseToTheNext(t *testing.T) {
	c := claim{group: "g", topic: "t", base: 10, epoch: -1}
	s := c.settle(10)
	s.take(&kgo.Record{Offset: 10})
	if shot, err := s.finish(); err != nil || shot.Base != 11 || shot.Metadata != "" {
		t.Errorf("commit %+v, %v", shot, err)
	}
}

func TestPutRefusesWhatIsNoOpenRecord(t *testing.T) {
	c := claim{group: "g", topic: "t", base: 10, epoch: -1}
	for _, test := range []struct {
		at   int64
		want error
	}{{9, errSettled}, {12, errNoRecord}, {13, errNoRecord}} {
		s := c.settle(test.at)
		s.take(&kgo.Record{Offset: 10})
		s.take(&kgo.Record{Offset: 11})
		s.take(&kgo.Record{Offset: 13, Attrs: control()})
		if _, err := s.finish(); !errors.Is(err, test.want) {
			t.Errorf("offset %d: %v, want %v", test.at, err, test.want)
		}
	}
}

// A bit that does not fit must not be taken for said: the letter would be written, and the record still be held.
func TestPutRefusesWhatTheCommitHasNoRoomToSay(t *testing.T) {
	c := claim{group: "g", topic: "t", base: 0, epoch: -1}
	f := frontier.New(frontier.Config{Group: "g", Topic: "t", Epoch: -1})
	random := rand.New(rand.NewPCG(5, 6))
	var log []*kgo.Record
	for i := range int64(60_000) {
		f.Add(i, -1, 1, time.Time{})
		if i > 0 && random.IntN(2) == 0 {
			f.Settle(i, 0)
		}
		log = append(log, &kgo.Record{Offset: i, LeaderEpoch: -1})
	}
	shot, ok := f.Snapshot()
	if !ok {
		t.Fatal("no commit")
	}
	var err error
	if c.said, err = frontier.Decode("g", "t", 0, shot.Base, shot.Metadata); err != nil {
		t.Fatal(err)
	}
	s := c.settle(59_999)
	for _, r := range log {
		s.take(r)
	}
	if _, err := s.finish(); !errors.Is(err, errNoRoom) {
		t.Errorf("got %v, want %v", err, errNoRoom)
	}
}
