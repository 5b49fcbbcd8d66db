package admin

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"serbridge/bridge/secret"
)

func get(s *Server, path string) *httptest.ResponseRecorder {
	return request(s, httptest.NewRequest(http.MethodGet, path, nil))
}

func request(s *Server, r *http.Request) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	s.Handler().ServeHTTP(w, r)
	return w
}

// TestOutageRestartsNoPod: what is wrong with others makes us not ready, never dead.
func TestOutageRestartsNoPod(t *testing.T) {
	var h Health
	h.NotReady("kafka", "no broker answers")
	s := New(Config{Health: &h})
	if got := get(s, "/livez"); got.Code != http.StatusOK || got.Body.String() != "alive\n" {
		t.Errorf("/livez: got %d %q", got.Code, got.Body)
	}
	if got := get(s, "/readyz"); got.Code != http.StatusServiceUnavailable {
		t.Errorf("/readyz: got %d", got.Code)
	}
}

func TestReadyzNamesEveryReason(t *testing.T) {
	var h Health
	s := New(Config{Health: &h})
	if got := get(s, "/readyz"); got.Code != http.StatusOK || got.Body.String() != "ready\n" {
		t.Errorf("got %d %q", got.Code, got.Body)
	}
	h.NotReady("b", "topic edr.alerts is paused\r\nby the reject brake")
	h.NotReady("a", "gate is closed: http_401")
	got := get(s, "/readyz")
	if want := "gate is closed: http_401\ntopic edr.alerts is paused  by the reject brake\n"; got.Code != http.StatusServiceUnavailable || got.Body.String() != want {
		t.Errorf("got %d %q, want 503 %q", got.Code, got.Body, want)
	}
}

func TestReadyzAsJSON(t *testing.T) {
	var h Health
	h.NotReady("gate", "closed: http_401")
	r := httptest.NewRequest(http.MethodGet, "/readyz", nil)
	r.Header.Set("Accept", "application/json")
	got := request(New(Config{Health: &h}), r)
	var body struct {
		Ready   *bool
		Reasons []Reason
	}
	if err := json.Unmarshal(got.Body.Bytes(), &body); err != nil || got.Code != http.StatusServiceUnavailable {
		t.Fatalf("got %d %q, %v", got.Code, got.Body, err)
	}
	if *body.Ready || len(body.Reasons) != 1 || body.Reasons[0].Key != "gate" || body.Reasons[0].Text != "closed: http_401" || body.Reasons[0].Since.IsZero() {
		t.Errorf("got %s", got.Body)
	}
	h.Ready("gate")
	if got := request(New(Config{Health: &h}), r); got.Code != http.StatusOK || got.Body.String() != "{\"ready\":true}\n" {
		t.Errorf("got %d %q", got.Code, got.Body)
	}
}

// TestStalledLoopRestartsThePod: 503 from the moment on at which the loop is too old, with its name; 200 when it turns.
func TestStalledLoopRestartsThePod(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var h Health
		s := New(Config{Health: &h})
		h.Watch("poll", 30*time.Second)
		time.Sleep(30 * time.Second)
		if got := get(s, "/livez"); got.Code != http.StatusOK {
			t.Errorf("at the limit: got %d %q", got.Code, got.Body)
		}
		time.Sleep(time.Millisecond)
		got := get(s, "/livez")
		if want := "poll has not made progress for 30.001s (allowed: 30s)\n"; got.Code != http.StatusServiceUnavailable || got.Body.String() != want {
			t.Errorf("got %d %q, want 503 %q", got.Code, got.Body, want)
		}
		if got := get(s, "/readyz"); got.Code != http.StatusOK {
			t.Errorf("/readyz judges heartbeats: %d", got.Code)
		}
		h.Beat("poll")
		if got := get(s, "/livez"); got.Code != http.StatusOK {
			t.Errorf("it turns again: got %d %q", got.Code, got.Body)
		}
	})
}

func TestReasonShowsNoSecret(t *testing.T) {
	const token = "t0ken-0123456789"
	red := new(secret.Redactor)
	red.Add(token)
	var h Health
	h.NotReady("gate", "closed: refused "+token)
	s := New(Config{Health: &h, Redactor: red})
	for _, accept := range []string{"", "application/json"} {
		r := httptest.NewRequest(http.MethodGet, "/readyz", nil)
		r.Header.Set("Accept", accept)
		if got := request(s, r).Body.String(); strings.Contains(got, token) || !strings.Contains(got, "closed: refused") {
			t.Errorf("Accept %q: got %q", accept, got)
		}
	}
}

