package kafka

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"serbridge/bridge/secret"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl"
	"github.com/twmb/franz-go/pkg/sasl/oauth"
	"golang.org/x/oauth2"
	"golang.org/x/oauth2/clientcredentials"
)

const (
	fetchTimeout  = 10 * time.Second // one token call
	unknownLife   = time.Minute      // of a token whose answer does not say
	failureShared = time.Second      // those who waited for a failed call get its error instead of calling one after another
	refusedAgain  = 30 * time.Second // a refused token is replaced at most this often
)

// errTokenRefused is a broker's answer to a token.
var errTokenRefused = errors.New("the broker refuses the token")

// tokens is the OAUTHBEARER mechanism: one token of the client credentials grant for all connections, renewed before it ends.
type tokens struct {
	id, secret secret.Source
	url        string
	scopes     []string
	http       *http.Client
	redactor   *secret.Redactor

	turn chan struct{} // holds one token while a call is under way; guards what follows

	token   string
	fetched time.Time
	renewAt time.Time
	failure error
	retryAt time.Time
}

func (c Config) newTokens() *tokens {
	return &tokens{
		id: c.source(varOAuthID, c.OAuthClientID), secret: c.source(varOAuthSecret, c.OAuthClientSecret),
		url: c.OAuthTokenURL, scopes: c.OAuthScopes, redactor: c.Redactor,
		http: &http.Client{
			// A redirect would carry the client's secret to another host.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
			Transport: &http.Transport{
				Proxy: http.ProxyFromEnvironment, DialContext: c.Dialer,
				DisableKeepAlives: true, // one call per life of a token
			},
			Timeout: fetchTimeout,
		},
		turn: make(chan struct{}, 1),
	}
}

// Name implements [sasl.Mechanism].
func (t *tokens) Name() string { return OAuthBearer }

// Authenticate implements [sasl.Mechanism].
func (t *tokens) Authenticate(ctx context.Context, host string) (sasl.Session, []byte, error) {
	token, err := t.get(ctx)
	if err != nil {
		return nil, nil, err
	}
	_, first, err := oauth.Auth{Token: token}.AsMechanism().Authenticate(ctx, host)
	return answer{}, first, err
}

// answer is the broker's side: nothing, or why it refuses (RFC 7628, 3.2.2), which the library's own session does not pass on.
type answer struct{}

func (answer) Challenge(body []byte) (bool, []byte, error) {
	if len(body) == 0 {
		return true, nil, nil
	}
	return false, nil, &SettingError{varTokenURL, fmt.Errorf("%w it gave: %.200q: check %s, and the issuer and audience that the broker expects", errTokenRefused, body, varOAuthScopes)}
}

// OnBrokerConnect implements [kgo.HookBrokerConnect]: a token that a broker refuses is not used until it ends.
func (t *tokens) OnBrokerConnect(_ kgo.BrokerMetadata, _ time.Duration, _ net.Conn, err error) {
	if !errors.Is(err, errTokenRefused) && !errors.Is(err, kerr.SaslAuthenticationFailed) {
		return
	}
	t.turn <- struct{}{} // held for one call at most
	defer func() { <-t.turn }()
	if time.Since(t.fetched) >= refusedAgain {
		t.token = ""
	}
}

func (t *tokens) get(ctx context.Context) (string, error) {
	select {
	case t.turn <- struct{}{}:
		defer func() { <-t.turn }()
	case <-ctx.Done():
		return "", ctx.Err()
	}
	now := time.Now()
	if t.token != "" && now.Before(t.renewAt) {
		return t.token, nil
	}
	if now.Before(t.retryAt) {
		return "", t.failure
	}
	token, err := t.fetch(ctx)
	if err != nil {
		t.failure, t.retryAt = err, time.Now().Add(failureShared)
		return "", err
	}
	t.redactor.Add(token.AccessToken)
	life := unknownLife
	if !token.Expiry.IsZero() {
		life = time.Until(token.Expiry)
	}
	// The client authenticates again when 2 to 5 % of a token's life are left; it must get a new one then.
	t.token, t.fetched, t.renewAt = token.AccessToken, now, now.Add(life-life/10)
	return t.token, nil
}

func (t *tokens) fetch(ctx context.Context) (*oauth2.Token, error) {
	id, err := t.id()
	if err != nil {
		return nil, err
	}
	key, err := t.secret()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.WithValue(ctx, oauth2.HTTPClient, t.http), fetchTimeout)
	defer cancel()
	grant := clientcredentials.Config{ClientID: id, ClientSecret: key, TokenURL: t.url, Scopes: t.scopes}
	token, err := grant.Token(ctx)
	if err != nil {
		return nil, tokenError(err)
	}
	return token, nil
}

// tokenError keeps of a failed call what helps and cannot hold a secret: neither the URL nor the answer's body.
func tokenError(err error) error {
	var refused *oauth2.RetrieveError
	if errors.As(err, &refused) {
		text := "answers " + strconv.Itoa(refused.Response.StatusCode)
		if refused.ErrorCode != "" {
			text += " " + strconv.QuoteToASCII(refused.ErrorCode[:min(len(refused.ErrorCode), 64)])
		}
		return setting(varTokenURL, text+": check "+varOAuthID+", "+varOAuthSecret+", "+varOAuthScopes+" and this address")
	}
	var call *url.Error
	if errors.As(err, &call) {
		return &SettingError{varTokenURL, fmt.Errorf("cannot be reached: %w", call.Err)}
	}
	return &SettingError{varTokenURL, errors.New("answers what is no token: check this address")}
}
