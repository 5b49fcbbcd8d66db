package format

import (
	"fmt"
	"strings"

	"serbridge/transform"
)

// Draft writes a first mapping for records like this one: what the common names find, to be looked at and changed by
// whoever knows the source. The record is its first case.
func Draft(name string, in transform.Input) (string, error) {
	roots, tree, reject := read(&in)
	if reject != nil {
		return "", fmt.Errorf("read sample record: %s: %s", reject.Reason, reject.Detail)
	}
	defer tree.Release()
	record := roots[0].record
	if !record.IsObject() || record.Len() == 0 {
		return "", fmt.Errorf("read sample record: want a JSON object, got %s", record.TypeName())
	}
	generic := builtIn().byName[genericName]
	rules, err := generic.rules()
	if err != nil {
		return "", err
	}
	var out strings.Builder
	fmt.Fprintf(&out, "title: %s alert\nschema: where the source describes it\nfold: true\n", name)
	out.WriteString("# what no other record of your topics has; a value instead of !present is the better sign\nrecognise:\n")
	fmt.Fprintf(&out, "  - {%s}\nsource: %s\n", strings.Join(draftSigns(record), ", "), name)
	draftRules(&out, rules, &scope{r: record, leaf: new(leaf), fold: true})
	fmt.Fprintf(&out, "cases:\n  - name: the sample\n    input: %s\n    want: {event_source: %s}\n", yamlQuoted(record.JSON()), name)
	return out.String(), nil
}

// draftSigns are the first names of the record.
func draftSigns(record transform.Value) (signs []string) {
	for _, m := range record.Members() {
		if len(signs) < 3 && !m.Value.IsAbsent() {
			signs = append(signs, yamlQuoted(m.Name)+": !present ")
		}
	}
	return signs
}

func draftRules(out *strings.Builder, r *rules, s *scope) {
	section := func(name string, rules []fieldRule) {
		for _, rule := range rules {
			x := sayer(rule.from, s)
			if x == nil {
				continue
			}
			if name != "" {
				fmt.Fprintf(out, "%s:\n", name)
				name = ""
			}
			fmt.Fprintf(out, "  %s: %s\n", rule.name, yamlQuoted(x.source))
		}
	}
	section("fields", r.fields)
	for _, one := range []struct {
		name string
		from []*expression
	}{{"timestamp", r.times}, {"severity", fromOf(r.severity)}, {"status", fromOf(r.status)}} {
		if x := sayer(one.from, s); x != nil {
			fmt.Fprintf(out, "%s: %s\n", one.name, yamlQuoted(x.source))
		}
	}
	section("detected", r.detected)
	section("own", r.own)
	for _, field := range r.fields {
		if x := sayer(field.from, s); x != nil && field.name == "orig_id" {
			fmt.Fprintf(out, "identity: %s\n", yamlQuoted(x.source))
		}
	}
}

func fromOf(scales []scale) (all []*expression) {
	for _, s := range scales {
		all = append(all, s.from...)
	}
	return all
}

// sayer is the first expression that says something.
func sayer(from []*expression, s *scope) *expression {
	for _, x := range from {
		if v, err := x.eval(s); err == nil && !v.IsBlank() {
			return x
		}
	}
	return nil
}

func yamlQuoted(s string) string { return "'" + strings.ReplaceAll(s, "'", "''") + "'" }
