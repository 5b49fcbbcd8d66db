package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sr"
	"github.com/twmb/franz-go/pkg/sr/srfake"

	"serbridge/bridge/secret"
	"serbridge/bridge/stellar/stellartest"
)

// Each secret of this world is a word that stands nowhere else.
const (
	markAPIKey    = "mark-api/key+7Qx2"
	markSASL      = "mark-sasl-9Lw4"
	markRegistry  = "mark-registry-5Tn8"
	markOAuth     = "mark-oauth-3Vd6"
	markCollector = "mark-collector-1Hs5"
	markUserInfo  = "mark-userinfo-8Kp3"
	markKeyFile   = "MARKKEYFILE4Rz9"
	markWrong     = "mark-wrong-6Jc1" // a credential that is refused
)

// secretWorld is everything that a service speaks to, on loopback. All of them tell what they were given: the platform to
// whoever sends it a record with "echo" in it.
type secretWorld struct {
	t         *testing.T
	cluster   *kfake.Cluster
	client    *kgo.Client
	api       *stellartest.Server
	environ   map[string]string
	keyFile   string
	oauth     string
	collected saidText // by the collector of traces

	mu     sync.Mutex
	tokens map[string]bool // that the platform gave out
	said   []statement
}

// statement is what was said somewhere.
type statement struct{ where, text string }

// saidText is a log, which several goroutines write.
type saidText struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (s *saidText) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.Write(b)
}

func (s *saidText) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String()
}

func newSecretWorld(t *testing.T) *secretWorld {
	t.Helper()
	w := &secretWorld{t: t, tokens: make(map[string]bool), keyFile: filepath.Join(t.TempDir(), "key.pem")}
	if err := os.WriteFile(w.keyFile, []byte("-----BEGIN PRIVATE KEY-----\n"+markKeyFile+"\n-----END PRIVATE KEY-----\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	var err error
	w.cluster, err = kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(1, "t"), kfake.EnableSASL(), kfake.Superuser("PLAIN", "bridge", markSASL))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.cluster.Close)
	registry := srfake.New(srfake.WithAuth("Basic " + base64.StdEncoding.EncodeToString([]byte("u:"+markRegistry))))
	t.Cleanup(registry.Close)
	registry.SeedSchema("t-value", 1, 41, sr.Schema{Schema: avroDetection})
	w.api = stellartest.New(stellartest.Config{APIKey: markAPIKey})
	t.Cleanup(w.api.Close)
	w.environ = map[string]string{
		"KAFKA_BROKERS": w.cluster.ListenAddrs()[0], "KAFKA_TOPICS": "t", "KAFKA_GROUP": "live",
		"KAFKA_SASL_MECHANISM": "PLAIN", "KAFKA_SASL_USERNAME": "bridge", "KAFKA_SASL_PASSWORD": markSASL,
		"STELLAR_URL": w.serve(w.platform), "STELLAR_USER": stellartest.DefaultUser, "STELLAR_API_KEY": markAPIKey, "STELLAR_TIMEOUT": "500ms",
		"SCHEMA_REGISTRY_URL": registry.URL(), "SCHEMA_REGISTRY_USERNAME": "u", "SCHEMA_REGISTRY_PASSWORD": markRegistry,
		"OTEL_EXPORTER_OTLP_ENDPOINT": w.serve(w.collect), "OTEL_EXPORTER_OTLP_HEADERS": "authorization=Bearer%20" + markCollector,
		"ADMIN_ADDR": "127.0.0.1:0", "LOG_LEVEL": "debug", "RATE_LIMIT": "0", "DRAIN_TIMEOUT": "5s", "RECEIPTS_TOPIC": "live.receipts",
	}
	w.oauth = w.serve(func(rw http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		http.Error(rw, r.Header.Get("Authorization")+" "+string(body), http.StatusUnauthorized)
	})
	w.client, err = kgo.NewClient(append(w.sasl(), kgo.RecordPartitioner(kgo.ManualPartitioner()))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.client.Close)
	return w
}

func (w *secretWorld) serve(h http.HandlerFunc) string {
	server := httptest.NewServer(h)
	w.t.Cleanup(server.Close)
	return server.URL
}

