package bridge_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"serbridge/bridge"
	"serbridge/bridge/kafka"
	"serbridge/bridge/secret"
	"serbridge/bridge/stellar"
	"serbridge/bridge/stellar/stellartest"
)

// The tests of this file show on Apache Kafka, in real time, what kfake cannot. They run where TEST_KAFKA_BROKERS names a
// broker; those that stop it, kill it or need its certificates run where TEST_KAFKA_STATE says that .ci/kafka started it.

var apaches atomic.Int64

// newApacheWorld is newWorld with a real broker, real sockets and real time; topic and group are of this test alone.
func newApacheWorld(t *testing.T, cfg worldConfig) *world {
	t.Helper()
	return newApacheWorldAt(t, cfg, apacheBrokers(t))
}

// apacheBrokers are those of the environment; without any there is nothing that the test could show.
func apacheBrokers(t *testing.T) string {
	t.Helper()
	brokers := os.Getenv("TEST_KAFKA_BROKERS")
	if brokers == "" {
		t.Skip("needs Apache Kafka: set TEST_KAFKA_BROKERS, as .ci/kafka up prints it")
	}
	return brokers
}

func newApacheWorldAt(t *testing.T, cfg worldConfig, brokers string) *world {
	t.Helper()
	name := fmt.Sprintf("apache-%d-%d", time.Now().UnixNano(), apaches.Add(1))
	w := &world{t: t, topic: name, group: name, brokers: strings.Split(brokers, ","), hour: 3 * time.Minute, dialer: new(net.Dialer).DialContext}
	w.api = stellartest.New(cfg.api)
	var err error
	if w.door, err = w.api.Start("127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.api.Close)
	w.url = w.door.URL()
	w.connect()
	if _, err := w.admin.CreateTopic(context.Background(), max(1, cfg.partitions), 1, nil, w.topic); err != nil {
		t.Fatal(err)
	}
	w.await("the topic is known", func() bool { return w.partitions(w.topic) > 0 })
	return w
}

// apacheState is where .ci/kafka keeps the broker that it started.
func apacheState(t *testing.T) string {
	t.Helper()
	state := os.Getenv("TEST_KAFKA_STATE")
	if state == "" {
		t.Skip("needs a broker of .ci/kafka: set TEST_KAFKA_STATE, as .ci/kafka up prints it")
	}
	return state
}

// kafkaDo has .ci/kafka do something to its broker.
func kafkaDo(t *testing.T, what string, env ...string) string {
	t.Helper()
	cmd := exec.Command("../.ci/kafka", what)
	cmd.Env = append(os.Environ(), env...)
	var said strings.Builder
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf(".ci/kafka %s: %v\n%s", what, err, said.String())
	}
	return string(out)
}

// await waits until something is so.
func (w *world) await(what string, is func() bool) {
	w.t.Helper()
	for end := time.Now().Add(w.hour); !is(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			w.t.Fatalf("after %v still not: %s; %+v", w.hour, what, w.api.Ledger())
		}
	}
}

// joinApache starts a member that the group gives up after six seconds.
func (w *world) joinApache(protocol string, change func(*bridge.Config)) *member {
	w.t.Helper()
	return w.startWith(memberConfig{
		bridge: func(c *bridge.Config) {
			c.Protocol, c.SessionTimeout = protocol, 6*time.Second
			if change != nil {
				change(c)
			}
		},
		stellar: func(c *stellar.Config) { c.Timeout = time.Minute },
	})
}

// rewinds watches the group's commits until the returned function, which fails the test if one of them ever went back.
func (w *world) rewinds() (done func()) {
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		last := make(map[int32]int64)
		for ctx.Err() == nil {
			all, _ := w.admin.FetchOffsets(ctx, w.group) // a broker that is away says nothing
			for id, o := range all[w.topic] {
				if o.At < last[id] {
					w.t.Errorf("the commit of partition %d went back from %d to %d", id, last[id], o.At)
				}
				last[id] = o.At
			}
			time.Sleep(20 * time.Millisecond)
		}
	}()
	return func() { stop(); <-ended }
}

