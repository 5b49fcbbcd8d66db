// Package kafka turns connection settings into options of a Kafka client, and a client's errors into what to do about them.
//
// The promise: certificates, passwords and tokens are read again for each connection, so that rotation needs no restart; what
// can heal (a file that is not there yet, a wrong password, a token server that is down) fails the connection, never the start,
// with an error that names the setting.
package kafka

import (
	"context"
	"errors"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"serbridge/bridge/secret"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"github.com/twmb/franz-go/pkg/sasl/scram"
)

// Names of the settings, as errors call them.
const (
	varBrokers     = "KAFKA_BROKERS"
	varTLS         = "KAFKA_TLS"
	varCAFile      = "KAFKA_TLS_CA_FILE"
	varCertFile    = "KAFKA_TLS_CERT_FILE"
	varKeyFile     = "KAFKA_TLS_KEY_FILE"
	varMechanism   = "KAFKA_SASL_MECHANISM"
	varUsername    = "KAFKA_SASL_USERNAME"
	varPassword    = "KAFKA_SASL_PASSWORD"
	varTokenURL    = "KAFKA_OAUTH_TOKEN_URL"
	varOAuthID     = "KAFKA_OAUTH_CLIENT_ID"
	varOAuthSecret = "KAFKA_OAUTH_CLIENT_SECRET"
	varOAuthScopes = "KAFKA_OAUTH_SCOPES"
	varAWSRegion   = "KAFKA_AWS_REGION"
)

// Values of [Config.SASLMechanism]; empty is none.
const (
	Plain       = "PLAIN"
	ScramSHA256 = "SCRAM-SHA-256"
	ScramSHA512 = "SCRAM-SHA-512"
	OAuthBearer = "OAUTHBEARER"
	MSKIAM      = "AWS_MSK_IAM"
)

var mechanisms = []string{Plain, ScramSHA256, ScramSHA512, OAuthBearer, MSKIAM}

// Config is how to reach a Kafka cluster. The zero value of a field means off, none or the default.
type Config struct {
	Brokers  []string // host:port, at least one; port 9092 if there is none
	ClientID string   // the pod's name; empty: the client's own

	TLS                       bool
	CAFile, CertFile, KeyFile string // PEM, read at each connection; no CAFile: the system's authorities

	SASLMechanism      string        // one of the constants
	Username, Password secret.Source // called at each authentication

	OAuthTokenURL                    string // client credentials grant
	OAuthClientID, OAuthClientSecret secret.Source
	OAuthScopes                      []string

	AWSRegion string // of the brokers; empty: from their host name, else AWS's own environment variables

	Dialer   func(ctx context.Context, network, addr string) (net.Conn, error) // nil: net.Dialer; also for the token server
	Redactor *secret.Redactor                                                  // learns every credential that is used
}

// SettingError says which setting to look at.
type SettingError struct {
	Setting string // name of the environment variable
	Err     error
}

func (e *SettingError) Error() string { return e.Setting + ": " + e.Err.Error() }
func (e *SettingError) Unwrap() error { return e.Err }

func setting(name, text string) error { return &SettingError{name, errors.New(text)} }

// Options returns the options of a client: brokers, client id, dialer and SASL. Clients that share them share an OAuth token.
// The error joins those of [Config.Validate]; what can heal is not among them and surfaces when a connection is opened.
func (c Config) Options() ([]kgo.Opt, error) {
	if err := errors.Join(c.Validate()...); err != nil {
		return nil, err
	}
	opts := []kgo.Opt{kgo.SeedBrokers(c.Brokers...), kgo.Dialer(c.dial)}
	if c.ClientID != "" {
		opts = append(opts, kgo.ClientID(c.ClientID))
	}
	switch c.SASLMechanism {
	case Plain, ScramSHA256, ScramSHA512:
		opts = append(opts, kgo.SASL(c.passwordMechanism()))
	case OAuthBearer:
		t := c.newTokens()
		opts = append(opts, kgo.SASL(t), kgo.WithHooks(t))
	case MSKIAM:
		opts = append(opts, kgo.SASL(&iam{region: c.AWSRegion, redactor: c.Redactor}))
	}
	return opts, nil
}

func (c Config) passwordMechanism() sasl.Mechanism {
	username, password := c.source(varUsername, c.Username), c.source(varPassword, c.Password)
	login := func() (user, pass string, err error) {
		if user, err = username(); err == nil {
			pass, err = password()
		}
		return user, pass, err
	}
	scramLogin := func(context.Context) (scram.Auth, error) {
		user, pass, err := login()
		return scram.Auth{User: user, Pass: pass}, err
	}
	switch c.SASLMechanism {
	case ScramSHA256:
		return scram.Sha256(scramLogin)
	case ScramSHA512:
		return scram.Sha512(scramLogin)
	}
	return plain.Plain(func(context.Context) (plain.Auth, error) {
		user, pass, err := login()
		return plain.Auth{User: user, Pass: pass}, err
	})
}

