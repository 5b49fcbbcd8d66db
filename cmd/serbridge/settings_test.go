package main

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"serbridge/bridge/secret"
)

// minimal is the smallest environment that `run` takes.
func minimal(more map[string]string) map[string]string {
	environ := map[string]string{
		"KAFKA_BROKERS":   "broker-0:9092",
		"KAFKA_TOPICS":    "edr.alerts",
		"STELLAR_URL":     "https://stellar.example.com",
		"STELLAR_USER":    "api@example.com",
		"STELLAR_API_KEY": "key-0123456789",
	}
	maps.Copy(environ, more)
	maps.DeleteFunc(environ, func(_, value string) bool { return value == "-" }) // "-" takes a variable away
	return environ
}

// problemsOf loads and returns what stops the start.
func problemsOf(t *testing.T, environ map[string]string) problems {
	t.Helper()
	_, err := loadSettings(environ, new(secret.Redactor))
	if err == nil {
		return nil
	}
	if exitCode(err) != exitUsage {
		t.Errorf("exit code %d for %v, want %d", exitCode(err), err, exitUsage)
	}
	var found problems
	if !errors.As(err, &found) {
		t.Fatalf("error %T is no problems", err)
	}
	return found
}

func TestMinimalSettingsAreEnough(t *testing.T) {
	s, err := loadSettings(minimal(nil), nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name      string
		got, want any
	}{
		{"brokers", []string(s.Kafka.Brokers), []string{"broker-0:9092"}},
		{"topics", []string(s.Kafka.Topics), []string{"edr.alerts"}},
		{"group", s.Kafka.Group, "serbridge"},
		{"start", s.Kafka.Start, startPosition{Earliest: true}},
		{"session", s.Kafka.SessionTimeout, 45 * time.Second},
		{"dead letters", s.DLQ.Topic, "serbridge.dlq"},
		{"handled", s.DLQ.handledTopic(), "serbridge.dlq.handled"},
		{"create", s.DLQ.Create, true},
		{"drain", s.Delivery.DrainTimeout, 25 * time.Second},
		{"rate", s.Delivery.RateLimit, 200.0},
		{"share", s.Delivery.RateShare, "backlog"},
		{"buffer", s.Delivery.BufferBytes, size(32 << 20)},
		{"severity", s.Transform.SeverityDefault, 47},
		{"zone", s.Transform.TimeZone.Location, (*time.Location)(nil)},
		{"document", s.Transform.MaxDocumentBytes, size(1 << 20)},
		{"admin", s.Process.AdminAddr, ":9090"},
	} {
		if !reflect.DeepEqual(c.got, c.want) {
			t.Errorf("%s: got %v, want %v", c.name, c.got, c.want)
		}
	}
	if key, err := s.Stellar.APIKey(); key != "key-0123456789" || err != nil {
		t.Errorf("API key: got %q, %v", key, err)
	}
}

// TestEveryProblemIsSaidAtOnce: one start is enough to learn of all.
func TestEveryProblemIsSaidAtOnce(t *testing.T) {
	found := problemsOf(t, map[string]string{
		"KAFKA_TOPICS":    "good,bad topic",
		"KAFKA_START":     "yesterday",
		"STELLAR_URL":     "http://stellar.example.com",
		"STELLAR_TIMEOUT": "30s",
		"RATE_LIMIT":      "-1",
		"RAW_BYTES":       "4 MB",
		"ON_AMBIGUOUS":    "ask",
		"RECEIPTS_TOPIC":  "re ceipts",
		"MAX_SEND":        "3",
	})
	want := []string{
		"KAFKA_BROKERS", "KAFKA_START", "STELLAR_API_KEY", "RATE_LIMIT", "ON_AMBIGUOUS", "RAW_BYTES",
		"MAX_SEND", "KAFKA_TOPICS", "STELLAR_URL", "STELLAR_USER", "RECEIPTS_TOPIC", "STELLAR_TIMEOUT",
	}
	var got []string
	for _, p := range found {
		got = append(got, p.name)
	}
	if !slices.Equal(got, want) {
		t.Errorf("got problems with %v, want %v", got, want)
	}
}

