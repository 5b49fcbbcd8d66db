package stellartest

import (
	"context"
	"encoding/base64"
	"encoding/binary"
	"maps"
	"math"
	"slices"
	"sync"
	"time"
)

// Kind is what a request was for.
type Kind string

const (
	KindToken  Kind = "token"
	KindInsert Kind = "insert"
	KindSearch Kind = "search"
	KindGet    Kind = "get"
	KindOther  Kind = "other" // no path of the API
)

// Request is one request as the ledger knows it; a script gets it before it is answered, with its body.
type Request struct {
	Seq         int       `json:"seq"` // among all requests, from 1
	N           int       `json:"n"`   // among those of its kind, from 1
	Kind        Kind      `json:"kind"`
	Method      string    `json:"method"`
	Path        string    `json:"path"`
	At          time.Time `json:"at"`
	Length      int64     `json:"length"`                // Content-Length; -1: not given
	Attempt     int       `json:"attempt,omitzero"`      // how often this delivery key has arrived, from 1
	DeliveryKey string    `json:"delivery_key,omitzero"` // the first member so called, wherever it stands
	DedupKey    string    `json:"dedup_key,omitzero"`    // likewise
	Body        []byte    `json:"-"`                     // of an insert, for scripts only, valid until the script returns
	Fault       string    `json:"fault,omitzero"`        // what was injected
	Status      int       `json:"status"`                // answered; 0: none yet, or none at all
	Cut         bool      `json:"cut,omitzero"`          // closed by us, without a complete answer
	Left        bool      `json:"left,omitzero"`         // the client left before it had the answer
	Stored      string    `json:"stored,omitzero"`       // _id of the document this request stored
	Told        bool      `json:"told,omitzero"`         // the client was told so, in the documented way

	epoch int // of the ledger: what ends after a reset is no longer counted
}

// Stored is one document in the index.
type Stored struct {
	N           int       `json:"n"` // from 1, in the order of storing
	Index       string    `json:"index"`
	ID          string    `json:"id"`
	DeliveryKey string    `json:"delivery_key,omitzero"`
	DedupKey    string    `json:"dedup_key,omitzero"`
	At          time.Time `json:"at"`
	Request     int       `json:"request"`          // Request.N of the insert
	Told        bool      `json:"told"`             // its client was told so, in the documented way
	Removed     bool      `json:"removed,omitzero"` // from the index, with Server.Remove
	Body        []byte    `json:"-"`                // as the platform stores it (_source); do not change it

	mergeKey string
}

// Ledger is the sum of what happened since the start or the last reset. All counts are exact, except that a delivery
// key is forgotten when KeyLimit newer ones have come.
type Ledger struct {
	Requests     map[Kind]int   `json:"requests"`
	Statuses     map[int]int    `json:"statuses"` // of inserts; 0: no complete answer
	Faults       map[string]int `json:"faults"`
	Documents    int            `json:"documents"`      // stored, copies included
	Distinct     int            `json:"distinct"`       // different delivery keys among them
	Unkeyed      int            `json:"unkeyed"`        // documents without a delivery key
	Repeats      int            `json:"repeats"`        // copies beyond the first of their delivery key
	Untold       int            `json:"untold"`         // stored, and the client was not told
	Unexplained  int            `json:"unexplained"`    // repeats beyond what untold copies of their key explain
	Merged       int            `json:"merged"`         // inserts answered with an earlier document (Variant.Merge)
	Forgotten    int            `json:"forgotten_keys"` // delivery keys no longer counted
	InFlight     int            `json:"in_flight"`      // API requests without token calls
	InFlightPeak int            `json:"in_flight_peak"`
	MaxPerSecond int            `json:"max_per_second"` // MaxInWindow of one second
}

// tally is what is known of one delivery key.
type tally struct{ stored, untold, unknown, attempts int }

func (t tally) unexplained() int { return max(0, t.stored-1-t.untold) }

// attemptLimit is how many times of attempts are kept for MaxInWindow.
const attemptLimit = 1 << 20

