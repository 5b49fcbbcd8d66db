package bridge_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"serbridge/bridge"
	"serbridge/bridge/admin"
	"serbridge/bridge/deadletter"
	"serbridge/bridge/secret"
	"serbridge/bridge/stellar"
	"serbridge/bridge/stellar/stellartest"
)

const (
	topic = "detections"
	group = "serbridge"
)

// world is a broker and the API on one virtual network. It lives in a synctest
// bubble: its time passes only when everybody waits. newApacheWorld makes one
// of real sockets and real time.
type world struct {
	t       *testing.T
	topic   string
	group   string
	net     kfake.VirtualNetwork
	dialer  dialer
	cluster *kfake.Cluster // nil with a real broker
	brokers []string
	url     string        // of the API
	hour    time.Duration // how long to wait for what must come
	api     *stellartest.Server
	door    *stellartest.Running // where the API listens
	client  *kgo.Client          // the test's own
	admin   *kadm.Client
	members []*member
}

type worldConfig struct {
	partitions int32
	topics     []string
	api        stellartest.Config
	kafka      []kfake.Opt
}

func newWorld(t *testing.T, cfg worldConfig) *world {
	t.Helper()
	w := &world{t: t, topic: topic, group: group, url: "http://localhost:80", hour: time.Hour}
	w.dialer = w.net.DialContext
	if cfg.partitions == 0 {
		cfg.partitions = 3
	}
	if cfg.topics == nil {
		cfg.topics = []string{topic}
	}
	opts := append([]kfake.Opt{kfake.NumBrokers(1), kfake.Ports(9092), kfake.ListenFn(w.net.Listen),
		kfake.SeedTopics(cfg.partitions, cfg.topics...)}, cfg.kafka...)
	var err error
	if w.cluster, err = kfake.NewCluster(opts...); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.cluster.Close)
	w.brokers = w.cluster.ListenAddrs()
	w.api = stellartest.New(cfg.api)
	w.open()
	t.Cleanup(w.api.Close)
	w.connect()
	return w
}

// connect makes the test's own client.
func (w *world) connect() {
	w.t.Helper()
	var err error
	if w.client, err = kgo.NewClient(append(w.kafka(w.dialer), kgo.RecordPartitioner(kgo.ManualPartitioner()))...); err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(w.client.Close)
	w.admin = kadm.NewClient(w.client)
}

// open lets the API be reached; w.door.Close() is a refused dial.
func (w *world) open() {
	w.t.Helper()
	ln, err := w.net.Listen("tcp", "localhost:80")
	if err != nil {
		w.t.Fatal(err)
	}
	w.door = w.api.Serve(ln)
}

type dialer func(ctx context.Context, network, addr string) (net.Conn, error)

func (w *world) kafka(dial dialer) []kgo.Opt {
	return []kgo.Opt{kgo.SeedBrokers(w.brokers...), kgo.Dialer(dial)}
}

// member is one bridge with its own connections, which kill can cut.
type member struct {
	w      *world
	lines  lines // to the brokers
	phones lines // to the API
	health admin.Health
	prom   *prometheus.Registry
	stop   context.CancelFunc
	done   chan error
}

// memberConfig alters the configuration of one member; any of it may be nil.
type memberConfig struct {
	bridge  func(*bridge.Config)
	stellar func(*stellar.Config)
	letters func(*deadletter.Config)
}

// start runs a member; change may alter its configuration.
func (w *world) start(change func(*bridge.Config)) *member {
	w.t.Helper()
	return w.startWith(memberConfig{bridge: change})
}

