package stellar

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"sync"
	"time"
)

const (
	// idleTimeout is below the keep-alive of the servers and load balancers
	// that are met (5 s at the shortest): a connection that the server closes
	// as we write to it makes the outcome unknown. At a high rate none is
	// idle for so long; at a low one a handshake costs nothing.
	idleTimeout      = 4 * time.Second
	dialTimeout      = 10 * time.Second
	handshakeTimeout = 10 * time.Second
)

// newTransport returns a transport with the roots given; nil means those of
// the system. HTTP/1.1 only: over HTTP/2 the evidence of what was written can
// come after the error, and one POST at a time gains nothing from it.
func (c *Client) newTransport(roots *x509.CertPool) *http.Transport {
	dial := c.cfg.DialContext
	if dial == nil {
		dial = (&net.Dialer{Timeout: dialTimeout}).DialContext
	}
	var http1 http.Protocols
	http1.SetHTTP1(true)
	return &http.Transport{
		Proxy:                  c.proxy,
		OnProxyConnectResponse: connectRefused,
		DialContext:            dial,
		TLSClientConfig: &tls.Config{
			RootCAs:            roots,
			InsecureSkipVerify: c.cfg.InsecureSkipVerify,
		},
		TLSHandshakeTimeout:    handshakeTimeout,
		DisableCompression:     true,
		MaxIdleConns:           c.cfg.MaxInFlight,
		MaxIdleConnsPerHost:    c.cfg.MaxInFlight,
		MaxConnsPerHost:        c.cfg.MaxInFlight,
		IdleConnTimeout:        idleTimeout,
		MaxResponseHeaderBytes: 64 << 10,
		Protocols:              &http1,
	}
}

// proxy is http.ProxyFromEnvironment, whose password the Redactor learns.
func (c *Client) proxy(req *http.Request) (*url.URL, error) {
	u, err := http.ProxyFromEnvironment(req)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errProxyRefused, err)
	}
	if u != nil {
		if password, ok := u.User.Password(); ok {
			c.cfg.Redactor.Add(password)
		}
	}
	return u, nil
}

func connectRefused(_ context.Context, _ *url.URL, _ *http.Request, resp *http.Response) error {
	if resp.StatusCode == http.StatusOK {
		return nil
	}
	return fmt.Errorf("%w: HTTP %d", errProxyRefused, resp.StatusCode)
}

// trust holds the transport that trusts what the CA file says now. When the
// file changes, a new transport takes the place of the old one, whose
// connections end after their last answer.
type trust struct {
	file  string
	build func(*x509.CertPool) *http.Transport
	log   *slog.Logger

	mu     sync.Mutex
	now    *http.Transport
	info   os.FileInfo // of the file read last, good or not; nil: none
	broken bool        // what was read last cannot be used
}

// transport returns the one of now. While a changed file cannot be used, a
// rotation that is under way for instance, the previous one stays.
func (t *trust) transport() (*http.Transport, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.file == "" {
		if t.now == nil {
			t.now = t.build(nil)
		}
		return t.now, nil
	}
	info, err := os.Stat(t.file)
	if err == nil && t.now != nil && !t.broken && same(info, t.info) {
		return t.now, nil
	}
	var roots *x509.CertPool
	if err == nil {
		roots, err = readRoots(t.file)
	}
	if err != nil {
		return t.previous(err)
	}
	if t.now != nil {
		t.log.Info("STELLAR_CA_FILE has changed and was read again")
		t.now.CloseIdleConnections()
	}
	t.now, t.info, t.broken = t.build(roots), info, false
	return t.now, nil
}

func (t *trust) previous(err error) (*http.Transport, error) {
	if t.now == nil {
		return nil, fmt.Errorf("read STELLAR_CA_FILE: %w", err)
	}
	if !t.broken {
		t.broken = true
		t.log.Warn("STELLAR_CA_FILE has changed and cannot be used; what it held before stays trusted", "error", err)
	}
	return t.now, nil
}

func same(a, b os.FileInfo) bool {
	return b != nil && os.SameFile(a, b) && a.ModTime().Equal(b.ModTime()) && a.Size() == b.Size()
}

// readRoots returns the system's roots and those in the file.
func readRoots(file string) (*x509.CertPool, error) {
	pem, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read STELLAR_CA_FILE: %w", err)
	}
	roots, err := x509.SystemCertPool()
	if err != nil {
		roots = x509.NewCertPool()
	}
	if !roots.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("read STELLAR_CA_FILE: %s holds no PEM certificate", file)
	}
	return roots, nil
}

func (t *trust) close() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.now != nil {
		t.now.CloseIdleConnections()
	}
}
