package main

import (
	"context"
	"fmt"
	"time"

	"serbridge/bridge/backfill"
	"serbridge/bridge/deadletter"
	"serbridge/transform"
)

// sayPlan says what is going to be done, or why there is nothing to do.
func (r *redrive) sayPlan(p backfill.Plan) {
	r.show.event("plan", map[string]any{"resumed": r.resumed, "complete": r.resumed && p.Complete(), "offsets": p.Total(), "left": p.Left(),
		"partitions": partitionPlans(p)})
	switch {
	case r.resumed && p.Complete():
		r.show.say("run %s is complete: all of its %d offsets are settled, nothing is left to do", r.run.ID, p.Total())
	case r.resumed:
		r.show.say("run %s goes on: %d of %d offsets are left", r.run.ID, p.Left(), p.Total())
	case p.Complete():
		r.show.say("nothing to redrive: %s holds no letters where these are meant", r.settings.DLQ.Topic)
	default:
		r.show.say("run %s: %d offsets of %s in %d partitions%s", r.run.ID, p.Total(), r.settings.DLQ.Topic, len(partitionPlans(p)), r.whither())
	}
	if r.verbose {
		r.show.plan(p)
	}
}

// whither says where the records go, if not to the platform.
func (r *redrive) whither() string {
	if r.toTopic() == "" {
		return ""
	}
	return ", to topic " + r.toTopic() + ", and so to every group that reads it"
}

// redriveLedger is what a process says at its end: what became of the letters, and for the record who wanted that.
type redriveLedger struct {
	ending
	backfill.RedriveCounts
	To      string `json:"to"`
	By      string `json:"by"`
	Command string `json:"command"`
}

func (r *redrive) sayLedger(e ending) {
	l := redriveLedger{ending: e, RedriveCounts: r.job.Counts(), To: r.to, By: r.job.By, Command: r.job.Because}
	l.Repeats += e.doubts
	r.show.log.Info("redrive has ended", "run", l.Run, "to", l.To, "by", l.By, "command", l.Command, "complete", l.Complete, "taken", l.Taken, "redriven", l.Redriven,
		"failed_again", l.Failed(), "discarded", l.Discarded, "parked", l.Parked, "left_out", l.LeftOut)
	r.show.event("ledger", l)
	if r.json {
		return
	}
	w := r.stdout
	fmt.Fprintf(w, "run %s, this process, %.1f s\n", l.Run, l.Seconds)
	printCount(w, "letters taken", l.Taken)
	if to := r.toTopic(); to != "" {
		printCount(w, "  produced to the topic", l.Redriven)
	} else {
		printCount(w, "  redriven", l.Redriven)
		printCount(w, "  no detection by now", l.Discarded)
		printCount(w, "  failed again", l.Failed())
		printReasons(w, l.FailedAgain)
	}
	printCount(w, "parked, not taken", l.Parked)
	printCount(w, "left out", total(l.LeftOut))
	printReasons(w, l.LeftOut)
	if r.toTopic() == "" {
		printCount(w, "documents delivered", l.Documents)
	}
	if l.LostToRetention > 0 {
		printCount(w, "offsets lost to retention", int(l.LostToRetention))
	}
	printCount(w, "repeats possible", l.Repeats)
	switch {
	case !l.Resumed:
	case r.toTopic() != "":
		fmt.Fprintf(w, "  and at most %d records for each process of the run that was killed\n", r.settings.Delivery.MaxInFlight)
	case r.settings.Delivery.OnAmbiguous != "probe":
		fmt.Fprintf(w, "  and %s for each process of the run that was killed\n", mostRepeats(r.settings.Delivery.MaxRepeats))
	}
	if l.Complete {
		fmt.Fprintln(w, "the run is complete")
		return
	}
	fmt.Fprintf(w, "the run is not complete: %d offsets are left\n", l.Left)
}

