// Package registry reads schemas from a schema registry, Confluent's or one that speaks its API, and keeps them.
//
// A transform looks only into memory (Schema); whoever transforms reads what a held record waits for (Fetch). A registry that
// cannot be reached, refuses our credentials, or is none at all, is an error that holds the record: that heals. Only the
// registry's own word that it has no such schema makes the record one that can never be read.
package registry

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/sr"

	"serbridge/bridge/secret"
	"serbridge/transform"
	"serbridge/transform/codec"
)

// Config is what a Registry needs.
type Config struct {
	URL       string        // http or https, host and perhaps a path
	Username  secret.Source // nil: without credentials
	Password  secret.Source
	CAFile    string // PEM; empty: the system's
	UserAgent string
}

const (
	readWithin    = 10 * time.Second // one schema, with what it refers to
	errorKept     = time.Minute      // that there is no such schema, or none that can be used: it may be registered yet
	failureShared = time.Second      // those who waited for a failed request get its error instead of asking one after another
	mostKept      = 1000             // schemas; an id comes out of a record, which may name any
	mostReferred  = 100              // schemas that one may refer to, all in all
	mostBytes     = 4 << 20          // of one answer
)

// Registry is safe for concurrent use.
type Registry struct {
	cfg  Config
	turn chan struct{} // holds a token while a request is under way: one at a time

	mu      sync.Mutex
	kept    map[uint32]entry
	failure error // of the last request
	failed  time.Time
}

// entry is what is known of an id.
type entry struct {
	schema transform.Schema
	err    error
	until  time.Time // zero: for good, since a schema never changes
}

// New makes a Registry; it connects to nothing.
func New(cfg Config) *Registry {
	return &Registry{cfg: cfg, turn: make(chan struct{}, 1), kept: make(map[uint32]entry)}
}

// Schema is the schema of an id, from memory, as transform.Settings wants it.
func (r *Registry) Schema(id uint32) (transform.Schema, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	e, ok := r.kept[id]
	if !ok || !e.until.IsZero() && time.Now().After(e.until) {
		return nil, nil
	}
	return e.schema, e.err
}

// Fetch reads a schema, unless it is known. After a nil error Schema says what it is, or that there is none. The error says
// what to do, and is worth another try later.
func (r *Registry) Fetch(ctx context.Context, id uint32) error {
	select {
	case r.turn <- struct{}{}:
		defer func() { <-r.turn }()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	if schema, err := r.Schema(id); schema != nil || err != nil {
		return nil
	}
	if err := r.justFailed(); err != nil {
		return err
	}
	asking, cancel := context.WithTimeout(ctx, readWithin)
	defer cancel()
	schema, err := r.read(asking, id)
	switch {
	case err == nil:
		r.keep(id, entry{schema: schema})
		return nil
	case errors.Is(err, transform.ErrUnknownSchema), errors.Is(err, errUnusable):
		r.keep(id, entry{err: err, until: time.Now().Add(errorKept)})
		return nil
	case ctx.Err() != nil:
		return context.Cause(ctx)
	}
	err = fmt.Errorf("read schema %d from the registry: %w", id, err)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.failure, r.failed = err, time.Now()
	return err
}

// Reach asks the registry what it holds, without reading a schema: how many subjects these credentials may see. The error
// says what to do.
func (r *Registry) Reach(ctx context.Context) (subjects int, err error) {
	client, err := r.client()
	if err != nil {
		return 0, err
	}
	names, err := client.Subjects(ctx)
	if err != nil {
		return 0, explain(err)
	}
	return len(names), nil
}

func (r *Registry) justFailed() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.failure != nil && time.Since(r.failed) < failureShared {
		return r.failure
	}
	return nil
}

// keep makes room by what can be read again.
func (r *Registry) keep(id uint32, e entry) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.failure = nil
	for known, old := range r.kept {
		if len(r.kept) < mostKept {
			break
		}
		if old.err != nil {
			delete(r.kept, known)
		}
	}
	for known := range r.kept {
		if len(r.kept) < mostKept {
			break
		}
		delete(r.kept, known)
	}
	r.kept[id] = e
}

// errUnusable says that the registry has a schema, and none that can be used.
var errUnusable = errors.New("the registry's schema cannot be used")

// read reads a schema and what it refers to, and compiles it.
func (r *Registry) read(ctx context.Context, id uint32) (transform.Schema, error) {
	client, err := r.client()
	if err != nil {
		return nil, err
	}
	s, err := client.SchemaByID(ctx, int(id))
	if err != nil {
		return nil, unknown(err)
	}
	if s.Schema == "" {
		return nil, errNoRegistry
	}
	referred := references{client: client, seen: make(map[sr.SchemaReference]bool)}
	if err := referred.add(ctx, s.References); err != nil {
		return nil, err
	}
	schema, err := codec.Compile(codec.Kind(s.Type.String()), s.Schema, referred.all)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errUnusable, err)
	}
	return schema, nil
}

