package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"serbridge/bridge/stellar/stellartest"
)

const partitions = 8

// world is a broker, the simulator and the members between them.
type world struct {
	o       options
	dir     string
	topic   string
	group   string
	commits string // the group whose commits say what is settled; empty: none does
	runID   string // of the replay that delivers; empty: the live group does
	brokers []string
	seeds   []string // the members' way to the brokers
	valve   *valve   // nil with a real broker that no proxy stands before
	proxy   *proxy   // nil with the embedded broker
	cluster *kfake.Cluster
	api     *stellartest.Server
	addr    string
	serving *stellartest.Running // nil while the API is cut
	client  *kgo.Client
	admin   *kadm.Client

	members  []*member
	started  int
	key      []byte // of the records; nil: spread over the partitions
	produced int
	wanted   map[place]bool // records produced; true: must be stored, false: must be a dead letter

	kills int // kill -9, and SIGSTOP beyond the session
}

type place struct {
	partition int32
	offset    int64
}

// member is one serbridge process.
type member struct {
	name  string
	admin string // address of /metrics
	cmd   *exec.Cmd
	done  chan struct{} // closed when the process has ended
	err   error
}

func newWorld(ctx context.Context, o options, dir string) (*world, error) {
	name := fmt.Sprintf("chaos-%d-%d", o.seed, time.Now().UnixNano())
	w := &world{o: o, dir: dir, topic: name, group: name, commits: name, wanted: make(map[place]bool)}
	if err := w.startBroker(); err != nil {
		return nil, err
	}
	stored := 1000 // that are kept to be looked at
	if o.probe || o.proof == "replay" {
		stored = 1 << 20 // what is searched for, or counted by the kill that repeated it, must not be forgotten
	}
	w.api = stellartest.New(stellartest.Config{Seed: o.seed, StoreLimit: stored})
	var err error
	if w.serving, err = w.api.Start("127.0.0.1:0"); err != nil {
		return nil, err
	}
	w.addr = w.serving.Addr().String()
	w.client, err = kgo.NewClient(kgo.SeedBrokers(w.brokers...), kgo.DefaultProduceTopic(w.topic), kgo.ProducerLinger(2*time.Millisecond),
		kgo.RecordPartitioner(spread()))
	if err != nil {
		return nil, err
	}
	w.admin = kadm.NewClient(w.client)
	if _, err := w.admin.CreateTopic(ctx, partitions, 1, nil, w.topic); err != nil {
		return nil, fmt.Errorf("create topic: %w", err)
	}
	for range o.members {
		if err := w.add(); err != nil {
			return nil, err
		}
	}
	return w, nil
}

// spread gives each partition its turn, and records with a key the key's: all
// members shall have work.
func spread() kgo.Partitioner {
	n := 0
	return kgo.BasicConsistentPartitioner(func(string) func(*kgo.Record, int) int {
		return func(r *kgo.Record, of int) int {
			if r.Key != nil {
				return 0
			}
			n++
			return n % of
		}
	})
}

func (w *world) startBroker() error {
	if w.o.brokers != "" {
		w.brokers = strings.Split(w.o.brokers, ",")
		w.seeds = w.brokers
		return w.standBetween()
	}
	w.valve = &valve{}
	c, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.ListenFn(w.valve.listen),
		kfake.BrokerConfigs(map[string]string{"group.consumer.heartbeat.interval.ms": "500", "group.consumer.session.timeout.ms": "6000"}))
	if err != nil {
		return fmt.Errorf("start embedded broker: %w", err)
	}
	w.cluster, w.brokers = c, c.ListenAddrs()
	w.seeds = w.brokers
	return nil
}

// standBetween leads the members through a proxy, if the broker has a listener
// for that. The harness itself does not go through it.
func (w *world) standBetween() (err error) {
	if w.o.proxied == "" {
		return nil
	}
	w.valve = &valve{}
	if w.proxy, err = startProxy(w.o.proxied, w.valve); err != nil {
		return err
	}
	w.seeds = []string{w.proxy.front.Addr().String()}
	return nil
}

func (w *world) close() {
	w.thawBroker()
	if w.valve != nil {
		w.valve.heal()
	}
	for _, m := range w.members {
		_ = m.cmd.Process.Signal(syscall.SIGCONT)
		_ = m.cmd.Process.Kill()
		<-m.done
	}
	if w.client != nil {
		w.client.Close()
	}
	w.api.Close()
	if w.proxy != nil {
		w.valve.close()
		_ = w.proxy.close()
	}
	if w.cluster != nil {
		w.cluster.Close()
	}
}

// add starts a member.
func (w *world) add() error { return w.start("run") }

