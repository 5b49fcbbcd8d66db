package main

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
)

// state is how one fact stands.
type state string

// The states.
const (
	stateOK      state = "ok"
	stateWarning state = "warning" // works, but somebody should look
	stateFailed  state = "failed"  // the bridge would not deliver
)

// fact is one line of a check.
type fact struct {
	Name  string `json:"fact"`
	Of    string `json:"of,omitempty"` // the broker, topic or group that it is about
	State state  `json:"state"`
	Says  string `json:"says"`
	Do    string `json:"do,omitempty"` // what to do; never empty but for ok
}

// facts are what one check found, in the order in which things depend on each other.
type facts []fact

func (f *facts) ok(name, of, says string, args ...any) {
	*f = append(*f, fact{Name: name, Of: of, State: stateOK, Says: fmt.Sprintf(says, args...)})
}

func (f *facts) warn(name, of, do, says string, args ...any) {
	*f = append(*f, fact{Name: name, Of: of, State: stateWarning, Says: fmt.Sprintf(says, args...), Do: do})
}

func (f *facts) fail(name, of, do, says string, args ...any) {
	*f = append(*f, fact{Name: name, Of: of, State: stateFailed, Says: fmt.Sprintf(says, args...), Do: do})
}

func (f facts) count(s state) (n int) {
	for _, one := range f {
		if one.State == s {
			n++
		}
	}
	return n
}

// result is the worst state of all.
func (f facts) result() state {
	switch {
	case f.count(stateFailed) > 0:
		return stateFailed
	case f.count(stateWarning) > 0:
		return stateWarning
	}
	return stateOK
}

// err is nil without a failed fact. What failed stands on standard output.
func (f facts) err() error {
	if n := f.count(stateFailed); n > 0 {
		return fmt.Errorf("check: %d of %d facts failed; what depends on them was not asked", n, len(f))
	}
	return nil
}

// redact takes the credentials out of all texts: of errors, of what a broker or the platform says.
func (f facts) redact(redact func(string) string) {
	for i := range f {
		f[i].Of, f[i].Says, f[i].Do = redact(f[i].Of), redact(f[i].Says), redact(f[i].Do)
	}
}

// print writes one line for each fact, and beneath those that are not ok what to do.
func (f facts) print(out io.Writer) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	for _, one := range f {
		says := one.Says
		if one.Of != "" {
			says = one.Of + ": " + says
		}
		fmt.Fprintf(w, "%s\t%s\t%s\n", one.State, one.Name, oneLine(says))
		if one.Do != "" {
			fmt.Fprintf(w, "\t\t-> %s\n", oneLine(one.Do))
		}
	}
	fmt.Fprintf(w, "%d ok, %d warnings, %d failed\n", f.count(stateOK), f.count(stateWarning), f.count(stateFailed))
	if err := w.Flush(); err != nil {
		return fmt.Errorf("write to standard output: %w", err)
	}
	return nil
}

// oneLine keeps one fact on one line, whatever a broker's or a server's text holds.
func oneLine(s string) string { return escape(strings.Join(strings.Fields(s), " ")) }

// problemFacts are a malformed configuration as facts.
func problemFacts(err error) (f facts) {
	var found problems
	if !errors.As(err, &found) {
		f.fail("settings", "", "correct the settings: serbridge help settings", "%v", err)
	}
	for _, p := range found {
		f.fail("settings", p.name, "correct "+p.name+": serbridge help settings", "%s", p.want)
	}
	return f
}
