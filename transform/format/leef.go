package format

import (
	"strconv"
	"strings"

	"serbridge/transform"
)

// leefHeader are the parts of a LEEF header, which bars divide.
var leefHeader = []string{"version", "vendor", "product", "product_version", "event_id"}

// parseLEEF reads a line of IBM's Log Event Extended Format as {leef: {header}, ext: {attributes}}.
func parseLEEF(line string) (transform.Value, *transform.Reject) {
	parts, rest, ok := splitHeader(strings.TrimPrefix(line, "LEEF:"), len(leefHeader))
	if !ok {
		return transform.Value{}, &transform.Reject{Reason: transform.InvalidText, Detail: "a LEEF header has 5 parts and a bar after each"}
	}
	header := make([]transform.Member, len(parts))
	for i, p := range parts {
		header[i] = transform.Member{Name: leefHeader[i], Value: transform.String(strings.TrimSpace(p))}
	}
	delimiter := "\t"
	if strings.HasPrefix(parts[0], "2") {
		if named, after, found := strings.Cut(rest, "|"); found && len(named) <= len("0x09") {
			delimiter, rest = leefDelimiter(named), after
		}
	}
	return transform.Object(
		transform.Member{Name: "leef", Value: transform.Object(header...)},
		transform.Member{Name: "ext", Value: leefFields(rest, delimiter).value()},
	), nil
}

// leefDelimiter is a character, or one in hexadecimal digits: ^, x5E, 0x5E.
func leefDelimiter(named string) string {
	if len(named) == 1 {
		return named
	}
	digits := strings.TrimPrefix(strings.TrimPrefix(named, "0"), "x")
	if n, err := strconv.ParseUint(digits, 16, 8); err == nil && n != 0 {
		return string(rune(n))
	}
	return "\t"
}

// leefFields reads the attributes. Where a source has written blanks in place of the delimiter, a value ends where the
// next key starts, as in CEF.
func leefFields(s, delimiter string) *fieldsOf {
	if !strings.Contains(s, delimiter) {
		return extensionFields(s)
	}
	f := new(fieldsOf)
	for pair := range strings.SplitSeq(s, delimiter) {
		key, v, found := strings.Cut(pair, "=")
		if key = strings.TrimSpace(key); found && key != "" && len(f.members) < maxTextFields {
			f.set(key, transform.String(strings.TrimSpace(v)))
		}
	}
	return f
}
