package transform

import (
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
	"unsafe"

	"github.com/go-json-experiment/json/jsontext"
)

// Value is one JSON value of a record. Numbers are kept as their own text, so that an integer beyond 2^53 stays exact to
// the last digit. The zero Value is an absent one. Values are never changed once made.
//
// Reading and mapping a record is for the most part handing Values on, so that their size decides what it costs: a string
// and a slice side by side take three times the memory, and took more than half as much time again. As in slog.Value, the
// kind says what the pointer points to.
type Value struct {
	_    [0]func()      // == would compare where two values stand, not what they say
	at   unsafe.Pointer // to the first byte or member
	size uint32         // bytes or members
	kind jsontext.Kind  // KindInvalid: absent
}

// scalarValue is a string, unquoted and valid UTF-8, or a number with its JSON text.
func scalarValue(kind jsontext.Kind, text string) Value {
	text = text[:min(len(text), math.MaxInt32)] // which no record of Kafka reaches
	return Value{at: unsafe.Pointer(unsafe.StringData(text)), size: uint32(len(text)), kind: kind}
}

// compoundValue is an object, or an array, whose members have empty names.
func compoundValue(kind jsontext.Kind, members []Member) Value {
	members = members[:min(len(members), math.MaxInt32)]
	return Value{at: unsafe.Pointer(unsafe.SliceData(members)), size: uint32(len(members)), kind: kind}
}

// text of a string or a number; empty for others.
func (v Value) text() string {
	if v.kind != jsontext.KindString && v.kind != jsontext.KindNumber {
		return ""
	}
	return unsafe.String((*byte)(v.at), v.size)
}

// members of an object or an array; nil for others.
func (v Value) members() []Member {
	if v.kind != jsontext.KindBeginObject && v.kind != jsontext.KindBeginArray {
		return nil
	}
	return unsafe.Slice((*Member)(v.at), v.size)
}

// Member is one name and value of an object, in the order of the record.
type Member struct {
	Name  string
	Value Value
}

// String returns a JSON string. Invalid UTF-8 in it becomes U+FFFD.
func String(s string) Value {
	return scalarValue(jsontext.KindString, validUTF8(s))
}

// validUTF8 is strings.ToValidUTF8, faster where nothing is invalid.
func validUTF8(s string) string {
	if utf8.ValidString(s) {
		return s
	}
	return strings.ToValidUTF8(s, "\uFFFD")
}

// Object returns a JSON object of members, whose names must differ.
func Object(members ...Member) Value {
	return compoundValue(jsontext.KindBeginObject, members)
}

// Array returns a JSON array.
func Array(elements ...Value) Value {
	members := make([]Member, len(elements))
	for i, e := range elements {
		members[i].Value = e
	}
	return compoundValue(jsontext.KindBeginArray, members)
}

// Bool returns true or false.
func Bool(b bool) Value { return boolean(b) }

// Number returns a JSON number with the digits of text, absent when text is none.
func Number(text string) Value {
	if v := jsontext.Value(text); v.Kind() != jsontext.KindNumber || !v.IsValid() || text != strings.TrimSpace(text) {
		return Value{}
	}
	return number(text)
}

// Integer returns a JSON number.
func Integer(n int64) Value { return number(strconv.FormatInt(n, 10)) }

// number returns a JSON number; text must be one.
func number(text string) Value { return scalarValue(jsontext.KindNumber, text) }

func boolean(b bool) Value {
	if b {
		return Value{kind: jsontext.KindTrue}
	}
	return Value{kind: jsontext.KindFalse}
}

// IsAbsent reports whether there is no value: null and missing are the same.
func (v Value) IsAbsent() bool {
	return v.kind == jsontext.KindInvalid || v.kind == jsontext.KindNull
}

// IsBlank reports whether v says nothing: absent, a string of blanks, or an array of nothing.
func (v Value) IsBlank() bool {
	switch v.kind {
	case jsontext.KindString:
		return strings.TrimSpace(v.text()) == ""
	case jsontext.KindBeginArray:
		return v.size == 0
	}
	return v.IsAbsent()
}

