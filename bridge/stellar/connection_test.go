package stellar

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

const stored200 = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nOK"

// answer reads one request and says that the document was stored.
func answer(c net.Conn, b *bufio.Reader) error {
	if _, err := receiveFrom(b); err != nil {
		return err
	}
	_, err := c.Write([]byte(stored200))
	return err
}

// rawTLS is raw over TLS: serve gets the connection and the socket below it.
func rawTLS(t *testing.T, with *tls.Config, serve func(c, socket net.Conn)) Config {
	t.Helper()
	certificate, _ := certify(t)
	with.Certificates = []tls.Certificate{certificate}
	with.DynamicRecordSizingDisabled = true // one record for what is written at once
	cfg := raw(t, func(socket net.Conn) {
		c := tls.Server(socket, with)
		defer c.Close()
		serve(c, socket)
	})
	cfg.URL = strings.Replace(cfg.URL, "http:", "https:", 1)
	cfg.InsecureSkipVerify = true
	return cfg
}

// each runs the test over TCP and over TLS. serve gets what was dialled first,
// and whether it is the first.
func each(t *testing.T, test func(t *testing.T, start func(serve func(c net.Conn, first bool)) *Client)) {
	for _, network := range []string{"TCP", "TLS"} {
		t.Run(network, func(t *testing.T) {
			test(t, func(serve func(c net.Conn, first bool)) *Client {
				var connections atomic.Int32
				number := func(c, _ net.Conn) { serve(c, connections.Add(1) == 1) }
				var cfg Config
				if network == "TLS" {
					cfg = rawTLS(t, &tls.Config{}, number)
				} else {
					cfg = raw(t, func(c net.Conn) { number(c, c) })
				}
				cfg.Auth = AuthBasic
				return client(t, cfg)
			})
		})
	}
}

// connectionsOf inserts three documents, each answered so, and returns over how
// many connections they came and how the first ended.
func connectionsOf(t *testing.T, start func(func(net.Conn, bool)) *Client, said string) (n int32, first Answer) {
	t.Helper()
	var connections atomic.Int32
	c := start(func(c net.Conn, _ bool) {
		connections.Add(1)
		for b := bufio.NewReader(c); ; {
			if _, err := receiveFrom(b); err != nil {
				return
			}
			if _, err := c.Write([]byte(said)); err != nil {
				return
			}
			if strings.HasPrefix(said, "HTTP/1.0") && !strings.Contains(said, "keep-alive") {
				return
			}
		}
	})
	first = insertOnce(t.Context(), t, c, doc)
	for range 2 {
		if a := insertOnce(t.Context(), t, c, doc); summary(a) != summary(first) {
			t.Errorf("got %s, and first %s", summary(a), summary(first))
		}
	}
	return connections.Load(), first
}

// A handshake for each document would be slow and would burden the platform.
func TestConnectionThatIsInStepIsUsedAgain(t *testing.T) {
	for name, said := range map[string]string{
		"length":             stored200,
		"no reason":          "HTTP/1.1 200\r\nContent-Length: 2\r\n\r\nOK",
		"chunks":             "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nO\r\n1;x=y\r\nK\r\n0\r\n\r\n",
		"chunks and trailer": "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n2\r\nOK\r\n0\r\nX-Sum: 1\r\n\r\n",
		"HTTP/1.0, kept":     "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nOK",
		"early hints":        "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" + stored200,
		"head of 5 KiB":      "HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", 5<<10) + "\r\nContent-Length: 2\r\n\r\nOK",
		"head of 60 KiB":     "HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", 60<<10) + "\r\nContent-Length: 2\r\n\r\nOK",
		"body of 5 KiB":      fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n{\"_id\":\"%s\"}", 5<<10+10, strings.Repeat("x", 5<<10)),
	} {
		t.Run(name, func(t *testing.T) {
			each(t, func(t *testing.T, start func(func(net.Conn, bool)) *Client) {
				if n, a := connectionsOf(t, start, said); n != 1 || a.Verdict != Delivered {
					t.Errorf("got %s (%v) over %d connections, want 1", summary(a), a.Err, n)
				}
			})
		})
	}
}