// ledger is the memory of a Server. Its lock is held for map and slice operations only, never across I/O or a script.
type ledger struct {
	mu       sync.Mutex
	cfg      Config
	sum      Ledger
	keys     map[string]tally
	keyOrder recent[string]
	requests recent[Request]
	docs     recent[Stored]
	docBytes int
	byID     map[string]int   // number of a kept document
	byKey    map[string][]int // numbers of the kept documents of a delivery key
	first    map[string]int   // with Variant.Merge: number of the first document of a key or body
	times    recent[int64]    // of API attempts, nanoseconds
	epoch    int
	mapping  mapping
	changed  chan struct{} // closed at the next change, if somebody waits
	ids      uint64        // never reset: an _id is not given twice
}

func newLedger(cfg Config) *ledger {
	l := &ledger{cfg: cfg}
	l.reset()
	return l
}

func (l *ledger) reset() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.epoch++
	inFlight := l.sum.InFlight
	l.sum = Ledger{Requests: map[Kind]int{}, Statuses: map[int]int{}, Faults: map[string]int{}, InFlight: inFlight, InFlightPeak: inFlight}
	l.keys, l.keyOrder = map[string]tally{}, recent[string]{}
	l.requests, l.docs, l.docBytes = recent[Request]{next: l.requests.next, first: l.requests.next}, recent[Stored]{}, 0
	l.byID, l.byKey, l.first = map[string]int{}, map[string][]int{}, map[string]int{}
	l.times, l.mapping = recent[int64]{}, mapping{}
	l.wake()
}

// arrive enters a request. The time is read under the lock, so that times are in the order of Seq.
func (l *ledger) arrive(r *Request) {
	l.mu.Lock()
	defer l.mu.Unlock()
	r.At = l.cfg.Now()
	l.sum.Requests[r.Kind]++
	r.N = l.sum.Requests[r.Kind]
	if r.Kind != KindToken {
		l.times.add(r.At.UnixNano())
		for l.times.len() > attemptLimit {
			l.times.drop()
		}
		l.sum.InFlight++
		l.sum.InFlightPeak = max(l.sum.InFlightPeak, l.sum.InFlight)
	}
	r.Seq, r.epoch = l.requests.next+1, l.epoch
	l.requests.add(*r)
	for l.requests.len() > l.cfg.StoreLimit {
		l.requests.drop()
	}
}

