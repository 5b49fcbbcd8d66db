package format

import (
	"fmt"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

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
	said := draftRules(&out, rules, &scope{r: record, leaf: new(leaf), fold: true})
	draftLeft(&out, record, said)
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

// draftRules returns the expressions that it wrote, by what they stand for.
func draftRules(out *strings.Builder, r *rules, s *scope) map[string]string {
	said := make(map[string]string)
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
			said[rule.name] = x.source
		}
	}
	section("fields", r.fields)
	for _, one := range []struct {
		name string
		from []*expression
	}{{"timestamp", r.times}, {"severity", fromOf(r.severity)}, {"status", fromOf(r.status)}} {
		if x := sayer(one.from, s); x != nil {
			fmt.Fprintf(out, "%s: %s\n", one.name, yamlQuoted(x.source))
			said[one.name] = x.source
		}
	}
	section("detected", r.detected)
	section("own", r.own)
	if id := said["orig_id"]; id != "" {
		fmt.Fprintf(out, "identity: %s\n", yamlQuoted(id))
	}
	return said
}

// draftLeft lists, as comments, what the record says and no expression takes: what a name does not tell, whoever knows the
// source sees.
func draftLeft(out *strings.Builder, record transform.Value, said map[string]string) {
	taken := make(map[string]bool)
	for _, source := range said {
		taken[source] = true
	}
	var left []string
	eachLeaf("r", record, func(path string, v transform.Value) {
		if !taken[path] && !v.IsBlank() {
			text, ok := v.Text()
			if !ok {
				text = v.JSON()
			}
			left = append(left, fmt.Sprintf("#   %s: %.60s", path, strconv.QuoteToASCII(text)))
		}
	})
	if len(left) == 0 {
		return
	}
	var none []string
	for _, name := range []string{"fields.event_name", "timestamp", "severity", "identity"} {
		if said[strings.TrimPrefix(name, "fields.")] == "" && (name != "identity" || said["orig_id"] == "") {
			none = append(none, name)
		}
	}
	out.WriteString("# What no name tells the meaning of, to be given one above")
	if none != nil {
		fmt.Fprintf(out, " (%s: none yet)", strings.Join(none, ", "))
	}
	fmt.Fprintf(out, ":\n%s\n", strings.Join(left, "\n"))
}

// eachLeaf calls f with all that is no object, and the expression that says it.
func eachLeaf(path string, v transform.Value, f func(string, transform.Value)) {
	if !v.IsObject() {
		f(path, v)
		return
	}
	for _, m := range v.Members() {
		next := path + "." + m.Name
		isWord := !strings.ContainsFunc(m.Name, func(c rune) bool { return c >= utf8.RuneSelf || !isWordByte(byte(c)) }) // or it could end the comment
		if _, err := compile(next, true, nil); err != nil || !isWord {
			next = path + "[" + strconv.QuoteToASCII(m.Name) + "]"
		}
		eachLeaf(next, m.Value, f)
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

// yamlQuoted is one line, whatever stands in s.
func yamlQuoted(s string) string {
	if strings.ContainsFunc(s, func(c rune) bool { return !unicode.IsPrint(c) }) {
		return strconv.QuoteToASCII(s)
	}
	return "'" + strings.ReplaceAll(s, "'", "''") + "'"
}
