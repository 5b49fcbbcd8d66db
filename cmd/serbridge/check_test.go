package main

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"github.com/twmb/franz-go/pkg/sr"
	"github.com/twmb/franz-go/pkg/sr/srfake"

	"serbridge/bridge/stellar/stellartest"
)

const (
	checkPassword = "k4fka-p4ssword"
	checkAPIKey   = "stell4r-api-key"
)

// place is a broker with rights and a simulator, all as `serbridge check` wants it.
type place struct {
	t         *testing.T
	cluster   *kfake.Cluster
	simulator *stellartest.Server
	running   *stellartest.Running
	environ   map[string]string
}

// allRights are those that the README names, for user bridge.
func allRights() []kfake.ACL {
	topic := func(name string, op kmsg.ACLOperation) kfake.ACL {
		return kfake.ACL{Resource: kmsg.ACLResourceTypeTopic, Name: name, Pattern: kmsg.ACLResourcePatternTypeLiteral, Operation: op, Allow: true}
	}
	return []kfake.ACL{
		topic("detections", kmsg.ACLOperationRead), topic("detections", kmsg.ACLOperationDescribe), topic("detections", kmsg.ACLOperationDescribeConfigs),
		topic("g.dlq", kmsg.ACLOperationWrite), topic("g.dlq", kmsg.ACLOperationDescribe), topic("g.dlq", kmsg.ACLOperationCreate),
		{Resource: kmsg.ACLResourceTypeGroup, Name: "g", Pattern: kmsg.ACLResourcePatternTypeLiteral, Operation: kmsg.ACLOperationRead, Allow: true},
		{Resource: kmsg.ACLResourceTypeGroup, Name: "g", Pattern: kmsg.ACLResourcePatternTypeLiteral, Operation: kmsg.ACLOperationDescribe, Allow: true},
	}
}

// without takes one right away, or all of them (0).
func without(topicOrGroup string, op kmsg.ACLOperation) []kfake.ACL {
	return slices.DeleteFunc(allRights(), func(a kfake.ACL) bool { return a.Name == topicOrGroup && (op == 0 || a.Operation == op) })
}

func newPlace(t *testing.T, rights []kfake.ACL, seed ...string) *place {
	t.Helper()
	p := &place{t: t}
	var err error
	p.cluster, err = kfake.NewCluster(kfake.NumBrokers(2), kfake.SeedTopics(3, seed...), kfake.EnableSASL(), kfake.EnableACLs(),
		kfake.Superuser("PLAIN", "root", "root"), kfake.User("PLAIN", "bridge", checkPassword, rights...))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.cluster.Close)
	p.simulator = stellartest.New(stellartest.Config{APIKey: checkAPIKey})
	t.Cleanup(func() { p.simulator.Close() })
	if p.running, err = p.simulator.StartTLS("127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := p.running.WriteCA(ca); err != nil {
		t.Fatal(err)
	}
	p.environ = map[string]string{
		"KAFKA_BROKERS": p.cluster.ListenAddrs()[0], "KAFKA_TOPICS": "detections", "KAFKA_GROUP": "g",
		"KAFKA_SASL_MECHANISM": "PLAIN", "KAFKA_SASL_USERNAME": "bridge", "KAFKA_SASL_PASSWORD": checkPassword,
		"STELLAR_URL": p.running.URL(), "STELLAR_CA_FILE": ca, "STELLAR_USER": stellartest.DefaultUser, "STELLAR_API_KEY": checkAPIKey,
	}
	return p
}

// begin commits the start of the topic, so that there is a group: the embedded broker looks at rights only then, where
// Kafka looks at them first.
func (p *place) begin() {
	p.t.Helper()
	var start kadm.Offsets
	for id := range int32(3) {
		start.AddOffset("detections", id, 0, -1)
	}
	if _, err := kadm.NewClient(p.root()).CommitOffsets(context.Background(), "g", start); err != nil {
		p.t.Fatal(err)
	}
}

// produce writes n records to detections, as a user with every right.
func (p *place) produce(n int, at time.Time) {
	p.t.Helper()
	for i := range n {
		r := &kgo.Record{Topic: "detections", Value: fmt.Appendf(nil, `{"n":%d}`, i), Timestamp: at}
		if err := p.root().ProduceSync(context.Background(), r).FirstErr(); err != nil {
			p.t.Fatal(err)
		}
	}
}

func (p *place) root() *kgo.Client {
	p.t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(p.cluster.ListenAddrs()...), kgo.SASL(plain.Auth{User: "root", Pass: "root"}.AsMechanism()))
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(client.Close)
	return client
}