// identify counts an attempt of the document, once its body was read.
func (l *ledger) identify(r *Request) {
	if r.DeliveryKey == "" {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.update(r.DeliveryKey, func(t *tally) {
		t.attempts++
		r.Attempt = t.attempts
	})
}

// update changes a key's tally and the sums that follow from it, and forgets the oldest key above the limit.
func (l *ledger) update(key string, change func(*tally)) {
	t, ok := l.keys[key]
	if !ok {
		l.keyOrder.add(key)
	}
	before := t.unexplained()
	change(&t)
	l.keys[key] = t
	l.sum.Unexplained += t.unexplained() - before
	for l.keyOrder.len() > l.cfg.KeyLimit {
		delete(l.keys, l.keyOrder.drop())
		l.sum.Forgotten++
	}
}

// blame takes one of the most unknown outcomes that a document may suffer; false when they are used up. Asking and
// taking are one step, or two copies of a document in flight at once could both take the last.
func (l *ledger) blame(key string, most int) bool {
	if key == "" {
		return true
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	allowed := false
	l.update(key, func(t *tally) {
		if allowed = most == 0 || t.unknown < most; allowed {
			t.unknown++
		}
	})
	return allowed
}

// store puts a document into the index and returns its names. Until settle says otherwise its client was not told.
func (l *ledger) store(r *Request, source []byte, v *Variant, mergeKey string) (index, id string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.cfg.Now()
	if mergeKey != "" {
		if d := l.docs.at(l.firstOf(mergeKey)); d != nil {
			l.sum.Merged++
			return d.Index, d.ID
		}
		l.first[mergeKey] = l.docs.next
	}
	r.epoch = l.epoch
	d := Stored{N: l.docs.next + 1, Index: v.alias(now), ID: l.newID(), DeliveryKey: r.DeliveryKey, DedupKey: r.DedupKey,
		At: now, Request: r.N, Body: source, mergeKey: mergeKey}
	r.Stored = d.ID
	n := l.docs.add(d)
	l.byID[d.ID] = n
	l.docBytes += len(source)
	l.sum.Documents++
	l.sum.Untold++
	if d.DeliveryKey == "" {
		l.sum.Unkeyed++
	} else {
		l.byKey[d.DeliveryKey] = append(l.byKey[d.DeliveryKey], n)
		l.update(d.DeliveryKey, func(t *tally) {
			t.stored++
			t.untold++
			if t.stored == 1 {
				l.sum.Distinct++
			} else {
				l.sum.Repeats++
			}
		})
	}
	for l.docs.len() > l.cfg.StoreLimit || l.docBytes > l.cfg.StoreBytes && l.docs.len() > 1 {
		l.forgetOldest()
	}
	return d.Index, d.ID
}

func (l *ledger) firstOf(mergeKey string) int {
	if n, ok := l.first[mergeKey]; ok {
		return n
	}
	return -1
}

func (l *ledger) forgetOldest() {
	n := l.docs.first
	d := l.docs.drop()
	l.docBytes -= len(d.Body)
	delete(l.byID, d.ID)
	if rest := l.byKey[d.DeliveryKey]; len(rest) > 1 {
		l.byKey[d.DeliveryKey] = rest[1:]
	} else {
		delete(l.byKey, d.DeliveryKey)
	}
	if l.first[d.mergeKey] == n {
		delete(l.first, d.mergeKey)
	}
}

// newID makes an _id as Elasticsearch does: 15 bytes in 20 characters. The same seed gives the same ids.
func (l *ledger) newID() string {
	l.ids++
	var b [15]byte
	binary.BigEndian.PutUint64(b[:], mix("_id", l.cfg.Seed^l.ids*0x9e3779b97f4a7c15))
	b[8] = byte(l.ids >> 48)
	binary.BigEndian.PutUint16(b[9:], uint16(l.ids>>32))
	binary.BigEndian.PutUint32(b[11:], uint32(l.ids))
	return base64.RawURLEncoding.EncodeToString(b[:])
}

// settle enters how a request ended.
func (l *ledger) settle(r *Request) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if r.Kind != KindToken {
		l.sum.InFlight--
	}
	defer l.wake()
	if r.epoch != l.epoch {
		return
	}
	l.keep(r)
	if r.Fault != "" {
		l.sum.Faults[r.Fault]++
	}
	if r.Kind == KindInsert {
		l.sum.Statuses[r.complete()]++
	}
	if r.Stored != "" && r.Told {
		l.tell(r, -1)
	}
}

// complete is the status of a complete answer, else 0.
func (r *Request) complete() int {
	if r.Cut {
		return 0
	}
	return r.Status
}

// tell enters that the client of a stored document knows it (untold: -1), or that it does not after all (+1).
func (l *ledger) tell(r *Request, untold int) {
	l.sum.Untold += untold
	if r.DeliveryKey != "" {
		l.update(r.DeliveryKey, func(t *tally) { t.untold += untold })
	}
	if n, ok := l.byID[r.Stored]; ok {
		l.docs.at(n).Told = untold < 0
	}
}

// retract corrects a settled request whose answer could not leave.
func (l *ledger) retract(r *Request) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if r.epoch != l.epoch {
		return
	}
	if r.Kind == KindInsert {
		l.sum.Statuses[r.Status]--
		l.sum.Statuses[0]++
	}
	if r.Told {
		l.tell(r, +1)
	}
	r.Status, r.Told, r.Left = 0, false, true
	l.keep(r)
}

// keep replaces the kept request. Its body is the exchange's and must not outlive it.
func (l *ledger) keep(r *Request) {
	if kept := l.requests.at(r.Seq - 1); kept != nil {
		*kept = *r
		kept.Body = nil
	}
}

// wake ends the waits of all who watch. The caller holds the lock.
func (l *ledger) wake() {
	if l.changed != nil {
		close(l.changed)
		l.changed = nil
	}
}

// snapshot copies the sums. The caller holds the lock.
func (l *ledger) snapshot() Ledger {
	sum := l.sum
	sum.Requests, sum.Statuses, sum.Faults = maps.Clone(sum.Requests), maps.Clone(sum.Statuses), maps.Clone(sum.Faults)
	return sum
}