// IsObject reports whether v is a JSON object.
func (v Value) IsObject() bool { return v.kind == jsontext.KindBeginObject }

// IsArray reports whether v is a JSON array.
func (v Value) IsArray() bool { return v.kind == jsontext.KindBeginArray }

// Members returns the members of an object in the order of the record, or nil. They are shared: do not change them.
func (v Value) Members() []Member {
	if !v.IsObject() {
		return nil
	}
	return v.members()
}

// Kind returns the JSON kind of v, with KindNull for what is absent.
func (v Value) Kind() jsontext.Kind {
	if v.kind == jsontext.KindInvalid {
		return jsontext.KindNull
	}
	return v.kind
}

// Len returns the number of elements of an array, or of members of an object.
func (v Value) Len() int { return len(v.members()) }

// Index returns an element of an array, absent when there is none or when v is no array.
func (v Value) Index(i int) Value {
	if !v.IsArray() || i < 0 || i >= v.Len() {
		return Value{}
	}
	return v.members()[i].Value
}

// JSON returns v as JSON text.
func (v Value) JSON() string {
	buffer := buffers.Get().(*[]byte)
	text := v.appendTo((*buffer)[:0])
	defer keepBuffer(buffer, text)
	return string(text)
}

// Canonical returns v with the members of every object in the order of their names, so that what differs in that order
// alone has one JSON text.
func (v Value) Canonical() Value {
	if v.isCanonical() {
		return v
	}
	sorted := make([]Member, v.Len())
	for i, m := range v.members() {
		sorted[i] = Member{m.Name, m.Value.Canonical()}
	}
	if v.IsObject() {
		slices.SortStableFunc(sorted, func(a, b Member) int { return strings.Compare(a.Name, b.Name) })
	}
	return compoundValue(v.kind, sorted)
}

func (v Value) isCanonical() bool {
	members := v.members()
	for i := range members {
		if v.IsObject() && i > 0 && members[i].Name < members[i-1].Name || !members[i].Value.isCanonical() {
			return false
		}
	}
	return true
}

// elements returns the elements of an array, each a Member without a name, or nil.
func (v Value) elements() []Member {
	if !v.IsArray() {
		return nil
	}
	return v.members()
}

// Get returns the member of that name, absent when there is none or when v is no object.
func (v Value) Get(name string) Value {
	members := v.Members()
	for i := range members { // a copy of each member would cost more than the comparison
		if members[i].Name == name {
			return members[i].Value
		}
	}
	return Value{}
}

// Without returns the object v without the member of that name, absent when nothing is left.
func (v Value) Without(name string) Value {
	rest := slices.DeleteFunc(slices.Clone(v.Members()), func(m Member) bool { return m.Name == name })
	if len(rest) == 0 {
		return Value{}
	}
	return Object(rest...)
}

// Text returns a scalar as text: a string as it is, a number with every digit of the record, true or false. It is false
// for an object, an array, null and an absent value.
func (v Value) Text() (string, bool) {
	switch v.kind {
	case jsontext.KindString, jsontext.KindNumber:
		return v.text(), true
	case jsontext.KindTrue:
		return "true", true
	case jsontext.KindFalse:
		return "false", true
	}
	return "", false
}

// decimal reads a number, or a string that holds one.
func (v Value) decimal() (decimal, bool) {
	if v.kind != jsontext.KindNumber && v.kind != jsontext.KindString {
		return decimal{}, false
	}
	return parseDecimal(v.text())
}

// float32 returns a number's text when it fits into single precision; the index refuses others.
func (v Value) float32() (string, bool) {
	if _, ok := v.decimal(); !ok {
		return "", false
	}
	text := v.numberText()
	if _, err := strconv.ParseFloat(text, 32); err != nil {
		return "", false
	}
	return text, true
}

// indexable returns v with each number as text that an index which has not seen the field before refuses, and with it
// the whole document: it takes an integer for a long and any other number for a float.
func (v Value) indexable() (_ Value, changed bool) {
	switch v.kind {
	case jsontext.KindNumber:
		if !isIndexable(v.text()) {
			return scalarValue(jsontext.KindString, v.text()), true
		}
	case jsontext.KindBeginObject, jsontext.KindBeginArray:
		members, changed := indexableMembers(v.members())
		return compoundValue(v.kind, members), changed
	}
	return v, false
}