// checkAnswer is what `check --json` says.
type checkAnswer struct {
	Result state `json:"result"`
	Facts  facts `json:"facts"`
	code   int
}

// check runs `serbridge check --json` and holds it to what every run must keep.
func (p *place) check(args ...string) checkAnswer {
	p.t.Helper()
	got := runProgram(program{environ: p.environ}, append([]string{"check", "--json", "--timeout", "3s"}, args...)...)
	for _, secret := range []string{checkPassword, checkAPIKey} {
		if strings.Contains(got.stdout+got.stderr, secret) {
			p.t.Errorf("a credential is shown:\n%s%s", got.stdout, got.stderr)
		}
	}
	a := checkAnswer{code: got.code}
	if err := json.Unmarshal([]byte(got.stdout), &a); err != nil {
		p.t.Fatalf("read %q: %v; standard error %q", got.stdout, err, got.stderr)
	}
	for _, f := range a.Facts {
		if f.State != stateOK && f.Do == "" {
			p.t.Errorf("%+v does not say what to do", f)
		}
	}
	return a
}

// has finds the fact, and is nil without it.
func (a checkAnswer) has(name string, s state) *fact {
	for _, f := range a.Facts {
		if f.Name == name && f.State == s {
			return &f
		}
	}
	return nil
}

func (a checkAnswer) names() []string {
	names := make(map[string]bool)
	for _, f := range a.Facts {
		names[f.Name] = true
	}
	return slices.Sorted(maps.Keys(names))
}

func TestCheckFindsAWellPreparedPlaceReady(t *testing.T) {
	p := newPlace(t, allRights(), "detections", "g.dlq")
	p.produce(10, time.Now().Add(-3*time.Hour))
	a := p.check("--post-empty", "--replicas", "2")
	if a.code != exitDone || a.Result != stateOK {
		t.Errorf("code %d, %s: %+v", a.code, a.Result, a.Facts)
	}
	want := []string{"backlog", "clock", "credentials", "dead-letter topic", "dead-letter topic rights", "group", "group rights", "kafka brokers",
		"kafka dns", "kafka login", "kafka tcp", "memory", "rate", "settings", "stellar connection", "stellar insert", "stellar login", "stellar search",
		"stellar tls", "topic", "topic rights"}
	if got := a.names(); !slices.Equal(got, want) {
		t.Errorf("facts %q, want %q", got, want)
	}
	for name, words := range map[string][]string{
		"backlog": {"10 records", "KAFKA_START=earliest", "3 h 0 min old", "at 200 a second"}, "topic": {"3 partitions"},
		"stellar login": {stellartest.DefaultUser, "a token until"}, "stellar tls": {"127.0.0.1", "until"}, "rate": {"100 for each of 2"},
	} {
		for _, word := range words {
			if f := a.has(name, stateOK); f == nil || !strings.Contains(f.Says, word) {
				t.Errorf("%s: %+v does not say %q", name, f, word)
			}
		}
	}
}

