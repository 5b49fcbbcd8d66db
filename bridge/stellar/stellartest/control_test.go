package stellartest

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/go-json-experiment/json"
)

func TestDrivenWithCurl(t *testing.T) {
	p := overTCP(t, Config{})
	post := func(path, body string) {
		t.Helper()
		if got := p.do("POST", "/simulator/"+path, body); got.status != 204 {
			t.Fatalf("%s: %+v", path, got)
		}
	}
	post("script", `[{"fault":"rate_limited","retry_after":"2s","times":2},{},{"fault":"bad_gateway","store":true},
		{"status":418,"body":"teapot","header":{"X-Kind":"pot"},"delay":"1ms"},{"fault":"unavailable","times":-1}]`)
	var got []string
	for range 7 {
		r := p.insert(document("k"))
		got = append(got, fmt.Sprint(r.status, r.header.Get("Retry-After"), r.header.Get("X-Kind")))
	}
	if want := []string{"429 2 ", "429 2 ", "200  ", "502  ", "418  pot", "503  ", "503  "}; strings.Join(got, ",") != strings.ReplaceAll(strings.Join(want, ","), " ", "") {
		t.Errorf("answers %q", got)
	}
	post("script", `[]`)
	post("script?for=tokens", `[{"fault":"server_error"}]`)
	if a, b := p.do("POST", TokenPath, ""), p.do("POST", TokenPath, ""); a.status != 500 || b.status != 200 {
		t.Errorf("token calls %d, %d", a.status, b.status)
	}
	var sum struct {
		Ledger
		Copies map[string]int `json:"copies"`
	}
	ledger := p.do("GET", "/simulator/ledger", "")
	if err := json.Unmarshal([]byte(ledger.body), &sum); err != nil || sum.Documents != 2 || sum.Untold != 1 || sum.Copies["k"] != 2 ||
		sum.Faults["unavailable"] != 2 || sum.Statuses[429] != 2 || sum.Requests[KindToken] != 2 {
		t.Errorf("%v: %s", err, ledger.body)
	}
	post("variant", `{"success":"ok","refresh_delay":"-1s"}`)
	if r := p.insert(document("l")); r.body != "OK" {
		t.Errorf("variant: %+v", r)
	}
	post("faults", `{"rates":{"server_error":1},"latency":{"median":"1ms"},"max_unknown_per_document":2}`)
	if r := p.insert(document("l")); r.status != 500 {
		t.Errorf("rates: %+v", r)
	}
	post("faults", `{}`)
	lines := strings.Split(strings.TrimSpace(p.do("GET", "/simulator/documents?after=1", "").body), "\n")
	if len(lines) != 2 || !strings.Contains(lines[0], `"n":2,`) || !strings.Contains(lines[1], `"source":{"custom_ser_field":{"serbridge"`) || !strings.Contains(lines[1], `"told":true`) {
		t.Errorf("documents %q", lines)
	}
	if n := strings.Count(p.do("GET", "/simulator/requests", "").body, "\n"); n != 11 {
		t.Errorf("%d requests listed", n)
	}
	var names []string
	if err := json.Unmarshal([]byte(p.do("GET", "/simulator/faults", "").body), &names); err != nil || !slices.Equal(names, FaultNames()) {
		t.Errorf("fault names %q", names)
	}
	p.login(basic(DefaultUser, DefaultAPIKey))
	post("revoke-tokens", "")
	if r := p.insert(document("l")); r.status != 401 {
		t.Errorf("revoked: %+v", r)
	}
	post("reset", "")
	if sum := p.Ledger(); sum.Documents != 0 || len(p.Requests()) != 0 {
		t.Errorf("reset: %+v", sum)
	}
}

// A typing error in a fault must not look like a platform without faults.
func TestControlRefusesWhatItDoesNotKnow(t *testing.T) {
	p := overTCP(t, Config{})
	for path, body := range map[string]string{
		"faults":             `{"rates":{"bad_gatway":0.1}}`,
		"faults?":            `{"rate":{}}`,
		"faults?1":           `{"latency":{"median":20}}`,
		"faults?2":           `{"latency":{"median":"20"}}`,
		"script":             `[{"fault":"bad_gatway"}]`,
		"script?":            `[{"falt":"hang"}]`,
		"script?for=searchs": `[]`,
		"script?1":           `{}`,
		"variant":            `{"sucess":"ok"}`,
		"variant?":           ``,
	} {
		if got := p.do("POST", "/simulator/"+path, body); got.status != 400 || got.body == "" {
			t.Errorf("%s %s: %+v", path, body, got)
		}
	}
	if got := p.do("GET", "/simulator/documents?after=x", ""); got.status != 400 {
		t.Errorf("after=x: %+v", got)
	}
	for path, want := range map[string]int{"": 200, "nosuch": 404, "reset": 405} {
		if got := p.do("GET", "/simulator/"+path, ""); got.status != want {
			t.Errorf("GET %s: %d", path, got.status)
		}
	}
	if sum := p.Ledger(); len(sum.Requests) != 0 {
		t.Errorf("control requests are in the ledger: %+v", sum)
	}
}

// The package documentation and the server's own help list the same endpoints.
func TestUsageAndPackageDocumentationAgree(t *testing.T) {
	doc, err := os.ReadFile("doc.go")
	if err != nil {
		t.Fatal(err)
	}
	endpoint := regexp.MustCompile(`(GET|POST) +/simulator/[a-z-]*(\?after=N)?`)
	if in, out := endpoint.FindAllString(string(doc), -1), endpoint.FindAllString(usage, -1); !slices.Equal(in[1:], out) || len(out) != 12 {
		t.Errorf("documented %q\nserved     %q", in[1:], out)
	}
}
