package kafka

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"syscall"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// maxCause bounds what of an error's own text follows the advice.
const maxCause = 400

// Explain says what to do about an error of a Kafka client, naming the setting, then the error itself. An error it does not
// know is given as it is; nil is the empty string. It never adds a secret or an address that is not in err.
func Explain(err error) string {
	if err == nil {
		return ""
	}
	cause := err.Error()
	if len(cause) > maxCause {
		cause = strings.ToValidUTF8(cause[:maxCause], "") + "…"
	}
	if advice := advise(err); advice != "" {
		return advice + " (" + cause + ")"
	}
	return cause
}

// advise is the first rule that fits: settings, TLS, the broker's words, the network.
func advise(err error) string {
	var own *SettingError
	if errors.As(err, &own) {
		return "" // it says itself what to do
	}
	for _, rule := range []func(error) string{adviseTLS, adviseBroker, adviseClient, adviseNetwork} {
		if advice := rule(err); advice != "" {
			return advice
		}
	}
	return ""
}

func adviseTLS(err error) string {
	var (
		unknown  x509.UnknownAuthorityError
		hostname x509.HostnameError
		invalid  x509.CertificateInvalidError
		record   tls.RecordHeaderError
		alert    *net.OpError
		shake    *handshakeError
		eof      *kgo.ErrFirstReadEOF
	)
	switch {
	case errors.As(err, &unknown):
		return "the broker's certificate is signed by an authority that is not trusted here: put its CA, in PEM form, into " + varCAFile
	case errors.As(err, &hostname):
		return "the broker's certificate does not name the host that was called: use a name of the certificate in " + varBrokers + ", and in the brokers' advertised.listeners"
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return "the broker's certificate has expired or is not valid yet: renew it, or set the clock right"
	case errors.As(err, &invalid):
		return "the broker's certificate is not valid for a server: issue a new one"
	case errors.As(err, &record):
		return "the broker does not speak TLS on this port: set " + varTLS + "=false, or use the port of its TLS listener in " + varBrokers
	case errors.As(err, &alert) && alert.Op == "remote error": // crypto/tls's word for an alert, whose type it keeps to itself
		return "the broker ended TLS; it may want a client certificate, or refuse ours: check " + varCertFile + " and " + varKeyFile
	case errors.As(err, &shake) && errors.Is(err, context.DeadlineExceeded):
		return "the broker does not answer the TLS handshake: set " + varTLS + "=false if the port in " + varBrokers + " is no TLS listener"
	case errors.As(err, &eof):
		return "the broker closed the connection at once, as it does when the port in " + varBrokers + " is a listener of another kind: check " + varTLS + " and " + varMechanism
	case strings.Contains(err.Error(), "tls alert"): // kgo read a TLS alert as a size; it has no type for that
		return "the broker speaks TLS on this port: set " + varTLS + "=true, or use the port of a listener without TLS in " + varBrokers
	}
	return ""
}

