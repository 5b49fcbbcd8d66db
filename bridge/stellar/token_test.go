package stellar

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"serbridge/bridge/secret"
)

func TestTokenCallOfEachMode(t *testing.T) {
	basic := "Basic " + base64.StdEncoding.EncodeToString([]byte(testUser+":"+testKey))
	for auth, want := range map[string]struct {
		asked, inserted string
		calls           int
	}{
		AuthJWT:       {basic, "Bearer token-1", 1},
		AuthJWTBearer: {"Bearer " + testKey, "Bearer token-1", 1},
		AuthBasic:     {"", basic, 0},
	} {
		t.Run(auth, func(t *testing.T) {
			p := &platform{}
			cfg := tcp(t, p)
			cfg.Auth = auth
			c := client(t, cfg)
			for range 3 {
				if a := insertOnce(t.Context(), t, c, doc); a.Verdict != Delivered {
					t.Fatalf("got %+v", a)
				}
			}
			if p.tokenCalls() != want.calls || p.inserted[2].Header.Get("Authorization") != want.inserted {
				t.Errorf("%d token calls, then %q", p.tokenCalls(), p.inserted[2].Header.Get("Authorization"))
			}
			if _, ok := c.TokenExpiry(); ok != (want.calls > 0) {
				t.Errorf("TokenExpiry: %v", ok)
			}
			if want.calls == 0 {
				return
			}
			r := p.asked[0]
			if r.Method != "POST" || r.Header.Get("Authorization") != want.asked || r.ContentLength != 0 ||
				r.Header.Get("Content-Type") != "application/x-www-form-urlencoded" {
				t.Errorf("asked with %s, %d bytes, %v", r.Method, r.ContentLength, r.Header)
			}
		})
	}
}

func jwt(payload string) string {
	e := base64.RawURLEncoding.EncodeToString
	return e([]byte(`{"alg":"HS256"}`)) + "." + e([]byte(payload)) + "." + e([]byte("signature"))
}

func TestTokenAnswers(t *testing.T) {
	now := time.Unix(1772366400, 0)
	in := func(d time.Duration) string { return fmt.Sprint(now.Add(d).Unix()) }
	for _, test := range []struct {
		name, body string
		life       time.Duration // 0: no token
	}{
		{"exp", `{"access_token":"t","exp":` + in(300*time.Second) + `,"expires_in":7}`, 300 * time.Second},
		{"exp as text", `{"access_token":"t","exp":"` + in(300*time.Second) + `"}`, 300 * time.Second},
		{"exp that is no number", `{"access_token":"t","exp":"NaN"}`, assumedLifetime},
		{"exp as fraction", `{"access_token":"t","exp":` + in(300*time.Second) + `.5}`, 300 * time.Second},
		{"expires_in", `{"access_token":"` + jwt(`{"exp":`+in(time.Hour)+`}`) + `","expires_in":120}`, 120 * time.Second},
		{"payload", `{"access_token":"` + jwt(`{"exp":`+in(time.Hour)+`}`) + `"}`, time.Hour},
		{"payload without exp", `{"access_token":"` + jwt(`{}`) + `"}`, assumedLifetime},
		{"payload that is none", `{"access_token":"a.%%%.c"}`, assumedLifetime},
		{"nothing", `{"access_token":"t"}`, assumedLifetime},
		{"null", `{"access_token":"t","exp":null,"expires_in":null}`, assumedLifetime},
		{"nested", `{"data":{"access_token":"t","expires_in":60}}`, time.Minute},
		{"nested without expiry", `{"data":{"access_token":"t"}}`, assumedLifetime},
		{"beside an empty one", `{"access_token":"","data":{"access_token":"t"}}`, assumedLifetime},
		{"in the past", `{"access_token":"t","exp":` + in(-time.Hour) + `}`, -time.Hour},
		{"absurd", `{"access_token":"t","expires_in":1e300}`, 9e9 * time.Second},
		{"empty body", ``, 0},
		{"empty token", `{"access_token":""}`, 0},
		{"no token", `{"exp":1}`, 0},
		{"number", `{"access_token":5}`, 0},
		{"line break", `{"access_token":"a\nb"}`, 0},
		{"text", `OK`, 0},
		{"null body", `null`, 0},
		{"array", `["t"]`, 0},
	} {
		value, expiry, ok := readToken([]byte(test.body), now)
		if ok != (test.life != 0) || ok && (value == "" || expiry.Sub(now) != test.life) {
			t.Errorf("%s: got %q, %v, %v; want a life of %v", test.name, value, expiry.Sub(now), ok, test.life)
		}
	}
}

