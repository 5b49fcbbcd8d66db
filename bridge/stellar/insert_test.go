package stellar

import (
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"serbridge/bridge/secret"
)

func TestInsertIsOnePOSTAsDocumented(t *testing.T) {
	var got *http.Request
	var body []byte
	cfg := tcp(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got = r
		body, _ = io.ReadAll(r.Body)
		fmt.Fprint(w, `{"index":"aella-ser-2021.04.28-","_id":"ZbWy"}`)
	}))
	a := insertBasic(t, cfg, doc)
	if a.Verdict != Delivered || a.Index != "aella-ser-2021.04.28-" || a.ID != "ZbWy" || a.Err != nil {
		t.Errorf("got %+v", a)
	}
	if got.Method != "POST" || got.URL.String() != InsertPath || got.Proto != "HTTP/1.1" || string(body) != doc || got.ContentLength != int64(len(doc)) {
		t.Errorf("sent %s %s %s, %d bytes: %s", got.Method, got.URL, got.Proto, got.ContentLength, body)
	}
	for name, want := range map[string]string{
		"Content-Type": "application/json", "Accept": "application/json", "User-Agent": "serbridge/test",
		"Authorization": "Basic " + base64.StdEncoding.EncodeToString([]byte(testUser+":"+testKey)),
	} {
		if v := got.Header.Get(name); v != want {
			t.Errorf("%s: %q, want %q", name, v, want)
		}
	}
	for _, name := range []string{"Accept-Encoding", "Idempotency-Key", "X-Idempotency-Key", "Expect", "Cookie"} {
		if v, ok := got.Header[name]; ok {
			t.Errorf("%s: %q is sent", name, v)
		}
	}
}

// A redirect to a login page would turn the POST into a GET, and that page's
// 200 into a delivery of nothing.
func TestRedirectIsNotDelivery(t *testing.T) {
	for _, status := range []int{301, 302, 303, 307, 308} {
		requests := 0
		cfg := tcp(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			requests++
			if r.URL.Path == "/login" {
				fmt.Fprint(w, "OK")
				return
			}
			http.Redirect(w, r, "/login", status)
		}))
		if got := summary(insertBasic(t, cfg, doc)); got != "unavailable refused closes redirected" || requests != 1 {
			t.Errorf("%d: got %s after %d requests", status, got, requests)
		}
	}
}

// The answers below cost a connection each if they are not read to their end.
func TestConnectionsAreUsedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := 0
		cfg := virtual(t, &platform{insert: func(w http.ResponseWriter, _ *http.Request) {
			n++
			w.WriteHeader([]int{200, 400, 503}[n%3])
			fmt.Fprint(w, strings.Repeat("x", maxBody-1))
		}})
		dials, dial := 0, cfg.DialContext
		cfg.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
			dials++
			return dial(ctx, network, addr)
		}
		cfg.Auth = AuthBasic
		c := client(t, cfg)
		for range 9 {
			insertOnce(t.Context(), t, c, doc)
			synctest.Wait()
		}
		if dials != 1 {
			t.Errorf("9 requests one after the other took %d connections", dials)
		}
		// Idle for longer than a server may keep it, it is not used again: the
		// server might close it as we write.
		time.Sleep(idleTimeout + time.Millisecond)
		synctest.Wait()
		insertOnce(t.Context(), t, c, doc)
		if dials != 2 {
			t.Errorf("after %v a connection is used again", idleTimeout)
		}
	})
}

func TestConnectionsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		open, most := 0, 0
		cfg := virtual(t, &platform{insert: func(w http.ResponseWriter, _ *http.Request) {
			mu.Lock()
			open++
			most = max(most, open)
			mu.Unlock()
			time.Sleep(time.Second)
			mu.Lock()
			open--
			mu.Unlock()
			fmt.Fprint(w, "OK")
		}})
		cfg.MaxInFlight = 4
		c := client(t, cfg)
		var wg sync.WaitGroup
		for range 12 {
			wg.Go(func() {
				if a := insertOnce(t.Context(), t, c, doc); a.Verdict != Delivered {
					t.Errorf("got %+v", a)
				}
			})
		}
		wg.Wait()
		if most != 4 {
			t.Errorf("%d requests at a time, want 4", most)
		}
	})
}