func TestMalformedValueStopsTheStart(t *testing.T) {
	for _, c := range []struct {
		name, value string // "-" takes the variable away
		want        string // in the one problem
		blamed      string // variable; empty: name
		with        map[string]string
	}{
		{name: "KAFKA_BROKERS", value: "-", want: "required"},
		{name: "KAFKA_BROKERS", value: " , ", want: "required"},
		{name: "KAFKA_BROKERS", value: "kafka://b:9092", want: "host or host:port"},
		{name: "KAFKA_BROKERS", value: "b:99999", want: "host or host:port"},
		{name: "KAFKA_BROKERS", value: "b:9092,", want: ""},
		{name: "KAFKA_TOPICS", value: "a,^b", want: "alone"},
		{name: "KAFKA_TOPICS", value: "^a,b", want: "alone"},
		{name: "KAFKA_TOPICS", value: "^a[", want: "regular expression"},
		{name: "KAFKA_TOPICS", value: `^edr\.[a-z]{2,5}$`, want: ""},
		{name: "KAFKA_TOPICS", value: "a b", want: "legal topic name"},
		{name: "KAFKA_TOPICS", value: "..", want: "legal topic name"},
		{name: "KAFKA_TOPICS", value: strings.Repeat("t", 250), want: "legal topic name"},
		{name: "KAFKA_TOPICS", value: "a,serbridge.dlq", want: "cannot be a source"},
		{name: "KAFKA_TOPICS", value: "serbridge.dlq.handled", want: "cannot be a source"},
		{name: "KAFKA_TOPICS", value: "mine", want: "cannot be a source", with: map[string]string{"DLQ_TOPIC": "mine"}},
		{name: "KAFKA_TOPICS", value: "mine", want: "cannot be a source", with: map[string]string{"RECEIPTS_TOPIC": "mine"}},
		{name: "RECEIPTS_TOPIC", value: "serbridge.dlq", want: "topic of its own"},
		{name: "RECEIPTS_TOPIC", value: "serbridge.dlq.handled", want: "topic of its own"},
		{name: "RECEIPTS_TOPIC", value: "a/b", want: "legal topic name"},
		{name: "RECEIPTS_RETENTION", value: "90d", want: "duration"},
		{name: "KAFKA_GROUP", value: "a/b", want: "DLQ_TOPIC"},
		{name: "KAFKA_GROUP", value: "a/b", with: map[string]string{"DLQ_TOPIC": "a-b"}},
		{name: "DLQ_TOPIC", value: "a/b", want: "legal topic name"},
		{name: "DLQ_TOPIC", value: strings.Repeat("t", 242), want: ".handled"},
		{name: "DLQ_CREATE", value: "yes", want: "true or false"},
		{name: "KAFKA_START", value: "24h", want: "-24h"},
		{name: "KAFKA_START", value: "2026-01-31", want: "2026-01-31T08:00:00Z"},
		{name: "KAFKA_CLIENT_ID", value: strings.Repeat("c", 257), want: "at most 256"},
		{name: "KAFKA_CLIENT_ID", value: strings.Repeat("c", 256), want: ""},
		{name: "KAFKA_GROUP_PROTOCOL", value: "eager", want: "classic or consumer"},
		{name: "KAFKA_SESSION_TIMEOUT", value: "500ms", want: "from 1s to 30m"},
		{name: "KAFKA_SESSION_TIMEOUT", value: "45", want: "duration"},
		{name: "KAFKA_TLS_CA_FILE", value: "/ca.pem", want: "certificate files are set", blamed: "KAFKA_TLS"},
		{name: "KAFKA_TLS_CA_FILE", value: "/ca.pem", with: map[string]string{"KAFKA_TLS": "true"}},
		{name: "KAFKA_TLS_KEY_FILE", value: "/k.pem", want: "is required with", blamed: "KAFKA_TLS_CERT_FILE", with: map[string]string{"KAFKA_TLS": "true"}},
		{name: "KAFKA_SASL_MECHANISM", value: "plain", want: "want PLAIN"},
		{name: "KAFKA_SASL_MECHANISM", value: "plain", want: "want PLAIN", with: map[string]string{"KAFKA_SASL_PASSWORD": "swordfish"}},
		{name: "KAFKA_TLS", value: "on", want: "true or false", with: map[string]string{"KAFKA_TLS_CA_FILE": "/ca.pem"}},
		{name: "KAFKA_SASL_PASSWORD", value: "swordfish", want: "is not set", blamed: "KAFKA_SASL_MECHANISM"},
		{name: "KAFKA_SASL_PASSWORD", value: "swordfish", want: "is required", blamed: "KAFKA_SASL_USERNAME", with: map[string]string{"KAFKA_SASL_MECHANISM": "PLAIN"}},
		{name: "STELLAR_URL", value: "stellar.example.com", want: "https:// and a host"},
		{name: "STELLAR_URL", value: "ftp://stellar.example.com", want: "https:// and a host"},
		{name: "STELLAR_URL", value: "https://stellar.example.com/connect", want: "scheme and host only"},
		{name: "STELLAR_URL", value: "https://stellar.example.com?x=1", want: "scheme and host only"},
		{name: "STELLAR_URL", value: "https://stellar.example.com:0", want: "port"},
		{name: "STELLAR_URL", value: "https://stellar.example.com/", want: ""},
		{name: "STELLAR_URL", value: "http://stellar.example.com", want: "STELLAR_ALLOW_HTTP"},
		{name: "STELLAR_URL", value: "http://127.0.0.1.example.com", want: "STELLAR_ALLOW_HTTP"},
		{name: "STELLAR_URL", value: "http://stellar.example.com", with: map[string]string{"STELLAR_ALLOW_HTTP": "true"}},
		{name: "STELLAR_URL", value: "http://127.0.0.1:8080", want: ""},
		{name: "STELLAR_URL", value: "http://[::1]:8080", want: ""},
		{name: "STELLAR_URL", value: "http://localhost", want: ""},
		{name: "STELLAR_USER", value: "-", want: "required with STELLAR_AUTH=jwt"},
		{name: "STELLAR_USER", value: "-", with: map[string]string{"STELLAR_AUTH": "jwt-bearer"}},
		{name: "STELLAR_API_KEY", value: "-", want: "STELLAR_API_KEY_FILE"},
		{name: "STELLAR_API_KEY", value: "-", with: map[string]string{"STELLAR_API_KEY_FILE": "/run/key"}},
		{name: "STELLAR_API_KEY", value: "key\n", want: "line break"},
		{name: "STELLAR_API_KEY_FILE", value: "/run/key", want: "one of the two", blamed: "STELLAR_API_KEY"},
		{name: "STELLAR_INSERT_PATH", value: "insert", want: "starts with /"},
		{name: "STELLAR_INSERT_PATH", value: "//evil.example.com/x", want: "starts with /"},
		{name: "STELLAR_INSERT_PATH", value: "/x?y=1", want: "without query"},
		{name: "STELLAR_SUCCESS", value: "any", want: "id or status"},
		{name: "STELLAR_CA_FILE", value: "/ca.pem", want: "contradicts", with: map[string]string{"STELLAR_INSECURE_SKIP_VERIFY": "true"}},
		{name: "STELLAR_TIMEOUT", value: "25s", want: "less than DRAIN_TIMEOUT (25s)"},
		{name: "DRAIN_TIMEOUT", value: "20s", want: "less than DRAIN_TIMEOUT (20s)", blamed: "STELLAR_TIMEOUT"},
		{name: "DRAIN_TIMEOUT", value: "x", want: "duration from 200ms to 15m"},
		{name: "RATE_LIMIT", value: "NaN", want: "at least 0"},
		{name: "RATE_LIMIT", value: "+Inf", want: "number of requests"},
		{name: "RATE_LIMIT", value: "0", want: ""},
		{name: "RATE_LIMIT", value: "0.5", want: ""},
		{name: "RATE_BURST", value: "0", want: "whole number from 1"},
		{name: "RATE_SHARE", value: "fair", want: "backlog or partitions"},
		{name: "MAX_IN_FLIGHT", value: "1.5", want: "whole number"},
		{name: "BUFFER_BYTES", value: "1KiB", want: "from 4MiB to 64GiB"},
		{name: "BUFFER_BYTES", value: "9223372036854775807GiB", want: "number of bytes"},
		{name: "COMMIT_INTERVAL", value: "2m", want: "from 10ms to 1m"},
		{name: "MAX_REPEATS", value: "0", want: ""},
		{name: "MAX_SENDS", value: "0", want: "from 1 to 1000"},
		{name: "PROBE_WAIT", value: "0s", want: "from 1s to 1h"},
		{name: "REJECT_BRAKE", value: "-1", want: "whole number"},
		{name: "FORMATS", value: "auto,nonsense", want: "want auto, or some of aella_ser"},
		{name: "MAPPING_DIR", value: "/no/such/directory", want: "list mappings"},
		{name: "STREAMS_FILE", value: "/no/such/s.yaml", want: "no such file"},
		{name: "EVENT_STATUS", value: "closed", want: "New, In Progress, Ignored or Closed"},
		{name: "SEVERITY_DEFAULT", value: "101", want: "from 0 to 100"},
		{name: "TIME_ZONE", value: "Mars/Olympus", want: "IANA"},
		{name: "TIME_ZONE", value: "Local", want: "IANA"},
		{name: "TIME_ZONE", value: "Europe/Berlin", want: ""},
		{name: "ON_UNKNOWN", value: "generic", want: ""},
		{name: "CUSTOM_NAMESPACE", value: "a.b", want: "lower-case"},
		{name: "CUSTOM_NAMESPACE", value: "Acme", want: "lower-case"},
		{name: "RAW_BYTES", value: "0", want: ""},
		{name: "RAW_BYTES", value: "8KiB", want: "no document could hold it", with: map[string]string{"MAX_DOCUMENT_BYTES": "4KiB"}},
		{name: "MAX_DOCUMENT_BYTES", value: "8MiB", want: "at most BUFFER_BYTES", with: map[string]string{"BUFFER_BYTES": "4MiB"}},
		{name: "SCHEMA_REGISTRY_URL", value: "https://r/apis/ccompat/v7", want: ""},
		{name: "SCHEMA_REGISTRY_URL", value: "r:8081", want: "want https://"},
		{name: "SCHEMA_REGISTRY_URL", value: "https://u:p@r", want: "user information"},
		{name: "SCHEMA_REGISTRY_URL", value: "https://r?x=1", want: "perhaps a path"},
		{name: "SCHEMA_REGISTRY_PASSWORD_FILE", value: "/p", want: "required where", blamed: "SCHEMA_REGISTRY_URL"},
		{name: "ADMIN_ADDR", value: "9090", want: "host:port"},
		{name: "ADMIN_ADDR", value: "127.0.0.1:0", want: ""},
		{name: "LOG_LEVEL", value: "trace", want: "debug, info, warn or error"},
		{name: "KAFKA_RACK", value: "", want: ""}, // an empty variable is an unset one
		{name: "KAFKA_GROUP", value: "  ", want: ""},
	} {
		t.Run(c.name+"="+c.value, func(t *testing.T) {
			t.Parallel()
			environ := map[string]string{c.name: c.value}
			maps.Copy(environ, c.with)
			found := problemsOf(t, minimal(environ))
			if c.want == "" {
				if len(found) > 0 {
					t.Errorf("got %v, want no problem", found)
				}
				return
			}
			blamed := c.blamed
			if blamed == "" {
				blamed = c.name
			}
			if len(found) != 1 || found[0].name != blamed || !strings.Contains(found.Error(), c.want) {
				t.Errorf("got %v, want one problem with %s: … %s …", found, blamed, c.want)
			}
		})
	}
}