// FuzzReadToken: whatever the answer, no panic, and a token fits a header.
func FuzzReadToken(f *testing.F) {
	f.Add(`{"access_token":"t","exp":1772366400}`)
	f.Add(`{"data":{"access_token":"` + jwt(`{"exp":1e99}`) + `"}}`)
	f.Add("\ufeff{\"access_token\":\"a b\"}")
	f.Fuzz(func(t *testing.T, body string) {
		if value, _, ok := readToken([]byte(body), time.Unix(1772366400, 0)); ok && !sendable(value) {
			t.Errorf("token %q", value)
		}
	})
}

// give answers token calls with a life, and counts on from the name.
func give(life time.Duration) http.HandlerFunc {
	var n atomic.Int32
	return func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, `{"access_token":"given-%d","exp":%d}`, n.Add(1), time.Now().Add(life).Unix())
	}
}

func TestTokenIsRenewedBeforeItExpires(t *testing.T) {
	for _, test := range []struct{ life, renewed time.Duration }{
		{10 * time.Minute, 9 * time.Minute},
		{2 * time.Minute, time.Minute},
		{100 * time.Second, 50 * time.Second},
		{10 * time.Second, 5 * time.Second},
		{2 * time.Second, time.Second},
		// Nothing below a second's use, and ten minutes for a token that is
		// expired by our clock: no storm of token calls.
		{time.Second, time.Second},
		{0, 9 * time.Minute},
		{-time.Hour, 9 * time.Minute},
	} {
		t.Run(test.life.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := &platform{token: give(test.life)}
				c := client(t, virtual(t, p))
				authorize := func() Authorization {
					a, why, ok := c.Authorize(t.Context())
					if !ok {
						t.Fatalf("%+v", why)
					}
					synctest.Wait() // for a renewal in the background
					return a
				}
				authorize()
				time.Sleep(test.renewed - time.Millisecond)
				for range 10 {
					authorize()
				}
				if p.tokenCalls() != 1 {
					t.Errorf("%d token calls before %v", p.tokenCalls(), test.renewed)
				}
				time.Sleep(time.Millisecond)
				for range 10 {
					authorize()
				}
				if a := authorize(); p.tokenCalls() != 2 || a.header != "Bearer given-2" {
					t.Errorf("%d token calls after %v", p.tokenCalls(), test.renewed)
				}
			})
		})
	}
}

func TestHundredWorkersShareOneTokenCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &platform{token: func(w http.ResponseWriter, r *http.Request) {
			time.Sleep(time.Second)
			give(10*time.Minute)(w, r)
		}}
		c := client(t, virtual(t, p))
		// The worker who starts the call gives up; the others must not notice.
		first, giveUp := context.WithTimeout(t.Context(), time.Millisecond)
		defer giveUp()
		if _, why, ok := c.Authorize(first); ok || summary(why) != "unavailable not_sent none cancelled" {
			t.Errorf("the first got %s", summary(why))
		}
		var wg sync.WaitGroup
		for range 100 {
			wg.Go(func() {
				if a := insertOnce(t.Context(), t, c, doc); a.Verdict != Delivered {
					t.Errorf("got %+v", a)
				}
			})
		}
		wg.Wait()
		if p.tokenCalls() != 1 || p.inserts() != 100 {
			t.Errorf("%d token calls for %d inserts", p.tokenCalls(), p.inserts())
		}
	})
}

// revoked is an insert that knows which token is good.
type revoked struct{ good atomic.Value }

func (v *revoked) insert(w http.ResponseWriter, r *http.Request) {
	time.Sleep(10 * time.Millisecond)
	if r.Header.Get("Authorization") != v.good.Load() {
		answering(401, "Unauthorized")(w, r)
		return
	}
	answering(200, `{"_id":"x"}`)(w, r)
}

