package main

import (
	"fmt"
	"io"
	"time"

	"serbridge/bridge/backfill"
)

// sayPlan says what is going to be done, or why there is nothing to do.
func (r *replay) sayPlan(p backfill.Plan) {
	plan := map[string]any{"resumed": r.resumed, "complete": r.resumed && p.Complete(), "offsets": p.Total(), "left": p.Left(),
		"unsettled": p.Unsettled(), "partitions": partitionPlans(p)}
	if !p.Until.IsZero() {
		plan["until"] = p.Until
	}
	r.show.event("plan", plan)
	id := r.run.ID
	switch {
	case r.resumed && p.Complete():
		r.show.say("run %s is complete: all of its %d offsets are settled, nothing is left to do", id, p.Total())
	case r.resumed:
		r.show.say("run %s goes on: %d of %d offsets are left", id, p.Left(), p.Total())
	case p.Complete() && p.Unsettled() > 0:
		r.show.say("nothing to replay: group %s has settled none of the %d offsets in the range and delivers them itself; --include-unsettled takes them too",
			r.settings.Kafka.Group, p.Unsettled())
	case p.Complete():
		r.show.say("nothing to replay: the range holds no offsets")
	default:
		r.show.say("run %s: %d offsets in %d partitions%s", id, p.Total(), len(partitionPlans(p)), untilText(p))
	}
	if n := p.Unsettled(); n > 0 && !p.Complete() {
		r.show.say("%d offsets are left out: group %s has not settled them and delivers them itself", n, r.settings.Kafka.Group)
	}
	if r.verbose {
		r.show.plan(p)
	}
}

func untilText(p backfill.Plan) string {
	if p.Until.IsZero() {
		return ""
	}
	return ", records before " + p.Until.UTC().Format(time.RFC3339)
}

// replayLedger is what a process says at its end.
type replayLedger struct {
	ending
	backfill.Counts
}

// sayLedger says what became of the records.
func (r *replay) sayLedger(l replayLedger) {
	r.show.event("ledger", l)
	if r.json {
		return
	}
	w := r.stdout
	fmt.Fprintf(w, "run %s, this process, %.1f s\n", l.Run, l.Seconds)
	printCount(w, "records read", l.Records)
	printCount(w, "documents delivered", l.Delivered)
	printCount(w, "dead-lettered", l.Rejects())
	printReasons(w, l.DeadLettered)
	printCount(w, "skipped", l.Skips())
	printReasons(w, l.Skipped)
	if l.LostToRetention > 0 {
		printCount(w, "offsets lost to retention", int(l.LostToRetention))
	}
	printCount(w, "repeats possible", l.Repeats)
	if l.Resumed && r.settings.Delivery.OnAmbiguous != "probe" {
		fmt.Fprintf(w, "  and %s for each process of the run that was killed\n", mostRepeats(r.settings.Delivery.MaxRepeats))
	}
	if l.Complete {
		fmt.Fprintln(w, "the run is complete")
		return
	}
	fmt.Fprintf(w, "the run is not complete: %d offsets are left\n", l.Left)
}

// sayFindings says what a dry run or an export has found. rate is that of requests; 0: none are made.
func (r *replay) sayFindings(f findings, rate float64) {
	r.show.event("findings", map[string]any{"found": f, "rate": rate, "seconds_at_the_rate": eta(int64(f.Documents), rate).Seconds()})
	if r.json {
		return
	}
	w := r.stdout
	if r.output == "-" {
		w = r.stderr
	}
	printCount(w, "records", f.Records)
	f.print(w, rate)
}

// print says what was found beside the number of records.
func (f findings) print(w io.Writer, rate float64) {
	printCount(w, "bytes", int(f.Bytes))
	if !f.First.IsZero() {
		fmt.Fprintf(w, "%-26s %s to %s\n", "timestamps", f.First.UTC().Format(time.RFC3339), f.Last.UTC().Format(time.RFC3339))
	}
	for _, part := range []struct {
		name string
		by   map[string]int
	}{{"formats", f.Formats}, {"rejected", f.Rejected}, {"skipped", f.Skipped}} {
		total := 0
		for _, n := range part.by {
			total += n
		}
		printCount(w, part.name, total)
		printReasons(w, part.by)
	}
	printCount(w, "documents", f.Documents)
	if rate > 0 {
		fmt.Fprintf(w, "%-26s %9s at %g requests per second\nnothing was sent or committed\n", "takes at least", eta(int64(f.Documents), rate), rate)
	}
}
