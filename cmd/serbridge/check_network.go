package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net"
	"os"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"serbridge/bridge/kafka"
	"serbridge/bridge/secret"
)

const (
	// soon is how long before its end a certificate is worth a warning.
	soon = 30 * 24 * time.Hour
	// brokersAsked bounds how many of a cluster's brokers are asked one by one.
	brokersAsked = 32
)

// checkCredentials reads each credential once: a file may not be there.
func (c *check) checkCredentials() {
	k, s := c.settings.Kafka, c.settings.Stellar
	var read int
	for _, one := range []struct {
		name   string
		source secret.Source
	}{
		{"KAFKA_SASL_USERNAME", k.SASLUsername}, {"KAFKA_SASL_PASSWORD", k.SASLPassword},
		{"KAFKA_OAUTH_CLIENT_ID", k.OAuthClientID}, {"KAFKA_OAUTH_CLIENT_SECRET", k.OAuthClientSecret},
		{"STELLAR_USER", s.User}, {"STELLAR_API_KEY", s.APIKey},
	} {
		if one.source == nil {
			continue
		}
		value, err := one.source()
		switch {
		case err != nil:
			c.facts.fail("credentials", one.name, "check the path, that the file is mounted, and that user 65532 may read it", "%v", err)
		case value == "":
			c.facts.fail("credentials", one.name, "write the credential into it", "is empty")
		default:
			read++
		}
	}
	if read > 0 {
		c.facts.ok("credentials", "", "%d can be read", read)
	}
}

// checkBrokers looks at each broker of the settings by itself, and reports whether one can be spoken to.
func (c *check) checkBrokers(ctx context.Context) (reached bool) {
	c.checkClientCertificate()
	for _, broker := range c.settings.Kafka.Brokers {
		reached = c.checkBroker(ctx, broker) || reached
	}
	return reached
}

func (c *check) checkBroker(ctx context.Context, broker string) bool {
	ctx, cancel := c.ask(ctx)
	defer cancel()
	if !strings.Contains(broker, ":") {
		broker += ":9092"
	}
	host, _, _ := net.SplitHostPort(broker) // well formed, as the settings have checked
	addresses, err := net.DefaultResolver.LookupHost(ctx, host)
	if err != nil {
		c.facts.fail("kafka dns", broker, "check KAFKA_BROKERS and the cluster's DNS", "%v", err)
		return false
	}
	c.facts.ok("kafka dns", broker, "is %s", strings.Join(addresses, ", "))
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", broker)
	if err != nil {
		c.facts.fail("kafka tcp", broker, "check KAFKA_BROKERS, that the broker runs, firewalls and NetworkPolicy", "%v", err)
		return false
	}
	conn.Close()
	c.facts.ok("kafka tcp", broker, "connects")
	return !c.settings.Kafka.TLS || c.checkBrokerTLS(ctx, broker)
}

func (c *check) checkBrokerTLS(ctx context.Context, broker string) bool {
	conn, err := c.settings.Kafka.config(c.red).Dial(ctx, broker)
	if err != nil {
		c.facts.fail("kafka tls", broker, "check KAFKA_TLS, KAFKA_TLS_CA_FILE and the client certificate", "%s", kafka.Explain(err))
		return false
	}
	defer conn.Close()
	if secure, ok := conn.(*tls.Conn); ok {
		c.checkCertificate("kafka tls", broker, secure.ConnectionState().PeerCertificates[0])
	}
	return true
}

// checkCertificate says whose a certificate is, and until when.
func (c *check) checkCertificate(name, of string, x *x509.Certificate) {
	whose := fmt.Sprintf("certificate of %s by %s, until %s", subject(x), issuer(x), x.NotAfter.UTC().Format(time.RFC3339))
	switch left := time.Until(x.NotAfter); {
	case left < 0:
		c.facts.fail(name, of, "renew the certificate", "%s: it has expired", whose)
	case left < soon:
		c.facts.warn(name, of, "renew the certificate", "%s: %s left", whose, days(left))
	default:
		c.facts.ok(name, of, "%s", whose)
	}
}

// checkClientCertificate looks at our own, which a broker would refuse without saying why.
func (c *check) checkClientCertificate() {
	file := c.settings.Kafka.TLSCertFile
	if file == "" {
		return
	}
	const name, do = "kafka client certificate", "check KAFKA_TLS_CERT_FILE: PEM, mounted, readable for user 65532"
	text, err := os.ReadFile(file)
	if err != nil {
		c.facts.fail(name, "", do, "%v", err)
		return
	}
	block, _ := pem.Decode(text)
	if block == nil {
		c.facts.fail(name, "", do, "%s holds no PEM", file)
		return
	}
	x, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		c.facts.fail(name, "", do, "read %s: %v", file, err)
		return
	}
	c.checkCertificate(name, "", x)
}

// subject names whom a certificate is for: the names that are compared with a host, else the common name.
func subject(x *x509.Certificate) string {
	names := append([]string(nil), x.DNSNames...)
	for _, ip := range x.IPAddresses {
		names = append(names, ip.String())
	}
	if len(names) == 0 {
		return x.Subject.String()
	}
	if len(names) > 3 {
		names = append(names[:3], fmt.Sprintf("%d more", len(names)-3))
	}
	return strings.Join(names, ", ")
}

func issuer(x *x509.Certificate) string {
	if x.Issuer.String() == "" {
		return "an authority without a name"
	}
	return x.Issuer.String()
}

// checkLogin authenticates and asks for the cluster's brokers, each of which must be reached under the address that
// the cluster gives out.
func (c *check) checkLogin(ctx context.Context) bool {
	asking, cancel := c.ask(ctx)
	defer cancel()
	how := "without authentication"
	if m := c.settings.Kafka.SASLMechanism; m != "" {
		how = "by " + m
	}
	meta, err := c.admin.BrokerMetadata(asking)
	if err != nil {
		c.facts.fail("kafka login", "", "check KAFKA_SASL_MECHANISM, user and password, and KAFKA_TLS", "%s: %s", how, kafka.Explain(err))
		return false
	}
	c.facts.ok("kafka login", "", "%s, cluster %s", how, meta.Cluster)
	c.found.brokers = len(meta.Brokers)
	missed := 0
	for _, b := range meta.Brokers[:min(len(meta.Brokers), brokersAsked)] {
		if _, err := c.kafka.Broker(int(b.NodeID)).Request(asking, kmsg.NewPtrApiVersionsRequest()); err != nil {
			missed++
			c.facts.fail("kafka broker", fmt.Sprintf("%d, %s:%d", b.NodeID, b.Host, b.Port),
				"make the address that this broker advertises (advertised.listeners) reachable from here", "%s", kafka.Explain(err))
		}
	}
	if missed == 0 {
		c.facts.ok("kafka brokers", "", "%d answer under the addresses that they advertise", len(meta.Brokers))
	}
	return true
}
