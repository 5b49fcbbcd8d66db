package audit

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"

	"serbridge/bridge/stellar"
	"serbridge/transform"
)

// Copies is what the index holds of one delivery.
type Copies struct {
	N         int      `json:"copies"`          // ten at most are looked at
	Index     string   `json:"index,omitempty"` // of the first
	ID        string   `json:"id,omitempty"`
	Differs   []string `json:"differs,omitempty"`          // fields that are not as they were sent, in any copy
	Elsewise  string   `json:"mapped_otherwise,omitempty"` // the mapping that made the first, if another one would today: then nothing can be compared
	WriteTime int64    `json:"-"`                          // of the first, in milliseconds since 1970; 0: the platform says none
}

// Compare holds what was found in the index against the document that was sent. A nil document is one that cannot be made
// any more: then only the copies count.
func Compare(found []stellar.Stored, ours func(stellar.Stored) stellar.Ours, sent *transform.Document) Copies {
	c := Copies{N: len(found)}
	for i, s := range found {
		about := ours(s)
		if i == 0 {
			c.Index, c.ID, c.WriteTime = s.Index, s.ID, writeTime(s.Source)
		}
		if sent == nil {
			continue
		}
		if about.Mapping != "" && about.Mapping != sent.Mapping() {
			c.Elsewise = about.Mapping
			continue
		}
		for _, name := range differs(sent, s.Source, about.Degraded) {
			if !slices.Contains(c.Differs, name) {
				c.Differs = append(c.Differs, name)
			}
		}
	}
	return c
}

func writeTime(source []byte) int64 {
	var document struct {
		WriteTime int64 `json:"write_time"`
	}
	_ = json.Unmarshal(source, &document)
	return document.WriteTime
}

// differs compares with what the slimming ladder may have made of the document, where the stored one says that it did.
func differs(sent *transform.Document, stored []byte, degraded bool) (fields []string) {
	rungs := []*transform.Document{sent}
	if degraded {
		rungs = append(rungs, sent.WithoutRaw(), sent.Bare())
	}
	for i, d := range rungs {
		text, err := d.Encode()
		if err != nil {
			return []string{err.Error()}
		}
		found := Differences(text, stored)
		if len(found) == 0 {
			return nil
		}
		if i == 0 || len(found) < len(fields) {
			fields = found
		}
	}
	return fields
}

// changed by whoever works on an alert, and by the platform when it takes a document in.
var notOurs = map[string]bool{"event_status": true, "write_time": true}

const customField = "custom_ser_field"

// Differences names the fields of the sent document that the stored one does not have, or has with another value. What the
// platform added is none: it moves fields that it does not know under custom_ser_field, and some versions nest that again.
func Differences(sent, stored []byte) (fields []string) {
	want, err := object(sent)
	if err != nil {
		return []string{"(the sent document cannot be read)"}
	}
	have, err := object(stored)
	if err != nil {
		return []string{"(the stored document cannot be read)"}
	}
	custom, _ := have[customField].(map[string]any)
	again, _ := custom[customField].(map[string]any)
	for _, name := range slices.Sorted(maps.Keys(want)) {
		switch inner, isObject := want[name].(map[string]any); {
		case notOurs[name]:
		case name == customField && isObject:
			fields = append(fields, missing(inner, name, custom, again)...)
		default:
			fields = append(fields, missing(map[string]any{name: want[name]}, "", have, custom, again)...)
		}
	}
	return fields
}

func object(text []byte) (map[string]any, error) {
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.UseNumber()
	var o map[string]any
	err := decoder.Decode(&o)
	return o, err
}

// missing names the members that none of the places has as they are wanted; of objects, the members in them.
func missing(want map[string]any, path string, places ...map[string]any) (fields []string) {
	for _, name := range slices.Sorted(maps.Keys(want)) {
		if at := slices.IndexFunc(places, func(p map[string]any) bool { return equal(want[name], p[name]) }); at >= 0 {
			continue
		}
		full := name
		if path != "" {
			full = path + "." + name
		}
		inner, isObject := want[name].(map[string]any)
		at := slices.IndexFunc(places, func(p map[string]any) bool { _, is := p[name].(map[string]any); return is })
		if isObject && at >= 0 {
			fields = append(fields, missing(inner, full, places[at][name].(map[string]any))...)
			continue
		}
		fields = append(fields, full)
	}
	return fields
}

// equal regards numbers by their value, as an index does, and null as absent. An object may have more than is wanted.
func equal(want, have any) bool {
	switch want := want.(type) {
	case json.Number:
		n, ok := have.(json.Number)
		return ok && (n == want || sameFloat(string(n), string(want)))
	case map[string]any:
		h, ok := have.(map[string]any)
		return ok && len(missing(want, "", h)) == 0
	case []any:
		h, ok := have.([]any)
		return ok && slices.EqualFunc(want, h, equal)
	}
	return want == have
}

func sameFloat(a, b string) bool {
	x, errX := strconv.ParseFloat(a, 64)
	y, errY := strconv.ParseFloat(b, 64)
	return errX == nil && errY == nil && x == y
}

// String says in a few words what was found.
func (c Copies) String() string {
	switch {
	case c.N == 0:
		return "missing"
	case c.N > 1:
		return fmt.Sprintf("stored %d times", c.N)
	case len(c.Differs) > 0:
		return "stored, and different"
	}
	return "stored"
}
