// Chaos tries to disprove what the README promises. It starts real serbridge
// processes between a broker and the API simulator, does to them what a
// schedule of its seed says, and compares three ledgers to the last record:
// produced, stored, dead-lettered.
//
//	go run ./bridge/chaos                          a random seed, embedded broker
//	go run ./bridge/chaos --seed 42 --for 10m      the same again, for longer
//	go run ./bridge/chaos --brokers 127.0.0.1:9092 against a real broker
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
}

func main() {
	var o options
	flag.Uint64Var(&o.seed, "seed", 0, "schedule and data; 0: a random one, which is printed")
	flag.DurationVar(&o.duration, "for", time.Minute, "how long to do harm; settling comes after")
	flag.StringVar(&o.brokers, "brokers", os.Getenv("TEST_KAFKA_BROKERS"), "a real broker on loopback; empty: an embedded one")
	flag.StringVar(&o.binary, "binary", "", "serbridge to test; empty: built from this tree")
	flag.IntVar(&o.members, "members", 3, "members at the start, and about so many later")
	flag.IntVar(&o.rate, "rate", 1000, "records produced per second")
	flag.IntVar(&o.maxRepeats, "max-repeats", 200, "MAX_REPEATS of the members")
	flag.StringVar(&o.protocol, "protocol", "", "classic or consumer; empty: by the seed")
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
	rng := rand.New(rand.NewPCG(o.seed, 1))
	if o.protocol == "" {
		o.protocol = []string{"classic", "consumer"}[rng.IntN(2)]
	}
	fmt.Printf("seed %d: %d members, %s, %v\n", o.seed, o.members, o.protocol, o.duration)
	w, err := newWorld(ctx, o, dir)
	if err != nil {
		return fmt.Errorf("seed %d: %w", o.seed, err)
	}
	defer w.close()
	if err := w.harm(ctx, rng); err != nil {
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
