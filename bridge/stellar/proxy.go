package stellar

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"

	"github.com/valyala/fasthttp"
	"golang.org/x/net/proxy"
)

// proxy returns that of the environment for the platform, by the rules of
// http.ProxyFromEnvironment; nil is none. The Redactor learns its password.
func (c *Client) proxy() (*url.URL, error) {
	via, err := http.ProxyFromEnvironment(&http.Request{URL: c.insert})
	if err != nil {
		// Its text quotes the address, and so the password.
		return nil, &connectError{ReasonProxyFailed, errors.New("HTTPS_PROXY or HTTP_PROXY is not the URL of a proxy")}
	}
	if via != nil {
		if password, ok := via.User.Password(); ok {
			c.cfg.Redactor.Add(password)
		}
	}
	return via, nil
}

func socks(via *url.URL) bool { return via.Scheme == "socks5" || via.Scheme == "socks5h" }

// dialProxy returns a connection through the proxy to the platform, or for
// plain HTTP to the proxy, which forwards each request.
func (c *Client) dialProxy(ctx context.Context, trusted *tls.Config, via *url.URL, open opener) (conn net.Conn, err error) {
	switch {
	case socks(via):
		conn, err = dialSOCKS(ctx, via, open, address(c.insert))
	case via.Scheme == "http", via.Scheme == "https":
		conn, err = c.dialHTTPProxy(ctx, trusted, via, open)
	default:
		err = fmt.Errorf("a proxy of scheme %q is none of http, https, socks5 and socks5h", via.Scheme)
	}
	if err != nil {
		return nil, &connectError{ReasonProxyFailed, err}
	}
	return conn, nil
}

func dialSOCKS(ctx context.Context, via *url.URL, open opener, target string) (net.Conn, error) {
	dialer, err := proxy.FromURL(via, open)
	if err != nil {
		return nil, err
	}
	return dialer.(proxy.ContextDialer).DialContext(ctx, "tcp", target)
}

func (c *Client) dialHTTPProxy(ctx context.Context, trusted *tls.Config, via *url.URL, open opener) (net.Conn, error) {
	conn, err := open(ctx, "tcp", address(via))
	if err == nil && via.Scheme == "https" {
		conn, err = handshake(ctx, conn, trusted, via.Hostname())
	}
	if err != nil {
		return nil, err
	}
	if c.insert.Scheme == "https" {
		if err := tunnel(ctx, conn, via, address(c.insert)); err != nil {
			_ = conn.Close()
			return nil, err
		}
	}
	return conn, nil
}

// tunnel asks the proxy to connect conn with target (RFC 9110, 9.3.6).
func tunnel(ctx context.Context, conn net.Conn, via *url.URL, target string) error {
	defer endWith(ctx, conn)()
	req := &http.Request{Method: http.MethodConnect, URL: &url.URL{Opaque: target}, Host: target, Header: http.Header{}}
	if authorization := proxyAuthorization(via); authorization != "" {
		req.Header.Set("Proxy-Authorization", authorization)
	}
	if err := req.Write(conn); err != nil {
		return err
	}
	// Nothing follows the head before we speak.
	resp, err := http.ReadResponse(bufio.NewReader(io.LimitReader(conn, longestHead)), req)
	if err != nil {
		return errors.New("what the proxy answered to CONNECT is no HTTP")
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("the proxy does not connect us: HTTP %d", resp.StatusCode)
	}
	return context.Cause(ctx)
}

func proxyAuthorization(via *url.URL) string {
	if via.User == nil {
		return ""
	}
	password, _ := via.User.Password()
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(via.User.Username()+":"+password))
}

// forward is what a request in plain HTTP needs for a proxy to forward it.
type forward struct {
	base          string // scheme and host of the platform
	authorization string // of us at the proxy; empty: none
}

func (f *forward) mark(h *fasthttp.RequestHeader) {
	h.SetRequestURI(f.base + string(h.RequestURI()))
	if f.authorization != "" {
		h.Set("Proxy-Authorization", f.authorization)
	}
}
