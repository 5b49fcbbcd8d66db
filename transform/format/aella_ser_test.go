package format

import (
	"cmp"
	stdjson "encoding/json"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"serbridge/transform"
)

var (
	testNow   = time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC)
	kafkaTime = time.Date(2026, 7, 1, 11, 59, 0, 250_999_000, time.UTC)
)

func input(value string, settings *transform.Settings) transform.Input {
	return transform.Input{
		Value: []byte(value), Topic: "detections", Partition: 3, Offset: 9007199254740993, Timestamp: kafkaTime, Now: testNow,
		ClusterID: "cluster-1", Settings: settings,
	}
}

// document is the one document of a record, which must be valid by the vendor's table.
func document(t *testing.T, value string, settings *transform.Settings) (*transform.Document, map[string]any) {
	t.Helper()
	result := Transform(input(value, settings))
	if len(result.Parts) != 1 || result.Parts[0].Document == nil {
		t.Fatalf("no document: skip %q, reject %v %+v", result.Skip, result.Reject, result.Reject)
	}
	d := result.Parts[0].Document
	return d, decoded(t, d, settings)
}

func decoded(t *testing.T, d *transform.Document, settings *transform.Settings) map[string]any {
	t.Helper()
	encoded, err := d.Encode()
	if err != nil {
		t.Fatal(err)
	}
	m, err := checkAgainstTable(encoded, settings)
	if err != nil {
		t.Fatalf("%v\n%s", err, encoded)
	}
	return m
}

// at follows a path of keys, and returns nil where there is none.
func at(m map[string]any, path ...string) any {
	var v any = m
	for _, p := range path {
		object, _ := v.(map[string]any)
		v = object[p]
	}
	return v
}

const own = "custom_ser_field/serbridge/"

