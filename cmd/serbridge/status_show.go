package main

import (
	"fmt"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
)

// tell writes the standing in the form that was asked for.
func (s *status) tell(st *standing) error {
	if s.json {
		return writeJSONLine(s.stdout, st, s.stdoutIsTerminal)
	}
	text := st.text()
	switch {
	case s.watch && s.stdoutIsTerminal:
		text = "\x1b[H\x1b[2J" + text
	case s.watch:
		text = st.At.Format(time.RFC3339) + " " + string(st.State) + " " + oneLine(st.Verdict) + "\n"
	}
	if _, err := fmt.Fprint(s.stdout, text); err != nil {
		return fmt.Errorf("write to standard output: %w", err)
	}
	return nil
}

// text is the verdict and the table. What others wrote is escaped.
func (st *standing) text() string {
	var b strings.Builder
	fmt.Fprintln(&b, oneLine(st.Verdict))
	for _, f := range st.Findings {
		fmt.Fprintf(&b, "%s  %s\n    -> %s\n", f.State, oneLine(f.Says), oneLine(f.Do))
	}
	if st.Group.Name == "" {
		return b.String()
	}
	is := "no state known" // never begun, forgotten by Kafka, or not to be seen
	if st.Group.State != "" {
		is = st.Group.Protocol + " " + st.Group.State
	}
	fmt.Fprintf(&b, "\ngroup %s, %s, %s; %s, over %.3g s\n", escape(st.Group.Name), count(st.Group.Members, "member"), escape(is),
		st.At.Local().Format("2006-01-02 15:04:05 MST"), st.Seconds)
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "PARTITION\tMEMBER\tBASE\tABOVE\tBACKLOG\tSETTLED/S\tOLDEST\tRETENTION IN")
	for _, p := range st.Partitions {
		base, oldest, left := "-", "-", "-"
		if p.Base != nil {
			base = strconv.FormatInt(*p.Base, 10)
		}
		if p.Oldest != nil {
			oldest = days(st.At.Sub(*p.Oldest))
		}
		if p.RetentionIn != nil {
			left = days(time.Duration(max(0, *p.RetentionIn) * float64(time.Second)))
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%d\t%.4g\t%s\t%s\n", escape(p.String()), escape(dash(p.Member)), base, p.SettledAbove, p.Backlog, p.Settled, oldest, left)
	}
	_ = w.Flush() // into memory
	st.writePods(&b)
	if st.MaxRepeats > 0 {
		fmt.Fprintf(&b, "a crash of one member repeats at most %s (MAX_REPEATS; a record of several counts whole)\n", count(st.MaxRepeats, "document"))
	}
	for _, r := range st.Remarks {
		fmt.Fprintf(&b, "remark: %s\n", oneLine(r))
	}
	return b.String()
}

// writePods says who was asked: what is not well with one is among the findings.
func (st *standing) writePods(b *strings.Builder) {
	if len(st.Pods) == 0 {
		return
	}
	w := tabwriter.NewWriter(b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "POD\tREADY\tREPEATS IF KILLED")
	for _, p := range st.Pods {
		ready, repeats := "no", "-"
		if p.Ready {
			ready = "yes"
		}
		if p.Exposure != nil {
			repeats = strconv.FormatFloat(*p.Exposure, 'f', -1, 64)
		}
		fmt.Fprintf(w, "%s\t%s\t%s\n", escape(p.Address), ready, repeats)
	}
	_ = w.Flush() // into memory
}
