package transform

import (
	"cmp"
	"fmt"
	"strings"
	"time"
)

// Documents makes the parts of a record out of what its format mapped, or one Reject for the whole record. What cannot
// be read in an optional field never costs the detection: the field is left out and its native value kept.
func Documents(in *Input, tree Tree, detections []Detection) ([]Part, *Reject) {
	settings := in.Settings.resolved()
	n := 0
	for i := range detections {
		if detections[i].Skip == "" { // what is skipped costs nothing
			n++
		}
	}
	if n > settings.MaxFanout {
		return nil, &Reject{Reason: TooManyDocuments,
			Detail: fmt.Sprintf("more than %d detections in one record, which is what MAX_FANOUT allows", settings.MaxFanout)}
	}
	parts := make([]Part, len(detections))
	for i := range detections {
		parts[i].Skip, parts[i].Reject = detections[i].Skip, detections[i].Reject
		if parts[i].Skip != "" || parts[i].Reject != nil {
			continue
		}
		b := builder{in: in, settings: settings, tree: tree, d: &detections[i], clock: clock{now: in.Now, zone: settings.TimeZone}}
		parts[i].Document, parts[i].Reject = b.build(i)
	}
	return parts, nil
}

// builder makes one document. Each method is the rule of one field or of a few that belong together.
type builder struct {
	in       *Input
	settings Settings
	tree     Tree
	d        *Detection
	clock    clock

	sent   [fieldCount]Value // the vendor's fields as they will be sent
	native []Member          // what the source said where something else is sent
	flags  [flagCount]bool
	raw    string // the native record as it will be sent, or empty
}

func (b *builder) build(part int) (*Document, *Reject) {
	if reject := b.name(); reject != nil {
		return nil, reject
	}
	if reject := b.source(); reject != nil {
		return nil, reject
	}
	if reject := b.time(); reject != nil {
		return nil, reject
	}
	b.status()
	b.scores()
	b.measures()
	b.lateral()
	b.text(eventTypeField)
	b.text(origIDField)
	b.text(origIndexField)
	names, values := b.detected()
	b.category(names, values)
	b.buckets()
	b.flags[late] = b.in.ReplayID != "" && b.in.Now.Sub(b.in.Timestamp) > lateAfter
	d := b.document(part)
	return d.fitted(b.settings.MaxDocumentBytes)
}

// lateAfter is how old a replayed record is that would mislead whoever takes its document for news.
const lateAfter = time.Hour

// value returns the native value of a field, absent also when it is blank.
func (b *builder) value(f field) Value {
	v := b.d.native[f]
	if v.IsBlank() {
		return Value{}
	}
	return v
}

// maxNative bounds a native value in the namespace; the whole of it is in raw_json.
const maxNative = 1024

// keep keeps what the source said in a field, as text, where something else is sent.
func (b *builder) keep(f field, v Value) {
	text, scalar := v.Text()
	if !scalar {
		text = string(v.appendTo(nil))
	}
	text, _ = cutText(text, maxNative)
	b.native = append(b.native, Member{nativeNames[f], String(text)})
}

// drop leaves out an optional field that cannot be sent.
func (b *builder) drop(f field, v Value) {
	b.keep(f, v)
	b.flags[fieldDropped] = true
}

func (b *builder) name() *Reject {
	v := b.value(eventNameField)
	text, scalar := v.Text()
	if !scalar && !v.IsAbsent() {
		return notText(eventNameField, v)
	}
	if text = cleanText(text); text == "" {
		return &Reject{Reason: MissingField, Field: "event_name", Detail: "event_name is absent or empty"}
	}
	b.sent[eventNameField] = String(text)
	return nil
}

func (b *builder) source() *Reject {
	v := b.value(eventSourceField)
	text, _ := v.Text()
	text = cleanText(text)
	if text == "" {
		text = cleanText(b.settings.EventSource)
		if text != "" && !v.IsAbsent() {
			b.drop(eventSourceField, v)
		}
	}
	if text != "" {
		b.sent[eventSourceField] = String(text)
		return nil
	}
	if v.IsObject() || v.IsArray() {
		return notText(eventSourceField, v)
	}
	return &Reject{Reason: MissingField, Field: "event_source", Detail: "event_source is absent or empty, and EVENT_SOURCE is not set"}
}

