package format

import (
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	"serbridge/transform"
)

// mapLeaf adds the detections of one leaf: one, or as many as its list has elements.
func (m *mapping) mapLeaf(into *detections, l *leaf, in *transform.Input) {
	rules, err := m.rules()
	if err != nil { // of a file that is not ours; load has refused it before
		into.next().Reject = &transform.Reject{Reason: transform.UnknownFormat, Detail: "the mapping " + m.name + " cannot be compiled"}
		return
	}
	record := l.record
	if m.dotted {
		record = nested(record)
	}
	s := &into.scope
	s.see(record, transform.Value{}, l, m.fold, rules.calls)
	if rules.expand == nil {
		m.detection(into, rules, in, -1)
		return
	}
	list, err := rules.expand.eval(s)
	switch {
	case err != nil:
		into.next().Reject = tooCostly(m)
	case !list.IsArray():
		m.detection(into, rules, in, -1)
	case list.Len() == 0:
		into.next().Skip = transform.NoDetections
	default:
		m.elements(into, rules, list, in)
	}
}

// elements adds the detections of an expanded list. Each sees the whole record too, so that there is an end to how many of
// them may spend how much.
func (m *mapping) elements(into *detections, rules *rules, list transform.Value, in *transform.Input) {
	s := &into.scope
	record, l := s.r, s.leaf
	s.whole = canonical{}
	for i := 0; i < min(list.Len(), maxLeaves) && !into.tooMany(); i++ {
		s.see(list.Index(i), record, l, m.fold, rules.calls)
		d := m.detection(into, rules, in, i)
		if list.Len() > 1 && d.Skip == "" && d.Reject == nil {
			d.Raw = s.r.JSON()
		}
	}
}

func tooCostly(m *mapping) *transform.Reject {
	return &transform.Reject{Reason: transform.MappingCost,
		Detail: "an expression of the mapping " + m.name + " looked at more of the record than it may"}
}

// detection maps what the scope sees: one record, or one element of its list.
func (m *mapping) detection(into *detections, r *rules, in *transform.Input, element int) *transform.Detection {
	d := into.next()
	d.Format, d.Mapping = m.name, m.hashed
	if into.spent > recordLimit {
		d.Reject = tooCostly(m)
		return d
	}
	b := binder{m: m, rules: r, scope: &into.scope, settings: in.Settings, element: element, d: d}
	for _, step := range steps {
		if err := step(&b); err != nil {
			d.Reject = tooCostly(m)
		}
		if d.Skip != "" || d.Reject != nil {
			break
		}
	}
	into.spent += into.scope.steps + into.scope.cost
	return d
}

// steps are taken in this order; a skip or a reject ends them.
var steps = []func(*binder) error{
	(*binder).skip, (*binder).fields, (*binder).words, (*binder).names, (*binder).detected, (*binder).own, (*binder).attack,
	(*binder).addresses, (*binder).identity,
}

// binder fills one detection by the rules of a mapping. Each method is a section of the file.
type binder struct {
	m        *mapping
	rules    *rules
	scope    *scope
	settings *transform.Settings
	element  int // of the list that the record was expanded to; -1: it was not
	d        *transform.Detection
}

func (b *binder) skip() error {
	for _, rule := range b.rules.skips {
		v, err := rule.when.eval(b.scope)
		if err != nil {
			return err
		}
		if v.Kind() == jsontext.KindTrue {
			b.d.Skip = rule.reason
			return nil
		}
	}
	isLeftOut, err := leavesOut(b.settings, b.scope)
	if isLeftOut {
		b.d.Skip = transform.Filtered
	}
	return err
}

// fields fills the vendor's fields and the candidates for the time.
func (b *binder) fields() error {
	for _, rule := range b.rules.fields {
		v, err := firstOf(rule.from, b.scope)
		if err != nil {
			return err
		}
		if !v.IsBlank() {
			b.d.Set(rule.name, scalar(v))
		}
	}
	if b.d.Field("start_bucket_time").IsAbsent() || b.d.Field("end_bucket_time").IsAbsent() { // one end is no range
		b.d.Set("start_bucket_time", transform.Value{})
		b.d.Set("end_bucket_time", transform.Value{})
	}
	for _, x := range b.rules.times {
		v, err := x.eval(b.scope)
		if err != nil {
			return err
		}
		if !v.IsBlank() {
			b.d.Times = append(b.d.Times, v)
		}
	}
	return nil
}

// scalar returns the first scalar of an array, for fields that hold one value; anything else as it is.
func scalar(v transform.Value) transform.Value {
	if v.IsArray() {
		return one(false, v)
	}
	return v
}

// words reads severity and status by the mapping's own tables.
func (b *binder) words() error {
	native, meaning, err := readScales(b.rules.severity, b.scope, commonSeverity)
	if err != nil {
		return err
	}
	b.d.Set("severity", native)
	b.d.Severity, b.d.Judged = meaning, true
	native, meaning, err = readScales(b.rules.status, b.scope, commonStatus)
	if err != nil {
		return err
	}
	b.d.Set("event_status", native)
	b.d.Status = meaning
	return nil
}