// Members that come and go under load must lose nothing and repeat nothing.
func TestApacheRebalanceUnderLoadLosesAndRepeatsNothing(t *testing.T) {
	apacheBrokers(t)
	t.Parallel()
	for _, protocol := range protocols {
		t.Run(protocol, func(t *testing.T) {
			t.Parallel()
			const records = 3500
			w := newApacheWorld(t, worldConfig{partitions: 6, api: lively})
			w.produce(0, records)
			rewinds := w.rewinds()
			join := func() *member { return w.joinApache(protocol, func(c *bridge.Config) { c.RateLimit = 400 }) }
			more := func(n int) { w.stored(min(records, w.api.Ledger().Distinct+n)) }
			a := join()
			more(200)
			for range 3 {
				b := join()
				more(150)
				c := join()
				more(500)
				b.end()
				more(100)
				a.end()
				a = c
			}
			if w.api.Ledger().Distinct == records {
				t.Error("all was delivered before the last member left: the test proves too little")
			}
			w.settled(w.hour)
			w.expect(records, 0)
			rewinds()
		})
	}
}

// A member that the group has given up while its POSTs hang must not touch the offsets of those that own its partitions
// now, however late it is answered: the broker would take them.
func TestApacheLateAnswerAfterLossNeverCommits(t *testing.T) {
	apacheBrokers(t)
	t.Parallel()
	for _, protocol := range protocols {
		t.Run(protocol, func(t *testing.T) {
			t.Parallel()
			const before, records, bound = 200, 600, 200
			w := newApacheWorld(t, worldConfig{partitions: 3})
			rewinds := w.rewinds()
			a := w.joinApache(protocol, nil)
			w.produce(0, before)
			w.settled(w.hour)
			w.api.Script(stellartest.Always(stellartest.Slow(15 * time.Second)))
			w.produce(before, records-before)
			w.await("a's POSTs hang", func() bool { now, _ := w.api.InFlight(); return now > 0 })
			a.lines.cut()
			w.joinApache(protocol, nil)
			w.api.Script(nil)
			w.settled(w.hour)
			sent := w.api.Ledger().Requests[stellartest.KindInsert]
			w.await("a has its late answers", func() bool { now, _ := w.api.InFlight(); return now == 0 })
			a.lines.mend()
			w.await("a is back", func() bool { return w.memberCount() == 2 && len(a.health.Reasons()) == 0 })
			w.settled(w.hour)
			w.expect(records, bound)
			if n := w.api.Ledger().Requests[stellartest.KindInsert]; n != sent {
				t.Errorf("%d requests after everything was settled", n-sent)
			}
			rewinds()
		})
	}
}

// memberCount is how many members the group has, of either protocol.
func (w *world) memberCount() int {
	if gs, err := w.admin.DescribeConsumerGroups(context.Background(), w.group); err == nil && gs[w.group].Err == nil {
		return len(gs[w.group].Members)
	}
	gs, err := w.admin.DescribeGroups(context.Background(), w.group)
	if err != nil {
		return 0
	}
	return len(gs[w.group].Members)
}