// Each case is a record and what must stand at some paths of its document; nil: nothing.
func TestFieldsOfTheTable(t *testing.T) {
	const name = `"event_name":"n","event_source":"s"`
	const timed = name + `,"timestamp":1714567890123`
	num := func(s string) any { return stdjson.Number(s) }
	for _, tc := range []struct {
		name, record string
		want         map[string]any
	}{
		{"the vendor's own sample", `{"event_name":"demo test","detected_field":"my field test","tryout":"test","timestamp":1619583462308.7,"event_status":"New","comments":"Test Comment","event_source":"ActZero"}`, map[string]any{
			"event_name": "demo test", "detected_field": "my field test", "detected_value": nil, "timestamp": num("1619583462308"), "event_status": "New",
			"event_source": "ActZero", "event_category": "killchain", "severity": num("47"), "event_score": num("47"), "fidelity": nil, "lateral": nil,
			own + "tryout": "test", own + "comments": "Test Comment", own + "severity_defaulted": true, own + "source_format": "aella_ser",
			own + "status_native": nil, own + "time_from_kafka": nil,
			own + "kafka/topic": "detections", own + "kafka/partition": num("3"), own + "kafka/offset": num("9007199254740993"), own + "kafka/timestamp_ms": num("1782907140250"),
		}},
		{"every field", `{"actual":1.5,"typical":0.25,"stellar.alert_time":"2024-05-01T12:51:30Z","timestamp":1714567890,"write_time":1714567890123,"event_category":"network","event_name":"a","event_score":80,"event_source":"b","event_status":"Closed","event_type":"c","severity":70,"fidelity":82.5,"threat_score":60,"lateral":false,"orig_id":"i","orig_index":"x","detected_field":"f","detected_fields":["g","h"],"detected_value":"v","detected_values":["w","y"],"detector_index":3,"start_bucket_time":1714567800000,"end_bucket_time":1714567890000,"custom_ser_field":{"acme":{"k":1}}}`, map[string]any{
			"actual": num("1.5"), "typical": num("0.25"), "stellar.alert_time": num("1714567890000"), "timestamp": num("1714567890000"), "write_time": nil,
			"event_category": "network", "event_score": num("80"), "event_status": "Closed", "event_type": "c", "severity": num("70"), "fidelity": num("82.5"),
			"threat_score": num("60"), "lateral": false, "orig_id": "i", "orig_index": "x", "detected_field": "f", "detected_value": "v",
			"detected_fields": []any{"g", "h"}, "detected_values": []any{"w", "y"}, "detector_index": num("3"), "start_bucket_time": num("1714567800000"),
			"end_bucket_time": num("1714567890000"), "custom_ser_field/acme/k": num("1"), own + "severity_native": nil, own + "severity_defaulted": nil,
			own + "field_dropped": nil, own + "score_clamped": nil,
		}},
		{"null is absent", `{` + timed + `,"event_status":null,"severity":null,"event_type":null,"lateral":null,"other":null,"custom_ser_field":null}`, map[string]any{
			"event_status": "New", "severity": num("47"), "event_type": nil, own + "other": nil, own + "field_dropped": nil,
		}},
		{"blank is absent", `{` + timed + `,"event_status":" ","severity":"","event_type":"\t","lateral":"","orig_id":"","detected_fields":[],"detected_values":[]}`, map[string]any{
			"event_status": "New", "severity": num("47"), "event_type": nil, "lateral": nil, "orig_id": nil, "detected_fields": nil, own + "field_dropped": nil,
		}},
		{"an empty array is absent", `{` + timed + `,"event_type":[],"actual":[]}`, map[string]any{"event_type": nil, own + "type_native": nil, own + "field_dropped": nil}},

		{"name is trimmed, controls become blanks", `{"event_name":" a\nb\u0000c\n","event_source":"s"}`, map[string]any{"event_name": "a b c"}},
		{"name that is a number", `{"event_name":4625,"event_source":"s"}`, map[string]any{"event_name": "4625"}},
		{"name that is a boolean", `{"event_name":true,"event_source":"s"}`, map[string]any{"event_name": "true"}},

		{"status word", `{` + timed + `,"event_status":"in_progress"}`, map[string]any{"event_status": "In Progress", own + "status_native": "in_progress"}},
		{"unknown status", `{` + timed + `,"event_status":"Cancelled"}`, map[string]any{"event_status": "New", own + "status_native": "Cancelled"}},
		{"status that is no text", `{` + timed + `,"event_status":{"id":1}}`, map[string]any{"event_status": "New", own + "status_native": `{"id":1}`}},

		{"severity word", `{` + timed + `,"severity":"High "}`, map[string]any{"severity": num("73"), "event_score": num("73"), own + "severity_native": "High ", own + "severity_defaulted": nil}},
		{"unknown severity", `{` + timed + `,"severity":"severe"}`, map[string]any{"severity": num("47"), own + "severity_native": "severe", own + "severity_defaulted": true}},
		{"severity that is an object", `{` + timed + `,"severity":{"x":1}}`, map[string]any{"severity": num("47"), own + "severity_native": `{"x":1}`, own + "severity_defaulted": true}},
		{"severity as text", `{` + timed + `,"severity":"80"}`, map[string]any{"severity": num("80"), own + "severity_native": nil}},
		{"severity rounds half away from zero", `{` + timed + `,"severity":72.5}`, map[string]any{"severity": num("73"), own + "severity_native": "72.5", own + "score_clamped": nil}},
		{"severity above", `{` + timed + `,"severity":1480}`, map[string]any{"severity": num("100"), "event_score": num("100"), own + "severity_native": "1480", own + "score_clamped": true}},
		{"severity below", `{` + timed + `,"severity":-3}`, map[string]any{"severity": num("0"), own + "severity_native": "-3", own + "score_clamped": true}},
		{"severity beyond float64", `{` + timed + `,"severity":1e400}`, map[string]any{"severity": num("100"), own + "severity_native": "1e400", own + "score_clamped": true}},
		{"a hair above", `{` + timed + `,"severity":100.4,"fidelity":100.0000000000000000001}`, map[string]any{"severity": num("100"), own + "severity_native": "100.4", "fidelity": num("100"), own + "fidelity_native": "100.0000000000000000001"}},
		{"score", `{` + timed + `,"severity":10,"event_score":"1480","threat_score":-1}`, map[string]any{
			"severity": num("10"), "event_score": num("100"), own + "score_native": "1480", "threat_score": num("0"), own + "threat_score_native": "-1", own + "score_clamped": true}},
		{"one score clamped, the next not", `{` + timed + `,"severity":101,"event_score":10,"fidelity":1}`, map[string]any{"event_score": num("10"), own + "score_clamped": true}},
		{"score that is none", `{` + timed + `,"severity":10,"event_score":"high","threat_score":[1]}`, map[string]any{
			"event_score": num("10"), own + "score_native": "high", "threat_score": nil, own + "threat_score_native": "[1]", own + "field_dropped": true}},

		{"fidelity keeps its decimals", `{` + timed + `,"fidelity":"82.50"}`, map[string]any{"fidelity": num("82.50")}},
		{"fidelity below", `{` + timed + `,"fidelity":-0.1}`, map[string]any{"fidelity": num("0"), own + "fidelity_native": "-0.1", own + "score_clamped": true}},
		{"fidelity in a form that JSON lacks", `{` + timed + `,"fidelity":".5"}`, map[string]any{"fidelity": num("0.5")}},
		{"fidelity NaN", `{` + timed + `,"fidelity":NaN}`, map[string]any{"fidelity": nil, own + "repaired_nan": true}},
		{"fidelity as text NaN", `{` + timed + `,"fidelity":"NaN"}`, map[string]any{"fidelity": nil, own + "fidelity_native": "NaN", own + "field_dropped": true}},
		{"a float beyond single precision", `{` + timed + `,"actual":1e39,"typical":"x"}`, map[string]any{"actual": nil, own + "actual_native": "1e39", "typical": nil, own + "typical_native": "x", own + "field_dropped": true}},
		{"long beyond 2^53", `{` + timed + `,"detector_index":9007199254740993}`, map[string]any{"detector_index": num("9007199254740993")}},
		{"long beyond 2^63", `{` + timed + `,"detector_index":9223372036854775808}`, map[string]any{"detector_index": nil, own + "detector_index_native": "9223372036854775808", own + "field_dropped": true}},
		{"long with a fraction", `{` + timed + `,"detector_index":-2.5}`, map[string]any{"detector_index": num("-3"), own + "detector_index_native": "-2.5"}},

		{"lateral as text", `{` + timed + `,"lateral":"True"}`, map[string]any{"lateral": true}},
		{"lateral that is none", `{` + timed + `,"lateral":"maybe","srcip":"10.0.0.1","dstip":"10.0.0.2"}`, map[string]any{"lateral": nil, own + "lateral_native": "maybe", own + "field_dropped": true}},
		{"lateral by the addresses", `{` + timed + `,"srcip":"10.0.0.1","dstip":"10.0.0.2"}`, map[string]any{"lateral": true, own + "srcip": "10.0.0.1"}},
		{"not lateral by the addresses", `{` + timed + `,"srcip":"10.0.0.1","dstip":"8.8.8.8"}`, map[string]any{"lateral": false}},
		{"lateral undecidable", `{` + timed + `,"srcip":"0.0.0.0","dstip":"8.8.8.8"}`, map[string]any{"lateral": nil}},

		{"an id is text with every digit", `{` + timed + `,"orig_id":1652272159.1549653,"orig_index":12345678901234567890}`, map[string]any{"orig_id": "1652272159.1549653", "orig_index": "12345678901234567890"}},
		{"a type that is an array", `{` + timed + `,"event_type":["a"]}`, map[string]any{"event_type": nil, own + "type_native": `["a"]`, own + "field_dropped": true}},
		{"category of another word", `{` + timed + `,"event_category":"malware"}`, map[string]any{"event_category": "killchain", own + "category_native": "malware"}},
		{"category by evidence", `{` + timed + `,"detected_fields":["a","b"],"detected_values":["10.0.0.1","10.0.0.2"]}`, map[string]any{"event_category": "network"}},
		{"category of one named pair", `{` + timed + `,"detected_field":"user.name","detected_value":"bob"}`, map[string]any{"event_category": "uba"}},

		{"one pair in arrays", `{` + timed + `,"detected_fields":["a"],"detected_values":[7]}`, map[string]any{"detected_field": "a", "detected_value": "7", "detected_fields": nil, "detected_values": nil}},
		{"arrays of unequal length", `{` + timed + `,"detected_fields":["a","b"],"detected_values":["x"]}`, map[string]any{
			"detected_fields": nil, "detected_values": nil, own + "detected_fields_native": `["a","b"]`, own + "detected_values_native": `["x"]`, own + "field_dropped": true}},
		{"arrays of other things", `{` + timed + `,"detected_fields":["a","b"],"detected_values":[{"x":1},"y"]}`, map[string]any{"detected_values": nil, own + "detected_values_native": `[{"x":1},"y"]`}},
		{"pairs of nothing", `{` + timed + `,"detected_fields":["a","b","c","d"],"detected_values":["-","x",null,true]}`, map[string]any{"detected_fields": []any{"b", "d"}, "detected_values": []any{"x", "true"}}},

		{"buckets in the wrong order", `{` + timed + `,"start_bucket_time":1714567890000,"end_bucket_time":1714567800}`, map[string]any{"start_bucket_time": num("1714567800000"), "end_bucket_time": num("1714567890000")}},
		{"half a bucket", `{` + timed + `,"start_bucket_time":1714567890000}`, map[string]any{"start_bucket_time": nil, "end_bucket_time": nil, own + "start_bucket_time_native": "1714567890000", own + "field_dropped": true}},
		{"alert time as an object", `{` + timed + `,"stellar":{"alert_time":1714567890123,"status":"New"}}`, map[string]any{"stellar.alert_time": num("1714567890123"), own + "stellar/status": "New", own + "stellar/alert_time": nil}},
		{"alert time alone in its object", `{` + timed + `,"stellar":{"alert_time":1714567890123}}`, map[string]any{"stellar.alert_time": num("1714567890123"), own + "stellar": nil}},
		{"alert time that is none", `{` + timed + `,"stellar.alert_time":0}`, map[string]any{"stellar.alert_time": nil, own + "stellar_alert_time_native": "0", own + "field_dropped": true}},

		{"no time", `{` + name + `}`, map[string]any{"timestamp": num("1782907140250"), own + "time_from_kafka": true, own + "timestamp_native": nil}},
		{"time that is none", `{` + name + `,"timestamp":"1970-01-01 00:00:00Z"}`, map[string]any{"timestamp": num("1782907140250"), own + "time_from_kafka": true, own + "timestamp_native": "1970-01-01 00:00:00Z", own + "time_assumed_utc": nil}},
		{"time with an abbreviation", `{` + name + `,"timestamp":"May 01 2025 18:00:02.009 CEST"}`, map[string]any{"timestamp": num("1782907140250"), own + "time_from_kafka": true}},
		{"naive time", `{` + name + `,"timestamp":"2024-05-01T12:51:30.999999"}`, map[string]any{"timestamp": num("1714567890999"), own + "time_assumed_utc": true}},

		{"numbers outside the table keep every digit", `{` + timed + `,"id":377077835340488700,"deep":{"n":[12345678901234567890123,1e-400]}}`, map[string]any{own + "id": num("377077835340488700"), own + "deep/n": []any{"12345678901234567890123", num("1e-400")}}},
		{"names that are ours", `{` + timed + `,"kafka":"k","dedup_key":"d","severity_native":"x","raw_json":1,"time_from_kafka":true,"fields":1,"mapping":{}}`, map[string]any{
			own + "fields/kafka": "k", own + "fields/dedup_key": "d", own + "fields/severity_native": "x", own + "fields/raw_json": num("1"),
			own + "fields/time_from_kafka": true, own + "fields/fields": num("1"), own + "fields/mapping": map[string]any{}, own + "time_from_kafka": nil, own + "kafka/topic": "detections"}},
		{"names that formats share keep their type", `{` + timed + `,"host":{"name":"h"},"user":"u","tactics":["a"],"techniques":[1],"src_ip":7}`, map[string]any{
			own + "fields/host/name": "h", own + "user": "u", own + "tactics": []any{"a"}, own + "fields/techniques": []any{num("1")}, own + "fields/src_ip": num("7")}},
		{"fields of the server stay below", `{` + timed + `,"tenantid":"t","msg_origin":{"source":"API"},"xdr_event":{}}`, map[string]any{"tenantid": nil, own + "tenantid": "t", own + "msg_origin/source": "API"}},

		{"incoming custom_ser_field is merged", `{` + timed + `,"x":1,"custom_ser_field":{"acme":{"a":1},"note":"n","none":null,"serbridge":{"x":2,"y":3,"dedup_key":"old"}}}`, map[string]any{
			"custom_ser_field/acme/a": num("1"), "custom_ser_field/note": "n", "custom_ser_field/none": nil, own + "x": num("1"), own + "y": num("3"),
			own + "fields/custom_ser_field/serbridge/x": num("2"), own + "fields/custom_ser_field/serbridge/dedup_key": "old"}},
		{"incoming custom_ser_field under our name is no object", `{` + timed + `,"custom_ser_field":{"serbridge":"s"}}`, map[string]any{own + "fields/custom_ser_field/serbridge": "s"}},
		{"numbers that no index takes", `{` + timed + `,"a":1e400,"b":9223372036854775808,"c":[{"d":-1e39}],"e":18446744073709551615,"custom_ser_field":{"x":{"y":1e400}}}`, map[string]any{
			own + "a": "1e400", own + "b": "9223372036854775808", own + "c": []any{map[string]any{"d": "-1e39"}}, own + "e": "18446744073709551615",
			"custom_ser_field/x/y": "1e400", own + "number_as_text": true}},
		{"numbers that an index takes", `{` + timed + `,"a":9223372036854775807,"b":-9223372036854775808,"c":3.4e38,"d":1e-400,"e":1e3}`, map[string]any{
			own + "a": num("9223372036854775807"), own + "b": num("-9223372036854775808"), own + "c": num("3.4e38"), own + "d": num("1e-400"), own + "e": num("1e3"), own + "number_as_text": nil}},
		{"incoming custom_ser_field is no object", `{` + timed + `,"custom_ser_field":"s"}`, map[string]any{own + "custom_ser_field_native": "s", own + "field_dropped": true}},
		{"repairs are flagged", "\uFEFF{" + timed + ",\"a\":1,\"a\":\"\xff\",\"b\":NaN}", map[string]any{
			own + "repaired_bom": true, own + "repaired_duplicate_key": true, own + "repaired_utf8": true, own + "repaired_nan": true, own + "a": "\uFFFD", own + "b": nil}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, m := document(t, tc.record, nil)
			for path, want := range tc.want {
				if got := at(m, strings.Split(path, "/")...); !reflect.DeepEqual(got, want) {
					t.Errorf("%s: got %#v, want %#v", path, got, want)
				}
			}
		})
	}
}