func total(by map[string]int) (n int) {
	for _, m := range by {
		n += m
	}
	return n
}

// rehearsal is what a dry run says.
type rehearsal struct {
	To      string         `json:"to"`
	Letters int            `json:"letters"` // that would be taken
	Reasons map[string]int `json:"reasons"` // why they were given up
	Parked  int            `json:"parked"`  // would be
	LeftOut map[string]int `json:"left_out"`
	Found   findings       `json:"found"`
	Rate    float64        `json:"rate"`
	Seconds float64        `json:"seconds_at_the_rate"`
}

// rehearse is --dry-run. The letters that are not selected are not read to their end, and not counted.
func (r *redrive) rehearse(ctx context.Context) error {
	h := rehearsal{To: r.to, Reasons: make(map[string]int), LeftOut: make(map[string]int), Found: newFindings(), Rate: r.settings.Delivery.RateLimit}
	meta, err := r.admin.BrokerMetadata(ctx)
	if err != nil {
		return r.box.fault("rehearse redrive", err)
	}
	settings := r.settings.byTopic(withStatus(r.status))
	progress := r.newReading("reading dead letters", r.job.Letters.Offsets())
	r.job.Letters.OnProgress = progress.add
	err = r.job.Each(ctx, func(e *deadletter.Entry, skip transform.SkipReason) (bool, error) {
		result, err := r.settings.Registry.reading(ctx, func() transform.Result {
			if skip != "" {
				return transform.Result{Skip: skip}
			}
			return r.job.ReadingOf(e, skip).Transform(r.input(e, meta.Cluster, settings))
		})
		if err != nil {
			return false, err
		}
		h.letter(e, skip, result)
		return r.meant.max == 0 || h.Letters < r.meant.max, nil
	})
	progress.end()
	if err != nil {
		return r.box.fault("rehearse redrive", err)
	}
	r.sayRehearsal(h)
	return nil
}

func (r *redrive) input(e *deadletter.Entry, cluster string, settings func(topic string) *transform.Settings) transform.Input {
	in := r.job.ReadingOf(e, "").Input
	in.Now, in.ClusterID, in.Settings = time.Now(), cluster, settings(in.Topic)
	return in
}

func (h *rehearsal) letter(e *deadletter.Entry, skip transform.SkipReason, result transform.Result) {
	switch {
	case skip == backfill.MostRedrives:
		h.Parked++
	case skip != "" || result.Skip == backfill.OneOfSeveral:
		h.LeftOut[string(result.Skip)]++
	default:
		h.take(e, result)
	}
}

func (h *rehearsal) take(e *deadletter.Entry, result transform.Result) {
	h.Letters++
	reason := brief(e.Reason())
	if _, known := h.Reasons[reason]; !known && len(h.Reasons) >= talliesMax {
		reason = others
	}
	h.Reasons[reason]++
	h.Found.record(e.Record)
	_ = h.Found.result(result, func(*transform.Document) error { return nil })
}

func (r *redrive) sayRehearsal(h rehearsal) {
	sends := h.Found.Documents
	if r.toTopic() != "" {
		sends = h.Letters
	}
	h.Seconds = eta(int64(sends), h.Rate).Seconds()
	r.show.event("findings", h)
	if r.json {
		return
	}
	w := r.stdout
	printCount(w, "letters to redrive", h.Letters)
	printReasons(w, h.Reasons)
	printCount(w, "to park, not to redrive", h.Parked)
	printCount(w, "left out", total(h.LeftOut))
	printReasons(w, h.LeftOut)
	if to := r.toTopic(); to != "" {
		fmt.Fprintf(w, "%-26s %9s at %g records per second, to topic %s\n", "takes at least", eta(int64(sends), h.Rate), h.Rate, to)
	} else {
		h.Found.print(w, h.Rate)
	}
	if h.Rate == 0 || r.toTopic() != "" {
		fmt.Fprintln(w, "nothing was sent or committed")
	}
}
