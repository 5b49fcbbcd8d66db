package main

import (
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"serbridge/bridge/backfill"
)

// replayShow tells how a run goes: a bar on a terminal, a plain line now and then elsewhere, or JSON lines. Progress goes
// to standard error, what a script would read to standard output.
type replayShow struct {
	r     *replay
	log   *slog.Logger
	begun time.Time

	mu       sync.Mutex
	bar      bool // a bar stands on the terminal
	last     time.Time
	speed    speed
	yielding bool
}

func newReplayShow(r *replay) *replayShow {
	s := &replayShow{r: r, begun: time.Now(), last: time.Now()}
	s.log = newLogger(overBar{s}, r.settings.Process, r.stderrIsTerminal, r.redactor)
	return s
}

// overBar writes log lines where the bar stood.
type overBar struct{ s *replayShow }

func (o overBar) Write(b []byte) (int, error) {
	o.s.mu.Lock()
	defer o.s.mu.Unlock()
	o.s.clear()
	return o.s.r.stderr.Write(b)
}

const (
	barEvery  = time.Second
	lineEvery = 10 * time.Second
	jsonEvery = time.Second
)

// clear takes the bar away. Called with mu held.
func (s *replayShow) clear() {
	if s.bar {
		fmt.Fprint(s.r.stderr, "\r\x1b[K")
		s.bar = false
	}
}

// say writes a line for a person; with --json there is nobody.
func (s *replayShow) say(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.r.json {
		return
	}
	s.clear()
	fmt.Fprintln(s.r.stderr, escape(fmt.Sprintf(format, args...)))
}

