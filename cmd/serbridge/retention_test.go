package main

import (
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
)

// A topic that is compacted alone keeps its records for ever: to warn of their age would be a false alarm, and one that is
// both is not to be taken for it.
func TestRetentionIsWhatTheTopicRemoves(t *testing.T) {
	for _, c := range []struct {
		policy, ms, bytes string
		want              retention
	}{
		{"delete", "3600000", "-1", retention{time: time.Hour}},
		{"delete", "-1", "1048576", retention{bytes: 1 << 20}},
		{"compact,delete", "1000", "", retention{time: time.Second}},
		{"compact", "3600000", "1048576", retention{}},
		{"delete", "9223372036854775807", "", retention{}}, // Kafka's way of saying never
	} {
		configs := []kadm.Config{{Key: "retention.ms", Value: &c.ms}, {Key: "retention.bytes", Value: &c.bytes}, {Key: "cleanup.policy", Value: &c.policy}}
		if got := retentionOf(configs); got != c.want {
			t.Errorf("%+v: %+v", c, got)
		}
	}
}