func TestHundredWorkersRenewOnceOnA401(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := &revoked{}
		v.good.Store("Bearer given-1")
		p := &platform{token: give(10 * time.Minute), insert: v.insert}
		cfg := virtual(t, p)
		cfg.MaxInFlight = 100
		c := client(t, cfg)
		old, _, _ := c.Authorize(t.Context())
		v.good.Store("Bearer given-2")
		var wg sync.WaitGroup
		for range 100 {
			wg.Go(func() {
				a := insertOnce(t.Context(), t, c, doc)
				if !a.Again || a.Effect != EffectNone || a.Verdict != Unavailable || a.Certainty != CertaintyRefused || a.Reason != "http_401" {
					t.Errorf("with the old token: %+v", a)
				}
				if a = insertOnce(t.Context(), t, c, doc); a.Verdict != Delivered {
					t.Errorf("with the new token: %+v", a)
				}
			})
		}
		wg.Wait()
		// A late answer to the old token must not drop the new one.
		if a := c.Insert(t.Context(), old, []byte(doc)); !a.Again {
			t.Errorf("late: %+v", a)
		}
		if a := insertOnce(t.Context(), t, c, doc); a.Verdict != Delivered || p.tokenCalls() != 2 {
			t.Errorf("after %d token calls: %+v", p.tokenCalls(), a)
		}
	})
}

// A new token that is refused as well is our configuration, or theirs: the
// gate closes, and each canary costs one token call and one insert.
func TestSecond401ClosesTheGate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := &revoked{}
		v.good.Store("")
		p := &platform{token: give(10 * time.Minute), insert: v.insert}
		c := client(t, virtual(t, p))
		if a := insertOnce(t.Context(), t, c, doc); !a.Again {
			t.Errorf("first: %+v", a)
		}
		for range 3 {
			if a := insertOnce(t.Context(), t, c, doc); a.Again || summary(a) != "unavailable refused closes http_401" {
				t.Errorf("second: %+v", a)
			}
		}
		if p.tokenCalls() != 4 || p.inserts() != 4 {
			t.Errorf("%d token calls, %d inserts", p.tokenCalls(), p.inserts())
		}
		// Once one was accepted, a later 401 is a renewal again.
		v.good.Store("Bearer given-5")
		if a := insertOnce(t.Context(), t, c, doc); a.Verdict != Delivered {
			t.Errorf("recovered: %+v", a)
		}
		v.good.Store("Bearer given-6")
		if a := insertOnce(t.Context(), t, c, doc); !a.Again {
			t.Errorf("later: %+v", a)
		}
		if a := insertOnce(t.Context(), t, c, doc); a.Verdict != Delivered {
			t.Errorf("renewed: %+v", a)
		}
	})
}

func Test401ThatNoRenewalCures(t *testing.T) {
	for name, test := range map[string]struct {
		auth   string
		insert http.HandlerFunc
		calls  int // for two inserts
	}{
		"basic":            {AuthBasic, answering(401, ""), 0},
		"with Retry-After": {AuthJWT, answering(401, "", "Retry-After", "9"), 2},
	} {
		p := &platform{insert: test.insert}
		cfg := tcp(t, p)
		cfg.Auth = test.auth
		c := client(t, cfg)
		for range 2 {
			if a := insertOnce(t.Context(), t, c, doc); a.Again || summary(a) != "unavailable refused closes http_401" {
				t.Errorf("%s: %+v", name, a)
			}
		}
		if p.tokenCalls() != test.calls {
			t.Errorf("%s: %d token calls", name, p.tokenCalls())
		}
	}
}