func TestEndlessBodyIsBounded(t *testing.T) {
	wrote := 0
	cfg := tcp(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.WriteHeader(400)
		for r.Context().Err() == nil {
			n, err := fmt.Fprint(w, strings.Repeat("x", 64<<10))
			if wrote += n; err != nil {
				return
			}
		}
	}))
	a := insertBasic(t, cfg, doc)
	if got := summary(a); got != "refused refused counts http_400" || len(a.Body) != keptBody {
		t.Errorf("got %s and %d bytes", got, len(a.Body))
	}
}

func TestKeptBodyIsShortCleanText(t *testing.T) {
	for name, body := range map[string]string{
		"long":               "x" + strings.Repeat("é", 2000),
		"key across the cut": strings.Repeat("x", keptBody-7) + testKey + "y",
		"key as it is":       "you sent " + testKey,
		"Basic form":         "you sent " + base64.StdEncoding.EncodeToString([]byte(testUser+":"+testKey)),
		"control":            "a\x00b\x1b[31m\r\nc\u0085\xffd",
	} {
		a := insertBasic(t, tcp(t, answering(400, body)), doc)
		if len(a.Body) > keptBody || !utf8.ValidString(a.Body) || strings.ContainsAny(a.Body, "\x00\x1b\r\n\u0085") {
			t.Errorf("%s: %d bytes: %q", name, len(a.Body), a.Body)
		}
		if strings.Contains(a.Body, testKey[:7]) || strings.Contains(a.Body, "OjJpUnBCQXlRWUVm") {
			t.Errorf("%s: a secret is left: %q", name, a.Body)
		}
		if a.Body == "" {
			t.Errorf("%s: nothing is left", name)
		}
	}
}

// HTTP/2 hooks can run after the error: certainty would be a guess.
func TestOnlyHTTP1IsSpoken(t *testing.T) {
	proto := ""
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		proto = r.Proto
		fmt.Fprint(w, "OK")
	}))
	s.EnableHTTP2 = true
	s.StartTLS()
	defer s.Close()
	cfg := config(s.URL)
	cfg.InsecureSkipVerify = true
	if a := insertBasic(t, cfg, doc); a.Verdict != Delivered || proto != "HTTP/1.1" {
		t.Errorf("%s over %s", summary(a), proto)
	}
}

