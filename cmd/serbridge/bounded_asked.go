package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"serbridge/bridge/backfill"
	"serbridge/bridge/pause"
)

// pin is a flag that has to be the same in every process of a run, and after a resumption: it rules what is delivered, and
// a run of which one half was filtered by another condition is neither's.
type pin struct {
	flag  string // empty: the arguments
	begun bool   // it rules only how a run begins: who joins without it means what stands
}

// value is what this process has of it.
func (r *boundedRun) value(p pin) string {
	if p.flag == "" {
		return strings.Join(r.words, " ")
	}
	return r.flags.Lookup(p.flag).Value.String()
}

// asked is what this process asks for.
func (r *boundedRun) asked() (a backfill.Asked) {
	for _, p := range r.pins {
		a.Add(r.value(p))
	}
	return a
}

var errOtherwise = errors.New("run was begun with other flags")

// agree refuses to take part in a run that was begun with other flags and is not complete.
func (r *boundedRun) agree(p backfill.Plan) error {
	if p.Complete() {
		return nil
	}
	var flags []string
	for _, i := range r.asked().Differ(p.Asked) {
		switch pin := r.pins[i]; {
		case pin.flag == "":
			flags = append(flags, "the letters that are named")
		case !pin.begun || r.flags.Changed(pin.flag):
			flags = append(flags, "--"+pin.flag)
		}
	}
	if len(flags) == 0 {
		return nil
	}
	return usageError{fmt.Errorf("take part in run %s: %w: it has another value of %s. Every process of a run, and whoever goes on with it, wants "+
		"the same: give what began it, or begin another run (another --run-id)", r.run.ID, errOtherwise, strings.Join(flags, ", "))}
}

// agreement lets a process begin records only once it is known that the run is what it was asked for. It looks when the
// run has members: from then on Kafka takes bounds from nobody else.
type agreement struct {
	run *boundedRun

	mu     sync.Mutex
	agreed bool
}

const agreeAgain = time.Second

// begin waits until that is known, or ends the run. A broker that does not answer holds it.
func (a *agreement) begin(ctx context.Context, plan backfill.Plan, stop context.CancelCauseFunc) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	for !a.agreed {
		look, cancel := context.WithTimeout(ctx, planWithin)
		now, err := a.run.run.Progress(look, plan)
		cancel()
		if err == nil {
			if err := a.run.agree(now); err != nil {
				stop(err)
				<-ctx.Done()
				return context.Cause(ctx)
			}
			a.agreed = true
			return nil
		}
		if err := pause.For(ctx, agreeAgain); err != nil {
			return err
		}
	}
	return nil
}
