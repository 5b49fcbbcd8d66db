package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"

	"serbridge/bridge"
	"serbridge/bridge/backfill"
)

// drive is what makes a run of the bridge.
type drive struct {
	plan      backfill.Plan
	configure func(*bridge.Config)
	beside    []func(context.Context)                      // run as long as the bridge does
	begun     func(stop context.CancelCauseFunc)           // is told how to end the run; may be nil
	counted   func() (words string, fields map[string]any) // what this process has counted, for the progress
}

// ending is how a process of a run has ended.
type ending struct {
	Run             string  `json:"run"`
	Complete        bool    `json:"complete"` // the run, not only this process's part
	Left            int64   `json:"left"`     // offsets
	Resumed         bool    `json:"resumed"`
	LostToRetention int64   `json:"lost_to_retention"`
	Seconds         float64 `json:"seconds"`

	doubts  int   // documents whose answers came too late to count
	err     error // that ended it
	lookErr error // why it is not known whether the run is complete
}

// drive runs the bridge over the plan until the whole run is complete, ctx ends, or a topic is gone. The error is of the
// configuration.
func (r *boundedRun) drive(ctx context.Context, d drive) (ending, error) {
	s := r.settings
	s.Kafka.Group, s.Kafka.Topics = r.run.Group, r.topics
	first, end := agreement{run: r}, context.CancelCauseFunc(nil)
	begun := d.begun
	d.begun = func(stop context.CancelCauseFunc) {
		end = stop
		if begun != nil {
			begun(stop)
		}
	}
	v, err := newService(s, r.show.log, r.redactor, func(c *bridge.Config) {
		c.Bounded = true
		d.configure(c)
		then := c.Begin
		c.Begin = func(ctx context.Context) error {
			if err := first.begin(ctx, d.plan, end); err != nil || then == nil {
				return err
			}
			return then(ctx)
		}
	})
	if err != nil {
		return ending{}, usageError{err}
	}
	defer v.close()
	w := &runWatch{boundedRun: r, plan: d.plan, counted: d.counted, health: v.health.Reasons}
	err = r.runWatched(ctx, v, w, d)
	return r.end(ctx, v, w.plan, err), nil
}

// runWatched runs the bridge, with what watches over the run beside it; all of it has ended when it returns.
func (r *boundedRun) runWatched(ctx context.Context, v *service, w *runWatch, d drive) error {
	ctx, stop := context.WithCancelCause(ctx)
	beside, end := context.WithCancel(context.WithoutCancel(ctx))
	if d.begun != nil {
		d.begun(stop)
	}
	var all sync.WaitGroup
	all.Go(func() { w.watch(beside, stop) })
	for _, f := range d.beside {
		all.Go(func() { f(beside) })
	}
	err := v.runBridge(ctx)
	end()
	all.Wait()
	stop(nil)
	if cause := context.Cause(ctx); errors.Is(cause, errTopicGone) || errors.Is(cause, errOtherRun) || errors.Is(cause, errOtherwise) || errors.Is(cause, errStalled) {
		return errors.Join(err, cause)
	}
	return err
}

// end looks how far the run is.
func (r *boundedRun) end(ctx context.Context, v *service, plan backfill.Plan, err error) ending {
	look, cancel := context.WithTimeout(context.WithoutCancel(ctx), planWithin)
	defer cancel()
	plan, lookErr := r.run.Progress(look, plan)
	r.show.endBar()
	return ending{Run: r.run.ID, Complete: plan.Complete() && lookErr == nil, Left: plan.Left(), Resumed: r.resumed,
		LostToRetention: int64(counted(v.registry, "serbridge_lost_to_retention_total")), Seconds: time.Since(r.show.begun).Seconds(),
		doubts: int(counted(v.registry, "serbridge_abandoned_total") + counted(v.registry, "serbridge_late_answers_total")),
		err:    err, lookErr: lookErr}
}

