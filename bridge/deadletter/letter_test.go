package deadletter

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

func sameHeaders(a, b []kgo.RecordHeader) bool {
	return slices.EqualFunc(a, b, func(x, y kgo.RecordHeader) bool {
		return x.Key == y.Key && bytes.Equal(x.Value, y.Value) && (x.Value == nil) == (y.Value == nil)
	})
}

// header is the last value of a header, as Kafka's lastHeader.
func header(r *kgo.Record, key string) string { return read(r.Headers)[key] }

func sample() Letter {
	return Letter{
		Key: []byte("k"), Value: []byte(`{"id":1}`), Timestamp: time.UnixMilli(1_700_000_000_123),
		Headers: []kgo.RecordHeader{
			{Key: "traceparent", Value: []byte("00-1-2-01")},
			{Key: "twice", Value: []byte("a")}, {Key: "null"}, {Key: "empty", Value: []byte{}}, {Key: "twice", Value: []byte{0xff, 0}},
			{Key: "dlq.topic", Value: []byte("of the source itself")},
		},
		Topic: "detections", Partition: 7, Offset: 42, Part: 3,
		Reason: "http_400", Field: "severity", Detail: "not a number", Certainty: "refused", Stage: StagePut,
		Attempts: 3, HTTPStatus: 400, HTTPBody: "no",
		FirstFailedAt: time.Unix(1_700_000_100, 5).UTC(), FailedAt: time.Unix(1_700_000_200, 0).UTC(),
		DeliveryKey: "d1", Mapping: "ocsf@1a2b", Bridge: "1.0.0", Instance: "pod-1", Group: "serbridge", Redrives: 1, Run: "r1",
	}
}

func TestLetterComesBackWhole(t *testing.T) {
	l := sample()
	r := l.Record("x.dlq")
	got, err := Parse(r)
	if err != nil {
		t.Fatal(err)
	}
	if !sameHeaders(r.Headers[:len(l.Headers)], l.Headers) {
		t.Errorf("the source's headers do not come first: %v", r.Headers)
	}
	if !sameHeaders(got.Headers, l.Headers) {
		t.Errorf("headers came back as %v", got.Headers)
	}
	got.Headers, l.Headers = nil, nil
	if g, w := fmt.Sprintf("%+v", got), fmt.Sprintf("%+v", l); g != w {
		t.Errorf("came back as\n%s, want\n%s", g, w)
	}
}

func TestHeadersOfBothFamilies(t *testing.T) {
	r := sample().Record("x.dlq")
	want := map[string]string{
		"dlq.schema": "1", "dlq.topic": "detections", "dlq.partition": "7", "dlq.offset": "42", "dlq.part": "3",
		"dlq.reason": "http_400", "dlq.field": "severity", "dlq.detail": "not a number", "dlq.certainty": "refused",
		"dlq.attempts": "3", "dlq.http.status": "400", "dlq.http.body": "no",
		"dlq.first_failed_at": "2023-11-14T22:15:00.000000005Z", "dlq.failed_at": "2023-11-14T22:16:40Z",
		"dlq.delivery_key": "d1", "dlq.mapping": "ocsf@1a2b", "dlq.bridge": "1.0.0", "dlq.instance": "pod-1",
		"dlq.redrives": "1", "dlq.run": "r1",
		"__connect.errors.topic": "detections", "__connect.errors.partition": "7", "__connect.errors.offset": "42",
		"__connect.errors.connector.name": "serbridge", "__connect.errors.task.id": "pod-1", "__connect.errors.stage": "TASK_PUT",
		"__connect.errors.class.name": "serbridge", "__connect.errors.exception.class.name": "http_400",
		"__connect.errors.exception.message": "not a number",
	}
	for key, value := range want {
		if got := header(r, key); got != value {
			t.Errorf("%s = %q, want %q", key, got, value)
		}
	}
	if got, want := len(r.Headers), len(sample().Headers)+len(want); got != want {
		t.Errorf("%d headers, want %d", got, want)
	}
}

func TestWholeRecordHasNoPart(t *testing.T) {
	l := sample()
	l.Part = -1
	r := l.Record("x.dlq")
	if slices.ContainsFunc(r.Headers, func(h kgo.RecordHeader) bool { return h.Key == headerPart }) {
		t.Error("a whole record has dlq.part")
	}
	if got, err := Parse(r); err != nil || got.Part != -1 {
		t.Errorf("Part = %d, %v, want -1", got.Part, err)
	}
}