// names makes sure of name and source, without which no document is made. A record that was not recognised for sure, by
// force or by common names, must have a name of its own: else any record at all would pass.
func (b *binder) names() error {
	source, _ := b.d.Field("event_source").Text()
	if strings.TrimSpace(source) == "" {
		source = ""
		if b.settings == nil || strings.TrimSpace(b.settings.EventSource) == "" {
			source = b.rules.source
			b.d.Set("event_source", transform.String(source))
		} else {
			source = b.settings.EventSource
			b.d.Set("event_source", transform.Value{})
		}
	}
	if name, ok := b.d.Field("event_name").Text(); ok && strings.TrimSpace(name) != "" {
		return nil
	}
	if b.forced() {
		b.d.Reject = &transform.Reject{Reason: transform.UnknownFormat, Detail: b.scope.leaf.unknown()}
		return nil
	}
	name, ok := b.d.Field("event_type").Text()
	if !ok || strings.TrimSpace(name) == "" {
		name = source + " detection"
	}
	b.d.Set("event_name", transform.String(name))
	b.d.Own = append(b.d.Own, transform.Member{Name: "name_defaulted", Value: transform.Bool(true)})
	return nil
}

// forced reports whether the record bears none of the mapping's signs.
func (b *binder) forced() bool {
	return !b.m.fits(b.scope.leaf.record)
}

// detected gathers the observables: name and value, one pair for each value of an array.
func (b *binder) detected() error {
	add := func(name, text string) {
		b.d.Detected = append(b.d.Detected, transform.Observable{Name: name, Value: text})
	}
	for _, rule := range b.rules.detected {
		v, err := firstOf(rule.from, b.scope)
		if err != nil {
			return err
		}
		if s, scalar := v.Text(); scalar {
			add(rule.name, s)
			continue
		}
		for _, text := range appendTexts(nil, v) {
			add(rule.name, text)
		}
	}
	for _, x := range b.rules.pairs {
		all, err := x.eval(b.scope)
		if err != nil {
			return err
		}
		for i := range all.Len() {
			name, _ := all.Index(i).Index(0).Text()
			for _, text := range appendTexts(nil, all.Index(i).Index(1)) {
				add(name, text)
			}
		}
	}
	return nil
}

// maxOwn bounds a text in the namespace. The index refuses terms above 32,766 bytes.
const maxOwn = 8192

// own fills the namespace. All is text, since the index takes the type of a key from the first document that has it, and
// formats disagree on what is a number; but sample, which is a flag.
func (b *binder) own() error {
	for _, rule := range b.rules.own {
		for _, x := range rule.from {
			v, err := x.eval(b.scope)
			if err != nil {
				return err
			}
			if v = ownValue(rule.name, scalar(v)); !v.IsAbsent() {
				b.d.Own = append(b.d.Own, transform.Member{Name: rule.name, Value: v})
				break
			}
		}
	}
	return nil
}

func ownValue(name string, v transform.Value) transform.Value {
	s, ok := v.Text()
	s = strings.TrimSpace(s)
	if name == "sample" {
		if s == "true" {
			return transform.Bool(true)
		}
		return transform.Value{}
	}
	if !ok || transform.IsPlaceholder(s) {
		return transform.Value{}
	}
	if name == "src_ip" || name == "dst_ip" {
		if _, isAddress := transform.IsAddress(s); !isAddress {
			return transform.Value{}
		}
	}
	return transform.String(transform.Cut(s, maxOwn))
}

// attack adds what the detection says of MITRE ATT&CK.
func (b *binder) attack() error {
	tacticWords, err := textsOf(b.rules.tactics, b.scope)
	if err != nil {
		return err
	}
	techniqueWords, err := textsOf(b.rules.techniques, b.scope)
	if err != nil || tacticWords == nil && techniqueWords == nil {
		return err
	}
	a := readAttack(tacticWords, techniqueWords)
	for _, list := range []struct {
		name  string
		words []string
	}{{"tactics", a.tactics}, {"techniques", a.techniques}} {
		if list.words != nil {
			b.d.Own = append(b.d.Own, transform.Member{Name: list.name, Value: texts(list.words)})
		}
	}
	if a.stage != "" {
		b.d.Own = append(b.d.Own, transform.Member{Name: "killchain_stage", Value: transform.String(a.stage)})
	}
	return nil
}

func texts(words []string) transform.Value {
	values := make([]transform.Value, len(words))
	for i, w := range words {
		values[i] = transform.String(w)
	}
	return transform.Array(values...)
}

// addresses sets both ends of the connection, for lateral.
func (b *binder) addresses() (err error) {
	if b.d.Source, err = firstOf(b.rules.from, b.scope); err != nil {
		return err
	}
	b.d.Destination, err = firstOf(b.rules.to, b.scope)
	return err
}

// identity is what the expressions say; when they say nothing, the record itself, whatever the order of its keys. An
// element of a list with the id of the whole has its place in the list too.
func (b *binder) identity() error {
	says := false
	for _, x := range b.rules.identity {
		v, err := x.eval(b.scope)
		if err != nil {
			return err
		}
		says = says || !v.IsBlank()
		b.d.Identity = append(b.d.Identity, v.Canonical())
	}
	if !says {
		b.d.Identity = []transform.Value{transform.String("record"), b.scope.r.Canonical()}
		if b.element >= 0 {
			b.d.Identity = append(b.d.Identity, b.scope.whole.of(b.scope.parent), transform.Integer(int64(b.element)))
			b.scope.cost += b.scope.whole.cost
		}
	}
	b.d.Identified = true
	return nil
}