func TestSettingsFillWhatTheSourceLeavesOpen(t *testing.T) {
	ten := 10
	berlin := time.FixedZone("", 2*60*60)
	settings := &transform.Settings{EventSource: "acme_edr", EventStatus: "in progress", SeverityDefault: &ten, TimeZone: berlin, Namespace: "acme"}
	_, m := document(t, `{"event_name":"n","timestamp":"2024-05-01T14:51:30","event_status":"","extra":1}`, settings)
	for path, want := range map[string]any{
		"event_source": "acme_edr", "event_status": "In Progress", "severity": stdjson.Number("10"), "timestamp": stdjson.Number("1714567890000"),
		"custom_ser_field/acme/severity_defaulted": true, "custom_ser_field/acme/time_assumed_utc": nil, "custom_ser_field/acme/extra": stdjson.Number("1"),
	} {
		if got := at(m, strings.Split(path, "/")...); got != want {
			t.Errorf("%s: got %#v, want %#v", path, got, want)
		}
	}
	_, m = document(t, `{"event_name":"n","event_source":{"a":1}}`, settings)
	if m["event_source"] != "acme_edr" || at(m, "custom_ser_field", "acme", "source_native") != `{"a":1}` {
		t.Errorf("a source that is no text: %v", m)
	}
	_, m = document(t, `{"event_name":"n","event_source":"s","event_status":"odd"}`, settings)
	if m["event_status"] != "New" || m["event_source"] != "s" {
		t.Errorf("the source's own words do not stand: %v", m)
	}
}

