package stellar

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	json "github.com/go-json-experiment/json"
)

const (
	renewalMargin   = time.Minute      // before its expiry a token is renewed
	assumedLifetime = 10 * time.Minute // of a token that does not say; the documented one
	// leastUse bounds token calls where tokens live for less, or for no time
	// at all.
	leastUse = time.Second
	// refusalHold is how long no token is asked for after a refusal: a wrong
	// key on a shared account may lock it.
	refusalHold = 5 * time.Minute
	// renewalPause is between two early renewals, while the old token serves.
	renewalPause = 5 * time.Second
)

// Authorization is the right to make a call. It holds a credential and prints
// as [redacted].
type Authorization struct {
	header     string
	generation uint64 // of the token; 0 with basic
}

// String hides the credential.
func (Authorization) String() string { return "[redacted]" }

// GoString hides the credential.
func (Authorization) GoString() string { return "[redacted]" }

// token is one that the API gave.
type token struct {
	value      string // empty: none, or dropped
	header     string // as it is sent
	generation uint64
	expiry     time.Time
	renew      time.Time // from here on another is fetched
	dropped    bool      // because of a 401
	suspect    bool      // its predecessor was dropped so, and it was never accepted
}

func (t token) authorization() Authorization {
	return Authorization{header: t.header, generation: t.generation}
}

// tokens is the cache of one token, and of the last refusal.
type tokens struct {
	mu     sync.Mutex
	latest token
	flight *flight
	hold   hold
	// notYet delays an early renewal after one that failed.
	notYet time.Time
}

// flight is a token call, shared by all who wait for it. It belongs to the
// Client: the caller who started it may leave without ending it for the rest.
type flight struct {
	done   chan struct{} // closed when the rest is set
	auth   Authorization
	answer Answer
	ok     bool
}

// hold is an answer that stands until a time, without another token call.
type hold struct {
	until      time.Time
	answer     Answer
	credential string // that was refused; another one lifts the hold
}

// Authorize returns the right to make a call: with AuthBasic the credentials,
// else a token, from the cache or by one call that all callers share. A token
// is renewed a minute before its expiry, or at half its life if it lives for
// less than two; meanwhile, and as long as the renewal fails, the old one
// serves until it expires.
//
// When ok is false the Answer says why: unavailable and not_sent. After the
// API refused the credentials it says so at once, for 5 to 6 minutes or until
// they change.
func (c *Client) Authorize(ctx context.Context) (auth Authorization, why Answer, ok bool) {
	if c.cfg.Auth == AuthBasic {
		header, why := c.credential()
		return Authorization{header: header}, why, why.Reason == ""
	}
	f, auth, why := c.grasp(time.Now())
	if f == nil {
		return auth, why, why.Reason == ""
	}
	select {
	case <-f.done:
		return f.auth, f.answer, f.ok
	case <-ctx.Done():
		return Authorization{}, c.unauthorized(ReasonCancelled, EffectNone, context.Cause(ctx)), false
	}
}

// TokenExpiry returns when the token in use expires; false when there is none.
func (c *Client) TokenExpiry() (time.Time, bool) {
	c.tokens.mu.Lock()
	defer c.tokens.mu.Unlock()
	return c.tokens.latest.expiry, c.tokens.latest.value != ""
}

// grasp returns a token call to wait for, or what is to be had without one.
func (c *Client) grasp(now time.Time) (*flight, Authorization, Answer) {
	t := &c.tokens
	t.mu.Lock()
	defer t.mu.Unlock()
	serves := t.latest.value != "" && now.Before(later(t.latest.expiry, t.latest.renew))
	if serves && (now.Before(t.latest.renew) || now.Before(t.notYet)) {
		return nil, t.latest.authorization(), Answer{}
	}
	if why, held := c.held(now); held {
		if serves {
			return nil, t.latest.authorization(), Answer{}
		}
		return nil, Authorization{}, why
	}
	if t.flight == nil {
		if c.life.Err() != nil {
			return nil, Authorization{}, c.unauthorized(ReasonCancelled, EffectNone, errClosed)
		}
		f := &flight{done: make(chan struct{})}
		t.flight = f
		c.wg.Go(func() { c.fly(f) })
	}
	if serves {
		return nil, t.latest.authorization(), Answer{}
	}
	return t.flight, Authorization{}, Answer{}
}

var errClosed = errors.New("the client is closed")

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// held reports whether the last answer of the token call still stands. It
// reads the credentials under the lock, which nobody else wants meanwhile.
func (c *Client) held(now time.Time) (Answer, bool) {
	h := &c.tokens.hold
	if !now.Before(h.until) {
		return Answer{}, false
	}
	if h.credential != "" {
		if credential, why := c.credential(); why.Reason == "" && credential != h.credential {
			*h = hold{}
			return Answer{}, false
		}
	}
	why := h.answer
	if why.RetryAfter > 0 {
		why.RetryAfter = h.until.Sub(now)
	}
	return why, true
}

