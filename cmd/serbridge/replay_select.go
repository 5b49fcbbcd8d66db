package main

import (
	"context"
	"errors"
	"fmt"
	"maps"

	"github.com/twmb/franz-go/pkg/kgo"

	"serbridge/bridge"
	"serbridge/bridge/backfill"
	"serbridge/bridge/deadletter"
	"serbridge/bridge/receipt"
	"serbridge/bridge/secret"
	"serbridge/transform"
	"serbridge/transform/format"
)

// reading is what a record is to the run, with what --filter and --skip-delivered leave out of its documents.
func (r *replay) reading(plan backfill.Plan, k *kgo.Record) bridge.Reading {
	reading := plan.Reading(r.run.ID, k)
	if r.condition == nil && r.delivered == nil {
		return reading
	}
	reading.Select = func(in *transform.Input, result transform.Result) transform.Result {
		if r.condition != nil {
			result = r.condition.Select(in, factsOf(k), result)
		}
		if r.delivered != nil {
			result = r.delivered.Select(in, result)
		}
		return result
	}
	return reading
}

func factsOf(k *kgo.Record) format.Facts {
	f := format.Facts{Key: k.Key, Headers: make(map[string]string, len(k.Headers))}
	for _, h := range k.Headers {
		if _, is := f.Headers[h.Key]; !is {
			f.Headers[h.Key] = string(h.Value)
		}
	}
	return f
}

// compile reads --filter.
func (r *replay) compile() (err error) {
	if r.filter != "" {
		if r.condition, err = format.NewFilter(r.filter); err != nil {
			return fmt.Errorf("--filter: %w", err)
		}
	}
	return nil
}

// destination is where documents go, and as whom; false: a dry run does not know it, which needs no settings of it.
func (r *replay) destination() (host, user string, known bool) {
	s := r.settings.Stellar
	if !r.sends() {
		environ := maps.Clone(r.environ)
		environ["KAFKA_TOPICS"] = "any"
		all, err := loadSettings(environ, new(secret.Redactor))
		if err != nil {
			return "", "", false
		}
		s = all.Stellar
	}
	if s.User != nil {
		user, _ = s.User() // as a receipt without one says
	}
	return s.host(), user, true
}

// readDelivered reads what receipts say is there, unless that is not asked for: an export to a file leaves nothing out.
func (r *replay) readDelivered(ctx context.Context, plan backfill.Plan) error {
	topic, asked := r.settings.Receipts.Topic, r.flags.Changed("skip-delivered")
	if !r.skipDelivered || r.output != toInsert || topic == "" && !asked {
		return nil
	}
	host, user, known := r.destination()
	switch {
	case topic == "":
		return usageError{errors.New("--skip-delivered wants receipts: set RECEIPTS_TOPIC")}
	case !known && asked:
		return usageError{errors.New("--skip-delivered wants to know the destination: set STELLAR_URL and the like")}
	case !known:
		r.show.say("what is delivered already is not left out of this dry run: the settings of Stellar Cyber are missing")
		return nil
	}
	options, err := r.kafkaOptions()
	if err != nil {
		return usageError{err}
	}
	asking, cancel := planning(ctx)
	defer cancel()
	since, err := backfill.Oldest(asking, r.admin, plan)
	if err != nil {
		return r.explain(asking, err)
	}
	if !since.IsZero() {
		since = since.Add(-receiptsBefore)
	}
	receipts, err := receipt.OpenReader(ctx, options, topic, since)
	switch {
	case errors.Is(err, deadletter.ErrNoTopic) && !asked:
		r.show.say("there are no receipts (%s), so nothing is left out as delivered already", topic)
		return nil
	case err != nil:
		return fmt.Errorf("read receipts: %w", err)
	}
	defer receipts.Close()
	progress := r.newReading("reading receipts", receipts.Offsets())
	receipts.OnProgress = progress.add
	r.delivered, err = backfill.ReadDelivered(ctx, receipts, plan, host, user)
	progress.end()
	if err != nil {
		return fmt.Errorf("read receipts: %w", err)
	}
	if n := r.delivered.Records(); n > 0 {
		r.show.say("%d records of the range have receipts of documents that %s took from %s: what today's mapping makes of them alike is left out (--skip-delivered=false sends it again)",
			n, host, user)
	}
	return nil
}
