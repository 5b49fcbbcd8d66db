package stellar

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"fmt"
	"net"
	"net/url"
	"time"
)

const (
	dialTimeout      = 10 * time.Second
	handshakeTimeout = 10 * time.Second
)

// newConnections returns none yet; roots are those to be trusted, nil the
// system's. HTTP/1.1 only: one POST at a time gains nothing from HTTP/2, where
// what was written is less certain.
func (c *Client) newConnections(roots *x509.CertPool) *connections {
	trusted := &tls.Config{RootCAs: roots, InsecureSkipVerify: c.cfg.InsecureSkipVerify}
	return &connections{
		dial: func(ctx context.Context) (*connection, error) { return c.dial(ctx, trusted) },
		room: make(chan struct{}, c.cfg.MaxInFlight),
	}
}

// opener opens a socket, as net.Dialer.DialContext does.
type opener func(ctx context.Context, network, addr string) (net.Conn, error)

// Dial makes an opener the dialer of a SOCKS proxy, which calls DialContext.
func (o opener) Dial(network, addr string) (net.Conn, error) {
	return o(context.Background(), network, addr)
}

// DialContext opens a socket.
func (o opener) DialContext(ctx context.Context, network, addr string) (net.Conn, error) {
	return o(ctx, network, addr)
}

// dial makes a connection to the platform, through the proxy that the
// environment names, if any.
func (c *Client) dial(ctx context.Context, trusted *tls.Config) (*connection, error) {
	made := &connection{host: c.insert.Host, agent: c.cfg.UserAgent}
	open := func(ctx context.Context, network, addr string) (net.Conn, error) {
		socket, err := c.cfg.DialContext(ctx, network, addr)
		if err == nil {
			made.socket, made.quiet = socket, quiet(socket)
		}
		return socket, err
	}
	via, err := c.proxy()
	if err != nil {
		return nil, err
	}
	if via == nil {
		made.Conn, err = open(ctx, "tcp", address(c.insert))
	} else {
		made.Conn, err = c.dialProxy(ctx, trusted, via, open)
	}
	if err != nil {
		return nil, err
	}
	switch {
	case c.insert.Scheme == "https":
		secure, err := handshake(ctx, made.Conn, trusted, c.insert.Hostname())
		if err != nil {
			return nil, &connectError{ReasonTLSFailed, err}
		}
		made.Conn, made.certificate = secure, secure.ConnectionState().PeerCertificates[0]
	case via != nil && !socks(via):
		made.forward = &forward{base: c.insert.Scheme + "://" + c.insert.Host, authorization: proxyAuthorization(via)}
	}
	made.in, made.out = bufio.NewReaderSize(made, answerBuffer), bufio.NewWriter(made)
	return made, nil
}

// address is the host of u and its port.
func address(u *url.URL) string {
	port := u.Port()
	switch {
	case port != "":
	case u.Scheme == "https":
		port = "443"
	default:
		port = "80"
	}
	return net.JoinHostPort(u.Hostname(), port)
}

// handshake returns conn over TLS with name, or closes it.
func handshake(ctx context.Context, conn net.Conn, trusted *tls.Config, name string) (*tls.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, handshakeTimeout)
	defer cancel()
	config := trusted.Clone()
	config.ServerName = name
	secure := tls.Client(&records{Conn: conn, in: bufio.NewReader(conn)}, config)
	if err := secure.HandshakeContext(ctx); err != nil {
		_ = conn.Close()
		return nil, fmt.Errorf("shake hands with %s: %w", name, err)
	}
	return secure, nil
}

// records gives TLS one record at a time. Left to itself TLS takes from the
// socket what there is, and nobody could see that a record waits which answers
// no request of ours.
type records struct {
	net.Conn
	in   *bufio.Reader
	left int // bytes of the record that is being read
}

// Read reads from one record (RFC 8446, 5.1: its length stands in bytes 4 and 5).
func (r *records) Read(b []byte) (int, error) {
	if r.left == 0 {
		const header = 5
		head, err := r.in.Peek(header)
		if err != nil {
			return 0, err
		}
		r.left = header + int(binary.BigEndian.Uint16(head[3:]))
	}
	n, err := r.in.Read(b[:min(len(b), r.left)])
	r.left -= n
	return n, err
}

// held reports whether a record waits that TLS has not asked for.
func held(conn net.Conn) bool {
	for {
		secure, ok := conn.(*tls.Conn)
		if !ok {
			return false
		}
		r := secure.NetConn().(*records)
		if r.in.Buffered() > 0 {
			return true
		}
		conn = r.Conn // of an https proxy
	}
}