// A preflight that itself joins, commits, creates, produces or inserts could lose or repeat what it was to protect.
func TestCheckLeavesNoTrace(t *testing.T) {
	p := newPlace(t, allRights(), "detections")
	p.produce(10, time.Now())
	admin := kadm.NewClient(p.root())
	seen := func() string {
		topics, err := admin.ListTopics(kadm.WithAuthorizedOps(context.Background())) // past the cache
		if err != nil {
			t.Fatal(err)
		}
		groups, err := admin.ListGroups(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		ends, err := admin.ListEndOffsets(context.Background(), "detections")
		if err != nil {
			t.Fatal(err)
		}
		return fmt.Sprint(topics.Names(), groups.Groups(), ends.Offsets().Sorted())
	}
	before := seen()
	if a := p.check("--post-empty"); a.code != exitDone || a.has("dead-letter topic", stateOK) == nil {
		t.Errorf("%+v", a)
	}
	if after := seen(); after != before {
		t.Errorf("Kafka before %s, after %s", before, after)
	}
	if n := len(p.simulator.Documents()); n != 0 {
		t.Errorf("%d documents were inserted", n)
	}
}

func TestCheckSaysWhatFailsAndWhatToDo(t *testing.T) {
	set := func(pairs ...string) func(*place) {
		return func(p *place) {
			for i := 0; i < len(pairs); i += 2 {
				p.environ[pairs[i]] = pairs[i+1]
			}
		}
	}
	variant := func(v stellartest.Variant) func(*place) { return func(p *place) { p.simulator.SetVariant(v) } }
	for _, c := range []struct {
		name   string
		rights []kfake.ACL // nil: all
		seed   []string    // nil: detections, g.dlq
		change func(*place)
		args   string
		fact   string
		state  state
		words  string // in what it says and what to do, separated by |
	}{
		{name: "no such host", change: set("KAFKA_BROKERS", strings.Repeat("a", 70)+":9092"), fact: "kafka dns", state: stateFailed, words: "KAFKA_BROKERS"},
		{name: "nothing listens", change: set("KAFKA_BROKERS", "127.0.0.1:1"), fact: "kafka tcp", state: stateFailed, words: "refused|firewalls"},
		{name: "TLS to a plain broker", change: set("KAFKA_TLS", "true"), fact: "kafka tls", state: stateFailed, words: "KAFKA_TLS"},
		{name: "wrong password", change: set("KAFKA_SASL_PASSWORD", "wr0ng-p4ss"), fact: "kafka login", state: stateFailed, words: "PLAIN|KAFKA_SASL_PASSWORD"},
		{name: "missing credential file", change: func(p *place) {
			delete(p.environ, "STELLAR_API_KEY")
			p.environ["STELLAR_API_KEY_FILE"] = "/does/not/exist"
		}, fact: "credentials", state: stateFailed, words: "/does/not/exist|mounted"},
		{name: "missing topic", seed: []string{"g.dlq"}, fact: "topic", state: stateFailed, words: "does not exist|KAFKA_TOPICS"},
		{name: "pattern without a topic", change: set("KAFKA_TOPICS", "^edr"), fact: "topics", state: stateFailed, words: "matches no topic|Describe"},
		{name: "may not read", rights: without("detections", kmsg.ACLOperationRead), fact: "topic rights", state: stateFailed, words: "lacks Read|grant"},
		{name: "may not see", rights: without("detections", 0), fact: "topic", state: stateFailed, words: "Describe"},
		{name: "may not see dead letters", rights: without("g.dlq", 0), fact: "dead-letter topic", state: stateFailed, words: "grant our Kafka user Write"},
		{name: "may not commit", rights: without("g", kmsg.ACLOperationRead), change: (*place).begin, fact: "group rights", state: stateFailed, words: "grant|Read"},
		{name: "may not write dead letters", rights: without("g.dlq", kmsg.ACLOperationWrite), fact: "dead-letter topic rights", state: stateFailed, words: "lacks Write"},
		{name: "may not create dead letters", rights: without("g.dlq", kmsg.ACLOperationCreate), seed: []string{"detections"}, fact: "dead-letter topic", state: stateFailed, words: "Create"},
		{name: "dead letters not created", seed: []string{"detections"}, change: set("DLQ_CREATE", "false"), fact: "dead-letter topic", state: stateFailed, words: "DLQ_CREATE"},
		{name: "more replicas than partitions", args: "--replicas 5", fact: "rate", state: stateWarning, words: "2 replicas idle"},
		{name: "no limit", change: set("RATE_LIMIT", "0"), fact: "rate", state: stateWarning, words: "RATE_LIMIT"},
		{name: "retention is faster", change: func(p *place) {
			p.produce(200, time.Now().Add(-8*24*time.Hour))
			p.environ["RATE_LIMIT"] = "0.01"
		}, fact: "backlog", state: stateWarning, words: "retention|before it is delivered"},
		{name: "platform is down", change: func(p *place) { p.running.Close() }, fact: "stellar connection", state: stateFailed, words: "STELLAR_URL"},
		{name: "unknown authority", change: func(p *place) { delete(p.environ, "STELLAR_CA_FILE") }, fact: "stellar tls", state: stateFailed, words: "STELLAR_CA_FILE"},
		{name: "unverified", change: func(p *place) {
			delete(p.environ, "STELLAR_CA_FILE")
			p.environ["STELLAR_INSECURE_SKIP_VERIFY"] = "true"
		}, fact: "stellar tls", state: stateWarning, words: "not verified"},
		{name: "wrong key", change: set("STELLAR_API_KEY", "wr0ng-key"), fact: "stellar login", state: stateFailed, words: "STELLAR_API_KEY"},
		{name: "wrong insert path", change: variant(stellartest.Variant{InsertPath: "/other"}), args: "--post-empty", fact: "stellar insert", state: stateFailed, words: "STELLAR_INSERT_PATH"},
		{name: "may not insert", change: func(p *place) {
			p.environ["STELLAR_AUTH"] = "jwt-bearer"
			delete(p.environ, "STELLAR_USER")
			p.simulator.SetVariant(stellartest.Variant{ScopedInsert: true})
		}, args: "--post-empty", fact: "stellar insert", state: stateFailed, words: "Super Admin"},
		{name: "basic is refused", change: func(p *place) {
			p.environ["STELLAR_AUTH"] = "basic"
			p.simulator.SetVariant(stellartest.Variant{Auth: stellartest.AuthNoBasic})
		}, fact: "stellar login", state: stateFailed, words: "jwt"},
		{name: "search refused", change: variant(stellartest.Variant{Search: stellartest.SearchRefused}), fact: "stellar search", state: stateWarning, words: "probe"},
		{name: "search refused but needed", change: func(p *place) {
			p.environ["ON_AMBIGUOUS"] = "probe"
			p.simulator.SetVariant(stellartest.Variant{Search: stellartest.SearchRefused})
		}, fact: "stellar search", state: stateFailed, words: "ON_AMBIGUOUS=retry"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			if c.rights == nil {
				c.rights = allRights()
			}
			if c.seed == nil {
				c.seed = []string{"detections", "g.dlq"}
			}
			p := newPlace(t, c.rights, c.seed...)
			if c.change != nil {
				c.change(p)
			}
			a := p.check(strings.Fields(c.args)...)
			f := a.has(c.fact, c.state)
			if f == nil {
				t.Fatalf("%s is not %s: %+v", c.fact, c.state, a.Facts)
			}
			for word := range strings.SplitSeq(c.words, "|") {
				if !strings.Contains(f.Says+f.Do, word) {
					t.Errorf("%+v does not say %q", f, word)
				}
			}
			want := exitDone
			if c.state == stateFailed {
				want = exitFailed
			}
			if a.code != want || a.Result != c.state {
				t.Errorf("code %d, result %s, want %d, %s: %+v", a.code, a.Result, want, c.state, a.Facts)
			}
		})
	}
}

