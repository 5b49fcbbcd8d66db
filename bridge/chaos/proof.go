package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"serbridge/bridge/pause"
	"serbridge/bridge/stellar/stellartest"
)

// proofs are fixed schedules, each for one sentence of the README. The seed
// draws the moments.
var proofs = map[string]struct {
	do      func(*world, context.Context, *rand.Rand) error
	records int // of the whole proof, unless --records says otherwise
	rounds  int // likewise
	members int // likewise; 1 where what a kill repeats must be told from what others do
}{
	"kills":    {(*world).proveKills, 20_000, 20, 3},
	"stuck":    {(*world).proveStuck, 52_000, 1, 1},
	"exposure": {(*world).proveExposure, 10_000, 10, 1},
	"cut":      {(*world).proveCut, 20_000, 10, 3},
	"members":  {(*world).proveMembers, 20_000, 8, 2},
	"replay":   {(*world).proveReplay, 50_000, 10, 0},
	"redrive":  {(*world).proveRedrive, 5_000, 4, 0},
	"beside":   {(*world).proveBeside, 2_000, 1, 2},
	"shared":   {(*world).proveShared, 20_000, 1, 0},
}

// soundDelay is an API that answers as a real one does: without any delay
// nothing would be on the wire at the moment of a kill.
var soundDelay = stellartest.Faults{Latency: stellartest.Latency{Median: 100 * time.Millisecond, P99: 500 * time.Millisecond}}

// brokerMoods are how the broker answers around a kill, and for how long at
// most before it.
var brokerMoods = []struct {
	name string
	most time.Duration
}{{"answers at once", 200 * time.Millisecond}, {"answers late", time.Second}, {"answers nothing", 3 * time.Second}}

// proveKills kills a member again and again while records flow, the broker
// being well, slow and silent in turn: each kill repeats at most MAX_REPEATS.
func (w *world) proveKills(ctx context.Context, rng *rand.Rand) error {
	if err := w.api.SetFaults(soundDelay); err != nil {
		return err
	}
	sum, each := tally{}, w.o.records/w.o.rounds
	for i := range w.o.rounds {
		if err := w.flow(ctx, rng, each); err != nil {
			return err
		}
		mood := brokerMoods[i%len(brokerMoods)]
		better := w.worsen(ctx, mood.name)
		if err := pause.For(ctx, time.Duration(rng.Int64N(int64(mood.most)))); err != nil {
			return err
		}
		k, err := w.killMeasured(ctx, rng.IntN(len(w.members)), better)
		if err != nil {
			return fmt.Errorf("kill %d: %w", i+1, err)
		}
		sum.add(k)
		w.say("kill %d, the broker %s: %v", i+1, mood.name, k)
		if err := k.judge(w.o.bound()); err != nil {
			return fmt.Errorf("kill %d: %w", i+1, err)
		}
	}
	fmt.Println("kills:", sum)
	return sum.underLoad(w.o.probe)
}

// flow produces so many records, and returns while they are being delivered.
func (w *world) flow(ctx context.Context, rng *rand.Rand, records int) error {
	if err := w.produce(ctx, records); err != nil {
		return err
	}
	return w.stored(ctx, min(w.api.Ledger().Distinct+records/10+rng.IntN(records/2), w.storable()-records/10))
}

// worsen has the broker answer late or not at all until better is called.
func (w *world) worsen(ctx context.Context, mood string) (better func()) {
	switch mood {
	case "answers late":
		ctx, stop := context.WithCancel(ctx)
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			for ctx.Err() == nil {
				w.freezeBroker()
				_ = pause.For(ctx, 300*time.Millisecond)
				w.thawBroker()
				_ = pause.For(ctx, 30*time.Millisecond)
			}
		}()
		return func() { stop(); <-ended }
	case "answers nothing":
		w.freezeBroker()
		return w.thawBroker
	}
	return func() {}
}

// bound is how many documents one kill may repeat.
func (o options) bound() int {
	if o.probe {
		return 0
	}
	return o.maxRepeats
}

// measured is one kill: what the member said just before, and what came of it.
type measured struct {
	exposure int // serbridge_exposure_documents
	arrived  int // requests between that reading and the kill
	again    int // documents stored again
}

