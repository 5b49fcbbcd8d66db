package stellartest

import (
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// The vendor page's two samples, with Python's integer and float time, and what the page shows as stored.
func TestVendorSamplesAreStoredAsThePageShows(t *testing.T) {
	written := time.UnixMilli(1619583462741)
	want := `{"custom_ser_field":{"comments":"Test Comment","tryout":"test"},"detected_field":"my field test","event_name":"demo test",` +
		`"event_source":"ActZero","event_status":"New","msg_origin":{"source":"API"},"tenantid":"","timestamp":1619583462308,` +
		`"write_by":"API","write_time":1619583462741}`
	for name, stamp := range map[string]string{"integer": "1619583462308", "float": "1619583462308.4312", "exponent": "1.6195834623084312e12"} {
		t.Run(name, func(t *testing.T) {
			p := overTCP(t, Config{Now: func() time.Time { return written }})
			got := p.insert(`{"event_name": "demo test", "detected_field": "my field test", "tryout": "test", "timestamp": ` + stamp +
				`, "event_status": "New", "comments": "Test Comment", "event_source": "ActZero"}`)
			docs := p.Documents()
			if got.status != 200 || len(docs) != 1 {
				t.Fatalf("answer %+v, %d documents", got, len(docs))
			}
			if stored := compact(t, source(t, docs[0])); stored != want {
				t.Errorf("stored\n%s, want\n%s", stored, want)
			}
			if want := `{"index":"aella-ser-2021.04.28-","_id":"` + docs[0].ID + `"}`; got.body != want || len(docs[0].ID) != 20 {
				t.Errorf("answer %s, want %s with an id of 20 characters", got.body, want)
			}
			if ct := got.header.Get("Content-Type"); ct != "application/json" {
				t.Errorf("content type %q", ct)
			}
		})
	}
}

func TestRefusalsSayWhatThePageSays(t *testing.T) {
	const missing, es = "Missing fields to be updated for the event", "mapper_parsing_exception"
	for _, c := range []struct {
		name, body string
		status     int
		want       string
	}{
		{"no name", `{"timestamp":1,"event_status":"New","event_source":"s"}`, 400, missing},
		{"no time", `{"event_name":"n","event_status":"New","event_source":"s"}`, 400, missing},
		{"no status", `{"event_name":"n","timestamp":1,"event_source":"s"}`, 400, missing},
		{"no source", `{"event_name":"n","timestamp":1,"event_status":"New"}`, 400, missing},
		{"null source", `{"event_name":"n","timestamp":1,"event_status":"New","event_source":null}`, 400, missing},
		{"empty name", `{"event_name":"","timestamp":1,"event_status":"New","event_source":"s"}`, 400, missing},
		{"nothing", `{}`, 400, missing},
		{"missing outranks status", `{"timestamp":1,"event_status":"closed","event_source":"s"}`, 400, missing},
		{"lower case", `{"event_name":"n","timestamp":1,"event_status":"closed","event_source":"s"}`, 400, "Invalid event status value: closed"},
		{"other endpoint's word", `{"event_name":"n","timestamp":1,"event_status":"Cancelled","event_source":"s"}`, 400, "Invalid event status value: Cancelled"},
		{"status a number", `{"event_name":"n","timestamp":1,"event_status":5,"event_source":"s"}`, 400, "Invalid event status value: 5"},
		{"time a word", `{"event_name":"n","timestamp":"yesterday","event_status":"New","event_source":"s"}`, 400, es},
		{"severity a word", `{"event_name":"n","timestamp":1,"event_status":"New","event_source":"s","severity":"high"}`, 400, "failed to parse field [severity] of type [long]"},
		{"name an object", `{"event_name":{"a":1},"timestamp":1,"event_status":"New","event_source":"s"}`, 400, es},
		{"lateral a number", `{"event_name":"n","timestamp":1,"event_status":"New","event_source":"s","lateral":1}`, 400, es},
		{"custom a string", `{"event_name":"n","timestamp":1,"event_status":"New","event_source":"s","custom_ser_field":"x"}`, 400, es},
		{"not JSON", `event_name=n`, 400, "not one JSON object"},
		{"an array", `[{}]`, 400, "not one JSON object"},
		{"two objects", document("k") + document("k"), 400, "not one JSON object"},
		{"cut off", document("k")[:90], 400, "not one JSON object"},
		{"repeated key", `{"event_name":"n","event_name":"m","timestamp":1,"event_status":"New","event_source":"s"}`, 400, "not one JSON object"},
		{"empty", ``, 400, "not one JSON object"},
		{"all four", `{"event_name":"n","timestamp":1,"event_status":"In Progress","event_source":"s"}`, 200, `"_id"`},
		{"coerced", `{"event_name":7,"timestamp":1,"event_status":"Ignored","event_source":"s","severity":"73","fidelity":1.5,"lateral":"true","detected_values":["a"]}`, 200, `"_id"`},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := overTCP(t, Config{})
			got := p.insert(c.body)
			if got.status != c.status || !strings.Contains(got.body, c.want) {
				t.Errorf("answer %d %s, want %d with %q", got.status, got.body, c.status, c.want)
			}
			if n := len(p.Documents()); n != (map[int]int{200: 1}[c.status]) {
				t.Errorf("%d documents stored", n)
			}
		})
	}
}

