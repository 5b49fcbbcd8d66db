package main

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/twmb/franz-go/pkg/kgo"

	"serbridge/bridge"
	"serbridge/bridge/backfill"
	"serbridge/transform"
)

// deliver runs the bridge over the plan until the whole run is complete, ctx ends, or a topic is gone.
func (r *replay) deliver(ctx context.Context, plan backfill.Plan) error {
	ledger := new(backfill.Ledger)
	yield := &backfill.Yield{Admin: r.admin, Group: r.settings.Kafka.Group, Patience: yieldPatience, Say: r.sayYields}
	d := drive{plan: plan, configure: func(c *bridge.Config) { r.configure(c, plan, ledger, yield) }, counted: func() (string, map[string]any) {
		n := ledger.Counts().Rejects()
		return fmt.Sprintf("%d rejects", n), map[string]any{"rejects": n}
	}}
	r.show.note("", map[string]any{"yields": false})
	if r.yield {
		d.beside = append(d.beside, yield.Watch)
	}
	e, err := r.drive(ctx, d)
	if err != nil {
		return err
	}
	counts := ledger.Counts()
	counts.Repeats += e.doubts
	r.sayLedger(replayLedger{ending: e, Counts: counts})
	return r.conclude(e)
}

// configure makes a run of the bridge out of what is the service otherwise.
func (r *replay) configure(c *bridge.Config, plan backfill.Plan, ledger *backfill.Ledger, yield *backfill.Yield) {
	c.Read = func(k *kgo.Record) bridge.Reading { return r.reading(plan, k) }
	c.Ended = also(c.Ended, ledger.Ended)
	if r.yield {
		c.Begin = yield.Begin
	}
	c.Transform = r.transformSettings()
}

// also tells first, and then second, once first has taken it in; either may be nil. Both are told again when second has not.
func also(first, second func(context.Context, bridge.Outcome) error) func(context.Context, bridge.Outcome) error {
	if first == nil || second == nil {
		if first == nil {
			return second
		}
		return first
	}
	return func(ctx context.Context, o bridge.Outcome) error {
		if err := first(ctx, o); err != nil {
			return err
		}
		return second(ctx, o)
	}
}

// transformSettings are those of `run`, with the status that was asked for.
func (r *replay) transformSettings() func(topic string) *transform.Settings {
	return r.settings.byTopic(withStatus(r.status))
}

// withStatus has every document arrive as the status that was asked for.
func withStatus(status string) func(*transform.Settings) {
	return func(s *transform.Settings) {
		if status != asMapped {
			s.ForcedStatus = status
		}
	}
}

func checkEventStatus(flag, status string) error {
	if !slices.Contains([]string{"", "Closed", "Ignored", asMapped}, status) {
		return errors.New(flag + " wants Closed, Ignored or as-mapped")
	}
	return nil
}
