package main

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl/plain"

	"serbridge/bridge/stellar/stellartest"
)

const (
	topic      = "detections"
	partitions = 3
	letters    = "page.dlq"

	// Words that stand nowhere else, so that they are found wherever they leak to.
	apiKey   = "mark-api-key-7Qx2"
	password = "mark-sasl-9Lw4"
	content  = "mark-content-3Vd6"
)

// world is a broker, the simulator and the built bridge between them, all on loopback.
type world struct {
	ctx     context.Context
	cluster *kfake.Cluster
	api     *stellartest.Server
	client  *kgo.Client
	environ []string
	admin   string
	binary  string
	bridge  *exec.Cmd
	reasons map[string]int
	reader  *kgo.Client
	before  struct { // what was there when the bridge that runs now started: it counts from its start
		stored  int
		reasons map[string]int
	}
}

func newWorld(ctx context.Context, binary string) (w *world, err error) {
	w = &world{ctx: ctx, binary: binary, reasons: make(map[string]int)}
	w.cluster, err = kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(partitions, topic), kfake.SeedTopics(1, letters),
		kfake.EnableSASL(), kfake.Superuser("PLAIN", "bridge", password))
	if err != nil {
		return nil, fmt.Errorf("start broker: %w", err)
	}
	w.api = stellartest.New(stellartest.Config{APIKey: apiKey})
	running, err := w.api.Start("127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("start simulator: %w", err)
	}
	if w.admin, err = freeAddress(); err != nil {
		return nil, err
	}
	login := kgo.SASL(plain.Auth{User: "bridge", Pass: password}.AsMechanism())
	brokers := kgo.SeedBrokers(w.cluster.ListenAddrs()...)
	w.client, err = kgo.NewClient(brokers, login, kgo.DefaultProduceTopic(topic))
	if err != nil {
		return nil, fmt.Errorf("make producer: %w", err)
	}
	w.reader, err = kgo.NewClient(brokers, login, kgo.ConsumeTopics(letters), kgo.FetchMaxWait(50*time.Millisecond))
	if err != nil {
		return nil, fmt.Errorf("make reader: %w", err)
	}
	w.environ = append(os.Environ(), "KAFKA_BROKERS="+w.cluster.ListenAddrs()[0], "KAFKA_TOPICS="+topic, "KAFKA_GROUP=page",
		"KAFKA_SASL_MECHANISM=PLAIN", "KAFKA_SASL_USERNAME=bridge", "KAFKA_SASL_PASSWORD="+password, "KAFKA_SESSION_TIMEOUT=6s",
		"STELLAR_URL="+running.URL(), "STELLAR_USER="+stellartest.DefaultUser, "STELLAR_API_KEY="+apiKey,
		"RATE_LIMIT=0", "ADMIN_ADDR="+w.admin, "LOG_LEVEL=error")
	return w, nil
}

// freeAddress is one that a bridge started again can have again.
func freeAddress() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", fmt.Errorf("find a free port: %w", err)
	}
	return l.Addr().String(), l.Close()
}

func (w *world) close() {
	_ = w.kill()
	w.client.Close()
	w.reader.Close()
	w.api.Close()
	w.cluster.Close()
}

func (w *world) page() string { return "http://" + w.admin + "/" }

// start begins a bridge, and returns once its page is served.
func (w *world) start() error {
	w.bridge = exec.Command(w.binary, "run")
	w.bridge.Env, w.bridge.Stderr = w.environ, os.Stderr
	if err := w.bridge.Start(); err != nil {
		return fmt.Errorf("start serbridge: %w", err)
	}
	return w.until("its admin port is open", func() bool {
		c, err := net.Dial("tcp", w.admin)
		if err == nil {
			_ = c.Close()
		}
		return err == nil
	})
}

// kill ends the bridge without a goodbye, and remembers what it leaves.
func (w *world) kill() error {
	if w.bridge == nil {
		return nil
	}
	if err := w.bridge.Process.Kill(); err != nil {
		return fmt.Errorf("kill serbridge: %w", err)
	}
	_ = w.bridge.Wait() // killed, as was wanted
	w.bridge = nil
	w.before.stored = w.api.Ledger().Documents
	_, err := w.deadLetters()
	w.before.reasons = make(map[string]int)
	for reason, n := range w.reasons {
		w.before.reasons[reason] = n
	}
	return err
}

func (w *world) until(what string, is func() bool) error {
	for !is() {
		select {
		case <-w.ctx.Done():
			return fmt.Errorf("wait until %s: %w", what, w.ctx.Err())
		case <-time.After(50 * time.Millisecond):
		}
	}
	return nil
}

// stored waits until the simulator has n documents more than when the bridge started.
func (w *world) stored(n int) error {
	return w.api.Wait(w.ctx, func(l stellartest.Ledger) bool { return l.Documents-w.before.stored >= n })
}

func sound() []byte {
	return []byte(`{"event_name":"` + content + `","event_source":"page","event_status":"New","timestamp":1764000000000,"severity":50}`)
}
func noJSON() []byte { return []byte(content + " is no JSON") }
func noName() []byte {
	return []byte(`{"event_source":"` + content + `","event_status":"New","timestamp":1764000000000}`)
}
func tombstone() []byte { return nil }

func (w *world) produce(n int, value func() []byte) {
	rs := make([]*kgo.Record, n)
	for i := range rs {
		rs[i] = &kgo.Record{Value: value(), Key: fmt.Appendf(nil, "%d", i)}
	}
	if err := w.client.ProduceSync(w.ctx, rs...).FirstErr(); err != nil {
		panic(fmt.Sprintf("produce to the embedded broker: %v", err))
	}
}

// deadLetters counts, by reason, what came into the dead-letter topic since the bridge started.
func (w *world) deadLetters() (map[string]int, error) {
	ctx, cancel := context.WithTimeout(w.ctx, 200*time.Millisecond)
	defer cancel()
	fetched := w.reader.PollFetches(ctx)
	if err := fetched.Err0(); err != nil && !errors.Is(err, context.DeadlineExceeded) {
		return nil, fmt.Errorf("read dead letters: %w", err)
	}
	for r := range fetched.RecordsAll() {
		for _, h := range r.Headers {
			if h.Key == "dlq.reason" {
				w.reasons[string(h.Value)]++
			}
		}
	}
	now := make(map[string]int)
	for reason, n := range w.reasons {
		if n -= w.before.reasons[reason]; n > 0 {
			now[reason] = n
		}
	}
	return now, nil
}

// secrets are the words that no page may hold: credentials as they are and as they are sent, the beginning of a token, what records hold.
func (w *world) secrets() []string {
	return []string{apiKey, password, content, "eyJ", base64.StdEncoding.EncodeToString([]byte(stellartest.DefaultUser + ":" + apiKey))}
}
