package format

import (
	"strings"
	"testing"

	"serbridge/transform"
)

// Every expression of every mapping says the same over every case, evaluated as a term and by the CEL library.
func TestTermsSayWhatCELSays(t *testing.T) {
	terms, programs := 0, 0
	for _, m := range builtIn().mappings {
		for _, x := range expressionsOf(t, m) {
			if x.direct == nil {
				programs++
				continue
			}
			terms++
			checked, issues := environment(m.fold).Compile(x.source)
			if issues.Err() != nil {
				t.Fatal(issues.Err())
			}
			program, err := interpreted(checked, m.fold)
			if err != nil {
				t.Fatal(err)
			}
			slow := &expression{source: x.source, program: program}
			for _, s := range scopesOf(t, m) {
				fast, _ := x.eval(&s)
				want, err := slow.eval(&s)
				if err != nil {
					t.Fatal(err)
				}
				if !equal(fast, want) && !(fast.IsBlank() && want.IsBlank()) {
					t.Errorf("%s: %s: term %s, CEL %s", m.name, x.source, fast.JSON(), want.JSON())
				}
			}
		}
	}
	t.Logf("%d terms, %d programs", terms, programs)
	if programs*20 > terms {
		t.Errorf("%d of %d expressions need the interpreter, which is slow", programs, terms+programs)
	}
}

func expressionsOf(t *testing.T, m *mapping) (all []*expression) {
	t.Helper()
	r, err := m.rules()
	if err != nil {
		t.Fatal(err)
	}
	if r.expand != nil {
		all = append(all, r.expand)
	}
	for _, s := range r.skips {
		all = append(all, s.when)
	}
	for _, scales := range [][]scale{r.severity, r.status} {
		for _, s := range scales {
			all = append(all, s.from...)
		}
	}
	for _, rules := range [][]fieldRule{r.fields, r.detected, r.own} {
		for _, f := range rules {
			all = append(all, f.from...)
		}
	}
	for _, list := range [][]*expression{r.times, r.pairs, r.tactics, r.techniques, r.from, r.to, r.identity} {
		all = append(all, list...)
	}
	return all
}

// scopesOf are what the expressions of a mapping see of its cases.
func scopesOf(t *testing.T, m *mapping) (all []scope) {
	t.Helper()
	r, _ := m.rules()
	for _, c := range m.cases() {
		in := caseInput(m, c)
		roots, _, reject := read(&in)
		if reject != nil {
			t.Fatal(reject)
		}
		o := opener{formats: builtIn(), settings: in.Settings}
		for _, root := range roots {
			o.open(root)
		}
		for i := range o.leaves {
			record := o.leaves[i].record
			if m.dotted {
				record = nested(record)
			}
			whole := scope{r: record, leaf: &o.leaves[i], fold: m.fold}
			all = append(all, whole)
			if r.expand == nil {
				continue
			}
			list, _ := r.expand.eval(&whole)
			for j := range list.Len() {
				all = append(all, scope{r: list.Index(j), parent: record, leaf: &o.leaves[i], fold: m.fold})
			}
		}
	}
	return all
}

// What a mapping may hand to CEL is bounded: a record made for it is refused, and the process does not stand still.
func TestCostOfExpressionsIsBounded(t *testing.T) {
	elements := make([]transform.Value, 2000)
	for i := range elements {
		elements[i] = transform.Integer(int64(i))
	}
	s := scope{r: transform.Object(transform.Member{Name: "a", Value: transform.Array(elements...)},
		transform.Member{Name: "long", Value: transform.String(strings.Repeat("0", 1<<20))}), leaf: new(leaf)}
	for _, source := range []string{`r.a.all(x, r.a.all(y, x + y >= 0))`, `r.a.exists(x, r.a.exists(y, x == "n" && y == "n"))`,
		`r.a.exists(x, "n" in r.a)`, `r.a.exists(x, lower(r.long) == x)`, `!r.a.all(x, r.a == r.a)`, `r.a.exists(x, r.long < r.long)`} {
		x, issues := compile(source, false, nil)
		if issues != nil {
			t.Fatal(issues.Err())
		}
		if _, err := x.eval(&s); err != errCost {
			t.Errorf("%s: got %v", source, err)
		}
		s.steps, s.cost = 0, 0
	}
}
