package stellartest

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
)

// A bubble ends only when all its goroutines have: a hanging or delayed answer that outlives Close fails this test.
func TestCloseEndsEveryWait(t *testing.T) {
	for _, f := range []Fault{Hang(), Slow(time.Hour), {AnswerDelay: time.Hour}} {
		synctest.Test(t, func(t *testing.T) {
			p := inBubble(t, Config{})
			p.Script(Always(f))
			done := make(chan reply)
			start := time.Now()
			go func() { done <- p.insert(document("k")) }()
			synctest.Wait()
			p.Close()
			if got := <-done; got.err == nil || time.Since(start) != 0 {
				t.Errorf("%+v: %+v after %v", f, got, time.Since(start))
			}
			if now, _ := p.InFlight(); now != 0 {
				t.Errorf("%d in flight after Close", now)
			}
			p.Close()
		})
	}
}

// Close one Running, serve again on the same address: refused connections between, ledger and tokens kept.
func TestOutageAndReturn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		network := new(kfake.VirtualNetwork)
		serve := func(s *Server) *Running {
			ln, err := network.Listen("tcp", "localhost:80")
			if err != nil {
				t.Fatal(err)
			}
			return s.Serve(ln)
		}
		s := New(Config{})
		first := serve(s)
		p := newPlatform(t, s, "http://localhost:80", &http.Transport{DialContext: network.DialContext})
		p.login(basic(DefaultUser, DefaultAPIKey))
		p.insert(document("a"))
		if err := first.Close(); err != nil {
			t.Error(err)
		}
		<-first.Done()
		if got := p.insert(document("b")); got.err == nil {
			t.Errorf("during the outage: %+v", got)
		}
		serve(s)
		if got := p.insert(document("c")); got.status != 200 {
			t.Errorf("afterwards: %+v", got)
		}
		if sum := p.Ledger(); sum.Documents != 2 || sum.Requests[KindToken] != 1 {
			t.Errorf("%+v", sum)
		}
		s.Close()
		closed := serve(s)
		<-closed.Done()
		if got := p.insert(document("d")); got.err == nil {
			t.Errorf("served after Close of the Server: %+v", got)
		}
	})
}

func TestTLSIsVerifiableWithItsAuthorityOnly(t *testing.T) {
	s := New(Config{})
	r, err := s.StartTLS("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "ca.pem")
	if err := r.WriteCA(file); err != nil {
		t.Fatal(err)
	}
	pem, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) || string(pem) != string(r.CA()) {
		t.Fatalf("no certificate in %s", pem)
	}
	for name, c := range map[string]struct {
		url   string
		roots *x509.CertPool
		good  bool
	}{
		"its authority": {r.URL(), pool, true},
		"by name":       {strings.Replace(r.URL(), "127.0.0.1", "localhost", 1), pool, true},
		"system's":      {r.URL(), x509.NewCertPool(), false},
	} {
		p := newPlatform(t, s, c.url, &http.Transport{TLSClientConfig: &tls.Config{RootCAs: c.roots}})
		if got := p.insert(document("k")); (got.status == 200) != c.good {
			t.Errorf("%s: %+v", name, got)
		}
		p.http.CloseIdleConnections()
	}
	s.Close()
	if _, err := s.StartTLS("no port"); err == nil {
		t.Error("started without a port")
	}
}

// The control endpoints take no password, so an address without a host must not open them to the network.
func TestPortAloneListensOnLoopback(t *testing.T) {
	s := New(Config{})
	r, err := s.Start(":0")
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if ip := r.Addr().(*net.TCPAddr).IP; !ip.IsLoopback() {
		t.Errorf("listens on %v", ip)
	}
	if _, err := s.Start(r.Addr().String()); err == nil || !strings.Contains(err.Error(), "start the API simulator") {
		t.Errorf("second listener on one address: %v", err)
	}
}