// The rest of an answer, or a second one, must not be taken for the answer to
// the next document: it would be lost.
func TestConnectionThatIsOutOfStepIsNotUsedAgain(t *testing.T) {
	const delivered = "delivered - opens -"
	for name, test := range map[string]struct{ said, want string }{
		"close":                   {"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nOK", delivered},
		"CLOSE among others":      {"HTTP/1.1 200 OK\r\nconnection: TE , CLOSE\r\nContent-Length: 2\r\n\r\nOK", delivered},
		"close as the second":     {"HTTP/1.1 200 OK\r\nConnection: TE\r\nConnection: Close\r\nContent-Length: 2\r\n\r\nOK", delivered},
		"HTTP/1.0":                {"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nOK", delivered},
		"without a length":        {"HTTP/1.0 200 OK\r\n\r\nOK", delivered},
		"second answer":           {stored200 + stored200, delivered},
		"second answer, long":     {stored200 + "HTTP/1.1 200 OK\r\nContent-Length: 10000\r\n\r\n" + strings.Repeat(" ", 10000), delivered},
		"answer of a buffer":      {bufferful() + stored200, delivered},
		"answer of 5 KiB":         {fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n{\"_id\":\"%s\"}x", 5<<10+10, strings.Repeat("x", 5<<10)), delivered},
		"head of 5 KiB":           {"HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", 5<<10) + "\r\nContent-Length: 2\r\n\r\nOKx", delivered},
		"204 with a body":         {"HTTP/1.1 204 No Content\r\nContent-Length: 2\r\n\r\nOK", "unknown unknown counts no_id"},
		"304 with a body":         {"HTTP/1.1 304 Not Modified\r\nContent-Length: 2\r\n\r\nOK", "unavailable refused closes redirected"},
		"rest after chunks":       {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nOK\r\n0\r\n\r\nx", delivered},
		"over the limit":          {fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\nOK%s", 2<<20, strings.Repeat(" ", maxBody-2)), delivered}, // and the rest late
		"at the limit, in chunks": {fmt.Sprintf("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\nOK%s", 2<<20, strings.Repeat(" ", maxBody-2)), delivered},
	} {
		t.Run(name, func(t *testing.T) {
			each(t, func(t *testing.T, start func(func(net.Conn, bool)) *Client) {
				if n, a := connectionsOf(t, start, test.said); n != 3 || summary(a) != test.want {
					t.Errorf("got %s (%v) over %d connections, want %s over 3", summary(a), a.Err, n, test.want)
				}
			})
		})
	}
}

// bufferful is an answer as long as our buffer.
func bufferful() string {
	head := "HTTP/1.1 200 OK\r\nContent-Length: 4000\r\n"
	pad := answerBuffer - 4000 - len(head) - len("X: \r\n\r\n")
	return head + "X: " + strings.Repeat("x", pad) + "\r\n\r\nOK" + strings.Repeat(" ", 3998)
}

// corked is a socket whose writes leave together.
type corked struct {
	net.Conn
	corked bool
	bytes  bytes.Buffer
}

func (c *corked) Write(b []byte) (int, error) {
	if c.corked {
		return c.bytes.Write(b)
	}
	return c.Conn.Write(b)
}

func (c *corked) uncork() {
	c.corked = false
	_ = c.SetDeadline(time.Time{}) // of a farewell
	_, _ = c.Conn.Write(c.bytes.Bytes())
}

// TLS reads ahead. What it holds back must be seen as what waits in the socket is.
func TestRecordBehindTheAnswerIsSeen(t *testing.T) {
	for name, more := range map[string]func(*tls.Conn){
		"second answer": func(c *tls.Conn) { fmt.Fprint(c, stored200) },
		"farewell":      func(c *tls.Conn) { _ = c.CloseWrite() },
	} {
		for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
			t.Run(name+", "+tls.VersionName(version), func(t *testing.T) {
				certificate, _ := certify(t)
				var connections atomic.Int32
				cfg := raw(t, func(socket net.Conn) {
					connections.Add(1)
					cork := &corked{Conn: socket}
					c := tls.Server(cork, &tls.Config{Certificates: []tls.Certificate{certificate}, MaxVersion: version})
					b := bufio.NewReader(c)
					if _, err := receiveFrom(b); err != nil {
						return
					}
					cork.corked = true
					fmt.Fprint(c, stored200)
					more(c)
					cork.uncork()
					_, _ = receiveFrom(b) // until the client has gone
				})
				cfg.URL = strings.Replace(cfg.URL, "http:", "https:", 1)
				cfg.InsecureSkipVerify, cfg.Auth = true, AuthBasic
				c := client(t, cfg)
				for range 2 {
					if a := insertOnce(t.Context(), t, c, doc); a.Verdict != Delivered {
						t.Errorf("got %s (%v)", summary(a), a.Err)
					}
				}
				if n := connections.Load(); n != 2 {
					t.Errorf("two documents over %d connections, want 2", n)
				}
			})
		}
	}
}