// sasl reaches the broker without a setting of ours.
func (w *secretWorld) sasl() []kgo.Opt {
	s, err := loadLettersSettings(map[string]string{"KAFKA_BROKERS": w.environ["KAFKA_BROKERS"], "KAFKA_TOPICS": "t",
		"KAFKA_SASL_MECHANISM": "PLAIN", "KAFKA_SASL_USERNAME": "bridge", "KAFKA_SASL_PASSWORD": markSASL}, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	options, err := s.Kafka.options(slog.New(slog.DiscardHandler), nil)
	if err != nil {
		w.t.Fatal(err)
	}
	return options
}

// platform is the simulator, which sees what it is sent; a document with "echo" is refused in words that hold all of it.
func (w *secretWorld) platform(rw http.ResponseWriter, r *http.Request) {
	authorization := r.Header.Get("Authorization")
	if token, is := strings.CutPrefix(authorization, "Bearer "); is {
		w.mu.Lock()
		w.tokens[token] = true
		w.mu.Unlock()
	}
	body, err := io.ReadAll(r.Body)
	if err == nil && bytes.Contains(body, []byte("echo")) {
		basic := base64.StdEncoding.EncodeToString([]byte(stellartest.DefaultUser + ":" + markAPIKey))
		http.Error(rw, strings.Join([]string{"no to", authorization, markAPIKey, basic, url.QueryEscape(markAPIKey)}, " "), http.StatusConflict) // of the faults none does so: one that heals would acquit the record
		return
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	w.api.ServeHTTP(rw, r)
}

// collect is the collector, which says back what it is given when it has had enough.
func (w *secretWorld) collect(rw http.ResponseWriter, r *http.Request) {
	_, _ = io.Copy(&w.collected, r.Body)
	http.Error(rw, "no to "+r.Header.Get("Authorization"), http.StatusUnauthorized)
}

func (w *secretWorld) says(where, text string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.said = append(w.said, statement{where, text})
}

// produce writes n records, each with one value.
func (w *secretWorld) produce(value string, n int) {
	w.t.Helper()
	for range n {
		if err := w.client.ProduceSync(w.t.Context(), &kgo.Record{Topic: "t", Value: []byte(value)}).FirstErr(); err != nil {
			w.t.Fatal(err)
		}
	}
}

// adminPaths are all that the admin port has, and what it has not.
var adminPaths = []string{"/", "/livez", "/readyz", "/metrics", "/status", "/debug/pprof/", "/debug/vars"}

// live runs the service with changed settings while f lasts, and keeps all that it says.
func (w *secretWorld) live(name string, changes map[string]string, f func(log *saidText)) {
	w.t.Helper()
	environ := maps.Clone(w.environ)
	maps.Copy(environ, changes)
	red := new(secret.Redactor)
	s, err := loadSettings(environ, red)
	if err != nil {
		w.t.Fatal(err)
	}
	var log saidText
	v, err := newService(s, newLogger(&log, s.Process, false, red), red)
	if err != nil {
		w.t.Fatal(err)
	}
	if err := v.start(); err != nil {
		w.t.Fatal(err)
	}
	ctx, stop := context.WithCancel(w.t.Context())
	done := make(chan error, 1)
	go func() { done <- v.run(ctx) }()
	f(&log)
	for _, path := range adminPaths {
		resp, err := http.Get("http://" + v.admin.Addr() + path)
		if err != nil {
			w.t.Fatal(err)
		}
		body, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		w.says(name+path, fmt.Sprint(resp.Header)+string(body))
	}
	stop()
	if err := <-done; err != nil {
		w.says(name+" ends", err.Error())
	}
	if log.String() == "" {
		w.t.Errorf("%s: nothing was logged", name)
	}
	w.says(name+" log", log.String())
}

// command runs a command line with changed settings, and keeps what it says.
func (w *secretWorld) command(name string, changes map[string]string, line string) {
	environ := maps.Clone(w.environ)
	maps.Copy(environ, changes)
	got := runProgram(program{environ: environ}, strings.Fields(line)...)
	w.says(name+": "+line, got.stdout+got.stderr)
}

// until waits for what the service or the broker is to do.
func (w *secretWorld) until(what string, done func() bool) {
	w.t.Helper()
	deadline := time.Now().Add(2 * time.Minute)
	for !done() {
		if time.Now().After(deadline) {
			w.t.Fatalf("waited in vain until %s", what)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// faults has each fault of the simulator hit one insert, a sound answer between any two, and one a token call.
func (w *secretWorld) faults() {
	names := stellartest.FaultNames()
	all := make([]stellartest.Fault, 0, 2*len(names))
	for _, name := range names {
		f, _ := stellartest.Preset(name)
		all = append(all, f, stellartest.Fault{})
	}
	w.api.Script(stellartest.Sequence(all...))
	f, _ := stellartest.Preset("server_error")
	w.api.ScriptTokens(stellartest.Sequence(f))
}

// settled reports whether the group has settled all of t.
func (w *secretWorld) settled() bool {
	admin := kadm.NewClient(w.client)
	commits, err := admin.FetchOffsets(w.t.Context(), "live")
	if err != nil {
		return false
	}
	at, ok := commits.Lookup("t", 0)
	return ok && at.At == w.end("t")
}

// end is how many records a topic of one partition holds.
func (w *secretWorld) end(topic string) (n int64) {
	ends, err := kadm.NewClient(w.client).ListEndOffsets(w.t.Context(), topic)
	if err != nil {
		return 0
	}
	ends.Each(func(o kadm.ListedOffset) { n += max(0, o.Offset) })
	return n
}

// badSettings are configurations that fail, each in a way of its own.
func (w *secretWorld) badSettings() map[string]map[string]string {
	withUserInfo := "http://me:" + markUserInfo + "@127.0.0.1:1"
	oauth := map[string]string{"KAFKA_SASL_MECHANISM": "OAUTHBEARER", "KAFKA_SASL_USERNAME": "", "KAFKA_SASL_PASSWORD": "",
		"KAFKA_OAUTH_CLIENT_ID": "client", "KAFKA_OAUTH_CLIENT_SECRET": markOAuth, "KAFKA_OAUTH_TOKEN_URL": w.oauth}
	return map[string]map[string]string{
		"wrong API key":               {"STELLAR_API_KEY": markWrong},
		"wrong API key, basic":        {"STELLAR_API_KEY": markWrong, "STELLAR_AUTH": "basic"},
		"wrong scoped key":            {"STELLAR_API_KEY": markWrong, "STELLAR_AUTH": "jwt-bearer"},
		"API key of two lines":        {"STELLAR_API_KEY": markAPIKey + "\n" + markWrong},
		"API key among the topics":    {"KAFKA_TOPICS": "a," + markAPIKey},
		"wrong SASL password":         {"KAFKA_SASL_PASSWORD": markWrong},
		"another mechanism":           {"KAFKA_SASL_MECHANISM": "SCRAM-SHA-512"},
		"OAuth is refused":            oauth,
		"registry refuses":            {"SCHEMA_REGISTRY_PASSWORD": markWrong},
		"TLS to a plain broker":       {"KAFKA_TLS": "true"},
		"TLS to a plain platform":     {"STELLAR_URL": "https" + strings.TrimPrefix(w.environ["STELLAR_URL"], "http")},
		"user info for the platform":  {"STELLAR_URL": withUserInfo},
		"user info for the brokers":   {"KAFKA_BROKERS": "me:" + markUserInfo + "@127.0.0.1:1"},
		"user info for the registry":  {"SCHEMA_REGISTRY_URL": withUserInfo},
		"user info for the collector": {"OTEL_EXPORTER_OTLP_ENDPOINT": withUserInfo},
		"user info for the tokens":    {"KAFKA_SASL_MECHANISM": "OAUTHBEARER", "KAFKA_OAUTH_TOKEN_URL": withUserInfo, "KAFKA_OAUTH_CLIENT_SECRET": markOAuth},
		"key file for everything": {"KAFKA_TLS": "true", "KAFKA_TLS_CA_FILE": w.keyFile, "KAFKA_TLS_CERT_FILE": w.keyFile, "KAFKA_TLS_KEY_FILE": w.keyFile,
			"STELLAR_CA_FILE": w.keyFile, "STELLAR_URL": "https" + strings.TrimPrefix(w.environ["STELLAR_URL"], "http"), "SCHEMA_REGISTRY_CA_FILE": w.keyFile,
			"STREAMS_FILE": ""},
		"key file for streams":   {"STREAMS_FILE": w.keyFile},
		"headers without a name": {"OTEL_EXPORTER_OTLP_HEADERS": markCollector},
	}
}

// letters keeps the dead letters, headers and all but their records, as another reader of the topic has them.
func (w *secretWorld) letters() {
	w.t.Helper()
	reader, err := kgo.NewClient(append(w.sasl(), kgo.ConsumeTopics("live.dlq", "live.receipts"))...)
	if err != nil {
		w.t.Fatal(err)
	}
	defer reader.Close()
	letters := 0
	ctx, cancel := context.WithTimeout(w.t.Context(), time.Minute)
	defer cancel()
	for letters < 2 && ctx.Err() == nil {
		reader.PollFetches(ctx).EachRecord(func(r *kgo.Record) {
			if r.Topic == "live.dlq" {
				letters++
			}
			for _, h := range r.Headers {
				w.says(fmt.Sprintf("%s:%d header %s", r.Topic, r.Offset, h.Key), string(h.Value))
			}
			w.says(fmt.Sprintf("%s:%d", r.Topic, r.Offset), string(r.Key)+string(r.Value))
		})
	}
	if letters < 2 {
		w.t.Error("the refused records left no dead letters to look at")
	}
}

// secrets are all that must stand nowhere, in the forms in which it would.
func (w *secretWorld) secrets() (all []string) {
	for _, mark := range []string{markAPIKey, markSASL, markRegistry, markOAuth, markCollector, markUserInfo, markKeyFile, markWrong} {
		all = append(all, mark, url.QueryEscape(mark), base64.StdEncoding.EncodeToString([]byte(mark)))
	}
	all = append(all, base64.StdEncoding.EncodeToString([]byte(stellartest.DefaultUser+":"+markAPIKey)),
		base64.StdEncoding.EncodeToString([]byte("u:"+markRegistry)))
	for token := range w.tokens {
		all = append(all, token)
	}
	return all
}

// commandLines are those that speak to anybody.
var commandLines = []string{"check --timeout 1s", "check --json --post-empty --timeout 1s", "trace t:0:0", "audit t --from earliest", "dlq ls", "dlq ls --json",
	"dlq show 0:0", "dlq export", "replay t --from earliest --include-unsettled --dry-run", "transform --topic t"}

// A secret that any of our words holds is in somebody's log archive, ticket or terminal for good.
func TestSecretsAppearNowhere(t *testing.T) {
	t.Parallel() // most of it is waiting for those who do not answer
	w := newSecretWorld(t)
	detection := `{"event_name":"e","event_source":"s"}`
	w.live("faults", nil, func(*saidText) {
		w.faults()
		w.produce(detection, 2*len(stellartest.FaultNames())+2)
		w.produce(`{"event_name":"echo","event_source":"s"}`, 1)
		w.produce("no json", 1)
		w.until("both bad records are dead letters", func() bool {
			w.produce(detection, 1) // whose delivery shows that the failure is the record's own
			return w.end("live.dlq") == 2
		})
		w.until("all is settled", w.settled)
	})
	w.letters()
	for _, line := range append(slices.Clone(commandLines), "check --learn --consent --timeout 1s") {
		w.command("all is well", nil, line)
	}
	bad := w.badSettings()
	var all sync.WaitGroup // most of them wait for somebody
	for name, changes := range bad {
		for _, line := range commandLines {
			all.Go(func() { w.command(name, changes, line) })
		}
	}
	all.Wait()
	for _, name := range []string{"wrong API key", "wrong SASL password", "OAuth is refused", "key file for everything"} {
		w.live(name, bad[name], func(log *saidText) {
			w.produce(detection, 1)
			w.until(name+" is complained of", func() bool { return strings.Contains(log.String(), `"level":"WARN"`) })
		})
	}
	w.says("traces", w.collected.String())
	if len(w.tokens) == 0 || !strings.Contains(w.collected.String(), "consume t") {
		t.Fatal("no token was given out, or no span came in plain text: nothing was tried")
	}
	for _, s := range w.said {
		for _, mark := range w.secrets() {
			if at := strings.Index(s.text, mark); at >= 0 {
				t.Errorf("%s holds %q: …%q", s.where, mark, s.text[max(0, at-100):at])
				break
			}
		}
	}
}
