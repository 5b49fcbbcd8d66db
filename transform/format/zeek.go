package format

import (
	"fmt"
	"strconv"
	"strings"

	"serbridge/transform"
)

// zeekHeader is what the lines with a number sign say of a Zeek log in columns.
type zeekHeader struct {
	separator, setSeparator, empty, unset string
	path                                  string
	fields, types                         []string
}

// zeekLog reads a Zeek log in columns, header and rows, as the objects that Zeek's own JSON writer would have written.
func zeekLog(s string) ([]leaf, bool) {
	h := zeekHeader{separator: "\t", setSeparator: ",", empty: "(empty)", unset: "-"}
	var rows []leaf
	for line := range strings.Lines(s) {
		line = strings.TrimRight(line, "\r\n")
		switch {
		case strings.TrimSpace(line) == "":
		case strings.HasPrefix(line, "#"):
			h.read(line)
		case h.fields == nil:
			return nil, false
		default:
			rows = append(rows, h.row(line))
		}
	}
	return rows, h.fields != nil
}

func (h *zeekHeader) read(line string) {
	if sep, ok := strings.CutPrefix(line, "#separator "); ok {
		h.separator = unescapeZeek(strings.TrimSpace(sep))
		if h.separator == "" {
			h.separator = "\t"
		}
		return
	}
	key, rest, _ := strings.Cut(line, h.separator)
	switch key {
	case "#set_separator":
		if rest != "" {
			h.setSeparator = rest
		}
	case "#empty_field":
		h.empty = rest
	case "#unset_field":
		h.unset = rest
	case "#path":
		h.path = rest
	case "#fields":
		h.fields = strings.Split(rest, h.separator)
	case "#types":
		h.types = strings.Split(rest, h.separator)
	}
}

func (h *zeekHeader) row(line string) leaf {
	columns := strings.Split(line, h.separator)
	if len(columns) != len(h.fields) {
		return leaf{text: line, reject: &transform.Reject{Reason: transform.InvalidText,
			Detail: fmt.Sprintf("%d columns where #fields names %d", len(columns), len(h.fields))}}
	}
	f := new(fieldsOf)
	f.set("_path", transform.String(h.path))
	for i, name := range h.fields {
		kind := ""
		if i < len(h.types) {
			kind = h.types[i]
		}
		if v := h.value(columns[i], kind); !v.IsAbsent() {
			f.set(name, v)
		}
	}
	return leaf{record: f.value(), text: line}
}

func (h *zeekHeader) value(column, kind string) transform.Value {
	isList := strings.HasPrefix(kind, "set[") || strings.HasPrefix(kind, "vector[")
	switch {
	case column == h.unset:
		return transform.Value{}
	case column == h.empty && isList:
		return transform.Array()
	case column == h.empty:
		return transform.Value{}
	case !isList:
		return zeekScalar(column, kind)
	}
	kind = strings.TrimSuffix(kind[strings.IndexByte(kind, '[')+1:], "]")
	var elements []transform.Value
	for part := range strings.SplitSeq(column, h.setSeparator) {
		elements = append(elements, zeekScalar(part, kind))
	}
	return transform.Array(elements...)
}

func zeekScalar(text, kind string) transform.Value {
	switch kind {
	case "time", "interval", "double", "count", "int", "port":
		if n := transform.Number(text); !n.IsAbsent() {
			return n
		}
	case "bool":
		return transform.Bool(text == "T")
	}
	return transform.String(unescapeZeek(text))
}

// unescapeZeek reads \\ and \xHH.
func unescapeZeek(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	var out strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] != '\\' || i+1 == len(s) {
			out.WriteByte(s[i])
			continue
		}
		if n, err := strconv.ParseUint(s[min(i+2, len(s)):min(i+4, len(s))], 16, 8); s[i+1] == 'x' && err == nil && i+4 <= len(s) {
			out.WriteByte(byte(n))
			i += 3
			continue
		}
		if s[i+1] == '\\' {
			i++
		}
		out.WriteByte(s[i])
	}
	return out.String()
}