func (w *world) startWith(change memberConfig) *member {
	w.t.Helper()
	m := &member{w: w, done: make(chan error, 1), prom: prometheus.NewRegistry()}
	log := slog.New(slog.DiscardHandler)
	if os.Getenv("BRIDGE_TEST_LOG") != "" {
		log = slog.New(slog.NewTextHandler(os.Stderr, nil)).With("member", len(w.members))
	}
	stellarConfig := stellar.Config{
		URL: w.url, User: secret.Literal(stellartest.DefaultUser), APIKey: secret.Literal(stellartest.DefaultAPIKey),
		DialContext: m.phones.dial(w.dialer), Logger: log,
	}
	if change.stellar != nil {
		change.stellar(&stellarConfig)
	}
	client, err := stellar.New(stellarConfig)
	if err != nil {
		w.t.Fatal(err)
	}
	options := w.kafka(m.lines.dial(w.dialer))
	lettersConfig := deadletter.Config{Options: options, Topic: w.group + ".dlq", Create: true, Logger: log}
	if w.cluster != nil { // in a bubble; it reads them now and then
		lettersConfig.Options = append(options[:len(options):len(options)], kgo.WithDecompressor(zstdOutside{}))
	}
	if change.letters != nil {
		change.letters(&lettersConfig)
	}
	letters, err := deadletter.NewWriter(lettersConfig)
	if err != nil {
		w.t.Fatal(err)
	}
	cfg := bridge.Config{
		Kafka: options, Topics: []string{w.topic}, Group: w.group, Stellar: client, DeadLetters: letters,
		Internal: []string{w.group + ".dlq", w.group + ".dlq.handled"},
		Health:   &m.health, Registerer: m.prom, Logger: log, Instance: fmt.Sprintf("member-%d", len(w.members)),
	}
	if change.bridge != nil {
		change.bridge(&cfg)
	}
	b, err := bridge.New(cfg)
	if err != nil {
		w.t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	m.stop = stop
	go func() {
		err := b.Run(ctx)
		letters.Close()
		client.Close()
		m.done <- err
	}()
	w.members = append(w.members, m)
	w.t.Cleanup(m.end)
	return m
}

// end is SIGTERM: drain, commit, leave. The second time it does nothing.
func (m *member) end() {
	m.stop()
	if err, ok := <-m.done; ok {
		close(m.done)
		if err != nil {
			m.w.t.Errorf("member ended with %v", err)
		}
	}
}

// kill is kill -9 as the others see it: all connections end in one instant,
// and no later one is made. What the process does afterwards reaches nobody.
func (m *member) kill() {
	m.lines.cut()
	m.phones.cut()
}

// lines are the connections of one member.
type lines struct {
	mu    sync.Mutex
	conns []net.Conn
	dead  bool
	delay time.Duration // of everything written from now on
}

// slowLine is a connection whose writes take their time.
type slowLine struct {
	net.Conn
	l *lines
}

func (c slowLine) Write(b []byte) (int, error) {
	c.l.mu.Lock()
	delay := c.l.delay
	c.l.mu.Unlock()
	time.Sleep(delay)
	return c.Conn.Write(b)
}

var errCut = errors.New("the member was killed")

func (l *lines) dial(next dialer) dialer {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := next(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.dead {
			conn.Close()
			return nil, errCut
		}
		l.conns = append(l.conns, conn)
		return slowLine{conn, l}, nil
	}
}

func (l *lines) cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.dead = true
	for _, c := range l.conns {
		c.Close()
	}
}

// slow delays everything written from now on.
func (l *lines) slow(delay time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.delay = delay
}

// mend ends a cut.
func (l *lines) mend() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.dead, l.conns = false, nil
}

// produce writes n sound detections, spread evenly over the partitions from
// the given number on, and returns when the broker has them.
func (w *world) produce(first, n int) {
	w.t.Helper()
	w.produceTo(w.topic, first, n, func(i int) []byte { return detection(i) })
}

func (w *world) produceTo(topic string, first, n int, value func(int) []byte) {
	w.t.Helper()
	parts := w.partitions(topic)
	rs := make([]*kgo.Record, n)
	for i := range rs {
		rs[i] = &kgo.Record{Topic: topic, Partition: int32((first + i) % parts), Value: value(first + i), Key: fmt.Appendf(nil, "key-%d", first+i)}
	}
	if err := w.client.ProduceSync(context.Background(), rs...).FirstErr(); err != nil {
		w.t.Fatal(err)
	}
}

// produceRecords writes what the caller made.
func (w *world) produceRecords(rs ...*kgo.Record) {
	w.t.Helper()
	w.produceWith(rs)
}

