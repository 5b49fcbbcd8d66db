package admin

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

//go:embed page.css
var pageCSS string

// pagePolicy lets the page have its own style and nothing else: by its hash, so that no other can be slipped in.
var pagePolicy = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; style-src 'sha256-" + hash(pageCSS) + "'"

func hash(s string) string {
	sum := sha256.Sum256([]byte(s))
	return base64.StdEncoding.EncodeToString(sum[:])
}

// mostRows bounds a table: a page of ten thousand partitions is none.
const mostRows = 200

// view is what the page shows, in words.
type view struct {
	At         string
	Verdict    string
	Troubles   []troubleRow
	Jumps      []string
	Figures    []namedFigure
	Charts     []chart
	Partitions []partitionRow
	More       int
	Rejects    []rejectRow
	Failures   []failureRow
}

type (
	troubleRow   struct{ Text, Since string }
	namedFigure  struct{ Name, Value string }
	partitionRow struct{ Name, Lag, Backlog, Unsettled, Oldest, Headroom string }
	rejectRow    struct {
		Reason string
		Count  int
		Last   string
	}
	failureRow struct{ At, Reason, Place string }
)

// page is the state of this member for a person with a browser.
func (s *Server) page(w http.ResponseWriter, _ *http.Request) {
	f, err := read(s.cfg.Gatherer)
	if err != nil {
		http.Error(w, "metrics cannot be read; the log says more", http.StatusInternalServerError)
		s.cfg.Logger.Error("admin page", "error", err)
		return
	}
	var body bytes.Buffer // first: what fails half-way must not look like a page
	if err := markup(s.view(f, time.Now())).Render(&body); err != nil {
		http.Error(w, "the page cannot be made", http.StatusInternalServerError)
		s.cfg.Logger.Error("admin page", "error", err)
		return
	}
	w.Header().Set("Content-Security-Policy", pagePolicy)
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	_, _ = w.Write(body.Bytes()) // the client is gone: nobody to tell
}

func (s *Server) view(f figures, now time.Time) view {
	past := append(s.history.all(), sampleOf(f, now))
	v := view{At: now.UTC().Format("2006-01-02 15:04:05 UTC"), Jumps: jumps(f), Figures: nowFigures(f, past), Charts: charts(past)}
	for _, r := range s.cfg.Health.notReady() {
		v.Troubles = append(v.Troubles, troubleRow{oneLine(s.cfg.Redactor.Redact(r.Text)), clock(r.Since)})
	}
	v.Verdict = verdict(v, past)
	v.Partitions, v.More = partitionRows(f)
	for _, r := range s.cfg.Journal.Rejects() {
		v.Rejects = append(v.Rejects, rejectRow{r.Reason, r.Count, places(r.Last)})
	}
	for _, e := range s.cfg.Journal.Failures() {
		v.Failures = append(v.Failures, failureRow{clock(e.At), e.Reason, place(e)})
	}
	return v
}

// verdict is what somebody woken at night reads first.
func verdict(v view, past []sample) string {
	says := fmt.Sprintf("%s/s delivered", short(lastRate(past, func(s sample) float64 { return s.delivered })))
	switch {
	case len(v.Troubles) > 0:
		return fmt.Sprintf("%s; not ready since %s: %s", says, v.Troubles[0].Since, v.Troubles[0].Text)
	case len(v.Jumps) > 0:
		return says + "; " + v.Jumps[0]
	}
	return says + "; ready"
}

func jumps(f figures) (all []string) {
	for _, t := range f.turnedAway() {
		all = append(all, fmt.Sprintf("%s: %.0f %% skipped or dead-lettered since %s, was %.0f %%", t.Topic, 100*t.Ratio, clock(t.Since), 100*t.Before))
	}
	return all
}