func TestErrorForms(t *testing.T) {
	const phrase = "Invalid event status value: closed"
	for form, want := range map[ErrorForm]struct {
		status int
		ctype  string
		body   string
	}{
		Errors400Text: {400, textType, phrase},
		Errors400JSON: {400, jsonType, `{"error":"` + phrase + `"}`},
		Errors422:     {422, textType, phrase},
		Errors200Text: {200, textType, phrase},
		Errors200JSON: {200, jsonType, `{"error":"` + phrase + `"}`},
		Errors500Text: {500, textType, phrase},
	} {
		p := overTCP(t, Config{Variant: Variant{Errors: form}})
		got := p.insert(strings.Replace(document("k"), "New", "closed", 1))
		if got.status != want.status || got.body != want.body || got.header.Get("Content-Type") != want.ctype {
			t.Errorf("%q: %d %s %q, want %+v", form, got.status, got.header.Get("Content-Type"), got.body, want)
		}
		if len(p.Documents()) != 0 {
			t.Errorf("%q: stored", form)
		}
	}
}

func TestSuccessForms(t *testing.T) {
	for form, want := range map[SuccessForm]struct {
		status int
		body   string // "id": the JSON form
		stored int
		told   bool
	}{
		SuccessID:       {200, "id", 1, true},
		SuccessOK:       {200, "OK", 1, true},
		SuccessOK200:    {200, "OK 200", 1, true},
		SuccessEmpty:    {200, "", 1, false},
		SuccessObject:   {200, "{}", 1, false},
		SuccessBlankID:  {200, `{"_id":""}`, 1, false},
		SuccessCreated:  {201, "id", 1, false},
		SuccessAccepted: {202, "", 1, false},
		SuccessHTML:     {200, loginPage, 0, false},
	} {
		p := overTCP(t, Config{Variant: Variant{Success: form}})
		got := p.insert(document("k"))
		body := got.body
		if got.id() != "" {
			body = "id"
		}
		docs := p.Documents()
		if got.status != want.status || body != want.body || len(docs) != want.stored {
			t.Errorf("%q: %d %q, %d stored; want %+v", form, got.status, got.body, len(docs), want)
		}
		if len(docs) > 0 && (docs[0].Told != want.told || p.Unknowns()["k"] == 1 == want.told) {
			t.Errorf("%q: told %v, unknowns %v", form, docs[0].Told, p.Unknowns())
		}
	}
}

