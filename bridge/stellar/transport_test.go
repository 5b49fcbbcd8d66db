package stellar

import (
	"bufio"
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
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

// The environment's proxy is read once per process, so each case is one.
func TestProxyOfTheEnvironment(t *testing.T) {
	if url := os.Getenv("TEST_PROXIED_URL"); url != "" {
		proxied(t, url)
		return
	}
	const password = "proxy-pass-word"
	certificate, authority := certify(t)
	target := tlsServer(t, &certificate)
	ca := filepath.Join(t.TempDir(), "ca.pem")
	write(t, ca, authority)
	proxy := raw(t, func(c net.Conn) { tunnel(c, strings.TrimPrefix(target.URL, "https://")) })
	address := strings.TrimPrefix(proxy.URL, "http://")
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody := l.Addr().String()
	l.Close()
	for name, test := range map[string]struct{ proxy, want string }{
		"tunnel":      {"http://me:" + password + "@" + address, "delivered - opens -"},
		"refused":     {"http://me:wrong-" + password + "@" + address, "unavailable not_sent counts proxy_failed"},
		"unreachable": {"http://me:" + password + "@" + nobody, "unavailable not_sent counts proxy_failed"},
	} {
		t.Run(name, func(t *testing.T) {
			child := exec.Command(os.Args[0], "-test.run=^TestProxyOfTheEnvironment$", "-test.v")
			child.Env = append(os.Environ(), "TEST_PROXIED_URL=https://stellar.example.com", "TEST_PROXIED_CA="+ca, "HTTPS_PROXY="+test.proxy, "NO_PROXY=")
			out, err := child.CombinedOutput()
			if err != nil || !strings.Contains(string(out), "outcome: "+test.want) || strings.Contains(string(out), password) {
				t.Errorf("want %s and no password: %v\n%s", test.want, err, out)
			}
		})
	}
}

func proxied(t *testing.T, url string) {
	cfg := config(url)
	cfg.CAFile = os.Getenv("TEST_PROXIED_CA")
	a := insertBasic(t, cfg, doc)
	// The parent looks for the password in all that is printed.
	t.Logf("outcome: %s: %v; %s", summary(a), a.Err, cfg.Redactor.Redact(os.Getenv("HTTPS_PROXY")))
}

// tunnel is a proxy that knows one password and one destination.
func tunnel(c net.Conn, to string) {
	b := bufio.NewReader(c)
	r, err := receiveFrom(b)
	if err != nil {
		return
	}
	if r.Header.Get("Proxy-Authorization") != "Basic "+base64.StdEncoding.EncodeToString([]byte("me:proxy-pass-word")) {
		fmt.Fprint(c, "HTTP/1.1 407 "+r.Header.Get("Proxy-Authorization")+"\r\n\r\n")
		return
	}
	up, err := net.Dial("tcp", to)
	if err != nil {
		return
	}
	fmt.Fprint(c, "HTTP/1.1 200 OK\r\n\r\n")
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = io.Copy(c, up)
		c.Close()
	}()
	_, _ = io.Copy(up, b)
	up.Close()
	<-done
}

func TestRequestsShareNoTransportWithOthers(t *testing.T) {
	c := client(t, config("https://stellar.invalid"))
	transport, err := c.trust.transport()
	if err != nil {
		t.Fatal(err)
	}
	if http.RoundTripper(transport) == http.DefaultTransport || transport.MaxIdleConnsPerHost != 64 || transport.MaxConnsPerHost != 64 {
		t.Errorf("got %d idle and %d connections per host", transport.MaxIdleConnsPerHost, transport.MaxConnsPerHost)
	}
}