// fly makes the token call of f and lands it. Its context is the Client's, its
// bound the Timeout.
func (c *Client) fly(f *flight) {
	var o outcome
	credential, why := c.credential()
	if why.Reason == "" {
		o = c.exchange(c.life, maxBody, request{head: head{
			method: http.MethodPost, target: tokenPath, authorization: credential, contentType: "application/x-www-form-urlencoded",
		}})
	}
	now := time.Now()
	t := &c.tokens
	t.mu.Lock()
	defer t.mu.Unlock()
	defer close(f.done)
	t.flight = nil
	if why.Reason != "" {
		f.answer = why
		return
	}
	value, expiry, found := "", time.Time{}, false
	if o.failure == "" && o.status/100 == 2 {
		value, expiry, found = readToken(o.body, now)
	}
	if !found {
		f.answer = c.missed(o, credential, now)
		return
	}
	c.remember("token", value)
	t.take(value, expiry, now)
	f.auth, f.ok = t.latest.authorization(), true
	c.log.Debug("a token was fetched", "expires", t.latest.expiry)
}

// take makes value the latest token.
func (t *tokens) take(value string, expiry, now time.Time) {
	life := expiry.Sub(now)
	if life <= 0 {
		// It was made a moment ago, so a clock is wrong, theirs or ours. A
		// 401 will tell if it is not; asking again would not help.
		life = assumedLifetime
		expiry = now.Add(life)
	}
	t.latest = token{
		value:      value,
		header:     "Bearer " + value,
		generation: t.latest.generation + 1,
		expiry:     expiry,
		renew:      later(expiry.Add(-min(renewalMargin, life/2)), now.Add(leastUse)),
		suspect:    t.latest.dropped,
	}
	t.hold, t.notYet = hold{}, time.Time{}
}

// missed is the answer to a token call that gave none.
func (c *Client) missed(o outcome, credential string, now time.Time) Answer {
	t := &c.tokens
	a := judgeToken(o, now)
	a.Err = c.clean(describe("get a token", a, o))
	switch {
	case a.Reason == ReasonTokenRefused:
		wait := refusalHold + rand.N(refusalHold/5)
		t.hold = hold{until: now.Add(wait), answer: a, credential: credential}
		c.log.Warn("the Stellar Cyber API refused the credentials: no token is asked for until they change or the time is up",
			"status", a.Status, "wait", wait)
	case a.RetryAfter > 0:
		t.hold = hold{until: now.Add(a.RetryAfter), answer: a}
	}
	t.notYet = now.Add(renewalPause + rand.N(renewalPause))
	return a
}

// judgeToken is the verdict of a token call that gave no token. Nothing was
// inserted, so it is always unavailable and not_sent.
func judgeToken(o outcome, now time.Time) Answer {
	a := Answer{Verdict: Unavailable, Certainty: CertaintyNotSent, Effect: EffectCounts, Status: o.status}
	wait, hasWait := retryAfter(o.said.retryAfter, now)
	is2xx := o.status/100 == 2
	set := func(e Effect, reason string) Answer {
		a.Effect, a.Reason = e, reason
		return a
	}
	switch s := o.status; {
	case o.failure == ReasonCancelled:
		return set(EffectNone, ReasonCancelled)
	case o.failure == ReasonDNSFailed, o.failure == ReasonDialFailed, o.failure == ReasonTLSFailed, o.failure == ReasonProxyFailed:
		return set(EffectCounts, o.failure)
	case o.failure != "":
		return set(EffectCounts, ReasonTokenUnavailable)
	case s == http.StatusTooManyRequests, hasWait && !is2xx:
		a.RetryAfter = wait
		return set(EffectCloses, ReasonTokenUnavailable)
	case is2xx && isHTML(o.said.contentType, o.body):
		return set(EffectCloses, ReasonNotTheAPI)
	case is2xx:
		return set(EffectCounts, ReasonTokenUnreadable)
	case s >= 300 && s < 400:
		return set(EffectCloses, ReasonRedirected)
	case s == http.StatusNotFound, s == http.StatusMethodNotAllowed:
		return set(EffectCloses, httpReason(s))
	case s == http.StatusUnauthorized, s == http.StatusForbidden:
		return set(EffectCloses, ReasonTokenRefused)
	case s >= 400 && s < 500 && s != http.StatusRequestTimeout: // not about the credentials: a wrong address or a proxy
		return set(EffectCloses, ReasonTokenUnavailable)
	}
	return set(EffectCounts, ReasonTokenUnavailable)
}

