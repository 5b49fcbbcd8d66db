package stellartest

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Server is the simulated platform, an [http.Handler]. All methods are safe for concurrent use.
type Server struct {
	cfg     Config
	ledger  *ledger
	tokens  tokens
	variant atomic.Pointer[activeVariant]
	dice    atomic.Pointer[dice]
	scripts scripts
	control http.Handler

	closeOnce sync.Once
	closing   chan struct{} // ends hanging and delayed answers
	mu        sync.Mutex    // guards running
	running   map[*Running]struct{}
}

// New makes a platform. It panics when the Faults are not valid; ask [Faults.Validate] first where they are a user's.
func New(cfg Config) *Server {
	cfg = cfg.withDefaults()
	s := &Server{cfg: cfg, ledger: newLedger(cfg), closing: make(chan struct{}), running: make(map[*Running]struct{})}
	s.tokens.init(cfg)
	s.SetVariant(cfg.Variant)
	if err := s.SetFaults(cfg.Faults); err != nil {
		panic(err)
	}
	s.control = s.controls()
	return s
}

// SetVariant replaces the variant for requests that arrive from now on.
func (s *Server) SetVariant(v Variant) { s.variant.Store(newActiveVariant(v)) }

// SetFaults replaces the faults by rate for requests that arrive from now on.
func (s *Server) SetFaults(f Faults) error {
	if err := f.Validate(); err != nil {
		return fmt.Errorf("set faults: %w", err)
	}
	s.dice.Store(newDice(f, s.cfg.Seed))
	return nil
}

// ServeHTTP answers one request.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if strings.HasPrefix(r.URL.Path, "/simulator/") {
		s.control.ServeHTTP(w, r)
		return
	}
	v := s.variant.Load()
	x := &exchange{s: s, v: v, w: w, r: r, req: Request{Kind: v.kind(r.URL.Path), Method: r.Method, Path: r.URL.Path, Length: r.ContentLength}}
	s.ledger.arrive(&x.req)
	defer x.end()
	switch x.req.Kind {
	case KindToken:
		x.play(s.decide(&s.scripts.tokens, x, s.dice.Load().tokens), func() answer { return s.issueToken(r, v) })
	case KindInsert:
		s.insert(x)
	case KindSearch, KindGet:
		x.play(s.decide(&s.scripts.reads, x, nil), func() answer { return s.read(x) })
	default:
		x.play(Fault{}, func() answer { return elsewhere(r.URL.Path) })
	}
}

// kind finds out what a path is for.
func (v *activeVariant) kind(path string) Kind {
	switch {
	case path == v.insertPath:
		return KindInsert
	case path == TokenPath:
		return KindToken
	case !strings.HasPrefix(path, DataPath):
		return KindOther
	case strings.HasSuffix(path, "/_search"):
		return KindSearch
	}
	return KindGet
}

// elsewhere is what the web server has beside the API: the page that LoginRedirect leads to.
func elsewhere(path string) answer {
	if path == "/login" {
		return LoginPage().answer()
	}
	return NotFound().answer()
}

// answer is a complete HTTP answer. The zero value is none.
type answer struct {
	status      int
	contentType string
	body        string
	header      map[string]string
	success     bool // says in the documented way that the document is stored
}

func text(status int, body string) answer {
	return answer{status: status, contentType: textType, body: body}
}

func jsonAnswer(status int, body string) answer {
	return answer{status: status, contentType: jsonType, body: body}
}

// answer of a fault with a status.
func (f Fault) answer() answer {
	a := answer{status: f.Status, contentType: f.ContentType, body: f.Body, header: f.Header}
	if a.contentType == "" && a.body != "" {
		a.contentType = textType
	}
	return a
}

// exchange is one request and its answer.
type exchange struct {
	s   *Server
	v   *activeVariant
	w   http.ResponseWriter
	r   *http.Request
	req Request // becomes the ledger's when the exchange ends

	ended bool
}

// end enters the outcome into the ledger, once. It comes before the last byte of the answer leaves: a client that has
// its answer finds it in the ledger, and is not counted in flight when it sends the next request.
func (x *exchange) end() {
	if !x.ended {
		x.ended = true
		x.s.ledger.settle(&x.req)
	}
}

// play answers a request as the fault wants it. handle is the platform: what it stores and would answer.
func (x *exchange) play(f Fault, handle func() answer) {
	x.req.Fault = f.Name
	if !x.pause(f.Delay) || f.unstored() {
		x.cut()
		return
	}
	if f.RevokeToken {
		x.s.tokens.revoke(bearer(x.r))
	}
	var a answer
	if f.processes() {
		a = handle()
	}
	if f.Status != 0 {
		a = f.answer()
	}
	switch {
	case !x.pause(f.AnswerDelay), f.Cut == CutStored:
		x.cut()
	case f.Hang:
		x.hang()
	case f.Cut == CutMidBody:
		x.cutBody(a)
	case a.status == 0: // the variant wants no answer
		x.cut()
	default:
		x.write(a)
	}
}

// pause waits, though the client may leave: a platform does not notice. False when the server closes.
func (x *exchange) pause(d time.Duration) bool {
	if d <= 0 {
		return true
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-x.s.closing:
	case <-stopped(x.r):
	}
	return false
}

// hang waits until the client leaves or the server closes.
func (x *exchange) hang() {
	select {
	case <-x.r.Context().Done():
		x.req.Left = true
	case <-x.s.closing:
	case <-stopped(x.r):
	}
	x.cut()
}

// cut closes the connection. Hijacking comes first, since net/http would read the rest of a small body before closing.
func (x *exchange) cut() {
	x.req.Cut = true
	x.end()
	conn, _, err := http.NewResponseController(x.w).Hijack()
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	conn.Close()
}

// cutBody writes the headers and half of the body, then closes. A body of fewer than two bytes is announced longer.
func (x *exchange) cutBody(a answer) {
	x.req.Status, x.req.Cut = a.status, true
	x.end()
	x.headers(a, max(len(a.body), 2))
	io.WriteString(x.w, a.body[:len(a.body)/2]) // whoever reads it is cut anyway
	http.NewResponseController(x.w).Flush()
	x.cut()
}

func (x *exchange) headers(a answer, length int) {
	h := x.w.Header()
	for name, value := range a.header {
		h.Set(name, value)
	}
	h["Content-Type"] = nil // no guess by net/http
	if a.contentType != "" {
		h["Content-Type"] = []string{a.contentType}
	}
	h["Content-Length"] = []string{strconv.Itoa(length)}
	x.w.WriteHeader(a.status)
}

// write sends a complete answer. It is flushed here, not after the handler, so that we learn when it cannot leave.
func (x *exchange) write(a answer) {
	if x.r.Context().Err() != nil {
		x.req.Left = true
		return
	}
	x.req.Status = a.status
	x.req.Told = a.success && x.req.Stored != ""
	x.end()
	x.headers(a, len(a.body))
	_, err := io.WriteString(x.w, a.body)
	if err == nil {
		err = http.NewResponseController(x.w).Flush()
	}
	if err != nil && !errors.Is(err, http.ErrNotSupported) {
		x.s.ledger.retract(&x.req)
	}
}