func TestDocumentVariants(t *testing.T) {
	const four = `"event_name":"n","timestamp":1,"event_status":"New","event_source":"s"`
	for _, c := range []struct {
		name    string
		variant Variant
		body    string
		field   string
		want    string
	}{
		{"explicit merged", Variant{}, `{` + four + `,"custom_ser_field":{"ns":{"a":1}},"x":2}`, "custom_ser_field", `{"ns":{"a":1},"x":2}`},
		{"explicit outranks moved", Variant{}, `{"x":2,` + four + `,"custom_ser_field":{"x":1}}`, "custom_ser_field", `{"x":1}`},
		{"explicit nested again", Variant{CustomFields: CustomNested}, `{` + four + `,"custom_ser_field":{"ns":{"a":1}},"x":2}`, "custom_ser_field", `{"custom_ser_field":{"ns":{"a":1}},"x":2}`},
		{"explicit empty", Variant{}, `{` + four + `,"custom_ser_field":{ }}`, "custom_ser_field", `null`},
		{"explicit null", Variant{}, `{` + four + `,"custom_ser_field":null}`, "custom_ser_field", `null`},
		{"native names are moved", Variant{}, `{` + four + `,"srcip":"10.0.0.1","write_by":"me","msg_origin":{"source":"me"}}`, "custom_ser_field", `{"msg_origin":{"source":"me"},"srcip":"10.0.0.1","write_by":"me"}`},
		{"write_by is the server's", Variant{}, `{` + four + `,"write_by":"me"}`, "write_by", `"API"`},
		{"tenant moved", Variant{}, `{` + four + `,"tenantid":"t1"}`, "custom_ser_field", `{"tenantid":"t1"}`},
		{"tenant is root", Variant{}, `{` + four + `,"tenantid":"t1"}`, "tenantid", `""`},
		{"tenant kept", Variant{KeepTenant: true}, `{` + four + `,"tenantid":"t1"}`, "tenantid", `"t1"`},
		{"tenant root when kept and not sent", Variant{KeepTenant: true}, `{` + four + `}`, "tenantid", `""`},
		{"lenient status", Variant{LenientStatus: true}, `{"event_name":"n","timestamp":1,"event_status":"in progress","event_source":"s"}`, "event_status", `"In Progress"`},
		{"names with escapes", Variant{}, `{` + four + `,"a\"b":"\u0041"}`, "custom_ser_field", `{"a\"b":"A"}`},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := overTCP(t, Config{Variant: c.variant})
			if got := p.insert(c.body); got.status != 200 {
				t.Fatalf("answer %+v", got)
			}
			if got := compact(t, source(t, p.Documents()[0])[c.field]); got != c.want {
				t.Errorf("%s is %s, want %s", c.field, got, c.want)
			}
		})
	}
}

// The server's write_time outranks a sent one.
func TestWriteTimeIsTheServers(t *testing.T) {
	p := overTCP(t, Config{Now: func() time.Time { return time.UnixMilli(77) }})
	p.insert(`{"event_name":"n","timestamp":1,"event_status":"New","event_source":"s","write_time":5}`)
	if got := source(t, p.Documents()[0])["write_time"]; got != 77.0 {
		t.Errorf("write_time %v", got)
	}
}

func TestMappingsRefuseWhatElasticsearchRefuses(t *testing.T) {
	doc := func(custom string) string {
		return `{"event_name":"n","timestamp":1,"event_status":"New","event_source":"s","custom_ser_field":` + custom + `}`
	}
	many := `{"f0":0`
	for i := range 1001 {
		many += `,"g` + strings.Repeat("x", i) + `":0`
	}
	p := overTCP(t, Config{Variant: Variant{Mappings: true}})
	for _, c := range []struct {
		custom string
		reason string // "": stored
	}{
		{`{"user":{"id":1005},"rule":"r","ok":true,"list":["a",null,"b"]}`, ""},
		{`{"user":{"id":"1006"}}`, ""},    // a numeric string fits a long
		{`{"user":{"id":7.5},"n":1}`, ""}, // coerced
		{`{"user":{"id":"S-1-5-18"}}`, "failed to parse field [custom_ser_field.user.id] of type [long]"},
		{`{"user":"root"}`, "object mapping for [custom_ser_field.user]"},
		{`{"rule":{"id":1}}`, "failed to parse field [custom_ser_field.rule] of type [string]"},
		{`{"ok":"maybe"}`, "of type [boolean]"},
		{`{"rule":5}`, ""},
		{`{"fresh":1,"rule":{}}`, "of type [string]"},
		{`{"fresh":"a refused document types nothing"}`, ""},
		{`{"raw":"` + strings.Repeat("x", termLimit+1) + `"}`, "immense term"},
		{many + `}`, "Limit of total fields [1000]"},
	} {
		got := p.insert(doc(c.custom))
		if c.reason == "" && got.status != 200 {
			t.Errorf("%.60s: %d %s", c.custom, got.status, got.body)
		}
		if c.reason != "" && (got.status != 400 || !strings.Contains(got.body, c.reason) || !strings.Contains(got.body, `"root_cause"`)) {
			t.Errorf("%.60s: %d %.200s, want 400 with %q", c.custom, got.status, got.body, c.reason)
		}
	}
	lax := overTCP(t, Config{})
	for _, custom := range []string{`{"user":1}`, `{"user":"x"}`, `{"user":{}}`} {
		if got := lax.insert(doc(custom)); got.status != 200 {
			t.Errorf("without Mappings %s: %+v", custom, got)
		}
	}
}