func TestFlatNamespaceStandsAtTopLevel(t *testing.T) {
	flat := &transform.Settings{CustomFields: "flat"}
	_, m := document(t, `{"event_name":"n","event_source":"s","extra":1,"custom_ser_field":{"acme":{"a":1},"severity":5,"tenantid":"t","serbridge":{"y":2}}}`, flat)
	for path, want := range map[string]any{
		"custom_ser_field": nil, "serbridge/extra": stdjson.Number("1"), "serbridge/y": stdjson.Number("2"), "acme/a": stdjson.Number("1"),
		"severity": stdjson.Number("47"), "tenantid": nil, "serbridge/fields/custom_ser_field/severity": stdjson.Number("5"),
		"serbridge/fields/custom_ser_field/tenantid": "t",
	} {
		if got := at(m, strings.Split(path, "/")...); got != want {
			t.Errorf("%s: got %#v, want %#v", path, got, want)
		}
	}
}

func TestUnusableKafkaTimeFallsBackToTheClock(t *testing.T) {
	in := input(`{"event_name":"n","event_source":"s"}`, nil)
	in.Timestamp = time.UnixMilli(-1)
	result := Transform(in)
	m := decoded(t, result.Parts[0].Document, nil)
	if m["timestamp"] != stdjson.Number(fmt.Sprint(testNow.UnixMilli())) || at(m, "custom_ser_field", "serbridge", "time_from_clock") != true {
		t.Errorf("got %v", m)
	}
	in.Now = time.Time{}
	if r := Transform(in).Reject; r == nil || r.Reason != transform.MissingField || r.Field != "timestamp" {
		t.Errorf("no time at all: %v", r)
	}
}

