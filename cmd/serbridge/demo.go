package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"math"
	"slices"
	"strconv"
	"time"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"serbridge/bridge/deadletter"
	"serbridge/bridge/secret"
	"serbridge/bridge/stellar/stellartest"
	"serbridge/transform"
	"serbridge/transform/format"
)

const demoHelp = `Runs the whole job with nothing installed: an embedded Kafka broker and the API simulator in this
process, generated detections, and the real bridge between them. It ends with a ledger: what was
produced, and what became of each record. Exit code 1 if one was lost.`

const (
	demoTopic      = "detections"
	demoGroup      = "serbridge-demo"
	demoPartitions = 6
	demoKeepRate   = 20 // records a second that --keep goes on producing
	demoMost       = 5_000_000
	demoChunk      = 10_000 // records produced at a time
)

// demo is one run of `serbridge demo`.
type demo struct {
	*program
	records      int
	rate         float64
	faults, keep bool
	json         bool
	seed         uint64

	cluster   *kfake.Cluster
	simulator *stellartest.Server
	running   *stellartest.Running
	client    *kgo.Client
	admin     *kadm.Client
	wanted    map[int32][]expectation // by partition and offset
	begun     time.Time
	took      time.Duration
}

func newDemoCommand(p *program) *cobra.Command {
	d := &demo{program: p}
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "The main job with nothing installed: embedded broker, simulator, generated detections",
		Long:  demoHelp,
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return d.run(cmd.Context()) },
	}
	f := cmd.Flags()
	f.IntVar(&d.records, "records", 2000, "records to produce")
	f.Float64Var(&d.rate, "rate", 0, "requests per second of the group (RATE_LIMIT); 0: no limit")
	f.BoolVar(&d.faults, "faults", false, "the simulator misbehaves: latency, 5xx, 429, expired tokens, cut connections")
	f.BoolVar(&d.keep, "keep", false, "go on until interrupted, and print the addresses of the page, of the broker and of the simulator")
	f.BoolVar(&d.json, "json", false, "the ledger as one JSON object on standard output")
	f.Uint64Var(&d.seed, "seed", 0, "seed of detections and faults; 0: another one each time")
	return cmd
}

func (d *demo) run(ctx context.Context) error {
	if d.records < 0 || d.records > demoMost || !(d.rate >= 0) || math.IsInf(d.rate, 0) {
		return usageError{fmt.Errorf("--records wants a number from 0 to %d, --rate one of at least 0", demoMost)}
	}
	d.seed = seedOr(d.seed)
	if err := d.start(); err != nil {
		return err
	}
	defer d.stop()
	v, err := d.service()
	if err != nil {
		return err
	}
	if err := v.start(); err != nil {
		return err
	}
	d.sayHello(v)
	d.begun = time.Now()
	// An interrupt ends the demo, not the bridge in the middle of it: it
	// finishes what was produced, so that the ledger can be closed.
	serving, stop := context.WithCancel(context.WithoutCancel(ctx))
	served := make(chan error, 1)
	go func() { served <- v.run(serving); close(served) }() // ended by stop, waited for below
	err = d.produceAndWait(ctx, served)
	d.took = time.Since(d.begun)
	stop()
	if err = errors.Join(err, <-served); err != nil {
		return err
	}
	return d.settleAccounts(v)
}

// start begins broker, simulator and a client of the demo's own.
func (d *demo) start() (err error) {
	if d.cluster, err = kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(demoPartitions, demoTopic)); err != nil {
		return fmt.Errorf("start embedded broker: %w", err)
	}
	cfg := stellartest.Config{Seed: d.seed, StoreLimit: 1000}
	if d.faults {
		cfg.Faults = stellartest.DemoFaults(d.seed)
	}
	d.simulator = stellartest.New(cfg)
	if d.running, err = d.simulator.Start("127.0.0.1:0"); err != nil {
		d.cluster.Close()
		return fmt.Errorf("start simulator: %w", err)
	}
	d.client, err = kgo.NewClient(kgo.SeedBrokers(d.cluster.ListenAddrs()...), kgo.DefaultProduceTopic(demoTopic),
		kgo.ProducerLinger(5*time.Millisecond))
	if err != nil {
		d.simulator.Close()
		d.cluster.Close()
		return fmt.Errorf("make producer: %w", err)
	}
	d.admin = kadm.NewClient(d.client)
	d.wanted = make(map[int32][]expectation)
	return nil
}

