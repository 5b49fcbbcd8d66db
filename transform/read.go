package transform

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"sync"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"
)

// Tree is a record's value, read.
type Tree struct {
	Root    Value
	Text    string   // the record as it came, without byte-order mark and leading blanks; it may hold invalid UTF-8
	Repairs []Repair // in the order of Repairs()

	reader *reader
}

// Release gives the memory of the tree's objects and arrays to the next record. Nothing of Root may be used any more.
func (t Tree) Release() {
	if t.reader != nil {
		t.reader.release()
	}
}

// Read reads in.Value as one JSON value. What can be repaired is, and named in Repairs: a record that every other
// consumer of the topic can read must not be lost for a byte-order mark. The rest is a Reject, invalid_json or too_deep.
func Read(in *Input) (Tree, *Reject) {
	text, bom := trimStart(string(in.Value))
	if text == "" {
		return Tree{}, &Reject{Reason: InvalidJSON, Detail: "the record is empty or blank"}
	}
	r := readers.Get().(*reader)
	r.pass = pass{text: text, base: len(in.Value) - len(text), maxDepth: in.Settings.resolved().MaxDepth, validUTF8: utf8.ValidString(text)}
	root, err := r.read(in.Value[r.base:])
	if err != nil && err != errTooDeep {
		if mended, grown := mendNaN(text); mended != nil {
			r.pass = pass{text: string(mended), base: r.base, grown: grown, maxDepth: r.maxDepth, validUTF8: r.validUTF8, nan: true}
			root, err = r.read(mended)
		}
	}
	if err != nil {
		defer r.release()
		return Tree{}, r.reject(err)
	}
	return Tree{Root: root, Text: text, Repairs: r.repairs(bom), reader: r}, nil
}

// trimStart cuts leading blanks and byte-order marks, which are a syntax error to the JSON library.
func trimStart(s string) (rest string, bom bool) {
	for {
		s = strings.TrimLeft(s, " \t\r\n")
		after, found := strings.CutPrefix(s, "\uFEFF")
		if !found {
			return s, bom
		}
		s, bom = after, true
	}
}

// reader builds the tree token by token: the library's own decoding into Go values would merge objects of one name and
// pass numbers through float64.
type reader struct {
	pass
	source  bytes.Buffer
	dec     jsontext.Decoder
	scratch []Member // members of the objects and arrays that are still open
	closed  []Member // of those that are read
}

// readers keep their decoder's buffers and their members' memory from record to record.
var readers = sync.Pool{New: func() any { return new(reader) }}

// release forgets the record, so that the pool keeps none alive, and what an unusual record has blown up.
func (r *reader) release() {
	r.pass = pass{}
	r.source = bytes.Buffer{}
	r.dec.Reset(&r.source)
	r.scratch, r.closed = emptied(r.scratch), emptied(r.closed)
	readers.Put(r)
}

func emptied(members []Member) []Member {
	const usual = 1024
	if cap(members) > usual {
		return nil
	}
	clear(members)
	return members[:0]
}

// pass is what belongs to one reading of one record.
type pass struct {
	text      string // what dec reads, as the one string that all values are cut out of
	base      int    // bytes cut off before text
	grown     []int  // offsets in text after which it is one byte longer than the record
	maxDepth  int
	end       int // offset behind the value, once it has been read
	validUTF8 bool

	duplicate, utf8, nan bool // what was repaired
}

var (
	errTooDeep  = errors.New("nested too deep")
	errTrailing = errors.New("data after the end of the JSON value")
)

func (r *reader) read(value []byte) (Value, error) {
	r.source = *bytes.NewBuffer(value)
	r.dec.Reset(&r.source, jsontext.AllowInvalidUTF8(true), jsontext.AllowDuplicateNames(true))
	root, err := r.value(0)
	if err != nil {
		return Value{}, err
	}
	r.end = int(r.dec.InputOffset())
	if _, err := r.dec.ReadToken(); err != io.EOF {
		return Value{}, errTrailing
	}
	return root, nil
}

// value reads the next value, which stands in depth open objects and arrays.
func (r *reader) value(depth int) (Value, error) {
	kind := r.dec.PeekKind()
	switch kind {
	case jsontext.KindBeginObject, jsontext.KindBeginArray:
		if depth == r.maxDepth {
			return Value{}, errTooDeep
		}
		members, err := r.members(kind, depth)
		return compoundValue(kind, members), err
	case jsontext.KindString:
		text, err := r.string()
		return scalarValue(kind, text), err
	case jsontext.KindNumber:
		raw, err := r.dec.ReadValue()
		return scalarValue(kind, r.cut(len(raw))), err
	default: // a literal, or the error that Peek found
		_, err := r.dec.ReadToken()
		return Value{kind: kind}, err
	}
}

// members reads an object or an array. They are gathered on one stack for the whole tree and moved at their end to
// where the tree's members stand, one object or array after the other.
func (r *reader) members(open jsontext.Kind, depth int) ([]Member, error) {
	if _, err := r.dec.ReadToken(); err != nil {
		return nil, err
	}
	start := len(r.scratch)
	defer func() {
		clear(r.scratch[start:])
		r.scratch = r.scratch[:start]
	}()
	for {
		if k := r.dec.PeekKind(); k == jsontext.KindEndObject || k == jsontext.KindEndArray {
			_, err := r.dec.ReadToken()
			members := r.keep(r.scratch[start:])
			if open == jsontext.KindBeginObject {
				members = r.lastOfEachName(members)
			}
			return members, err
		}
		var m Member
		var err error
		if open == jsontext.KindBeginObject {
			if m.Name, err = r.string(); err != nil {
				return nil, err
			}
		}
		if m.Value, err = r.value(depth + 1); err != nil {
			return nil, err
		}
		r.scratch = append(r.scratch, m)
	}
}