func TestRefusals(t *testing.T) {
	for _, tc := range []struct {
		name, record string
		reason       transform.Reason
		field        string
		detail       string
	}{
		{"empty", "", transform.InvalidJSON, "", "empty or blank"},
		{"blank", " \n", transform.InvalidJSON, "", "empty or blank"},
		{"not JSON", "CEF:0|a", transform.InvalidJSON, "", "at byte 0"},
		{"two values", `{"event_name":"a"}{"event_name":"b"}`, transform.InvalidJSON, "", "at byte 18"},
		{"too deep", strings.Repeat("[", 65) + strings.Repeat("]", 65), transform.TooDeep, "", "MAX_DEPTH"},
		{"array", `[{"event_name":"a"}]`, transform.UnknownFormat, "", "an array"},
		{"number", `7`, transform.UnknownFormat, "", "a number"},
		{"null", `null`, transform.UnknownFormat, "", "null"},
		{"empty object", `{}`, transform.UnknownFormat, "", "empty JSON object"},
		{"something else", `{"proto":"tcp","bytes":1}`, transform.UnknownFormat, "", `"proto bytes"`},
		{"one required field", `{"timestamp":1714567890}`, transform.UnknownFormat, "", "timestamp"},
		{"null name and one other", `{"event_name":null,"timestamp":1714567890}`, transform.UnknownFormat, "", ""},
		{"two required fields without a name", `{"timestamp":1714567890,"event_source":"s"}`, transform.MissingField, "event_name", "absent or empty"},
		{"empty name", `{"event_name":"","event_source":"s"}`, transform.MissingField, "event_name", "absent or empty"},
		{"name of control characters", `{"event_name":"\u0000\n","event_source":"s"}`, transform.MissingField, "event_name", "absent or empty"},
		{"name that is an object", `{"event_name":{"a":1},"event_source":"s"}`, transform.InvalidField, "event_name", "an object"},
		{"name that is an array", `{"event_name":["a"],"event_source":"s"}`, transform.InvalidField, "event_name", "an array"},
		{"no source", `{"event_name":"n"}`, transform.MissingField, "event_source", "EVENT_SOURCE"},
		{"source that is an object", `{"event_name":"n","event_source":{}}`, transform.InvalidField, "event_source", "an object"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			result := Transform(input(tc.record, nil))
			r := result.Reject
			if r == nil || result.Skip != "" || result.Parts != nil {
				t.Fatalf("got %+v, want a reject alone", result)
			}
			if r.Reason != tc.reason || r.Field != tc.field || !strings.Contains(r.Detail, tc.detail) {
				t.Errorf("got %s %q %q, want %s %q that says %q", r.Reason, r.Field, r.Detail, tc.reason, tc.field, tc.detail)
			}
			if !slices.Contains(transform.Reasons(), r.Reason) {
				t.Errorf("%s is not in the closed set", r.Reason)
			}
		})
	}
}