// brokerAdvice is what to do about a broker's error code. Rights are called as Kafka's ACLs are.
var brokerAdvice = map[*kerr.Error]string{
	kerr.SaslAuthenticationFailed: "the broker refuses the credentials: check " + varUsername + " and " + varPassword + " (or the token's or AWS identity's rights), and that " + varMechanism + " is the one this user was created for",
	kerr.UnsupportedSaslMechanism: "the broker does not offer this mechanism on this listener: check " + varMechanism + " and the port in " + varBrokers,
	kerr.IllegalSaslState:         "the broker wants no SASL on this listener, or another kind: check " + varMechanism + " and the port in " + varBrokers,

	kerr.TopicAuthorizationFailed:           "our Kafka user lacks a right on a topic: grant Describe and Read on those of KAFKA_TOPICS, Describe and Write on DLQ_TOPIC (and Create, or set DLQ_CREATE=false)",
	kerr.GroupAuthorizationFailed:           "our Kafka user lacks a right on the consumer group: grant Describe and Read on the group KAFKA_GROUP",
	kerr.ClusterAuthorizationFailed:         "our Kafka user lacks a right on the cluster: grant Create on the topic DLQ_TOPIC or set DLQ_CREATE=false; brokers older than 2.8 also want IdempotentWrite",
	kerr.TransactionalIDAuthorizationFailed: "our Kafka user lacks a right on a transactional id, which this bridge does not use: a proxy in between asks for it",

	kerr.UnknownTopicOrPartition: "the topic does not exist, or our Kafka user may not see it (Describe): check KAFKA_TOPICS and DLQ_TOPIC",
	kerr.UnknownTopicID:          "the topic was deleted or replaced: restart serbridge to read the new one, once that was intended",
	kerr.InconsistentTopicID:     "the topic was deleted and created again: restart once that was intended",
	kerr.InvalidTopicException:   "this is not the name of a topic: check KAFKA_TOPICS and DLQ_TOPIC",
	kerr.OffsetOutOfRange:        "the committed offset is outside the log, because of retention or a replaced topic: see the log of this partition, and the command replay",

	kerr.InconsistentGroupProtocol: "members of KAFKA_GROUP use another protocol: another application has this group, or KAFKA_GROUP_PROTOCOL differs between replicas",
	kerr.GroupIDNotFound:           "the consumer group is of another kind: another application has KAFKA_GROUP, or KAFKA_GROUP_PROTOCOL was changed while it had members",
	kerr.UnsupportedAssignor:       "the broker does not know the assignor: use KAFKA_GROUP_PROTOCOL=classic",
	kerr.GroupMaxSizeReached:       "the group has as many members as the broker allows (group.max.size): run fewer replicas",
	kerr.InvalidSessionTimeout:     "the broker does not allow this session timeout: set KAFKA_SESSION_TIMEOUT inside its group.min.session.timeout.ms and group.max.session.timeout.ms",
	kerr.InvalidGroupID:            "this is not the name of a group: check KAFKA_GROUP",
	kerr.UnsupportedVersion:        "the broker is too old for this request: use KAFKA_GROUP_PROTOCOL=classic, or a newer Kafka",

	kerr.MessageTooLarge:              "the record is larger than the topic takes: raise max.message.bytes of DLQ_TOPIC",
	kerr.RecordListTooLarge:           "the record is larger than the broker's log segment: raise segment.bytes of DLQ_TOPIC",
	kerr.NotEnoughReplicas:            "the topic has fewer in-sync replicas than its min.insync.replicas: a broker is down; Kafka has to recover",
	kerr.NotEnoughReplicasAfterAppend: "the topic has fewer in-sync replicas than its min.insync.replicas: a broker is down; Kafka has to recover",
	kerr.InvalidReplicationFactor:     "the cluster has too few brokers for DLQ_TOPIC: create it by hand and set DLQ_CREATE=false",
	kerr.PolicyViolation:              "the cluster's policy refuses the request: create DLQ_TOPIC by hand and set DLQ_CREATE=false",
	kerr.InvalidConfig:                "the cluster refuses a topic setting: create DLQ_TOPIC by hand and set DLQ_CREATE=false",
	kerr.KafkaStorageError:            "the broker cannot read or write its disk: Kafka has to recover",
	kerr.OffsetMetadataTooLarge:       "the broker allows less commit metadata (offset.metadata.max.bytes) than the default of 4096",

	kerr.LeaderNotAvailable:      "a partition has no leader: a broker is down or starting",
	kerr.CoordinatorNotAvailable: "the group has no coordinator: a broker is down or starting",
	kerr.BrokerNotAvailable:      "a broker is down or starting",
	kerr.RequestTimedOut:         "the brokers did not answer each other in time: one is down or overloaded",
	kerr.ThrottlingQuotaExceeded: "a quota of our Kafka user is exceeded: raise it, or wait",
}

func adviseBroker(err error) string {
	var said *kerr.Error
	if errors.As(err, &said) {
		return brokerAdvice[said]
	}
	return ""
}

func adviseClient(err error) string {
	var (
		loss  *kgo.ErrDataLoss
		large *kgo.ErrDecompressTooLarge
	)
	switch {
	case errors.As(err, &loss):
		return "the topic lost records after an unclean leader election; what replaced them is read from where both logs agree"
	case errors.As(err, &large):
		return "a batch is larger than memory allows: raise BUFFER_BYTES"
	}
	return ""
}

func adviseNetwork(err error) string {
	var (
		dns *net.DNSError
		op  *net.OpError
	)
	errors.As(err, &op)
	switch {
	case errors.As(err, &dns):
		return "a broker's host name cannot be resolved: check " + varBrokers + ", DNS, and the brokers' advertised.listeners"
	case errors.Is(err, syscall.ECONNREFUSED):
		return "nothing listens at this address: check " + varBrokers + " and that the broker runs"
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return "the broker, or a proxy in between, cut the connection; it restarted, or, if this comes each time, refuses the login: check " +
			varUsername + ", " + varPassword + " and " + varMechanism
	case op != nil && op.Op == "dial":
		return "a broker cannot be reached: check " + varBrokers + ", the brokers' advertised.listeners, firewalls and NetworkPolicy"
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, context.DeadlineExceeded):
		return "no answer in time: the broker is overloaded, or a firewall or NetworkPolicy drops the traffic; check " + varBrokers
	}
	return ""
}
