package main

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"serbridge/bridge/secret"
)

// problem is one variable that stops the start.
type problem struct {
	name  string
	value string // as it was set; empty: not shown, because it is a secret or not there
	want  string // what is wrong, or what is allowed
}

// problems are all variables that stop the start, so that one start is enough to learn of all.
type problems []problem

// say notes one problem. value must not be a credential's; empty shows none.
func (p *problems) say(name, value, want string) {
	*p = append(*p, problem{name: name, value: value, want: want})
}

// sayf is say with a format.
func (p *problems) sayf(name, value, want string, args ...any) {
	p.say(name, value, fmt.Sprintf(want, args...))
}

func (p *problems) add(more ...problem) { *p = append(*p, more...) }

// addNew adds those whose variable has no problem yet: one that was refused is zero by now, and what is said of the
// zero would mislead.
func (p *problems) addNew(more ...problem) {
	old := *p
	for _, q := range more {
		if !old.has(q.name) {
			p.add(q)
		}
	}
}

// has tells whether a variable has been named, so that what follows from it need not be.
func (p problems) has(name string) bool {
	return slices.ContainsFunc(p, func(q problem) bool { return q.name == name })
}

// err is nil without problems. red has seen every credential: a key that was pasted into two variables must not be
// shown because of the one that is no secret.
func (p problems) err(red *secret.Redactor) error {
	if len(p) == 0 {
		return nil
	}
	shown := make(problems, len(p))
	for i, q := range p { // before quote cuts: half a key would not be recognised
		shown[i] = problem{name: q.name, value: red.Redact(q.value), want: red.Redact(q.want)}
	}
	return usageError{shown}
}

// Error is one line for each problem.
func (p problems) Error() string {
	var b strings.Builder
	b.WriteString("settings:")
	for _, q := range p {
		b.WriteString("\n  " + q.name)
		if q.value != "" {
			b.WriteString("=" + quote(q.value))
		}
		b.WriteString(": " + q.want)
	}
	return b.String()
}

var query = regexp.MustCompile(`\?.*`)

// quote shows at most 64 characters of a value, control characters escaped, without what may be a credential in a
// URL that is wrong in any way at all.
func quote(value string) string {
	if at := strings.LastIndexByte(value, '@'); at >= 0 {
		value = "[hidden]" + value[at:]
	}
	if strings.Contains(value, "://") {
		value = query.ReplaceAllLiteralString(value, "?[hidden]")
	}
	if runes := []rune(value); len(runes) > 64 {
		value = string(runes[:64]) + "…"
	}
	return strconv.Quote(value)
}