func TestMetricsAreTheRegistrys(t *testing.T) {
	registry := prometheus.NewRegistry()
	counter := prometheus.NewCounter(prometheus.CounterOpts{Name: "serbridge_test_total", Help: "Counts."})
	registry.MustRegister(counter)
	counter.Add(3)
	got := get(New(Config{Gatherer: registry}), "/metrics")
	if got.Code != http.StatusOK || !strings.Contains(got.Body.String(), "serbridge_test_total 3") {
		t.Errorf("got %d %q", got.Code, got.Body)
	}
	if got := get(New(Config{}), "/metrics"); got.Code != http.StatusNotFound {
		t.Errorf("without a registry: got %d", got.Code)
	}
}

// TestNothingCanBeChanged: every path and method that is not a GET of ours.
func TestNothingCanBeChanged(t *testing.T) {
	s := New(Config{Gatherer: prometheus.NewRegistry()})
	for _, path := range []string{"/", "/livez", "/readyz", "/metrics", "/elsewhere", "//livez", "/livez/"} {
		for _, method := range []string{http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodDelete, http.MethodOptions, http.MethodPatch, "BREW"} {
			got := request(s, httptest.NewRequest(method, path, nil))
			policy := "default-src 'none'"
			if path == "/" && method == http.MethodGet {
				policy = pagePolicy
			}
			for name, want := range map[string]string{"Content-Security-Policy": policy, "X-Content-Type-Options": "nosniff", "Cache-Control": "no-store"} {
				if v := got.Header().Get(name); v != want {
					t.Errorf("%s %s: %s is %q, want %q", method, path, name, v, want)
				}
			}
			if method != http.MethodGet && (got.Code != http.StatusMethodNotAllowed || got.Header().Get("Allow") != http.MethodGet) {
				t.Errorf("%s %s: got %d, Allow %q", method, path, got.Code, got.Header().Get("Allow"))
			}
			if method == http.MethodGet && path == "/elsewhere" && got.Code != http.StatusNotFound {
				t.Errorf("%s %s: got %d", method, path, got.Code)
			}
		}
	}
	if got := get(s, "/"); got.Code != http.StatusOK || !strings.Contains(got.Body.String(), "/readyz") {
		t.Errorf("/: got %d %q", got.Code, got.Body)
	}
}

func TestServerServesAFreePort(t *testing.T) {
	s := New(Config{Addr: "127.0.0.1:0"})
	if s.Addr() != "" {
		t.Errorf("address before the start: %q", s.Addr())
	}
	if err := s.Start(); err != nil {
		t.Fatal(err)
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	answer, err := client.Get("http://" + s.Addr() + "/livez")
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(answer.Body)
	answer.Body.Close()
	if answer.StatusCode != http.StatusOK || string(body) != "alive\n" || err != nil {
		t.Errorf("got %d %q, %v", answer.StatusCode, body, err)
	}
	for range 2 { // twice does no harm
		if err := s.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
	}
	if conn, err := net.Dial("tcp", s.Addr()); err == nil {
		conn.Close()
		t.Error("it listens after Shutdown")
	}
}

func TestTakenPortIsAnError(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	s := New(Config{Addr: taken.Addr().String()})
	if err := s.Start(); err == nil || !strings.Contains(err.Error(), "ADMIN_ADDR") {
		t.Errorf("got %v", err)
	}
	if err := s.Shutdown(t.Context()); err != nil {
		t.Errorf("shut down what never started: %v", err)
	}
}

// slowGatherer answers a scrape when it is told to.
type slowGatherer struct{ asked, release chan struct{} }

func (g slowGatherer) Gather() ([]*dto.MetricFamily, error) {
	close(g.asked)
	<-g.release
	return nil, nil
}

// TestShutdownOutlivesNoDeadline: a scrape that hangs is cut off when the context ends, and says so.
func TestShutdownOutlivesNoDeadline(t *testing.T) {
	g := slowGatherer{make(chan struct{}), make(chan struct{})}
	defer close(g.release)
	s := New(Config{Addr: "127.0.0.1:0", Gatherer: g, Logger: slog.New(slog.DiscardHandler)})
	if err := s.Start(); err != nil {
		t.Fatal(err)
	}
	scraped := make(chan error, 1)
	go func() {
		answer, err := http.Get("http://" + s.Addr() + "/metrics")
		if err == nil {
			answer.Body.Close()
		}
		scraped <- err
	}()
	<-g.asked
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Shutdown(ctx); err == nil || !strings.Contains(err.Error(), "shut down admin server") {
		t.Errorf("got %v", err)
	}
	if err := <-scraped; err == nil {
		t.Error("the scrape was answered")
	}
}

// ExampleHealth shows a process that lost its brokers.
func ExampleHealth() {
	var h Health
	s := New(Config{Health: &h})
	h.Watch("poll", time.Minute)
	h.NotReady("kafka", "kafka: no broker of broker-0:9092 answers")
	for _, path := range []string{"/livez", "/readyz"} {
		w := get(s, path)
		fmt.Fprint(os.Stdout, path, " ", w.Code, " ", w.Body)
	}
	// Output:
	// /livez 200 alive
	// /readyz 503 kafka: no broker of broker-0:9092 answers
}