// keep copies members to the closed ones. What is outgrown stays with the values that were made of it.
func (r *reader) keep(members []Member) []Member {
	start := len(r.closed)
	if cap(r.closed)-start < len(members) {
		start = 0
		r.closed = make([]Member, 0, max(2*cap(r.closed), len(members), fewMembers))
	}
	r.closed = append(r.closed, members...)
	return r.closed[start:len(r.closed):len(r.closed)]
}

// string reads a string, as a name or a value.
func (r *reader) string() (string, error) {
	raw, err := r.dec.ReadValue()
	if err != nil {
		return "", err
	}
	if r.validUTF8 && bytes.IndexByte(raw, '\\') < 0 {
		quoted := r.cut(len(raw))
		return quoted[1 : len(quoted)-1], nil
	}
	plain, err := jsontext.AppendUnquote(nil, raw)
	if err != nil { // ReadValue has checked all else: invalid UTF-8 or a lone surrogate, which is U+FFFD now
		r.utf8 = true
	}
	return string(plain), nil
}

// cut returns the last n bytes that were read.
func (r *reader) cut(n int) string {
	end := int(r.dec.InputOffset())
	return r.text[end-n : end]
}

// fewMembers is how many names are compared one with another before a map is the faster way.
const fewMembers = 32

// lastOfEachName drops the members whose name comes again later; the last takes the place of the first.
func (r *reader) lastOfEachName(members []Member) []Member {
	if len(members) <= fewMembers && !hasRepeat(members) {
		return members
	}
	at := make(map[string]int, len(members))
	kept := members[:0]
	for _, m := range members {
		if i, again := at[m.Name]; again {
			kept[i] = m
			r.duplicate = true
			continue
		}
		at[m.Name] = len(kept)
		kept = append(kept, m)
	}
	return kept
}

func hasRepeat(members []Member) bool {
	for i := range members {
		for j := range i {
			if members[i].Name == members[j].Name {
				return true
			}
		}
	}
	return false
}

func (r *reader) repairs(bom bool) []Repair {
	var done []Repair
	for i, did := range []bool{r.duplicate, r.utf8, r.nan, bom} {
		if did {
			done = append(done, allRepairs[i])
		}
	}
	return done
}

// reject says what is wrong and at which byte of the record.
func (r *reader) reject(err error) *Reject {
	offset := int(r.dec.InputOffset())
	what := err
	var syntax *jsontext.SyntacticError
	if errors.As(err, &syntax) { // its own text would add a JSON pointer, whose length the record decides
		offset, what = int(syntax.ByteOffset), syntax.Err
	}
	if err == errTrailing {
		offset = r.end
	}
	offset = min(offset, len(r.text))
	rest := strings.TrimLeft(r.text[offset:], " \t\r\n")
	offset = len(r.text) - len(rest)
	at := r.base + offset
	for _, g := range r.grown {
		if g < offset {
			at--
		}
	}
	if err == errTooDeep {
		return &Reject{Reason: TooDeep, Detail: fmt.Sprintf("more than %d levels of objects and arrays (MAX_DEPTH) at byte %d", r.maxDepth, at)}
	}
	if rest == "" {
		return &Reject{Reason: InvalidJSON, Detail: fmt.Sprintf("the record ends early at byte %d: %v", at, what)}
	}
	return &Reject{Reason: InvalidJSON, Detail: fmt.Sprintf("at byte %d: %v: %s", at, what, Quote(rest, maxQuoted/2))}
}

// maxQuoted is how many characters of a record a Detail may quote. The library's message may quote a few more of them.
const maxQuoted = 64

// Quote returns at most limit characters of s in quotes, with control characters escaped.
func Quote(s string, limit int) string {
	s = strings.ToValidUTF8(s[:min(len(s), limit*utf8.UTFMax)], "\uFFFD")
	if len(s) > limit {
		if runes := []rune(s); len(runes) > limit {
			s = string(runes[:limit])
		}
	}
	return strconv.Quote(s)
}

// nanWords are what Python, JavaScript and Go write for numbers that JSON lacks.
var nanWords = []string{"NaN", "-NaN", "Infinity", "-Infinity", "+Infinity"}

// mendNaN puts null in place of those words outside strings, padded with blanks to keep offsets true. NaN alone is
// shorter than null: grown holds the offset of each such word. mended is nil when there was no word.
func mendNaN(text string) (mended []byte, grown []int) {
	var out []byte
	done, inString := 0, false
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case inString && c == '\\':
			i++
		case c == '"':
			inString = !inString
		case !inString && (c == 'N' || c == 'I' || c == '-' || c == '+'):
			word := nanWordAt(text, i)
			if word == "" {
				continue
			}
			out = append(out, text[done:i]...)
			if len(word) < len("null") {
				grown = append(grown, len(out))
			}
			out = append(out, "null"...)
			for range len(word) - len("null") {
				out = append(out, ' ')
			}
			i += len(word) - 1
			done = i + 1
		}
	}
	if done == 0 {
		return nil, nil
	}
	return append(out, text[done:]...), grown
}

func nanWordAt(text string, i int) string {
	for _, w := range nanWords {
		if strings.HasPrefix(text[i:], w) && !letterAt(text, i-1) && !letterAt(text, i+len(w)) {
			return w
		}
	}
	return ""
}

func letterAt(text string, i int) bool {
	if i < 0 || i >= len(text) {
		return false
	}
	c := text[i]
	return c == '_' || '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
}
