package stellartest

import (
	"net/url"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-json-experiment/json"
)

type result struct {
	Hits struct {
		Total struct{ Value int } `json:"total"`
		Hits  []struct {
			Index  string         `json:"_index"`
			Type   string         `json:"_type"`
			ID     string         `json:"_id"`
			Source map[string]any `json:"_source"`
		} `json:"hits"`
	} `json:"hits"`
}

// search returns the total and the event_name of each hit.
func (p *platform) search(query string) (total int, names []string, answer reply) {
	answer = p.do("GET", DataPath+"aella-ser-*/_search?"+query, "")
	var r result
	if answer.status == 200 {
		if err := json.Unmarshal([]byte(answer.body), &r, json.MatchCaseInsensitiveNames(true)); err != nil {
			p.t.Fatal(err)
		}
	}
	for _, h := range r.Hits.Hits {
		names = append(names, h.Source["event_name"].(string))
	}
	return r.Hits.Total.Value, names, answer
}

// The page's answer to the GET of its own example.
func TestReadBackByGetAsThePageShows(t *testing.T) {
	for _, c := range []struct {
		saas               bool
		alias, index, kind string
	}{
		{false, "aella-ser-2021.04.28-", "aella-ser-1618012988732-", "amsg"},
		{true, "stellar-index-v1-ser-0a1b2c3d4e5f-2021.04.28-000033", "stellar-index-v1-ser-0a1b2c3d4e5f-2021.04.28-000033", "_doc"},
	} {
		p := overTCP(t, Config{Now: func() time.Time { return time.UnixMilli(1619583462741) }, Variant: Variant{SaaSIndex: c.saas}})
		id := p.insert(`{"event_name":"demo test","timestamp":1619583462308,"event_status":"New","event_source":"ActZero"}`).id()
		if got := p.Documents()[0].Index; got != c.alias {
			t.Errorf("alias %s, want %s", got, c.alias)
		}
		got := p.do("GET", DataPath+c.alias+"/"+c.kind+"/"+id, "")
		var m map[string]any
		if err := json.Unmarshal([]byte(got.body), &m); err != nil || got.status != 200 {
			t.Fatalf("%+v: %v", got, err)
		}
		src := m["_source"].(map[string]any)
		delete(m, "_source")
		want := `{"_id":"` + id + `","_index":"` + c.index + `","_primary_term":1,"_seq_no":0,"_type":"` + c.kind + `","_version":1,"found":true}`
		if compact(t, m) != want || src["event_name"] != "demo test" || src["write_by"] != "API" {
			t.Errorf("%s, want %s", got.body, want)
		}
		if got := p.do("GET", DataPath+c.alias+"/amsg/nosuch", ""); got.status != 404 || !strings.Contains(got.body, `"found":false`) {
			t.Errorf("no such id: %+v", got)
		}
		for _, path := range []string{"logs-*/_search", "logs/amsg/" + id, "aella-ser-x/other/" + id, "aella-ser-x"} {
			if got := p.do("GET", DataPath+path, ""); got.status != 404 {
				t.Errorf("%s: %+v", path, got)
			}
		}
		if got := p.do("POST", DataPath+"aella-ser-*/_search", ""); got.status != 405 {
			t.Errorf("POST: %+v", got)
		}
	}
}

// Right after the insert "not found" proves nothing: a probe that believes it repeats the document.
func TestSearchSeesADocumentAfterTheRefreshDelayOnly(t *testing.T) {
	for setting, delay := range map[time.Duration]time.Duration{0: time.Second, 30 * time.Second: 30 * time.Second, -1: 0} {
		synctest.Test(t, func(t *testing.T) {
			p := inBubble(t, Config{Variant: Variant{RefreshDelay: setting}})
			p.insert(document("k"))
			q := "q=" + url.QueryEscape(`custom_ser_field.serbridge.delivery_key:"k"`)
			if delay > 0 {
				<-time.After(delay - 1)
				if total, _, _ := p.search(q); total != 0 {
					t.Errorf("setting %v: visible early", setting)
				}
				<-time.After(1)
			}
			if total, names, _ := p.search(q); total != 1 || !slices.Equal(names, []string{"n"}) {
				t.Errorf("setting %v: %d hits, %q", setting, total, names)
			}
		})
	}
}

