// Chaos tries to disprove what the README promises. It starts real serbridge
// processes between a broker and the API simulator, does to them what a
// schedule of its seed says, and compares three ledgers to the last record:
// produced, stored, dead-lettered.
//
//	go run ./bridge/chaos                          a random seed, embedded broker
//	go run ./bridge/chaos --seed 42 --for 10m      the same again, for longer
//	go run ./bridge/chaos --brokers 127.0.0.1:9092 against a real broker
//	go run ./bridge/chaos --proof kills            a fixed schedule instead: kills, stuck, exposure, cut, members,
//	                                               replay, shared, beside, redrive
//
// It exits with 1, and with the seed, if a record was lost, if a kill repeated
// more documents than MAX_REPEATS, or if a document was stored again without a
// kill and without an answer that was lost on purpose.
package main

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"
)

// options are the command line.
type options struct {
	seed       uint64
	duration   time.Duration
	brokers    string
	binary     string
	members    int
	rate       int // records produced per second
	maxRepeats int
	protocol   string
	quiet      bool
	proxied    string // listen-port=broker-port
	state      string // of .ci/kafka, whose broker may be stopped
	proof      string
	probe      bool // ON_AMBIGUOUS=probe
	records    int
	rounds     int
	timeout    time.Duration // STELLAR_TIMEOUT of the members
	limit      int           // their RATE_LIMIT; 0: none
}

func main() {
	var o options
	flag.Uint64Var(&o.seed, "seed", 0, "schedule and data; 0: a random one, which is printed")
	flag.DurationVar(&o.duration, "for", time.Minute, "how long to do harm; settling comes after")
	flag.StringVar(&o.brokers, "brokers", os.Getenv("TEST_KAFKA_BROKERS"), "a real broker on loopback; empty: an embedded one")
	flag.StringVar(&o.binary, "binary", "", "serbridge to test; empty: built from this tree")
	flag.StringVar(&o.state, "broker-state", os.Getenv("TEST_KAFKA_STATE"), "directory of the broker that .ci/kafka started: it may be frozen")
	flag.StringVar(&o.proxied, "proxied", os.Getenv("TEST_KAFKA_PROXIED"), "listen-port=broker-port: a listener of the real broker that names the first port, where the harness then stands and can cut the members off")
	flag.StringVar(&o.proof, "proof", "", "kills, stuck, exposure, cut, members, replay, shared, beside or redrive: a fixed schedule; empty: harm at random")
	flag.BoolVar(&o.probe, "probe", false, "ON_AMBIGUOUS=probe for kills, replay, shared and redrive: no kill repeats anything")
	flag.IntVar(&o.records, "records", 0, "records of a proof; 0: its own number")
	flag.IntVar(&o.rounds, "rounds", 0, "rounds of a proof, mostly kills; 0: its own number")
	flag.IntVar(&o.members, "members", 0, "members at the start, and about so many later; 0: 3, or the proof's own number")
	flag.IntVar(&o.rate, "rate", 1000, "records produced per second")
	flag.IntVar(&o.maxRepeats, "max-repeats", 200, "MAX_REPEATS of the members")
	flag.StringVar(&o.protocol, "protocol", "", "classic or consumer; empty: by the seed, or consumer on the embedded broker")
	flag.BoolVar(&o.quiet, "quiet", false, "only the result")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, "chaos:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, o options) (err error) {
	if o.seed == 0 {
		o.seed = rand.Uint64N(1 << 32)
	}
	dir, err := os.MkdirTemp("", "chaos")
	if err != nil {
		return err
	}
	defer func() {
		if err == nil {
			os.RemoveAll(dir)
		} else {
			fmt.Fprintln(os.Stderr, "chaos: the members' logs are in", dir)
		}
	}()
	if o.binary == "" {
		o.binary = filepath.Join(dir, "serbridge")
		if out, err := exec.CommandContext(ctx, "go", "build", "-o", o.binary, "serbridge/cmd/serbridge").CombinedOutput(); err != nil {
			return fmt.Errorf("build serbridge: %w\n%s", err, out)
		}
	}
	if err := o.complete(); err != nil {
		return err
	}
	rng := rand.New(rand.NewPCG(o.seed, 1))
	if o.protocol == "" {
		o.protocol = []string{"classic", "consumer"}[rng.IntN(2)]
		if o.brokers == "" {
			o.protocol = "consumer" // the embedded broker never gives up a classic member that was killed between join and sync
		}
	}
	fmt.Printf("seed %d: %s, %d members, %s, MAX_REPEATS=%d\n", o.seed, o.what(), o.members, o.protocol, o.maxRepeats)
	w, err := newWorld(ctx, o, dir)
	if err != nil {
		return fmt.Errorf("seed %d: %w", o.seed, err)
	}
	defer w.close()
	play := w.harm
	if o.proof != "" {
		play = func(ctx context.Context, rng *rand.Rand) error { return proofs[o.proof].do(w, ctx, rng) }
	}
	if err := play(ctx, rng); err != nil {
		return fmt.Errorf("seed %d: %w", o.seed, err)
	}
	if err := w.settle(ctx); err != nil {
		return fmt.Errorf("seed %d: %w", o.seed, err)
	}
	if err := w.judge(ctx); err != nil {
		return fmt.Errorf("seed %d: %w", o.seed, err)
	}
	return nil
}

// complete fills in what the proof says and the command line does not.
func (o *options) complete() error {
	o.timeout = 5 * time.Second
	if o.proof == "" {
		def(&o.members, 3)
		return nil
	}
	p, ok := proofs[o.proof]
	if !ok {
		return fmt.Errorf("no proof %q", o.proof)
	}
	def(&o.members, p.members)
	def(&o.records, p.records)
	def(&o.rounds, p.rounds)
	if o.proof == "beside" {
		o.limit = liveLimit
	}
	if o.proof == "stuck" || o.proof == "exposure" {
		o.timeout = 9 * time.Minute // what hangs must not be sent again for that
	}
	return nil
}

func def(n *int, d int) {
	if *n == 0 {
		*n = d
	}
}

func (o *options) what() string {
	if o.proof == "" {
		return fmt.Sprintf("harm for %v", o.duration)
	}
	return fmt.Sprintf("proof of %s, %d records, %d rounds", o.proof, o.records, o.rounds)
}
