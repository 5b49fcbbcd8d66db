package stellartest

import (
	"bytes"
	"fmt"
	"strconv"

	"github.com/go-json-experiment/json/jsontext"
)

// mappingLimit is Elasticsearch's default for the fields of one index.
const mappingLimit = 1000

// termLimit is the length of the longest term that Lucene indexes, in bytes.
const termLimit = 32766

// mapping is a dynamic mapping: the first document types a field for all later ones.
type mapping struct{ types map[string]fieldType }

// add checks the members of custom_ser_field against the mapping and, if none is in conflict, enters the new fields.
// The reason is Elasticsearch's.
func (m *mapping) add(custom []byte) (reason string) {
	fresh := make(map[string]fieldType)
	dec := jsontext.NewDecoder(bytes.NewBufferString("{" + string(custom) + "}"))
	if reason = m.walk(dec, "custom_ser_field", fresh); reason != "" {
		return reason
	}
	if len(m.types)+len(fresh) > mappingLimit {
		return fmt.Sprintf("Limit of total fields [%d] has been exceeded", mappingLimit)
	}
	if m.types == nil {
		m.types = make(map[string]fieldType)
	}
	for path, t := range fresh {
		m.types[path] = t
	}
	return ""
}

// walk reads one value. An array has the types of its elements, null has none.
func (m *mapping) walk(dec *jsontext.Decoder, path string, fresh map[string]fieldType) (reason string) {
	switch dec.PeekKind() {
	case '{':
		reason = m.note(path, objectType, nil, fresh)
		dec.ReadToken()
		for dec.PeekKind() == '"' && reason == "" {
			name, _ := dec.ReadToken()
			reason = m.walk(dec, path+"."+name.String(), fresh)
		}
		dec.ReadToken()
		return reason
	case '[':
		dec.ReadToken()
		for dec.PeekKind() != ']' && reason == "" {
			reason = m.walk(dec, path, fresh)
		}
		dec.ReadToken()
		return reason
	}
	value, _ := dec.ReadValue()
	switch value.Kind() {
	case '"':
		if len(value) > termLimit+2 {
			return fmt.Sprintf("Document contains at least one immense term in field=%q (whose UTF8 encoding is longer than the max length %d)", path, termLimit)
		}
		return m.note(path, stringType, value, fresh)
	case '0':
		if _, err := strconv.ParseInt(string(value), 10, 64); err == nil {
			return m.note(path, longType, value, fresh)
		}
		return m.note(path, floatType, value, fresh)
	case 't', 'f':
		return m.note(path, boolType, value, fresh)
	}
	return ""
}

func (m *mapping) note(path string, t fieldType, value []byte, fresh map[string]fieldType) (reason string) {
	known, ok := m.types[path]
	if !ok {
		known, ok = fresh[path]
	}
	switch {
	case !ok:
		fresh[path] = t
		return ""
	case known == t:
		return ""
	case known == objectType:
		return fmt.Sprintf("object mapping for [%s] tried to parse field [%s] as object, but found a concrete value", path, path)
	case t == objectType || !known.takes(value):
		return fmt.Sprintf("failed to parse field [%s] of type [%s]", path, known)
	}
	return ""
}
