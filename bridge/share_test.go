package bridge

import (
	"math"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"
)

func at(partition int32) place { return place{topic: "t", partition: partition} }

func sum(s shares) (total float64) {
	for _, v := range s {
		total += v
	}
	return total
}

func TestHotPartitionIsNotStarvedByIdleOnes(t *testing.T) {
	backlog := make(map[place]int64)
	for p := range int32(12) {
		backlog[at(p)] = 0
	}
	backlog[at(5)] = 1_000_000
	s := sharesOf(200, backlog)
	if s[at(5)] < 0.85*200 {
		t.Errorf("the one with all the backlog has %.1f of 200", s[at(5)])
	}
	if got, want := s[at(0)], 200*evenPart/12; math.Abs(got-want) > 1e-9 {
		t.Errorf("an idle one has %.3f, want %.3f", got, want)
	}
}

func TestSharesNeverAddUpToMoreThanTheLimit(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	var last shares
	for range 2000 {
		backlog := make(map[place]int64)
		for p := range int32(1 + rng.IntN(20)) {
			backlog[at(p)] = int64(rng.IntN(3) * rng.IntN(100_000))
		}
		s := sharesOf(50, backlog)
		if got := sum(s); math.Abs(got-50) > 1e-6 {
			t.Fatalf("shares of %v add up to %v", backlog, got)
		}
		if got := sum(s.after(last, 50)); got > 50+1e-6 {
			t.Fatalf("while shares move they add up to %v", got)
		}
		last = s
	}
}

func TestShareIsLoweredAtOnceAndRaisedALookLater(t *testing.T) {
	one := sharesOf(100, map[place]int64{at(0): 900, at(1): 100})
	two := sharesOf(100, map[place]int64{at(0): 100, at(1): 900})
	moving := two.after(one, 100)
	if moving[at(0)] != two[at(0)] || moving[at(1)] != one[at(1)] {
		t.Errorf("while the backlog moves %v, want the lower of each of %v and %v", moving, one, two)
	}
	if then := two.after(two, 100); then[at(1)] != two[at(1)] {
		t.Errorf("a look later still %v, want %v", then, two)
	}
	if first := one.after(nil, 100); first[at(0)] != evenPart*50 {
		t.Errorf("before the first look %v, want its part of the even tenth", first)
	}
}

func TestAllMembersLookAtTheSameMarks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for range 50 {
			time.Sleep(time.Duration(rand.Int64N(int64(30 * time.Second))))
			mark := time.Now().Add(toMark(time.Now()))
			if mark.UnixNano()%int64(watchEvery) != 0 || toMark(time.Now()) <= 0 {
				t.Fatalf("next look at %v", mark)
			}
		}
	})
}

// A member that knows only its own partitions must not take them for all there are: each member would take the whole
// limit.
func TestUnknownTopicHasNoShare(t *testing.T) {
	b := &Bridge{totals: map[string]int{"known": 4}, partitions: map[string]map[int32]*partition{
		"known": {0: newPartition(t.Context(), "known", [16]byte{}, 0, newBrake(0))},
		"new":   {0: newPartition(t.Context(), "new", [16]byte{}, 0, newBrake(0))},
	}}
	if owned, total, _ := b.count(); owned != 1 || total < 5 {
		t.Errorf("owns %d of %d, want 1 of at least 5", owned, total)
	}
}
