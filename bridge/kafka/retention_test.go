package kafka

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
		want              Retention
	}{
		{"delete", "3600000", "-1", Retention{Time: time.Hour}},
		{"delete", "-1", "1048576", Retention{Bytes: 1 << 20}},
		{"compact,delete", "1000", "", Retention{Time: time.Second}},
		{"compact", "3600000", "1048576", Retention{}},
		{"delete", "9223372036854775807", "", Retention{}}, // Kafka's way of saying never
	} {
		configs := []kadm.Config{{Key: "retention.ms", Value: &c.ms}, {Key: "retention.bytes", Value: &c.bytes}, {Key: "cleanup.policy", Value: &c.policy}}
		if got := retentionOf(configs); got != c.want {
			t.Errorf("%+v: %+v", c, got)
		}
	}
}