func (k measured) String() string {
	return fmt.Sprintf("the metric said %d, then %d more requests; %d stored again", k.exposure, k.arrived, k.again)
}

// judge holds the kill against the bound and against the metric. What arrived
// after the reading may have taken room that the reading did not count.
func (k measured) judge(bound int) error {
	if k.exposure > bound && bound > 0 { // with probe the exposure is what is searched for
		return fmt.Errorf("serbridge_exposure_documents was %d, MAX_REPEATS is %d", k.exposure, bound)
	}
	if most := min(bound, k.exposure+k.arrived); k.again > most {
		return fmt.Errorf("%d documents stored again, at most %d are explained: %v", k.again, most, k)
	}
	return nil
}

// tally sums up kills.
type tally struct{ kills, again, most, said int }

func (t *tally) add(k measured) {
	t.kills++
	t.again += k.again
	t.said += k.exposure
	t.most = max(t.most, k.again)
}

func (t tally) String() string {
	return fmt.Sprintf("%d kills, %d documents stored again in all (the metric said %d), %d by the worst kill", t.kills, t.again, t.said, t.most)
}

// underLoad fails a proof that has proved nothing.
func (t tally) underLoad(probe bool) error {
	if t.again == 0 && !probe || t.said == 0 {
		return errors.New("nothing was stored again at all: nobody was killed under load")
	}
	return nil
}

// killMeasured kills a member, makes the world well again, replaces the member
// and waits until all is settled: what was stored again by then is its.
func (w *world) killMeasured(ctx context.Context, i int, better func()) (k measured, err error) {
	m := w.remove(i)
	w.kills++
	before := w.api.Ledger().Repeats
	k.exposure, err = m.exposure(ctx)
	arrived := w.api.Ledger().Requests[stellartest.KindInsert]
	err = errors.Join(err, m.cmd.Process.Kill())
	<-m.done
	k.arrived = w.api.Ledger().Requests[stellartest.KindInsert] - arrived
	better()
	err = errors.Join(err, w.add(), w.settle(ctx))
	k.again = w.api.Ledger().Repeats - before
	return k, err
}

// proveStuck lets one record hang at the API with all others of its partition
// settled above it, and kills the member while more flow: what was settled is
// not sent again.
func (w *world) proveStuck(ctx context.Context, rng *rand.Rand) error {
	const flow = 2000
	stuck := "" // not the first one that arrives: a member begins with one request at a time
	w.api.Script(func(r stellartest.Request) stellartest.Fault {
		if r.N == 20 {
			stuck = r.DeliveryKey
		}
		if r.DeliveryKey == stuck {
			return stellartest.Hang()
		}
		return stellartest.Fault{}
	})
	w.key = []byte("one partition")
	for w.produced < w.o.records {
		if err := w.produce(ctx, flow); err != nil {
			return err
		}
	}
	settled := w.storable() - 1
	if err := w.stored(ctx, settled); err != nil {
		return err
	}
	if err := errors.Join(w.api.SetFaults(soundDelay), w.produce(ctx, flow)); err != nil {
		return err
	}
	if err := w.stored(ctx, settled+flow/10+rng.IntN(flow/2)); err != nil {
		return err
	}
	k, err := w.killMeasured(ctx, 0, func() { w.api.Script(nil) })
	fmt.Printf("stuck: one record hung, %d settled above it: %v\n", settled, k)
	return errors.Join(err, k.judge(w.o.maxRepeats))
}

// proveExposure stops the world, so that the metric stands still, before it
// kills: every POST is stored and none answered, and the broker answers commits
// or does not. A kill then repeats no more than the metric says; less, where
// documents had room and were not sent yet.
func (w *world) proveExposure(ctx context.Context, rng *rand.Rand) error {
	if err := w.api.SetFaults(soundDelay); err != nil {
		return err
	}
	sum, each := tally{}, w.o.records/w.o.rounds
	for i := range w.o.rounds {
		if err := w.produce(ctx, each); err != nil {
			return err
		}
		if err := w.stored(ctx, w.api.Ledger().Distinct+each/10+rng.IntN(each/2)); err != nil {
			return err
		}
		mood := []string{"answers at once", "answers nothing"}[i%2]
		better := w.worsen(ctx, mood)
		if err := pause.For(ctx, time.Duration(rng.IntN(200))*time.Millisecond); err != nil {
			return err
		}
		w.api.Script(stellartest.Always(stellartest.Hang().Stored()))
		if err := w.members[0].still(ctx); err != nil {
			return err
		}
		k, err := w.killMeasured(ctx, 0, func() { w.api.Script(nil); better() })
		if err != nil {
			return fmt.Errorf("kill %d: %w", i+1, err)
		}
		sum.add(k)
		w.say("kill %d, the broker %s: %v", i+1, mood, k)
		if err := k.judge(w.o.maxRepeats); err != nil {
			return fmt.Errorf("kill %d: %w", i+1, err)
		}
	}
	fmt.Println("exposure:", sum)
	return sum.underLoad(false)
}

