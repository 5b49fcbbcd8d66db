package format

import (
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/go-json-experiment/json/jsontext"

	"serbridge/transform"
)

// leaf is one thing that a record carries, once what it was wrapped in is off: a detection of some format, or not.
type leaf struct {
	record transform.Value
	text   string            // the record as it stood in a text; empty: it stood in JSON
	outer  []transform.Value // the envelopes that were taken off, the outermost first

	repairs []transform.Repair // of the texts that it stood in

	mapping *mapping             // nil: none recognised it
	skip    transform.SkipReason // it is no detection
	reject  *transform.Reject    // it cannot be read
	isOff   bool                 // it is of a format that FORMATS would have to name

	merged transform.Value
}

// maxFacts bounds facts, which each leaf of an envelope gathers for itself.
const maxFacts = 1000

// facts are the members of all envelopes, those of the nearest first: an account, a region, an id, a time of arrival.
func (l *leaf) facts() transform.Value {
	if l.merged.IsAbsent() && len(l.outer) > 0 {
		var members []transform.Member
		seen := make(map[string]bool)
		for i := len(l.outer) - 1; i >= 0; i-- {
			for _, m := range l.outer[i].Members() {
				if !seen[m.Name] && len(members) < maxFacts {
					seen[m.Name] = true
					members = append(members, m)
				}
			}
		}
		l.merged = transform.Object(members...)
	}
	return l.merged
}

// raw is the leaf's own record as text.
func (l *leaf) raw() string {
	if l.text != "" {
		return l.text
	}
	return l.record.JSON()
}

// unknown says what the leaf looks like, and what it came out of.
func (l *leaf) unknown() string {
	if len(l.outer) == 0 {
		return unknown(l.record)
	}
	if !l.outer[len(l.outer)-1].IsObject() {
		return "in an array or text: " + unknown(l.record)
	}
	return "in an envelope: " + unknown(l.record)
}

// maxEnvelopes bounds how many envelopes are taken off one another.
const maxEnvelopes = 16

// opener takes envelopes off until every leaf is recognised, or shows that it is no envelope.
type opener struct {
	formats  *catalogue
	settings *transform.Settings
	leaves   []leaf
}

// openers keep their leaves' memory from record to record.
var openers = sync.Pool{New: func() any { return new(opener) }}

// release forgets the record, so that the pool keeps none alive, and what an unusual record has blown up.
func (o *opener) release() {
	const usual = 16
	leaves := o.leaves
	if cap(leaves) > usual {
		leaves = nil
	}
	clear(leaves)
	*o = opener{leaves: leaves[:0]}
	openers.Put(o)
}

// maxLeaves bounds what is looked at of one record. Only a record made for it comes near.
const maxLeaves = 200_000

// open adds the leaves of one value. It reports whether there is room for more.
func (o *opener) open(l leaf) bool {
	if len(o.leaves) == maxLeaves {
		return false
	}
	if l.record.IsObject() {
		if m := o.formats.recognise(&l, o.settings); m != nil {
			l.mapping = m
			o.leaves = append(o.leaves, l)
			return true
		}
	}
	inner, isEnvelope := o.unwrap(l)
	switch {
	case !isEnvelope:
		o.formats.judge(&l, o.settings)
		o.leaves = append(o.leaves, l)
		return true
	case len(l.outer) >= maxEnvelopes:
		l.reject = &transform.Reject{Reason: transform.TooDeep, Detail: fmt.Sprintf("more than %d envelopes in one another", maxEnvelopes)}
		o.leaves = append(o.leaves, l)
		return true
	}
	return o.openAll(l, inner)
}

func (o *opener) openAll(l leaf, inner []leaf) bool {
	outer := l.outer
	if l.record.IsObject() {
		outer = append(outer[:len(outer):len(outer)], l.record)
	} else {
		outer = append(outer[:len(outer):len(outer)], transform.Value{}) // it counts, and tells nothing
	}
	for i := range inner {
		inner[i].outer = append(outer[:len(outer):len(outer)], inner[i].outer...)
		inner[i].repairs = append(l.repairs[:len(l.repairs):len(l.repairs)], inner[i].repairs...)
		if !o.open(inner[i]) {
			return false
		}
	}
	return true
}

// unwrap returns what an envelope holds; false when the value is none.
func (o *opener) unwrap(l leaf) (inner []leaf, isEnvelope bool) {
	switch {
	case l.reject != nil || l.skip != "":
		return nil, false
	case l.record.IsArray():
		return elements(l.record), true
	case l.record.Kind() == jsontext.KindString:
		s, _ := l.record.Text()
		return readText(s, o.settings)
	}
	if !slices.ContainsFunc(l.record.Members(), func(m transform.Member) bool { return envelopeKeys[m.Name] }) {
		return nil, false
	}
	for _, e := range envelopes {
		if inner, isEnvelope := e(l.record, o.settings); isEnvelope {
			return inner, true
		}
	}
	return nil, false
}

// envelopeKeys are where envelopes hold what they carry: a record with none of them is not asked further.
var envelopeKeys = map[string]bool{
	"detail": true, "records": true, "findings": true, "Findings": true, "_source": true, "Message": true, "payload": true, "data": true,
	"value": true, "event": true, "message": true, "event.original": true, "log": true,
}

// envelopes are tried in this order. Each knows its own by what only it has.
var envelopes = []func(transform.Value, *transform.Settings) ([]leaf, bool){
	eventBridge, arrayMember("records"), findings, elasticsearchHit, notification, connectPayload, cloudEvent, odata, httpEvent,
	textMember("message"), textMember("event.original"), textMember("log"),
}