// A head without an end must not fill the memory.
func TestHeadOverTheLimitIsUnknown(t *testing.T) {
	a := insertBasic(t, raw(t, func(c net.Conn) {
		script("HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", 70<<10) + "\r\nContent-Length: 2\r\n\r\nOK")(c)
		_, _ = c.Read(make([]byte, 1)) // until the client has gone
	}), doc)
	if got := summary(a); got != "unknown unknown counts connection_lost" || strings.Contains(a.Err.Error(), "xxx") {
		t.Errorf("got %s (%v)", got, a.Err)
	}
}

// The farewell of TLS waits 5 s where nobody reads, past every deadline.
func TestWriteThatNobodyReadsEndsInTime(t *testing.T) {
	certificate, _ := certify(t)
	for name, test := range map[string]struct {
		within time.Duration // of the caller
		want   string
	}{
		"timeout":   {time.Hour, "unavailable not_sent counts timeout"},
		"cancelled": {time.Second, "unavailable not_sent none cancelled"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				cfg := config("https://stellar.example.com")
				cfg.InsecureSkipVerify, cfg.Auth, cfg.MaxInFlight = true, AuthBasic, 1
				cfg.DialContext = func(context.Context, string, string) (net.Conn, error) {
					ours, theirs := net.Pipe()
					t.Cleanup(func() { theirs.Close() })
					secure := tls.Server(theirs, &tls.Config{Certificates: []tls.Certificate{certificate}, SessionTicketsDisabled: true})
					go secure.Handshake()
					return ours, nil
				}
				ctx, cancel := context.WithTimeout(t.Context(), test.within)
				defer cancel()
				begun := time.Now()
				a := insertOnce(ctx, t, client(t, cfg), doc)
				if got, took := summary(a), time.Since(begun); got != test.want || took > min(test.within, 20*time.Second)+earlyAnswer {
					t.Errorf("got %s after %s, want %s (%v)", got, took, test.want, a.Err)
				}
			})
		})
	}
}

// What is no HTTP/1.x answer says nothing of the document, whatever stands in it.
func TestWhatIsNoAnswerIsUnknown(t *testing.T) {
	for _, line := range []string{"HTTP/1.1 000 x", "HTTP/1.1 099 x", "HTTP/1.1 20 x", "HTTP/1.1 2000 x", "HTTP/1.1  200 x", "HTTP/2.0 200 x", "\r\nHTTP/1.1 000 x", "ICY 200 OK x"} {
		t.Run(line, func(t *testing.T) {
			a := insertBasic(t, raw(t, script(line+"\r\nContent-Length: 2\r\n\r\nOK"+stored200)), doc)
			if got := summary(a); got != "unknown unknown counts connection_lost" {
				t.Errorf("got %s, status %d (%v)", got, a.Status, a.Err)
			}
		})
	}
}