func TestTokenCallVerdicts(t *testing.T) {
	for _, test := range []struct {
		status  int
		body    string
		headers []string
		want    string
		wait    time.Duration
	}{
		{status: 200, want: "counts token_unreadable"},
		{status: 200, body: `{"access_token":""}`, want: "counts token_unreadable"},
		{status: 204, want: "counts token_unreadable"},
		{status: 200, body: "<html>Log in</html>", want: "closes not_the_api"},
		{status: 302, headers: []string{"Location", "/login"}, want: "closes redirected"},
		{status: 400, want: "closes token_unavailable"},
		{status: 401, body: "Unauthorized", want: "closes token_refused"},
		{status: 403, want: "closes token_refused"},
		{status: 422, want: "closes token_unavailable"},
		{status: 404, want: "closes http_404"},
		{status: 405, want: "closes http_405"},
		{status: 408, want: "counts token_unavailable"},
		{status: 429, want: "closes token_unavailable"},
		{status: 401, headers: []string{"Retry-After", "30"}, want: "closes token_unavailable", wait: 30 * time.Second},
		{status: 503, headers: []string{"Retry-After", "9999"}, want: "closes token_unavailable", wait: 5 * time.Minute},
		{status: 500, want: "counts token_unavailable"},
		{status: 502, want: "counts token_unavailable"},
		{status: 503, want: "counts token_unavailable"},
	} {
		c := client(t, tcp(t, &platform{token: answering(test.status, test.body, test.headers...)}))
		_, a, ok := c.Authorize(t.Context())
		if got := summary(a); ok || got != "unavailable not_sent "+test.want || a.RetryAfter != test.wait || a.Status != test.status || a.Body != "" || a.Err == nil {
			t.Errorf("%d %q: got %s after %v, %+v", test.status, test.body, got, a.RetryAfter, a)
		}
	}
}

func TestTokenCallThatGetsNoAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := client(t, virtual(t, &platform{token: func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }}))
		begun := time.Now()
		_, a, ok := c.Authorize(t.Context())
		if ok || summary(a) != "unavailable not_sent counts token_unavailable" || time.Since(begun) != 20*time.Second {
			t.Errorf("got %s after %v", summary(a), time.Since(begun))
		}
	})
}

// A wrong key on a shared account may lock it.
func TestRefusedCredentialsAreNotTriedAgainAndAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &platform{token: answering(401, "")}
		cfg := virtual(t, p)
		key := "wrong-key"
		cfg.APIKey = func() (string, error) { return key, nil }
		c := client(t, cfg)
		refused := func() {
			t.Helper()
			if _, a, ok := c.Authorize(t.Context()); ok || summary(a) != "unavailable not_sent closes token_refused" || a.RetryAfter != 0 {
				t.Errorf("got %+v", a)
			}
		}
		for end := time.Now().Add(refusalHold); time.Now().Before(end); time.Sleep(time.Second) {
			refused()
		}
		if p.tokenCalls() != 1 {
			t.Errorf("%d token calls within 5 minutes", p.tokenCalls())
		}
		time.Sleep(refusalHold / 5)
		refused()
		if p.tokenCalls() != 2 {
			t.Errorf("%d token calls after 6 minutes", p.tokenCalls())
		}
		// The file changes: at once.
		key = "another-wrong-key"
		refused()
		refused()
		if p.tokenCalls() != 3 {
			t.Errorf("%d token calls after the key changed", p.tokenCalls())
		}
		key, p.token = testKey, nil
		if a := insertOnce(t.Context(), t, c, doc); a.Verdict != Delivered {
			t.Errorf("with the right key: %+v", a)
		}
	})
}

func TestTokenCallWaitsForRetryAfter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &platform{token: answering(503, "", "Retry-After", "30")}
		c := client(t, virtual(t, p))
		for _, want := range []time.Duration{30 * time.Second, 20 * time.Second, 10 * time.Second} {
			if _, a, ok := c.Authorize(t.Context()); ok || a.RetryAfter != want {
				t.Errorf("got %v, want %v", a.RetryAfter, want)
			}
			time.Sleep(10 * time.Second)
		}
		if p.tokenCalls() != 1 {
			t.Errorf("%d token calls", p.tokenCalls())
		}
		p.token = nil
		if a := insertOnce(t.Context(), t, c, doc); a.Verdict != Delivered {
			t.Errorf("got %+v", a)
		}
	})
}