func TestSkips(t *testing.T) {
	tombstone := input("", nil)
	tombstone.Value = nil
	stored := input(`{"event_name":"","write_by":"API","timestamp":1}`, nil)
	for want, in := range map[transform.SkipReason]transform.Input{transform.Tombstone: tombstone, transform.AlreadyStored: stored} {
		result := Transform(in)
		if result.Skip != want || result.Reject != nil || result.Parts != nil {
			t.Errorf("got %+v, want skip %s alone", result, want)
		}
	}
	if r := Transform(input(`{"event_name":"n","event_source":"s","write_by":null}`, nil)); r.Skip != "" {
		t.Errorf("null write_by: skip %s", r.Skip)
	}
}

func TestRawRecordIsCutText(t *testing.T) {
	record := `{"event_name":"n","event_source":"s","long":"` + strings.Repeat("ü", 4000) + `"}`
	for _, tc := range []struct {
		name      string
		bytes     int
		value     string
		want      int // at most
		truncated any
	}{
		{"default", 0, record, 4096, true},
		{"whole", 9000, record, len(record), nil},
		{"none", -1, record, 0, nil},
		{"invalid bytes", 0, strings.Replace(record, "üü", "\xff\xff", 1), 4096, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			settings := &transform.Settings{RawBytes: tc.bytes}
			_, m := document(t, tc.value, settings)
			raw, _ := at(m, "custom_ser_field", "serbridge", "raw_json").(string)
			if len(raw) > tc.want || len(raw) < tc.want-8 {
				t.Errorf("%d bytes, want about %d", len(raw), tc.want)
			}
			if got := at(m, "custom_ser_field", "serbridge", "raw_truncated"); got != tc.truncated {
				t.Errorf("raw_truncated %v, want %v", got, tc.truncated)
			}
			if tc.truncated != nil && !strings.HasSuffix(raw, "…") {
				t.Errorf("no mark at the cut: %q", raw[len(raw)-9:])
			}
		})
	}
}

func TestSlimmingLadder(t *testing.T) {
	full, _ := document(t, `{"event_name":"n","event_source":"s","severity":"High","extra":"e","custom_ser_field":{"acme":1}}`, &transform.Settings{RawBytes: 20})
	slim := decoded(t, full.WithoutRaw(), nil)
	for path, want := range map[string]any{
		own + "raw_json": nil, own + "raw_truncated": nil, own + "degraded": true, own + "extra": "e", own + "severity_native": "High",
		"custom_ser_field/acme": stdjson.Number("1"), own + "delivery_key": full.DeliveryKey(), "severity": stdjson.Number("73"),
	} {
		if got := at(slim, strings.Split(path, "/")...); got != want {
			t.Errorf("without raw, %s: got %#v, want %#v", path, got, want)
		}
	}
	bare := decoded(t, full.WithoutRaw().Bare(), nil)
	namespace := at(bare, "custom_ser_field", "serbridge").(map[string]any)
	if len(bare["custom_ser_field"].(map[string]any)) != 1 || len(namespace) != 4 {
		t.Errorf("bare is not bare: %v", bare)
	}
	for path, want := range map[string]any{
		own + "degraded": true, own + "delivery_key": full.DeliveryKey(), own + "dedup_key": full.DedupKey(), own + "kafka/topic": "detections",
		"severity": stdjson.Number("73"), "event_name": "n",
	} {
		if got := at(bare, strings.Split(path, "/")...); got != want {
			t.Errorf("bare, %s: got %#v, want %#v", path, got, want)
		}
	}
	if d := full.WithoutRaw(); d.WithoutRaw() != d {
		t.Error("a rung that takes nothing off makes another document")
	}
	if d := full.Bare(); d.Bare() != d || d.WithoutRaw() != d {
		t.Error("a rung below bare makes another document")
	}
	if again, _ := full.Encode(); strings.Contains(string(again), "degraded") {
		t.Error("slimming changed the full document")
	}
}

func TestLargeDocumentIsSlimmedBeforeItIsRefused(t *testing.T) {
	record := `{"event_name":"n","event_source":"s","extra":"` + strings.Repeat("e", 2000) + `"}`
	for _, tc := range []struct {
		limit      int
		extra, raw bool
	}{{10000, true, true}, {3500, true, false}, {1500, false, false}} {
		_, m := document(t, record, &transform.Settings{MaxDocumentBytes: tc.limit})
		extra, raw := at(m, "custom_ser_field", "serbridge", "extra") != nil, at(m, "custom_ser_field", "serbridge", "raw_json") != nil
		if extra != tc.extra || raw != tc.raw {
			t.Errorf("limit %d: extra %v, raw %v", tc.limit, extra, raw)
		}
		if degraded := at(m, "custom_ser_field", "serbridge", "degraded") == true; degraded == raw {
			t.Errorf("limit %d: degraded %v", tc.limit, degraded)
		}
	}
	result := Transform(input(record, &transform.Settings{MaxDocumentBytes: 100}))
	if r := result.Reject; r == nil || r.Reason != transform.DocumentTooLarge || !strings.Contains(r.Detail, "MAX_DOCUMENT_BYTES") {
		t.Errorf("got %+v", result)
	}
}

