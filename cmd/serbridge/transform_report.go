package main

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"serbridge/transform"
	"serbridge/transform/format"
)

// mappingReport says what comes of many records, in place of the documents: which fields are filled, what is skipped,
// rejected and defaulted, and what would change under other mappings. It is bounded, whatever the records hold.
type mappingReport struct {
	findings
	Fields    map[string]int    `json:"fields"`             // documents that have the field
	Defaulted map[string]int    `json:"severity_defaulted"` // by the native severity that nothing is known of
	Examples  map[string]string `json:"reject_examples"`    // of each reason, the first
	Against   *comparison       `json:"against,omitempty"`

	other    func(transform.Input) transform.Result // nil: nothing is compared
	registry registrySettings
	ours     string // how the names of our namespace begin
}

// mostNames bounds how many fields, words or outcomes are told apart: a record may name its own.
const mostNames = 1000

// otherNames stands for the rest of them.
const otherNames = "(others)"

// countName counts a name, or that there are more than are told apart.
func countName(names map[string]int, name string) {
	if _, known := names[name]; !known && len(names) >= mostNames {
		name = otherNames
	}
	names[name]++
}

func newMappingReport(s settings, other func(transform.Input) transform.Result) *mappingReport {
	r := &mappingReport{findings: newFindings(), other: other, registry: s.Registry, ours: s.Transform.customNames(),
		Fields: make(map[string]int), Defaulted: make(map[string]int), Examples: make(map[string]string)}
	if other != nil {
		r.Against = newComparison(r.ours)
	}
	return r
}

// add takes in one record; where is its place, in words.
func (r *mappingReport) add(ctx context.Context, in transform.Input, where string) error {
	r.Records++
	r.Bytes += int64(len(in.Value))
	result, err := r.registry.reading(ctx, func() transform.Result { return format.Transform(in) })
	if err != nil {
		return fmt.Errorf("%s: %w", where, err)
	}
	if err := r.result(result, r.document); err != nil {
		return fmt.Errorf("look into the document of %s: %w", where, err)
	}
	r.exemplify(result, where)
	if r.other == nil {
		return nil
	}
	if err := r.Against.add(result, r.other(in), where); err != nil {
		return fmt.Errorf("compare the documents of %s: %w", where, err)
	}
	return nil
}

// document counts what a document has.
func (r *mappingReport) document(d *transform.Document) error {
	fields, err := flatten(d, r.ours)
	if err != nil {
		return err
	}
	for name := range fields {
		countName(r.Fields, name)
	}
	if fields[r.ours+"severity_defaulted"] == "true" {
		native, ok := fields[r.ours+"severity_native"]
		if !ok {
			native = "(none)"
		}
		countName(r.Defaulted, transform.Cut(native, 64))
	}
	return nil
}

// customNames is how the names of our namespace begin.
func (s transformSettings) customNames() string {
	if s.CustomFields == "flat" {
		return s.CustomNamespace + "."
	}
	return "custom_ser_field." + s.CustomNamespace + "."
}

func (r *mappingReport) exemplify(result transform.Result, where string) {
	for _, part := range append([]transform.Part{{Reject: result.Reject}}, result.Parts...) {
		if part.Reject == nil {
			continue
		}
		if _, has := r.Examples[string(part.Reject.Reason)]; !has {
			r.Examples[string(part.Reject.Reason)] = strings.Join(strings.Fields(where+": "+part.Reject.Field+" "+part.Reject.Detail), " ")
		}
	}
}

// span notes a record's time in Kafka, which files have none of.
func (r *mappingReport) span(at time.Time) {
	if r.First.IsZero() || at.Before(r.First) {
		r.First = at
	}
	if at.After(r.Last) {
		r.Last = at
	}
}

// print shows the report to a person.
func (r *mappingReport) print(w io.Writer) {
	printCount(w, "records", r.Records)
	r.findings.print(w, 0)
	r.printDefaulted(w)
	for _, reason := range slices.Sorted(maps.Keys(r.Examples)) {
		fmt.Fprintf(w, "first %s: %s\n", reason, escape(r.Examples[reason]))
	}
	r.printFields(w)
	if r.Against != nil {
		r.Against.print(w)
	}
}

func (r *mappingReport) printDefaulted(w io.Writer) {
	total := 0
	for _, n := range r.Defaulted {
		total += n
	}
	printCount(w, "severity defaulted", total)
	printReasons(w, r.Defaulted)
}

// printFields lists the vendor's fields in the order of their table, those that are never filled too, then ours.
func (r *mappingReport) printFields(w io.Writer) {
	if r.Documents == 0 {
		return
	}
	fmt.Fprintf(w, "\n%-50s   filled\n", "field")
	names := transform.Fields()
	for _, name := range slices.Sorted(maps.Keys(r.Fields)) {
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	for _, name := range names {
		n := r.Fields[name]
		fmt.Fprintf(w, "  %-48s %6.1f %%  %d\n", escape(name), 100*float64(n)/float64(r.Documents), n)
	}
}
