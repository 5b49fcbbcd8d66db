package stellar

import (
	"bufio"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

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
	proxy := raw(t, func(c net.Conn) { connectProxy(c, strings.TrimPrefix(target.URL, "https://")) })
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

// connectProxy is a proxy that knows one password and one destination.
func connectProxy(c net.Conn, to string) {
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