func TestDedupKeyIsTheDetections(t *testing.T) {
	key := func(record string, change func(*transform.Input)) string {
		in := input(record, nil)
		if change != nil {
			change(&in)
		}
		return Transform(in).Parts[0].Document.DedupKey()
	}
	const withID = `{"event_name":"n","event_source":"s","orig_id":"i","timestamp":1714567890,"event_status":"New"}`
	const withoutID = `{"event_name":"n","event_source":"s","timestamp":1714567890,"detected_field":"a","detected_value":"b"}`
	const timeless = `{"event_name":"n","event_source":"s","x":1}`
	for _, record := range []string{withID, withoutID, timeless} {
		elsewhere := key(record, func(in *transform.Input) {
			in.Offset, in.Partition, in.Topic, in.ReplayID, in.Timestamp = 7, 0, "t", "r", in.Timestamp.Add(-time.Hour)
		})
		if key(record, nil) != elsewhere {
			t.Errorf("%s: another key when it is read elsewhere", record)
		}
	}
	for name, same := range map[string][2]string{
		"order and blanks":      {withID, `{ "orig_id":"i","event_status":"New","event_name":"n","timestamp":1714567890,"event_source":"s"}`},
		"order without id":      {withoutID, `{"detected_value":"b","detected_field":"a","timestamp":1714567890,"event_source":"s","event_name":"n"}`},
		"what a shipper adds":   {withID, strings.Replace(withID, "{", `{"shipped_at":1,`, 1)},
		"null in place of none": {withID, strings.Replace(withID, "{", `{"severity":null,`, 1)},
	} {
		if key(same[0], nil) != key(same[1], nil) {
			t.Errorf("%s: keys differ", name)
		}
	}
	for name, other := range map[string][2]string{
		"an update":               {withID, strings.Replace(withID, "New", "Closed", 1)},
		"another id":              {withID, strings.Replace(withID, `"i"`, `"j"`, 1)},
		"another source":          {withID, strings.Replace(withID, `"s"`, `"t"`, 1)},
		"another observable":      {withoutID, strings.Replace(withoutID, `"b"`, `"c"`, 1)},
		"another time":            {withoutID, strings.Replace(withoutID, "1714567890", "1714567891", 1)},
		"another timeless one":    {timeless, strings.Replace(timeless, "1", "2", 1)},
		"blank id is no id":       {strings.Replace(withoutID, "{", `{"orig_id":" ",`, 1), strings.Replace(strings.Replace(withoutID, "{", `{"orig_id":" ",`, 1), `"n"`, `"m"`, 1)},
		"useless time is no time": {`{"event_name":"n","event_source":"s","timestamp":0,"x":1}`, `{"event_name":"n","event_source":"s","timestamp":0,"x":2}`},
	} {
		if key(other[0], nil) == key(other[1], nil) {
			t.Errorf("%s: one key", name)
		}
	}
}

// The whole keys of a record, from its bytes: they must not change from release to release.
func TestGoldenKeys(t *testing.T) {
	for record, want := range map[string][2]string{
		`{"event_name":"n","event_source":"s","orig_id":"i","timestamp":1714567890}`: {"d18de6a165777eea1fcd7f677a00005333edfaad9332e8e2f7dbd8a0394b4626", "bcf92556b5560c088055bc57d10a08753ee397c5e1dace704b3fedb9d1918ea4"},
		`{"event_name":"n","event_source":"s","timestamp":1714567890}`:               {"3b21f65a139903e7a60b641ff3bd31783bc7b72d52e5054ce9a3f488a54757b5", "bcf92556b5560c088055bc57d10a08753ee397c5e1dace704b3fedb9d1918ea4"},
		`{"event_name":"n","event_source":"s"}`:                                      {"05e60cd2e6210ae46146ed7b2d8e0177e01d3445f0e4b4c02302faff64cf7bdb", "bcf92556b5560c088055bc57d10a08753ee397c5e1dace704b3fedb9d1918ea4"},
	} {
		d, _ := document(t, record, nil)
		if d.DedupKey() != want[0] || d.DeliveryKey() != want[1] {
			t.Errorf("%s:\ngot  %s %s\nwant %s %s", record, d.DedupKey(), d.DeliveryKey(), want[0], want[1])
		}
	}
}

// checkAgainstTable reads a document as a stranger would, by another library, and holds it to the vendor's table.
func checkAgainstTable(encoded []byte, settings *transform.Settings) (map[string]any, error) {
	dec := stdjson.NewDecoder(strings.NewReader(string(encoded)))
	dec.UseNumber()
	var m map[string]any
	if err := dec.Decode(&m); err != nil {
		return nil, fmt.Errorf("read document: %w", err)
	}
	for _, required := range []string{"event_name", "timestamp", "event_status", "event_source", "event_category", "severity", "event_score"} {
		if m[required] == nil {
			return nil, fmt.Errorf("%s is missing", required)
		}
	}
	namespace, flat := "serbridge", false
	if settings != nil {
		flat = settings.CustomFields == "flat"
		if settings.Namespace != "" {
			namespace = settings.Namespace
		}
	}
	for name, v := range m {
		check, ok := tableChecks[name]
		if !ok && !flat {
			return nil, fmt.Errorf("%s stands at top level", name)
		}
		if ok && !check(v) {
			return nil, fmt.Errorf("%s is %#v", name, v)
		}
	}
	home := m
	if !flat {
		home, _ = m["custom_ser_field"].(map[string]any)
	} else if m["custom_ser_field"] != nil {
		return nil, fmt.Errorf("custom_ser_field is sent although flat")
	}
	own, _ := home[namespace].(map[string]any)
	for _, key := range []string{"dedup_key", "delivery_key"} {
		if s, _ := own[key].(string); len(s) != 64 {
			return nil, fmt.Errorf("%s is %v", key, own[key])
		}
	}
	for name, v := range own {
		if v == nil {
			return nil, fmt.Errorf("%s is null; an absent member is left out", name)
		}
	}
	if at(own, "kafka", "offset") == nil {
		return nil, fmt.Errorf("no coordinates in %v", own)
	}
	names, _ := m["detected_fields"].([]any)
	values, _ := m["detected_values"].([]any)
	if len(names) != len(values) {
		return nil, fmt.Errorf("%d detected_fields, %d detected_values", len(names), len(values))
	}
	return m, nil
}