// proveCut cuts one member after the other from the broker, by turns with
// broken connections and in silence, for up to two sessions: the others take
// over, and what the one repeats, or they of it, is at most MAX_REPEATS.
func (w *world) proveCut(ctx context.Context, rng *rand.Rand) error {
	if w.valve == nil {
		return errors.New("nothing stands between members and broker: name --proxied, or take the embedded broker")
	}
	if err := w.api.SetFaults(soundDelay); err != nil {
		return err
	}
	sum, worst, each := 0, 0, w.o.records/w.o.rounds
	for i := range w.o.rounds {
		if err := w.flow(ctx, rng, each); err != nil {
			return err
		}
		before, m := w.api.Ledger().Repeats, w.members[rng.IntN(len(w.members))]
		w.kills++
		w.valve.isolate(m.name, i%2 == 1)
		err := w.produceFor(ctx, session/2+time.Duration(rng.Int64N(int64(2*session-session/2))))
		w.valve.heal()
		if err := errors.Join(err, w.settle(ctx)); err != nil {
			return err
		}
		again := w.api.Ledger().Repeats - before
		sum, worst = sum+again, max(worst, again)
		w.say("cut %d of %s, silently: %t: %d stored again", i+1, m.name, i%2 == 1, again)
		if again > w.o.bound() {
			return fmt.Errorf("cut %d: %d documents stored again, MAX_REPEATS is %d", i+1, again, w.o.bound())
		}
	}
	fmt.Printf("cut: %d members cut off, %d documents stored again in all, %d by the worst cut\n", w.o.rounds, sum, worst)
	return nil
}

// proveMembers lets members join and leave, by SIGTERM, while records flow:
// nothing is stored again.
func (w *world) proveMembers(ctx context.Context, rng *rand.Rand) error {
	if err := w.api.SetFaults(soundDelay); err != nil {
		return err
	}
	moves := 0
	for range w.o.rounds {
		for _, move := range []func(context.Context, *rand.Rand) error{w.join, w.join, w.shrink, w.shrink} {
			if err := w.produce(ctx, w.o.records/w.o.rounds/4); err != nil {
				return err
			}
			if err := w.stored(ctx, min(w.storable(), w.api.Ledger().Distinct+rng.IntN(300))); err != nil {
				return err
			}
			if err := move(ctx, rng); err != nil {
				return err
			}
			moves++
		}
		w.say("%d members", len(w.members))
	}
	if err := w.settle(ctx); err != nil {
		return err
	}
	n := w.api.Ledger().Repeats
	fmt.Printf("members: %d joins and SIGTERMs under load, %d documents stored again\n", moves, n)
	if n > 0 {
		return fmt.Errorf("%d documents stored again and nobody was killed", n)
	}
	return nil
}

func (w *world) join(context.Context, *rand.Rand) error { return w.add() }

// stored waits until the API has so many different documents.
func (w *world) stored(ctx context.Context, n int) error {
	ctx, cancel := context.WithTimeout(ctx, settleWait)
	defer cancel()
	if err := w.api.Wait(ctx, func(l stellartest.Ledger) bool { return l.Distinct >= n }); err != nil {
		return fmt.Errorf("%d documents stored after %v, want %d", w.api.Ledger().Distinct, settleWait, n)
	}
	return nil
}

// storable is how many documents the API must have in the end.
func (w *world) storable() (n int) {
	for _, good := range w.wanted {
		if good {
			n++
		}
	}
	return n
}