// indexableMembers makes a copy only if something changes.
func indexableMembers(members []Member) (_ []Member, changed bool) {
	indexed := members
	for i, m := range members {
		v, c := m.Value.indexable()
		if !c {
			continue
		}
		if !changed {
			indexed, changed = slices.Clone(members), true
		}
		indexed[i].Value = v
	}
	return indexed, changed
}

func isIndexable(number string) bool {
	if len(number) < len("9223372036854775807") && !strings.ContainsAny(number, "eE") {
		return true
	}
	if !strings.ContainsAny(number, ".eE") {
		_, err := strconv.ParseInt(number, 10, 64)
		return err == nil
	}
	_, err := strconv.ParseFloat(number, 32)
	return err == nil
}

// numberText returns what decimal has read as a JSON number. A string may hold a form that JSON lacks: .5 or 007.
func (v Value) numberText() string {
	text := strings.TrimSpace(v.text())
	if v.kind == jsontext.KindNumber || jsontext.Value(text).Kind() == jsontext.KindNumber && jsontext.Value(text).IsValid() {
		return text
	}
	f, _ := strconv.ParseFloat(text, 64)
	return string(jsontext.AppendFloat(nil, f, 64))
}

// TypeName names the JSON type for a person.
func (v Value) TypeName() string {
	switch v.kind {
	case jsontext.KindBeginObject:
		return "an object"
	case jsontext.KindBeginArray:
		return "an array"
	case jsontext.KindString:
		return "a string"
	case jsontext.KindNumber:
		return "a number"
	case jsontext.KindTrue, jsontext.KindFalse:
		return "a boolean"
	}
	return "null"
}

// appendTo appends v as JSON. An absent value is null.
func (v Value) appendTo(dst []byte) []byte {
	switch v.kind {
	case jsontext.KindString:
		return appendQuoted(dst, v.text())
	case jsontext.KindNumber:
		return append(dst, v.text()...)
	case jsontext.KindTrue:
		return append(dst, "true"...)
	case jsontext.KindFalse:
		return append(dst, "false"...)
	case jsontext.KindBeginObject:
		dst = append(dst, '{')
		dst = appendMembers(dst, v.members())
		return append(dst, '}')
	case jsontext.KindBeginArray:
		dst = append(dst, '[')
		for i, m := range v.members() {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = m.Value.appendTo(dst)
		}
		return append(dst, ']')
	}
	return append(dst, "null"...)
}

// appendMembers appends members to an object that is open in dst, with the comma that the bytes before ask for.
func appendMembers(dst []byte, members []Member) []byte {
	for i := range members {
		dst = appendName(dst, members[i].Name)
		dst = members[i].Value.appendTo(dst)
	}
	return dst
}

// appendName appends a member's name and colon. A name never follows a bare '{' unless it is the first of its object,
// since every value ends in another byte.
func appendName(dst []byte, name string) []byte {
	if dst[len(dst)-1] != '{' {
		dst = append(dst, ',')
	}
	return append(appendQuoted(dst, name), ':')
}

// appendKey is appendName for a name of our own, which needs no escape.
func appendKey(dst []byte, name string) []byte {
	if dst[len(dst)-1] != '{' {
		dst = append(dst, ',')
	}
	return append(append(append(dst, '"'), name...), `":`...)
}

// appendQuoted appends s as a JSON string. Most are printable ASCII, and the library is slower. The only error that there
// is reports invalid UTF-8, which is mended then.
func appendQuoted(dst []byte, s string) []byte {
	start := len(dst)
	dst = append(slices.Grow(dst, len(s)+2), '"')
	for i := range len(s) {
		c := s[i]
		if c < ' ' || c > '~' {
			dst, _ = jsontext.AppendQuote(dst[:start], s)
			return dst
		}
		if c == '"' || c == '\\' {
			dst = append(dst, '\\')
		}
		dst = append(dst, c)
	}
	return append(dst, '"')
}
