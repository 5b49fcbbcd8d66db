package stellartest

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/go-json-experiment/json"
	"github.com/twmb/franz-go/pkg/kfake"
)

// platform is a Server on a listener and a client that neither retries nor follows redirects.
type platform struct {
	*Server
	t    testing.TB
	url  string
	http *http.Client
	auth string // Authorization header; "": Basic with the default credentials
}

// overTCP serves on the loopback interface.
func overTCP(t testing.TB, cfg Config) *platform {
	t.Helper()
	s := New(cfg)
	r, err := s.Start("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return newPlatform(t, s, r.URL(), &http.Transport{MaxIdleConnsPerHost: 64})
}

// inBubble serves on a virtual network, for synctest.
func inBubble(t testing.TB, cfg Config) *platform {
	t.Helper()
	s := New(cfg)
	network := new(kfake.VirtualNetwork)
	ln, err := network.Listen("tcp", "localhost:80")
	if err != nil {
		t.Fatal(err)
	}
	s.Serve(ln)
	return newPlatform(t, s, "http://localhost:80", &http.Transport{DialContext: network.DialContext})
}

func newPlatform(t testing.TB, s *Server, url string, transport *http.Transport) *platform {
	p := &platform{Server: s, t: t, url: url, http: &http.Client{Transport: transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}}
	t.Cleanup(func() {
		transport.CloseIdleConnections()
		s.Close()
	})
	return p
}

// reply is what the client saw.
type reply struct {
	status int
	header http.Header
	body   string
	err    error // of the request or of reading the body
}

// id is the _id of the reply, "" without one.
func (r reply) id() string {
	var v struct {
		ID string `json:"_id"`
	}
	if json.Unmarshal([]byte(r.body), &v) != nil {
		return ""
	}
	return v.ID
}

func (p *platform) do(method, path, body string) reply {
	req, err := http.NewRequest(method, p.url+path, io.Reader(strings.NewReader(body)))
	if err != nil {
		p.t.Fatal(err)
	}
	req.GetBody = nil // or the transport may send it again by itself
	if p.auth == "" {
		req.SetBasicAuth(DefaultUser, DefaultAPIKey)
	} else {
		req.Header.Set("Authorization", p.auth)
	}
	if method == http.MethodPost {
		req.Header.Set("Content-Type", "application/json")
	}
	return p.send(req)
}

func (p *platform) send(req *http.Request) reply {
	resp, err := p.http.Do(req)
	if err != nil {
		return reply{err: err}
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return reply{resp.StatusCode, resp.Header, string(b), err}
}

func (p *platform) insert(body string) reply { return p.do("POST", InsertPath, body) }

// document is a valid one with that delivery key.
func document(key string) string {
	return fmt.Sprintf(`{"event_name":"n","timestamp":1619583462308,"event_status":"New","event_source":"s","custom_ser_field":{"serbridge":{"dedup_key":"d-%s","delivery_key":"%s"}}}`, key, key)
}

// source decodes a stored document.
func source(t testing.TB, d Stored) map[string]any {
	t.Helper()
	var m map[string]any
	if err := json.Unmarshal(d.Body, &m); err != nil {
		t.Fatalf("stored document %s is not JSON: %v", d.Body, err)
	}
	return m
}

func compact(t testing.TB, v any) string {
	t.Helper()
	b, err := json.Marshal(v, json.Deterministic(true))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// newInsert is an insert request with any body.
func (p *platform) newInsert(body io.Reader) *http.Request {
	req, err := http.NewRequest("POST", p.url+InsertPath, body)
	if err != nil {
		p.t.Fatal(err)
	}
	req.SetBasicAuth(DefaultUser, DefaultAPIKey)
	req.Header.Set("Content-Type", "application/json")
	return req
}