func (d *demo) stop() {
	d.client.Close()
	d.simulator.Close()
	d.cluster.Close()
}

// service is the real bridge, configured as an operator would: by variables.
func (d *demo) service() (*service, error) {
	environ := map[string]string{
		"KAFKA_BROKERS": d.cluster.ListenAddrs()[0], "KAFKA_TOPICS": demoTopic, "KAFKA_GROUP": demoGroup,
		"STELLAR_URL": d.running.URL(), "STELLAR_USER": stellartest.DefaultUser, "STELLAR_API_KEY": stellartest.DefaultAPIKey,
		"RATE_LIMIT": strconv.FormatFloat(d.rate, 'g', -1, 64), "ADMIN_ADDR": "127.0.0.1:0", "LOG_LEVEL": "error",
	}
	red := new(secret.Redactor)
	s, err := loadSettings(environ, red)
	if err != nil {
		return nil, err
	}
	return newService(s, slog.New(red.Handler(slog.NewTextHandler(d.stderr, &slog.HandlerOptions{Level: slog.LevelError}))), red)
}

func (d *demo) sayHello(v *service) {
	if d.json {
		return
	}
	fmt.Fprintf(d.stdout, "seed %d: %d detections from an embedded Kafka into a simulated Stellar Cyber\n", d.seed, d.records)
	if d.keep {
		fmt.Fprintf(d.stdout, "broker    %s   topic %s, dead letters %s.dlq\n", d.cluster.ListenAddrs()[0], demoTopic, demoGroup)
		fmt.Fprintf(d.stdout, "simulator %s   /simulator/ledger, /simulator/documents\n", d.running.URL())
		fmt.Fprintf(d.stdout, "page      http://%s/   also /readyz, /metrics\n", v.admin.Addr())
		fmt.Fprintln(d.stdout, "until interrupted: ctrl-C ends it with the ledger")
	}
}

// produceAndWait produces the records and waits until the group has settled
// all of them, or the bridge has ended, or the user has seen enough.
func (d *demo) produceAndWait(ctx context.Context, served <-chan error) error {
	g := newDetections(d.seed, d.begun)
	for n := 0; n < d.records; n += demoChunk {
		if err := d.produce(ctx, g, n, min(demoChunk, d.records-n)); err != nil {
			return err
		}
	}
	more := time.NewTicker(time.Second)
	defer more.Stop()
	show := newProgress(d)
	defer show.end()
	for n := d.records; ; {
		show.update(ctx)
		if !d.keep && d.settled(ctx) {
			return nil
		}
		select {
		case <-more.C:
			if d.keep {
				if err := d.produce(ctx, g, n, demoKeepRate); err != nil {
					return err
				}
				n += demoKeepRate
			}
		case <-time.After(100 * time.Millisecond):
		case err := <-served:
			return fmt.Errorf("bridge ended early: %w", err)
		case <-ctx.Done():
			if d.keep {
				return d.awaitSettled()
			}
			return errors.New("interrupted before all records were settled")
		}
	}
}

// awaitSettled lets the bridge finish what --keep produced last.
func (d *demo) awaitSettled() error {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	for !d.settled(ctx) {
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
			return errors.New("interrupted before all records were settled")
		}
	}
	return nil
}

func (d *demo) produce(ctx context.Context, g *detections, from, n int) error {
	rs := make([]*kgo.Record, n)
	wants := make([]expectation, n)
	for i := range rs {
		value, want := g.next(from + i)
		rs[i] = &kgo.Record{Value: value, Key: []byte(strconv.Itoa(from + i))}
		wants[i] = want
	}
	for i, r := range d.client.ProduceSync(ctx, rs...) {
		if r.Err != nil {
			return fmt.Errorf("produce: %w", r.Err)
		}
		d.want(rs[i], wants[i])
	}
	return nil
}

