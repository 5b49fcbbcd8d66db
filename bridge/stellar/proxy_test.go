package stellar

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

const (
	proxyPassword = "proxy-pass-word"
	proxiedHost   = "stellar.example.com"
)

// The environment's proxy is read once per process, so each case is one.
func TestProxyOfTheEnvironment(t *testing.T) {
	if url := os.Getenv("TEST_PROXIED_URL"); url != "" {
		proxied(t, url)
		return
	}
	certificate, authority := certify(t)
	target := strings.TrimPrefix(tlsServer(t, &certificate).URL, "https://")
	ca := filepath.Join(t.TempDir(), "ca.pem")
	write(t, ca, authority)
	serve := func(proxy func(net.Conn)) string { return strings.TrimPrefix(raw(t, proxy).URL, "http://") }
	connect := func(c net.Conn) { connectProxy(c, target) }
	http1, https1 := serve(connect), serve(overTLS(certificate, connect))
	forwarding, forwardingTLS := serve(forwardingProxy), serve(overTLS(certificate, forwardingProxy))
	socks5 := serve(func(c net.Conn) { socksProxy(c, target) })
	flood := serve(func(c net.Conn) {
		for err := error(nil); err == nil; {
			_, err = fmt.Fprint(c, "HTTP/1.1 200 OK\r\nX: "+strings.Repeat("x", 1<<16))
		}
	})
	const (
		login     = "me:" + proxyPassword + "@"
		wrong     = "me:wrong-" + proxyPassword + "@"
		delivered = "delivered - opens -"
		failed    = "unavailable not_sent counts proxy_failed"
	)
	for name, test := range map[string]struct{ url, proxy, without, want string }{
		"tunnel":                {"https", "http://" + login + http1, "", delivered},
		"tunnel, refused":       {"https", "http://" + wrong + http1, "", failed},
		"tunnel, no end":        {"https", "http://" + login + flood, "", failed},
		"unreachable":           {"https", "http://" + login + nobody(t), "", failed},
		"tunnel in TLS":         {"https", "https://" + login + https1, "", delivered},
		"no TLS at the proxy":   {"https", "https://" + login + http1, "", failed},
		"forwarded":             {"http", "http://" + login + forwarding, "", delivered},
		"forwarded, refused":    {"http", "http://" + wrong + forwarding, "", "refused refused counts http_407"},
		"forwarded in TLS":      {"http", "https://" + login + forwardingTLS, "", delivered},
		"SOCKS":                 {"https", "socks5://" + login + socks5, "", delivered},
		"SOCKS, refused":        {"https", "socks5h://" + wrong + socks5, "", failed},
		"an unknown scheme":     {"https", "ftp://" + login + http1, "", failed},
		"no host":               {"https", "http://" + login + ":port:", "", failed},
		"none for the platform": {"https", "http://" + login + nobody(t), ".example.com", delivered},
	} {
		t.Run(name, func(t *testing.T) {
			child := exec.Command(os.Args[0], "-test.run=^TestProxyOfTheEnvironment$", "-test.v")
			child.Env = append(os.Environ(), "GORACE=atexit_sleep_ms=0", "TEST_PROXIED_URL="+test.url+"://"+proxiedHost, "TEST_PROXIED_CA="+ca, "TEST_PROXIED_DIRECT="+target,
				"HTTPS_PROXY="+test.proxy, "HTTP_PROXY="+test.proxy, "NO_PROXY="+test.without)
			out, err := child.CombinedOutput()
			if err != nil || strings.Count(string(out), "outcome: "+test.want) != 2 || strings.Contains(string(out), proxyPassword) {
				t.Errorf("want twice %s and no password: %v\n%s", test.want, err, out)
			}
		})
	}
}

// proxied inserts two documents, so that a tunnel is used again.
func proxied(t *testing.T, url string) {
	cfg := config(url)
	cfg.CAFile, cfg.Auth = os.Getenv("TEST_PROXIED_CA"), AuthBasic
	cfg.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
		if strings.HasPrefix(addr, proxiedHost) {
			addr = os.Getenv("TEST_PROXIED_DIRECT")
		}
		return new(net.Dialer).DialContext(ctx, network, addr)
	}
	c := client(t, cfg)
	for range 2 {
		a := insertOnce(t.Context(), t, c, doc)
		// The parent looks for the password in all that is printed.
		t.Logf("outcome: %s: %v; %s", summary(a), a.Err, cfg.Redactor.Redact(a.Body))
	}
}

func overTLS(certificate tls.Certificate, proxy func(net.Conn)) func(net.Conn) {
	return func(c net.Conn) { proxy(tls.Server(c, &tls.Config{Certificates: []tls.Certificate{certificate}})) }
}

// admitted reports whether the request has the proxy's password, and refuses it
// otherwise, with what it has.
func admitted(c net.Conn, r *http.Request) bool {
	login := r.Header.Get("Proxy-Authorization")
	if login == "Basic "+base64.StdEncoding.EncodeToString([]byte("me:"+proxyPassword)) {
		return true
	}
	decoded, _ := base64.StdEncoding.DecodeString(strings.TrimPrefix(login, "Basic "))
	fmt.Fprintf(c, "HTTP/1.1 407 %s\r\nContent-Length: %d\r\n\r\n%s%s", login, len(login)+len(decoded), login, decoded)
	return false
}

// connectProxy is a proxy with one destination, whatever is asked for.
func connectProxy(c net.Conn, to string) {
	b := bufio.NewReader(c)
	r, err := receiveFrom(b)
	if err != nil || !admitted(c, r) {
		return
	}
	if r.Method != http.MethodConnect || r.RequestURI != proxiedHost+":443" {
		fmt.Fprint(c, "HTTP/1.1 400 Bad Request\r\n\r\n")
		return
	}
	fmt.Fprint(c, "HTTP/1.1 200 OK\r\n\r\n")
	relay(c, b, to)
}

// relay carries bytes between c, of which b reads, and an address.
func relay(c net.Conn, b *bufio.Reader, to string) {
	up, err := net.Dial("tcp", to)
	if err != nil {
		return
	}
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

// forwardingProxy answers in the place of the platform what it is to forward.
func forwardingProxy(c net.Conn) {
	for b := bufio.NewReader(c); ; {
		r, err := receiveFrom(b)
		if err != nil {
			return
		}
		switch {
		case !admitted(c, r):
		case r.RequestURI != "http://"+proxiedHost+InsertPath || r.Host != proxiedHost || r.Header.Get("Authorization") == "":
			fmt.Fprint(c, "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
		default:
			fmt.Fprint(c, stored200)
		}
	}
}

// socksProxy is one of SOCKS version 5 with a password (RFC 1928, RFC 1929).
func socksProxy(c net.Conn, to string) {
	b := bufio.NewReader(c)
	next := func(n byte) []byte {
		bytes := make([]byte, n)
		_, _ = io.ReadFull(b, bytes)
		return bytes
	}
	next(next(2)[1]) // version, and the methods offered
	_, _ = c.Write([]byte{5, 2})
	user := next(next(2)[1])
	if password := next(next(1)[0]); string(user) != "me" || string(password) != proxyPassword {
		_, _ = c.Write([]byte{1, 1})
		return
	}
	_, _ = c.Write([]byte{1, 0})
	host := next(next(5)[4]) // version, command, 0, kind of address, length
	if port := next(2); string(host) != proxiedHost || port[0] != 443>>8 || port[1] != 443&0xff {
		return
	}
	_, _ = c.Write([]byte{5, 0, 0, 1, 0, 0, 0, 0, 0, 0})
	relay(c, b, to)
}
