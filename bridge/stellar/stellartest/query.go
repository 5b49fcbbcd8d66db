package stellartest

import (
	"fmt"
	"strconv"
	"strings"
)

// query is a parsed search. fields are a document's, decoded, with _id.
type query interface {
	matches(fields map[string]any) bool
	needs() map[string]string // field: value pairs without which nothing matches
}

type everything struct{}

func (everything) matches(map[string]any) bool { return true }
func (everything) needs() map[string]string    { return nil }

type all []query

func (q all) matches(fields map[string]any) bool {
	for _, part := range q {
		if !part.matches(fields) {
			return false
		}
	}
	return true
}

func (q all) needs() map[string]string {
	m := make(map[string]string)
	for _, part := range q {
		for path, value := range part.needs() {
			m[path] = value
		}
	}
	return m
}

type anyOf []query

func (q anyOf) matches(fields map[string]any) bool {
	for _, part := range q {
		if part.matches(fields) {
			return true
		}
	}
	return false
}

func (q anyOf) needs() map[string]string { return nil }

// term compares one field: op is "", ">", ">=", "<" or "<=".
type term struct {
	path, op, value string
	bare            bool // the value was not quoted: * means "exists"
}

func (t term) needs() map[string]string {
	if t.op != "" || t.bare && t.value == "*" {
		return nil
	}
	return map[string]string{t.path: t.value}
}

func (t term) matches(fields map[string]any) bool {
	for _, v := range lookup(fields, strings.Split(t.path, ".")) {
		if t.holds(v) {
			return true
		}
	}
	return false
}

func (t term) holds(v any) bool {
	if list, ok := v.([]any); ok {
		for _, e := range list {
			if t.holds(e) {
				return true
			}
		}
		return false
	}
	if t.bare && t.value == "*" && t.op == "" {
		return v != nil
	}
	if t.op == "" {
		if f, ok := v.(float64); ok {
			want, err := strconv.ParseFloat(t.value, 64)
			return err == nil && f == want
		}
		return fmt.Sprint(v) == t.value
	}
	have, ok := v.(float64)
	want, err := strconv.ParseFloat(t.value, 64)
	if !ok || err != nil {
		return false
	}
	switch t.op {
	case ">":
		return have > want
	case ">=":
		return have >= want
	case "<":
		return have < want
	}
	return have <= want
}

// lookup finds a dotted path, through nested objects and through keys that contain the dots themselves.
func lookup(fields map[string]any, path []string) []any {
	var found []any
	for n := 1; n <= len(path); n++ {
		v, ok := fields[strings.Join(path[:n], ".")]
		if !ok {
			continue
		}
		if n == len(path) {
			found = append(found, v)
		} else if inner, ok := v.(map[string]any); ok {
			found = append(found, lookup(inner, path[n:])...)
		}
	}
	return found
}

// queryParser reads a query from left to right.
type queryParser struct{ rest string }

func parseQuery(text string) (query, error) {
	p := &queryParser{text}
	q, err := p.either()
	if err != nil {
		return nil, err
	}
	if p.skip(); p.rest != "" {
		return nil, fmt.Errorf("unexpected %q", p.rest)
	}
	return q, nil
}

func (p *queryParser) skip() { p.rest = strings.TrimLeft(p.rest, " \t\r\n") }

// word takes the given word if it comes next.
func (p *queryParser) word(w string) bool {
	p.skip()
	if !strings.HasPrefix(p.rest, w) {
		return false
	}
	p.rest = p.rest[len(w):]
	return true
}

func (p *queryParser) either() (query, error) {
	return p.list("OR ", func(parts []query) query { return anyOf(parts) }, p.both)
}

func (p *queryParser) both() (query, error) {
	return p.list("AND ", func(parts []query) query { return all(parts) }, p.one)
}

func (p *queryParser) list(separator string, join func([]query) query, part func() (query, error)) (query, error) {
	var parts []query
	for {
		q, err := part()
		if err != nil {
			return nil, err
		}
		parts = append(parts, q)
		if !p.word(separator) {
			break
		}
	}
	if len(parts) == 1 {
		return parts[0], nil
	}
	return join(parts), nil
}

// one reads a group in parentheses, * or *:*, or field:value.
func (p *queryParser) one() (query, error) {
	switch {
	case p.word("("):
		q, err := p.either()
		if err == nil && !p.word(")") {
			err = fmt.Errorf("a ) is missing")
		}
		return q, err
	case p.word("*:*"), p.rest == "*":
		p.rest = strings.TrimPrefix(p.rest, "*")
		return everything{}, nil
	}
	path, rest, ok := strings.Cut(p.rest, ":")
	if !ok || path == "" || strings.ContainsAny(path, " ()\"[]") {
		return nil, fmt.Errorf("expected field:value at %q", p.rest)
	}
	p.rest = rest
	if !p.word("(") {
		return p.value(path)
	}
	q, err := p.list("OR ", func(parts []query) query { return anyOf(parts) }, func() (query, error) { return p.value(path) })
	if err == nil && !p.word(")") {
		err = fmt.Errorf("a ) is missing")
	}
	return q, err
}

func (p *queryParser) value(path string) (query, error) {
	t := term{path: strings.ReplaceAll(path, `\`, ""), bare: true}
	for _, op := range []string{">=", "<=", ">", "<"} {
		if p.word(op) {
			t.op = op
			break
		}
	}
	p.skip()
	quoted := strings.HasPrefix(p.rest, `"`)
	if quoted {
		p.rest, t.bare = p.rest[1:], false
	}
	var b strings.Builder
	for i := 0; i < len(p.rest); i++ {
		c := p.rest[i]
		switch {
		case c == '\\' && i+1 < len(p.rest):
			i++
			b.WriteByte(p.rest[i])
		case quoted && c == '"':
			p.rest = p.rest[i+1:]
			t.value = b.String()
			return t, nil
		case !quoted && (c == ' ' || c == ')'):
			p.rest = p.rest[i:]
			return t.named(b.String())
		case !quoted && strings.IndexByte(`([]{}~^"`, c) >= 0:
			return nil, fmt.Errorf("%q is not understood", p.rest[i:])
		default:
			b.WriteByte(c)
		}
	}
	if quoted {
		return nil, fmt.Errorf("a quote is not closed")
	}
	p.rest = ""
	return t.named(b.String())
}

// named completes a bare term. Wildcards beyond "exists" are not played.
func (t term) named(value string) (query, error) {
	if value == "" || value != "*" && strings.ContainsAny(value, "*?") {
		return nil, fmt.Errorf("the value %q is not understood", value)
	}
	t.value = value
	return t, nil
}
