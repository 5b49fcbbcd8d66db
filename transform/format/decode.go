package format

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"cel.dev/cel-go/cel"
	"go.yaml.in/yaml/v3"

	"serbridge/transform"
)

// decoder reads a mapping file strictly: what it does not know is a problem, with file, line, column and field, and all
// problems are told at once.
type decoder struct {
	file     string
	fold     bool
	calls    calls // of the expressions read so far
	problems []error
}

func (d *decoder) err() error { return errors.Join(d.problems...) }

func (d *decoder) bad(n *yaml.Node, field, format string, args ...any) {
	d.badAt(n.Line, n.Column, field, format, args...)
}

func (d *decoder) badAt(line, column int, field, format string, args ...any) {
	d.problems = append(d.problems, fmt.Errorf("%s:%d:%d: %s: %s", d.file, line, column, field, fmt.Sprintf(format, args...)))
}

func (d *decoder) yamlError(err error) error {
	return fmt.Errorf("%s: %w", d.file, err)
}

// each calls read for every key and value of a YAML mapping.
func (d *decoder) each(n *yaml.Node, field string, read func(key string, k, v *yaml.Node)) {
	if n.Kind != yaml.MappingNode {
		d.bad(n, field, "want keys and values")
		return
	}
	seen := make(map[string]bool)
	for i := 0; i+1 < len(n.Content); i += 2 {
		k, v := n.Content[i], n.Content[i+1]
		if seen[k.Value] {
			d.bad(k, field, "%q comes twice", k.Value)
		}
		seen[k.Value] = true
		read(k.Value, k, v)
	}
}

// parse reads a file's YAML, with what it takes from a built-in one, whose content is returned too.
func (d *decoder) parse(content []byte) (root *yaml.Node, base string) {
	var document yaml.Node
	if err := yaml.Unmarshal(content, &document); err != nil {
		d.problems = append(d.problems, d.yamlError(err))
		return &yaml.Node{Kind: yaml.MappingNode, Line: 1, Column: 1}, ""
	}
	root = d.root(&document)
	if n := nodeAt(root, "extends"); n != nil {
		base = d.extend(root, n)
	}
	return root, base
}

func (d *decoder) root(document *yaml.Node) *yaml.Node {
	if len(document.Content) != 1 {
		return &yaml.Node{Kind: yaml.ScalarNode, Line: 1, Column: 1}
	}
	return document.Content[0]
}

// extend adds to a file what it takes from a built-in one: every key that it does not have itself, cases left out. It
// returns the built-in's content, which is part of what the mapping's hash is of.
func (d *decoder) extend(root, base *yaml.Node) string {
	content, err := files.ReadFile(base.Value + ".yaml")
	if err != nil {
		d.bad(base, "extends", "%q is no built-in mapping", base.Value)
		return ""
	}
	var document yaml.Node
	if err := yaml.Unmarshal(content, &document); err != nil {
		d.bad(base, "extends", "%v", err)
		return ""
	}
	from := d.root(&document)
	for i := 0; i+1 < len(from.Content); i += 2 {
		if key := from.Content[i].Value; key != "cases" && nodeAt(root, key) == nil {
			root.Content = append(root.Content, from.Content[i], from.Content[i+1])
		}
	}
	return string(content)
}

// ruleKeys are the keys of a file that hold expressions, and are read by rules.
var ruleKeys = []string{
	"source", "expand", "skip", "fields", "timestamp", "severity", "status", "detected", "pairs", "own", "tactics", "techniques",
	"from", "to", "identity",
}

func (d *decoder) header(m *mapping, root *yaml.Node) {
	d.each(root, "mapping", func(key string, k, v *yaml.Node) {
		switch key {
		case "extends": // read before
		case "format":
			m.format = d.word(v, key)
		case "title":
			m.title = d.word(v, key)
		case "schema":
			m.schema = d.word(v, key)
		case "order":
			m.order = d.integer(v, key)
		case "off":
			m.off = d.boolean(v, key)
		case "fold":
			m.fold = d.boolean(v, key)
		case "dotted":
			m.dotted = d.boolean(v, key)
		case "recognise":
			m.signs = d.signs(v, key)
		case "ignore":
			m.strange = d.signs(v, key)
		case "cases": // read on their own
		default:
			if !slices.Contains(ruleKeys, key) {
				d.bad(k, key, "unknown key; there are extends, format, title, schema, order, off, fold, dotted, recognise, ignore, cases, %s", strings.Join(ruleKeys, ", "))
			}
		}
	})
}

func (d *decoder) word(v *yaml.Node, field string) string {
	if v.Kind != yaml.ScalarNode {
		d.bad(v, field, "want a text")
	}
	return v.Value
}

func (d *decoder) integer(v *yaml.Node, field string) int {
	n, err := strconv.Atoi(v.Value)
	if err != nil || v.Kind != yaml.ScalarNode {
		d.bad(v, field, "want a whole number")
	}
	return n
}

