package format

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"unicode/utf8"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"

	"serbridge/transform"
)

// Filter is a condition on records and the documents made of them: one CEL expression, checked and compiled. It has the
// functions of mappings, and like theirs says nothing, which is no, of what cannot be evaluated. It is safe for concurrent
// use.
type Filter struct {
	program cel.Program
	names   map[string]bool // that it uses
}

// Facts are what a filter knows beside a record's value and document.
type Facts struct {
	Key     []byte
	Headers map[string]string // the first of each name
}

// FilterNames are what a filter can name.
func FilterNames() []string {
	return []string{"document", "format", "headers", "key", "offset", "partition", "record", "timestamp", "topic"}
}

// Why a part of a record is left out.
const (
	Filtered                          = transform.Filtered
	FilterFailed transform.SkipReason = "filter_failed" // it would have cost more than a filter may: errCost
)

var filterEnvironment = sync.OnceValue(func() *cel.Env { return environmentWith(FilterNames(), false) })

// NewFilter compiles a filter. The error names line and column.
func NewFilter(source string) (*Filter, error) {
	checked, issues := filterEnvironment().Compile(source)
	if issues != nil && issues.Err() != nil {
		return nil, fmt.Errorf("compile filter: %w; it can name %s", issues.Err(), strings.Join(FilterNames(), ", "))
	}
	if t := checked.OutputType(); t != cel.BoolType && t != cel.DynType {
		return nil, fmt.Errorf("compile filter: want a condition, such as document.severity >= 80, and this is of type %s", t)
	}
	program, err := programOf(filterEnvironment(), checked)
	if err != nil {
		return nil, fmt.Errorf("compile filter: %w", err)
	}
	f := &Filter{program: program, names: make(map[string]bool)}
	for _, name := range FilterNames() {
		f.names[name] = slices.ContainsFunc(references(checked), func(r string) bool { return r == name })
	}
	return f, nil
}

// references are the names that an expression uses.
func references(checked *cel.Ast) (names []string) {
	for _, r := range checked.NativeRep().ReferenceMap() {
		if r.Name != "" {
			names = append(names, r.Name)
		}
	}
	return names
}

// Select leaves out of a result what the filter does not mean, each part for itself. What made no document is asked with
// document null, so that a reject that is not meant does not become a dead letter; what is skipped stays skipped.
func (f *Filter) Select(in *transform.Input, facts Facts, result transform.Result) transform.Result {
	if result.Skip != "" {
		return result
	}
	vars := f.variables(in, facts, result.Format)
	defer vars.release()
	if result.Reject != nil {
		if skip := f.skip(vars, nil); skip != "" {
			result.Reject, result.Skip = nil, skip
		}
		return result
	}
	for i, p := range result.Parts {
		if p.Skip != "" {
			continue
		}
		if skip := f.skip(vars, p.Document); skip != "" {
			result.Parts[i] = transform.Part{Skip: skip}
		}
	}
	return result
}

// skip says why the document is left out; empty: it is meant.
func (f *Filter) skip(vars *filterVariables, d *transform.Document) transform.SkipReason {
	vars.document(d)
	result, _, err := f.program.Eval(vars)
	switch {
	case isTooCostly(err):
		return FilterFailed
	case err != nil || result != types.True:
		return Filtered
	}
	return ""
}

// filterVariables are what the names stand for.
type filterVariables struct {
	f      *Filter
	values map[string]ref.Val
	trees  []transform.Tree
}

func (f *Filter) variables(in *transform.Input, facts Facts, name string) *filterVariables {
	v := &filterVariables{f: f, values: map[string]ref.Val{
		"topic": types.String(in.Topic), "partition": types.Int(in.Partition), "offset": types.Int(in.Offset),
		"timestamp": types.Timestamp{Time: in.Timestamp}, "format": types.String(name), "key": types.NullValue,
	}}
	if facts.Key != nil {
		v.values["key"] = types.String(strings.ToValidUTF8(string(facts.Key), "\uFFFD"))
	}
	v.values["headers"] = types.DefaultTypeAdapter.NativeToValue(facts.Headers)
	v.values["record"] = v.tree("record", in.Value, in.Settings)
	return v
}

// tree reads a JSON text; what is none is a text.
func (v *filterVariables) tree(name string, text []byte, settings *transform.Settings) ref.Val {
	if !v.f.names[name] || text == nil {
		return absent{}
	}
	tree, reject := transform.Read(&transform.Input{Value: text, Settings: settings})
	if reject == nil {
		v.trees = append(v.trees, tree)
		return operand(tree.Root, false)
	}
	if !utf8.Valid(text) {
		return types.String(strings.ToValidUTF8(string(text), "\uFFFD"))
	}
	return types.String(text)
}

func (v *filterVariables) document(d *transform.Document) {
	v.values["document"] = absent{}
	if d == nil || !v.f.names["document"] {
		return
	}
	if text, err := d.Encode(); err == nil {
		v.values["document"] = v.tree("document", text, nil)
	}
}

func (v *filterVariables) release() {
	for _, t := range v.trees {
		t.Release()
	}
}

// ResolveName makes the variables the activation of a CEL program.
func (v *filterVariables) ResolveName(name string) (any, bool) {
	value, ok := v.values[name]
	return value, ok
}

// Parent makes the variables the activation of a CEL program.
func (v *filterVariables) Parent() cel.Activation { return nil }