// start starts a process with this command line.
func (w *world) start(args ...string) error {
	w.started++
	m := &member{name: fmt.Sprintf("member-%d", w.started), done: make(chan struct{})}
	var err error
	if m.admin, err = freeAddr(); err != nil {
		return err
	}
	log, err := os.Create(filepath.Join(w.dir, m.name+".log"))
	if err != nil {
		return err
	}
	defer log.Close() // the process has its own
	m.cmd = exec.Command(w.o.binary, args...)
	m.cmd.Stdout, m.cmd.Stderr = log, log
	m.cmd.Env = append(os.Environ(),
		"KAFKA_BROKERS="+strings.Join(w.seeds, ","), "KAFKA_TOPICS="+w.topic, "KAFKA_GROUP="+w.group,
		"KAFKA_CLIENT_ID="+m.name, // by which the valve knows it
		"KAFKA_GROUP_PROTOCOL="+w.o.protocol, "KAFKA_SESSION_TIMEOUT=6s",
		"STELLAR_URL=http://"+w.addr, "STELLAR_USER="+stellartest.DefaultUser, "STELLAR_API_KEY="+stellartest.DefaultAPIKey,
		"STELLAR_TIMEOUT="+w.o.timeout.String(), "DRAIN_TIMEOUT="+(w.o.timeout+5*time.Second).String(),
		"RATE_LIMIT="+strconv.Itoa(w.o.limit), "REJECT_BRAKE=0", "ADMIN_ADDR="+m.admin,
		"MAX_REPEATS="+strconv.Itoa(w.o.maxRepeats))
	if w.o.probe {
		m.cmd.Env = append(m.cmd.Env, "ON_AMBIGUOUS=probe", "PROBE_WAIT=3s")
	}
	if err := m.cmd.Start(); err != nil {
		return fmt.Errorf("start member: %w", err)
	}
	go func() { m.err = m.cmd.Wait(); close(m.done) }() // ends with the process, which close ends
	w.members = append(w.members, m)
	return nil
}

// remove takes a member off the list and returns it.
func (w *world) remove(i int) *member {
	m := w.members[i]
	w.members = append(w.members[:i], w.members[i+1:]...)
	return m
}

// produce writes n records, one in forty of them none that can be stored.
func (w *world) produce(ctx context.Context, n int) error {
	rs := make([]*kgo.Record, n)
	for i := range rs {
		w.produced++
		value := fmt.Appendf(nil, `{"event_name":"chaos %d","timestamp":%d,"event_status":"New","event_source":"chaos","orig_id":"%d"}`,
			w.produced, time.Now().UnixMilli(), w.produced)
		if w.produced%40 == 0 {
			value = fmt.Appendf(nil, "no JSON %d", w.produced)
		}
		rs[i] = &kgo.Record{Value: value, Key: w.key}
	}
	for _, r := range w.client.ProduceSync(ctx, rs...) {
		if r.Err != nil {
			return fmt.Errorf("produce: %w", r.Err)
		}
		w.wanted[place{r.Record.Partition, r.Record.Offset}] = r.Record.Value[0] == '{'
	}
	return nil
}

// lag is what the group has not committed.
func (w *world) lag(ctx context.Context) (int64, error) {
	if w.commits == "" {
		return 0, nil
	}
	commits, err := w.admin.FetchOffsets(ctx, w.commits)
	if err != nil && !errors.Is(err, kerr.GroupIDNotFound) {
		return 0, err
	}
	ends, err := w.admin.ListEndOffsets(ctx, w.topic)
	if err != nil {
		return 0, err
	}
	left := int64(0)
	ends.Each(func(o kadm.ListedOffset) {
		at := int64(0)
		if c, ok := commits.Lookup(w.topic, o.Partition); ok {
			at = max(0, c.At)
		}
		left += o.Offset - at
	})
	return left, nil
}

// freezeBroker has the broker hold its connections and answer nothing, until
// thawBroker. It says false where that cannot be done: the broker is not ours.
func (w *world) freezeBroker() bool {
	if w.holdsAnswers() {
		w.valve.freeze()
		return true
	}
	return w.signalBroker(syscall.SIGSTOP)
}

func (w *world) thawBroker() {
	if w.holdsAnswers() {
		w.valve.thaw()
		return
	}
	w.signalBroker(syscall.SIGCONT)
}

// holdsAnswers reports whether the valve freezes the broker: a process of ours
// that can be stopped is nearer the truth.
func (w *world) holdsAnswers() bool {
	return w.valve != nil && (w.proxy == nil || w.o.state == "")
}

// signalBroker reaches the process that .ci/kafka started.
func (w *world) signalBroker(sig syscall.Signal) bool {
	if w.o.state == "" {
		return false
	}
	text, err := os.ReadFile(filepath.Join(w.o.state, "pid"))
	if err != nil {
		return false
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	return err == nil && pid > 1 && syscall.Kill(pid, sig) == nil
}