// After the last chunk the body is complete: the document was stored.
func TestBodyIsWholeWhateverFollowsItsChunks(t *testing.T) {
	for name, trailer := range map[string]string{
		"none":       "",
		"cut off":    "X-Sum: ",
		"no header":  "sum\r\n\r\n",
		"for a head": "Set-Cookie: a=b\r\nContent-Length: 3\r\n\r\n",
		"very long":  "X-Sum: " + strings.Repeat("x", 10<<10) + "\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			a := insertBasic(t, raw(t, script("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nOK\r\n0\r\n"+trailer)), doc)
			if a.Verdict != Delivered {
				t.Errorf("got %s (%v)", summary(a), a.Err)
			}
		})
	}
}

// A server that refuses a document by its length reads no more of it: the
// refusal must be found behind the write that broke or came to its deadline.
func TestEarlyRefusalIsReadThoughNothingMoreIsRead(t *testing.T) {
	const refusal = "HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n"
	t.Run("reset", func(t *testing.T) {
		cfg := raw(t, func(c net.Conn) {
			if _, err := http.ReadRequest(bufio.NewReader(c)); err == nil {
				_, _ = c.Write([]byte(refusal)) // the close that follows is a reset: bytes of ours are unread
			}
		})
		a := insertBasic(t, cfg, `{"pad":"`+strings.Repeat("x", 16<<20)+`"}`)
		if got := summary(a); got != "refused refused counts http_413" {
			t.Errorf("got %s (%v)", got, a.Err)
		}
	})
	t.Run("no reset", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			a := insertBasic(t, refusing(t, refusal), `{"pad":"`+strings.Repeat("x", 1<<20)+`"}`)
			if got := summary(a); got != "refused refused counts http_413" {
				t.Errorf("got %s (%v)", got, a.Err)
			}
		})
	})
}

// The server cannot have stored what it never got whole, even if it began to
// say something else.
func TestEarlyAnswerThatIsCutOffIsNotSent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := refusing(t, "HTTP/1.1 200 OK\r\nContent-Length: 90\r\n\r\n{")
		a := insertBasic(t, cfg, `{"pad":"`+strings.Repeat("x", 1<<20)+`"}`)
		if a.Verdict != Unavailable || a.Certainty != CertaintyNotSent || a.Status != http.StatusOK {
			t.Errorf("got %s, status %d (%v)", summary(a), a.Status, a.Err)
		}
	})
}

// refusing reads the head of a request, says so, and reads no more.
func refusing(t *testing.T, said string) Config {
	cfg := config("http://stellar.invalid")
	cfg.DialContext = func(context.Context, string, string) (net.Conn, error) {
		ours, theirs := net.Pipe()
		t.Cleanup(func() { theirs.Close() })
		go func() {
			if _, err := http.ReadRequest(bufio.NewReader(theirs)); err == nil {
				_, _ = theirs.Write([]byte(said))
			}
		}()
		return ours, nil
	}
	return cfg
}

// Whoever ends an attempt must not wait for a server that says nothing.
func TestConnectingEndsWithItsContext(t *testing.T) {
	for _, via := range []string{"", "http://proxy:1", "https://proxy:1", "socks5://me:pass@proxy:1"} {
		t.Run("proxy "+via, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var theirs net.Conn
				mute := func(context.Context, string, string) (ours net.Conn, err error) {
					ours, theirs = net.Pipe()
					return ours, nil
				}
				cfg := config("https://stellar.invalid")
				cfg.DialContext, cfg.Auth = mute, AuthBasic
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				c, begun := client(t, cfg), time.Now()
				if via == "" {
					if got := summary(insertOnce(ctx, t, c, doc)); got != "unavailable not_sent none cancelled" {
						t.Errorf("got %s", got)
					}
				} else if proxy, err := url.Parse(via); err != nil {
					t.Fatal(err)
				} else if conn, err := c.dialProxy(ctx, &tls.Config{}, proxy, mute); conn != nil || err == nil {
					t.Errorf("got %v, %v", conn, err)
				}
				if took := time.Since(begun); took != time.Second {
					t.Errorf("it took %s, want 1s", took)
				}
				if _, err := io.Copy(io.Discard, theirs); err != nil { // until its end, or the test hangs
					t.Error(err)
				}
			})
		})
	}
}