// produceWith has a client of its own, which knows the partitions of now.
func (w *world) produceWith(rs []*kgo.Record, opts ...kgo.Opt) {
	w.t.Helper()
	cl, err := kgo.NewClient(append(append(w.kafka(w.dialer), kgo.RecordPartitioner(kgo.ManualPartitioner())), opts...)...)
	if err != nil {
		w.t.Fatal(err)
	}
	defer cl.Close()
	if err := cl.ProduceSync(context.Background(), rs...).FirstErr(); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) partitions(topic string) int {
	w.t.Helper()
	topics, err := w.admin.ListTopics(context.Background(), topic)
	if err != nil {
		w.t.Fatal(err)
	}
	return len(topics[topic].Partitions)
}

// detection is a sound aella-ser record with an id of its own.
func detection(i int) []byte {
	return fmt.Appendf(nil, `{"event_name":"detection %d","timestamp":%d,"event_status":"New","event_source":"test","severity":%d,"orig_id":"id-%d"}`,
		i, 1_750_000_000_000+int64(i), i%101, i)
}

// bundle is one record of n detections, the i-th such.
func bundle(i, n int) []byte {
	if n == 1 {
		return detection(i)
	}
	all := make([][]byte, n)
	for j := range all {
		all[j] = detection(i*n + j)
	}
	return fmt.Appendf(nil, "[%s]", bytes.Join(all, []byte(",")))
}

// settled waits until the group has committed everything that is in the topic,
// and fails after the given time.
func (w *world) settled(within time.Duration, topics ...string) {
	w.t.Helper()
	if len(topics) == 0 {
		topics = []string{w.topic}
	}
	deadline := time.Now().Add(within)
	for {
		left := w.lag(topics...)
		if left == 0 {
			return
		}
		if time.Now().After(deadline) {
			w.t.Fatalf("%d records not settled after %v: %+v", left, within, w.api.Ledger())
		}
		time.Sleep(100 * time.Millisecond) // of the bubble
	}
}

// stored waits until the API has so many different documents.
func (w *world) stored(n int) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), w.hour)
	defer cancel()
	if err := w.api.Wait(ctx, func(l stellartest.Ledger) bool { return l.Distinct >= n }); err != nil {
		w.t.Fatalf("%d documents stored after %v, want %d", w.api.Ledger().Distinct, w.hour, n)
	}
}

// lag is what the group has not committed.
func (w *world) lag(topics ...string) (left int64) {
	w.t.Helper()
	for _, t := range topics {
		ends, err := w.admin.ListEndOffsets(context.Background(), t)
		if err != nil {
			w.t.Fatal(err)
		}
		commits := w.commits(t)
		ends.Each(func(o kadm.ListedOffset) { left += o.Offset - max(0, commits[o.Partition].At) })
	}
	return left
}

// commits are the group's commits of a topic.
func (w *world) commits(topic string) map[int32]kadm.Offset {
	w.t.Helper()
	all, err := w.admin.FetchOffsets(context.Background(), w.group)
	if err != nil && !errors.Is(err, kerr.GroupIDNotFound) {
		w.t.Fatal(err)
	}
	m := make(map[int32]kadm.Offset)
	for id, o := range all[topic] {
		m[id] = o.Offset
	}
	return m
}

// letters reads all dead letters.
func (w *world) letters() []deadletter.Letter {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	name := w.group + ".dlq"
	if w.cluster != nil && w.cluster.TopicInfo(name) == nil {
		return nil
	}
	ends, err := w.admin.ListEndOffsets(ctx, name)
	if err != nil {
		w.t.Fatal(err)
	}
	left := int64(0)
	ends.Each(func(o kadm.ListedOffset) { left += o.Offset })
	cl, err := kgo.NewClient(append(w.kafka(w.dialer), kgo.ConsumeTopics(name), kgo.WithDecompressor(zstdOutside{}))...)
	if err != nil {
		w.t.Fatal(err)
	}
	defer cl.Close()
	var ls []deadletter.Letter
	for int64(len(ls)) < left {
		fs := cl.PollFetches(ctx)
		if err := fs.Err(); err != nil {
			w.t.Fatal(err)
		}
		for r := range fs.RecordsAll() {
			l, err := deadletter.Parse(r)
			if err != nil {
				w.t.Fatal(err)
			}
			ls = append(ls, l)
		}
	}
	return ls
}