// TestProblemNamesVariableValueAndAllowed is the form that an operator reads.
func TestProblemNamesVariableValueAndAllowed(t *testing.T) {
	err := usageError{problemsOf(t, minimal(map[string]string{"RATE_BURST": "many\x1b[2J"}))}
	want := "settings:\n  RATE_BURST=\"many\\x1b[2J\": want a whole number from 1 to 100000"
	if err.Error() != want {
		t.Errorf("got %q, want %q", err.Error(), want)
	}
}

// TestProblemsShowNoSecret: not in its own variable, not in a URL, not pasted into the wrong variable.
func TestProblemsShowNoSecret(t *testing.T) {
	const key = "S3cr3t-K3y/with+signs&and a rather long tail that is longer than what is quoted of a value"
	secrets := []string{"STELLAR_API_KEY", "STELLAR_USER", "KAFKA_SASL_USERNAME", "KAFKA_SASL_PASSWORD", "KAFKA_OAUTH_CLIENT_ID",
		"KAFKA_OAUTH_CLIENT_SECRET", "SCHEMA_REGISTRY_USERNAME", "SCHEMA_REGISTRY_PASSWORD"}
	var everything []map[string]string
	for _, name := range secrets {
		everything = append(everything,
			map[string]string{name: key, name + "_FILE": "/run/secret"}, // both
			map[string]string{name: key + "\n"},
			map[string]string{name[:len(name)-1]: key}) // misspelt
	}
	for _, r := range rowsOf(reflect.TypeFor[settings]()) {
		if !r.isSecret() {
			everything = append(everything, map[string]string{"STELLAR_API_KEY": key, r.name: key})
		}
	}
	everything = append(everything,
		map[string]string{"STELLAR_URL": "https://user:" + key[:20] + "@stellar.example.com"},
		map[string]string{"STELLAR_URL": "://user:" + key[:20] + "@stellar.example.com"},
		map[string]string{"STELLAR_URL": "https://stellar.example.com/?key=" + key[:20]},
		map[string]string{"KAFKA_BROKERS": "user:" + key[:20] + "@broker:9092"},
		map[string]string{"KAFKA_SASL_MECHANISM": "OAUTHBEARER", "KAFKA_OAUTH_TOKEN_URL": "https://user:" + key[:20] + "@idp"},
	)
	problemsSeen := 0
	for _, environ := range everything {
		_, err := loadSettings(minimal(environ), new(secret.Redactor))
		if err == nil {
			continue // a free text such as KAFKA_RACK
		}
		problemsSeen++
		if text := err.Error(); strings.Contains(text, key[:8]) || strings.Contains(text, "tail") {
			t.Errorf("%v: problem shows the secret: %s", slices.Collect(maps.Keys(environ)), text)
		}
	}
	if problemsSeen < len(everything)/2 {
		t.Errorf("only %d of %d environments were a problem: the test tests too little", problemsSeen, len(everything))
	}
}

