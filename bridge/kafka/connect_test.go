package kafka

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"serbridge/bridge/secret"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
)

// authority issues certificates for localhost.
type authority struct {
	t    *testing.T
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pem  []byte
}

func newAuthority(t *testing.T) *authority {
	a := &authority{t: t}
	a.pem, _, a.cert, a.key = a.issue(&x509.Certificate{Subject: pkix.Name{CommonName: "test CA"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign})
	return a
}

func (a *authority) issue(template *x509.Certificate) (certPEM, keyPEM []byte, cert *x509.Certificate, key *ecdsa.PrivateKey) {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	template.SerialNumber = big.NewInt(time.Now().UnixNano())
	if template.NotAfter.IsZero() {
		template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	}
	parent, signer := template, key
	if a.key != nil {
		parent, signer = a.cert, a.key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	if err != nil {
		a.t.Fatal(err)
	}
	keyDER, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		a.t.Fatal(err)
	}
	if cert, err = x509.ParseCertificate(der); err != nil {
		a.t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: keyDER}), cert, key
}

// leaf is a certificate for localhost, changed by change.
func (a *authority) leaf(change func(*x509.Certificate)) (certPEM, keyPEM []byte) {
	template := &x509.Certificate{
		Subject: pkix.Name{CommonName: "localhost"}, DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	if change != nil {
		change(template)
	}
	certPEM, keyPEM, _, _ = a.issue(template)
	return certPEM, keyPEM
}

// server is a TLS configuration for a broker; clients, if not nil, must have certificates of that authority.
func (a *authority) server(change func(*x509.Certificate), clients *authority) *tls.Config {
	a.t.Helper()
	pair, err := tls.X509KeyPair(a.leaf(change))
	if err != nil {
		a.t.Fatal(err)
	}
	c := &tls.Config{Certificates: []tls.Certificate{pair}}
	if clients != nil {
		c.ClientAuth, c.ClientCAs = tls.RequireAndVerifyClientCert, x509.NewCertPool()
		c.ClientCAs.AddCert(clients.cert)
	}
	return c
}

func write(t *testing.T, path string, content []byte) string {
	t.Helper()
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func broker(t *testing.T, opts ...kfake.Opt) []string {
	t.Helper()
	c, err := kfake.NewCluster(append([]kfake.Opt{kfake.NumBrokers(1)}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c.ListenAddrs()
}

func connect(t *testing.T, c Config) *kgo.Client {
	t.Helper()
	opts, err := c.Options()
	if err != nil {
		t.Fatal(err)
	}
	cl, err := kgo.NewClient(opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cl.Close)
	return cl
}

func ping(t *testing.T, cl *kgo.Client) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	return cl.Ping(ctx)
}

// explained checks that err is there and its explanation says what it must, without any of the secrets of these tests.
func explained(t *testing.T, err error, words ...string) {
	t.Helper()
	if err == nil {
		t.Fatal("connected")
	}
	text := Explain(err)
	for _, word := range words {
		if !strings.Contains(text, word) {
			t.Errorf("explanation %q does not say %q", text, word)
		}
	}
	for _, s := range []string{"wr0ng", "r1ght", "t0ken"} {
		if strings.Contains(text, s) || strings.Contains(err.Error(), s) {
			t.Errorf("a secret is in %q or %q", text, err)
		}
	}
}

func TestRotatedPasswordIsUsedByTheNextConnection(t *testing.T) {
	for _, mechanism := range []string{Plain, ScramSHA256, ScramSHA512} {
		t.Run(mechanism, func(t *testing.T) {
			addrs := broker(t, kfake.EnableSASL(), kfake.Superuser(mechanism, "bridge", "r1ght"))
			file := write(t, filepath.Join(t.TempDir(), "password"), []byte("wr0ng\n"))
			redactor := new(secret.Redactor)
			cl := connect(t, Config{Brokers: addrs, SASLMechanism: mechanism, Username: secret.Literal("bridge"), Password: secret.File(file), Redactor: redactor})

			explained(t, ping(t, cl), "KAFKA_SASL_PASSWORD", "KAFKA_SASL_USERNAME") // Kafka says SASL_AUTHENTICATION_FAILED, kfake hangs up
			if err := os.Remove(file); err != nil {
				t.Fatal(err)
			}
			explained(t, ping(t, cl), "KAFKA_SASL_PASSWORD", file)
			write(t, file, []byte("r1ght\n"))
			if err := ping(t, cl); err != nil {
				t.Errorf("with the new password: %v", err)
			}
			if got := redactor.Redact("r1ght bridge"); got != "[redacted] bridge" {
				t.Errorf("the redactor does not know the password: %q", got)
			}
		})
	}
}

func TestRotatedAuthorityIsUsedByTheNextConnection(t *testing.T) {
	ours, others := newAuthority(t), newAuthority(t)
	addrs := broker(t, kfake.TLS(ours.server(nil, nil)))
	file := filepath.Join(t.TempDir(), "ca.pem")
	cl := connect(t, Config{Brokers: addrs, TLS: true, CAFile: file})

	explained(t, ping(t, cl), "KAFKA_TLS_CA_FILE", file, "no such file")
	write(t, file, []byte("not a certificate"))
	explained(t, ping(t, cl), "KAFKA_TLS_CA_FILE", file, "PEM")
	write(t, file, others.pem)
	explained(t, ping(t, cl), "KAFKA_TLS_CA_FILE", "authority")
	write(t, file, ours.pem)
	if err := ping(t, cl); err != nil {
		t.Errorf("with the right authority: %v", err)
	}
}

func TestRotatedCertificateIsUsedByTheNextConnection(t *testing.T) {
	ours, others := newAuthority(t), newAuthority(t)
	addrs := broker(t, kfake.TLS(ours.server(nil, ours)))
	dir := t.TempDir()
	certFile, keyFile := filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key")
	c := Config{Brokers: addrs, TLS: true, CAFile: write(t, filepath.Join(dir, "ca.pem"), ours.pem)}
	explained(t, ping(t, connect(t, c)), "KAFKA_TLS_CERT_FILE")

	c.CertFile, c.KeyFile = certFile, keyFile
	cl := connect(t, c)
	explained(t, ping(t, cl), "KAFKA_TLS_CERT_FILE", certFile)
	cert, key := others.leaf(nil)
	write(t, certFile, cert)
	explained(t, ping(t, cl), "KAFKA_TLS_KEY_FILE", keyFile)
	write(t, keyFile, key)
	explained(t, ping(t, cl), "KAFKA_TLS_CERT_FILE", "unknown certificate authority")
	cert, key = ours.leaf(nil)
	write(t, certFile, cert) // the key is still the former one
	explained(t, ping(t, cl), "KAFKA_TLS_CERT_FILE", "KAFKA_TLS_KEY_FILE", "not a pair")
	write(t, keyFile, key)
	if err := ping(t, cl); err != nil {
		t.Errorf("with the right certificate: %v", err)
	}
}

func TestWrongListenerIsExplained(t *testing.T) {
	ca := newAuthority(t)
	caFile := write(t, filepath.Join(t.TempDir(), "ca.pem"), ca.pem)
	withTLS := broker(t, kfake.TLS(ca.server(nil, nil)))
	withSASL := broker(t, kfake.EnableSASL(), kfake.Superuser(Plain, "bridge", "r1ght"))
	otherHost := broker(t, kfake.TLS(ca.server(func(c *x509.Certificate) { c.DNSNames, c.IPAddresses = []string{"kafka.example"}, nil }, nil)))
	expired := broker(t, kfake.TLS(ca.server(func(c *x509.Certificate) {
		c.NotBefore, c.NotAfter = time.Now().Add(-2*time.Hour), time.Now().Add(-time.Hour)
	}, nil)))
	nobody, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed := nobody.Addr().String()
	nobody.Close()
	for _, test := range []struct {
		name string
		cfg  Config
		says []string
	}{
		{"plain text to TLS", Config{Brokers: withTLS}, []string{"KAFKA_TLS"}},
		{"no SASL where it is wanted", Config{Brokers: withSASL}, []string{"KAFKA_SASL_MECHANISM"}},
		{"another mechanism", Config{Brokers: withSASL, SASLMechanism: ScramSHA256, Username: someone, Password: someone}, []string{"KAFKA_SASL_MECHANISM"}},
		{"system authorities", Config{Brokers: withTLS, TLS: true}, []string{"KAFKA_TLS_CA_FILE", "unknown authority"}},
		{"another host", Config{Brokers: otherHost, TLS: true, CAFile: caFile}, []string{"KAFKA_BROKERS", "does not name"}},
		{"expired", Config{Brokers: expired, TLS: true, CAFile: caFile}, []string{"expired"}},
		{"nobody listens", Config{Brokers: []string{closed}}, []string{"KAFKA_BROKERS", closed}},
		{"nobody has this name", Config{Brokers: []string{"kafka.invalid:9092"}}, []string{"KAFKA_BROKERS", "kafka.invalid"}},
		{"empty password", Config{Brokers: withSASL, SASLMechanism: Plain, Username: someone, Password: secret.Literal("")}, []string{"KAFKA_SASL_PASSWORD", "empty"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			begun := time.Now()
			explained(t, ping(t, connect(t, test.cfg)), test.says...)
			if took := time.Since(begun); took > 10*time.Second {
				t.Errorf("it took %v to say so", took)
			}
		})
	}
}

// kfake waits for the rest of what it takes for a request; a Kafka broker hangs up.
func TestTLSToPlainTextIsExplained(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		network := new(kfake.VirtualNetwork)
		broker(t, kfake.Ports(9092), kfake.ListenFn(network.Listen))
		cl := connect(t, Config{Brokers: []string{"localhost:9092"}, TLS: true, Dialer: network.DialContext})
		explained(t, ping(t, cl), "KAFKA_TLS=false", "TLS handshake")
	})
	explained(t, &handshakeError{"a:9092", tls.RecordHeaderError{Msg: "first record does not look like a TLS handshake"}}, "KAFKA_TLS=false", "a:9092")
}

func TestRightSettingsConnect(t *testing.T) {
	ca := newAuthority(t)
	addrs := broker(t, kfake.TLS(ca.server(nil, nil)), kfake.EnableSASL(), kfake.Superuser(ScramSHA512, "bridge", "r1ght"))
	cl := connect(t, Config{
		Brokers: addrs, ClientID: "pod-1", TLS: true, CAFile: write(t, filepath.Join(t.TempDir(), "ca.pem"), ca.pem),
		SASLMechanism: ScramSHA512, Username: secret.Literal("bridge"), Password: secret.Literal("r1ght"),
	})
	if err := ping(t, cl); err != nil {
		t.Error(err)
	}
	if id := cl.OptValue(kgo.ClientID); id != "pod-1" {
		t.Errorf("client id %v", id)
	}
}