// event writes a JSON line, if they are wanted.
func (s *replayShow) event(kind string, of any) {
	if !s.r.json {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	_ = json.NewEncoder(s.r.stdout).Encode(map[string]any{"type": kind, "run": s.r.run.ID, kind: of})
}

// due reports whether it is time to show progress again, and that it is shown now. Called with mu held.
func (s *replayShow) due() bool {
	every := lineEvery
	switch {
	case s.r.json:
		every = jsonEvery
	case s.r.stderrIsTerminal:
		every = barEvery
	}
	now := time.Now()
	if now.Sub(s.last) < every-every/10 {
		return false
	}
	s.last = now
	return true
}

// partitionPlan is one partition in JSON.
type partitionPlan struct {
	Topic     string `json:"topic"`
	Partition int32  `json:"partition"`
	Start     int64  `json:"start"`
	At        int64  `json:"at"`
	End       int64  `json:"end"`
	Left      int64  `json:"left"`
}

func partitionPlans(p backfill.Plan) (all []partitionPlan) {
	for _, r := range p.Ranges {
		if r.Total() > 0 {
			all = append(all, partitionPlan{r.Topic, r.Partition, r.Start, r.At, r.End, r.Left()})
		}
	}
	return all
}

// plan says what is going to be done, or why there is nothing to do.
func (s *replayShow) plan(p backfill.Plan) {
	s.event("plan", map[string]any{"resumed": s.r.resumed, "complete": s.r.resumed && p.Complete(), "offsets": p.Total(), "left": p.Left(),
		"unsettled": p.Unsettled(), "until": p.Until, "partitions": partitionPlans(p)})
	id := s.r.run.ID
	switch {
	case s.r.resumed && p.Complete():
		s.say("run %s is complete: all of its %d offsets are settled, nothing is left to do", id, p.Total())
	case s.r.resumed:
		s.say("run %s goes on: %d of %d offsets are left", id, p.Left(), p.Total())
	case p.Complete() && p.Unsettled() > 0:
		s.say("nothing to replay: group %s has settled none of the %d offsets in the range and delivers them itself; --include-unsettled takes them too",
			s.r.run.Live, p.Unsettled())
	case p.Complete():
		s.say("nothing to replay: the range holds no offsets")
	default:
		s.say("run %s: %d offsets in %d partitions%s", id, p.Total(), len(partitionPlans(p)), untilText(p))
	}
	if n := p.Unsettled(); n > 0 && !p.Complete() {
		s.say("%d offsets are left out: group %s has not settled them and delivers them itself", n, s.r.run.Live)
	}
	if s.r.verbose {
		s.partitions(p)
	}
}

func untilText(p backfill.Plan) string {
	if p.Until.IsZero() {
		return ""
	}
	return ", records before " + p.Until.UTC().Format(time.RFC3339)
}

func (s *replayShow) partitions(p backfill.Plan) {
	for _, r := range p.Ranges {
		if r.Total() > 0 {
			s.say("  %-30s %12d of %12d, at offset %d of %d", r.Place, r.Total()-r.Left(), r.Total(), r.At, r.End)
		}
	}
}

// yields says that the run stops for the live group, or goes on.
func (s *replayShow) yields(held bool, behind string) {
	s.event("yield", map[string]any{"held": held, "behind": behind})
	s.mu.Lock()
	s.yielding = held
	s.mu.Unlock()
	if held {
		s.say("the replay stops: group %s is behind, %s", s.r.run.Live, behind)
		return
	}
	s.say("the replay goes on: group %s has caught up", s.r.run.Live)
}

// progress shows how far the run is, all of its processes together; the rejects are this one's.
func (s *replayShow) progress(p backfill.Plan, c backfill.Counts, troubles []string) {
	s.mu.Lock()
	total, left := p.Total(), p.Left()
	rate := s.speed.at(time.Now(), total-left)
	show := s.due()
	yielding := s.yielding
	s.mu.Unlock()
	if !show {
		return
	}
	s.event("progress", map[string]any{"done": total - left, "total": total, "rate": rate, "eta_seconds": eta(left, rate).Seconds(),
		"rejects": c.Rejects(), "yields": yielding, "troubles": troubles, "partitions": partitionPlans(p)})
	text := fmt.Sprintf("%s, %d rejects", barText(total-left, total, rate, s.r.stderrIsTerminal), c.Rejects())
	if yielding {
		text += ", yields to the live group"
	}
	if len(troubles) > 0 {
		text += "; held: " + troubles[0]
	}
	s.line(text)
	if s.r.verbose && !s.r.stderrIsTerminal {
		s.partitions(p)
	}
}

// scanned shows how far a scan is.
func (s *replayShow) scanned(done int64, p backfill.Plan) {
	s.mu.Lock()
	show := s.due()
	rate := 0.0
	if show {
		rate = s.speed.at(time.Now(), done)
	}
	s.mu.Unlock()
	if show {
		s.event("progress", map[string]any{"done": done, "total": p.Left(), "rate": rate})
		s.line(barText(done, p.Left(), rate, s.r.stderrIsTerminal))
	}
}

// line writes progress: over the last one on a terminal.
func (s *replayShow) line(text string) {
	if !s.r.stderrIsTerminal {
		s.say("%s", text)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.r.json {
		const width = 110 // a longer line would wrap, and could not be written over
		if runes := []rune(escape(text)); len(runes) > width {
			text = string(runes[:width]) + "…"
		}
		fmt.Fprintf(s.r.stderr, "\r\x1b[K%s", escape(text))
		s.bar = true
	}
}

func (s *replayShow) endBar() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.clear()
}

func barText(done, total int64, rate float64, terminal bool) string {
	percent := 100.0
	if total > 0 {
		percent = 100 * float64(done) / float64(total)
	}
	text := fmt.Sprintf("%d of %d (%.1f %%), %.0f/s", done, total, percent, rate)
	if left := eta(total-done, rate); left > 0 {
		text += ", " + left.String() + " left"
	}
	if terminal {
		const width = 20
		full := min(width, int(percent)*width/100)
		text = "[" + strings.Repeat("#", full) + strings.Repeat(".", width-full) + "] " + text
	}
	return text
}

// eta is how long it takes at the rate; 0: nobody knows.
func eta(left int64, rate float64) time.Duration {
	if rate <= 0 {
		return 0
	}
	return (time.Duration(float64(left)/rate) * time.Second).Round(time.Second)
}

// speed is the rate over the last half minute or so.
type speed struct {
	seen []struct {
		at   time.Time
		done int64
	}
}

func (s *speed) at(now time.Time, done int64) float64 {
	s.seen = append(s.seen, struct {
		at   time.Time
		done int64
	}{now, done})
	for len(s.seen) > 2 && now.Sub(s.seen[0].at) > 30*time.Second {
		s.seen = s.seen[1:]
	}
	first := s.seen[0]
	if now.Equal(first.at) {
		return 0
	}
	return float64(done-first.done) / now.Sub(first.at).Seconds()
}

// replayLedger is what a process says at its end.
type replayLedger struct {
	Run             string `json:"run"`
	Complete        bool   `json:"complete"` // the run, not only this process's part
	Left            int64  `json:"left"`     // offsets
	Resumed         bool   `json:"resumed"`
	LostToRetention int64  `json:"lost_to_retention"`
	backfill.Counts
	Seconds float64 `json:"seconds"`
}

func (s *replayShow) ledger(l replayLedger) {
	s.endBar()
	s.event("ledger", l)
	if s.r.json {
		return
	}
	w := s.r.stdout
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
	if l.Resumed && s.r.settings.Delivery.OnAmbiguous != "probe" {
		fmt.Fprintf(w, "  and %s for each process of the run that was killed\n", mostRepeats(s.r.settings.Delivery.MaxRepeats))
	}
	if l.Complete {
		fmt.Fprintln(w, "the run is complete")
		return
	}
	fmt.Fprintf(w, "the run is not complete: %d offsets are left\n", l.Left)
}

// mostRepeats says MAX_REPEATS in words.
func mostRepeats(n int) string {
	if n == 0 {
		return "any number, since MAX_REPEATS is 0,"
	}
	return fmt.Sprintf("at most %d documents", n)
}

func printCount(w io.Writer, name string, n int) { fmt.Fprintf(w, "%-26s %9d\n", name, n) }

func printReasons(w io.Writer, by map[string]int) {
	for _, reason := range slices.Sorted(maps.Keys(by)) {
		fmt.Fprintf(w, "  %-24s %9d\n", reason, by[reason])
	}
}

// findings says what a dry run or an export has found. rate is that of requests; 0: none are made.
func (s *replayShow) findings(f findings, rate float64) {
	s.event("findings", map[string]any{"found": f, "rate": rate, "seconds_at_the_rate": eta(int64(f.Documents), rate).Seconds()})
	if s.r.json {
		return
	}
	w := s.r.stdout
	if s.r.output == "-" {
		w = s.r.stderr
	}
	printCount(w, "records", f.Records)
	printCount(w, "bytes", int(f.Bytes))
	if f.Records > 0 {
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

// counted is the sum of a counter's series.
func counted(g prometheus.Gatherer, name string) (sum float64) {
	families, _ := g.Gather()
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
		for _, m := range f.GetMetric() {
			sum += m.GetCounter().GetValue()
		}
	}
	return sum
}