// A record that fails again and again must not grow (spring-kafka#1994, #1996 did, until it was too large).
func TestFailingAgainNeverGrows(t *testing.T) {
	first := sample()
	r := first.Record("x.dlq")
	for n := range 5 {
		again := sample() // redriven with its headers into another topic, where it fails again
		again.Headers = r.Headers
		again.Topic, again.Partition, again.Offset, again.Part = "again", 1, int64(n), -1
		again.Reason, again.Attempts, again.Redrives, again.FirstFailedAt = "http_403", 9, 2, first.FailedAt
		r = again.Record("x.dlq")
	}
	l, err := Parse(r)
	if err != nil {
		t.Fatal(err)
	}
	if !sameHeaders(l.Headers, first.Headers) {
		t.Errorf("the source's headers became %v", l.Headers)
	}
	if l.Topic != first.Topic || l.Partition != first.Partition || l.Offset != first.Offset || !l.FirstFailedAt.Equal(first.FirstFailedAt) {
		t.Errorf("coordinates became %s/%d@%d, %v", l.Topic, l.Partition, l.Offset, l.FirstFailedAt)
	}
	if l.Part != -1 || l.Reason != "http_403" || l.Attempts != 9 || l.Redrives != 2 {
		t.Errorf("the last failure is not what is said: %+v", l)
	}
	if got := header(r, connectTopic) + "@" + header(r, connectOffset); got != "again@4" {
		t.Errorf("Kafka Connect's headers say %s, want where it was last read", got)
	}
	if got, want := len(r.Headers), len(first.Record("x.dlq").Headers)-1; got != want { // without dlq.part
		t.Errorf("%d headers after failing again, want %d", got, want)
	}
}

func TestHeadersThatOthersAppendAreKept(t *testing.T) {
	l := sample()
	r := l.Record("x.dlq")
	r.Headers = append(r.Headers, kgo.RecordHeader{Key: "tracer", Value: []byte("t")})
	again, err := Parse(r)
	if err != nil {
		t.Fatal(err)
	}
	if want := append(slices.Clone(l.Headers), kgo.RecordHeader{Key: "tracer", Value: []byte("t")}); !sameHeaders(again.Headers, want) {
		t.Errorf("headers = %v, want %v", again.Headers, want)
	}
}

func TestKafkaConnectsLettersAreRead(t *testing.T) {
	r := &kgo.Record{Key: []byte("k"), Value: []byte("v"), Headers: []kgo.RecordHeader{
		{Key: "of the source"},
		{Key: "__connect.errors.topic", Value: []byte("orders")},
		{Key: "__connect.errors.partition", Value: []byte("2")},
		{Key: "__connect.errors.offset", Value: []byte("17")},
		{Key: "__connect.errors.connector.name", Value: []byte("sink")},
		{Key: "__connect.errors.task.id", Value: []byte("0")},
		{Key: "__connect.errors.stage", Value: []byte("VALUE_CONVERTER")},
		{Key: "__connect.errors.exception.class.name", Value: []byte("org.example.E")},
		{Key: "__connect.errors.exception.message", Value: []byte("bad")},
		{Key: "__connect.errors.exception.stacktrace", Value: []byte("at …")},
	}}
	l, err := Parse(r)
	if err != nil {
		t.Fatal(err)
	}
	if l.Topic != "orders" || l.Partition != 2 || l.Offset != 17 || l.Part != -1 || l.Group != "sink" || l.Instance != "0" ||
		l.Stage != StageConvert || l.Reason != "" || l.Detail != "org.example.E: bad" || string(l.Value) != "v" {
		t.Errorf("read as %+v", l)
	}
	if !sameHeaders(l.Headers, r.Headers[:1]) {
		t.Errorf("headers = %v", l.Headers)
	}
}