// The fence is ours alone: the broker takes a commit for a partition that the committing member does not own.
func TestApacheTakesCommitsOfANonOwner(t *testing.T) {
	apacheBrokers(t)
	t.Parallel()
	for protocol, balancer := range map[string]kgo.GroupOpt{"classic": kgo.Balancers(kgo.CooperativeStickyBalancer()), "consumer": kgo.ServerSideBalancer()} {
		t.Run(protocol, func(t *testing.T) {
			t.Parallel()
			w := newApacheWorld(t, worldConfig{partitions: 2})
			w.produce(0, 20)
			join := func() (*kgo.Client, *owns) {
				o := new(owns)
				cl, err := kgo.NewClient(append(w.kafka(w.dialer), kgo.ConsumerGroup(w.group), kgo.ConsumeTopics(w.topic), balancer,
					kgo.DisableAutoCommit(), kgo.OnPartitionsAssigned(o.gained), kgo.OnPartitionsRevoked(o.gone))...)
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(cl.Close)
				return cl, o
			}
			a, as := join()
			w.await("the first member owns both", func() bool { return as.n.Load() == 2 })
			_, bs := join()
			w.await("each owns one", func() bool { return as.n.Load() == 1 && bs.n.Load() == 1 })
			foreign := bs.one.Load()
			var code int16 = -1
			a.CommitOffsetsSync(context.Background(), map[string]map[int32]kgo.EpochOffset{w.topic: {foreign: {Epoch: -1, Offset: 5}}},
				func(_ *kgo.Client, _ *kmsg.OffsetCommitRequest, resp *kmsg.OffsetCommitResponse, err error) {
					if err == nil {
						code = resp.Topics[0].Partitions[0].ErrorCode
					}
				})
			if at := w.commits(w.topic)[foreign].At; code != 0 || at != 5 {
				t.Errorf("a non-owner's commit got code %d, the group stands at %d: Kafka checks now, so doc.go may say so", code, at)
			}
		})
	}
}

// owns counts the partitions of a member.
type owns struct {
	n   atomic.Int64
	one atomic.Int32 // of them
}

func (o *owns) gained(_ context.Context, _ *kgo.Client, m map[string][]int32) { o.change(m, 1) }
func (o *owns) gone(_ context.Context, _ *kgo.Client, m map[string][]int32)   { o.change(m, -1) }

func (o *owns) change(m map[string][]int32, sign int64) {
	for _, ids := range m {
		o.n.Add(sign * int64(len(ids)))
		if sign > 0 && len(ids) > 0 {
			o.one.Store(ids[0])
		}
	}
}

// The broker's limit is 4,096 characters, not bytes; beyond it one partition is refused, with error 12, and not the
// request. Our own limit of 3,072 stays below it.
func TestApacheRefusesMetadataAbove4096Characters(t *testing.T) {
	t.Parallel()
	w := newApacheWorld(t, worldConfig{partitions: 3})
	all := make(kadm.Offsets)
	for id, metadata := range []string{strings.Repeat("x", 4096), strings.Repeat("x", 4097), strings.Repeat("é", 4096)} {
		all.Add(kadm.Offset{Topic: w.topic, Partition: int32(id), LeaderEpoch: -1, Metadata: metadata})
	}
	resp, err := w.admin.CommitOffsets(context.Background(), w.group, all)
	if err != nil {
		t.Fatal(err)
	}
	for id, want := range []error{nil, kerr.OffsetMetadataTooLarge, nil} {
		if got, _ := resp.Lookup(w.topic, int32(id)); !errors.Is(got.Err, want) {
			t.Errorf("partition %d: %v, want %v", id, got.Err, want)
		}
	}
	if n := len(w.commits(w.topic)[2].Metadata); n != 2*4096 {
		t.Errorf("%d bytes of metadata came back, want %d", n, 2*4096)
	}
}

// Where the broker takes less than we write, the commit must get shorter, or nothing would ever be committed again.
func TestApacheMetadataTooLargeIsWrittenShorter(t *testing.T) {
	t.Parallel()
	apacheState(t)
	const most, records = 72, 400
	env := []string{"CI_KAFKA_STATE=" + t.TempDir() + "/kafka", "CI_KAFKA_PORT=30392", fmt.Sprintf("CI_KAFKA_EXTRA=offset.metadata.max.bytes=%d", most)}
	said := kafkaDo(t, "up", env...)
	t.Cleanup(func() { kafkaDo(t, "down", env...) })
	brokers, _, _ := strings.Cut(strings.TrimPrefix(said, "TEST_KAFKA_BROKERS="), "\n")
	w := newApacheWorldAt(t, worldConfig{partitions: 1}, brokers)
	w.api.Script(hangEvery(7))
	w.produce(0, records)
	m := w.joinApache("classic", nil)
	w.await("a commit that was refused", func() bool { return m.metric("commits_total", "result", "failed") > 0 })
	w.await("one that was taken, with a map", func() bool { return strings.HasPrefix(w.commits(w.topic)[0].Metadata, "sb1.") })
	if n := len(w.commits(w.topic)[0].Metadata); n > most || n < most/4 {
		t.Errorf("%d characters of metadata committed, of at most %d", n, most)
	}
	m.kill()
	go m.end()
	w.api.Script(nil)
	w.joinApache("classic", nil)
	w.settled(w.hour)
	w.expect(records, 200)
}

