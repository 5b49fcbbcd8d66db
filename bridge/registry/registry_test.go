package registry

import (
	"context"
	"encoding/pem"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/sr"
	"github.com/twmb/franz-go/pkg/sr/srfake"

	"serbridge/bridge/secret"
	"serbridge/transform"
)

const jsonSchema = `{"type":"object"}`

// served is a registry over HTTP that counts what it is asked.
func served(t *testing.T, options ...srfake.Option) (fake *srfake.Registry, asked *atomic.Int32) {
	t.Helper()
	fake, asked = srfake.New(options...), new(atomic.Int32)
	t.Cleanup(fake.Close)
	fake.Intercept(func(http.ResponseWriter, *http.Request) bool { asked.Add(1); return false })
	fake.SeedSchema("alerts-value", 1, 7, sr.Schema{Schema: jsonSchema, Type: sr.TypeJSON})
	return fake, asked
}

func TestSchemaIsReadOnceAndKept(t *testing.T) {
	fake, asked := served(t)
	r := New(Config{URL: fake.URL()})
	if schema, err := r.Schema(7); schema != nil || err != nil {
		t.Errorf("before it was read: %v", err)
	}
	for range 3 {
		if err := r.Fetch(t.Context(), 7); err != nil {
			t.Fatal(err)
		}
	}
	schema, err := r.Schema(7)
	if err != nil {
		t.Fatal(err)
	}
	if text, err := schema([]byte(`{"a":1}`), 100); string(text) != `{"a":1}` || err != nil {
		t.Errorf("got %s, %v", text, err)
	}
	if n := asked.Load(); n != 1 {
		t.Errorf("asked %d times", n)
	}
}

func TestReferencesAreReadBeforeWhatRefersToThem(t *testing.T) {
	fake, _ := served(t)
	fake.SeedSchema("where", 2, 1, sr.Schema{Schema: `{"type":"record","name":"Where","fields":[{"name":"host","type":"string"}]}`})
	fake.SeedSchema("who", 1, 2, sr.Schema{Schema: `{"type":"record","name":"Who","fields":[{"name":"at","type":"Where"}]}`,
		References: []sr.SchemaReference{{Name: "Where", Subject: "where", Version: 2}}})
	fake.SeedSchema("alert", 1, 3, sr.Schema{Schema: `{"type":"record","name":"Alert","fields":[{"name":"by","type":"Who"},{"name":"on","type":"Where"}]}`,
		References: []sr.SchemaReference{{Name: "Who", Subject: "who", Version: 1}, {Name: "Where", Subject: "where", Version: 2}}})
	r := New(Config{URL: fake.URL()})
	if err := r.Fetch(t.Context(), 3); err != nil {
		t.Fatal(err)
	}
	schema, err := r.Schema(3)
	if err != nil {
		t.Fatal(err)
	}
	if text, err := schema([]byte{2, 'a', 2, 'b'}, 1000); string(text) != `{"by":{"at":{"host":"a"}},"on":{"host":"b"}}` {
		t.Errorf("got %s, %v", text, err)
	}
}

// Only the registry's own word makes a record one that can never be read; it is asked again after a while, not each time.
func TestUnknownIDIsKnownToBeUnknown(t *testing.T) {
	fake, asked := served(t)
	r := New(Config{URL: fake.URL()})
	for range 2 {
		if err := r.Fetch(t.Context(), 99); err != nil {
			t.Fatal(err)
		}
		if _, err := r.Schema(99); !errors.Is(err, transform.ErrUnknownSchema) {
			t.Errorf("got %v", err)
		}
	}
	if n := asked.Load(); n != 1 {
		t.Errorf("asked %d times", n)
	}
	fake.SeedSchema("bad", 1, 98, sr.Schema{Schema: `{"type":"nothing"}`})
	if err := r.Fetch(t.Context(), 98); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Schema(98); !errors.Is(err, errUnusable) {
		t.Errorf("a schema of no use: %v", err)
	}
}

func TestUnknownIDIsAskedForAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := New(Config{})
		r.keep(5, entry{err: transform.ErrUnknownSchema, until: time.Now().Add(errorKept)})
		time.Sleep(errorKept + time.Second)
		if schema, err := r.Schema(5); schema != nil || err != nil {
			t.Errorf("it is still unknown: %v", err)
		}
	})
}

