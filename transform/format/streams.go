package format

import (
	"bytes"
	"errors"
	"io"
	"regexp"
	"slices"
	"strings"
	"time"

	"cel.dev/cel-go/cel"
	"go.yaml.in/yaml/v3"

	"serbridge/transform"
)

// Streams are what holds for single topics, as a STREAMS_FILE says it: a list of topics, or a pattern, each with settings
// that stand in for those of the environment. nil says nothing of any topic.
type Streams struct{ all []stream }

type stream struct {
	topics  []string
	pattern *regexp.Regexp // nil: topics by name
	set     []func(*transform.Settings)
}

// ReadStreams reads a STREAMS_FILE, whose name the errors begin with. They are all that is wrong in it, each with line,
// column and field; the formats are judged by the mappings that are in use.
func ReadStreams(file string, content []byte) (*Streams, error) {
	d := &streamsDecoder{decoder: decoder{file: file}, named: make(map[string]bool)}
	root := d.document(content)
	if root == nil {
		return nil, d.err()
	}
	if root.Kind != yaml.SequenceNode || len(root.Content) == 0 {
		d.bad(root, "streams", "want a list, each with topics and what holds for them")
	}
	s := new(Streams)
	if root.Kind == yaml.SequenceNode {
		for _, n := range root.Content {
			s.all = append(s.all, d.stream(n))
		}
	}
	if err := d.err(); err != nil {
		return nil, err
	}
	return s, nil
}

// Over returns what holds for a topic: base, changed by the entry that names the topic, else by the first whose pattern
// fits it. base is not changed.
func (s *Streams) Over(base *transform.Settings) func(topic string) *transform.Settings {
	byName := make(map[string]*transform.Settings)
	type patterned struct {
		pattern  *regexp.Regexp
		settings *transform.Settings
	}
	var byPattern []patterned
	for _, one := range s.streams() {
		settings := one.over(base)
		if one.pattern != nil {
			byPattern = append(byPattern, patterned{one.pattern, settings})
		}
		for _, topic := range one.topics {
			byName[topic] = settings
		}
	}
	return func(topic string) *transform.Settings {
		if settings, ok := byName[topic]; ok {
			return settings
		}
		for _, p := range byPattern {
			if p.pattern.MatchString(topic) {
				return p.settings
			}
		}
		return base
	}
}

// Topics returns the topics that stand there by name.
func (s *Streams) Topics() (all []string) {
	for _, one := range s.streams() {
		all = append(all, one.topics...)
	}
	return all
}

func (s *Streams) streams() []stream {
	if s == nil {
		return nil
	}
	return s.all
}

func (s stream) over(base *transform.Settings) *transform.Settings {
	settings := *base
	for _, set := range s.set {
		set(&settings)
	}
	return &settings
}

// streamsDecoder reads the file as strictly as a mapping is read: a setting that is misspelt is a setting that is not there.
type streamsDecoder struct {
	decoder
	named map[string]bool // topics so far
}

// document is the file's one YAML document. What stands in a second one would be obeyed by nobody.
func (d *streamsDecoder) document(content []byte) *yaml.Node {
	var first, second yaml.Node
	file := yaml.NewDecoder(bytes.NewReader(content))
	switch err := file.Decode(&first); {
	case errors.Is(err, io.EOF):
		return &yaml.Node{Kind: yaml.ScalarNode, Line: 1, Column: 1}
	case err != nil:
		d.problems = append(d.problems, d.yamlError(err))
		return nil
	}
	if err := file.Decode(&second); !errors.Is(err, io.EOF) {
		d.bad(&second, "streams", "want one YAML document, and a second one begins")
	}
	return d.root(&first)
}

func (d *streamsDecoder) stream(n *yaml.Node) (s stream) {
	d.each(n, "streams", func(key string, k, v *yaml.Node) {
		read, known := streamKeys[key]
		switch {
		case key == "topics":
			d.topics(v, &s)
		case known:
			s.set = append(s.set, read(d, v))
		default:
			d.bad(k, key, "unknown key; there are topics, formats, event_source, event_status, severity_default, time_zone, on_unknown, filter")
		}
	})
	if n.Kind == yaml.MappingNode && nodeAt(n, "topics") == nil {
		d.bad(n, "topics", "want the topics that the rest is for")
	}
	return s
}

// streamKeys read one setting, and return what it does.
var streamKeys = map[string]func(*streamsDecoder, *yaml.Node) func(*transform.Settings){
	"formats": (*streamsDecoder).formats, "event_source": (*streamsDecoder).source, "event_status": (*streamsDecoder).status,
	"severity_default": (*streamsDecoder).severity, "time_zone": (*streamsDecoder).zone, "on_unknown": (*streamsDecoder).unknown,
	"filter": (*streamsDecoder).filter,
}

