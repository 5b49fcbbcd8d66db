package format

import (
	"strings"

	"serbridge/transform"
)

// cefHeader are the parts of a CEF header, which bars divide.
var cefHeader = []string{"version", "vendor", "product", "device_version", "class", "name", "severity"}

// parseCEF reads a line of ArcSight's Common Event Format as {cef: {header}, ext: {extension}, labels: {…}}, where labels
// has the values of custom fields by the names that their labels give them.
func parseCEF(line string) (transform.Value, *transform.Reject) {
	parts, extension, ok := splitHeader(strings.TrimPrefix(line, "CEF:"), len(cefHeader))
	if !ok {
		return transform.Value{}, &transform.Reject{Reason: transform.InvalidText, Detail: "a CEF header has 7 parts and a bar after each"}
	}
	header := make([]transform.Member, len(parts))
	for i, p := range parts {
		header[i] = transform.Member{Name: cefHeader[i], Value: transform.String(strings.TrimSpace(p))}
	}
	fields := extensionFields(extension)
	return transform.Object(
		transform.Member{Name: "cef", Value: transform.Object(header...)},
		transform.Member{Name: "ext", Value: fields.value()},
		transform.Member{Name: "labels", Value: labels(fields)},
	), nil
}

// splitHeader cuts n parts off, each ended by a bar. A backslash takes the bar or backslash behind it as it is.
func splitHeader(s string, n int) (parts []string, rest string, ok bool) {
	parts = make([]string, 0, n)
	from := 0
	for i := 0; i < len(s); i++ {
		switch s[i] {
		case '\\':
			i++
		case '|':
			parts = append(parts, unescape(s[from:i], headerEscapes))
			from = i + 1
			if len(parts) == n {
				return parts, s[from:], true
			}
		}
	}
	return nil, "", false
}

var headerEscapes = strings.NewReplacer(`\\`, `\`, `\|`, `|`)

// extensionFields reads key=value pairs. Values hold blanks, so that a value ends where the next key starts, which is a
// word behind a blank and before an equals sign without a backslash.
func extensionFields(s string) *fieldsOf {
	f := new(fieldsOf)
	key, from := "", 0
	for i := 0; i < len(s) && len(f.members) < maxTextFields; i++ {
		if s[i] == '\\' {
			i++
			continue
		}
		if s[i] != '=' {
			continue
		}
		start := keyStart(s, from, i)
		if start < 0 {
			continue
		}
		if key != "" {
			f.set(key, transform.String(unescape(strings.TrimSpace(s[from:start]), extensionEscapes)))
		}
		key, from = s[start:i], i+1
	}
	if key != "" {
		f.set(key, transform.String(unescape(strings.TrimSpace(s[from:]), extensionEscapes)))
	}
	return f
}

// keyStart returns where the key that ends before the equals sign at end starts, or -1 when that is no key.
func keyStart(s string, from, end int) int {
	start := end
	for start > from && isKeyByte(s[start-1]) {
		start--
	}
	if start == end || start > from && s[start-1] != ' ' && s[start-1] != '\t' || start == from && from > 0 {
		return -1
	}
	return start
}

func isKeyByte(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '_' || c == '-' || c == '.' || c == '[' || c == ']'
}

var extensionEscapes = strings.NewReplacer(`\\`, `\`, `\=`, `=`, `\n`, "\n", `\r`, "\r", `\|`, `|`)

func unescape(s string, escapes *strings.Replacer) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	return escapes.Replace(s)
}

// labels pairs cs1Label=Rule with cs1=…, wherever in the line both stand.
func labels(fields *fieldsOf) transform.Value {
	named := new(fieldsOf)
	for _, m := range fields.members {
		field, isLabel := strings.CutSuffix(m.Name, "Label")
		if !isLabel {
			continue
		}
		at := fields.index(field)
		if name, _ := m.Value.Text(); at >= 0 && name != "" {
			named.set(name, fields.members[at].Value)
		}
	}
	return named.value()
}
