package kafka

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"serbridge/bridge/secret"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
)

// idp is a token server on a virtual network, in one synctest bubble.
type idp struct {
	t       *testing.T
	net     kfake.VirtualNetwork
	handler http.HandlerFunc // answers instead, if set
	mu      sync.Mutex
	calls   int
	forms   []string
}

func newIDP(t *testing.T) *idp {
	s := &idp{t: t}
	l, err := s.net.Listen("tcp", "localhost:80")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: s}
	go server.Serve(l)
	t.Cleanup(func() { server.Close() })
	return s
}

// ServeHTTP answers with t0ken-1, t0ken-2, … which live for an hour.
func (s *idp) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	s.calls++
	n := s.calls
	r.ParseForm()
	id, key, _ := r.BasicAuth()
	s.forms = append(s.forms, id+":"+key+" "+r.PostForm.Encode())
	s.mu.Unlock()
	if s.handler != nil {
		s.handler(w, r)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(map[string]any{"access_token": fmt.Sprint("t0ken-", n), "token_type": "Bearer", "expires_in": 3600})
}

func (s *idp) tokens() *tokens {
	return Config{
		OAuthTokenURL: "http://localhost/token", OAuthClientID: secret.Literal("bridge"), OAuthClientSecret: secret.Literal("r1ght"),
		OAuthScopes: []string{"kafka", "more"}, Dialer: s.net.DialContext, Redactor: new(secret.Redactor),
	}.newTokens()
}

// login is the first message to a broker.
func login(t *testing.T, tk *tokens) (string, error) {
	t.Helper()
	session, first, err := tk.Authenticate(context.Background(), "broker:9092")
	if err != nil {
		return "", err
	}
	if done, _, err := session.Challenge(nil); !done || err != nil {
		t.Errorf("an accepted token: %v, %v", done, err)
	}
	return string(first), nil
}

func TestTokenIsFetchedOnceForAllConnections(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newIDP(t)
		tk := s.tokens()
		var all sync.WaitGroup
		for range 20 {
			all.Go(func() {
				if first, err := login(t, tk); err != nil || !strings.Contains(first, "Bearer t0ken-1") {
					t.Errorf("login %q, %v", first, err)
				}
			})
		}
		all.Wait()
		if want := "bridge:r1ght grant_type=client_credentials&scope=kafka+more"; s.calls != 1 || s.forms[0] != want {
			t.Errorf("%d calls, the first %q", s.calls, s.forms[0])
		}
		if got := tk.redactor.Redact("t0ken-1"); got != "[redacted]" {
			t.Error("the redactor does not know the token")
		}
	})
}

// A client authenticates again when up to 5 % of a token's life are left; the same token once more would be asked for in a loop.
func TestTokenIsRenewedBeforeTheClientAuthenticatesAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newIDP(t)
		tk := s.tokens()
		for _, at := range []struct {
			after time.Duration
			token string
		}{{0, "t0ken-1"}, {53 * time.Minute, "t0ken-1"}, {4 * time.Minute, "t0ken-2"}, {54 * time.Minute, "t0ken-3"}} {
			time.Sleep(at.after)
			if first, err := login(t, tk); err != nil || !strings.Contains(first, at.token) {
				t.Errorf("login %q, %v, want %s", first, err, at.token)
			}
		}
	})
}

func TestTokenServerDownHeals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newIDP(t)
		s.handler = func(w http.ResponseWriter, _ *http.Request) {
			http.Error(w, "r1ght t0ken", http.StatusServiceUnavailable)
		}
		tk := s.tokens()
		_, err := login(t, tk)
		explained(t, err, "KAFKA_OAUTH_TOKEN_URL", "503")
		calls := s.calls
		_, err = login(t, tk)
		explained(t, err, "503")
		if s.calls != calls {
			t.Error("those who wait for a failed call repeat it one after another")
		}
		s.handler = nil
		time.Sleep(2 * time.Second)
		if _, err := login(t, tk); err != nil {
			t.Error(err)
		}
	})
}

func TestTokenErrorsLeakNoSecret(t *testing.T) {
	answer := func(status int, body string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(status)
			fmt.Fprint(w, body)
		}
	}
	for _, test := range []struct {
		name    string
		handler http.HandlerFunc
		says    []string
	}{
		{"wrong secret", answer(401, `{"error":"invalid_client","error_description":"r1ght is wr0ng"}`), []string{"KAFKA_OAUTH_CLIENT_SECRET", "401", "invalid_client"}},
		{"not a token server", answer(200, `<html>t0ken</html>`), []string{"KAFKA_OAUTH_TOKEN_URL"}},
		{"no token", answer(200, `{"note":"t0ken"}`), []string{"KAFKA_OAUTH_TOKEN_URL"}},
		{"silent", func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, []string{"KAFKA_OAUTH_TOKEN_URL"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newIDP(t)
				s.handler = test.handler
				begun := time.Now()
				_, err := login(t, s.tokens())
				explained(t, err, test.says...)
				if took := time.Since(begun); took > fetchTimeout {
					t.Errorf("took %v", took)
				}
			})
		})
	}
}

func TestTokenServerNotThere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, err := login(t, new(idp).tokens())
		explained(t, err, "KAFKA_OAUTH_TOKEN_URL", "cannot be reached")
	})
}

// A redirect would hand the client's secret to another host.
func TestTokenRedirectIsNotFollowed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newIDP(t)
		s.handler = func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path != "/token" {
				t.Error("followed")
			}
			http.Redirect(w, r, "/elsewhere", http.StatusTemporaryRedirect)
		}
		_, err := login(t, s.tokens())
		explained(t, err, "KAFKA_OAUTH_TOKEN_URL", "307")
	})
}

func TestRefusedTokenIsReplaced(t *testing.T) {
	for name, refusal := range map[string]error{
		"by the mechanism": errTokenRefused,
		"by the broker":    fmt.Errorf("%w: revoked", kerr.SaslAuthenticationFailed),
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newIDP(t)
				tk := s.tokens()
				login(t, tk)
				time.Sleep(time.Minute)
				for range 10 { // as many brokers refuse it; one new token is enough
					tk.OnBrokerConnect(kgo.BrokerMetadata{}, 0, nil, refusal)
					login(t, tk)
				}
				tk.OnBrokerConnect(kgo.BrokerMetadata{}, 0, nil, errors.New("connection refused"))
				if first, err := login(t, tk); err != nil || !strings.Contains(first, "t0ken-2") {
					t.Errorf("login %q, %v", first, err)
				}
			})
		})
	}
}

func TestBrokersRefusalOfATokenIsPassedOn(t *testing.T) {
	_, _, err := answer{}.Challenge([]byte(`{"status":"invalid_token"}`))
	explained(t, err, "KAFKA_OAUTH_TOKEN_URL", "KAFKA_OAUTH_SCOPES", "invalid_token")
	if !errors.Is(err, errTokenRefused) {
		t.Error("the token is not replaced")
	}
}
