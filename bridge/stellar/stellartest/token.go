package stellartest

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"maps"
	"net/http"
	"strings"
	"sync"
	"time"
)

// tokens are the credentials and the tokens issued for them.
type tokens struct {
	mu       sync.Mutex
	user     string
	key      string
	lifetime time.Duration
	now      func() time.Time
	secret   [32]byte // makes the tokens of two simulators differ
	count    uint64
	issued   map[string]token
}

type token struct {
	expires time.Time
	scoped  bool // issued for a Bearer key
}

func (t *tokens) init(cfg Config) {
	t.user, t.key, t.lifetime, t.now = cfg.User, cfg.APIKey, cfg.TokenLifetime, cfg.Now
	t.issued = make(map[string]token)
	rand.Read(t.secret[:])
}

// SetCredentials replaces user and key, as when the key is generated anew. Tokens already issued stay good.
func (s *Server) SetCredentials(user, apiKey string) {
	s.tokens.mu.Lock()
	defer s.tokens.mu.Unlock()
	s.tokens.user, s.tokens.key = user, apiKey
}

// RevokeTokens makes every token issued so far answer 401.
func (s *Server) RevokeTokens() {
	s.tokens.mu.Lock()
	defer s.tokens.mu.Unlock()
	clear(s.tokens.issued)
}

func (t *tokens) revoke(token string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.issued, token)
}

// issue makes a token. Expired ones are swept when there are many, so that years of renewals fit.
func (t *tokens) issue(scoped bool, form TokenForm) (jwt string, expires time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := t.now()
	expires = now.Add(t.lifetime)
	claimed := expires
	if form == TokenExpired {
		claimed = now.Add(-time.Minute)
	}
	t.count++
	jwt = t.sign(claimed, form)
	if len(t.issued) >= 1000 {
		maps.DeleteFunc(t.issued, func(_ string, old token) bool { return !now.Before(old.expires) })
	}
	t.issued[jwt] = token{expires: expires, scoped: scoped}
	return jwt, claimed
}

// sign makes the text of a token: three parts, the last one only looking like a signature, since we keep the list.
func (t *tokens) sign(claimed time.Time, form TokenForm) string {
	payload := fmt.Sprintf(`{"jti":%d,"exp":%d}`, t.count, claimed.Unix())
	if form == TokenOpaque {
		payload = fmt.Sprintf(`{"jti":%d}`, t.count)
	}
	sum := sha256.Sum256(binary.BigEndian.AppendUint64(t.secret[:], t.count))
	enc := base64.RawURLEncoding.EncodeToString
	return enc([]byte(`{"alg":"HS256","typ":"JWT"}`)) + "." + enc([]byte(payload)) + "." + enc(sum[:])
}

// accepts says whether the request carries a good token or, where the variant allows it, the user and key.
func (t *tokens) accepts(r *http.Request, form AuthForm) (tok token, ok bool) {
	if user, key, basic := r.BasicAuth(); basic {
		return token{}, form == AuthAll && t.known(user, key)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	tok, ok = t.issued[bearer(r)]
	return tok, ok && t.now().Before(tok.expires)
}

func (t *tokens) known(user, key string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return user == t.user && key == t.key
}

// entitled says whether the token call's own authentication is good, and whether it is a scoped one.
func (t *tokens) entitled(r *http.Request, form AuthForm) (scoped, ok bool) {
	if user, key, basic := r.BasicAuth(); basic {
		return false, form != AuthScoped && t.known(user, key)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return true, form != AuthNoBasic && bearer(r) != "" && bearer(r) == t.key
}

// bearer is the request's Bearer credential, "" without one.
func bearer(r *http.Request) string {
	if scheme, value, ok := strings.Cut(r.Header.Get("Authorization"), " "); ok && strings.EqualFold(scheme, "Bearer") {
		return strings.TrimSpace(value)
	}
	return ""
}

// issueToken answers the token call.
func (s *Server) issueToken(r *http.Request, v *activeVariant) answer {
	if r.Method != http.MethodPost {
		return MethodNotAllowed().answer()
	}
	scoped, ok := s.tokens.entitled(r, v.Auth)
	if !ok {
		return Unauthorized().answer()
	}
	jwt, expires := s.tokens.issue(scoped, v.Token)
	body := fmt.Sprintf(`{"access_token":"%s","exp":%d}`, jwt, expires.Unix())
	switch v.Token {
	case TokenExpiresIn:
		body = fmt.Sprintf(`{"access_token":"%s","expires_in":%d}`, jwt, int(s.cfg.TokenLifetime/time.Second))
	case TokenData:
		body = `{"data":` + body + `}`
	case TokenClaim, TokenOpaque:
		body = fmt.Sprintf(`{"access_token":"%s"}`, jwt)
	}
	return jsonAnswer(http.StatusOK, body)
}
