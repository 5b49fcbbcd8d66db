package stellartest

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"

	"github.com/go-json-experiment/json/jsontext"
)

// fieldType is the type of a field in the vendor's table, as far as Elasticsearch would refuse a value for it.
type fieldType string

const (
	unlisted   fieldType = ""
	stringType fieldType = "string"
	longType   fieldType = "long"
	floatType  fieldType = "float"
	dateType   fieldType = "date"
	boolType   fieldType = "boolean"
	objectType fieldType = "object"
)

// typeOf is the vendor's table of fields. name is as written, in quotes.
func typeOf(name []byte) fieldType {
	switch string(name) {
	case `"event_name"`, `"event_status"`, `"event_source"`, `"event_category"`, `"event_type"`, `"orig_id"`, `"orig_index"`,
		`"detected_field"`, `"detected_fields"`, `"detected_value"`, `"detected_values"`:
		return stringType
	case `"timestamp"`, `"write_time"`, `"stellar.alert_time"`:
		return dateType
	case `"event_score"`, `"severity"`, `"threat_score"`, `"detector_index"`, `"start_bucket_time"`, `"end_bucket_time"`:
		return longType
	case `"fidelity"`, `"actual"`, `"typical"`:
		return floatType
	case `"lateral"`:
		return boolType
	case `"custom_ser_field"`:
		return objectType
	}
	return unlisted
}

// takes says whether Elasticsearch would take the value for a field of the type, its coercions included.
func (t fieldType) takes(value []byte) bool {
	switch kind := jsontext.Value(value).Kind(); {
	case kind == 'n':
		return true
	case kind == '[':
		return t != objectType // the elements are not looked at
	case t == objectType:
		return kind == '{'
	case kind == '{':
		return false
	case t == stringType:
		return true
	case t == boolType:
		return kind == 't' || kind == 'f' || string(value) == `"true"` || string(value) == `"false"`
	case kind == '"':
		_, err := strconv.ParseFloat(string(value[1:len(value)-1]), 64)
		return err == nil
	default:
		return kind == '0'
	}
}

// member is one name and value of the document, both as written.
type member struct{ name, value []byte }

// shaper turns a request's body into the document that the platform stores. One per request; its buffers are reused.
type shaper struct {
	body   bytes.Buffer
	dec    jsontext.Decoder
	listed []member // fields of the vendor's table
	moved  []member // unknown keys
	custom []byte   // explicit custom_ser_field

	timestamp int64
	status    string
}

var shapers = sync.Pool{New: func() any { return new(shaper) }}

func (s *shaper) release() {
	if s.body.Cap() > 1<<20 {
		return // one giant must not stay in the pool for ever
	}
	s.body.Reset()
	shapers.Put(s)
}

// shape reads the body and checks it in the order of the vendor's texts: required fields first, then the status word.
// On success refusal.status is 0 and encode may be called.
func (s *shaper) shape(v *Variant) (refusal answer) {
	s.listed, s.moved, s.custom, s.timestamp, s.status = s.listed[:0], s.moved[:0], nil, 0, ""
	seen := 0
	err := s.members(func(name, value []byte) {
		if required(name) && !blank(value) {
			seen++
		}
		if typeOf(name) != unlisted || v.KeepTenant && string(name) == `"tenantid"` {
			s.listed = append(s.listed, member{name, value})
		} else {
			s.moved = append(s.moved, member{name, value})
		}
	})
	switch {
	case err != nil:
		return text(http.StatusBadRequest, "Request body is not one JSON object: "+err.Error())
	case seen < 4:
		return v.refusal("Missing fields to be updated for the event")
	}
	return s.check(v)
}

// members calls yield for every member of the body, which must be one JSON object and nothing else.
func (s *shaper) members(yield func(name, value []byte)) error {
	body := s.body.Bytes()
	s.dec.Reset(bytes.NewBuffer(body))
	if s.dec.PeekKind() != '{' {
		return fmt.Errorf("it starts with %s", s.dec.PeekKind())
	}
	if _, err := s.dec.ReadToken(); err != nil {
		return err
	}
	// The decoder's own slices die with the next call; those of the body, found by offset, live as long as the body.
	read := func() ([]byte, error) {
		v, err := s.dec.ReadValue()
		end := s.dec.InputOffset()
		return body[end-int64(len(v)) : end], err
	}
	for s.dec.PeekKind() != '}' {
		name, err := read()
		if err != nil {
			return err
		}
		value, err := read()
		if err != nil {
			return err
		}
		yield(name, value)
	}
	if _, err := s.dec.ReadToken(); err != nil {
		return err
	}
	if _, err := s.dec.ReadToken(); err != io.EOF {
		return fmt.Errorf("something follows it")
	}
	return nil
}

func required(name []byte) bool {
	switch string(name) {
	case `"event_name"`, `"timestamp"`, `"event_status"`, `"event_source"`:
		return true
	}
	return false
}

func blank(value []byte) bool { return string(value) == "null" || string(value) == `""` }

// check judges the listed fields and takes out those that are not stored as they were sent.
func (s *shaper) check(v *Variant) (refusal answer) {
	kept := s.listed[:0]
	for _, m := range s.listed {
		switch string(m.name) {
		case `"event_status"`:
			word, ok := v.status(m.value)
			if !ok {
				return v.refusal("Invalid event status value: " + plain(m.value))
			}
			s.status = word
			continue
		case `"timestamp"`:
			ms, ok := milliseconds(m.value)
			if !ok {
				return conflict("failed to parse field [timestamp] of type [date]")
			}
			s.timestamp = ms
			continue
		case `"write_time"`:
			continue // the server's own
		case `"tenantid"`:
			kept = append(kept, m)
			continue
		}
		if t := typeOf(m.name); !t.takes(m.value) {
			return conflict(fmt.Sprintf("failed to parse field [%s] of type [%s]", plain(m.name), t))
		}
		switch {
		case string(m.name) != `"custom_ser_field"`:
			kept = append(kept, m)
		case v.CustomFields == CustomNested:
			s.moved = append(s.moved, m)
		case m.value[0] == '{': // null: as if absent
			s.custom = m.value
		}
	}
	s.listed = kept
	return answer{}
}

