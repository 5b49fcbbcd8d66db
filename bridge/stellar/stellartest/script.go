package stellartest

import "sync"

// scripts are the functions that decide about requests before the rates do.
type scripts struct{ arrivals, inserts, tokens, reads script }

// script is consulted for one request at a time, in an order that is that of arrival unless requests overlap.
type script struct {
	mu sync.Mutex
	f  func(Request) Fault
}

func (s *script) set(f func(Request) Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.f = f
}

func (s *script) ask(r Request) Fault {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.f == nil {
		return Fault{}
	}
	return s.f(r)
}

// Script sets what decides about each insert once its body was read; nil ends it. f is called for one request at a
// time and need not lock; it may ask the ledger but not set a script. Where it returns the zero Fault, the rates decide.
func (s *Server) Script(f func(Request) Fault) { s.scripts.inserts.set(f) }

// ScriptArrivals sets what decides about each insert before its body is read: keys and body are not known yet, Length
// is. Its answer outranks Script and rates.
func (s *Server) ScriptArrivals(f func(Request) Fault) { s.scripts.arrivals.set(f) }

// ScriptTokens sets what decides about each token call.
func (s *Server) ScriptTokens(f func(Request) Fault) { s.scripts.tokens.set(f) }

// ScriptReads sets what decides about each _search and GET of a document.
func (s *Server) ScriptReads(f func(Request) Fault) { s.scripts.reads.set(f) }

// decide asks the script, then draws from the rates.
func (s *Server) decide(sc *script, x *exchange, cs []chance) Fault {
	if f := sc.ask(x.req); !f.isZero() {
		return f
	}
	d := s.dice.Load()
	if d.idle() {
		return Fault{}
	}
	key, attempt := x.req.DeliveryKey, x.req.Attempt
	if key == "" {
		key, attempt = string(x.req.Kind), x.req.N
	}
	f := d.draw(cs, key, attempt, x.req.At)
	if f.unknown() && !s.ledger.blame(x.req.DeliveryKey, d.MaxUnknownPerDocument) {
		return Fault{Delay: f.Delay, AnswerDelay: f.AnswerDelay}
	}
	return f
}

// decideArrival is decide for inserts whose body was not read.
func (s *Server) decideArrival(x *exchange) Fault {
	if f := s.scripts.arrivals.ask(x.req); !f.isZero() {
		return f
	}
	d := s.dice.Load()
	if len(d.arrivals) == 0 {
		return Fault{}
	}
	f := d.draw(d.arrivals, "arrival", x.req.N, x.req.At)
	if f.Name == "" {
		return Fault{} // its latency is drawn with the document
	}
	return f
}