func TestQueries(t *testing.T) {
	p := overTCP(t, Config{Now: func() time.Time { return time.UnixMilli(5000) }, Variant: Variant{RefreshDelay: -1}})
	insert := func(name, rest string) string {
		return p.insert(`{"event_name":"` + name + `","timestamp":1,"event_status":"New","event_source":"s",` + rest + `}`).id()
	}
	a := insert("a", `"severity":10,"custom_ser_field":{"ns":{"delivery_key":"ka","list":["x","y"],"q":"two words"}}`)
	insert("b", `"severity":50,"ns":{"delivery_key":"kb"}`)
	insert("c", `"severity":99,"flat.key":"v","event_category":"uba"`)
	for query, want := range map[string]string{
		``:                                      "a b c",
		`*`:                                     "a b c",
		`*:*`:                                   "a b c",
		`_id:` + a:                              "a",
		`_id:"nosuch"`:                          "",
		`event_name:b`:                          "b",
		`custom_ser_field.ns.delivery_key:ka`:   "a",
		`custom_ser_field.ns.delivery_key:"kb"`: "b",
		`custom_ser_field.other.delivery_key:"kb"`:                "",
		`custom_ser_field.ns.delivery_key:("ka" OR "kb" OR "kc")`: "a b",
		`custom_ser_field.ns.list:y`:                              "a",
		`custom_ser_field.ns.q:"two words"`:                       "a",
		`custom_ser_field.ns.q:"two"`:                             "",
		`custom_ser_field.flat.key:v`:                             "c",
		`severity:>10`:                                            "b c",
		`severity:>=10 AND severity:<99`:                          "a b",
		`severity:<=10 OR event_category:uba`:                     "a c",
		`severity:50.0`:                                           "b",
		`(write_time:>4999 AND (event_name:a OR event_name:c))`:   "a c",
		`event_category:*`:                                        "c",
		`event_category:"*"`:                                      "",
		`custom_ser_field.ns.delivery_key:*`:                      "a b",
		`event_name:\a`:                                           "a",
		`custom_ser_field.ns.delivery_key:"k\"a"`:                 "",
		`custom_ser_field.ns.delivery_key:ka AND event_name:b`:    "",
		`custom_ser_field.ns.delivery_key:"*"`:                    "",
	} {
		if _, names, got := p.search("q=" + url.QueryEscape(query)); strings.Join(names, " ") != want || got.status != 200 {
			t.Errorf("%s finds %q (%d), want %q", query, names, got.status, want)
		}
	}
	for _, query := range []string{`word`, `event_name:`, `event_name:a*`, `(event_name:a`, `event_name:"a`, `severity:[1 TO 2]`, `a b:c`,
		`event_name:(a`, `event_name:a event_name:b`, `NOT event_name:a`} {
		if _, _, got := p.search("q=" + url.QueryEscape(query)); got.status != 400 || !strings.Contains(got.body, "Failed to parse query") {
			t.Errorf("%s: %+v, want 400", query, got)
		}
	}
	if total, names, _ := p.search("size=1&from=1"); total != 3 || !slices.Equal(names, []string{"b"}) {
		t.Errorf("page: %d %q", total, names)
	}
	for _, query := range []string{"size=x", "from=-1", "size=10001"} {
		if _, _, got := p.search(query); got.status != 400 {
			t.Errorf("%s: %+v", query, got)
		}
	}
	if got := p.do("GET", DataPath+"aella-ser-*/_search", `{"query":{}}`); got.status != 400 {
		t.Errorf("a query in the body is taken for no query: %+v", got)
	}
}

// FuzzQuery: parsing and matching never panic, and what is parsed matches the same way twice.
func FuzzQuery(f *testing.F) {
	for _, q := range []string{`a:b`, `(a:"b\"" AND c:>5) OR d:(x OR "y")`, `*:*`, `a.b.c:*`} {
		f.Add(q)
	}
	fields := map[string]any{"a": "b", "c": 7.0, "d": []any{"x"}, "e": map[string]any{"f": nil}}
	f.Fuzz(func(t *testing.T, text string) {
		q, err := parseQuery(text)
		if err != nil {
			return
		}
		q.needs()
		if first, again := q.matches(fields), q.matches(fields); first != again {
			t.Errorf("%q matches by chance", text)
		}
	})
}
