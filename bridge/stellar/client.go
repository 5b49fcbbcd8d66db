package stellar

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"

	"golang.org/x/net/idna"

	"serbridge/bridge/secret"
)

// Values of Config.Auth and Config.Success, and the documented path.
const (
	AuthJWT       = "jwt"        // Basic user:key → token, then Bearer token
	AuthJWTBearer = "jwt-bearer" // Bearer key → token, then Bearer token
	AuthBasic     = "basic"      // Basic user:key on every call, no token

	SuccessID     = "id"     // a 2xx without an _id is unknown
	SuccessStatus = "status" // a 2xx that is no web page is a delivery

	InsertPath = "/connect/api/v1/insert_ser"
)

const (
	tokenPath = "/connect/api/v1/access_token"
	dataPath  = "/connect/api/data/"

	maxBody  = 1 << 20 // read of an answer
	keptBody = 1 << 10 // kept of it
)

// Config is what a Client needs to know. The zero value of every field but
// URL and the credentials is the default.
type Config struct {
	// URL is scheme and host, with a port if need be. Whether credentials
	// may go over http:// is for the caller to judge.
	URL string
	// InsertPath is the path of insert_ser; default InsertPath.
	InsertPath string
	// Auth is AuthJWT (default), AuthJWTBearer or AuthBasic.
	Auth string
	// User is the API user's e-mail, sent as it is: the platform is
	// case-sensitive. Not needed with AuthJWTBearer.
	User, APIKey secret.Source
	// Success is SuccessID (default) or SuccessStatus.
	Success string
	// Timeout bounds one attempt, from the wait for a connection to the last
	// byte of the answer; default 20 s.
	Timeout time.Duration
	// MaxInFlight bounds the connections; default 64.
	MaxInFlight int
	// CAFile holds PEM certificates trusted beside the system's. It is read
	// again when it changed.
	CAFile string
	// InsecureSkipVerify accepts every certificate, and is warned of.
	InsecureSkipVerify bool
	// Namespace is the one under custom_ser_field in which the delivery key
	// stands, for Find; default "serbridge".
	Namespace string
	// DialContext makes the connections; default a net.Dialer.
	DialContext func(ctx context.Context, network, addr string) (net.Conn, error)
	// Redactor is told of tokens and of the Basic form of the credentials,
	// and cleans bodies and errors; nil redacts nothing.
	Redactor *secret.Redactor
	Logger   *slog.Logger // nil discards
	// UserAgent is the header of every request; default "serbridge".
	UserAgent string
}

// Client speaks to one platform. It is safe for concurrent use; Close it when
// no call is under way.
type Client struct {
	cfg    Config
	insert *url.URL // of insert_ser
	target string   // its path, as a request names it
	log    *slog.Logger
	trust  trust
	tokens tokens
	// remember tells the Redactor a credential in the form it is sent.
	remember func(kind, value string)
	basic    basic

	life context.Context // of token calls, which outlive the callers who wait for them
	end  context.CancelFunc
	wg   sync.WaitGroup // token calls; Close waits
}

