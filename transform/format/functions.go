package format

import (
	"crypto/sha256"
	"encoding/hex"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"serbridge/transform"
)

// functions are what expressions may call beside CEL's own. What they are for is in the package documentation.
var functions = map[string]function{
	"first":      {2, 8, first, weight},
	"one":        {1, 1, one, weight},
	"list":       {1, 1, list, weight},
	"text":       {1, 1, text, wholeWeight},
	"lower":      {1, 1, lower, weight},
	"join":       {2, 2, join, weight},
	"at":         {2, 2, follow, weight},
	"json":       {1, 1, parseJSON, weight},
	"pairs":      {1, 1, pairs, weight},
	"quoted":     {1, 1, quotedPairs, weight},
	"extract":    {2, 2, extract, weight},
	"epoch":      {2, 2, epoch, weight},
	"zoned":      {2, 2, zoned, weight},
	"timed":      {2, 3, timed, weight},
	"millis":     {1, 1, millis, weight},
	"private":    {1, 1, private, weight},
	"address":    {1, 1, address, weight},
	"confidence": {1, 1, confidence, weight},
	"number":     {1, 1, number, weight},
	"digest":     {1, 1, digest, wholeWeight},
	"flat":       {1, 1, flat, weight},
}

// first returns the first of its arguments that says something.
func first(_ bool, args ...transform.Value) transform.Value {
	for _, a := range args {
		if !a.IsBlank() {
			return a
		}
	}
	return transform.Value{}
}

// one returns the first element of an array that says something, and anything else as it is.
func one(_ bool, args ...transform.Value) transform.Value {
	v := args[0]
	if !v.IsArray() {
		return v
	}
	for i := range v.Len() {
		if e := v.Index(i); !e.IsBlank() {
			return e
		}
	}
	return transform.Value{}
}

// list returns an array as it is, nothing as an empty array, and anything else as an array of one.
func list(_ bool, args ...transform.Value) transform.Value {
	switch v := args[0]; {
	case v.IsArray():
		return v
	case v.IsBlank():
		return transform.Array()
	default:
		return transform.Array(v)
	}
}

// text returns a scalar as text, an object or array as JSON with its members in the order of their names.
func text(_ bool, args ...transform.Value) transform.Value {
	v := args[0]
	if s, ok := v.Text(); ok {
		return transform.String(s)
	}
	if v.IsAbsent() {
		return transform.Value{}
	}
	return transform.String(v.Canonical().JSON())
}

// lower returns a scalar as text in lower case, without blanks at its ends; anything else as an empty text.
func lower(_ bool, args ...transform.Value) transform.Value {
	s, _ := args[0].Text()
	return transform.String(strings.ToLower(strings.TrimSpace(s)))
}

// join returns the scalars of an array as one text.
func join(_ bool, args ...transform.Value) transform.Value {
	separator, _ := args[1].Text()
	var parts []string
	for i := range args[0].Len() {
		if s, ok := args[0].Index(i).Text(); ok && strings.TrimSpace(s) != "" {
			parts = append(parts, strings.TrimSpace(s))
		}
	}
	if parts == nil {
		return transform.Value{}
	}
	return transform.String(strings.Join(parts, separator))
}

// follow follows a dotted path, over nested objects and flat dotted keys alike.
func follow(fold bool, args ...transform.Value) transform.Value {
	path, _ := args[1].Text()
	return lookup(args[0], path, fold)
}

// innerDepth bounds JSON in a text of a record.
const innerDepth = 32

// parseJSON reads a text that holds JSON. What is no text stays as it is.
func parseJSON(_ bool, args ...transform.Value) transform.Value {
	if args[0].Kind() != jsontext.KindString {
		return args[0]
	}
	s, _ := args[0].Text()
	tree, reject := transform.Read(&transform.Input{Value: []byte(s), Settings: &transform.Settings{MaxDepth: innerDepth}})
	if reject != nil {
		return transform.Value{}
	}
	return tree.Root
}

// pairs returns the members of an object as an array of [name, value].
func pairs(_ bool, args ...transform.Value) transform.Value {
	members := args[0].Members()
	all := make([]transform.Value, len(members))
	for i, m := range members {
		all[i] = transform.Array(transform.String(m.Name), m.Value)
	}
	return transform.Array(all...)
}

// quotedPairs reads name="value" pairs in a text as an object; a name that comes again has an array.
func quotedPairs(_ bool, args ...transform.Value) transform.Value {
	s, _ := args[0].Text()
	var f fieldsOf
	for len(f.members) < maxPairs {
		name, v, rest, found := cutQuotedPair(s)
		if !found {
			break
		}
		s = rest
		if i := f.index(name); i >= 0 {
			f.members[i].Value = withElement(f.members[i].Value, v)
			continue
		}
		f.set(name, v)
	}
	if f.members == nil {
		return transform.Value{}
	}
	return f.value()
}