// A map with many holes must come back whole: each bit that is lost is a document sent twice.
func TestApacheNextOwnerReadsTheMap(t *testing.T) {
	t.Parallel()
	const records, each = 8000, 200
	w := newApacheWorld(t, worldConfig{partitions: 1})
	w.api.Script(func(r stellartest.Request) stellartest.Fault {
		if r.N%each == 0 {
			return stellartest.Hang()
		}
		return stellartest.Fault{}
	})
	w.produce(0, records)
	m := w.joinApache("classic", nil)
	w.stored(records - records/each)
	w.await("what is settled is covered", func() bool { return m.metric("exposure_documents") == records/each })
	if n := len(w.commits(w.topic)[0].Metadata); n < 100 {
		t.Errorf("only %d characters of metadata", n)
	}
	m.kill()
	go m.end()
	w.api.Script(nil)
	w.joinApache("classic", nil)
	w.settled(w.hour)
	w.expect(records, 0) // what hung was not stored
}

// Each listener that Kafka has must do for the whole way, dead-letter topic included, and a wrong password must be said.
func TestApacheListenersWithSASLAndTLS(t *testing.T) {
	t.Parallel()
	state := apacheState(t)
	w := newApacheWorld(t, worldConfig{partitions: 2})
	host, port, _ := strings.Cut(w.brokers[0], ":")
	var plain int
	if _, err := fmt.Sscan(port, &plain); err != nil {
		t.Fatal(err)
	}
	sasl, mtls := fmt.Sprintf("%s:%d", host, plain+2), fmt.Sprintf("localhost:%d", plain+3)
	login := func(mechanism, password string) kafka.Config {
		return kafka.Config{Brokers: []string{sasl}, SASLMechanism: mechanism, Username: secret.Literal("bridge"), Password: secret.Literal(password)}
	}
	certified := kafka.Config{Brokers: []string{mtls}, TLS: true, CAFile: state + "/ca.pem", CertFile: state + "/bridge.pem", KeyFile: state + "/bridge.key"}
	uncertified := certified
	uncertified.CertFile, uncertified.KeyFile = "", ""
	n := 0
	for _, c := range []struct {
		name string
		cfg  kafka.Config
		says string // of what is wrong
	}{
		{"PLAIN", login(kafka.Plain, "secret"), ""},
		{"PLAIN, wrong password", login(kafka.Plain, "wrong"), "KAFKA_SASL_PASSWORD"},
		{"SCRAM-SHA-256", login(kafka.ScramSHA256, "secret"), ""},
		{"SCRAM-SHA-256, wrong password", login(kafka.ScramSHA256, "wrong"), "KAFKA_SASL_PASSWORD"},
		{"client certificate", certified, ""},
		{"no client certificate", uncertified, "KAFKA_TLS_CERT_FILE"},
	} {
		t.Run(c.name, func(t *testing.T) {
			opts, err := c.cfg.Options()
			if err != nil {
				t.Fatal(err)
			}
			m := w.joinApache("classic", func(cfg *bridge.Config) { cfg.Kafka = opts })
			defer m.end()
			if c.says != "" {
				w.await("not ready, naming "+c.says, func() bool { return strings.Contains(strings.Join(m.health.Reasons(), "\n"), c.says) })
				return
			}
			w.produce(n, 100)
			n += 100
			w.settled(w.hour)
			w.expect(n, 0)
		})
	}
}

