package stellar

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func reader(t *testing.T, read http.HandlerFunc) (*Client, Authorization, *platform) {
	t.Helper()
	p := &platform{read: read}
	c := client(t, tcp(t, p))
	a, why, ok := c.Authorize(t.Context())
	if !ok {
		t.Fatalf("%+v", why)
	}
	return c, a, p
}

const searched = `{"took":3,"timed_out":false,"_shards":{"total":5,"successful":5,"failed":0},"hits":{"total":{"value":3,"relation":"eq"},"hits":[
{"_index":"stellar-index-v1-ser-x","_type":"_doc","_id":"one","_score":1.5,"_source":{"event_name":"a","custom_ser_field":{"other":{"delivery_key":"k2"},"serbridge":{"delivery_key":"k1"}}}},
{"_index":"i","_id":"near","_source":{"custom_ser_field":{"serbridge":{"delivery_key":"k1 and more"}}}},
{"_index":"i","_id":"other namespace","_source":{"custom_ser_field":{"other":{"delivery_key":"k1"}}}},
{"_index":"i","_id":"no source"},
{"_index":"i","_id":"two","_source":{"custom_ser_field":{"serbridge":{"delivery_key":"k1"}}}}]}}`

// To take a stranger's document for ours would lose ours.
func TestFindTakesOnlyWhatCarriesTheKey(t *testing.T) {
	var asked *http.Request
	c, a, _ := reader(t, func(w http.ResponseWriter, r *http.Request) {
		asked = r
		fmt.Fprint(w, searched)
	})
	found, err := c.Find(t.Context(), a, "k1")
	if err != nil || len(found) != 2 || found[0].ID != "one" || found[0].Index != "stellar-index-v1-ser-x" || found[1].ID != "two" ||
		!strings.HasPrefix(string(found[0].Source), `{"event_name":"a"`) {
		t.Errorf("found %+v, %v", found, err)
	}
	if asked.Method != "GET" || asked.URL.Path != "/connect/api/data/aella-ser-*/_search" || asked.Header.Get("Authorization") != "Bearer token-1" ||
		asked.URL.Query().Get("q") != `custom_ser_field.serbridge.delivery_key:"k1"` {
		t.Errorf("asked %s %s", asked.Method, asked.URL)
	}
	// Nothing in a key acts as a query.
	if found, err := c.Find(t.Context(), a, `x" OR "\`); len(found) != 0 || err != nil {
		t.Errorf("found %+v, %v", found, err)
	}
	if got := asked.URL.Query().Get("q"); got != `custom_ser_field.serbridge.delivery_key:"x\" OR \"\\"` {
		t.Errorf("asked %s", got)
	}
}

// What is no proof that a document is missing must not look like one.
func TestFindWithoutProofIsAnError(t *testing.T) {
	for _, test := range []struct {
		name   string
		status int
		body   string
		reason string
	}{
		{"forbidden to scoped keys", 403, `{"error":"forbidden"}`, "http_403"},
		{"absent", 404, "not found", "http_404"},
		{"down", 503, "", "http_503"},
		{"gateway", 502, "", "http_502"},
		{"redirect", 302, "", ReasonRedirected},
		{"web page", 200, "<html>Log in</html>", ReasonNotTheAPI},
		{"empty", 200, "", ReasonNotTheAPI},
		{"no hits", 200, `{"error":"no such index"}`, ReasonNotTheAPI},
		{"torn", 200, searched[:200], ReasonNotTheAPI},
		{"timed out", 200, `{"timed_out":true,"hits":{"hits":[]}}`, ReasonSearchIncomplete},
		{"half an index", 200, `{"_shards":{"failed":1},"hits":{"hits":[]}}`, ReasonSearchIncomplete},
	} {
		c, a, _ := reader(t, answering(test.status, test.body))
		found, err := c.Find(t.Context(), a, "k1")
		var e *ReadError
		if found != nil || !errors.As(err, &e) || e.Reason != test.reason || e.Status != test.status || e.Again {
			t.Errorf("%s: %+v, %v", test.name, found, err)
		}
		if strings.Contains(fmt.Sprint(err), "k1") || strings.Contains(fmt.Sprint(err), "/connect") {
			t.Errorf("%s: %v", test.name, err)
		}
	}
	c, a, _ := reader(t, answering(200, `{"hits":{"total":{"value":0},"hits":[]}}`))
	if found, err := c.Find(t.Context(), a, "k1"); len(found) != 0 || err != nil {
		t.Errorf("not there: %+v, %v", found, err)
	}
}

func TestReadThatMayBeRepeated(t *testing.T) {
	c, a, p := reader(t, answering(401, ""))
	var e *ReadError
	if _, err := c.Find(t.Context(), a, "k"); !errors.As(err, &e) || !e.Again {
		t.Errorf("first 401: %v", err)
	}
	a, _, _ = c.Authorize(t.Context())
	if _, err := c.Find(t.Context(), a, "k"); !errors.As(err, &e) || e.Again || p.tokenCalls() != 2 {
		t.Errorf("second 401: %v", err)
	}
	c, a, _ = reader(t, answering(429, "", "Retry-After", "30"))
	if _, err := c.Find(t.Context(), a, "k"); !errors.As(err, &e) || e.RetryAfter != 30*time.Second {
		t.Errorf("429: %v", err)
	}
	synctest.Test(t, func(t *testing.T) {
		c := client(t, virtual(t, &platform{read: func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }}))
		a, _, _ := c.Authorize(t.Context())
		if _, err := c.Find(t.Context(), a, "k"); !errors.As(err, &e) || e.Reason != ReasonTimeout || !errors.Is(err, errAttemptTimeout) {
			t.Errorf("no answer: %v", err)
		}
	})
}

func TestGetReadsTheDocumentThatWasNamed(t *testing.T) {
	var path string
	c, a, _ := reader(t, func(w http.ResponseWriter, r *http.Request) {
		path = r.URL.EscapedPath()
		switch {
		case strings.HasSuffix(path, "gone"):
			answering(404, `{"_index":"i","_id":"gone","found":false}`)(w, r)
		case strings.HasSuffix(path, "missing"):
			answering(200, `{"found":false}`)(w, r)
		case strings.HasSuffix(path, "nowhere"):
			answering(404, `no route`)(w, r)
		default:
			answering(200, `{"_index":"aella-ser-16-","_id":"a/b","_type":"amsg","found":true,"_source":{"event_name":"x"}}`)(w, r)
		}
	})
	s, err := c.Get(t.Context(), a, "aella-ser-2021.04.28-", "a/b ?")
	if err != nil || s.Index != "aella-ser-16-" || s.ID != "a/b" || string(s.Source) != `{"event_name":"x"}` {
		t.Errorf("got %+v, %v", s, err)
	}
	if want := "/connect/api/data/aella-ser-2021.04.28-/amsg/" + url.PathEscape("a/b ?"); path != want {
		t.Errorf("asked for %s, want %s", path, want)
	}
	for _, id := range []string{"gone", "missing"} {
		if _, err := c.Get(t.Context(), a, "i", id); !errors.Is(err, ErrNotFound) {
			t.Errorf("%s: %v", id, err)
		}
	}
	var e *ReadError
	if _, err := c.Get(t.Context(), a, "i", "nowhere"); !errors.As(err, &e) || e.Status != 404 || errors.Is(err, ErrNotFound) {
		t.Errorf("a wrong path: %v", err)
	}
}
