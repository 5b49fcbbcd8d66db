package stellar

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

const doc = `{"event_name":"Beacon","timestamp":1772366400000,"event_status":"New","event_source":"test"}`

func reset(c net.Conn) { _ = c.(*net.TCPConn).SetLinger(0) } // the close that follows is a reset

// script answers the first request on a connection with bytes, and closes it.
func script(answer string) func(net.Conn) {
	return func(c net.Conn) {
		if _, err := receive(c); err == nil {
			_, _ = c.Write([]byte(answer))
		}
	}
}

// Each way an attempt can end, over real connections, and what is then known.
func TestCertaintyOfEachEnd(t *testing.T) {
	large := `{"pad":"` + strings.Repeat("x", 8<<20) + `"}`
	for _, test := range []struct {
		name     string
		serve    func(net.Conn)
		document string
		want     string
		status   int
	}{
		{"closed after the request", func(c net.Conn) { _, _ = receive(c) }, doc, "unknown unknown counts connection_lost", 0},
		{"reset after the request", func(c net.Conn) { _, _ = receive(c); reset(c) }, doc, "unknown unknown counts connection_lost", 0},
		{"reset within the request", func(c net.Conn) { _, _ = c.Read(make([]byte, 10)); reset(c) }, large, "unavailable not_sent counts write_failed", 0},
		{"no HTTP", script("SSH-2.0-x\r\n"), doc, "unknown unknown counts connection_lost", 0},
		{"answer cut off in its headers", script("HTTP/1.1 200 OK\r\nContent-"), doc, "unknown unknown counts connection_lost", 0},
		{"answer cut off in its body", script("HTTP/1.1 200 OK\r\nContent-Length: 90\r\n\r\n{\"_id\":\"x\"}"), doc, "unknown unknown counts answer_cut_off", 200},
		{"chunks cut off", script("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nb\r\n{\"_id\":\"x\"}\r\n"), doc, "unknown unknown counts answer_cut_off", 200},
		{"refusal cut off", script("HTTP/1.1 400 Bad Request\r\nContent-Length: 90\r\n\r\nbad"), doc, "unknown unknown counts answer_cut_off", 400},
		{"401 cut off", script("HTTP/1.1 401 Unauthorized\r\nContent-Length: 90\r\n\r\n"), doc, "unknown unknown counts answer_cut_off", 401},
		{"1xx first", script("HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nOK"), doc, "delivered - opens -", 200},
		{"1xx only", script("HTTP/1.1 103 Early Hints\r\n\r\n"), doc, "unknown unknown counts connection_lost", 0},
		{"101, and then nothing", func(c net.Conn) {
			script("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n")(c)
			_, _ = c.Read(make([]byte, 1)) // until the client has gone
		}, doc, "unknown unknown counts invalid_status", 101},
		{"502", script("HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n"), doc, "unknown unknown counts http_502", 502},
		{"504", script("HTTP/1.1 504 Gateway Timeout\r\nContent-Length: 0\r\n\r\n"), doc, "unknown unknown counts http_504", 504},
		{"complete", script("HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\n{\"_id\":\"x\"}"), doc, "delivered - opens -", 200},
		{"complete without a length", script("HTTP/1.0 200 OK\r\n\r\n{\"_id\":\"x\"}"), doc, "delivered - opens -", 200},
	} {
		t.Run(test.name, func(t *testing.T) {
			a := insertBasic(t, raw(t, test.serve), test.document)
			if got := summary(a); got != test.want || a.Status != test.status {
				t.Errorf("got %s, status %d; want %s, %d (%v)", got, a.Status, test.want, test.status, a.Err)
			}
			if (a.Err == nil) != (a.Verdict == Delivered) {
				t.Errorf("%s with error %v", a.Verdict, a.Err)
			}
			if wantFault := a.Reason == ReasonWriteFailed; a.ServerFault != wantFault {
				t.Errorf("ServerFault is %v", a.ServerFault)
			}
		})
	}
}

// An early 413 is an answer, though the document was never read to its end.
func TestEarlyRefusalIsAnAnswer(t *testing.T) {
	cfg := raw(t, func(c net.Conn) {
		r, err := http.ReadRequest(bufio.NewReader(c))
		if err != nil {
			return
		}
		fmt.Fprint(c, "HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n")
		// Read what comes, or the close would be a reset that overtakes the answer.
		_, _ = bufio.NewReader(r.Body).WriteTo(io.Discard)
	})
	a := insertBasic(t, cfg, `{"pad":"`+strings.Repeat("x", 8<<20)+`"}`)
	if got := summary(a); got != "refused refused counts http_413" {
		t.Errorf("got %s (%v)", got, a.Err)
	}
}