// A registry that is away, somebody else's 404, a login page and a wrong password all heal: they hold, and say what to do.
func TestRegistryThatDoesNotAnswerHoldsAndSaysWhy(t *testing.T) {
	elsewhere, _ := served(t)
	for name, tc := range map[string]struct {
		answer func(http.ResponseWriter)
		want   string
	}{
		"503":         {func(w http.ResponseWriter) { w.WriteHeader(http.StatusServiceUnavailable) }, "HTTP 503: the registry is not well"},
		"429":         {func(w http.ResponseWriter) { w.WriteHeader(http.StatusTooManyRequests) }, "HTTP 429"},
		"foreign 404": {func(w http.ResponseWriter) { http.Error(w, "<html>no such page</html>", http.StatusNotFound) }, "check SCHEMA_REGISTRY_URL"},
		"redirect": {func(w http.ResponseWriter) {
			w.Header().Set("Location", elsewhere.URL()+"/schemas/ids/7")
			w.WriteHeader(http.StatusFound)
		}, "check SCHEMA_REGISTRY_URL"},
		"login page":     {func(w http.ResponseWriter) { w.Write([]byte("<html>sign in</html>")) }, "not that of a schema registry"}, //nolint:errcheck // to a test
		"another's JSON": {func(w http.ResponseWriter) { w.Write([]byte(`{"status":"ok"}`)) }, "check SCHEMA_REGISTRY_URL"},
		"403":            {func(w http.ResponseWriter) { w.WriteHeader(http.StatusForbidden) }, "check SCHEMA_REGISTRY_USERNAME"},
		"broken off":     {func(http.ResponseWriter) { panic(http.ErrAbortHandler) }, "check SCHEMA_REGISTRY_URL"},
	} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { tc.answer(w) }))
		r := New(Config{URL: server.URL})
		err := r.Fetch(t.Context(), 7)
		if err == nil || !strings.Contains(err.Error(), tc.want) || strings.Contains(err.Error(), server.URL) {
			t.Errorf("%s: got %v", name, err)
		}
		if schema, err := r.Schema(7); schema != nil || err != nil {
			t.Errorf("%s: something is known: %v", name, err)
		}
		server.Close()
		if err := New(Config{URL: server.URL}).Fetch(t.Context(), 7); err == nil || !strings.Contains(err.Error(), "check SCHEMA_REGISTRY_URL") {
			t.Errorf("closed: got %v", err)
		}
	}
}

// A registry that is down must not get a request for each record that waits.
func TestFailureIsShared(t *testing.T) {
	fake, asked := served(t)
	fake.Intercept(func(w http.ResponseWriter, _ *http.Request) bool { w.WriteHeader(http.StatusBadGateway); return true })
	r := New(Config{URL: fake.URL()})
	for range 20 {
		if err := r.Fetch(t.Context(), 7); err == nil {
			t.Fatal("no error")
		}
	}
	if n := asked.Load(); n > 5 {
		t.Errorf("asked %d times", n)
	}
}

func TestWaitForTheRegistryEndsWithItsContext(t *testing.T) {
	arrived, release := make(chan struct{}, 2), make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { arrived <- struct{}{}; <-release }))
	defer server.Close()
	defer close(release)
	r := New(Config{URL: server.URL})
	ctx, cancel := context.WithCancelCause(t.Context())
	ended := make(chan error, 2)
	for range 2 { // one asks, one waits for its turn
		go func() { ended <- r.Fetch(ctx, 7) }()
	}
	<-arrived
	why := errors.New("drained")
	cancel(why)
	for range 2 {
		if err := <-ended; !errors.Is(err, why) {
			t.Errorf("got %v", err)
		}
	}
}

// Credentials are those of now, go to the registry alone, and stand in no error.
func TestCredentialsAreReadAgainAndSaidToNobody(t *testing.T) {
	fake, _ := served(t, srfake.WithAuth("Basic dXNlcjpuZXctc2VjcmV0")) // user:new-secret
	file := filepath.Join(t.TempDir(), "password")
	write := func(s string) {
		if err := os.WriteFile(file, []byte(s), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("old-secret")
	r := New(Config{URL: fake.URL(), Username: secret.Literal("user"), Password: secret.File(file)})
	err := r.Fetch(t.Context(), 7)
	if err == nil || !strings.Contains(err.Error(), "SCHEMA_REGISTRY_PASSWORD") || strings.Contains(err.Error(), "old-secret") {
		t.Errorf("got %v", err)
	}
	write("new-secret")
	r.failed = time.Time{} // the second in which a failure is shared is over
	if err := r.Fetch(t.Context(), 7); err != nil {
		t.Error(err)
	}
}

func TestRegistryIsTrustedByItsAuthorityAlone(t *testing.T) {
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Write([]byte(`{"schema":"{}","schemaType":"JSON"}`)) //nolint:errcheck // to a test
	}))
	defer server.Close()
	if err := New(Config{URL: server.URL}).Fetch(t.Context(), 7); err == nil || !strings.Contains(err.Error(), "SCHEMA_REGISTRY_CA_FILE") {
		t.Errorf("an unknown authority: %v", err)
	}
	file := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := New(Config{URL: server.URL, CAFile: file}).Fetch(t.Context(), 7); err != nil {
		t.Error(err)
	}
	if err := New(Config{URL: server.URL, CAFile: "/no/such/file"}).Fetch(t.Context(), 7); err == nil {
		t.Error("a file that is not there is no error")
	}
}

// Ids come out of records, which may name any: what is kept is bounded, and schemas stay before what is not there.
func TestWhatIsKeptIsBounded(t *testing.T) {
	r := New(Config{})
	r.keep(1, entry{schema: func([]byte, int) ([]byte, error) { return nil, nil }})
	for id := range uint32(3 * mostKept) {
		r.keep(id+10, entry{err: transform.ErrUnknownSchema, until: time.Now().Add(errorKept)})
	}
	if schema, _ := r.Schema(1); len(r.kept) > mostKept || schema == nil {
		t.Errorf("%d kept", len(r.kept))
	}
	for id := range uint32(2 * mostKept) {
		r.keep(id+10, entry{schema: func([]byte, int) ([]byte, error) { return nil, nil }})
	}
	if len(r.kept) > mostKept {
		t.Errorf("%d schemas kept", len(r.kept))
	}
}