// source is s with the setting's name in its errors, of which an empty value is one, and known to the redactor.
func (c Config) source(name string, s secret.Source) secret.Source {
	if name != varUsername && name != varOAuthID { // names are needed to read a log
		s = c.Redactor.Watch(s)
	}
	return func() (string, error) {
		value, err := s()
		if err != nil {
			return "", &SettingError{name, err}
		}
		if value == "" {
			return "", setting(name, "is empty")
		}
		return value, nil
	}
}

// Validate returns every contradiction and malformed value, each a [*SettingError], without touching network or files.
func (c Config) Validate() []error {
	return slices.Concat(c.validateBrokers(), c.validateTLS(), c.validateSASL())
}

func (c Config) validateBrokers() (errs []error) {
	if len(c.Brokers) == 0 {
		errs = append(errs, setting(varBrokers, "is required: host:port, more than one separated by commas"))
	}
	for _, b := range c.Brokers {
		if !validBroker(b) {
			errs = append(errs, setting(varBrokers, strconv.Quote(b)+" is not host:port"))
		}
	}
	return errs
}

func validBroker(b string) bool {
	host, port, err := net.SplitHostPort(b)
	if err != nil {
		host, port = b, "9092"
	}
	n, err := strconv.ParseUint(port, 10, 16)
	return err == nil && n > 0 && host != "" && !strings.ContainsAny(host, "/@ \t") && (!strings.Contains(host, ":") || net.ParseIP(host) != nil)
}

func (c Config) validateTLS() (errs []error) {
	if c.CertFile != "" && c.KeyFile == "" {
		errs = append(errs, setting(varKeyFile, "is required with "+varCertFile))
	}
	if c.KeyFile != "" && c.CertFile == "" {
		errs = append(errs, setting(varCertFile, "is required with "+varKeyFile))
	}
	if !c.TLS && (c.CAFile != "" || c.CertFile != "" || c.KeyFile != "") {
		errs = append(errs, setting(varTLS, "is off, but certificate files are set: set it to true, or leave them out"))
	}
	return errs
}

// validateSASL checks that what the mechanism needs is there, and nothing that belongs to another one.
func (c Config) validateSASL() (errs []error) {
	if c.SASLMechanism != "" && !slices.Contains(mechanisms, c.SASLMechanism) {
		return []error{setting(varMechanism, strconv.Quote(c.SASLMechanism)+" is not one of "+strings.Join(mechanisms, ", "))}
	}
	password := slices.Contains([]string{Plain, ScramSHA256, ScramSHA512}, c.SASLMechanism)
	oauth := c.SASLMechanism == OAuthBearer
	for _, s := range []struct {
		name       string
		set, needs bool
		allows     bool
	}{
		{name: varUsername, set: c.Username != nil, needs: password},
		{name: varPassword, set: c.Password != nil, needs: password},
		{name: varTokenURL, set: c.OAuthTokenURL != "", needs: oauth},
		{name: varOAuthID, set: c.OAuthClientID != nil, needs: oauth},
		{name: varOAuthSecret, set: c.OAuthClientSecret != nil, needs: oauth},
		{name: varOAuthScopes, set: len(c.OAuthScopes) > 0, allows: oauth},
		{name: varAWSRegion, set: c.AWSRegion != "", allows: c.SASLMechanism == MSKIAM},
	} {
		switch {
		case s.needs && !s.set:
			errs = append(errs, setting(s.name, "is required with "+varMechanism+"="+c.SASLMechanism))
		case s.set && !s.needs && !s.allows && c.SASLMechanism == "":
			errs = append(errs, setting(varMechanism, "is not set, but "+s.name+" is: set it, one of "+strings.Join(mechanisms, ", ")))
		case s.set && !s.needs && !s.allows:
			errs = append(errs, setting(s.name, "has no meaning with "+varMechanism+"="+c.SASLMechanism))
		}
	}
	if oauth && c.OAuthTokenURL != "" && !validTokenURL(c.OAuthTokenURL) {
		errs = append(errs, setting(varTokenURL, "is not an http or https URL without user information"))
	}
	if c.SASLMechanism == MSKIAM && !c.TLS {
		errs = append(errs, setting(varTLS, "must be true with "+varMechanism+"="+MSKIAM))
	}
	return errs
}

func validTokenURL(s string) bool {
	u, err := url.Parse(s)
	return err == nil && (u.Scheme == "https" || u.Scheme == "http") && u.Host != "" && u.User == nil
}