func elements(array transform.Value) []leaf {
	all := make([]leaf, array.Len())
	for i := range all {
		all[i].record = array.Index(i)
	}
	return all
}

// eventBridge is AWS EventBridge: {detail-type, source, account, region, time, detail}.
func eventBridge(v transform.Value, _ *transform.Settings) ([]leaf, bool) {
	detail := v.Get("detail")
	if v.Get("detail-type").IsAbsent() || !detail.IsObject() {
		return nil, false
	}
	return []leaf{{record: detail}}, true
}

// arrayMember is an object around one array, such as Azure Event Hubs' {records: […]}.
func arrayMember(name string) func(transform.Value, *transform.Settings) ([]leaf, bool) {
	return func(v transform.Value, _ *transform.Settings) ([]leaf, bool) {
		array := v.Get(name)
		return elements(array), array.IsArray()
	}
}

// findings is an answer of AWS GuardDuty's or Security Hub's API, or the detail of an event of the latter. An answer
// without findings is usual.
func findings(v transform.Value, _ *transform.Settings) ([]leaf, bool) {
	array := member(v, "findings", true)
	return elements(array), array.IsArray()
}

// elasticsearchHit is {_index, _id, _source}.
func elasticsearchHit(v transform.Value, _ *transform.Settings) ([]leaf, bool) {
	source := v.Get("_source")
	if v.Get("_index").IsAbsent() && v.Get("_id").IsAbsent() || !source.IsObject() {
		return nil, false
	}
	return []leaf{{record: source}}, true
}

// notification is AWS SNS: {Type: "Notification", TopicArn, Message: "<json>"}.
func notification(v transform.Value, settings *transform.Settings) ([]leaf, bool) {
	if v.Get("Type").IsAbsent() || v.Get("TopicArn").IsAbsent() && v.Get("MessageId").IsAbsent() {
		return nil, false
	}
	return memberText(v.Get("Message"), settings)
}

// connectPayload is what Kafka Connect's JSON converter writes: {schema, payload}.
func connectPayload(v transform.Value, settings *transform.Settings) ([]leaf, bool) {
	payload := v.Get("payload")
	switch {
	case v.Len() != 2 || v.Get("schema").IsAbsent() && payload.IsAbsent():
		return nil, false
	case payload.IsObject() || payload.IsArray():
		return []leaf{{record: payload}}, true
	}
	return memberText(payload, settings)
}

// cloudEvent is the CNCF's envelope in its JSON form: {specversion, type, source, data}.
func cloudEvent(v transform.Value, _ *transform.Settings) ([]leaf, bool) {
	data := v.Get("data")
	if v.Get("specversion").IsAbsent() || !data.IsObject() && !data.IsArray() {
		return nil, false
	}
	return []leaf{{record: data}}, true
}

// odata is an answer of Microsoft Graph: {@odata.context, value: […]}.
func odata(v transform.Value, _ *transform.Settings) ([]leaf, bool) {
	array := v.Get("value")
	if v.Get("@odata.context").IsAbsent() || !array.IsArray() {
		return nil, false
	}
	return elements(array), true
}

// httpEvent is Splunk's HTTP Event Collector: {time, host, source, sourcetype, index, event}.
func httpEvent(v transform.Value, settings *transform.Settings) ([]leaf, bool) {
	event := v.Get("event")
	if v.Get("sourcetype").IsAbsent() && v.Get("time").IsAbsent() && v.Get("index").IsAbsent() {
		return nil, false
	}
	if event.IsObject() {
		return []leaf{{record: event}}, true
	}
	return memberText(event, settings)
}

// textMember is a text that holds a record, as Filebeat, Logstash and Fluent Bit hand on a line that they did not read.
func textMember(path string) func(transform.Value, *transform.Settings) ([]leaf, bool) {
	return func(v transform.Value, settings *transform.Settings) ([]leaf, bool) {
		return memberText(lookup(v, path, false), settings)
	}
}

func memberText(v transform.Value, settings *transform.Settings) ([]leaf, bool) {
	if v.Kind() != jsontext.KindString {
		return nil, false
	}
	s, _ := v.Text()
	return readText(s, settings)
}

// readText reads a text as JSON, as lines of JSON, or as one of the text formats. It is false for any other text.
func readText(s string, settings *transform.Settings) ([]leaf, bool) {
	s = strings.TrimLeft(s, "\uFEFF \t\r\n")
	if s == "" {
		return nil, false
	}
	if s[0] == '{' || s[0] == '[' {
		tree, reject := transform.Read(&transform.Input{Value: []byte(s), Settings: settings})
		if reject == nil {
			return []leaf{{record: tree.Root, text: s, repairs: tree.Repairs}}, true
		}
		if reject.Reason == transform.TooDeep {
			return []leaf{{reject: reject}}, true
		}
	}
	if lines, ok := jsonLines(s, settings); ok {
		return lines, true
	}
	return plainText(s, settings)
}

// jsonLines reads several JSON objects, one a line. A line that is none is a part of its own, so that the others are not
// lost with it; the first must be one, or any broken record would count as lines.
func jsonLines(s string, settings *transform.Settings) ([]leaf, bool) {
	if s[0] != '{' || !strings.Contains(strings.TrimSpace(s), "\n") {
		return nil, false
	}
	var all []leaf
	for line := range strings.Lines(s) {
		if line = strings.TrimSpace(line); line == "" {
			continue
		}
		tree, reject := transform.Read(&transform.Input{Value: []byte(line), Settings: settings})
		if reject != nil && len(all) == 0 {
			return nil, false
		}
		all = append(all, leaf{record: tree.Root, text: line, repairs: tree.Repairs, reject: reject})
	}
	return all, true
}