// A group that another kind of application has, or other replicas by the other protocol, cannot be joined.
func TestCheckSeesOthersInTheGroup(t *testing.T) {
	p := newPlace(t, allRights(), "detections", "g.dlq")
	member, err := kgo.NewClient(kgo.SeedBrokers(p.cluster.ListenAddrs()...), kgo.SASL(plain.Auth{User: "root", Pass: "root"}.AsMechanism()),
		kgo.ConsumerGroup("g"), kgo.ConsumeTopics("detections"), kgo.DisableAutoCommit())
	if err != nil {
		t.Fatal(err)
	}
	defer member.Close()
	if _, err := p.cluster.WaitGroupStable(t.Context(), "g", 1); err != nil {
		t.Fatal(err)
	}
	if f := p.check().has("group", stateOK); f == nil || !strings.Contains(f.Says, "1 members") {
		t.Errorf("a member of our kind: %+v", f)
	}
	p.environ["KAFKA_GROUP_PROTOCOL"] = "consumer"
	if f := p.check().has("group", stateFailed); f == nil || !strings.Contains(f.Do, "KAFKA_GROUP_PROTOCOL") {
		t.Errorf("a member of the other kind: %+v", f)
	}
}

func TestCheckCountsWhatRetentionTook(t *testing.T) {
	p := newPlace(t, allRights(), "detections", "g.dlq")
	p.produce(9, time.Now())
	admin := kadm.NewClient(p.root())
	p.begin()
	var commit, cut kadm.Offsets
	ends, err := admin.ListEndOffsets(context.Background(), "detections")
	if err != nil {
		t.Fatal(err)
	}
	ends.Each(func(o kadm.ListedOffset) { cut.AddOffset(o.Topic, o.Partition, o.Offset, -1) })
	if _, err := admin.DeleteRecords(context.Background(), cut); err != nil {
		t.Fatal(err)
	}
	if f := p.check().has("backlog", stateWarning); f == nil || !strings.Contains(f.Says, "removed 9 records") || !strings.Contains(f.Says, "0 records wait") {
		t.Errorf("%+v", f)
	}
	commit.AddOffset("detections", 0, 1_000, -1)
	if _, err := admin.CommitOffsets(context.Background(), "g", commit); err != nil {
		t.Fatal(err)
	}
	if f := p.check().has("backlog", stateFailed); f == nil || !strings.Contains(f.Says, "beyond the end") {
		t.Errorf("%+v", f)
	}
}

func TestCheckOfMalformedSettingsIsUsage(t *testing.T) {
	p := newPlace(t, allRights())
	p.environ["RATE_LIMIT"], p.environ["KAFKA_GRUOP"] = "fast", "g"
	a := p.check()
	if a.code != exitUsage || len(a.Facts) != 2 {
		t.Errorf("%+v", a)
	}
	for _, args := range []string{"--learn", "--consent", "--preset x", "--replicas -1"} {
		if got := runProgram(program{environ: p.environ}, append([]string{"check"}, strings.Fields(args)...)...); got.code != exitUsage {
			t.Errorf("check %s: %+v", args, got)
		}
	}
}

