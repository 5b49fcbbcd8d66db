package stellartest

import (
	"encoding/base64"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-json-experiment/json"
)

// login makes the token call and puts the token into the Authorization header of later requests.
func (p *platform) login(auth string) reply {
	p.auth = auth
	got := p.do("POST", TokenPath, "")
	var v struct {
		Token string `json:"access_token"`
		Data  struct {
			Token string `json:"access_token"`
		} `json:"data"`
	}
	if got.status == 200 {
		if err := json.Unmarshal([]byte(got.body), &v); err != nil {
			p.t.Fatal(err)
		}
		p.auth = "Bearer " + v.Token + v.Data.Token
	}
	return got
}

func basic(user, key string) string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+key))
}

func TestTokenForms(t *testing.T) {
	for form, want := range map[TokenForm]struct {
		answer  []string // keys, of the answer and below data
		exp     int64    // 0: none
		payload int64
	}{
		TokenExp:       {[]string{"access_token", "exp"}, 1600, 1600},
		TokenExpiresIn: {[]string{"access_token", "expires_in"}, 600, 1600},
		TokenData:      {[]string{"data", "access_token", "exp"}, 1600, 1600},
		TokenClaim:     {[]string{"access_token"}, 0, 1600},
		TokenOpaque:    {[]string{"access_token"}, 0, 0},
		TokenExpired:   {[]string{"access_token", "exp"}, 940, 940},
	} {
		p := overTCP(t, Config{Variant: Variant{Token: form}, Now: func() time.Time { return time.Unix(1000, 0) }})
		got := p.login(basic(DefaultUser, DefaultAPIKey))
		for _, key := range want.answer {
			if !strings.Contains(got.body, `"`+key+`":`) {
				t.Errorf("%q: %s lacks %s", form, got.body, key)
			}
		}
		var v struct {
			Exp     int64 `json:"exp"`
			Seconds int64 `json:"expires_in"`
			Data    struct {
				Exp int64 `json:"exp"`
			} `json:"data"`
		}
		if err := json.Unmarshal([]byte(got.body), &v); err != nil || v.Exp+v.Seconds+v.Data.Exp != want.exp {
			t.Errorf("%q: %s, want expiry %d", form, got.body, want.exp)
		}
		parts := strings.Split(strings.TrimPrefix(p.auth, "Bearer "), ".")
		payload, err := base64.RawURLEncoding.DecodeString(parts[1])
		v.Exp = 0
		if err != nil || len(parts) != 3 || json.Unmarshal(payload, &v) != nil || v.Exp != want.payload {
			t.Errorf("%q: payload %s, want expiry %d", form, payload, want.payload)
		}
		if got := p.insert(document("k")); got.status != 200 {
			t.Errorf("%q: the token is not accepted: %+v", form, got)
		}
	}
}