// conclude is what the command ends with: nil only if the run is complete.
func (r *boundedRun) conclude(e ending) error {
	switch {
	case errors.Is(e.err, errStalled):
		return fmt.Errorf("%s run %s: %w; what is left stays as it is; to go on: %s", r.name, r.run.ID, e.err, r.resumeCommand())
	case e.err != nil:
		return fmt.Errorf("%s run %s: %w", r.name, r.run.ID, e.err)
	case e.Complete:
		return nil
	case e.lookErr != nil:
		return fmt.Errorf("see how far run %s is: %w; to go on: %s", r.run.ID, e.lookErr, r.resumeCommand())
	}
	return fmt.Errorf("%s run %s was interrupted, %d offsets are left; to go on: %s", r.name, r.run.ID, e.Left, r.resumeCommand())
}

// runWatch looks at a run from outside: how far it is, and whether its topics are still there.
type runWatch struct {
	*boundedRun
	plan    backfill.Plan
	counted func() (words string, fields map[string]any)
	health  func() []string

	left  int64     // when something was settled last
	moved time.Time // and that time

	ids  map[string]kadm.TopicID
	gone map[string]int // looks in a row that have not found the topic
}

const (
	watchRunEvery = time.Second
	topicsEvery   = 5 // looks at the run for each at its topics
	goneAfter     = 3 // looks: a broker that has just come back may not know a topic yet
)

// Why a run ends before its time, by itself.
var (
	errTopicGone = errors.New("topic was deleted or replaced")
	errOtherRun  = errors.New("another run is active")
	errStalled   = errors.New("nothing is settled any more")
)

// watch ends with ctx; stop ends the run.
func (w *runWatch) watch(ctx context.Context, stop context.CancelCauseFunc) {
	tick := time.NewTicker(watchRunEvery)
	defer tick.Stop()
	w.ids, w.gone = make(map[string]kadm.TopicID), make(map[string]int)
	for n := 0; ; n++ {
		w.look(ctx)
		if err := w.stalled(time.Now()); err != nil {
			stop(err)
		}
		if n%topicsEvery == 0 {
			if err := w.lookAtTopics(ctx); err != nil {
				stop(err)
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// look shows how far the run is; what cannot be read now is read the next time.
func (w *runWatch) look(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, 5*watchRunEvery)
	defer cancel()
	plan, err := w.run.Progress(ctx, w.plan)
	if err != nil {
		w.moved = time.Now() // nobody knows
		return
	}
	w.plan = plan
	words, fields := w.counted()
	w.show.progress(plan, words, fields, w.health())
}

// stalled says that the run, all of its processes together, has settled nothing for as long as it may. What is left then
// fails, and nothing is delivered that it could be compared with, or the platform is away.
func (w *runWatch) stalled(now time.Time) error {
	left := w.plan.Left()
	if w.moved.IsZero() || left != w.left || w.held.Load() {
		w.left, w.moved = left, now
	}
	if w.patience == 0 || now.Sub(w.moved) < w.patience {
		return nil
	}
	why := ""
	if reasons := w.health(); len(reasons) > 0 {
		why = ": " + strings.Join(reasons, "; ")
	}
	return fmt.Errorf("%w: %d offsets are left after %s without any progress%s", errStalled, left, w.patience, why)
}

func (w *runWatch) lookAtTopics(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 5*watchRunEvery)
	defer cancel()
	// Asking for our rights goes past the client's cache.
	found, err := w.admin.ListTopics(kadm.WithAuthorizedOps(ctx), w.topics...)
	if err != nil {
		return nil
	}
	for _, topic := range w.topics {
		t := found[topic]
		if !errors.Is(t.Err, kerr.UnknownTopicOrPartition) && t.Err == nil {
			w.gone[topic] = 0
			if first, seen := w.ids[topic]; seen && first != t.ID {
				return fmt.Errorf("%w: %s is another one by now, and what is left of the range went with the first", errTopicGone, topic)
			}
			w.ids[topic] = t.ID
		} else if w.gone[topic]++; w.gone[topic] >= goneAfter {
			return fmt.Errorf("%w: %s is not there any more, nor what was left of its range", errTopicGone, topic)
		}
	}
	return nil
}
