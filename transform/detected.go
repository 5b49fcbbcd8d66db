package transform

import "github.com/go-json-experiment/json/jsontext"

// maxPairs bounds detected_fields and detected_values.
const maxPairs = 100

// detected sends the observables, field by field with its value: one pair as detected_field and detected_value, several
// as two arrays of one length. It returns all of them.
func (b *builder) detected() (names, values []string) {
	b.text(detectedFieldField)
	b.text(detectedValueField)
	if v := b.sent[detectedValueField]; !v.IsAbsent() && isPlaceholder(v.text()) {
		b.sent[detectedFieldField], b.sent[detectedValueField] = Value{}, Value{}
	}
	names, values = b.pairs()
	single := !b.sent[detectedFieldField].IsAbsent() || !b.sent[detectedValueField].IsAbsent()
	if len(names) == 1 && !single {
		b.sent[detectedFieldField], b.sent[detectedValueField] = String(names[0]), String(values[0])
		return names, values
	}
	if len(names) > 0 {
		b.sent[detectedFieldsField], b.sent[detectedValuesField] = texts(names), texts(values)
	}
	if name, value := b.sent[detectedFieldField], b.sent[detectedValueField]; !name.IsAbsent() && !value.IsAbsent() {
		names, values = append([]string{name.text()}, names...), append([]string{value.text()}, values...)
	}
	return names, values
}

// pairs are the observables that can be sent. A value that stands for "none" takes its pair out.
func (b *builder) pairs() (names, values []string) {
	observables := b.d.Detected
	if len(observables) == 0 {
		observables = b.listed()
	}
	names, values = make([]string, 0, min(len(observables), maxPairs)), make([]string, 0, min(len(observables), maxPairs))
	for _, o := range observables {
		name, value := cleanText(o.Name), cleanText(o.Value)
		if name == "" || isPlaceholder(value) {
			continue
		}
		if len(names) == maxPairs {
			b.flags[detectedCut] = true
			break
		}
		names, values = append(names, name), append(values, value)
	}
	return names, values
}

// listed reads the two arrays.
func (b *builder) listed() []Observable {
	fields, contents := b.value(detectedFieldsField), b.value(detectedValuesField)
	names, ok := list(fields)
	values, also := list(contents)
	if !ok || !also || len(names) != len(values) {
		b.dropPair(detectedFieldsField, fields, detectedValuesField, contents)
		return nil
	}
	observables := make([]Observable, len(names))
	for i := range names {
		observables[i] = Observable{names[i], values[i]}
	}
	return observables
}

// list reads an array of scalars as texts, null as an empty one, and a scalar as an array of one.
func list(v Value) (out []string, ok bool) {
	if text, scalar := v.Text(); scalar {
		return []string{text}, true
	}
	out = make([]string, 0, len(v.elements()))
	for _, e := range v.elements() {
		text, scalar := e.Value.Text()
		if !scalar && !e.Value.IsAbsent() {
			return nil, false
		}
		out = append(out, text)
	}
	return out, !v.IsObject()
}

func texts(list []string) Value {
	elements := make([]Member, len(list))
	for i, s := range list {
		elements[i].Value = String(s)
	}
	return compoundValue(jsontext.KindBeginArray, elements)
}