func TestAuthentications(t *testing.T) {
	user, scoped, wrong := basic(DefaultUser, DefaultAPIKey), "Bearer "+DefaultAPIKey, basic(DefaultUser, "no")
	for _, c := range []struct {
		name    string
		variant Variant
		token   string // authorization of the token call; "": none is made, insert uses then
		then    string
		login   int
		insert  int
		search  int
	}{
		{"basic on everything", Variant{}, "", user, 0, 200, 200},
		{"jwt", Variant{}, user, "", 200, 200, 200},
		{"jwt of a bearer key", Variant{}, scoped, "", 200, 200, 200},
		{"wrong key", Variant{}, wrong, "", 401, 401, 401},
		{"wrong basic", Variant{}, "", wrong, 0, 401, 401},
		{"folded user", Variant{}, basic(strings.ToUpper(DefaultUser), DefaultAPIKey), "", 401, 401, 401},
		{"nothing", Variant{}, "", "None", 0, 401, 401},
		{"empty bearer", Variant{}, "Bearer ", "", 401, 401, 401},
		{"the key as token", Variant{}, "", scoped, 0, 401, 401},
		{"invented token", Variant{}, "", "Bearer a.b.c", 0, 401, 401},
		{"5.5: basic refused", Variant{Auth: AuthNoBasic}, "", user, 0, 401, 401},
		{"5.5: jwt", Variant{Auth: AuthNoBasic}, user, "", 200, 200, 200},
		{"no bearer keys", Variant{Auth: AuthNoBasic}, scoped, "", 401, 401, 401},
		{"bearer keys only", Variant{Auth: AuthScoped}, scoped, "", 200, 200, 200},
		{"bearer keys only, basic token call", Variant{Auth: AuthScoped}, user, "", 401, 401, 401},
		{"scoped insert refused", Variant{ScopedInsert: true}, scoped, "", 200, 403, 200},
		{"scoped insert refused, not for others", Variant{ScopedInsert: true}, user, "", 200, 200, 200},
		{"scoped search refused", Variant{Search: SearchNotScoped}, scoped, "", 200, 200, 403},
		{"scoped search refused, not for others", Variant{Search: SearchNotScoped}, user, "", 200, 200, 200},
		{"search refused", Variant{Search: SearchRefused}, user, "", 200, 200, 403},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := overTCP(t, Config{Variant: c.variant})
			p.auth = c.then
			if c.token != "" {
				if got := p.login(c.token); got.status != c.login {
					t.Errorf("token call: %+v, want %d", got, c.login)
				}
			}
			if got := p.insert(document("k")); got.status != c.insert {
				t.Errorf("insert: %+v, want %d", got, c.insert)
			}
			if got := p.do("GET", DataPath+"aella-ser-*/_search", ""); got.status != c.search {
				t.Errorf("search: %+v, want %d", got, c.search)
			}
		})
	}
}

func TestTokensEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := inBubble(t, Config{})
		p.login(basic(DefaultUser, DefaultAPIKey))
		<-time.After(DefaultTokenLifetime - time.Second)
		if got := p.insert(document("k")); got.status != 200 {
			t.Errorf("a second before the end: %+v", got)
		}
		<-time.After(time.Second)
		if got := p.insert(document("k")); got.status != 401 {
			t.Errorf("at the end: %+v", got)
		}
		p.login(basic(DefaultUser, DefaultAPIKey))
		other := p.auth
		p.login(basic(DefaultUser, DefaultAPIKey))
		if other == p.auth {
			t.Error("two tokens are the same")
		}
		p.Script(Sequence(Revoked()))
		if a, b := p.insert(document("k")), p.insert(document("k")); a.status != 401 || b.status != 401 {
			t.Errorf("after Revoked: %d, %d", a.status, b.status)
		}
		if p.auth = other; p.insert(document("k")).status != 200 {
			t.Error("Revoked dropped another token")
		}
		p.RevokeTokens()
		if got := p.insert(document("k")); got.status != 401 {
			t.Errorf("after RevokeTokens: %+v", got)
		}
		p.SetCredentials("new@example.com", "new-key")
		if got := p.login(basic(DefaultUser, DefaultAPIKey)); got.status != 401 {
			t.Errorf("old credentials: %+v", got)
		}
		if got := p.login(basic("new@example.com", "new-key")); got.status != 200 || p.insert(document("k")).status != 200 {
			t.Errorf("new credentials: %+v", got)
		}
		p.SetCredentials("new@example.com", "")
		if got := p.login("None"); got.status != 401 {
			t.Errorf("no credentials, while the key is empty: %+v", got)
		}
		if got := p.do("GET", TokenPath, ""); got.status != 405 {
			t.Errorf("GET of a token: %+v", got)
		}
	})
}

func TestExpiredTokensAreSwept(t *testing.T) {
	now := time.Unix(0, 0)
	s := New(Config{Now: func() time.Time { return now }})
	for range 5000 {
		s.tokens.issue(false, TokenExp)
		now = now.Add(time.Second)
	}
	if n := len(s.tokens.issued); n > 1000 {
		t.Errorf("%d tokens are kept", n)
	}
}