// A delivery key that is only quoted inside the raw record must not be taken for the document's own, or a copy would
// be counted for the wrong document.
func TestKeysAreFoundWhereverTheyStand(t *testing.T) {
	for body, want := range map[string]string{
		`{"custom_ser_field":{"serbridge":{"delivery_key":"k"}}}`:              "k",
		`{"serbridge":{"delivery_key" : "k"}}`:                                 "k",
		`{"serbridge_delivery_key":"k"}`:                                       "k",
		`{"serbridge.delivery_key":"k"}`:                                       "k",
		`{"raw_json":"{\"delivery_key\":\"other\"}","x":{"delivery_key":"k"}}`: "k",
		`{"a":"delivery_key","delivery_key":"k"}`:                              "k",
		`{"delivery_key":5,"b":{"delivery_key":"k"}}`:                          "k",
		`{"delivery_key":"a\"b"}`:                                              `a"b`,
		`{"mydelivery_key":"x"}`:                                               "",
		`{"delivery_key":"cut`:                                                 "",
		`delivery_key"`:                                                        "",
		`{"raw_json":"\"delivery_key\":\"x\""}`:                                "",
	} {
		if got, _ := keys([]byte(body)); got != want {
			t.Errorf("%s: %q, want %q", body, got, want)
		}
		if _, got := keys([]byte(strings.ReplaceAll(body, "delivery", "dedup"))); got != want {
			t.Errorf("%s: dedup_key %q, want %q", body, got, want)
		}
	}
}

// FuzzShape: whatever the body, shaping does not panic; what it accepts becomes one valid JSON object with the
// server's fields, and nothing of an accepted body but null and empty custom fields gets lost.
func FuzzShape(f *testing.F) {
	for _, seed := range []string{document("k"), `{}`, `[]`, `{"event_name":"n","timestamp":1.5,"event_status":"New","event_source":"s","custom_ser_field":{},"x":1}`,
		`{"event_name":"n","timestamp":1,"event_status":"New","event_source":"s","custom_ser_field":{"x":{"y":1}},"x":1,"\u0078y":null}`} {
		f.Add(seed, false, false)
		f.Add(seed, true, true)
	}
	f.Fuzz(func(t *testing.T, body string, nested, tenant bool) {
		v := &Variant{KeepTenant: tenant, Mappings: true}
		if nested {
			v.CustomFields = CustomNested
		}
		s := new(shaper)
		s.body.WriteString(body)
		keys([]byte(body))
		if s.shape(v).status != 0 {
			return
		}
		custom := s.customMembers()
		new(mapping).add(custom)
		out := s.encode(v, custom, 1)
		var got map[string]jsontext.Value
		if err := json.Unmarshal(out, &got); err != nil {
			t.Fatalf("%s became %s: %v", body, out, err)
		}
		for _, name := range []string{"event_name", "event_source", "event_status", "timestamp", "write_time", "write_by", "msg_origin", "tenantid"} {
			if len(got[name]) == 0 {
				t.Fatalf("%s became %s without %s", body, out, name)
			}
		}
		for _, m := range s.moved {
			if !strings.Contains(string(custom), string(m.value)) && s.custom == nil {
				t.Fatalf("%s lost %s", body, m.name)
			}
		}
	})
}
