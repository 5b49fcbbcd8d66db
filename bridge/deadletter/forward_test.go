package deadletter

import (
	"slices"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// A letter whose record was produced to its topic and was given up there again must not lose its count of redrives, or a
// record would go round for ever.
func TestForwardedRecordIsTheRecordAndKeepsTheGuardAgainstLoops(t *testing.T) {
	failed := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	first := Letter{Topic: "detections", Partition: 2, Offset: 77, Part: -1, Reason: "missing_field", Field: "event_source", Detail: "d", Attempts: 3,
		HTTPStatus: 400, HTTPBody: "b", Certainty: "not_sent", Key: []byte("k"), Value: []byte("v"), Timestamp: failed.Add(-time.Hour), FirstFailedAt: failed, FailedAt: failed,
		Headers: []kgo.RecordHeader{{Key: "a"}, {Key: "b", Value: []byte{0xff}}, {Key: "a", Value: []byte{}}}}
	letter, err := Parse(first.Record("dlq"))
	if err != nil {
		t.Fatal(err)
	}
	r := letter.Forwarded("detections", "r1")
	if r.Topic != "detections" || r.Partition != 2 || string(r.Key) != "k" || string(r.Value) != "v" || !r.Timestamp.Equal(first.Timestamp) {
		t.Errorf("produced %+v", r)
	}
	var names []string
	for _, h := range r.Headers {
		names = append(names, h.Key)
	}
	want := []string{"a", "b", "a", "dlq.schema", "dlq.topic", "dlq.partition", "dlq.offset", "dlq.attempts", "dlq.first_failed_at", "dlq.redrives", "dlq.run"}
	if !slices.Equal(names, want) {
		t.Errorf("headers %q, want %q", names, want)
	}
	again := Letter{Topic: "detections", Partition: 2, Offset: 9000, Part: -1, Reason: "invalid_json", Headers: r.Headers, Value: r.Value}
	second, err := Parse(again.Record("dlq"))
	if err != nil || second.Redrives != 1 || second.Offset != 77 || !second.FirstFailedAt.Equal(failed) || second.Reason != "invalid_json" || second.Field != "" || len(second.Headers) != 3 {
		t.Errorf("given up again as %+v, %v", second, err)
	}
	if third := second.Forwarded("detections", "r2"); len(third.Headers) != len(want) {
		t.Errorf("the second time it has headers %v", third.Headers)
	}
}