var tableChecks = map[string]func(any) bool{
	"event_name": isText, "event_source": isText, "event_type": isText, "orig_id": isText, "orig_index": isText,
	"detected_field": isText, "detected_value": isText, "detected_fields": isTexts, "detected_values": isTexts,
	"event_status":   oneOf("New", "In Progress", "Ignored", "Closed"),
	"event_category": oneOf("killchain", "network", "uba"),
	"severity":       isScore, "event_score": isScore, "threat_score": isScore,
	"fidelity":       func(v any) bool { return isFloat(v, 64, 0, 100) },
	"actual":         func(v any) bool { return isFloat(v, 32, -math.MaxFloat32, math.MaxFloat32) },
	"typical":        func(v any) bool { return isFloat(v, 32, -math.MaxFloat32, math.MaxFloat32) },
	"detector_index": func(v any) bool { return isLong(v, math.MinInt64, math.MaxInt64) },
	"lateral":        func(v any) bool { _, ok := v.(bool); return ok },
	"timestamp":      isTime, "start_bucket_time": isTime, "end_bucket_time": isTime, "stellar.alert_time": isTime,
	"custom_ser_field": func(v any) bool { _, ok := v.(map[string]any); return ok },
}

func isText(v any) bool { s, ok := v.(string); return ok && s != "" && s == strings.TrimSpace(s) }

func isTexts(v any) bool {
	list, ok := v.([]any)
	return ok && len(list) > 0 && !slices.ContainsFunc(list, func(e any) bool { return !isText(e) })
}

func oneOf(words ...string) func(any) bool {
	return func(v any) bool { s, ok := v.(string); return ok && slices.Contains(words, s) }
}

func isScore(v any) bool { return isLong(v, 0, 100) }

func isTime(v any) bool {
	return isLong(v, 946684800000, testNow.Add(24*time.Hour).UnixMilli())
}

func isLong(v any, from, to int64) bool {
	n, _ := v.(stdjson.Number)
	i, err := n.Int64()
	return err == nil && i >= from && i <= to && !strings.ContainsAny(n.String(), ".eE")
}

func isFloat(v any, bits int, from, to float64) bool {
	n, _ := v.(stdjson.Number)
	f, err := n.Float64()
	return err == nil && f >= from && f <= to && (bits == 64 || !math.IsInf(float64(float32(f)), 0))
}

// What a replay sends says so, and that it is no news; and it may be told what to arrive as, whatever the detection says.
func TestReplayedDocumentsSaySo(t *testing.T) {
	const value = `{"event_name":"e","event_source":"s","event_status":"OPEN","replay_id":"theirs","late":"theirs"}`
	for _, c := range []struct {
		replay, status string
		age            time.Duration
		want           map[string]any // in the namespace
	}{
		{"", "", 2 * time.Hour, map[string]any{"replay_id": nil, "late": nil, "status_native": "OPEN"}},
		{"r1", "", time.Hour, map[string]any{"replay_id": "r1", "late": nil}},
		{"r1", "Closed", time.Hour + time.Second, map[string]any{"replay_id": "r1", "late": true, "status_native": "OPEN"}},
	} {
		settings := &transform.Settings{ForcedStatus: c.status}
		in := input(value, settings)
		in.ReplayID, in.Timestamp = c.replay, in.Now.Add(-c.age)
		result := Transform(in)
		if len(result.Parts) != 1 || result.Parts[0].Document == nil {
			t.Fatalf("no document: %+v", result)
		}
		m := decoded(t, result.Parts[0].Document, settings)
		if want := cmp.Or(c.status, "New"); m["event_status"] != want {
			t.Errorf("%+v: status %v, want %s", c, m["event_status"], want)
		}
		for name, want := range c.want {
			if got := at(m, "custom_ser_field", "serbridge", name); got != want {
				t.Errorf("%+v: %s is %v, want %v", c, name, got, want)
			}
		}
		if got := at(m, "custom_ser_field", "serbridge", "fields", "replay_id"); got != "theirs" {
			t.Errorf("the record's own replay_id is %v", got)
		}
	}
}
