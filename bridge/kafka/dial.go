package kafka

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"time"
)

// connectTimeout bounds dial and TLS handshake together. The client bounds neither when the dialer is ours.
const connectTimeout = 10 * time.Second

// Dial opens one connection to a broker (host:port), as a client's does: a [*tls.Conn], handshaken, if TLS is on. The error is
// for [Explain].
func (c Config) Dial(ctx context.Context, addr string) (net.Conn, error) {
	return c.dial(ctx, "tcp", addr)
}

// dial opens a connection, with TLS if it is on. Certificate files are read each time: they rotate, and a pod may start before
// they are there.
func (c Config) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	dialer := c.Dialer
	if dialer == nil {
		dialer = new(net.Dialer).DialContext
	}
	if !c.TLS {
		return dialer(ctx, network, addr)
	}
	settings, err := c.tlsConfig(addr)
	if err != nil {
		return nil, err
	}
	conn, err := dialer(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	secure := tls.Client(conn, settings)
	if err := secure.HandshakeContext(ctx); err != nil {
		conn.Close()
		return nil, &handshakeError{addr, err}
	}
	return secure, nil
}

// handshakeError tells a handshake that failed from a connection that did.
type handshakeError struct {
	addr string
	err  error
}

func (e *handshakeError) Error() string { return "TLS handshake with " + e.addr + ": " + e.err.Error() }
func (e *handshakeError) Unwrap() error { return e.err }

func (c Config) tlsConfig(addr string) (*tls.Config, error) {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, fmt.Errorf("read broker address: %w", err)
	}
	settings := &tls.Config{ServerName: host, MinVersion: tls.VersionTLS12}
	if c.CAFile != "" {
		pem, err := os.ReadFile(c.CAFile)
		if err != nil {
			return nil, &SettingError{varCAFile, err}
		}
		settings.RootCAs = x509.NewCertPool()
		if !settings.RootCAs.AppendCertsFromPEM(pem) {
			return nil, &SettingError{varCAFile, errors.New(c.CAFile + " holds no certificate in PEM form")}
		}
	}
	if c.CertFile != "" {
		certificate, err := c.certificate()
		if err != nil {
			return nil, err
		}
		settings.Certificates = []tls.Certificate{certificate}
	}
	return settings, nil
}

func (c Config) certificate() (tls.Certificate, error) {
	cert, err := os.ReadFile(c.CertFile)
	if err != nil {
		return tls.Certificate{}, &SettingError{varCertFile, err}
	}
	key, err := os.ReadFile(c.KeyFile)
	if err != nil {
		return tls.Certificate{}, &SettingError{varKeyFile, err}
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil { // it may be between the writing of the two files
		return tls.Certificate{}, &SettingError{varCertFile, fmt.Errorf("%s and %s (%s) are not a pair: %w", c.CertFile, c.KeyFile, varKeyFile, err)}
	}
	return pair, nil
}