func (d *decoder) boolean(v *yaml.Node, field string) bool {
	b, err := strconv.ParseBool(v.Value)
	if err != nil || v.Kind != yaml.ScalarNode {
		d.bad(v, field, "want true or false")
	}
	return b
}

func (d *decoder) signs(v *yaml.Node, field string) (all []sign) {
	if v.Kind != yaml.SequenceNode {
		d.bad(v, field, "want a list, each with paths and what must stand there")
		return nil
	}
	for _, alternative := range v.Content {
		var one sign
		d.each(alternative, field, func(path string, _, v *yaml.Node) { one = append(one, d.check(path, v, field)) })
		if len(one) == 0 || one[0].kind == missing {
			d.bad(alternative, field, "want a first check that looks for something")
			continue
		}
		all = append(all, one)
	}
	return all
}

func (d *decoder) check(path string, v *yaml.Node, field string) check {
	c := check{path: path, text: v.Value}
	kind, tagged := checkTags[v.Tag]
	switch {
	case tagged:
		c.kind = kind
	case v.Kind == yaml.SequenceNode:
		c.kind = in
		for _, e := range v.Content {
			c.any = append(c.any, d.word(e, field))
		}
	case v.Kind != yaml.ScalarNode || strings.HasPrefix(v.Tag, "!") && !strings.HasPrefix(v.Tag, "!!"):
		d.bad(v, field+" "+path, "want a value, a list of values, or one of !present, !absent, !text, !number, !object, !list, !prefix TEXT, !suffix TEXT, !contains TEXT")
	}
	return c
}

func (d *decoder) rules(root *yaml.Node) *rules {
	r := new(rules)
	d.calls = make(calls)
	d.each(root, "mapping", func(key string, _, v *yaml.Node) {
		switch key {
		case "source":
			r.source = d.word(v, key)
		case "expand":
			r.expand = d.expression(v, key)
		case "skip":
			r.skips = d.skips(v)
		case "fields":
			r.fields = d.fields(v, key, isMappedField)
		case "timestamp":
			r.times = d.expressions(v, key)
		case "severity":
			r.severity = d.scales(v, key)
		case "status":
			r.status = d.scales(v, key)
		case "detected":
			r.detected = d.fields(v, key, nil)
		case "pairs":
			r.pairs = d.expressions(v, key)
		case "own":
			r.own = d.fields(v, key, isOwnName)
		case "tactics":
			r.tactics = d.expressions(v, key)
		case "techniques":
			r.techniques = d.expressions(v, key)
		case "from":
			r.from = d.expressions(v, key)
		case "to":
			r.to = d.expressions(v, key)
		case "identity":
			r.identity = d.expressions(v, key)
		}
	})
	r.calls = len(d.calls)
	return r
}

// expressions reads one expression or a list of them.
func (d *decoder) expressions(v *yaml.Node, field string) []*expression {
	if v.Kind != yaml.SequenceNode {
		return []*expression{d.expression(v, field)}
	}
	all := make([]*expression, len(v.Content))
	for i, e := range v.Content {
		all[i] = d.expression(e, field)
	}
	return all
}

// expression compiles one. A problem in it is told at its own line and column where the YAML keeps them.
func (d *decoder) expression(v *yaml.Node, field string) *expression {
	if v.Kind != yaml.ScalarNode || strings.TrimSpace(v.Value) == "" {
		d.bad(v, field, "want an expression or a list of them")
		return nil
	}
	x, issues := compile(v.Value, d.fold, d.calls)
	if issues != nil {
		d.issues(v, field, issues)
		return nil
	}
	return x
}

func (d *decoder) issues(v *yaml.Node, field string, issues *cel.Issues) {
	for _, e := range issues.Errors() {
		line, column := v.Line, v.Column
		switch {
		case v.Style&(yaml.LiteralStyle|yaml.FoldedStyle) != 0: // its text starts a line below
			line += e.Location.Line()
			column = e.Location.Column() + 1
		case v.Style&(yaml.SingleQuotedStyle|yaml.DoubleQuotedStyle) != 0:
			column += e.Location.Column() + 1
		default:
			column += e.Location.Column()
		}
		d.badAt(line, column, field, "%s", e.Message)
	}
	if len(issues.Errors()) == 0 {
		d.bad(v, field, "cannot be made a program")
	}
}

func (d *decoder) fields(v *yaml.Node, field string, allowed func(string) (string, bool)) (all []fieldRule) {
	d.each(v, field, func(name string, k, v *yaml.Node) {
		if allowed != nil {
			if why, ok := allowed(name); !ok {
				d.bad(k, field+" "+name, "%s", why)
			}
		}
		all = append(all, fieldRule{name, d.expressions(v, field+" "+name)})
	})
	return all
}

// mappedFields are the fields of the vendor's table that expressions fill one by one.
var mappedFields = []string{
	"event_name", "event_type", "event_source", "event_category", "event_score", "fidelity", "threat_score", "lateral", "orig_id",
	"orig_index", "start_bucket_time", "end_bucket_time", "actual", "typical",
}

func isMappedField(name string) (why string, ok bool) {
	return "unknown field; there are " + strings.Join(mappedFields, ", "), slices.Contains(mappedFields, name)
}

