package stellar

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// counted counts the connections that are open.
type counted struct {
	net.Conn
	open *atomic.Int32
	once sync.Once
}

func (c *counted) Close() error {
	c.once.Do(func() { c.open.Add(-1) })
	return c.Conn.Close()
}

// counting makes cfg count the connections it opens, those that are open, and
// the most there were at a time.
func counting(cfg *Config) (opened, open, most *atomic.Int32) {
	opened, open, most = new(atomic.Int32), new(atomic.Int32), new(atomic.Int32)
	dial := cfg.DialContext
	cfg.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
		c, err := dial(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		opened.Add(1)
		now := open.Add(1)
		for m := most.Load(); m < now && !most.CompareAndSwap(m, now); m = most.Load() {
		}
		return &counted{Conn: c, open: open}, nil
	}
	return opened, open, most
}

// A connection that outlives the server's patience makes an unknown; one that
// lives shorter than ours costs a handshake.
func TestIdleConnectionsAreClosedInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var under sync.WaitGroup // so that each needs a connection of its own
		under.Add(3)
		cfg := virtual(t, &platform{insert: func(w http.ResponseWriter, _ *http.Request) {
			under.Done()
			under.Wait()
			answering(http.StatusOK, "OK")(w, nil)
		}})
		opened, open, _ := counting(&cfg)
		cfg.Auth = AuthBasic
		c := client(t, cfg)
		var all sync.WaitGroup
		for range 3 {
			all.Go(func() { insertOnce(t.Context(), t, c, doc) })
		}
		all.Wait()
		time.Sleep(3 * time.Second) // virtual, as all that follow
		under.Add(1)
		insertOnce(t.Context(), t, c, doc)
		for _, step := range []struct {
			after time.Duration
			open  int32
		}{{0, 3}, {time.Second, 1}, {2*time.Second + 900*time.Millisecond, 1}, {100 * time.Millisecond, 0}} {
			time.Sleep(step.after)
			synctest.Wait()
			if n := open.Load(); n != step.open {
				t.Errorf("%s later %d connections are open, want %d", step.after, n, step.open)
			}
		}
		under.Add(1)
		if a := insertOnce(t.Context(), t, c, doc); a.Verdict != Delivered || opened.Load() != 4 {
			t.Errorf("got %s (%v) and %d connections, want a new one", summary(a), a.Err, opened.Load())
		}
	})
}

// The platform must not be flooded, and a connection is no way around the limit.
func TestNeverMoreConnectionsThanAllowed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := virtual(t, &platform{insert: func(w http.ResponseWriter, r *http.Request) {
			time.Sleep(time.Second)
			if r.ContentLength%2 == 0 {
				w.Header().Set("Connection", "close")
			}
			answering(http.StatusOK, "OK")(w, r)
		}})
		_, open, most := counting(&cfg)
		cfg.Auth, cfg.MaxInFlight = AuthBasic, 3
		c := client(t, cfg)
		begun := time.Now()
		var all sync.WaitGroup
		for i := range 30 {
			all.Go(func() {
				if a := insertOnce(t.Context(), t, c, doc+"  "[:i%2]); a.Verdict != Delivered {
					t.Errorf("got %s (%v)", summary(a), a.Err)
				}
			})
		}
		all.Wait()
		if took := time.Since(begun); most.Load() != 3 || took != 10*time.Second {
			t.Errorf("up to %d connections, %s; want 3 and 10s", most.Load(), took)
		}
		c.Close()
		if n := open.Load(); n != 0 {
			t.Errorf("%d connections are open after Close", n)
		}
	})
}

// Who waits for a connection until the end of the attempt has sent nothing.
func TestWaitForAConnectionEndsInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := virtual(t, &platform{insert: func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }})
		cfg.Auth, cfg.MaxInFlight, cfg.Timeout = AuthBasic, 1, time.Hour
		c := client(t, cfg)
		holding, release := context.WithCancel(t.Context())
		var held sync.WaitGroup
		held.Go(func() { insertOnce(holding, t, c, doc) })
		synctest.Wait()
		c.cfg.Timeout = 20 * time.Second // nobody else is reading it
		begun := time.Now()
		a := insertOnce(t.Context(), t, c, doc)
		if got := summary(a); got != "unavailable not_sent counts timeout" || time.Since(begun) != 20*time.Second {
			t.Errorf("got %s after %s (%v)", got, time.Since(begun), a.Err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if got := summary(insertOnce(ctx, t, c, doc)); got != "unavailable not_sent none cancelled" {
			t.Errorf("got %s", got)
		}
		release()
		held.Wait()
	})
}