func (d *demo) want(r *kgo.Record, want expectation) {
	list := d.wanted[r.Partition]
	for int64(len(list)) <= r.Offset {
		list = append(list, 0)
	}
	list[r.Offset] = want
	d.wanted[r.Partition] = list
}

// settled reports whether the group has committed all that was produced.
func (d *demo) settled(ctx context.Context) bool {
	commits, err := d.admin.FetchOffsets(ctx, demoGroup)
	if err != nil {
		return false
	}
	for id, list := range d.wanted {
		if c, ok := commits.Lookup(demoTopic, id); !ok || c.At < int64(len(list)) {
			return false
		}
	}
	return true
}

// account is the ledger at the end.
type account struct {
	Produced     int            `json:"produced"`
	Delivered    int            `json:"delivered"`
	DeadLettered map[string]int `json:"dead_lettered"`
	Skipped      int            `json:"skipped"`
	Lost         int            `json:"lost"`
	Duplicates   int            `json:"duplicates"`
	Unexplained  int            `json:"duplicates_unexplained"`
	GoodRefused  int            `json:"good_dead_lettered"`
	Seconds      float64        `json:"seconds"`
	Rate         float64        `json:"rate"`
	Seed         uint64         `json:"seed"`
}

func (d *demo) settleAccounts(v *service) error {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	letters, reasons, err := d.readDeadLetters(ctx)
	if err != nil {
		return err
	}
	cluster, err := d.admin.BrokerMetadata(ctx)
	if err != nil {
		return fmt.Errorf("read metadata: %w", err)
	}
	a := account{DeadLettered: reasons, Seed: d.seed, Seconds: d.took.Seconds()}
	all := d.settled(ctx)
	records, err := d.readBack(ctx)
	if err != nil {
		return err
	}
	copies, settings := d.simulator.Copies(), v.settings.Transform.config()
	for id, list := range d.wanted {
		for offset, want := range list {
			a.Produced++
			at := [2]int64{int64(id), int64(offset)}
			stored := copies[deliveryKey(records[at], cluster.Cluster, settings)]
			a.Duplicates += max(0, stored-1)
			switch {
			case stored > 0:
				a.Delivered++
			case letters[at]:
				if want == expectDelivered {
					a.GoodRefused++
				}
			case want == expectSkip && all:
				a.Skipped++
			default:
				a.Lost++
			}
		}
	}
	for _, n := range d.simulator.Unexplained() {
		a.Unexplained += n
	}
	a.Rate = float64(a.Delivered) / max(a.Seconds, 0.001)
	return d.say(a)
}

// deliveryKey is the key under which the simulator must know the record's
// document; "" for a record that makes none.
func deliveryKey(r *kgo.Record, cluster string, s *transform.Settings) string {
	result := format.Transform(transform.Input{
		Value: r.Value, Topic: r.Topic, Partition: r.Partition, Offset: r.Offset, Timestamp: r.Timestamp,
		ClusterID: cluster, Settings: s,
	})
	if len(result.Parts) != 1 || result.Parts[0].Document == nil {
		return ""
	}
	return result.Parts[0].Document.DeliveryKey()
}

// readBack reads all that was produced, as the bridge did.
func (d *demo) readBack(ctx context.Context) (map[[2]int64]*kgo.Record, error) {
	records := make(map[[2]int64]*kgo.Record)
	err := d.read(ctx, demoTopic, func(r *kgo.Record) error {
		records[[2]int64{int64(r.Partition), r.Offset}] = r
		return nil
	})
	return records, err
}

func (d *demo) readDeadLetters(ctx context.Context) (at map[[2]int64]bool, reasons map[string]int, err error) {
	at, reasons = make(map[[2]int64]bool), make(map[string]int)
	err = d.read(ctx, demoGroup+".dlq", func(r *kgo.Record) error {
		l, err := deadletter.Parse(r)
		if err != nil {
			return fmt.Errorf("read dead letter: %w", err)
		}
		if key := [2]int64{int64(l.Partition), l.Offset}; !at[key] {
			at[key] = true
			reasons[l.Reason]++
		}
		return nil
	})
	return at, reasons, err
}