// TestCredentialFileIsReadAtEachUse: a rotated key needs no restart, and a missing file none either.
func TestCredentialFileIsReadAtEachUse(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key")
	red := new(secret.Redactor)
	s, err := loadSettings(minimal(map[string]string{"STELLAR_API_KEY": "-", "STELLAR_API_KEY_FILE": path}), red)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Stellar.APIKey(); err == nil {
		t.Error("a missing file gives a credential")
	}
	for _, want := range []string{"first-key", "second-key"} {
		if err := os.WriteFile(path, []byte(want+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		if got, err := s.Stellar.APIKey(); got != want || err != nil {
			t.Errorf("got %q, %v, want %q", got, err, want)
		}
		if shown := red.Redact("the " + want); strings.Contains(shown, want) {
			t.Errorf("the redactor does not know %q", want)
		}
	}
}

// TestUserNameIsNotRedacted: a user called serbridge must not empty every log line of its group and topics.
func TestUserNameIsNotRedacted(t *testing.T) {
	red := new(secret.Redactor)
	s, err := loadSettings(minimal(map[string]string{"STELLAR_USER": "serbridge"}), red)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Stellar.User(); err != nil {
		t.Fatal(err)
	}
	if got := red.Redact("serbridge.dlq"); got != "serbridge.dlq" {
		t.Errorf("got %q", got)
	}
}

func TestMisspeltVariableStopsTheStart(t *testing.T) {
	for _, c := range []struct{ name, want string }{
		{"KAFKA_BROKER", "KAFKA_BROKERS"},
		{"KAFKA_BORKERS", "KAFKA_BROKERS"}, // two edits, nine letters and more
		{"KAFKA_TOPCS_", "KAFKA_TOPICS"},
		{"STELAR_URL", "STELLAR_URL"},
		{"STELLAR_APIKEY", "STELLAR_API_KEY"},
		{"STELLAR_API_KEYFILE", "STELLAR_API_KEY_FILE"},
		{"STELLAR_USER_FIEL", "STELLAR_USER_FILE"},
		{"FORMAT", "FORMATS"}, // one edit, short
		{"TIMEZONE", "TIME_ZONE"},
		{"MAX_REPEAT", "MAX_REPEATS"},
		{"DLQ_TOPICS", "DLQ_TOPIC"},
		{"ON_AMBIGOUS", "ON_AMBIGUOUS"},
		{"FORMAST", ""}, // two edits, short
		{"LOG_FORMAT", ""},
		{"KAFKA_SASL_PASSWORDXYZ", ""},
		{"KAFKA_OPTS", ""}, {"KAFKA_HEAP_OPTS", ""}, {"KAFKA_HOME", ""}, {"KAFKA_PORT", ""}, {"KAFKA_SERVICE_HOST", ""},
		{"KAFKA_PORT_9092_TCP_ADDR", ""}, {"KAFKA_HOST", ""}, {"KAFKA_CLUSTER_ID", ""}, {"KAFKA_SSL", ""},
		{"PATH", ""}, {"HOME", ""}, {"HOSTNAME", ""}, {"TZ", ""}, {"TERM", ""}, {"LOG_FILE", ""}, {"LANG", ""}, {"", ""},
		{"AWS_REGION", ""}, {"OTEL_EXPORTER_OTLP_ENDPOINT", ""}, {"GOMEMLIMIT", ""}, {"kafka_brokers", ""},
	} {
		found := problemsOf(t, minimal(map[string]string{c.name: "x.y"}))
		switch {
		case c.want == "" && found.has(c.name) && !ourNames()[c.name]:
			t.Errorf("%s is judged: %v", c.name, found)
		case c.want != "" && (len(found) != 1 || !strings.Contains(found.Error(), c.name+": no setting of serbridge: did you mean "+c.want+"?")):
			t.Errorf("%s: got %v, want did you mean %s", c.name, found, c.want)
		}
	}
}

// TestOurOwnNamesAreNeverMisspelt: names of ours that are near to each other.
func TestOurOwnNamesAreNeverMisspelt(t *testing.T) {
	environ := make(map[string]string)
	for name := range ourNames() {
		environ[name] = "x"
	}
	if found := nearMisses(environ, rowsOf(reflect.TypeFor[settings]())); len(found) > 0 {
		t.Errorf("got %v", found)
	}
}

func TestDistanceCountsEdits(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want int
	}{
		{"", "", 0}, {"A", "A", 0}, {"A", "B", 1}, {"", "AB", 2}, {"AB", "", 2}, {"ABC", "AC", 1}, {"AC", "ABC", 1},
		{"ABCD", "ACBD", 2}, {"KITTEN", "SITTEN", 1}, {"KITTEN", "SITTIN", 2}, {"ABCDEF", "ABC", 3}, {"ABCD", "WXYZ", 4},
	} {
		if got := distance(c.a, c.b); got != c.want {
			t.Errorf("distance(%q, %q) = %d, want %d", c.a, c.b, got, c.want)
		}
	}
}

func TestStartPositionForms(t *testing.T) {
	for _, c := range []struct {
		value string
		want  startPosition
	}{
		{"earliest", startPosition{Earliest: true}},
		{"latest", startPosition{Latest: true}},
		{"-24h", startPosition{Ago: 24 * time.Hour}},
		{"-1h30m", startPosition{Ago: 90 * time.Minute}},
		{"2026-01-31T08:00:00Z", startPosition{Time: time.Date(2026, 1, 31, 8, 0, 0, 0, time.UTC)}},
	} {
		var got startPosition
		if err := got.EnvDecode(c.value); err != nil || got != c.want {
			t.Errorf("%s: got %+v, %v, want %+v", c.value, got, err, c.want)
		}
		var again startPosition
		if err := again.EnvDecode(got.String()); err != nil || again != got {
			t.Errorf("%s: %q reads back as %+v, %v", c.value, got.String(), again, err)
		}
	}
}

func TestSizeForms(t *testing.T) {
	for _, c := range []struct {
		value string
		want  size
		shown string
	}{
		{"0", 0, "0"}, {"4096", 4096, "4KiB"}, {"4097", 4097, "4097"}, {"512B", 512, "512"}, {"32MiB", 32 << 20, "32MiB"},
		{"32 MiB", 32 << 20, "32MiB"}, {"1Gi", 1 << 30, "1GiB"}, {"1536KiB", 1536 << 10, "1536KiB"},
	} {
		var got size
		if err := got.EnvDecode(c.value); err != nil || got != c.want || got.String() != c.shown {
			t.Errorf("%s: got %d (%s), %v, want %d (%s)", c.value, got, got, err, c.want, c.shown)
		}
	}
	for _, value := range []string{"", "-1", "1MB", "1.5MiB", "1TiB", "MiB", "1  MiB", "9223372036854775807", "8589934592GiB"} {
		if err := new(size).EnvDecode(value); err == nil {
			t.Errorf("%q is taken for a size", value)
		}
	}
}

// TestTransformNeedsNoConnection: `serbridge transform` works on a laptop, and inside a pod with whatever is set there.
func TestTransformNeedsNoConnection(t *testing.T) {
	if _, err := loadTransformSettings(nil); err != nil {
		t.Errorf("empty environment: %v", err)
	}
	_, err := loadTransformSettings(map[string]string{"KAFKA_START": "nonsense", "KAFKA_BROKER": "x", "RAW_BYTES": "x", "EVENT_SORUCE": "x"})
	var found problems
	if !errors.As(err, &found) || len(found) != 2 || !found.has("RAW_BYTES") || !found.has("EVENT_SORUCE") {
		t.Errorf("got %v, want problems with RAW_BYTES and EVENT_SORUCE", err)
	}
}

// TestNoRawIsNotTheDefaultRaw: 0 means none here and the default in the package transform.
func TestNoRawIsNotTheDefaultRaw(t *testing.T) {
	s, err := loadTransformSettings(map[string]string{"RAW_BYTES": "0", "SEVERITY_DEFAULT": "0"})
	if err != nil {
		t.Fatal(err)
	}
	if got := s.Transform.config(); got.RawBytes >= 0 || got.SeverityDefault == nil || *got.SeverityDefault != 0 {
		t.Errorf("got %+v", got)
	}
}

// TestTableIsComplete: every row has what README, help and checks are made of, and its own default is allowed.
func TestTableIsComplete(t *testing.T) {
	seen := make(map[string]bool)
	for _, r := range rowsOf(reflect.TypeFor[settings]()) {
		if r.name == "" || r.doc == "" || !strings.HasSuffix(r.doc, ".") || sections[r.section] == "" || seen[r.name] {
			t.Errorf("row %q: no name, doc or section, or twice", r.field.Name)
		}
		seen[r.name] = true
		if found := r.decode(map[string]string{r.name: r.preset}, reflect.New(r.field.Type).Elem()); !r.isSecret() && !r.required && len(found) > 0 {
			t.Errorf("default of %s: %v", r.name, found)
		}
	}
}

const (
	settingsBegin = "<!-- settings -->\n"
	settingsEnd   = "<!-- /settings -->\n"
)

// TestReadmeListsEveryVariable compares README.md with the table. To mend it: SERBRIDGE_README=write go test ./cmd/...
func TestReadmeListsEveryVariable(t *testing.T) {
	const path = "../../README.md"
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(text), settingsBegin)
	got, after, ok2 := strings.Cut(rest, settingsEnd)
	if !ok || !ok2 {
		t.Fatalf("%s has no section between %q and %q", path, settingsBegin, settingsEnd)
	}
	want := "\n" + settingsTable("markdown") + "\n"
	if got == want {
		return
	}
	if os.Getenv("SERBRIDGE_README") != "write" {
		t.Fatalf("%s differs from the table of settings; SERBRIDGE_README=write go test ./cmd/... mends it", path)
	}
	if err := os.WriteFile(path, []byte(before+settingsBegin+want+settingsEnd+after), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestHelpListsEveryVariable(t *testing.T) {
	help := settingsTable("text")
	for name := range ourNames() {
		if !strings.Contains(help, name) {
			t.Errorf("help settings does not name %s", name)
		}
	}
	for line := range strings.Lines(help) {
		if len(line) > 100 {
			t.Errorf("line too long for a terminal: %q", line)
		}
	}
}

// Example_problems shows what an operator reads when a start is refused.
func Example_problems() {
	_, err := loadSettings(map[string]string{
		"KAFKA_BROKER":         "broker-0:9092",
		"KAFKA_TOPICS":         "edr.alerts",
		"STELLAR_URL":          "https://stellar.example.com/connect",
		"STELLAR_USER":         "api@example.com",
		"STELLAR_API_KEY_FILE": "/run/secrets/key",
		"RATE_LIMIT":           "fast",
	}, nil)
	fmt.Println(err)
	// Output:
	// settings:
	//   KAFKA_BROKERS: required: Brokers to start from, comma-separated: host or host:port.
	//   RATE_LIMIT="fast": want a number of at least 0
	//   KAFKA_BROKER: no setting of serbridge: did you mean KAFKA_BROKERS?
	//   STELLAR_URL="https://stellar.example.com/connect": want scheme and host only, such as https://stellar.example.com (the path is STELLAR_INSERT_PATH)
}
