package stellartest

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// read answers GET …/{index}/amsg/{id} and GET …/{index}/_search.
func (s *Server) read(x *exchange) answer {
	if x.r.Method != http.MethodGet {
		return MethodNotAllowed().answer()
	}
	caller, ok := s.tokens.accepts(x.r, x.v.Auth)
	switch {
	case !ok:
		return Unauthorized().answer()
	case x.v.Search == SearchRefused, x.v.Search == SearchNotScoped && caller.scoped:
		return Forbidden().answer()
	}
	parts := strings.Split(strings.TrimPrefix(x.r.URL.Path, DataPath), "/")
	switch {
	case !ours(parts[0]):
		return elastic(http.StatusNotFound, "index_not_found_exception", "no such index ["+parts[0]+"]")
	case x.req.Kind == KindSearch && len(parts) == 2:
		return s.search(x)
	case len(parts) == 3 && (parts[1] == "amsg" || parts[1] == "_doc"):
		return s.get(x.v, parts[0], parts[2])
	}
	return NotFound().answer()
}

// ours says whether an index expression can match: the names we give, real or alias, and patterns of them.
func ours(index string) bool {
	return index == "*" || strings.HasPrefix(index, "aella-ser-") || strings.HasPrefix(index, "stellar-index-v1-ser-")
}

// realIndex is the index behind the alias.
func (v *Variant) realIndex(d Stored) (index, docType string) {
	if v.SaaSIndex {
		return d.Index, "_doc"
	}
	return "aella-ser-1618012988732-", "amsg"
}

// get reads one document, which Elasticsearch gives without a refresh delay.
func (s *Server) get(v *activeVariant, index, id string) answer {
	s.ledger.mu.Lock()
	n, ok := s.ledger.byID[id]
	if !ok || s.ledger.docs.at(n).Removed {
		s.ledger.mu.Unlock()
		name, _ := jsontext.AppendQuote(nil, index)
		quoted, _ := jsontext.AppendQuote(nil, id)
		return jsonAnswer(http.StatusNotFound, fmt.Sprintf(`{"_index":%s,"_type":"amsg","_id":%s,"found":false}`, name, quoted))
	}
	d := *s.ledger.docs.at(n)
	s.ledger.mu.Unlock()
	name, docType := v.realIndex(d)
	return jsonAnswer(http.StatusOK, fmt.Sprintf(`{"_id":"%s","_index":"%s","_primary_term":1,"_seq_no":%d,"_source":%s,"_type":"%s","_version":1,"found":true}`,
		d.ID, name, n, d.Body, docType))
}

// search answers the part of Lucene's query language that clients of the platform use: field:value, field:"value",
// field:(a OR b), field:>n, field:*, AND, OR, parentheses. Anything else is an error, never an empty result.
func (s *Server) search(x *exchange) answer {
	q := x.r.URL.Query()
	size, err1 := number(q.Get("size"), 10)
	from, err2 := number(q.Get("from"), 0)
	if err1 != nil || err2 != nil || size+from > 10_000 {
		return elastic(http.StatusBadRequest, "illegal_argument_exception", "size and from must be numbers, together at most 10000")
	}
	if x.r.ContentLength != 0 {
		return elastic(http.StatusBadRequest, "parsing_exception", "the simulator takes the query in q, not in a body")
	}
	match := query(everything{})
	if text := q.Get("q"); text != "" {
		parsed, err := parseQuery(text)
		if err != nil {
			return elastic(http.StatusBadRequest, "query_shard_exception", "Failed to parse query ["+text+"]: "+err.Error())
		}
		match = parsed
	}
	return hits(s.matching(x.v, match), x.v, size, from)
}

func number(text string, def int) (int, error) {
	if text == "" {
		return def, nil
	}
	n, err := strconv.ParseUint(text, 10, 31)
	return int(n), err
}

// matching are the documents that the query finds and the refresh delay has passed for.
func (s *Server) matching(v *activeVariant, q query) []Stored {
	visible := s.cfg.Now().Add(-v.refresh)
	var found []Stored
	for _, d := range s.candidates(q) {
		if d.Removed || d.At.After(visible) {
			continue
		}
		fields := map[string]any{}
		if err := json.Unmarshal(d.Body, &fields); err != nil {
			panic("stored document is not JSON: " + err.Error()) // index checked it
		}
		fields["_id"] = d.ID
		if q.matches(fields) {
			found = append(found, d)
		}
	}
	return found
}

// candidates narrows a search by the keys we have maps for.
func (s *Server) candidates(q query) []Stored {
	s.ledger.mu.Lock()
	defer s.ledger.mu.Unlock()
	var numbers []int
	for path, value := range q.needs() {
		switch {
		case path == "_id":
			if n, ok := s.ledger.byID[value]; ok {
				numbers = []int{n}
			}
		case strings.HasSuffix(path, "delivery_key"):
			numbers = s.ledger.byKey[value]
		default:
			continue
		}
		docs := make([]Stored, 0, len(numbers))
		for _, n := range numbers {
			docs = append(docs, *s.ledger.docs.at(n))
		}
		return docs
	}
	return append([]Stored(nil), s.ledger.docs.all()...)
}

func hits(found []Stored, v *activeVariant, size, from int) answer {
	page := found[min(from, len(found)):min(from+size, len(found))]
	var b strings.Builder
	fmt.Fprintf(&b, `{"took":1,"timed_out":false,"_shards":{"total":1,"successful":1,"skipped":0,"failed":0},"hits":{"total":{"value":%d,"relation":"eq"},"max_score":1.0,"hits":[`, len(found))
	for i, d := range page {
		if i > 0 {
			b.WriteByte(',')
		}
		index, docType := v.realIndex(d)
		fmt.Fprintf(&b, `{"_index":"%s","_type":"%s","_id":"%s","_score":1.0,"_source":%s}`, index, docType, d.ID, d.Body)
	}
	b.WriteString("]}}")
	return jsonAnswer(http.StatusOK, b.String())
}
