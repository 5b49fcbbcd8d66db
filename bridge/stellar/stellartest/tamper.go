package stellartest

import (
	"fmt"
	"net/http"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// What follows changes the index behind the API's back, as people and retention do, for those who must find it out. The
// ledger's numbers stay those of what the API did.

// Remove takes a document out of the index. False if the index has none of this id.
func (s *Server) Remove(id string) bool {
	return s.tamper(id, func(l *ledger, d *Stored) { d.Removed = true })
}

// Alter lays the members of a JSON object over those of a stored document. An error if that is none, or if the index has
// no document of this id.
func (s *Server) Alter(id string, members []byte) error {
	var changed map[string]jsontext.Value
	if err := json.Unmarshal(members, &changed); err != nil {
		return fmt.Errorf("alter document: want a JSON object: %w", err)
	}
	var err error
	if !s.tamper(id, func(_ *ledger, d *Stored) { d.Body, err = overlay(d.Body, changed) }) {
		return fmt.Errorf("alter document: the index has no %q", id)
	}
	return err
}

// Repeat stores a copy of a document under an id of its own, which it returns. False if the index has none of this id.
func (s *Server) Repeat(id string) (copied string, ok bool) {
	ok = s.tamper(id, func(l *ledger, d *Stored) {
		c := *d
		c.N, c.ID = l.docs.next+1, l.newID()
		copied = c.ID
		n := l.docs.add(c)
		l.byID[c.ID] = n
		l.docBytes += len(c.Body)
		if c.DeliveryKey != "" {
			l.byKey[c.DeliveryKey] = append(l.byKey[c.DeliveryKey], n)
		}
	})
	return copied, ok
}

func (s *Server) tamper(id string, change func(*ledger, *Stored)) bool {
	s.ledger.mu.Lock()
	defer s.ledger.mu.Unlock()
	n, ok := s.ledger.byID[id]
	if !ok || s.ledger.docs.at(n).Removed {
		return false
	}
	change(s.ledger, s.ledger.docs.at(n))
	return true
}

func overlay(body []byte, changed map[string]jsontext.Value) ([]byte, error) {
	var members map[string]jsontext.Value
	if err := json.Unmarshal(body, &members); err != nil {
		return body, err
	}
	for name, value := range changed {
		members[name] = value
	}
	return json.Marshal(members, json.Deterministic(true))
}

// tampering are the endpoints for it; each names a document by ?id=.
func (s *Server) tampering(mux *http.ServeMux) {
	mux.HandleFunc("POST /simulator/remove", func(w http.ResponseWriter, r *http.Request) {
		done(w, r, s.Remove(r.URL.Query().Get("id")))
	})
	mux.HandleFunc("POST /simulator/repeat", func(w http.ResponseWriter, r *http.Request) {
		_, ok := s.Repeat(r.URL.Query().Get("id"))
		done(w, r, ok)
	})
	mux.HandleFunc("POST /simulator/alter", func(w http.ResponseWriter, r *http.Request) {
		accept(func(members jsontext.Value) error { return s.Alter(r.URL.Query().Get("id"), members) })(w, r)
	})
}

func done(w http.ResponseWriter, r *http.Request, ok bool) {
	if !ok {
		http.Error(w, fmt.Sprintf("the index has no document %q: name one with ?id=", r.URL.Query().Get("id")), http.StatusNotFound)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}
