package stellartest

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"os"
	"sync"
	"time"
)

// Running is a Server on one listener. Several may serve the same Server, one after the other or at once: closing one
// and starting the next on its address is an outage.
type Running struct {
	server   *Server
	http     *http.Server
	listener net.Listener
	ca       []byte        // PEM; nil without TLS
	done     chan struct{} // closed when Close begins: ends waits
	once     sync.Once
	served   chan struct{} // closed when the accept loop has ended
	failure  error         // why, if it was not Close; read after served
	active   sync.WaitGroup
}

// Start serves on a TCP address; ":0" is any free port of the loopback interface.
func (s *Server) Start(addr string) (*Running, error) {
	ln, err := listen(addr)
	if err != nil {
		return nil, err
	}
	return s.Serve(ln), nil
}

// StartTLS is Start with a certificate signed by an authority made on the spot; see [Running.CA].
func (s *Server) StartTLS(addr string) (*Running, error) {
	ln, err := listen(addr)
	if err != nil {
		return nil, err
	}
	r, err := s.ServeTLS(ln)
	if err != nil {
		ln.Close()
	}
	return r, err
}

// listen keeps an address without host on the loopback interface: the control endpoints ask for no password.
func listen(addr string) (net.Listener, error) {
	host, port, err := net.SplitHostPort(addr)
	if err == nil && host == "" {
		addr = net.JoinHostPort("127.0.0.1", port)
	}
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("start the API simulator: %w", err)
	}
	return ln, nil
}

// Serve serves on a listener, which it owns from now on, until Close of the Running or of the Server.
func (s *Server) Serve(ln net.Listener) *Running { return s.serve(ln, nil) }

// ServeTLS is Serve with a certificate for localhost, 127.0.0.1, ::1 and the listener's host, see [Running.CA].
func (s *Server) ServeTLS(ln net.Listener) (*Running, error) {
	host, _, err := net.SplitHostPort(ln.Addr().String())
	if err != nil {
		host = ln.Addr().String()
	}
	certificate, ca, err := selfSigned(host, s.cfg.Now())
	if err != nil {
		return nil, fmt.Errorf("make the simulator's certificate: %w", err)
	}
	r := s.serve(tls.NewListener(ln, &tls.Config{Certificates: []tls.Certificate{certificate}, NextProtos: []string{"http/1.1"}}), ca)
	return r, nil
}

func (s *Server) serve(ln net.Listener, ca []byte) *Running {
	r := &Running{server: s, listener: ln, ca: ca, done: make(chan struct{}), served: make(chan struct{})}
	r.http = &http.Server{
		Handler:           r,
		ConnState:         r.track,
		BaseContext:       func(net.Listener) context.Context { return context.WithValue(context.Background(), runningKey{}, r) },
		ErrorLog:          slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug), // broken connections are its trade
		ReadHeaderTimeout: time.Minute,
	}
	s.mu.Lock()
	s.running[r] = struct{}{}
	s.mu.Unlock()
	go func() { // ended and awaited by Close
		defer close(r.served)
		if err := r.http.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
			r.failure = err
		}
	}()
	select {
	case <-s.closing:
		r.Close()
	default:
	}
	return r
}

// runningKey is the context key of the Running that a request came through.
type runningKey struct{}

// stopped is closed when the Running of this request closes; nil, which never is, under a foreign http.Server.
func stopped(r *http.Request) <-chan struct{} {
	if running, ok := r.Context().Value(runningKey{}).(*Running); ok {
		return running.done
	}
	return nil
}

// ServeHTTP counts the handler in, which outlives its connection's state when the connection is cut.
func (r *Running) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	r.active.Add(1)
	defer r.active.Done()
	r.server.ServeHTTP(w, req)
}

// track counts connections: StateNew comes before the connection's goroutine starts, the others when it ends.
func (r *Running) track(_ net.Conn, state http.ConnState) {
	switch state {
	case http.StateNew:
		r.active.Add(1)
	case http.StateClosed, http.StateHijacked:
		r.active.Done()
	}
}

// Addr is the listener's address.
func (r *Running) Addr() net.Addr { return r.listener.Addr() }

// URL is scheme and host, as STELLAR_URL wants it.
func (r *Running) URL() string {
	if r.ca != nil {
		return "https://" + r.Addr().String()
	}
	return "http://" + r.Addr().String()
}

// CA is the certificate authority as PEM; nil without TLS.
func (r *Running) CA() []byte { return r.ca }

// WriteCA writes the certificate authority to a file, for STELLAR_CA_FILE.
func (r *Running) WriteCA(path string) error {
	if err := os.WriteFile(path, r.ca, 0o644); err != nil {
		return fmt.Errorf("write the simulator's certificate authority: %w", err)
	}
	return nil
}

// Done is closed when the listener no longer accepts: after Close, or when it broke.
func (r *Running) Done() <-chan struct{} { return r.served }

// Close refuses new connections, cuts the open ones, hanging requests included, and returns when all goroutines of
// this Running have ended. Its error is that of a listener that broke before.
func (r *Running) Close() error {
	r.once.Do(func() { close(r.done) })
	r.http.Close()
	<-r.served // no StateNew comes after it, so the counter only falls
	r.active.Wait()
	r.server.mu.Lock()
	delete(r.server.running, r)
	r.server.mu.Unlock()
	return r.failure
}

// Close closes every Running and ends waiting requests of foreign servers. The ledger can still be asked.
func (s *Server) Close() {
	s.closeOnce.Do(func() { close(s.closing) })
	s.mu.Lock()
	var open []*Running
	for r := range s.running {
		open = append(open, r)
	}
	s.mu.Unlock()
	for _, r := range open {
		r.Close()
	}
}

// selfSigned makes an authority and a certificate of it, good for a day before and ten years after now.
func selfSigned(host string, now time.Time) (tls.Certificate, []byte, error) {
	caKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, nil, err
	}
	ca := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "serbridge simulator CA"},
		NotBefore: now.AddDate(0, 0, -1), NotAfter: now.AddDate(10, 0, 0),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	caDER, err := x509.CreateCertificate(rand.Reader, ca, ca, caKey.Public(), caKey)
	if err != nil {
		return tls.Certificate{}, nil, err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, nil, err
	}
	leaf := &x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "serbridge simulator"},
		NotBefore: ca.NotBefore, NotAfter: ca.NotAfter, DNSNames: []string{"localhost"},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback},
		KeyUsage:    x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
	if ip := net.ParseIP(host); ip != nil {
		leaf.IPAddresses = append(leaf.IPAddresses, ip)
	} else {
		leaf.DNSNames = append(leaf.DNSNames, host)
	}
	der, err := x509.CreateCertificate(rand.Reader, leaf, ca, key.Public(), caKey)
	if err != nil {
		return tls.Certificate{}, nil, err
	}
	return tls.Certificate{Certificate: [][]byte{der, caDER}, PrivateKey: key},
		pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: caDER}), nil
}