// What fails again after a redrive is the same record with one set of headers, whoever wrote the first letter.
func TestRedrivenLetterThatFailsAgainKeepsWhatItWas(t *testing.T) {
	originals := []kgo.RecordHeader{{Key: "a"}, {Key: "traceparent", Value: []byte("t")}}
	first := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	own := Letter{Topic: "t", Partition: 3, Offset: 7, Part: 2, Reason: "http_400", HTTPStatus: 400, Attempts: 4, FirstFailedAt: first, Redrives: 1,
		LeftOut: LeftOutHeaders, Headers: originals}.Record("x")
	connect := &kgo.Record{Headers: append(slices.Clone(originals), kgo.RecordHeader{Key: connectTopic, Value: []byte("t")},
		kgo.RecordHeader{Key: connectPartition, Value: []byte("3")}, kgo.RecordHeader{Key: connectOffset, Value: []byte("7")},
		kgo.RecordHeader{Key: connectPrefix + "exception.stacktrace", Value: []byte("at org")})}
	for name, r := range map[string]*kgo.Record{"own": own, "connect": connect} {
		l, err := Parse(r)
		if err != nil {
			t.Fatal(err)
		}
		again := l.Redriven("r2")
		again.Topic, again.Partition, again.Offset, again.Part, again.Reason = l.Topic, l.Partition, l.Offset, l.Part, "missing_field"
		second, err := Parse(again.Record("x"))
		if err != nil {
			t.Fatal(err)
		}
		if !sameHeaders(second.Headers, originals) || second.Redrives != l.Redrives+1 || second.Run != "r2" || second.Part != l.Part ||
			!second.FirstFailedAt.Equal(l.FirstFailedAt) || second.LeftOut != l.LeftOut || second.HTTPStatus != 0 || second.Offset != 7 {
			t.Errorf("%s: %+v", name, second)
		}
	}
}

func TestDamagedLetterSaysWhatIsWrong(t *testing.T) {
	own := func(schema, topic, partition, offset string) []kgo.RecordHeader {
		return []kgo.RecordHeader{
			{Key: headerSchema, Value: []byte(schema)}, {Key: headerTopic, Value: []byte(topic)},
			{Key: headerPartition, Value: []byte(partition)}, {Key: headerOffset, Value: []byte(offset)},
		}
	}
	for _, test := range []struct {
		name    string
		headers []kgo.RecordHeader
		names   string
	}{
		{"nothing", nil, connectTopic},
		{"newer schema", own("2", "t", "0", "0"), headerSchema},
		{"no topic", own("1", "", "0", "0"), headerTopic},
		{"negative partition", own("1", "t", "-1", "0"), headerPartition},
		{"partition beyond 31 bits", own("1", "t", "2147483648", "0"), headerPartition},
		{"offset is a word", own("1", "t", "0", "ten"), headerOffset},
		{"offset beyond 63 bits", own("1", "t", "0", "9223372036854775808"), headerOffset},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := &kgo.Record{Headers: test.headers}
			_, err := Parse(r)
			if !errors.Is(err, ErrNotALetter) || !strings.Contains(err.Error(), test.names) {
				t.Errorf("Parse: %v, want ErrNotALetter that names %s", err, test.names)
			}
			// What is no letter is the source's: it survives becoming one.
			l := Letter{Topic: "t", Part: -1, Headers: test.headers}
			if back, err := Parse(l.Record("x.dlq")); err != nil || !sameHeaders(back.Headers, test.headers) {
				t.Errorf("headers came back as %v, %v", back.Headers, err)
			}
		})
	}
}

func TestTextsAreBounded(t *testing.T) {
	long := strings.Repeat("ü", 5000)
	l := Letter{Topic: "t", Detail: long, HTTPBody: long, Field: long, Reason: long, Run: "broken \xff text"}
	r := l.Record("x.dlq")
	for _, h := range r.Headers {
		limit := maxText
		switch h.Key {
		case headerDetail, connectMessage:
			limit = maxDetail
		case headerHTTPBody:
			limit = 1024
		}
		if len(h.Value) > limit {
			t.Errorf("%s has %d bytes, limit %d", h.Key, len(h.Value), limit)
		}
		if s := string(h.Value); strings.ToValidUTF8(s, "") != s {
			t.Errorf("%s is no UTF-8", h.Key)
		}
	}
}