var errNoRegistry = errors.New("the answer is not that of a schema registry: check SCHEMA_REGISTRY_URL, the path in it too")

// references are what a schema refers to, each after what it refers to itself.
type references struct {
	client *sr.Client
	seen   map[sr.SchemaReference]bool
	all    []codec.Reference
}

func (r *references) add(ctx context.Context, to []sr.SchemaReference) error {
	for _, one := range to {
		if r.seen[one] {
			continue
		}
		if r.seen[one] = true; len(r.seen) > mostReferred {
			return fmt.Errorf("%w: it refers to more than %d others", errUnusable, mostReferred)
		}
		s, err := r.client.SchemaByVersion(ctx, one.Subject, one.Version)
		if err != nil {
			return unknown(err)
		}
		if err := r.add(ctx, s.References); err != nil {
			return err
		}
		r.all = append(r.all, codec.Reference{Name: one.Name, Text: s.Schema.Schema})
	}
	return nil
}

// unknown is what a failed request means when the registry itself says so; else what to do. A 404 alone may be anybody's.
func unknown(err error) error {
	answer := new(sr.ResponseError)
	if errors.As(err, &answer) && sr.IsNotFoundError(answer.ErrorCode) {
		return transform.ErrUnknownSchema
	}
	return explain(err)
}

// client is made for each schema, which is seldom: what stands in the files of now counts.
func (r *Registry) client() (*sr.Client, error) {
	config := &tls.Config{}
	if r.cfg.CAFile != "" {
		pem, err := os.ReadFile(r.cfg.CAFile)
		if err != nil {
			return nil, fmt.Errorf("read SCHEMA_REGISTRY_CA_FILE: %w", err)
		}
		if config.RootCAs = x509.NewCertPool(); !config.RootCAs.AppendCertsFromPEM(pem) {
			return nil, errors.New("read SCHEMA_REGISTRY_CA_FILE: it holds no certificate")
		}
	}
	options := []sr.ClientOpt{sr.URLs(r.cfg.URL), sr.UserAgent(r.cfg.UserAgent), sr.HTTPClient(&http.Client{
		// A redirect would carry the credentials to another host.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: bounded{&http.Transport{
			Proxy: http.ProxyFromEnvironment, DialContext: (&net.Dialer{Timeout: readWithin}).DialContext,
			TLSClientConfig: config, TLSHandshakeTimeout: readWithin, DisableKeepAlives: true, MaxResponseHeaderBytes: 64 << 10,
		}},
	})}
	if r.cfg.Username == nil && r.cfg.Password == nil {
		return sr.NewClient(options...)
	}
	user, err := value(r.cfg.Username)
	if err != nil {
		return nil, fmt.Errorf("SCHEMA_REGISTRY_USERNAME: %w", err)
	}
	password, err := value(r.cfg.Password)
	if err != nil {
		return nil, fmt.Errorf("SCHEMA_REGISTRY_PASSWORD: %w", err)
	}
	return sr.NewClient(append(options, sr.BasicAuth(user, password))...)
}

func value(s secret.Source) (string, error) {
	if s == nil {
		return "", nil
	}
	return s()
}

// bounded reads no more of an answer than a schema may have.
type bounded struct{ http.RoundTripper }

// RoundTrip implements [http.RoundTripper].
func (b bounded) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := b.RoundTripper.RoundTrip(req)
	if err == nil {
		resp.Body = struct {
			io.Reader
			io.Closer
		}{io.LimitReader(resp.Body, mostBytes), resp.Body}
	}
	return resp, err
}

// explain says what to do about an answer, or about none. It quotes neither URL nor body.
func explain(err error) error {
	answer, broken := new(sr.ResponseError), new(url.Error)
	switch {
	case errors.As(err, &answer) && (answer.StatusCode == http.StatusUnauthorized || answer.StatusCode == http.StatusForbidden):
		return fmt.Errorf("HTTP %d: check SCHEMA_REGISTRY_USERNAME and SCHEMA_REGISTRY_PASSWORD, and their right to read schemas", answer.StatusCode)
	case errors.As(err, &answer) && answer.StatusCode < http.StatusInternalServerError && answer.StatusCode != http.StatusTooManyRequests:
		return fmt.Errorf("HTTP %d: %w", answer.StatusCode, errNoRegistry)
	case errors.As(err, &answer):
		return fmt.Errorf("HTTP %d: the registry is not well", answer.StatusCode)
	case errors.As(err, &broken):
		// Not wrapped: whoever reads topics explains an error of the network as one of Kafka's.
		return fmt.Errorf("%v: check SCHEMA_REGISTRY_URL, SCHEMA_REGISTRY_CA_FILE and the network", broken.Err)
	case errors.Is(err, io.ErrUnexpectedEOF):
		return errors.New("the answer broke off")
	}
	return errNoRegistry
}