// refused drops the token of a call that was answered 401, and reports
// whether a new one may help: not when this one was itself fetched because of
// a 401 and never accepted since. Of many calls with one token only the first
// drops it, and all may go again.
func (t *tokens) refused(auth Authorization) (again bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if auth.generation == 0 {
		return false // basic: there is nothing to renew
	}
	if auth.generation != t.latest.generation {
		return true
	}
	t.latest.value, t.latest.dropped = "", true
	return !t.latest.suspect
}

func (t *tokens) accepted(auth Authorization) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if auth.generation == t.latest.generation {
		t.latest.suspect = false
	}
}

// credential reads the credentials as they are sent: to the token call, or
// with AuthBasic to every call. The Answer has a Reason when there are none.
func (c *Client) credential() (string, Answer) {
	key, err := c.cfg.APIKey()
	if err != nil {
		return "", c.unauthorized(ReasonCredentialUnreadable, EffectCloses, err)
	}
	if c.cfg.Auth == AuthJWTBearer {
		c.remember("key", key)
		if !sendable(key) {
			return "", c.unauthorized(ReasonCredentialInvalid, EffectCloses, errors.New("the API key is empty or holds blanks or line breaks"))
		}
		return "Bearer " + key, Answer{}
	}
	user, err := c.cfg.User()
	if err != nil {
		return "", c.unauthorized(ReasonCredentialUnreadable, EffectCloses, err)
	}
	if header := c.basic.of(user, key); header != "" {
		return header, Answer{}
	}
	c.remember("key", key)
	if key == "" || user == "" || strings.Contains(user, ":") {
		return "", c.unauthorized(ReasonCredentialInvalid, EffectCloses, errors.New("the user is empty or holds a colon, or the API key is empty"))
	}
	basic := base64.StdEncoding.EncodeToString([]byte(user + ":" + key))
	c.remember("basic", basic)
	return c.basic.set(user, key, "Basic "+basic), Answer{}
}

// basic is the header of the user and the key that were read last, which with
// AuthBasic are read for every call.
type basic struct {
	mu                sync.Mutex
	user, key, header string
}

// of returns the header for a user and a key, empty if these are others.
func (b *basic) of(user, key string) string {
	b.mu.Lock()
	defer b.mu.Unlock()
	if user != b.user || key != b.key {
		return ""
	}
	return b.header
}

func (b *basic) set(user, key, header string) string {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.user, b.key, b.header = user, key, header
	return header
}

// unauthorized is the answer when no call was made.
func (c *Client) unauthorized(reason string, e Effect, err error) Answer {
	return Answer{
		Verdict: Unavailable, Certainty: CertaintyNotSent, Effect: e, Reason: reason,
		Err: c.clean(fmt.Errorf("authorize: %s: %w", Explain(reason), err)),
	}
}

// sendable reports whether v can stand in a header without being changed.
func sendable(v string) bool {
	for i := range len(v) {
		if v[i] <= ' ' || v[i] > '~' {
			return false
		}
	}
	return v != ""
}

// readToken finds the token in an answer, and its expiry: exp, else
// expires_in, else that of the JWT itself, else ten minutes from now.
func readToken(body []byte, now time.Time) (value string, expiry time.Time, ok bool) {
	var answer map[string]any
	if json.Unmarshal(trim(body), &answer, lenient) != nil {
		return "", time.Time{}, false
	}
	data, _ := answer["data"].(map[string]any)
	value, _ = answer["access_token"].(string)
	if value == "" {
		value, _ = data["access_token"].(string)
	}
	if !sendable(value) {
		return "", time.Time{}, false
	}
	for _, m := range []map[string]any{answer, data} {
		if s, ok := number(m["exp"]); ok {
			return value, time.Unix(s, 0), true
		}
		if s, ok := number(m["expires_in"]); ok {
			return value, now.Add(time.Duration(s) * time.Second), true
		}
	}
	if s, ok := jwtExpiry(value); ok {
		return value, time.Unix(s, 0), true
	}
	return value, now.Add(assumedLifetime), true
}

// jwtExpiry reads the claim exp of a JWT, unverified: it is the API's to judge
// the token, we only want to know how long it will be good for.
func jwtExpiry(token string) (int64, bool) {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return 0, false
	}
	payload, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(parts[1], "="))
	if err != nil {
		return 0, false
	}
	var claims map[string]any
	if json.Unmarshal(bytes.TrimSpace(payload), &claims, lenient) != nil {
		return 0, false
	}
	return number(claims["exp"])
}

// number reads seconds, written as a number or as text, within what a
// time.Duration holds.
func number(v any) (int64, bool) {
	f, ok := v.(float64)
	if s, isText := v.(string); isText {
		var err error
		f, err = strconv.ParseFloat(s, 64)
		ok = err == nil && f == f
	}
	const most = 9e9 // 285 years
	return int64(max(-most, min(f, most))), ok
}