func notText(f field, v Value) *Reject {
	return &Reject{Reason: InvalidField, Field: fieldNames[f], Detail: fmt.Sprintf("%s must be text and is %s", fieldNames[f], v.TypeName())}
}

// time sends the detection's own time, else Kafka's. Kafka's may be absurd, since producers set it: then the clock, for
// a wrong time is better than a lost detection.
func (b *builder) time() *Reject {
	v, ms, assumed, ok := b.stated()
	if !ok {
		if !v.IsAbsent() {
			b.keep(timestampField, v)
		}
		ms = b.in.Timestamp.UnixMilli()
		b.flags[timeFromKafka] = b.clock.inWindow(ms)
	}
	if !ok && !b.flags[timeFromKafka] {
		ms = b.in.Now.UnixMilli()
		b.flags[timeFromClock] = true
		if !b.clock.inWindow(ms) {
			return &Reject{Reason: MissingField, Field: "timestamp", Detail: "neither the detection nor Kafka has a time since the year 2000"}
		}
	}
	b.flags[timeAssumedUTC] = assumed && ok
	b.long(timestampField, ms)
	return nil
}

// stated returns the first time of the detection that can be read; without one, the first that it has.
func (b *builder) stated() (v Value, ms int64, assumed, ok bool) {
	v = b.value(timestampField)
	if len(b.d.Times) == 0 {
		ms, assumed, ok = b.clock.timestamp(v)
		return v, ms, assumed, ok
	}
	for _, t := range b.d.Times {
		if ms, assumed, ok = b.clock.timestamp(t); ok {
			return t, ms, assumed, true
		}
		if v.IsAbsent() && !t.IsBlank() {
			v = t
		}
	}
	return v, 0, false, false
}

func (b *builder) status() {
	v := b.value(eventStatusField)
	word, _ := v.Text()
	if mapped, ok := b.d.Status.Text(); ok {
		word = mapped
	} else if v.IsAbsent() {
		word = b.settings.EventStatus
	}
	status, known := eventStatus(word)
	if !known {
		status = defaultStatus
	}
	status = cmp.Or(b.settings.ForcedStatus, status)
	if native, _ := v.Text(); !v.IsAbsent() && native != status {
		b.keep(eventStatusField, v)
	}
	b.sent[eventStatusField] = String(status)
}

// scores sends severity, always; event_score, always, since consumers filter on it; and threat_score when stated.
func (b *builder) scores() {
	severity, ok := b.mappedSeverity()
	if !ok && !b.d.Judged {
		severity, ok = b.score(severityField)
	}
	if !ok && !b.d.Judged {
		severity, ok = b.severityWord()
	}
	if !ok {
		severity = int64(*b.settings.SeverityDefault)
		b.flags[severityDefaulted] = true
	}
	b.long(severityField, severity)
	score := severity
	if stated, ok := b.score(eventScoreField); ok {
		score = stated
	} else if v := b.value(eventScoreField); !v.IsAbsent() {
		b.drop(eventScoreField, v)
	}
	b.long(eventScoreField, score)
	if threat, ok := b.score(threatScoreField); ok {
		b.long(threatScoreField, threat)
	} else if v := b.value(threatScoreField); !v.IsAbsent() {
		b.drop(threatScoreField, v)
	}
}

// mappedSeverity is what the format's own table says. The native one is kept, since it is on another scale.
func (b *builder) mappedSeverity() (int64, bool) {
	if v := b.value(severityField); !v.IsAbsent() && (b.d.Judged || !b.d.Severity.IsAbsent()) {
		b.keep(severityField, v)
	}
	d, ok := b.d.Severity.decimal()
	if !ok {
		return 0, false
	}
	n, clamped := clampScore(d)
	b.flags[scoreClamped] = b.flags[scoreClamped] || clamped
	return n, true
}

// score reads a number on the scale 0-100, and keeps the native one where another is sent.
func (b *builder) score(f field) (int64, bool) {
	v := b.value(f)
	d, ok := v.decimal()
	if !ok {
		return 0, false
	}
	n, clamped := clampScore(d)
	if _, exact := d.rounded(); clamped || !exact {
		b.keep(f, v)
	}
	b.flags[scoreClamped] = b.flags[scoreClamped] || clamped
	return n, true
}