// Nothing that can go wrong shows a credential, the URL or what the server
// wrote.
func TestErrorsLeakNoSecret(t *testing.T) {
	basic := base64.StdEncoding.EncodeToString([]byte(testUser + ":" + testKey))
	ends := map[string]func(t *testing.T) (Config, context.Context){
		"cancelled": func(t *testing.T) (Config, context.Context) {
			ctx, cancel := context.WithCancel(t.Context())
			return tcp(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				_, _ = io.Copy(io.Discard, r.Body)
				cancel()
				<-r.Context().Done()
			})), ctx
		},
		"echo that is no HTTP": func(t *testing.T) (Config, context.Context) {
			return raw(t, script("ECHO "+basic+" "+testKey+" "+doc+"\r\n\r\n")), t.Context()
		},
		"document in place of HTTP": func(t *testing.T) (Config, context.Context) {
			return raw(t, script(doc+"\r\n\r\n")), t.Context()
		},
		"echo in a header": func(t *testing.T) (Config, context.Context) {
			return raw(t, script("HTTP/1.1 200 OK\r\nContent-Length: "+testKey+"\r\n\r\n")), t.Context()
		},
		"echo in a refusal": func(t *testing.T) (Config, context.Context) {
			return tcp(t, answering(403, testKey+" "+basic)), t.Context()
		},
		"echo in a redirect": func(t *testing.T) (Config, context.Context) {
			return tcp(t, answering(302, "", "Location", "http://user:"+testKey+"@%zz/")), t.Context()
		},
		"dial": func(t *testing.T) (Config, context.Context) {
			cfg := config("http://stellar.invalid")
			cfg.DialContext = func(context.Context, string, string) (net.Conn, error) {
				return nil, fmt.Errorf("socks proxy refused password %s", testKey)
			}
			return cfg, t.Context()
		},
		"unreadable key": func(t *testing.T) (Config, context.Context) {
			cfg := config("http://stellar.invalid")
			cfg.APIKey = cfg.Redactor.Watch(func() (string, error) { return testKey, fmt.Errorf("vault says %s", testKey) })
			return cfg, t.Context()
		},
	}
	for name, end := range ends {
		for _, auth := range []string{AuthBasic, AuthJWT, AuthJWTBearer} {
			t.Run(name+"/"+auth, func(t *testing.T) {
				cfg, ctx := end(t)
				cfg.Auth = auth
				c := client(t, cfg)
				a, why, ok := c.Authorize(ctx)
				if ok {
					why = c.Insert(ctx, a, []byte(doc))
				}
				text := fmt.Sprintf("%+v %v %s %#v", why, why.Err, a, a)
				for _, secret := range []string{testKey, basic, "insert_ser", "access_token", "Beacon"} {
					if strings.Contains(text, secret) {
						t.Errorf("%q is in %s", secret, text)
					}
				}
				if why.Err == nil {
					t.Errorf("no error: %s", text)
				}
			})
		}
	}
}

func TestConfigurationIsCheckedWhole(t *testing.T) {
	key := secret.Literal(testKey)
	for name, test := range map[string]struct {
		cfg  Config
		want []string
	}{
		"zero":        {Config{}, []string{"https://"}},
		"several":     {Config{URL: "https://h", Auth: "oauth", Success: "maybe", InsertPath: "x", Timeout: -1}, []string{"oauth", "APIKey", "maybe", `"x"`, "Timeout"}},
		"no user":     {Config{URL: "https://h", APIKey: key}, []string{"User"}},
		"path":        {Config{URL: "https://h/connect", APIKey: key}, []string{"scheme and host only"}},
		"password":    {Config{URL: "https://me:" + testKey + "@h", APIKey: key}, []string{"scheme and host only"}},
		"unparseable": {Config{URL: "https://me:" + testKey + "@h:port", APIKey: key}, []string{"parsed"}},
		"scheme":      {Config{URL: "ftp://h", APIKey: key}, []string{"https://"}},
	} {
		c, err := New(test.cfg)
		if err == nil {
			c.Close()
			t.Errorf("%s: no error", name)
			continue
		}
		for _, want := range test.want {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %v does not name %s", name, err, want)
			}
		}
		if strings.Contains(err.Error(), testKey) {
			t.Errorf("%s: %v", name, err)
		}
	}
	c, err := New(Config{URL: "https://h/", Auth: AuthJWTBearer, APIKey: key})
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
}

// DNS, TLS and HTTP know no other letters: the platform would not be found.
func TestHostInOtherLettersIsFound(t *testing.T) {
	for host, want := range map[string]string{
		"b\u00fccher.example":      "https://xn--bcher-kva.example",
		"b\u00fccher.example:8443": "https://xn--bcher-kva.example:8443",
		"my_host.example":          "https://my_host.example",
		"[2001:db8::1]:8443":       "https://[2001:db8::1]:8443",
	} {
		if got, err := origin("https://" + host); got != want || err != nil {
			t.Errorf("%s: got %s (%v), want %s", host, got, err, want)
		}
	}
	if _, err := origin("https://a\u00ad\u2260.example"); err == nil {
		t.Error("a name that DNS cannot hold is taken")
	}
}
