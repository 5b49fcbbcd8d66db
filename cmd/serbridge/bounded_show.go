package main

import (
	"cmp"
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

// runShow tells how a run goes: a bar on a terminal, a plain line now and then elsewhere, or JSON lines. Progress goes
// to standard error, what a script would read to standard output.
type runShow struct {
	r     *boundedRun
	log   *slog.Logger
	begun time.Time

	mu    sync.Mutex
	bar   int // lines that stand on the terminal: the bar, and what is under it
	last  time.Time
	speed speed
	words string // that the progress says besides, and in JSON
	state map[string]any
}

func newRunShow(r *boundedRun) *runShow {
	s := &runShow{r: r, begun: time.Now(), last: time.Now()}
	s.log = newLogger(overBar{s}, r.settings.Process, r.stderrIsTerminal, r.redactor)
	return s
}

// overBar writes log lines where the bar stood.
type overBar struct{ s *runShow }

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
func (s *runShow) clear() {
	if s.bar > 1 {
		fmt.Fprintf(s.r.stderr, "\x1b[%dA", s.bar-1)
	}
	if s.bar > 0 {
		fmt.Fprint(s.r.stderr, "\r\x1b[J")
	}
	s.bar = 0
}

// say writes a line for a person; with --json there is nobody.
func (s *runShow) say(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.r.json {
		return
	}
	s.clear()
	fmt.Fprintln(s.r.stderr, escape(fmt.Sprintf(format, args...)))
}

// event writes a JSON line, if they are wanted.
func (s *runShow) event(kind string, of any) {
	if !s.r.json {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	_ = json.NewEncoder(s.r.stdout).Encode(map[string]any{"type": kind, "run": s.r.run.ID, kind: of})
}

// due reports whether it is time to show progress again, and that it is shown now. Called with mu held.
func (s *runShow) due() bool {
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

func partitionLine(r backfill.Range) string {
	return fmt.Sprintf("  %-24s %9d of %9d, at offset %d of %d", r.Place, r.Total()-r.Left(), r.Total(), r.At, r.End)
}

// mostPartitions bounds what is shown of partitions again and again.
const mostPartitions = 16

// partitionLines are of those that are not at their end, in their order: where there are more than most, of those with the
// most left.
func partitionLines(p backfill.Plan, most int) (lines []string) {
	open := slices.DeleteFunc(slices.Clone(p.Ranges), func(r backfill.Range) bool { return r.Left() == 0 })
	shown := slices.SortedStableFunc(slices.Values(open), func(a, b backfill.Range) int { return cmp.Compare(b.Left(), a.Left()) })
	shown = shown[:max(0, min(most, len(shown)))]
	for _, r := range open {
		if slices.ContainsFunc(shown, func(s backfill.Range) bool { return s.Place == r.Place }) {
			lines = append(lines, partitionLine(r))
		}
	}
	if others := len(open) - len(shown); others > 0 {
		left := p.Left()
		for _, r := range shown {
			left -= r.Left()
		}
		lines = append(lines, fmt.Sprintf("  and %d more partitions with %d offsets left", others, left))
	}
	return lines
}

// plan says what each partition is to give, once.
func (s *runShow) plan(p backfill.Plan) {
	for _, r := range p.Ranges {
		if r.Total() > 0 {
			s.say("%s", partitionLine(r))
		}
	}
}

// note is what the progress says besides from now on.
func (s *runShow) note(words string, fields map[string]any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.words, s.state = words, fields
}

// progress shows how far the run is, all of its processes together; what is counted is this one's.
func (s *runShow) progress(p backfill.Plan, counted string, fields map[string]any, troubles []string) {
	s.mu.Lock()
	total, left := p.Total(), p.Left()
	rate := s.speed.at(time.Now(), total-left)
	show, words, state := s.due(), s.words, s.state
	s.mu.Unlock()
	if !show {
		return
	}
	event := map[string]any{"done": total - left, "total": total, "rate": rate, "eta_seconds": eta(left, rate).Seconds(),
		"troubles": troubles, "partitions": partitionPlans(p)}
	maps.Copy(event, fields)
	maps.Copy(event, state)
	s.event("progress", event)
	text := barText(total-left, total, rate, s.r.stderrIsTerminal) + ", " + counted
	if words != "" {
		text += ", " + words
	}
	if len(troubles) > 0 {
		text += "; held: " + troubles[0]
	}
	s.line(text, p)
}

// scanned shows how far a scan is.
func (s *runShow) scanned(done int64, p backfill.Plan) {
	s.mu.Lock()
	show := s.due()
	rate := 0.0
	if show {
		rate = s.speed.at(time.Now(), done)
	}
	s.mu.Unlock()
	if show {
		s.event("progress", map[string]any{"done": done, "total": p.Left(), "rate": rate})
		s.line(barText(done, p.Left(), rate, s.r.stderrIsTerminal), backfill.Plan{})
	}
}

// line writes progress, and with --verbose the partitions under it: over the last one on a terminal.
func (s *runShow) line(text string, p backfill.Plan) {
	lines, width, most := []string{text}, 0, mostPartitions
	if s.r.stderrIsTerminal {
		var height int
		width, height = s.r.terminalSize()
		most = min(most, height-3)
	}
	if s.r.verbose {
		lines = append(lines, partitionLines(p, most)...)
	}
	if !s.r.stderrIsTerminal {
		for _, line := range lines {
			s.say("%s", line)
		}
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.r.json {
		return
	}
	for i, line := range lines {
		lines[i] = cut(escape(line), width-1) // a longer line would wrap, and could not be written over
	}
	s.clear()
	fmt.Fprint(s.r.stderr, strings.Join(lines, "\n"))
	s.bar = len(lines)
}

func cut(line string, width int) string {
	if runes := []rune(line); len(runes) > width {
		return string(runes[:max(0, width-1)]) + "…"
	}
	return line
}

func (s *runShow) endBar() {
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
		fmt.Fprintf(w, "  %-24s %9d\n", escape(reason), by[reason])
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

// sayYields says that the run stops for the live group, or goes on.
func (r *boundedRun) sayYields(held bool, behind string) {
	r.held.Store(held)
	r.show.event("yield", map[string]any{"held": held, "behind": behind})
	note := ""
	if held {
		note = "yields to the live group"
	}
	r.show.note(note, map[string]any{"yields": held})
	if held {
		r.show.say("the %s stops: group %s is behind, %s", r.name, r.settings.Kafka.Group, behind)
		return
	}
	r.show.say("the %s goes on: group %s has caught up", r.name, r.settings.Kafka.Group)
}