// Transaction markers take offsets: unless they are settled, lag never reaches 0 and an alarm on it never ends. What was
// aborted must not be delivered.
func TestApacheTransactionMarkersLetLagReachZero(t *testing.T) {
	t.Parallel()
	const each = 10
	w := newApacheWorld(t, worldConfig{partitions: 2})
	cl, err := kgo.NewClient(append(w.kafka(w.dialer), kgo.TransactionalID(w.group), kgo.RecordPartitioner(kgo.ManualPartitioner()))...)
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	ctx := context.Background()
	m := w.joinApache("classic", nil)
	for i, end := range []kgo.TransactionEndTry{kgo.TryCommit, kgo.TryAbort, kgo.TryCommit, kgo.TryAbort} {
		if err := cl.BeginTransaction(); err != nil {
			t.Fatal(err)
		}
		for j := range each {
			cl.Produce(ctx, &kgo.Record{Topic: w.topic, Partition: int32(j % 2), Value: detection(i*each + j)}, nil)
		}
		if err := errors.Join(cl.Flush(ctx), cl.EndTransaction(ctx, end)); err != nil {
			t.Fatal(err)
		}
		w.settled(w.hour)
	}
	w.expect(2*each, 0)
	m.end()
}

// What retention took before it was read is gone: that is counted, the rest is delivered, and what was settled above is
// not sent again.
func TestApacheRetentionPassesTheBase(t *testing.T) {
	t.Parallel()
	const records, start = 400, 250
	w := newApacheWorld(t, worldConfig{partitions: 1})
	w.api.Script(func(r stellartest.Request) stellartest.Fault {
		if strings.Contains(string(r.Body), `"detection 0"`) || strings.Contains(string(r.Body), `"detection 300"`) {
			return stellartest.Hang()
		}
		return stellartest.Fault{}
	})
	w.produce(0, records)
	m := w.joinApache("classic", nil)
	w.stored(records - 2)
	w.await("all but two are covered", func() bool { return m.metric("exposure_documents") == 2 })
	m.kill()
	go m.end()
	var before kadm.Offsets = make(kadm.Offsets)
	before.AddOffset(w.topic, 0, start, -1)
	if _, err := w.admin.DeleteRecords(context.Background(), before); err != nil {
		t.Fatal(err)
	}
	w.api.Script(nil)
	m = w.joinApache("classic", nil)
	w.settled(w.hour)
	w.expect(records-1, 0)
	if n := m.metric("lost_to_retention_total"); n != start {
		t.Errorf("%v offsets counted as lost to retention, want %d", n, start)
	}
}

// A commit beyond the end of its log holds that partition, loudly, and no other: only a person can say whether the topic
// was replaced. Going on by itself would replay or skip.
func TestApacheCommitBeyondTheEndIsHeld(t *testing.T) {
	t.Parallel()
	w := newApacheWorld(t, worldConfig{partitions: 2})
	w.produce(0, 100)
	commit := func(at int64) {
		all := make(kadm.Offsets)
		all.AddOffset(w.topic, 0, at, -1)
		if err := w.admin.CommitAllOffsets(context.Background(), w.group, all); err != nil {
			t.Fatal(err)
		}
	}
	commit(1000)
	m := w.joinApache("classic", nil)
	w.stored(50)
	w.await("it says so", func() bool { return strings.Contains(strings.Join(m.health.Reasons(), "\n"), "beyond the end") })
	m.end()
	if at := w.commits(w.topic)[0].At; at != 1000 {
		t.Errorf("the commit was moved to %d", at)
	}
	w.expect(50, 0)
	commit(20)
	w.joinApache("classic", nil)
	w.settled(w.hour)
	w.expect(80, 0)
}

// losses counts what a bridge logs as lost, or as handed over without all that it had started: each is a crash to the
// records, and may repeat as much.
type losses struct {
	slog.Handler
	n *atomic.Int64
}

func (l losses) Handle(ctx context.Context, r slog.Record) error {
	for _, said := range []string{"partitions lost", "partitions handed over without a commit", "partitions handed over; records left unfinished"} {
		if strings.HasPrefix(r.Message, said) {
			l.n.Add(1)
		}
	}
	return l.Handler.Handle(ctx, r)
}