// As a plain handler: under another server, and without one.
func TestServerIsAHandler(t *testing.T) {
	s := New(Config{})
	hs := httptest.NewServer(s)
	p := newPlatform(t, s, hs.URL, &http.Transport{})
	p.Script(Sequence(Fault{}, CutAfterStoring(), Hang()))
	if got := p.insert(document("k")); got.status != 200 {
		t.Errorf("%+v", got)
	}
	if got := p.insert(document("k")); got.err == nil {
		t.Errorf("%+v", got)
	}
	done := make(chan reply)
	go func() { done <- p.insert(document("k")) }()
	if err := s.Wait(t.Context(), func(l Ledger) bool { return l.Statuses[0] == 1 && l.Requests[KindInsert] <= 3 }); err != nil {
		t.Fatal(err)
	}
	s.Close()
	if got := <-done; got.err == nil {
		t.Errorf("hanging: %+v", got)
	}
	p.http.CloseIdleConnections()
	hs.Close()

	rec := httptest.NewRecorder()
	req := httptest.NewRequest("POST", InsertPath, strings.NewReader(document("r")))
	req.SetBasicAuth(DefaultUser, DefaultAPIKey)
	req.Header.Set("Content-Type", "application/json; charset=utf-8")
	if s.ServeHTTP(rec, req); rec.Code != 200 || !s.DocumentsOf("r")[0].Told {
		t.Errorf("recorded: %d %s", rec.Code, rec.Body)
	}
	req.Header.Set("Content-Type", "text/plain")
	rec = httptest.NewRecorder()
	if s.ServeHTTP(rec, req); rec.Code != 415 {
		t.Errorf("without the documented header: %d", rec.Code)
	}
}

// dialRaw serves s in a bubble and sends the start of an insert by hand.
func dialRaw(t *testing.T, s *Server, headers, body string) net.Conn {
	network := new(kfake.VirtualNetwork)
	ln, err := network.Listen("tcp", "localhost:80")
	if err != nil {
		t.Fatal(err)
	}
	s.Serve(ln)
	conn, err := network.DialContext(t.Context(), "tcp", "localhost:80")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(conn, "POST "+InsertPath+" HTTP/1.1\r\nHost: h\r\n"+headers+"\r\n"+body); err != nil {
		t.Fatal(err)
	}
	return conn
}

// A client that leaves within its own body leaves nothing behind.
func TestHalfARequestStoresNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New(Config{})
		defer s.Close()
		dialRaw(t, s, "Content-Length: 500\r\n", document("k")).Close()
		synctest.Wait()
		if r := s.Requests(); len(r) != 1 || !r[0].Left || r[0].Status != 0 || len(s.Documents()) != 0 {
			t.Errorf("%+v", r)
		}
	})
}

// A document whose answer got stuck on the wire is one that the client may send again.
func TestAnswerThatCannotLeaveIsUntold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New(Config{})
		defer s.Close()
		body := document("k")
		conn := dialRaw(t, s, fmt.Sprintf("Content-Type: application/json\r\nAuthorization: %s\r\nContent-Length: %d\r\n",
			basic(DefaultUser, DefaultAPIKey), len(body)), body)
		synctest.Wait() // the answer waits for a reader
		conn.Close()
		synctest.Wait()
		if r := s.Requests()[0]; !r.Left || r.Told || r.Status != 0 || r.Stored == "" {
			t.Errorf("%+v", r)
		}
		if sum := s.Ledger(); sum.Untold != 1 || s.Unknowns()["k"] != 1 || s.Documents()[0].Told || sum.Statuses[0] != 1 || sum.Statuses[200] != 0 {
			t.Errorf("%+v", sum)
		}
	})
}

// TCP takes an answer that nobody reads any more, so a client known to have left must count as untold.
func TestClientThatLeftIsUntold(t *testing.T) {
	s := New(Config{})
	ctx, leave := context.WithCancel(t.Context())
	s.Script(func(Request) Fault { leave(); return Fault{} })
	req := httptest.NewRequestWithContext(ctx, "POST", InsertPath, strings.NewReader(document("k")))
	req.SetBasicAuth(DefaultUser, DefaultAPIKey)
	req.Header.Set("Content-Type", "application/json")
	s.ServeHTTP(httptest.NewRecorder(), req)
	if r := s.Requests()[0]; !r.Left || r.Told || s.Unknowns()["k"] != 1 {
		t.Errorf("%+v, unknowns %v", r, s.Unknowns())
	}
}

// A server that refuses a large body before it came is what a client sees as a broken write. (net/http would read the
// first 256 kB of it all the same.)
func TestTooLargeIsRefusedBeforeItIsRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New(Config{Variant: Variant{MaxBodyBytes: 1000}})
		defer s.Close()
		conn := dialRaw(t, s, "Content-Length: 1000000\r\n", "")
		defer conn.Close()
		start := make([]byte, 12)
		if _, err := io.ReadFull(conn, start); err != nil || string(start) != "HTTP/1.1 413" {
			t.Errorf("%s, %v", start, err)
		}
	})
}
