package stellar

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"log/slog"
	"math/big"
	"net"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// certify makes a self-signed certificate for 127.0.0.1 and
// stellar.example.com, and its PEM form.
func certify(t *testing.T) (tls.Certificate, []byte) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: "test"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, DNSNames: []string{"stellar.example.com"},
		IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

// tlsServer serves the platform with a certificate that can be exchanged.
func tlsServer(t *testing.T, certificate *tls.Certificate) Config {
	t.Helper()
	s := httptest.NewUnstartedServer(&platform{})
	s.Config.ErrorLog = discardLog
	s.TLS = &tls.Config{GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
		return &tls.Config{Certificates: []tls.Certificate{*certificate}, SessionTicketsDisabled: true}, nil
	}}
	s.StartTLS()
	t.Cleanup(s.Close)
	return config(s.URL)
}

func write(t *testing.T, path string, content []byte) {
	t.Helper()
	// As a mounted secret changes: another file takes the place of the old.
	next := path + ".next"
	if err := os.WriteFile(next, content, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(next, path); err != nil {
		t.Fatal(err)
	}
}

func TestCAFileIsReadAgainWhenItChanged(t *testing.T) {
	first, firstPEM := certify(t)
	second, secondPEM := certify(t)
	certificate := first
	var logged bytes.Buffer
	cfg := tlsServer(t, &certificate)
	cfg.Auth = AuthBasic
	cfg.CAFile = filepath.Join(t.TempDir(), "ca.pem")
	cfg.Logger = slog.New(slog.NewTextHandler(&logged, nil))
	c := client(t, cfg)
	insert := func(step, want string) {
		t.Helper()
		if got := summary(insertOnce(t.Context(), t, c, doc)); got != want {
			t.Errorf("%s: got %s, want %s", step, got, want)
		}
	}
	const delivered, failed = "delivered - opens -", "unavailable not_sent counts tls_failed"
	insert("no file yet", failed)
	write(t, cfg.CAFile, []byte("not a certificate"))
	insert("no certificate in it", failed)
	write(t, cfg.CAFile, firstPEM)
	insert("first authority", delivered)
	write(t, cfg.CAFile, []byte("half written"))
	insert("unusable change", delivered)
	insert("unusable change", delivered)
	if n := strings.Count(logged.String(), "cannot be used"); n != 1 {
		t.Errorf("the unusable file was logged %d times", n)
	}
	certificate = second
	write(t, cfg.CAFile, secondPEM)
	insert("second authority", delivered)
	certificate = first
	c.trust.close()
	insert("the first is not trusted any more", failed)
}

func TestInsecureIsWarnedOfAtEveryStart(t *testing.T) {
	certificate, _ := certify(t)
	cfg := tlsServer(t, &certificate)
	cfg.InsecureSkipVerify = true
	for range 2 {
		var logged bytes.Buffer
		cfg.Logger = slog.New(slog.NewTextHandler(&logged, nil))
		if a := insertBasic(t, cfg, doc); a.Verdict != Delivered {
			t.Errorf("got %+v", a)
		}
		if !strings.Contains(logged.String(), "level=WARN") || !strings.Contains(logged.String(), "STELLAR_INSECURE_SKIP_VERIFY") {
			t.Errorf("logged %q", logged.String())
		}
	}
}