// status finds the stored spelling of a status word.
func (v *Variant) status(value []byte) (string, bool) {
	word := plain(value)
	for _, canonical := range []string{"New", "In Progress", "Ignored", "Closed"} {
		if word == canonical || v.LenientStatus && strings.EqualFold(word, canonical) {
			return canonical, value[0] == '"'
		}
	}
	return "", false
}

// milliseconds reads a timestamp: an integer, or a float that is cut to one, as Python's time.time()*1000 sends it.
func milliseconds(value []byte) (int64, bool) {
	if ms, err := strconv.ParseInt(string(value), 10, 64); err == nil {
		return ms, true
	}
	f, err := strconv.ParseFloat(string(value), 64)
	return int64(f), err == nil && f > -1e18 && f < 1e18
}

// plain is a JSON string without its quotes, any other value as written.
func plain(value []byte) string {
	if text, err := jsontext.AppendUnquote(nil, value); err == nil {
		return string(text)
	}
	return string(value)
}

// customMembers are the members of custom_ser_field: the explicit ones, and the moved keys that are not among them.
func (s *shaper) customMembers() []byte {
	var out []byte
	if s.custom != nil {
		out = bytes.TrimSpace(s.custom[1 : len(s.custom)-1])
	}
	if len(s.moved) == 0 {
		return out
	}
	out = bytes.Clone(out)
	explicit := s.explicitNames()
	for _, m := range s.moved {
		if !explicit[plain(m.name)] {
			out = appendMember(out, m.name, m.value)
		}
	}
	return out
}

func (s *shaper) explicitNames() map[string]bool {
	if s.custom == nil {
		return nil
	}
	names := make(map[string]bool)
	dec := jsontext.NewDecoder(bytes.NewBuffer(s.custom))
	for _, err := dec.ReadToken(); err == nil && dec.PeekKind() == '"'; err = dec.SkipValue() {
		name, _ := dec.ReadValue()
		names[plain(name)] = true
	}
	return names
}

func appendMember(dst, name, value []byte) []byte {
	if len(dst) > 0 && dst[len(dst)-1] != '{' {
		dst = append(dst, ',')
	}
	dst = append(dst, name...)
	dst = append(dst, ':')
	return append(dst, value...)
}

// encode is the stored document: what was sent, and what the server adds.
func (s *shaper) encode(v *Variant, custom []byte, writeTime int64) []byte {
	out := make([]byte, 0, s.body.Len()+192)
	out = append(out, '{')
	if len(custom) > 0 {
		out = append(out, `"custom_ser_field":{`...)
		out = append(out, custom...)
		out = append(out, '}')
	}
	tenant := []byte(`""`)
	for _, m := range s.listed {
		if v.KeepTenant && string(m.name) == `"tenantid"` {
			tenant = m.value
			continue
		}
		out = appendMember(out, m.name, m.value)
	}
	out = appendMember(out, []byte(`"event_status"`), []byte(`"`+s.status+`"`))
	out = appendMember(out, []byte(`"msg_origin"`), []byte(`{"source":"API"}`))
	out = appendMember(out, []byte(`"tenantid"`), tenant)
	out = append(out, `,"timestamp":`...)
	out = strconv.AppendInt(out, s.timestamp, 10)
	out = append(out, `,"write_by":"API","write_time":`...)
	out = strconv.AppendInt(out, writeTime, 10)
	return append(out, '}')
}

// keys finds the first string member called delivery_key and the first called dedup_key, or whose name ends so after _ or
// ., at whatever depth: platforms move things about. It looks at bytes only, in one pass: inside a JSON string quotes are
// escaped, so _key" followed by a colon can only be a member.
func keys(body []byte) (delivery, dedup string) {
	const tail = `_key"`
	for at := 0; delivery == "" || dedup == ""; {
		i := bytes.Index(body[at:], []byte(tail))
		if i < 0 {
			break
		}
		before := body[:at+i]
		at += i + len(tail)
		value := memberValue(body[at:])
		switch {
		case delivery == "" && endsName(before, "delivery"):
			delivery = value
		case dedup == "" && endsName(before, "dedup"):
			dedup = value
		}
	}
	return delivery, dedup
}

// endsName says whether before ends in a member name's opening quote, or a separator in it, and the word.
func endsName(before []byte, word string) bool {
	start := len(before) - len(word)
	return start > 0 && string(before[start:]) == word && strings.IndexByte(`"_.`, before[start-1]) >= 0
}

// memberValue reads a colon and a string; "" if something else comes.
func memberValue(after []byte) string {
	const blanks = " \t\r\n"
	after = bytes.TrimLeft(after, blanks)
	if len(after) == 0 || after[0] != ':' {
		return ""
	}
	after = bytes.TrimLeft(after[1:], blanks)
	return plain(after[:stringEnd(after)])
}

// stringEnd is the length of the JSON string that value starts with, 0 if it starts with none.
func stringEnd(value []byte) int {
	if len(value) == 0 || value[0] != '"' {
		return 0
	}
	for i := 1; i < len(value); i++ {
		switch value[i] {
		case '\\':
			i++
		case '"':
			return i + 1
		}
	}
	return 0
}
