package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"sync"
	"time"
)

// authority is the certificate authority of the moment, and the connections that stand on it.
type authority struct {
	ip string

	mu     sync.Mutex
	server tls.Certificate
	roots  *x509.CertPool
	open   map[net.Conn]struct{}
}

// renew is another authority with a certificate for this server and one for its clients. Connections of the one before
// end. It answers with what a client needs, as a Secret for kubectl apply.
func (a *authority) renew(out http.ResponseWriter, _ *http.Request) {
	issued, err := issue(a.ip)
	if err != nil {
		http.Error(out, err.Error(), http.StatusInternalServerError)
		return
	}
	a.mu.Lock()
	a.server, a.roots = issued.server, issued.roots
	for conn := range a.open {
		conn.Close()
	}
	clear(a.open)
	a.mu.Unlock()
	out.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(out).Encode(map[string]any{
		"apiVersion": "v1", "kind": "Secret", "metadata": map[string]string{"name": "tls"}, "stringData": issued.files,
	})
}

// config is for one connection, since the next may stand on another authority.
func (a *authority) config(clients tls.ClientAuthType) *tls.Config {
	a.mu.Lock()
	defer a.mu.Unlock()
	return &tls.Config{Certificates: []tls.Certificate{a.server}, ClientCAs: a.roots, ClientAuth: clients}
}

// listener takes TLS and plain text at one address: a broker tells its clients only one.
type listener struct {
	net.Listener
	a       *authority
	clients tls.ClientAuthType
}

func (l listener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &either{Conn: conn, l: l}, nil
}

// either becomes TLS when the first byte that its client sends begins a handshake.
type either struct {
	net.Conn
	l     listener
	once  sync.Once
	first []byte // read, and not yet given on
	tls   *tls.Conn
	err   error
}

const handshake = 0x16

func (e *either) Read(b []byte) (int, error) {
	e.once.Do(e.look)
	switch {
	case e.err != nil:
		return 0, e.err
	case e.tls != nil:
		return e.tls.Read(b)
	}
	return (&begun{e.Conn, &e.first}).Read(b)
}

// Write is never the first: clients of both protocols speak first.
func (e *either) Write(b []byte) (int, error) {
	if e.tls != nil {
		return e.tls.Write(b)
	}
	return e.Conn.Write(b)
}

func (e *either) Close() error {
	e.l.a.forget(e.Conn)
	return e.Conn.Close()
}

func (e *either) look() {
	e.first = make([]byte, 1)
	if _, e.err = e.Conn.Read(e.first); e.err != nil || e.first[0] != handshake {
		return
	}
	e.l.a.keep(e.Conn)
	e.tls = tls.Server(&begun{e.Conn, &e.first}, e.l.a.config(e.l.clients))
}

func (a *authority) keep(conn net.Conn) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.open[conn] = struct{}{}
}

func (a *authority) forget(conn net.Conn) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.open, conn)
}

// begun is a connection whose first bytes have been read.
type begun struct {
	net.Conn
	first *[]byte
}

func (c *begun) Read(b []byte) (int, error) {
	if len(*c.first) == 0 {
		return c.Conn.Read(b)
	}
	n := copy(b, *c.first)
	*c.first = (*c.first)[n:]
	return n, nil
}

// issued is what one authority made.
type issued struct {
	server tls.Certificate
	roots  *x509.CertPool
	files  map[string]string // of a client
}

func issue(ip string) (*issued, error) {
	ca := &x509.Certificate{IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign, Subject: pkix.Name{CommonName: "world"}}
	root, err := sign(ca, nil)
	if err != nil {
		return nil, err
	}
	server, err := sign(&x509.Certificate{DNSNames: []string{"world"}, IPAddresses: []net.IP{net.ParseIP(ip)}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}, root)
	if err != nil {
		return nil, err
	}
	client, err := sign(&x509.Certificate{Subject: pkix.Name{CommonName: "serbridge"}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}, root)
	if err != nil {
		return nil, err
	}
	key, err := x509.MarshalPKCS8PrivateKey(client.PrivateKey)
	if err != nil {
		return nil, fmt.Errorf("encode a key: %w", err)
	}
	made := &issued{server: *server, roots: x509.NewCertPool(), files: map[string]string{
		"ca.crt":  armor("CERTIFICATE", root.Certificate[0]),
		"tls.crt": armor("CERTIFICATE", client.Certificate[0]),
		"tls.key": armor("PRIVATE KEY", key),
	}}
	made.roots.AddCert(root.Leaf)
	return made, nil
}

// sign makes a certificate of a day, signed by parent or by itself.
func sign(template *x509.Certificate, parent *tls.Certificate) (*tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make a key: %w", err)
	}
	template.SerialNumber = big.NewInt(time.Now().UnixNano())
	template.NotBefore, template.NotAfter = time.Now().Add(-time.Minute), time.Now().Add(24*time.Hour)
	if parent == nil {
		parent = &tls.Certificate{Leaf: template, PrivateKey: key}
	}
	text, err := x509.CreateCertificate(rand.Reader, template, parent.Leaf, &key.PublicKey, parent.PrivateKey)
	if err != nil {
		return nil, fmt.Errorf("sign a certificate: %w", err)
	}
	leaf, err := x509.ParseCertificate(text)
	if err != nil {
		return nil, fmt.Errorf("read a certificate back: %w", err)
	}
	return &tls.Certificate{Certificate: [][]byte{text}, PrivateKey: key, Leaf: leaf}, nil
}

func armor(kind string, text []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: text}))
}
