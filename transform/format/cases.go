package format

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"serbridge/transform"
)

// caseTime is the clock and Kafka's timestamp of every case.
var caseTime = time.Date(2026, time.July, 1, 12, 0, 0, 0, time.UTC)

// check runs a mapping's cases and returns what differs, each as one line that names file and case.
func (c *catalogue) check(m *mapping) (differences []string) {
	for _, one := range m.cases() {
		for _, difference := range compareResult(one.want, c.transform(caseInput(m, one))) {
			differences = append(differences, fmt.Sprintf("%s.yaml:%d: %s: %s", m.name, one.line, one.name, difference))
		}
	}
	return differences
}

func caseInput(m *mapping, one mappingCase) transform.Input {
	return transform.Input{
		Value: []byte(one.input), Topic: "cases", Timestamp: caseTime, Now: caseTime, Settings: caseSettings(m),
	}
}

// caseSettings switch a format on that is off by default, and by common names the mapping for them.
func caseSettings(m *mapping) *transform.Settings {
	switch {
	case m.name == genericName:
		return &transform.Settings{OnUnknown: genericName}
	case m.off:
		return &transform.Settings{Formats: []string{auto, m.format}}
	}
	return nil
}

// compareResult compares what a case wants: skip or reject with a reason, several documents in parts, or the fields of
// one. What a case does not name may be anything; null is for what must not be there.
func compareResult(want *yaml.Node, result transform.Result) []string {
	switch {
	case nodeAt(want, "skip") != nil:
		return differ("skip", nodeAt(want, "skip").Value, string(result.Skip))
	case nodeAt(want, "reject") != nil:
		if result.Reject == nil {
			return []string{"want reject " + nodeAt(want, "reject").Value + ", got none"}
		}
		return differ("reject", nodeAt(want, "reject").Value, string(result.Reject.Reason))
	case nodeAt(want, "parts") != nil:
		return compareParts(nodeAt(want, "parts"), result)
	case len(result.Parts) != 1 || result.Parts[0].Document == nil:
		return []string{"want a document, got " + describe(result)}
	}
	return compareDocument(want, result.Parts[0].Document)
}

func compareParts(want *yaml.Node, result transform.Result) (differences []string) {
	if len(want.Content) != len(result.Parts) {
		return []string{fmt.Sprintf("want %d parts, got %s", len(want.Content), describe(result))}
	}
	for i, w := range want.Content {
		part := transform.Result{Parts: result.Parts[i : i+1]}
		if p := result.Parts[i]; p.Document == nil {
			part = transform.Result{Skip: p.Skip, Reject: p.Reject}
		}
		for _, d := range compareResult(w, part) {
			differences = append(differences, fmt.Sprintf("part %d: %s", i, d))
		}
	}
	return differences
}

func describe(result transform.Result) string {
	switch {
	case result.Skip != "":
		return "skip " + string(result.Skip)
	case result.Reject != nil:
		return "reject " + string(result.Reject.Reason) + " " + result.Reject.Field + ": " + result.Reject.Detail
	}
	return strconv.Itoa(len(result.Parts)) + " parts"
}

func compareDocument(want *yaml.Node, d *transform.Document) []string {
	encoded, err := d.Encode()
	if err != nil {
		return []string{err.Error()}
	}
	tree, reject := transform.Read(&transform.Input{Value: encoded})
	if reject != nil {
		return []string{"the document is no JSON: " + reject.Detail}
	}
	got := tree.Root
	own := got.Get("custom_ser_field").Get("serbridge")
	var differences []string
	for i := 0; i+1 < len(want.Content); i += 2 {
		name, w := want.Content[i].Value, want.Content[i+1]
		if name != "own" {
			differences = append(differences, differ(name, jsonOf(w), jsonText(got.Get(name)))...)
			continue
		}
		for j := 0; j+1 < len(w.Content); j += 2 {
			differences = append(differences, differ(w.Content[j].Value, jsonOf(w.Content[j+1]), jsonText(own.Get(w.Content[j].Value)))...)
		}
	}
	return differences
}

func differ(name, want, got string) []string {
	if want == got {
		return nil
	}
	return []string{fmt.Sprintf("%s: want %s, got %s", name, want, got)}
}

func jsonText(v transform.Value) string { return v.Canonical().JSON() }

func nodeAt(n *yaml.Node, key string) *yaml.Node {
	for i := 0; n.Kind == yaml.MappingNode && i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == key {
			return n.Content[i+1]
		}
	}
	return nil
}

// jsonOf returns a YAML value as the JSON text that a document would hold.
func jsonOf(n *yaml.Node) string {
	switch {
	case n.Kind == yaml.SequenceNode:
		var elements []string
		for _, e := range n.Content {
			elements = append(elements, jsonOf(e))
		}
		return "[" + strings.Join(elements, ",") + "]"
	case n.Kind == yaml.MappingNode:
		var f fieldsOf
		for i := 0; i+1 < len(n.Content); i += 2 {
			tree, _ := transform.Read(&transform.Input{Value: []byte(jsonOf(n.Content[i+1]))})
			f.set(n.Content[i].Value, tree.Root)
		}
		return jsonText(f.value())
	case n.Tag == "!!int" || n.Tag == "!!float" || n.Tag == "!!bool" || n.Tag == "!!null":
		return strings.ToLower(n.Value)
	}
	return jsonText(transform.String(n.Value))
}