// While the token call fails, the old token serves to its end, and the call is
// not repeated with every insert.
func TestOldTokenServesWhileRenewalFails(t *testing.T) {
	for name, failing := range map[string]http.HandlerFunc{"down": answering(503, ""), "refused": answering(401, "")} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := &platform{}
				c := client(t, virtual(t, p))
				insertOnce(t.Context(), t, c, doc)
				p.token = failing
				time.Sleep(9 * time.Minute)
				for range 599 {
					if a := insertOnce(t.Context(), t, c, doc); a.Verdict != Delivered {
						t.Fatalf("got %+v", a)
					}
					time.Sleep(100 * time.Millisecond)
				}
				if n := p.tokenCalls(); n < 2 || n > 13 {
					t.Errorf("%d token calls in the last minute", n-1)
				}
				time.Sleep(100 * time.Millisecond)
				if _, a, ok := c.Authorize(t.Context()); ok {
					t.Errorf("an expired token serves: %+v", a)
				}
			})
		})
	}
}

func TestCredentialsThatCannotBeSent(t *testing.T) {
	broken := func() (string, error) { return "", errors.New("read credential: no such file") }
	for name, test := range map[string]struct {
		auth      string
		user, key secret.Source
		reason    string
	}{
		"no key":        {AuthJWT, secret.Literal(testUser), broken, ReasonCredentialUnreadable},
		"no user":       {AuthBasic, broken, secret.Literal(testKey), ReasonCredentialUnreadable},
		"empty user":    {AuthJWT, secret.Literal(""), secret.Literal(testKey), ReasonCredentialInvalid},
		"empty key":     {AuthBasic, secret.Literal(testUser), secret.Literal(""), ReasonCredentialInvalid},
		"colon in user": {AuthJWT, secret.Literal("a:b"), secret.Literal(testKey), ReasonCredentialInvalid},
		"two lines":     {AuthJWTBearer, nil, secret.Literal("a\nb"), ReasonCredentialInvalid},
	} {
		p := &platform{}
		cfg := tcp(t, p)
		cfg.Auth, cfg.User, cfg.APIKey = test.auth, test.user, test.key
		_, a, ok := client(t, cfg).Authorize(t.Context())
		if ok || summary(a) != "unavailable not_sent closes "+test.reason || a.Err == nil || p.tokenCalls() != 0 {
			t.Errorf("%s: %+v", name, a)
		}
	}
}

func TestCloseEndsATokenCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := client(t, virtual(t, &platform{token: func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }}))
		var wg sync.WaitGroup
		authorize := func() {
			if _, a, ok := c.Authorize(t.Context()); ok || a.Reason != ReasonCancelled {
				t.Errorf("got %+v", a)
			}
		}
		begun := time.Now()
		wg.Go(authorize)
		synctest.Wait()
		c.Close()
		wg.Wait()
		authorize() // and none begins
		if time.Since(begun) != 0 {
			t.Errorf("it took %v", time.Since(begun))
		}
	})
}

// Whatever a later answer echoes, the current and the previous token are known
// to the Redactor.
func TestTokensAreRedacted(t *testing.T) {
	v := &revoked{}
	v.good.Store("")
	p := &platform{token: give(time.Hour), insert: v.insert}
	cfg := tcp(t, p)
	c := client(t, cfg)
	insertOnce(t.Context(), t, c, doc)
	insertOnce(t.Context(), t, c, doc)
	if got := cfg.Redactor.Redact("given-1 given-2"); strings.Contains(got, "given") || p.tokenCalls() != 2 {
		t.Errorf("got %q after %d token calls", got, p.tokenCalls())
	}
}

// The base64 of a short key in the midst of Basic credentials is too short to
// be looked for; the whole of them is not.
func TestBasicCredentialsAreRedacted(t *testing.T) {
	cfg := config("https://stellar.invalid")
	cfg.Auth, cfg.APIKey = AuthBasic, secret.Literal("k3y")
	c := client(t, cfg)
	if _, why, ok := c.Authorize(t.Context()); !ok {
		t.Fatalf("%+v", why)
	}
	if got := cfg.Redactor.Redact("Basic " + base64.StdEncoding.EncodeToString([]byte(testUser+":k3y"))); got != "Basic [redacted]" {
		t.Errorf("got %q", got)
	}
}
