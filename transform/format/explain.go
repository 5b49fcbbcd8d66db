package format

import (
	"fmt"
	"strings"

	"serbridge/transform"
	"serbridge/transform/codec"
)

// Explanation says how one part of a record was read.
type Explanation struct {
	Envelopes []string // the keys of what was taken off, the outermost first
	Mapping   string   // empty: aella_ser, or none
	Sign      string   // what the format was recognised by
	Outcome   string   // why there is no mapping, when there is none
	Values    []Explained
}

// Explained is a value that an expression said. Of several expressions it is the first that says something.
type Explained struct {
	Section, Name     string
	Expression, Value string
}

// Explain says how a record is read, part by part in the order of the parts, each element of an expanded list for itself.
func Explain(in transform.Input) []Explanation {
	text, hold, reject := codec.Decode(&in)
	switch {
	case reject != nil:
		return []Explanation{{Outcome: reject.Error() + ": " + reject.Detail}}
	case hold != nil:
		return []Explanation{{Outcome: fmt.Sprintf("held: schema %d has not been read", hold.SchemaID)}}
	}
	in.Value = text
	roots, tree, reject := read(&in)
	if reject != nil {
		return []Explanation{{Outcome: reject.Error() + ": " + reject.Detail}}
	}
	defer tree.Release()
	o := opener{formats: inUse(), settings: in.Settings}
	for _, root := range roots {
		o.open(root)
	}
	var all []Explanation
	for i := range o.leaves {
		o.leaves[i].filter(in.Settings)
		all = append(all, explainLeaf(&o.leaves[i], in.Settings)...)
	}
	return all
}

func explainLeaf(l *leaf, settings *transform.Settings) []Explanation {
	e := Explanation{Envelopes: envelopeNames(l)}
	switch {
	case l.reject != nil:
		e.Outcome = l.reject.Error() + ": " + l.reject.Detail
		return []Explanation{e}
	case l.skip != "":
		e.Outcome = "skipped: " + string(l.skip)
		return []Explanation{e}
	case l.mapping == aellaSER:
		e.Outcome = "the index's own fields"
		return []Explanation{e}
	}
	m := l.mapping
	e.Mapping, e.Sign = m.hashed, m.signOf(l.record)
	r, err := m.rules()
	if err != nil {
		e.Outcome = err.Error()
		return []Explanation{e}
	}
	var all []Explanation
	for _, s := range m.scopes(r, l) {
		one := e
		if isLeftOut, _ := leavesOut(settings, &s); isLeftOut {
			one.Outcome = "skipped: " + string(transform.Filtered) + ", the filter says false: " + transform.Cut(settings.Filter, 256)
		}
		one.Values = explainRules(r, &s)
		all = append(all, one)
	}
	return all
}

// scopes are what a mapping's expressions see of a leaf: once, or once for each element of its list.
func (m *mapping) scopes(r *rules, l *leaf) []scope {
	record := l.record
	if m.dotted {
		record = nested(record)
	}
	whole := scope{r: record, leaf: l, fold: m.fold}
	if r.expand == nil {
		return []scope{whole}
	}
	list, err := r.expand.eval(&whole)
	if err != nil || !list.IsArray() {
		return []scope{whole}
	}
	all := make([]scope, list.Len())
	for i := range all {
		all[i] = scope{r: list.Index(i), parent: record, leaf: l, fold: m.fold}
	}
	return all
}

func envelopeNames(l *leaf) (names []string) {
	for _, o := range l.outer {
		if !o.IsObject() {
			names = append(names, "array or text")
			continue
		}
		var keys []string
		for _, m := range o.Members() {
			keys = append(keys, m.Name)
		}
		names = append(names, transform.Cut(strings.Join(keys, " "), 64))
	}
	return names
}

// signOf is the first sign that the record bears, as the file has it.
func (m *mapping) signOf(record transform.Value) string {
	for _, s := range m.signs {
		if !s.fits(record) {
			continue
		}
		var checks []string
		for _, c := range s {
			v := lookup(record, c.path, false)
			says, scalar := v.Text()
			if !scalar {
				says = v.TypeName()
			}
			checks = append(checks, c.path+" is "+transform.Cut(says, 64))
		}
		return strings.Join(checks, ", ")
	}
	return "nothing: FORMATS or ON_UNKNOWN asks for it"
}

func explainRules(r *rules, s *scope) (all []Explained) {
	add := func(section, name string, from []*expression) {
		for _, x := range from {
			v, err := x.eval(s)
			if err != nil || v.IsBlank() {
				continue
			}
			says, scalar := v.Text()
			if !scalar {
				says = v.JSON()
			}
			all = append(all, Explained{section, name, x.source, transform.Cut(says, 256)})
			return
		}
	}
	for _, rule := range r.skips {
		add("skip", string(rule.reason), []*expression{rule.when})
	}
	for _, rule := range r.fields {
		add("fields", rule.name, rule.from)
	}
	add("timestamp", "timestamp", r.times)
	for _, scale := range r.severity {
		add("severity", "severity", scale.from)
	}
	for _, scale := range r.status {
		add("status", "event_status", scale.from)
	}
	for _, rule := range r.detected {
		add("detected", rule.name, rule.from)
	}
	for _, x := range r.pairs {
		add("detected", "pairs", []*expression{x})
	}
	for _, rule := range r.own {
		add("own", rule.name, rule.from)
	}
	add("own", "tactics", r.tactics)
	add("own", "techniques", r.techniques)
	add("lateral", "from", r.from)
	add("lateral", "to", r.to)
	for _, x := range r.identity {
		add("identity", "dedup_key", []*expression{x})
	}
	return all
}