func (losses) Enabled(context.Context, slog.Level) bool { return true }
func (l losses) WithAttrs(as []slog.Attr) slog.Handler  { return losses{l.Handler.WithAttrs(as), l.n} }
func (l losses) WithGroup(name string) slog.Handler     { return losses{l.Handler.WithGroup(name), l.n} }
func (l losses) join(w *world, protocol string) *member {
	return w.joinApache(protocol, func(c *bridge.Config) { l.Handler = c.Logger.Handler(); c.Logger = slog.New(l) })
}

// load is a world with two members at work.
type load struct {
	*world
	protocol string
	lost     *atomic.Int64
}

// loads are one for each protocol, so that one harm to the broker meets both.
func loads(t *testing.T, records int) (ls []load) {
	t.Helper()
	for _, protocol := range protocols {
		l := load{newApacheWorld(t, worldConfig{partitions: 6, api: stellartest.Config{Faults: stellartest.Faults{
			Latency: stellartest.Latency{Median: 300 * time.Millisecond, P99: 600 * time.Millisecond}}}}), protocol, new(atomic.Int64)}
		l.produce(0, records)
		losses{n: l.lost}.join(l.world, protocol)
		losses{n: l.lost}.join(l.world, protocol)
		ls = append(ls, l)
	}
	for _, l := range ls {
		l.await("two members", func() bool { return l.memberCount() == 2 })
		l.stored(500)
	}
	return ls
}

// expectBound is that nothing is lost, and that what was stored again is within the bound for each assignment lost.
func (l load) expectBound(records int) {
	l.t.Helper()
	const bound = 200
	l.settled(l.hour)
	l.expect(records, bound*int(l.lost.Load()))
	l.t.Logf("%s: %d of %d stored again, assignments were lost %d times", l.protocol, l.api.Ledger().Repeats, records, l.lost.Load())
}

// A broker that holds its connections and answers nothing must stop delivery at the bound. For less than a session nothing
// is repeated; beyond it the group may give its members up, and each repeats no more than the bound.
func TestApacheFrozenBrokerKeepsTheBound(t *testing.T) {
	apacheState(t)
	const records, bound = 3000, 200
	for _, d := range []time.Duration{2 * time.Second, 12 * time.Second} {
		t.Run(d.String(), func(t *testing.T) {
			ls := loads(t, records)
			t.Cleanup(func() { kafkaDo(t, "thaw") }) // whatever fails, the next test finds it well
			kafkaDo(t, "freeze")
			var before, stored []int
			for _, l := range ls {
				before = append(before, l.api.Ledger().Documents)
			}
			time.Sleep(d) // the freeze itself
			for i, l := range ls {
				stored = append(stored, l.api.Ledger().Documents-before[i])
			}
			kafkaDo(t, "thaw")
			for i, l := range ls {
				if stored[i] == 0 || stored[i] > 2*bound {
					t.Errorf("%s: %d documents stored while no commit was acknowledged, by two members with a bound of %d", l.protocol, stored[i], bound)
				}
				l.expectBound(records)
				if n := l.lost.Load(); n > 0 && d < 6*time.Second {
					t.Errorf("%s: assignments lost %d times within a session", l.protocol, n)
				}
			}
		})
	}
}

// A broker that is killed and comes back has what it acknowledged: nothing is lost. A member whose client gives the group
// up meanwhile begins anew, as after a kill, and repeats no more than the bound.
func TestApacheCrashedBrokerLosesNothing(t *testing.T) {
	apacheState(t)
	const records = 6000
	ls := loads(t, records)
	for range 2 {
		kafkaDo(t, "crash")
		kafkaDo(t, "start")
		for _, l := range ls {
			if l.api.Ledger().Distinct == records {
				t.Error("all was delivered before the last crash: the test proves too little")
			}
			l.stored(min(records, l.api.Ledger().Distinct+300))
		}
	}
	for _, l := range ls {
		l.expectBound(records)
	}
}