func TestNothingIsSentWithoutAConnection(t *testing.T) {
	plain := httptest.NewServer(&platform{})
	defer plain.Close()
	untrusted := httptest.NewTLSServer(&platform{})
	untrusted.Config.ErrorLog = discardLog
	defer untrusted.Close()
	noName := config("https://stellar.invalid")
	noName.DialContext = func(_ context.Context, network, addr string) (net.Conn, error) {
		return nil, &net.OpError{Op: "dial", Net: network, Err: &net.DNSError{Err: "no such host", Name: addr, IsNotFound: true}}
	}
	for _, test := range []struct {
		cfg    Config
		reason string
	}{
		{config("http://" + nobody(t)), ReasonDialFailed},
		{noName, ReasonDNSFailed},
		{config(untrusted.URL), ReasonTLSFailed},
		{config(strings.Replace(plain.URL, "http:", "https:", 1)), ReasonTLSFailed},
	} {
		t.Run(test.reason, func(t *testing.T) {
			want := "unavailable not_sent counts " + test.reason
			if a := insertBasic(t, test.cfg, doc); summary(a) != want || a.Err == nil {
				t.Errorf("insert: got %s (%v), want %s", summary(a), a.Err, want)
			}
			// The token call fails in the same way.
			_, a, ok := client(t, test.cfg).Authorize(t.Context())
			if ok || summary(a) != want || a.Err == nil {
				t.Errorf("authorize: got %s (%v), want %s", summary(a), a.Err, want)
			}
		})
	}
}

// A server closes a kept connection as we write the next request on it: the
// commonest unknown. Go must not repeat the POST by itself.
func TestClosedKeptConnectionIsUnknownAndNotRepeated(t *testing.T) {
	var posts atomic.Int32
	cfg := raw(t, func(c net.Conn) {
		b := bufio.NewReader(c)
		for {
			r, err := receiveFrom(b)
			if err != nil {
				return
			}
			for name := range r.Header {
				if strings.Contains(strings.ToLower(name), "idempotency") {
					t.Errorf("header %s lets Go repeat a POST", name)
				}
			}
			if posts.Add(1) > 1 {
				return
			}
			fmt.Fprint(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nOK")
		}
	})
	cfg.Auth = AuthBasic
	c := client(t, cfg)
	if a := insertOnce(t.Context(), t, c, doc); a.Verdict != Delivered {
		t.Fatalf("first: %+v", a)
	}
	a := insertOnce(t.Context(), t, c, doc)
	if got := summary(a); got != "unknown unknown counts connection_lost" || posts.Load() != 2 {
		t.Errorf("got %s after %d POSTs, want an unknown and 2 (%v)", got, posts.Load(), a.Err)
	}
}

func TestTimeoutWithoutAnswer(t *testing.T) {
	hang := func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }
	for name, insert := range map[string]http.HandlerFunc{
		"before the headers": hang,
		"within the body": func(w http.ResponseWriter, r *http.Request) {
			fmt.Fprint(w, `{"_id":`)
			w.(http.Flusher).Flush()
			hang(w, r)
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				begun := time.Now()
				a := insertBasic(t, virtual(t, &platform{insert: insert}), doc)
				if got := summary(a); got != "unknown unknown counts timeout" || !a.PushBack || time.Since(begun) != 20*time.Second {
					t.Errorf("got %s, PushBack %v, after %v (%v)", got, a.PushBack, time.Since(begun), a.Err)
				}
			})
		})
	}
}

// hanging is a DialContext that never gets a connection.
func hanging(ctx context.Context, _, _ string) (net.Conn, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

func TestTimeoutBeforeTheRequestWasWritten(t *testing.T) {
	mute := func(t *testing.T) Config {
		cfg := config("https://stellar.invalid")
		cfg.DialContext = func(context.Context, string, string) (net.Conn, error) {
			ours, theirs := net.Pipe()
			t.Cleanup(func() { theirs.Close() })
			return ours, nil
		}
		return cfg
	}
	for name, test := range map[string]struct {
		cfg    func(*testing.T) Config
		reason string
		fault  bool
	}{
		"no connection": {func(*testing.T) Config {
			cfg := config("http://stellar.invalid")
			cfg.DialContext = hanging
			return cfg
		}, ReasonTimeout, false},
		"no handshake": {mute, ReasonTLSFailed, false},
		"not read": {func(t *testing.T) Config {
			cfg := mute(t)
			cfg.URL = "http://stellar.invalid"
			cfg.DialContext = func(context.Context, string, string) (net.Conn, error) {
				ours, theirs := net.Pipe()
				go theirs.Read(make([]byte, 100)) // ends when theirs is closed
				t.Cleanup(func() { theirs.Close() })
				return ours, nil
			}
			return cfg
		}, ReasonTimeout, true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a := insertBasic(t, test.cfg(t), `{"pad":"`+strings.Repeat("x", 1<<20)+`"}`)
				want := "unavailable not_sent counts " + test.reason
				if got := summary(a); got != want || a.ServerFault != test.fault {
					t.Errorf("got %s, ServerFault %v; want %s, %v (%v)", got, a.ServerFault, want, test.fault, a.Err)
				}
			})
		})
	}
}

func TestCancelledByTheCaller(t *testing.T) {
	for name, test := range map[string]struct {
		dial func(ctx context.Context, network, addr string) (net.Conn, error)
		want string
	}{
		"before the request": {hanging, "unavailable not_sent none cancelled"},
		"after it":           {nil, "unknown unknown none cancelled"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				cfg := virtual(t, &platform{insert: func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }})
				if test.dial != nil {
					cfg.DialContext = test.dial
				}
				cfg.Auth = AuthBasic
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				a := insertOnce(ctx, t, client(t, cfg), doc)
				if got := summary(a); got != test.want || !errors.Is(a.Err, context.DeadlineExceeded) {
					t.Errorf("got %s (%v), want %s", got, a.Err, test.want)
				}
			})
		})
	}
}