var topicName = regexp.MustCompile(`^[A-Za-z0-9._-]{1,249}$`)

// topics reads one topic, a list of them, or one pattern.
func (d *streamsDecoder) topics(v *yaml.Node, s *stream) {
	for _, n := range d.list(v, "topics") {
		name := d.word(n, "topics")
		switch {
		case strings.HasPrefix(name, "^"):
			d.pattern(n, s)
		case !topicName.MatchString(name):
			d.bad(n, "topics", "%q: want a topic's name, or one pattern that starts with ^", name)
		case d.named[name]:
			d.bad(n, "topics", "%q stands here twice, and only one can hold", name)
		}
		d.named[name] = true
		if s.pattern == nil {
			s.topics = append(s.topics, name)
		}
	}
	if s.pattern != nil && (v.Kind != yaml.ScalarNode && len(v.Content) > 1) {
		d.bad(v, "topics", "a pattern stands alone: want topics, or one pattern")
	}
}

func (d *streamsDecoder) pattern(n *yaml.Node, s *stream) {
	pattern, err := regexp.Compile(n.Value)
	if err != nil {
		d.bad(n, "topics", "want a regular expression in Go's syntax: %v", err)
		return
	}
	s.pattern, s.topics = pattern, nil
}

// list is one value or a list of them, which must not be empty.
func (d *streamsDecoder) list(v *yaml.Node, field string) []*yaml.Node {
	if v.Kind != yaml.SequenceNode {
		return []*yaml.Node{v}
	}
	if len(v.Content) == 0 {
		d.bad(v, field, "want at least one")
	}
	return v.Content
}

func (d *streamsDecoder) formats(v *yaml.Node) func(*transform.Settings) {
	var names []string
	for _, n := range d.list(v, "formats") {
		name := d.word(n, "formats")
		if name != auto && !slices.Contains(Names(), name) {
			d.bad(n, "formats", "%q: want %s, or some of %s", name, auto, strings.Join(Names(), ", "))
		}
		names = append(names, name)
	}
	return func(s *transform.Settings) { s.Formats = names }
}

func (d *streamsDecoder) source(v *yaml.Node) func(*transform.Settings) {
	source := d.word(v, "event_source")
	if strings.TrimSpace(source) == "" {
		d.bad(v, "event_source", "want a text")
	}
	return func(s *transform.Settings) { s.EventSource = source }
}

// oneOf reads one of a few words.
func (d *streamsDecoder) oneOf(v *yaml.Node, field string, words []string) string {
	word := d.word(v, field)
	if !slices.Contains(words, word) {
		d.bad(v, field, "%q: want one of %s", word, strings.Join(words, ", "))
	}
	return word
}

func (d *streamsDecoder) status(v *yaml.Node) func(*transform.Settings) {
	status := d.oneOf(v, "event_status", transform.Statuses())
	return func(s *transform.Settings) { s.EventStatus = status }
}

func (d *streamsDecoder) severity(v *yaml.Node) func(*transform.Settings) {
	before := len(d.problems)
	severity := d.integer(v, "severity_default")
	if len(d.problems) == before && (severity < 0 || severity > 100) {
		d.bad(v, "severity_default", "%d: want a number from 0 to 100", severity)
	}
	return func(s *transform.Settings) { s.SeverityDefault = &severity }
}

// zone refuses Local: what a document says must not depend on the machine.
func (d *streamsDecoder) zone(v *yaml.Node) func(*transform.Settings) {
	name := d.word(v, "time_zone")
	zone, err := time.LoadLocation(name)
	if err != nil || name == "Local" || name == "" {
		d.bad(v, "time_zone", "%q: want a name of the IANA time zone database, such as UTC or Europe/Berlin", name)
	}
	return func(s *transform.Settings) { s.TimeZone = zone }
}

func (d *streamsDecoder) unknown(v *yaml.Node) func(*transform.Settings) {
	word := d.oneOf(v, "on_unknown", []string{"dead-letter", genericName})
	return func(s *transform.Settings) { s.OnUnknown = word }
}

// filter compiles the expression. One that cannot say false leaves nothing out, which nobody means.
func (d *streamsDecoder) filter(v *yaml.Node) func(*transform.Settings) {
	if x := d.expression(v, "filter"); x != nil {
		checked, _ := environment(false).Compile(x.source)
		if t := checked.OutputType(); !t.IsExactType(cel.BoolType) && !t.IsExactType(cel.DynType) {
			d.bad(v, "filter", "is a %s: want a condition, such as r.severity == \"high\"", t)
		}
	}
	return func(s *transform.Settings) { s.Filter = v.Value }
}