func TestPointerKeepsWhatIsNeededToFindTheRecord(t *testing.T) {
	l := sample()
	r := l.pointer("x.dlq")
	if r.Value != nil || string(r.Key) != "k" || header(r, headerLeftOut) != LeftOutValue || header(r, headerTopic) != "detections" {
		t.Errorf("pointer = %+v", r)
	}
	l.Key = make([]byte, maxPointerKey+1)
	if r := l.pointer("x.dlq"); r.Key != nil {
		t.Error("a large key stays in the pointer, which may then be too large itself")
	}
	again := Letter{Headers: l.pointer("x.dlq").Headers, Topic: "again", Part: -1} // as a consumer of the topic sees it
	if back, err := Parse(again.Record("x.dlq")); err != nil || back.LeftOut != LeftOutValue {
		t.Errorf("a pointer that fails again is no pointer any more: %+v, %v", back, err)
	}
}

// FuzzHeaders: whatever headers a source record has,
//   - nothing panics,
//   - Parse(l.Record()) has l's identity, or that of the first dead letter among the headers,
//   - the source's key, value and timestamp come back byte for byte, and its headers too once earlier blocks of ours are taken out,
//   - doing it again changes nothing and does not grow.
func FuzzHeaders(f *testing.F) {
	f.Add("detections", int32(1), int64(2), 3, "http_400", "d", []byte("k"), []byte("v"), []byte("a\x00b\x00dlq.topic\x00x"))
	f.Add("t", int32(0), int64(0), -1, "", "", []byte(nil), []byte(nil), []byte("dlq.schema\x001\x00dlq.topic\x00first\x00dlq.partition\x004\x00dlq.offset\x005"))
	f.Add("t", int32(0), int64(0), -1, "", "", []byte(nil), []byte(nil), []byte("dlq.schema\x001\x00dlq.topic\x00x\x00dlq.schema\x001\x00dlq.schema\x001\x00__connect.errors.topic\x00y"))
	f.Add("t", int32(0), int64(0), -1, "", "", []byte("k"), []byte("v"), []byte("dlq.schema\x001\x00dlq.topic\x00\xb7\x00dlq.partition\x004\x00dlq.offset\x005"))
	f.Fuzz(func(t *testing.T, topic string, partition int32, offset int64, part int, reason, detail string, key, value, packed []byte) {
		if topic == "" || cut(topic, maxText) != topic || partition < 0 || offset < 0 || part < -1 || part > 1<<30 {
			return // no coordinates of Kafka
		}
		l := Letter{
			Key: key, Value: value, Timestamp: time.UnixMilli(5), Headers: unpack(packed),
			Topic: topic, Partition: partition, Offset: offset, Part: part, Reason: cut(reason, maxText), Detail: cut(detail, maxDetail),
		}
		r := l.Record("x.dlq")
		got, err := Parse(r)
		if err != nil {
			t.Fatalf("Parse: %v", err)
		}
		originals, earlier := split(l.Headers)
		want := l.following(earlier)
		want.Topic = cut(want.Topic, maxText) // a planted block can name what is no topic
		if got.Topic != want.Topic || got.Partition != want.Partition || got.Offset != want.Offset || got.Part != l.Part ||
			got.Reason != l.Reason || got.Detail != l.Detail || got.Redrives != want.Redrives {
			t.Fatalf("identity became %+v, want %+v", got, want)
		}
		if !bytes.Equal(got.Key, key) || !bytes.Equal(got.Value, value) || !got.Timestamp.Equal(l.Timestamp) || !sameHeaders(got.Headers, originals) {
			t.Fatalf("the source's record changed: %+v", got)
		}
		if len(earlier) == 0 && !sameHeaders(got.Headers, l.Headers) {
			t.Fatalf("headers changed: %v, want %v", got.Headers, l.Headers)
		}
		again := l
		again.Headers = r.Headers
		if r2 := again.Record("x.dlq"); !sameHeaders(r2.Headers, r.Headers) {
			t.Fatalf("failing again made %v, want %v", r2.Headers, r.Headers)
		}
	})
}

// unpack makes headers of NUL-separated names and values; the name "null" has none.
func unpack(packed []byte) (hs []kgo.RecordHeader) {
	if len(packed) == 0 {
		return nil
	}
	parts := bytes.Split(packed, []byte{0})
	for i := 0; i+1 < len(parts); i += 2 {
		h := kgo.RecordHeader{Key: string(parts[i]), Value: parts[i+1]}
		if h.Key == "null" {
			h.Value = nil
		}
		hs = append(hs, h)
	}
	return hs
}