// New checks the configuration and returns a Client. It does no I/O but to
// warn of InsecureSkipVerify: what can heal, a missing CA file included, shows
// in the answers.
func New(cfg Config) (*Client, error) {
	base, err := origin(cfg.URL)
	if err != nil {
		return nil, fmt.Errorf("configure the Stellar Cyber API: %w", err)
	}
	cfg.InsertPath = cmp.Or(cfg.InsertPath, InsertPath)
	cfg.Auth = cmp.Or(cfg.Auth, AuthJWT)
	cfg.Success = cmp.Or(cfg.Success, SuccessID)
	cfg.Timeout = cmp.Or(cfg.Timeout, 20*time.Second)
	cfg.MaxInFlight = cmp.Or(cfg.MaxInFlight, 64)
	cfg.Namespace = cmp.Or(cfg.Namespace, "serbridge")
	cfg.UserAgent = cmp.Or(cfg.UserAgent, "serbridge")
	if cfg.DialContext == nil {
		cfg.DialContext = (&net.Dialer{Timeout: dialTimeout}).DialContext
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if err := cfg.check(); err != nil {
		return nil, fmt.Errorf("configure the Stellar Cyber API: %w", err)
	}
	insert, err := url.Parse(base + cfg.InsertPath)
	if err != nil {
		return nil, fmt.Errorf("configure the Stellar Cyber API: field InsertPath %q is no path of a URL", cfg.InsertPath)
	}
	c := &Client{cfg: cfg, insert: insert, target: insert.EscapedPath(), log: cfg.Logger}
	c.trust.build = c.newConnections
	c.trust.file = cfg.CAFile
	c.trust.log = cfg.Logger
	c.remember = rememberer(cfg.Redactor)
	c.life, c.end = context.WithCancel(context.Background())
	if cfg.InsecureSkipVerify {
		c.log.Warn("the certificate of the Stellar Cyber API is not verified: whoever stands between reads the API key; set STELLAR_CA_FILE and unset STELLAR_INSECURE_SKIP_VERIFY")
	}
	return c, nil
}

// origin parses a URL of scheme and host. Its errors never quote the URL,
// which may hold a password.
func origin(raw string) (string, error) {
	u, err := url.Parse(raw)
	if err != nil {
		return "", errors.New("the URL cannot be parsed")
	}
	if u.Scheme != "https" && u.Scheme != "http" || u.Host == "" {
		return "", errors.New("the URL must be https:// (or http://) and a host")
	}
	if u.User != nil || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "" {
		return "", errors.New("the URL must be scheme and host only")
	}
	host, err := inASCII(u.Host)
	if err != nil {
		return "", errors.New("the host of the URL is no name that DNS can hold")
	}
	return u.Scheme + "://" + host, nil
}

// inASCII is a host, with its port, in the form that DNS, TLS and HTTP know
// (RFC 5891): only a name in other letters changes.
func inASCII(host string) (string, error) {
	if strings.IndexFunc(host, func(r rune) bool { return r >= utf8.RuneSelf }) < 0 {
		return host, nil
	}
	name, port, hasPort := strings.Cut(host, ":")
	name, err := idna.Lookup.ToASCII(name)
	if hasPort {
		name += ":" + port
	}
	return name, err
}

func (cfg Config) check() error {
	var faults []error
	if !strings.HasPrefix(cfg.InsertPath, "/") {
		faults = append(faults, fmt.Errorf("field InsertPath %q must begin with /", cfg.InsertPath))
	}
	switch cfg.Auth {
	case AuthJWT, AuthBasic:
		if cfg.User == nil {
			faults = append(faults, fmt.Errorf("field Auth %q needs a User", cfg.Auth))
		}
	case AuthJWTBearer:
	default:
		faults = append(faults, fmt.Errorf("field Auth %q must be jwt, jwt-bearer or basic", cfg.Auth))
	}
	if cfg.APIKey == nil {
		faults = append(faults, errors.New("field APIKey is needed"))
	}
	if cfg.Success != SuccessID && cfg.Success != SuccessStatus {
		faults = append(faults, fmt.Errorf("field Success %q must be id or status", cfg.Success))
	}
	if cfg.Timeout < 0 || cfg.MaxInFlight < 0 {
		faults = append(faults, errors.New("fields Timeout and MaxInFlight must be above 0"))
	}
	return errors.Join(faults...)
}

// rememberer returns a func that tells the Redactor the latest value of each
// kind of credential: they are rotated, so each kind is watched on its own.
func rememberer(r *secret.Redactor) func(kind, value string) {
	var mu sync.Mutex
	var latest string
	watched := make(map[string]secret.Source)
	return func(kind, value string) {
		mu.Lock()
		defer mu.Unlock()
		if watched[kind] == nil {
			watched[kind] = r.Watch(func() (string, error) { return latest, nil })
		}
		latest = value
		watched[kind]()
	}
}

// Close ends a token call that is under way, waits for it, and closes the
// idle connections.
func (c *Client) Close() {
	c.end()
	c.tokens.mu.Lock()
	//lint:ignore SA2001 whoever held it may have been about to start a token call: now it has
	c.tokens.mu.Unlock()
	c.wg.Wait()
	c.trust.close()
}

// Endpoint is where documents are POSTed to; it holds no credential.
func (c *Client) Endpoint() *url.URL {
	u := *c.insert
	return &u
}

// exchange makes one attempt: one request, and its answer up to limit bytes.
// The attempt's deadline is the only one there is.
func (c *Client) exchange(ctx context.Context, limit int64, r request) outcome {
	deadline := time.Now().Add(c.cfg.Timeout)
	connections, err := c.trust.connections()
	if err != nil {
		return outcome{failure: ReasonTLSFailed, err: err}
	}
	if cause := context.Cause(ctx); cause != nil {
		return outcome{failure: ReasonCancelled, err: cause}
	}
	conn, o := connections.take(ctx, deadline)
	if conn == nil {
		return o
	}
	o, again := conn.attempt(ctx, r, limit)
	connections.give(conn, again)
	return o
}

// text is the beginning of a body, fit to be kept. It is redacted before it
// is cut, or half a token would be left at its end.
func (c *Client) text(body []byte) string {
	s := strings.ToValidUTF8(string(body[:min(len(body), judgedText)]), "\ufffd")
	s = c.cfg.Redactor.Redact(s)
	s = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, s)
	if len(s) <= keptBody {
		return s
	}
	n := keptBody
	for !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}

// clean returns err, without its chain if the text of it holds a secret.
func (c *Client) clean(err error) error {
	if err == nil {
		return nil
	}
	if text := c.cfg.Redactor.Redact(err.Error()); text != err.Error() {
		return errors.New(text)
	}
	return err
}