func (l *ledger) maxInWindow(d time.Duration) int {
	times := l.times.all()
	most, from := 0, 0
	for to := range times {
		for times[to]-times[from] >= int64(d) {
			from++
		}
		most = max(most, to-from+1)
	}
	return most
}

// Ledger is what happened so far, in numbers.
func (s *Server) Ledger() Ledger {
	s.ledger.mu.Lock()
	defer s.ledger.mu.Unlock()
	sum := s.ledger.snapshot()
	sum.MaxPerSecond = s.ledger.maxInWindow(time.Second)
	return sum
}

// Requests are the kept requests in the order of their arrival; those not answered yet have no status.
func (s *Server) Requests() []Request { return s.requestsAfter(0) }

// requestsAfter leaves out those with a Seq up to the given one.
func (s *Server) requestsAfter(seq int) []Request {
	s.ledger.mu.Lock()
	defer s.ledger.mu.Unlock()
	return slices.Clone(s.ledger.requests.from(seq))
}

// Documents are the kept documents in the order of storing.
func (s *Server) Documents() []Stored { return s.documentsAfter(0) }

func (s *Server) documentsAfter(n int) []Stored {
	s.ledger.mu.Lock()
	defer s.ledger.mu.Unlock()
	return slices.Clone(s.ledger.docs.from(n))
}

// DocumentsOf are the kept copies of one delivery key.
func (s *Server) DocumentsOf(deliveryKey string) []Stored {
	s.ledger.mu.Lock()
	defer s.ledger.mu.Unlock()
	var docs []Stored
	for _, n := range s.ledger.byKey[deliveryKey] {
		docs = append(docs, *s.ledger.docs.at(n))
	}
	return docs
}

// Copies says how often each delivery key was stored, at least once.
func (s *Server) Copies() map[string]int {
	return s.keysWith(math.MaxInt, func(t tally) int { return t.stored })
}

// Unknowns says for each delivery key how many copies were stored without its client being told in the documented
// way: by a fault, by the variant, or because the client left. Each is a reason for one repeat.
func (s *Server) Unknowns() map[string]int {
	return s.keysWith(math.MaxInt, func(t tally) int { return t.untold })
}

// Unexplained says for each delivery key how many repeats no untold copy explains.
func (s *Server) Unexplained() map[string]int { return s.keysWith(math.MaxInt, tally.unexplained) }

func (s *Server) keysWith(most int, count func(tally) int) map[string]int {
	s.ledger.mu.Lock()
	defer s.ledger.mu.Unlock()
	m := make(map[string]int)
	for key, t := range s.ledger.keys {
		if n := count(t); n > 0 && len(m) < most {
			m[key] = n
		}
	}
	return m
}

// MaxInWindow is the highest number of API requests, token calls left out, that arrived within any window shorter than
// d: a limit of 100 a second holds when MaxInWindow(time.Second) is at most 100 and the burst. The last million count.
func (s *Server) MaxInWindow(d time.Duration) int {
	s.ledger.mu.Lock()
	defer s.ledger.mu.Unlock()
	return s.ledger.maxInWindow(d)
}

// InFlight is how many API requests, token calls left out, are unanswered now, and the most that ever were at once. A
// request whose client has just left may be counted for a moment more.
func (s *Server) InFlight() (now, peak int) {
	s.ledger.mu.Lock()
	defer s.ledger.mu.Unlock()
	return s.ledger.sum.InFlight, s.ledger.sum.InFlightPeak
}

// Wait returns when the ledger satisfies cond, or with the context's error. It looks after every request that ended;
// MaxPerSecond is not filled in.
func (s *Server) Wait(ctx context.Context, cond func(Ledger) bool) error {
	for {
		s.ledger.mu.Lock()
		if cond(s.ledger.snapshot()) {
			s.ledger.mu.Unlock()
			return nil
		}
		if s.ledger.changed == nil {
			s.ledger.changed = make(chan struct{})
		}
		changed := s.ledger.changed
		s.ledger.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Reset empties the ledger and the index. Tokens, faults, script and variant stay.
func (s *Server) Reset() { s.ledger.reset() }
