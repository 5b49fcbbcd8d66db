package format

import (
	"slices"
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	"serbridge/transform"
)

// sign is what a format is recognised by: checks that all hold. Checks look up keys and compare texts, no more, so that
// a record is recognised in a fraction of the time that decoding it took.
type sign []check

// check is one condition on the value at a path.
type check struct {
	path string
	kind checkKind
	text string   // of is, prefix, suffix and contains
	any  []string // of in
}

type checkKind int

const (
	is checkKind = iota
	in
	prefix
	suffix
	contains
	present
	missing
	ofText
	ofNumber
	ofObject
	ofList
)

// checkTags are the YAML tags that name a kind of check. A value without one is compared as text.
var checkTags = map[string]checkKind{
	"!prefix": prefix, "!suffix": suffix, "!contains": contains, "!present": present, "!absent": missing, "!text": ofText, "!number": ofNumber,
	"!object": ofObject, "!list": ofList,
}

func (s sign) fits(record transform.Value) bool {
	for i := range s {
		if !s[i].holds(lookup(record, s[i].path, false)) {
			return false
		}
	}
	return true
}

func (c *check) holds(v transform.Value) bool {
	switch c.kind {
	case present:
		return !v.IsAbsent()
	case missing:
		return v.IsAbsent()
	case ofObject:
		return v.IsObject()
	case ofList:
		return v.IsArray()
	case ofText:
		return v.Kind() == jsontext.KindString
	case ofNumber:
		return v.Kind() == jsontext.KindNumber
	}
	s, scalar := v.Text()
	if !scalar {
		return false
	}
	switch c.kind {
	case in:
		return slices.Contains(c.any, s)
	case prefix:
		return strings.HasPrefix(s, c.text)
	case suffix:
		return strings.HasSuffix(s, c.text)
	case contains:
		return strings.Contains(s, c.text)
	}
	return s == c.text
}

// signs finds which of many signs a record bears by the names of its members, so that what it costs does not grow with
// the number of formats.
type signs struct {
	all   []ranked
	named map[string][]int // indices in all, of signs whose first check looks at that member
}

type ranked struct {
	sign sign
	rank int // of the format; the lowest wins
}

// add takes in a sign. Its first check must be one that a missing member fails.
func (s *signs) add(rank int, one sign) {
	if s.named == nil {
		s.named = make(map[string][]int)
	}
	at := len(s.all)
	s.all = append(s.all, ranked{one, rank})
	path := one[0].path
	for i := 0; i <= len(path); i++ {
		if i == len(path) || path[i] == '.' {
			s.named[path[:i]] = append(s.named[path[:i]], at)
		}
	}
}

// find returns the lowest rank of a sign that the record bears.
func (s *signs) find(record transform.Value, enabled func(rank int) bool) (rank int, ok bool) {
	for _, m := range record.Members() {
		for _, i := range s.named[m.Name] {
			one := &s.all[i]
			if (!ok || one.rank < rank) && enabled(one.rank) && one.sign.fits(record) {
				rank, ok = one.rank, true
			}
		}
	}
	return rank, ok
}