func (b *builder) severityWord() (int64, bool) {
	v := b.value(severityField)
	if v.IsAbsent() {
		return 0, false
	}
	b.keep(severityField, v)
	word, _ := v.Text()
	return severityWord(word)
}

func (b *builder) long(f field, n int64) { b.sent[f] = Integer(n) }

// measures sends the numbers that are no whole scores: fidelity, clamped as one; actual and typical, when single
// precision holds them; the index of a detector, when 64 bits do.
func (b *builder) measures() {
	if v := b.value(fidelityField); !v.IsAbsent() {
		if d, ok := v.decimal(); ok {
			b.fidelity(v, d)
		} else {
			b.drop(fidelityField, v)
		}
	}
	for _, f := range []field{actualField, typicalField} {
		if v := b.value(f); !v.IsAbsent() {
			if text, ok := v.float32(); ok {
				b.sent[f] = number(text)
			} else {
				b.drop(f, v)
			}
		}
	}
	if v := b.value(detectorIndexField); !v.IsAbsent() {
		d, ok := v.decimal()
		n, exact := d.rounded()
		if !ok || d.overflows() {
			b.drop(detectorIndexField, v)
			return
		}
		if !exact {
			b.keep(detectorIndexField, v)
		}
		b.long(detectorIndexField, n)
	}
}

func (b *builder) fidelity(v Value, d decimal) {
	whole, exact := d.truncated(0)
	switch {
	case d.negative && d.digits != "":
		b.sent[fidelityField] = number("0")
	case whole > 100, whole == 100 && !exact:
		b.sent[fidelityField] = number("100")
	default:
		b.sent[fidelityField] = number(v.numberText())
		return
	}
	b.keep(fidelityField, v)
	b.flags[scoreClamped] = true
}

// lateral sends what the source states, else what the two addresses say.
func (b *builder) lateral() {
	v := b.value(lateralField)
	word, _ := v.Text()
	switch strings.ToLower(strings.TrimSpace(word)) {
	case "true":
		b.sent[lateralField] = boolean(true)
		return
	case "false":
		b.sent[lateralField] = boolean(false)
		return
	}
	if !v.IsAbsent() {
		b.drop(lateralField, v)
		return
	}
	source, _ := b.d.Source.Text()
	destination, _ := b.d.Destination.Text()
	if between, decidable := lateral(source, destination); decidable {
		b.sent[lateralField] = boolean(between)
	}
}

// text sends an optional text. A number becomes text with its own digits: an id such as 1652272159.1549653 is no float.
func (b *builder) text(f field) {
	v := b.value(f)
	if v.IsAbsent() {
		return
	}
	text, scalar := v.Text()
	if !scalar {
		b.drop(f, v)
		return
	}
	if text = cleanText(text); text != "" {
		b.sent[f] = String(text)
	}
}

func (b *builder) category(names, values []string) {
	v := b.value(eventCategoryField)
	stated, _ := v.Text()
	word := category(stated, names, values)
	if !v.IsAbsent() && stated != word {
		b.keep(eventCategoryField, v)
	}
	b.sent[eventCategoryField] = String(word)
}

// buckets sends the time range of the data behind the event, only as a whole.
func (b *builder) buckets() {
	start, end := b.value(startBucketField), b.value(endBucketField)
	from, fromAssumed, fromOK := b.clock.timestamp(start)
	to, toAssumed, toOK := b.clock.timestamp(end)
	if fromOK && toOK {
		b.flags[timeAssumedUTC] = b.flags[timeAssumedUTC] || fromAssumed || toAssumed
		b.long(startBucketField, min(from, to))
		b.long(endBucketField, max(from, to))
	} else {
		b.dropPair(startBucketField, start, endBucketField, end)
	}
	if v := b.value(alertTimeField); !v.IsAbsent() {
		at, assumed, ok := b.clock.timestamp(v)
		if !ok {
			b.drop(alertTimeField, v)
			return
		}
		b.flags[timeAssumedUTC] = b.flags[timeAssumedUTC] || assumed
		b.long(alertTimeField, at)
	}
}

func (b *builder) dropPair(f field, v Value, g field, w Value) {
	if !v.IsAbsent() {
		b.drop(f, v)
	}
	if !w.IsAbsent() {
		b.drop(g, w)
	}
}