func nowFigures(f figures, past []sample) (all []namedFigure) {
	add := func(name, value string) { all = append(all, namedFigure{name, value}) }
	last := past[len(past)-1]
	add("delivered", short(last.delivered))
	add("rejected", short(last.rejected))
	add("skipped", short(last.skipped))
	add("attempts of unknown end", short(last.unknown))
	add("gate", gateWords(f))
	add("limited by", limitWords(f))
	add("on the wire", fmt.Sprintf("%s of %s", short(f.sum("in_flight")), short(f.sum("concurrency_limit"))))
	if share, there := f.one("rate_share"); there {
		add("share of RATE_LIMIT", short(share)+"/s")
	} else {
		add("share of RATE_LIMIT", "no limit")
	}
	add("lag", short(last.lag))
	add("real backlog", short(last.backlog))
	add("oldest unsettled", duration(last.oldest))
	add("a crash now would repeat", short(last.exposed)+" at most")
	if at, there := f.one("token_expiry_timestamp_seconds"); there {
		add("token expires", clock(time.Unix(int64(at), 0)))
	}
	if age, there := f.one("commit_age_seconds"); there {
		add("last commit", duration(age)+" ago")
	}
	if age, there := f.one("dead_letter_oldest_open_age_seconds"); there && age > 0 {
		add("oldest open dead letter", duration(age))
	}
	return all
}

func gateWords(f figures) string {
	for _, one := range f["gate_closed"] {
		if one.value == 1 {
			return "closed: " + one.labels["reason"]
		}
	}
	return "open"
}

func limitWords(f figures) string {
	for _, one := range f["limited_by"] {
		if one.value == 1 {
			return one.labels["by"]
		}
	}
	return "not known"
}

func partitionRows(f figures) (rows []partitionRow, more int) {
	bases := slices.Clone(f["frontier_base"])
	slices.SortFunc(bases, func(a, b figure) int {
		return cmp.Or(cmp.Compare(a.labels["topic"], b.labels["topic"]), cmp.Compare(number(a), number(b)))
	})
	if len(bases) > mostRows {
		bases, more = bases[:mostRows], len(bases)-mostRows
	}
	of := make(map[string]map[[2]string]float64)
	for _, name := range []string{"lag_records", "backlog_records", "records_unsettled", "oldest_unsettled_age_seconds", "retention_headroom_seconds"} {
		of[name] = make(map[[2]string]float64)
		for _, one := range f[name] {
			of[name][[2]string{one.labels["topic"], one.labels["partition"]}] = one.value
		}
	}
	for _, b := range bases {
		key := [2]string{b.labels["topic"], b.labels["partition"]}
		say := func(name string, words func(float64) string) string {
			if v, there := of[name][key]; there {
				return words(v)
			}
			return "not known"
		}
		rows = append(rows, partitionRow{key[0] + "/" + key[1], say("lag_records", short), say("backlog_records", short),
			say("records_unsettled", short), say("oldest_unsettled_age_seconds", duration), say("retention_headroom_seconds", duration)})
	}
	return rows, more
}

func number(f figure) int {
	n, _ := strconv.Atoi(f.labels["partition"])
	return n
}

func places(es []Event) string {
	var all []string
	for _, e := range es {
		all = append(all, place(e))
	}
	return strings.Join(all, ", ")
}

func place(e Event) string { return fmt.Sprintf("%s/%d offset %d", e.Topic, e.Partition, e.Offset) }

func clock(t time.Time) string { return t.UTC().Format("15:04:05 UTC") }

// short writes a number with one digit behind the point where that says something.
func short(v float64) string {
	if v < 100 && v != float64(int64(v)) {
		return strconv.FormatFloat(v, 'f', 1, 64)
	}
	return strconv.FormatFloat(v, 'f', 0, 64)
}

// duration writes seconds in their largest unit but one.
func duration(seconds float64) string {
	d := time.Duration(seconds * float64(time.Second))
	switch {
	case d >= 48*time.Hour:
		return fmt.Sprintf("%d days", d/(24*time.Hour))
	case d >= time.Minute:
		return strings.TrimSuffix(d.Round(time.Minute).String(), "0s")
	}
	return d.Round(time.Second).String()
}
