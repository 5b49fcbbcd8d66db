package kafka

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

func TestErrorsSayWhatToDo(t *testing.T) {
	for _, test := range []struct {
		err  error
		says []string
	}{
		{kerr.TopicAuthorizationFailed, []string{"KAFKA_TOPICS", "DLQ_TOPIC", "Read", "Write", "Describe"}},
		{kerr.GroupAuthorizationFailed, []string{"KAFKA_GROUP", "Read"}},
		{kerr.ClusterAuthorizationFailed, []string{"DLQ_CREATE"}},
		{kerr.UnknownTopicOrPartition, []string{"KAFKA_TOPICS", "Describe"}},
		{kerr.SaslAuthenticationFailed, []string{"KAFKA_SASL_USERNAME", "KAFKA_SASL_PASSWORD"}},
		{kerr.UnsupportedSaslMechanism, []string{"KAFKA_SASL_MECHANISM"}},
		{kerr.IllegalSaslState, []string{"KAFKA_SASL_MECHANISM"}},
		{kerr.MessageTooLarge, []string{"max.message.bytes"}},
		{kerr.InconsistentGroupProtocol, []string{"KAFKA_GROUP_PROTOCOL"}},
		{kerr.UnsupportedVersion, []string{"KAFKA_GROUP_PROTOCOL"}},
		{kerr.InvalidSessionTimeout, []string{"KAFKA_SESSION_TIMEOUT"}},
		{kerr.OffsetOutOfRange, []string{"replay"}},
		{fmt.Errorf("poll: %w", &kgo.ErrGroupSession{Err: kerr.GroupAuthorizationFailed}), []string{"KAFKA_GROUP", "poll: "}},
		{fmt.Errorf("%w: Invalid credentials", kerr.SaslAuthenticationFailed), []string{"KAFKA_SASL_PASSWORD", "Invalid credentials"}},
		{&kgo.ErrDecompressTooLarge{Topic: "detections"}, []string{"BUFFER_BYTES", "detections"}},
		{&kgo.ErrDataLoss{Topic: "detections"}, []string{"unclean", "detections"}},
		{&kgo.ErrFirstReadEOF{}, []string{"KAFKA_TLS", "KAFKA_SASL_MECHANISM"}},
		{&net.OpError{Op: "remote error", Err: errors.New("tls: certificate required")}, []string{"KAFKA_TLS_CERT_FILE"}},
		{&net.OpError{Op: "dial", Err: &net.DNSError{Name: "kafka-0"}}, []string{"KAFKA_BROKERS", "kafka-0", "DNS"}},
		{&net.OpError{Op: "dial", Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}, []string{"nothing listens"}},
		{&net.OpError{Op: "dial", Err: os.ErrDeadlineExceeded}, []string{"advertised.listeners", "NetworkPolicy"}},
		{&net.OpError{Op: "read", Err: os.NewSyscallError("read", syscall.ECONNRESET)}, []string{"cut", "KAFKA_SASL_PASSWORD"}},
		{errors.New("the first three bytes received appear to be a tls alert record for TLS v1.2"), []string{"KAFKA_TLS=true"}},
		{io.ErrUnexpectedEOF, []string{"cut", "KAFKA_SASL_PASSWORD"}},
		{fmt.Errorf("commit: %w", context.DeadlineExceeded), []string{"no answer in time", "commit: "}},
		{&SettingError{"KAFKA_TLS_CA_FILE", os.ErrNotExist}, []string{"KAFKA_TLS_CA_FILE: file does not exist"}},
	} {
		t.Run(test.err.Error(), func(t *testing.T) {
			text := Explain(test.err)
			for _, word := range append(test.says, test.err.Error()) {
				if !strings.Contains(text, word) {
					t.Errorf("%q does not say %q", text, word)
				}
			}
		})
	}
}

func TestUnknownErrorsAreGivenAsTheyAre(t *testing.T) {
	if got := Explain(nil); got != "" {
		t.Errorf("nil is %q", got)
	}
	if got := Explain(io.ErrNoProgress); got != io.ErrNoProgress.Error() {
		t.Errorf("got %q", got)
	}
	if got := Explain(errors.New(strings.Repeat("x", 5000))); len(got) > maxCause+10 {
		t.Errorf("%d bytes", len(got))
	}
}
