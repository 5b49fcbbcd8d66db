package stellartest

import (
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

const usage = `The Stellar Cyber API simulator of serbridge. Durations are strings such as "250ms".

GET  /simulator/ledger             counts, and the delivery keys stored more than once, as JSON
GET  /simulator/documents?after=N  stored documents after number N, one JSON object per line
GET  /simulator/requests?after=N   requests after number N, one JSON object per line
GET  /simulator/faults             the names that rates and scripts understand
POST /simulator/faults             faults by rate; {} ends them
     {"rates":{"bad_gateway":0.01},"latency":{"median":"20ms","p99":"200ms"},"retry_after":"1s",
      "token_rates":{"unavailable":0.1},"max_unknown_per_document":2,"seed":7}
POST /simulator/script             the next inserts in order; [] ends it; times -1: until replaced
     [{"fault":"rate_limited","retry_after":"2s","times":3},{"times":10},{"status":418,"body":"teapot","store":true}]
     ?for=arrivals, tokens or reads: those instead of inserts
POST /simulator/variant            how this installation differs from the vendor's page; {} is the page
     {"success":"ok","errors":"json","lenient_status":true,"refresh_delay":"5s"}
POST /simulator/revoke-tokens      every token issued so far answers 401
POST /simulator/reset              empties the ledger and the index
POST /simulator/remove?id=ID       takes a document out of the index
POST /simulator/alter?id=ID        lays the members of the object that is sent over those of a document
POST /simulator/repeat?id=ID       stores a copy of a document
`

// durations are written as "1m30s" and read back.
var durations = json.JoinOptions(
	json.WithMarshalers(json.MarshalFunc(func(d time.Duration) ([]byte, error) { return json.Marshal(d.String()) })),
	json.WithUnmarshalers(json.UnmarshalFunc(func(b []byte, d *time.Duration) error {
		var text string
		if err := json.Unmarshal(b, &text); err != nil {
			return fmt.Errorf(`read a duration such as "250ms": %w`, err)
		}
		parsed, err := time.ParseDuration(text)
		*d = parsed
		return err
	})),
	json.RejectUnknownMembers(true),
)

// controls are the endpoints under /simulator/.
func (s *Server) controls() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /simulator/{$}", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", textType)
		io.WriteString(w, usage)
	})
	mux.HandleFunc("GET /simulator/ledger", s.serveLedger)
	mux.HandleFunc("GET /simulator/documents", func(w http.ResponseWriter, r *http.Request) {
		type line struct {
			Stored
			Source jsontext.Value `json:"source"`
		}
		serveLines(w, r, s.documentsAfter, func(d Stored) any { return line{d, d.Body} })
	})
	mux.HandleFunc("GET /simulator/requests", func(w http.ResponseWriter, r *http.Request) {
		serveLines(w, r, s.requestsAfter, func(r Request) any { return r })
	})
	mux.HandleFunc("GET /simulator/faults", func(w http.ResponseWriter, _ *http.Request) { serveJSON(w, FaultNames()) })
	mux.HandleFunc("POST /simulator/faults", accept(s.SetFaults))
	mux.HandleFunc("POST /simulator/variant", accept(func(v Variant) error { s.SetVariant(v); return nil }))
	mux.HandleFunc("POST /simulator/script", s.acceptScript)
	mux.HandleFunc("POST /simulator/revoke-tokens", does(s.RevokeTokens))
	mux.HandleFunc("POST /simulator/reset", does(s.Reset))
	s.tampering(mux)
	return mux
}

func does(action func()) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		action()
		w.WriteHeader(http.StatusNoContent)
	}
}

// accept reads a T from the request's body and applies it.
func accept[T any](apply func(T) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		var v T
		err := json.UnmarshalRead(http.MaxBytesReader(w, r.Body, 1<<20), &v, durations)
		if err == nil {
			err = apply(v)
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		w.WriteHeader(http.StatusNoContent)
	}
}

// mostKeys bounds the delivery keys that the ledger's answer names.
const mostKeys = 1000

func (s *Server) serveLedger(w http.ResponseWriter, _ *http.Request) {
	serveJSON(w, struct {
		Ledger
		Copies          map[string]int `json:"copies"`           // delivery keys stored more than once, a thousand at most
		UnexplainedKeys map[string]int `json:"unexplained_keys"` // likewise
	}{
		Ledger:          s.Ledger(),
		Copies:          s.keysWith(mostKeys, func(t tally) int { return t.stored * min(t.stored-1, 1) }),
		UnexplainedKeys: s.keysWith(mostKeys, tally.unexplained),
	})
}

func serveJSON(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", jsonType)
	json.MarshalWrite(w, v, durations, json.Deterministic(true), jsontext.Multiline(true)) // an error is the client's absence
	io.WriteString(w, "\n")
}

// serveLines writes what came after the number in the query, one JSON object per line.
func serveLines[T any](w http.ResponseWriter, r *http.Request, after func(int) []T, line func(T) any) {
	n, err := number(r.URL.Query().Get("after"), 0)
	if err != nil {
		http.Error(w, "after must be a number: "+strconv.Quote(r.URL.Query().Get("after")), http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Type", "application/x-ndjson")
	for _, v := range after(n) {
		if err := json.MarshalWrite(w, line(v), durations); err != nil {
			return
		}
		io.WriteString(w, "\n")
	}
}

// step is one entry of a script sent from outside.
type step struct {
	Fault
	RetryAfter time.Duration `json:"retry_after,omitzero"`
	Times      int           `json:"times,omitzero"` // 0: once; negative: until the script is replaced
}

// UnmarshalJSON starts from the preset of that name, if there is one, and lays the other members over it.
func (st *step) UnmarshalJSON(b []byte) error {
	var named struct {
		Name string `json:"fault"`
	}
	if err := json.Unmarshal(b, &named); err != nil {
		return err
	}
	type plain step
	p := plain{Fault: presets[named.Name]}
	if err := json.Unmarshal(b, &p, durations); err != nil {
		return err
	}
	if p.RetryAfter > 0 {
		p.Fault = p.Fault.RetryAfter(p.RetryAfter)
	}
	unnamed := p.Fault
	unnamed.Name = ""
	if p.Name != "" && unnamed.isZero() {
		return fmt.Errorf("no fault is named %q: GET /simulator/faults lists them", p.Name)
	}
	*st = step(p)
	return nil
}

func (s *Server) acceptScript(w http.ResponseWriter, r *http.Request) {
	set, ok := map[string]func(func(Request) Fault){
		"": s.Script, "inserts": s.Script, "arrivals": s.ScriptArrivals, "tokens": s.ScriptTokens, "reads": s.ScriptReads,
	}[r.URL.Query().Get("for")]
	if !ok {
		http.Error(w, "for must be inserts, arrivals, tokens or reads", http.StatusBadRequest)
		return
	}
	accept(func(steps []step) error { set(follow(steps)); return nil })(w, r)
}

// follow is the script of the steps, one after the other.
func follow(steps []step) func(Request) Fault {
	return func(Request) Fault {
		if len(steps) == 0 {
			return Fault{}
		}
		st := &steps[0]
		switch {
		case st.Times > 1:
			st.Times--
		case st.Times >= 0:
			steps = steps[1:]
		}
		return st.Fault
	}
}
