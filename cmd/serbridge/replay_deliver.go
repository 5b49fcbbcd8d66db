package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"serbridge/bridge"
	"serbridge/bridge/backfill"
	"serbridge/transform"
)

// deliver runs the bridge over the plan until the whole run is complete, ctx ends, or a topic is gone.
func (r *replay) deliver(ctx context.Context, plan backfill.Plan) error {
	ledger := new(backfill.Ledger)
	yield := &backfill.Yield{Admin: r.admin, Group: r.run.Live, Patience: yieldPatience, Say: r.show.yields}
	s := r.settings
	s.Kafka.Group, s.Kafka.Topics = r.run.Group(), r.topics
	v, err := newService(s, r.show.log, r.redactor, func(c *bridge.Config) { r.configure(c, plan, ledger, yield) })
	if err != nil {
		return usageError{err}
	}
	defer v.close()
	watch := &replayWatch{replay: r, plan: plan, ledger: ledger, health: v.health.Reasons}
	err = r.runWatched(ctx, v, watch, yield)
	return r.end(ctx, v, watch, err)
}

// configure makes a run of the bridge out of what is the service otherwise.
func (r *replay) configure(c *bridge.Config, plan backfill.Plan, ledger *backfill.Ledger, yield *backfill.Yield) {
	c.Bounded = true
	c.Read = func(k *kgo.Record) bridge.Reading { return plan.Reading(r.run.ID, k) }
	c.Ended = also(c.Ended, ledger.Ended)
	if r.yield {
		c.Begin = yield.Begin
	}
	settings := r.transformSettings()
	c.Transform = func(string) *transform.Settings { return settings }
}

// also tells first, if there is one, and then second, once first has taken it in.
func also(first, second func(context.Context, bridge.Outcome) error) func(context.Context, bridge.Outcome) error {
	if first == nil {
		return second
	}
	return func(ctx context.Context, o bridge.Outcome) error {
		if err := first(ctx, o); err != nil {
			return err
		}
		return second(ctx, o)
	}
}

// transformSettings are those of `run`, with the status that was asked for.
func (r *replay) transformSettings() *transform.Settings {
	settings := r.settings.Transform.config()
	if r.status != asMapped {
		settings.ForcedStatus = r.status
	}
	return settings
}

// runWatched runs the bridge, with what watches over the run beside it; all of it has ended when it returns.
func (r *replay) runWatched(ctx context.Context, v *service, w *replayWatch, y *backfill.Yield) error {
	ctx, stop := context.WithCancelCause(ctx)
	beside, end := context.WithCancel(context.WithoutCancel(ctx))
	var all sync.WaitGroup
	all.Go(func() { w.watch(beside, stop) })
	if r.yield {
		all.Go(func() { y.Watch(beside) })
	}
	err := v.runBridge(ctx)
	end()
	all.Wait()
	stop(nil)
	if cause := context.Cause(ctx); errors.Is(cause, errTopicGone) {
		return errors.Join(err, cause)
	}
	return err
}

// end tells how far the run is.
func (r *replay) end(ctx context.Context, v *service, w *replayWatch, err error) error {
	look, cancel := context.WithTimeout(context.WithoutCancel(ctx), planWithin)
	defer cancel()
	plan, lookErr := r.run.Progress(look, w.plan)
	counts := w.ledger.Counts()
	counts.Repeats += int(counted(v.registry, "serbridge_abandoned_total") + counted(v.registry, "serbridge_late_answers_total"))
	l := replayLedger{Run: r.run.ID, Complete: plan.Complete() && lookErr == nil, Left: plan.Left(), Resumed: r.resumed, Counts: counts,
		LostToRetention: int64(counted(v.registry, "serbridge_lost_to_retention_total")), Seconds: time.Since(r.show.begun).Seconds()}
	r.show.ledger(l)
	switch {
	case err != nil:
		return fmt.Errorf("replay run %s: %w", r.run.ID, err)
	case l.Complete:
		return nil
	case lookErr != nil:
		return fmt.Errorf("see how far run %s is: %w; to go on: %s", r.run.ID, lookErr, r.resumeCommand())
	}
	return fmt.Errorf("replay run %s was interrupted, %d offsets are left; to go on: %s", r.run.ID, l.Left, r.resumeCommand())
}

// replayWatch looks at a run from outside: how far it is, and whether its topics are still there.
type replayWatch struct {
	*replay
	plan   backfill.Plan
	ledger *backfill.Ledger
	health func() []string

	ids  map[string]kadm.TopicID
	gone map[string]int // looks in a row that have not found the topic
}

const (
	watchRunEvery = time.Second
	topicsEvery   = 5 // looks at the run for each at its topics
	goneAfter     = 3 // looks: a broker that has just come back may not know a topic yet
)

var errTopicGone = errors.New("topic was deleted or replaced")

// watch ends with ctx; stop ends the run.
func (w *replayWatch) watch(ctx context.Context, stop context.CancelCauseFunc) {
	tick := time.NewTicker(watchRunEvery)
	defer tick.Stop()
	w.ids, w.gone = make(map[string]kadm.TopicID), make(map[string]int)
	for n := 0; ; n++ {
		w.look(ctx)
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
func (w *replayWatch) look(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, 5*watchRunEvery)
	defer cancel()
	if plan, err := w.run.Progress(ctx, w.plan); err == nil {
		w.plan = plan
		w.show.progress(plan, w.ledger.Counts(), w.health())
	}
}

func (w *replayWatch) lookAtTopics(ctx context.Context) error {
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
