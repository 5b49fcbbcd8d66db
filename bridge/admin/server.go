// Package admin tells an orchestrator and an operator how the process is: /livez, /readyz, /metrics, and a page for a person at /.
//
// It promises that /livez judges our own progress only, so that an outage of Kafka or of the API never restarts a
// pod; that /readyz names every reason; and that nothing here changes anything: GET only, no record content, no
// credential. It knows nothing of the pipeline: the pipeline tells a Health, the server reads it, and Ask asks the server.
package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"
	"unicode"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"serbridge/bridge/secret"
)

// Config is what a Server serves. Only Health is needed for the probes; the zero value of the rest means a default.
type Config struct {
	Addr     string              // host:port to listen on; port 0 takes a free one; empty: ":9090"
	Health   *Health             // nil: always alive and ready
	Gatherer prometheus.Gatherer // nil: no /metrics
	Logger   *slog.Logger        // nil: slog.Default
	Redactor *secret.Redactor    // applied to every reason; nil redacts nothing
	Journal  *Journal            // of what failed, for the page; nil: nothing did
}

// Server is the admin port. Start and Shutdown are for one goroutine, its owner.
type Server struct {
	cfg    Config
	http   *http.Server
	listen net.Listener
	served sync.WaitGroup // the accept loop: ended by Shutdown, which waits for it

	history    history
	forget     context.CancelFunc // ends what fills the history
	remembered chan struct{}      // closed when that has ended
}

// The bounds on one client. A probe is small and a scrape takes well under a second, so a client that needs more is
// broken or hostile, and must not hold a connection for ever.
const (
	readTimeout   = 5 * time.Second
	scrapeTimeout = 10 * time.Second
	writeTimeout  = 15 * time.Second // longer than a scrape, or its 503 would be cut off
	idleTimeout   = 2 * time.Minute  // above the usual scrape intervals
	maxHeader     = 16 << 10         // bytes
	maxScrapes    = 4                // at a time; more get 503
)

// New makes a Server; it listens from Start on.
func New(cfg Config) *Server {
	if cfg.Addr == "" {
		cfg.Addr = ":9090"
	}
	if cfg.Health == nil {
		cfg.Health = new(Health)
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	if cfg.Journal == nil {
		cfg.Journal = new(Journal)
	}
	s := &Server{cfg: cfg}
	s.http = &http.Server{
		Handler:           s.Handler(),
		ReadHeaderTimeout: readTimeout,
		ReadTimeout:       readTimeout,
		WriteTimeout:      writeTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeader,
		ErrorLog:          slog.NewLogLogger(cfg.Logger.Handler(), slog.LevelError), // panics; a client's broken request is not logged
	}
	return s
}

// Start listens and serves until Shutdown. An error means that nothing was started: the address is wrong or taken.
func (s *Server) Start() error {
	listen, err := net.Listen("tcp", s.cfg.Addr)
	if err != nil {
		return fmt.Errorf("listen for admin requests (ADMIN_ADDR): %w", err)
	}
	s.listen = listen
	var life context.Context
	life, s.forget = context.WithCancel(context.Background())
	s.remembered = make(chan struct{})
	go func() { defer close(s.remembered); s.remember(life) }()
	s.served.Go(func() {
		if err := s.http.Serve(listen); !errors.Is(err, http.ErrServerClosed) {
			s.cfg.Logger.Error("admin server stopped", "addr", s.Addr(), "err", err)
		}
	})
	return nil
}

// Addr is the address it listens on, with the port that port 0 became; empty before Start.
func (s *Server) Addr() string {
	if s.listen == nil {
		return ""
	}
	return s.listen.Addr().String()
}

// Shutdown stops listening and waits for running requests until ctx ends, then cuts them off; it returns after the
// accept loop has ended. An error says that requests were cut off. It may be called twice, and before Start.
func (s *Server) Shutdown(ctx context.Context) error {
	if s.forget != nil {
		s.forget()
	}
	err := s.http.Shutdown(ctx)
	if err != nil {
		err = fmt.Errorf("shut down admin server: %w", errors.Join(err, s.http.Close()))
	}
	s.served.Wait()
	if s.remembered != nil {
		select {
		case <-s.remembered:
		case <-ctx.Done(): // it reads metrics that hang
		}
	}
	return err
}

// Handler is what the Server serves, for a caller with a listener of its own.
func (s *Server) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/livez", s.livez)
	mux.HandleFunc("/readyz", s.readyz)
	if s.cfg.Gatherer != nil {
		mux.Handle("/metrics", promhttp.HandlerFor(s.cfg.Gatherer, promhttp.HandlerOpts{
			ErrorLog:            slog.NewLogLogger(s.cfg.Logger.Handler(), slog.LevelError),
			MaxRequestsInFlight: maxScrapes,
			Timeout:             scrapeTimeout,
			EnableOpenMetrics:   true,
		}))
	}
	mux.HandleFunc("/{$}", s.page)
	return guard(mux)
}

// guard lets only GET through and forbids a browser everything: no page here runs, frames or loads anything.
func guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", "default-src 'none'")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Cache-Control", "no-store")
		if r.Method != http.MethodGet {
			h.Set("Allow", http.MethodGet)
			http.Error(w, "GET only", http.StatusMethodNotAllowed)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// livez answers 503 when a watched loop of ours stopped turning, and names it.
func (s *Server) livez(w http.ResponseWriter, _ *http.Request) {
	var lines []string
	for _, l := range s.cfg.Health.Stalled() {
		lines = append(lines, fmt.Sprintf("%s has not made progress for %s (allowed: %s)",
			l.Name, l.Age.Round(time.Millisecond), l.MaxAge))
	}
	s.answer(w, "alive", lines)
}

// readyz answers 503 with every reason, one a line, or as JSON to a client that asks for it.
func (s *Server) readyz(w http.ResponseWriter, r *http.Request) {
	reasons := s.cfg.Health.notReady()
	if strings.Contains(r.Header.Get("Accept"), "application/json") {
		s.readyJSON(w, reasons)
		return
	}
	var lines []string
	for _, r := range reasons {
		lines = append(lines, r.Text)
	}
	s.answer(w, "ready", lines)
}

// readiness is what /readyz says as JSON.
type readiness struct {
	Ready   bool     `json:"ready"`
	Reasons []Reason `json:"reasons,omitempty"`
}

func (s *Server) readyJSON(w http.ResponseWriter, reasons []Reason) {
	for i := range reasons {
		reasons[i].Text = s.cfg.Redactor.Redact(reasons[i].Text)
	}
	body, err := json.Marshal(readiness{len(reasons) == 0, reasons})
	if err != nil {
		http.Error(w, "encode reasons", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status(len(reasons)))
	_, _ = w.Write(append(body, '\n')) // the client is gone: nobody to tell
}

// answer writes 200 with ok, or 503 with one line for each problem.
func (s *Server) answer(w http.ResponseWriter, ok string, problems []string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(status(len(problems)))
	if len(problems) == 0 {
		fmt.Fprintln(w, ok)
		return
	}
	for _, p := range problems {
		fmt.Fprintln(w, oneLine(s.cfg.Redactor.Redact(p)))
	}
}

func status(problems int) int {
	if problems > 0 {
		return http.StatusServiceUnavailable
	}
	return http.StatusOK
}

// oneLine keeps "one reason a line" true for a reason that quotes somebody else's text.
func oneLine(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, s)
}