// read calls f with every record that a topic has now.
func (d *demo) read(ctx context.Context, topic string, f func(*kgo.Record) error) error {
	ends, err := d.admin.ListEndOffsets(ctx, topic)
	if err != nil {
		return fmt.Errorf("list offsets of %s: %w", topic, err)
	}
	left := int64(0)
	ends.Each(func(o kadm.ListedOffset) { left += max(0, o.Offset) })
	cl, err := kgo.NewClient(kgo.SeedBrokers(d.cluster.ListenAddrs()...), kgo.ConsumeTopics(topic), kgo.FetchMaxWait(100*time.Millisecond))
	if err != nil {
		return fmt.Errorf("make reader: %w", err)
	}
	defer cl.Close()
	for left > 0 {
		fs := cl.PollFetches(ctx)
		if err := fs.Err0(); err != nil {
			return fmt.Errorf("read %s: %w", topic, err)
		}
		for r := range fs.RecordsAll() {
			left--
			if err := f(r); err != nil {
				return err
			}
		}
	}
	return nil
}

func (d *demo) say(a account) error {
	if d.json {
		if err := json.NewEncoder(d.stdout).Encode(a); err != nil {
			return err
		}
	} else if err := a.print(d.stdout); err != nil {
		return fmt.Errorf("write the ledger: %w", err)
	}
	if a.Lost > 0 {
		return fmt.Errorf("demo: %d records were lost", a.Lost)
	}
	if a.Unexplained > 0 || a.GoodRefused > 0 || !d.faults && a.Duplicates > 0 {
		return fmt.Errorf("demo: %d duplicates, %d of them unexplained, and %d good records in the dead-letter topic",
			a.Duplicates, a.Unexplained, a.GoodRefused)
	}
	return nil
}

func (a account) print(out io.Writer) error {
	w := bufio.NewWriter(out)
	dead := 0
	for _, n := range a.DeadLettered {
		dead += n
	}
	fmt.Fprintf(w, "\nproduced       %7d\ndelivered      %7d\ndead-lettered  %7d\n", a.Produced, a.Delivered, dead)
	for _, reason := range slices.Sorted(maps.Keys(a.DeadLettered)) {
		fmt.Fprintf(w, "  %-16s %5d\n", reason, a.DeadLettered[reason])
	}
	fmt.Fprintf(w, "skipped        %7d\nlost           %7d\nduplicates     %7d", a.Skipped, a.Lost, a.Duplicates)
	if a.Duplicates > 0 && a.Unexplained == 0 {
		fmt.Fprint(w, "   each one stored while its answer was lost on purpose")
	}
	fmt.Fprintf(w, "\nrate           %7.0f documents/s, %.1f s\n", a.Rate, a.Seconds)
	return w.Flush()
}

// progress shows how far the demo is: one line that is written over on a
// terminal, a plain line now and then elsewhere.
type progress struct {
	d     *demo
	last  time.Time
	every time.Duration
	lines bool
}

func newProgress(d *demo) *progress {
	p := &progress{d: d, every: 200 * time.Millisecond, lines: !d.stdoutIsTerminal}
	if p.lines {
		p.every = 2 * time.Second
	}
	return p
}

func (p *progress) update(context.Context) {
	if p.d.json || time.Since(p.last) < p.every {
		return
	}
	p.last = time.Now()
	l := p.d.simulator.Ledger()
	text := fmt.Sprintf("%6.1f s  %d of %d records stored, %d requests", time.Since(p.d.begun).Seconds(), l.Distinct, p.produced(), l.Requests[stellartest.KindInsert])
	if p.lines {
		fmt.Fprintln(p.d.stdout, text)
	} else {
		fmt.Fprintf(p.d.stdout, "\r\x1b[K%s", text)
	}
}

func (p *progress) produced() (n int) {
	for _, list := range p.d.wanted {
		n += len(list)
	}
	return n
}

func (p *progress) end() {
	if !p.d.json && !p.lines {
		fmt.Fprintln(p.d.stdout)
	}
}