// A failed attempt must give its place back, or delivery would stop after so many.
func TestFailedAttemptsGiveTheirPlaceBack(t *testing.T) {
	var attempts atomic.Int32
	cfg := raw(t, func(c net.Conn) {
		b := bufio.NewReader(c)
		switch attempts.Add(1) {
		case 1:
			reset(c)
		case 2:
			_, _ = receiveFrom(b)
		case 3:
			script("SSH-2.0-x\r\n")(c)
		default:
			_ = answer(c, b)
		}
	})
	var dials atomic.Int32
	cfg.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
		if dials.Add(1) == 1 {
			return nil, errors.New("no route")
		}
		return new(net.Dialer).DialContext(ctx, network, addr)
	}
	cfg.Auth, cfg.MaxInFlight = AuthBasic, 1
	c := client(t, cfg)
	for range 4 {
		if a := insertOnce(t.Context(), t, c, doc); a.Verdict == Delivered || a.Reason == ReasonTimeout {
			t.Errorf("got %s", summary(a))
		}
	}
	if a := insertOnce(t.Context(), t, c, doc); a.Verdict != Delivered {
		t.Errorf("got %s (%v)", summary(a), a.Err)
	}
}

// Cancelling one attempt must not end another that has its connection after it.
func TestCancellingAnAttemptDoesNotEndTheNext(t *testing.T) {
	var cancel atomic.Pointer[context.CancelFunc]
	cfg := raw(t, func(c net.Conn) {
		for b := bufio.NewReader(c); ; {
			if _, err := receiveFrom(b); err != nil {
				return
			}
			if f := cancel.Swap(nil); f != nil {
				go (*f)() // as the answer comes, or after it
			}
			if _, err := io.WriteString(c, stored200); err != nil {
				return
			}
		}
	})
	cfg.Auth, cfg.MaxInFlight = AuthBasic, 1
	c := client(t, cfg)
	for range 300 {
		ctx, end := context.WithCancel(t.Context())
		cancel.Store(&end)
		if a := insertOnce(ctx, t, c, doc); a.Verdict != Delivered && a.Reason != ReasonCancelled {
			t.Errorf("cancelled: got %s (%v)", summary(a), a.Err)
		}
		cancel.Store(nil)
		if a := insertOnce(t.Context(), t, c, doc); a.Verdict != Delivered {
			t.Errorf("the next: got %s (%v)", summary(a), a.Err)
		}
		end()
	}
}

// What was trusted before must not be spoken to after the answer it owes.
func TestRotationEndsConnectionsInUseOnceTheyAreGivenBack(t *testing.T) {
	certificate, authority := certify(t)
	_, other := certify(t)
	asked, goOn, ended := make(chan struct{}), make(chan struct{}), make(chan struct{})
	var connections atomic.Int32
	cfg := raw(t, func(socket net.Conn) {
		c := tls.Server(socket, &tls.Config{Certificates: []tls.Certificate{certificate}})
		b := bufio.NewReader(c)
		if connections.Add(1) > 1 {
			_ = answer(c, b)
			return
		}
		_, _ = receiveFrom(b)
		close(asked)
		<-goOn
		_, _ = io.WriteString(c, stored200)
		_, _ = b.Peek(1) // until the client has gone
		close(ended)
	})
	cfg.URL = "https" + cfg.URL[len("http"):]
	cfg.Auth, cfg.CAFile = AuthBasic, filepath.Join(t.TempDir(), "ca.pem")
	write(t, cfg.CAFile, authority)
	c := client(t, cfg)
	first := make(chan Answer)
	go func() { first <- insertOnce(t.Context(), t, c, doc) }()
	<-asked
	write(t, cfg.CAFile, append(authority, other...))
	if a := insertOnce(t.Context(), t, c, doc); a.Verdict != Delivered {
		t.Errorf("under the new authorities: %s (%v)", summary(a), a.Err)
	}
	begun := time.Now()
	close(goOn)
	if a := <-first; a.Verdict != Delivered {
		t.Errorf("under the old ones: %s (%v)", summary(a), a.Err)
	}
	<-ended
	if took := time.Since(begun); took >= idleTimeout {
		t.Errorf("it was kept idle, for %s", took)
	}
}