// takenNames are what the namespace holds for every format.
var takenNames = []string{
	"source_format", "mapping", "dedup_key", "delivery_key", "kafka", "degraded", "raw_json", "fields", "tactics", "techniques",
	"killchain_stage", "name_defaulted",
}

func isOwnName(name string) (why string, ok bool) {
	isWord := strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789_") == ""
	switch {
	case !isWord || name == "":
		return "want lower-case letters, digits and _", false
	case slices.Contains(takenNames, name) || strings.HasSuffix(name, "_native"):
		return "this name has its own meaning", false
	}
	return "", true
}

func (d *decoder) skips(v *yaml.Node) (all []skipRule) {
	if v.Kind != yaml.SequenceNode {
		d.bad(v, "skip", "want a list of when and reason")
		return nil
	}
	for _, rule := range v.Content {
		var s skipRule
		d.each(rule, "skip", func(key string, k, v *yaml.Node) {
			switch key {
			case "when":
				s.when = d.expression(v, "skip when")
			case "reason":
				s.reason = transform.SkipReason(v.Value)
				if !slices.Contains(transform.SkipReasons(), s.reason) {
					d.bad(v, "skip reason", "unknown; there are %v", transform.SkipReasons())
				}
			default:
				d.bad(k, "skip", "want when and reason")
			}
		})
		if s.when == nil || s.reason == "" {
			d.bad(rule, "skip", "want when and reason")
			continue
		}
		all = append(all, s)
	}
	return all
}

// scales reads a list of scales, or one.
func (d *decoder) scales(v *yaml.Node, field string) []scale {
	if v.Kind != yaml.SequenceNode {
		return []scale{d.scale(v, field)}
	}
	all := make([]scale, len(v.Content))
	for i, e := range v.Content {
		all[i] = d.scale(e, field)
	}
	return all
}

// scale reads an expression alone, whose words are those of all formats, or one with a table.
func (d *decoder) scale(v *yaml.Node, field string) (s scale) {
	if v.Kind != yaml.MappingNode {
		s.from = d.expressions(v, field)
		return s
	}
	d.each(v, field, func(key string, k, v *yaml.Node) {
		switch key {
		case "from":
			s.from = d.expressions(v, field)
		case "words":
			d.each(v, field, func(word string, k, v *yaml.Node) {
				if word != strings.ToLower(strings.TrimSpace(word)) {
					d.bad(k, field, "words are compared in lower case: write %q", strings.ToLower(word))
				}
				s.words = append(s.words, wordValue{word, d.meaning(v, field)})
			})
		case "bands":
			s.bands = d.bands(v, field)
		case "times":
			times, err := strconv.ParseFloat(v.Value, 64)
			if err != nil || times <= 0 {
				d.bad(v, field, "want a number above 0")
			}
			s.times = times
		default:
			d.bad(k, field, "unknown key %q; there are from, words, bands, times", key)
		}
	})
	if s.from == nil {
		d.bad(v, field, "want from, where the native value stands")
	}
	return s
}

// meaning is a number for a severity, a word for a status, nothing for a word that says nothing.
func (d *decoder) meaning(v *yaml.Node, field string) transform.Value {
	if v.Tag == "!!null" {
		return transform.Value{}
	}
	severity, err := strconv.Atoi(v.Value)
	isStatus := slices.Contains([]string{"New", "In Progress", "Ignored", "Closed"}, v.Value)
	if field == "severity" && (err != nil || severity < 0 || severity > 100) || field == "status" && !isStatus {
		d.bad(v, field, "%q: allowed are severities 0 to 100; statuses New, In Progress, Ignored and Closed", v.Value)
	}
	if isStatus {
		return transform.String(v.Value)
	}
	return transform.Integer(int64(severity))
}

func (d *decoder) bands(v *yaml.Node, field string) (all []band) {
	d.each(v, field, func(key string, k, v *yaml.Node) {
		most, err := strconv.ParseFloat(key, 64)
		if err != nil || len(all) > 0 && most <= all[len(all)-1].most {
			d.bad(k, field, "want rising numbers, each the last of its band")
			return
		}
		all = append(all, band{most, d.meaning(v, field)})
	})
	return all
}

func (d *decoder) cases(v *yaml.Node) (all []mappingCase) {
	if v == nil {
		return nil
	}
	if v.Kind != yaml.SequenceNode {
		d.bad(v, "cases", "want a list of name, input and want")
		return nil
	}
	for _, one := range v.Content {
		c := mappingCase{line: one.Line}
		d.each(one, "cases", func(key string, k, v *yaml.Node) {
			switch key {
			case "name":
				c.name = d.word(v, "cases name")
			case "input":
				c.input = d.word(v, "cases input")
			case "want":
				c.want = v
			default:
				d.bad(k, "cases", "unknown key %q; there are name, input and want", key)
			}
		})
		if c.name == "" || c.want == nil {
			d.bad(one, "cases", "want name, input and want")
			continue
		}
		all = append(all, c)
	}
	return all
}
