package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"serbridge/transform"
)

// comparison is what would change under other mappings: what records become, and field by field what documents hold.
type comparison struct {
	Records  int                     `json:"records_that_differ"`
	Outcomes map[string]int          `json:"outcomes"` // such as "falco: 1 document -> reject unknown_format"
	Fields   map[string]*fieldChange `json:"fields"`

	ours string // how the names of our namespace begin
}

// fieldChange counts documents in which a field is another one.
type fieldChange struct {
	Changed int    `json:"changed,omitempty"`
	Added   int    `json:"added,omitempty"`
	Removed int    `json:"removed,omitempty"`
	Example string `json:"example"` // the first: where, and what it was and would be
}

func newComparison(ours string) *comparison {
	return &comparison{ours: ours, Outcomes: make(map[string]int), Fields: make(map[string]*fieldChange)}
}

// add compares what one record becomes now with what it would become.
func (c *comparison) add(now, then transform.Result, where string) error {
	differs := false
	if was, is := outcomeOf(now), outcomeOf(then); was != is {
		differs = true
		countName(c.Outcomes, was+" -> "+is)
	}
	for i := range min(len(now.Parts), len(then.Parts)) {
		if now.Parts[i].Document == nil || then.Parts[i].Document == nil {
			continue
		}
		changed, err := c.documents(now.Parts[i].Document, then.Parts[i].Document, fmt.Sprintf("%s part %d", where, i))
		if err != nil {
			return err
		}
		differs = differs || changed
	}
	if differs {
		c.Records++
	}
	return nil
}

// outcomeOf says in a few words what a record became.
func outcomeOf(r transform.Result) string {
	var said []string
	if r.Format != "" {
		said = append(said, r.Format+":")
	}
	parts := r.Parts
	if len(parts) == 0 {
		parts = []transform.Part{{Skip: r.Skip, Reject: r.Reject}}
	}
	counts := make(map[string]int)
	for _, p := range parts {
		switch {
		case p.Document != nil:
			counts["document"]++
		case p.Reject != nil:
			counts[strings.TrimSpace("reject "+string(p.Reject.Reason)+" "+p.Reject.Field)]++
		default:
			counts["skip "+string(p.Skip)]++
		}
	}
	for _, what := range slices.Sorted(maps.Keys(counts)) {
		said = append(said, fmt.Sprintf("%d %s", counts[what], what))
	}
	return strings.Join(said, " ")
}

// documents reports whether the two differ.
func (c *comparison) documents(now, then *transform.Document, where string) (differs bool, err error) {
	was, err := flatten(now, c.ours)
	if err != nil {
		return false, err
	}
	is, err := flatten(then, c.ours)
	if err != nil {
		return false, err
	}
	for _, name := range slices.Sorted(maps.Keys(was)) {
		if value, has := is[name]; !has || value != was[name] {
			differs = true
			c.field(name, was[name], value, true, has, where)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(is)) {
		if _, had := was[name]; !had {
			differs = true
			c.field(name, "", is[name], false, true, where)
		}
	}
	return differs, nil
}

func (c *comparison) field(name, was, is string, had, has bool, where string) {
	if c.Fields[name] == nil && len(c.Fields) >= mostNames {
		name = otherNames
	}
	f := c.Fields[name]
	if f == nil {
		f = &fieldChange{Example: fmt.Sprintf("%s: %s -> %s", where, exampleOf(was, had), exampleOf(is, has))}
		c.Fields[name] = f
	}
	switch {
	case !had:
		f.Added++
	case !has:
		f.Removed++
	default:
		f.Changed++
	}
}

func exampleOf(value string, there bool) string {
	if !there {
		return "(none)"
	}
	return transform.Cut(value, 64)
}

// print shows the comparison to a person.
func (c *comparison) print(w io.Writer) {
	fmt.Fprintln(w)
	printCount(w, "records that would differ", c.Records)
	for _, what := range slices.Sorted(maps.Keys(c.Outcomes)) {
		fmt.Fprintf(w, "  %6d  %s\n", c.Outcomes[what], escape(what))
	}
	for _, name := range slices.Sorted(maps.Keys(c.Fields)) {
		f := c.Fields[name]
		fmt.Fprintf(w, "  %-48s %d changed, %d added, %d removed\n", escape(name), f.Changed, f.Added, f.Removed)
		fmt.Fprintf(w, "      %s\n", escape(f.Example))
	}
}

// flatten lists a document's fields by their paths, lists as one value. What tells where the record stands and which
// mapping made it is left out: it says nothing of the detection.
func flatten(d *transform.Document, ours string) (map[string]string, error) {
	text, err := d.Encode()
	if err != nil {
		return nil, err
	}
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.UseNumber()
	var members map[string]any
	if err := decoder.Decode(&members); err != nil {
		return nil, err
	}
	fields := make(map[string]string)
	flattenInto(fields, "", members)
	maps.DeleteFunc(fields, func(name, _ string) bool {
		is, found := strings.CutPrefix(name, ours)
		return found && (is == "delivery_key" || is == "mapping" || strings.HasPrefix(is, "kafka."))
	})
	return fields, nil
}

func flattenInto(fields map[string]string, path string, members map[string]any) {
	for name, value := range members {
		full := path + name
		switch value := value.(type) {
		case map[string]any:
			flattenInto(fields, full+".", value)
		case string:
			fields[full] = value
		default:
			text, _ := json.Marshal(value) // of what was decoded from JSON
			fields[full] = string(text)
		}
	}
}