// cutQuotedPair cuts the first pair off. In the value a backslash takes the quote behind it as it is.
func cutQuotedPair(s string) (name string, v transform.Value, rest string, found bool) {
	for {
		at := strings.Index(s, `="`)
		if at < 0 {
			return "", transform.Value{}, "", false
		}
		start := at
		for start > 0 && (isKeyByte(s[start-1]) || s[start-1] == ':') {
			start--
		}
		name, s = s[start:at], s[at+len(`="`):]
		end := 0
		for end < len(s) && s[end] != '"' {
			if s[end] == '\\' {
				end++
			}
			end++
		}
		if end >= len(s) {
			return "", transform.Value{}, "", false
		}
		if name != "" {
			return name, transform.String(strings.ReplaceAll(s[:end], `\"`, `"`)), s[end+1:], true
		}
		s = s[end+1:]
	}
}

// withElement returns an array with one more element; what is none becomes its first.
func withElement(v, element transform.Value) transform.Value {
	before := list(false, v)
	elements := make([]transform.Value, 0, before.Len()+1)
	for i := range before.Len() {
		elements = append(elements, before.Index(i))
	}
	return transform.Array(append(elements, element)...)
}

// maxPairs bounds the pairs that are read out of one text.
const maxPairs = 500

// patterns keeps what extract has compiled. A mapping's patterns are constants (checkPatterns), so it does not grow.
var patterns sync.Map

// extract returns what a regular expression finds in a text: its first group, or all of it without one.
func extract(_ bool, args ...transform.Value) transform.Value {
	s, ok := args[0].Text()
	source, _ := args[1].Text()
	if !ok {
		return transform.Value{}
	}
	compiled, known := patterns.Load(source)
	if !known {
		re, err := regexp.Compile(source)
		if err != nil {
			return transform.Value{}
		}
		compiled, _ = patterns.LoadOrStore(source, re)
	}
	found := compiled.(*regexp.Regexp).FindStringSubmatch(s)
	if found == nil {
		return transform.Value{}
	}
	return transform.String(found[min(1, len(found)-1)])
}

// millis returns a time as milliseconds since 1970, however it is written.
func millis(_ bool, args ...transform.Value) transform.Value {
	ms, ok := transform.Millis(args[0])
	if !ok {
		return transform.Value{}
	}
	return transform.Integer(ms)
}

// private reports whether a text is an address of a private network; absent when it is no address.
func private(_ bool, args ...transform.Value) transform.Value {
	s, _ := args[0].Text()
	inside, ok := transform.IsAddress(s)
	if !ok {
		return transform.Value{}
	}
	return transform.Bool(inside)
}

// address returns the first of its argument's texts that is an address.
func address(_ bool, args ...transform.Value) transform.Value {
	all := list(false, args[0])
	for i := range all.Len() {
		s, _ := all.Index(i).Text()
		if _, ok := transform.IsAddress(s); ok {
			return transform.String(strings.TrimSpace(s))
		}
	}
	return transform.Value{}
}

// confidence returns a number as it is, and a word for one as the middle of what it stands for.
func confidence(_ bool, args ...transform.Value) transform.Value {
	s, _ := args[0].Text()
	switch strings.ToLower(strings.TrimSpace(s)) {
	case "low":
		return transform.Number("25")
	case "medium":
		return transform.Number("50")
	case "high":
		return transform.Number("75")
	}
	if v := transform.Number(strings.TrimSpace(s)); !v.IsAbsent() {
		return v
	}
	return transform.Value{}
}

// number returns a number, or a text that is one, as a number.
func number(_ bool, args ...transform.Value) transform.Value {
	s, _ := args[0].Text()
	return transform.Number(strings.TrimSpace(s))
}

// digest returns the hash of its argument's JSON text, for records without an id of their own. Members of objects count
// in the order of their names.
func digest(_ bool, args ...transform.Value) transform.Value {
	sum := sha256.Sum256([]byte(args[0].Canonical().JSON()))
	return transform.String(hex.EncodeToString(sum[:16]))
}

// flat returns an array with the elements of those arrays that stand in it.
func flat(_ bool, args ...transform.Value) transform.Value {
	var all []transform.Value
	for i := range args[0].Len() {
		e := args[0].Index(i)
		if !e.IsArray() {
			all = append(all, e)
			continue
		}
		for j := range e.Len() {
			all = append(all, e.Index(j))
		}
	}
	return transform.Array(all...)
}

// epoch returns a number of the named unit as a time: s, ms, us, ns, or filetime (100 ns since 1601).
func epoch(_ bool, args ...transform.Value) transform.Value {
	s, _ := args[0].Text()
	unit, _ := args[1].Text()
	per, ok := epochUnits[unit]
	whole, err := parseInteger(s)
	if !ok || err != nil {
		return transform.Value{}
	}
	if unit == "filetime" {
		whole -= 116_444_736_000_000_000
	}
	return transform.String(time.Unix(whole/per, whole%per*(int64(time.Second)/per)).UTC().Format(time.RFC3339Nano))
}

var epochUnits = map[string]int64{"s": 1, "ms": 1e3, "us": 1e6, "filetime": 1e7, "ns": 1e9}
