package stellar

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"

	"serbridge/bridge/secret"
)

const (
	testUser = "Me@example.com"
	testKey  = "2iRpBAyQYEfv77R2QtATlJN6"
)

// platform is the API as far as a test wants it: what it does not replace
// gives tokens for ten minutes and stores every document.
type platform struct {
	token  http.HandlerFunc
	insert http.HandlerFunc
	read   http.HandlerFunc

	mu       sync.Mutex
	asked    []*http.Request // token calls
	inserted []*http.Request
}

func (p *platform) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	// To its end, or the server does not notice that the client has gone.
	_, _ = io.Copy(io.Discard, r.Body)
	p.mu.Lock()
	n, handler := 0, p.read
	switch r.URL.Path {
	case tokenPath:
		p.asked = append(p.asked, r)
		n, handler = len(p.asked), p.token
	case InsertPath:
		p.inserted = append(p.inserted, r)
		n, handler = len(p.inserted), p.insert
	}
	p.mu.Unlock()
	switch {
	case handler != nil:
		handler(w, r)
	case r.URL.Path == tokenPath:
		fmt.Fprintf(w, `{"access_token":"token-%d","exp":%d}`, n, time.Now().Add(10*time.Minute).Unix())
	default:
		fmt.Fprintf(w, `{"index":"aella-ser-","_id":"id-%d"}`, n)
	}
}

func (p *platform) tokenCalls() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.asked)
}

func (p *platform) inserts() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.inserted)
}

// answering is a handler that always answers so.
func answering(status int, body string, headers ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		for i := 0; i < len(headers); i += 2 {
			w.Header().Set(headers[i], headers[i+1])
		}
		w.WriteHeader(status)
		fmt.Fprint(w, body)
	}
}

// config is that of a test: credentials, and a Redactor that knows the key.
func config(url string) Config {
	r := new(secret.Redactor)
	return Config{
		URL: url, Redactor: r, UserAgent: "serbridge/test",
		User: secret.Literal(testUser), APIKey: r.Watch(secret.Literal(testKey)),
	}
}

func client(t *testing.T, cfg Config) *Client {
	t.Helper()
	c, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// virtual serves h on a network without wires, for virtual time.
func virtual(t *testing.T, h http.Handler) Config {
	t.Helper()
	var network kfake.VirtualNetwork
	l, err := network.Listen("tcp", "localhost:80")
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Handler: h}
	var wg sync.WaitGroup
	wg.Go(func() { _ = s.Serve(l) })
	t.Cleanup(func() {
		s.Close()
		wg.Wait()
	})
	cfg := config("http://localhost:80")
	cfg.DialContext = network.DialContext
	return cfg
}

// tcp serves h on the loopback.
func tcp(t *testing.T, h http.Handler) Config {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return config(s.URL)
}

// raw accepts connections and hands each to serve, which owns it.
func raw(t *testing.T, serve func(c net.Conn)) Config {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer c.Close()
				serve(c)
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		wg.Wait()
	})
	return config("http://" + l.Addr().String())
}

// nobody is an address at which nobody listens.
func nobody(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	return l.Addr().String()
}

// receive reads one request to its end.
func receive(c net.Conn) (*http.Request, error) { return receiveFrom(bufio.NewReader(c)) }

func receiveFrom(b *bufio.Reader) (*http.Request, error) {
	r, err := http.ReadRequest(b)
	if err != nil {
		return nil, err
	}
	var sb strings.Builder
	_, err = bufio.NewReader(r.Body).WriteTo(&sb)
	return r, err
}

// insert sends a document with AuthBasic, so that it is the only request.
func insertBasic(t *testing.T, cfg Config, document string) Answer {
	t.Helper()
	cfg.Auth = AuthBasic
	c := client(t, cfg)
	return insertOnce(t.Context(), t, c, document)
}

func insertOnce(ctx context.Context, t *testing.T, c *Client, document string) Answer {
	t.Helper()
	auth, why, ok := c.Authorize(ctx)
	if !ok {
		t.Fatalf("authorize: %+v", why)
	}
	return c.Insert(ctx, auth, []byte(document))
}

// discardLog keeps the complaints of a server about our broken handshakes out
// of the output.
var discardLog = log.New(io.Discard, "", 0)