// rows are all of a table, or a third of it under the race detector.
func rows[T any](all []T) (some []T) {
	for i, row := range all {
		if !racing || i%3 == 0 {
			some = append(some, row)
		}
	}
	return some
}

// zstdOutside has a decoder that is no part of a bubble. The client's own ones
// are closed by finalizers, which then panic: "close of synctest channel from
// outside bubble".
type zstdOutside struct{}

var zstdDecoder, _ = zstd.NewReader(nil)

func (zstdOutside) Decompress(b []byte, codec kgo.CompressionCodecType) ([]byte, error) {
	if codec == kgo.CodecZstd {
		return zstdDecoder.DecodeAll(b, nil)
	}
	return b, nil
}

// expect compares the ledgers: n documents stored, all of them once but for
// the given number of repeats, and no dead letter.
func (w *world) expect(n, mostRepeats int) {
	w.t.Helper()
	l := w.api.Ledger()
	if l.Distinct != n {
		w.t.Errorf("stored %d different documents, want %d", l.Distinct, n)
	}
	if l.Repeats > mostRepeats {
		w.t.Errorf("stored %d documents again, want at most %d", l.Repeats, mostRepeats)
	}
	if ls := w.letters(); len(ls) > 0 {
		w.t.Errorf("%d dead letters, the first for %s, want none", len(ls), ls[0].Reason)
	}
}

// metric is the sum of a metric's series that have these labels, given as
// name and value in turn; a histogram's is its count.
func (m *member) metric(name string, labels ...string) (sum float64) {
	m.w.t.Helper()
	families, err := m.prom.Gather()
	if err != nil {
		m.w.t.Fatal(err)
	}
	for _, family := range families {
		if family.GetName() != "serbridge_"+name {
			continue
		}
		for _, series := range family.GetMetric() {
			all := true
			for i := 0; i < len(labels); i += 2 {
				found := false
				for _, l := range series.GetLabel() {
					found = found || l.GetName() == labels[i] && l.GetValue() == labels[i+1]
				}
				all = all && found
			}
			if !all {
				continue
			}
			sum += series.GetCounter().GetValue() + series.GetGauge().GetValue() + float64(series.GetHistogram().GetSampleCount())
		}
	}
	return sum
}

// gate is the reason for which the member's gate is closed, "" while it is
// open. It is an error if readiness says otherwise.
func (m *member) gate() string {
	m.w.t.Helper()
	why := ""
	for _, reason := range stellar.Reasons() {
		if m.metric("gate_closed", "reason", reason) == 1 {
			why = reason
		}
	}
	says := slices.ContainsFunc(m.health.Reasons(), func(s string) bool { return strings.HasPrefix(s, "gate closed") })
	if says != (why != "") {
		m.w.t.Errorf("the gate's reason is %q, readiness says %q", why, m.health.Reasons())
	}
	return why
}

// expectReady is that nothing is wrong with the member any more.
func (m *member) expectReady() {
	m.w.t.Helper()
	if rs := m.health.Reasons(); len(rs) > 0 {
		m.w.t.Errorf("not ready: %q", rs)
	}
}

// expectNotReady is that the member says so, in these words among others.
func (m *member) expectNotReady(words string) {
	m.w.t.Helper()
	if rs := m.health.Reasons(); !slices.ContainsFunc(rs, func(s string) bool { return strings.Contains(s, words) }) {
		m.w.t.Errorf("readiness says %q, want %q", rs, words)
	}
}

// trickle produces sound detections from the given number on, one each so
// often, until stop, which returns the number after the last one.
func (w *world) trickle(first int, every time.Duration) (stop func() int) {
	end, last := make(chan struct{}), make(chan int, 1)
	ending := sync.OnceFunc(func() { close(end) })
	w.t.Cleanup(ending)
	go func() {
		i, tick := first, time.NewTicker(every)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				w.produce(i, 1)
				i++
			case <-end:
				last <- i
				return
			}
		}
	}()
	return func() int { ending(); return <-last }
}
