package transform

import (
	"slices"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
)

// field is one row of the vendor's table. The documents list them in this order.
type field int

const (
	eventNameField field = iota
	timestampField
	eventStatusField
	eventSourceField
	eventCategoryField
	eventTypeField
	severityField
	eventScoreField
	fidelityField
	threatScoreField
	lateralField
	origIDField
	origIndexField
	detectedFieldField
	detectedValueField
	detectedFieldsField
	detectedValuesField
	detectorIndexField
	startBucketField
	endBucketField
	actualField
	typicalField
	alertTimeField
	writeTimeField // set by the server, never sent
	customField

	fieldCount
)

var fieldNames = [fieldCount]string{
	"event_name", "timestamp", "event_status", "event_source", "event_category", "event_type", "severity", "event_score",
	"fidelity", "threat_score", "lateral", "orig_id", "orig_index", "detected_field", "detected_value",
	"detected_fields", "detected_values", "detector_index", "start_bucket_time", "end_bucket_time", "actual", "typical",
	"stellar.alert_time", "write_time", "custom_ser_field",
}

// Fields returns the names of the vendor's fields that a document may have, in the order of its table.
func Fields() []string { return slices.Clone(fieldNames[:writeTimeField]) }

// nativeNames are the keys of native values in the namespace: status_native, severity_native, fidelity_native.
var nativeNames = func() (names [fieldCount]string) {
	for f, name := range fieldNames {
		name = strings.ReplaceAll(name, ".", "_") // a dot would make an object
		names[f] = strings.TrimPrefix(name, "event_") + nativeSuffix
	}
	return names
}()

var fieldByName = func() map[string]field {
	table := make(map[string]field, fieldCount)
	for f, name := range fieldNames {
		table[name] = field(f)
	}
	return table
}()

// serverFields are set by the server beside the vendor's table. A source's own of that name never stand at top level.
var serverFields = map[string]bool{
	"msg_origin": true, "write_by": true, "tenantid": true, "stellar": true, "_id": true, "_index": true,
}

// isTopLevel reports whether name means something at the top level of a document.
func isTopLevel(name string) bool {
	_, vendors := fieldByName[name]
	return vendors || serverFields[name]
}

// Keys of the namespace. One key has one type for all formats together, since the index takes the type of a key from
// the first document that has it and refuses later ones that differ.
const (
	keySourceFormat = "source_format"
	keyMapping      = "mapping"
	keyDedup        = "dedup_key"
	keyDelivery     = "delivery_key"
	keyKafka        = "kafka"
	keyDegraded     = "degraded"
	keyReplay       = "replay_id" // the run that delivered it once more
	keyRaw          = "raw_json"
	keyFields       = "fields" // of the record's own fields, those whose name is taken
	nativeSuffix    = "_native"
)

// flag is a boolean of the namespace, sent only when true.
type flag int

const (
	severityDefaulted flag = iota
	timeAssumedUTC
	timeFromKafka
	timeFromClock // Kafka's timestamp was unusable too
	scoreClamped
	fieldDropped // a field of the vendor's table could not be sent; its native value is kept
	detectedCut  // more pairs than maxPairs
	rawTruncated
	late         // replayed, and over an hour old
	numberAsText // a number of the record's own that no index takes
	repairFlags  // the first of Repairs()

	flagCount = repairFlags + 4
)

var flagNames = [flagCount]string{
	"severity_defaulted", "time_assumed_utc", "time_from_kafka", "time_from_clock", "score_clamped", "field_dropped",
	"detected_cut", "raw_truncated", "late", "number_as_text",
	string(RepairedDuplicateKey), string(RepairedUTF8), string(RepairedNaN), string(RepairedBOM),
}

// reserved are the names in the namespace that are ours, whether this document has them or not.
var reserved = func() map[string]bool {
	table := map[string]bool{
		keySourceFormat: true, keyMapping: true, keyDedup: true, keyDelivery: true, keyKafka: true, keyDegraded: true,
		keyReplay: true, keyRaw: true, keyFields: true, "name_defaulted": true, "sample": true,
	}
	for _, name := range flagNames {
		table[name] = true
	}
	return table
}()

// shared are the names in the namespace that a format may fill, with their type. A record's own field of that name
// stands there too when it has that type.
var shared = map[string]jsontext.Kind{
	"description": jsontext.KindString, "url": jsontext.KindString, "host": jsontext.KindString, "user": jsontext.KindString,
	"src_ip": jsontext.KindString, "dst_ip": jsontext.KindString, "killchain_stage": jsontext.KindString,
	"tactics": jsontext.KindBeginArray, "techniques": jsontext.KindBeginArray,
}

// isTaken reports whether a record's own field m must not stand directly in the namespace.
func (b *builder) isTaken(m Member) bool {
	if reserved[m.Name] || strings.HasSuffix(m.Name, nativeSuffix) {
		return true
	}
	kind, ok := shared[m.Name]
	if !ok {
		return false
	}
	notText := func(e Member) bool { return e.Value.kind != jsontext.KindString }
	mapped := func(o Member) bool { return o.Name == m.Name }
	return kind != m.Value.kind || slices.ContainsFunc(m.Value.elements(), notText) || slices.ContainsFunc(b.d.Own, mapped)
}