// A fact on several lines, or a text that acts on the terminal, would hide the next one.
func TestCheckLinesAreSafe(t *testing.T) {
	var b strings.Builder
	f := facts{{Name: "topic", Of: "a\x1b[2J", State: stateFailed, Says: "one\ntwo", Do: "three\r\nfour"}}
	if err := f.print(&b); err != nil || strings.Count(b.String(), "\n") != 3 || strings.ContainsAny(b.String(), "\x1b\r") {
		t.Errorf("%q, %v", b.String(), err)
	}
}

func TestCheckSaysUntilWhenACertificateIsGood(t *testing.T) {
	p := newPlace(t, allRights())
	conn, err := tls.Dial("tcp", strings.TrimPrefix(p.running.URL(), "https://"), &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	x := *conn.ConnectionState().PeerCertificates[0]
	for _, c := range []struct {
		left time.Duration
		want state
	}{{soon + time.Hour, stateOK}, {soon - time.Hour, stateWarning}, {-time.Hour, stateFailed}} {
		check := &check{}
		x.NotAfter = time.Now().Add(c.left)
		check.checkCertificate("tls", "", &x)
		if got := check.facts[0].State; got != c.want {
			t.Errorf("%s left: %s, want %s", c.left, got, c.want)
		}
	}
}

func TestMemoryLimitOfEitherControlGroup(t *testing.T) {
	for _, c := range []struct {
		file, text string
		want       int64
		limited    bool
	}{
		{"memory.max", "134217728\n", 128 << 20, true},
		{"memory.max", "max\n", 0, false},
		{"memory/memory.limit_in_bytes", "134217728\n", 128 << 20, true},
		{"memory/memory.limit_in_bytes", "9223372036854771712\n", 0, false},
		{"other", "1", 0, false},
	} {
		root := t.TempDir()
		file := filepath.Join(root, c.file)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(c.text), 0o644); err != nil {
			t.Fatal(err)
		}
		if got, limited := memoryLimit(root); limited != c.limited || limited && got != c.want {
			t.Errorf("%s %q: %d, %t", c.file, c.text, got, limited)
		}
	}
	check := &check{cgroup: t.TempDir()}
	check.settings.Delivery.BufferBytes = 32 << 20
	if err := os.WriteFile(filepath.Join(check.cgroup, "memory.max"), []byte("67108864"), 0o644); err != nil {
		t.Fatal(err)
	}
	check.checkMemory()
	if f := check.facts[0]; f.State != stateWarning || !strings.Contains(f.Do, "BUFFER_BYTES") {
		t.Errorf("%+v", f)
	}
}

// A registry that refuses holds every framed record: a check that does not ask it says all is well.
func TestCheckAsksTheSchemaRegistry(t *testing.T) {
	p := newPlace(t, allRights(), "detections", "g.dlq", "g.dlq.handled")
	registry := srfake.New(srfake.WithAuth("Basic dTpoaWRkZW4tcGFzc3dvcmQ=")) // u:hidden-password
	defer registry.Close()
	p.environ["SCHEMA_REGISTRY_URL"], p.environ["SCHEMA_REGISTRY_USERNAME"] = registry.URL(), "u"
	p.environ["SCHEMA_REGISTRY_PASSWORD"] = "wrong-password"
	if f := p.check().has("schema registry", stateFailed); f == nil || !strings.Contains(f.Says, ": check SCHEMA_REGISTRY_USERNAME") {
		t.Errorf("refused: %+v", f)
	}
	p.environ["SCHEMA_REGISTRY_PASSWORD"] = "hidden-password"
	if p.check().has("schema registry", stateWarning) == nil {
		t.Error("a registry that shows nothing is no warning")
	}
	registry.SeedSchema("detections-value", 1, 41, sr.Schema{Schema: avroDetection})
	if f := p.check().has("schema registry", stateOK); f == nil || !strings.Contains(f.Says, "1 subjects") {
		t.Errorf("well: %+v", f)
	}
	registry.Close()
	if f := p.check().has("schema registry", stateFailed); f == nil || !strings.Contains(f.Says, "check SCHEMA_REGISTRY_URL") {
		t.Errorf("away: %+v", f)
	}
	delete(p.environ, "SCHEMA_REGISTRY_URL")
	delete(p.environ, "SCHEMA_REGISTRY_USERNAME")
	delete(p.environ, "SCHEMA_REGISTRY_PASSWORD")
	if slices.Contains(p.check().names(), "schema registry") {
		t.Error("there is none, and it was asked")
	}
}
