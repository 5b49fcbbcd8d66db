package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"regexp"
	"strings"
	"sync/atomic"
	"time"

	"github.com/spf13/pflag"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"serbridge/bridge/backfill"
	"serbridge/bridge/secret"
)

// boundedRun is what replay and redrive share: a run of the bridge over what topics hold already, from bounds that are kept
// in Kafka, which ends by itself.
type boundedRun struct {
	*program
	name        string   // of the run's kind, in what is said
	words       []string // of the command line, before its flags
	flags       *pflag.FlagSet
	pins        []pin // in an order that is kept: see backfill.Asked
	rate        float64
	maxInFlight int
	runID       string
	newSettings bool          // a run that goes on takes those of this process
	patience    time.Duration // the run is ended when it has settled nothing for so long; 0: never
	verbose     bool
	json        bool

	settings settings
	redactor *secret.Redactor
	topics   []string // that are read
	client   *kgo.Client
	admin    *kadm.Client
	run      backfill.Run
	resumed  bool // the run had begun before
	show     *runShow
	held     atomic.Bool // by the live group
}

const newSettingsFlag = "new-settings"

const planWithin = 30 * time.Second

// addFlags defines the flags that every run has.
func (r *boundedRun) addFlags(f *pflag.FlagSet, patience time.Duration) {
	r.flags = f
	f.Float64Var(&r.rate, "rate", 0, "requests per second of the run (default RATE_LIMIT; needed when that is 0)")
	f.IntVar(&r.maxInFlight, "max-in-flight", 0, "requests of one process at a time (default MAX_IN_FLIGHT)")
	f.StringVar(&r.runID, "run-id", "", "name of the run, to share or resume it (default: a new one)")
	f.BoolVar(&r.newSettings, newSettingsFlag, false, "go on with a run that was begun with other mappings or settings: what is left is as it is by now")
	f.DurationVar(&r.patience, "give-up-after", patience, "end a run that has settled nothing for so long, and leave the rest as it is; 0: never")
	f.BoolVar(&r.verbose, "verbose", false, "progress of each partition")
	f.BoolVar(&r.json, "json", false, "JSON lines on standard output: plan, progress, and the ledger at the end")
}

var runIDPattern = regexp.MustCompile(`^[A-Za-z0-9._-]{1,64}$`)

// checkFlags finds what is wrong with these flags alone.
func (r *boundedRun) checkFlags() error {
	switch {
	case !(r.rate >= 0) || math.IsInf(r.rate, 0) || r.flags.Changed("rate") && r.rate == 0:
		return errors.New("--rate wants a number of requests per second above 0")
	case r.maxInFlight < 0 || r.maxInFlight > 4096:
		return errors.New("--max-in-flight wants a number from 1 to 4096")
	case r.patience < 0:
		return errors.New("--give-up-after wants a duration of at least 0")
	case r.newSettings && r.runID == "":
		return errors.New("--" + newSettingsFlag + " wants the --run-id of the run that goes on")
	case r.runID != "" && !runIDPattern.MatchString(r.runID):
		return errors.New("--run-id wants 1 to 64 letters, digits, '.', '_' and '-'")
	}
	return nil
}

// loadSettings reads the settings of `run`, changed by the flags; sends: also those of the platform.
func (r *boundedRun) loadSettings(sends bool, changes map[string]string) (err error) {
	environ := maps.Clone(r.environ)
	if environ == nil {
		environ = make(map[string]string)
	}
	maps.Copy(environ, changes)
	if environ["LOG_LEVEL"] == "" {
		environ["LOG_LEVEL"] = "warn" // the progress says the rest
	}
	r.redactor = new(secret.Redactor)
	load := loadReadingSettings
	if sends {
		load = loadSettings
	}
	if r.settings, err = load(environ, r.redactor); err != nil {
		return err
	}
	d := &r.settings.Delivery
	d.RateLimit, d.MaxInFlight = cmp.Or(r.rate, d.RateLimit), cmp.Or(r.maxInFlight, d.MaxInFlight)
	if d.RateLimit == 0 && sends {
		return usageError{fmt.Errorf("RATE_LIMIT is 0, so nothing bounds a %s: say how many requests per second it may send with --rate", r.name)}
	}
	r.show = newRunShow(r)
	return nil
}

// connect makes the command's own client, which plans, watches and tells.
func (r *boundedRun) connect(group func(id string) string) error {
	options, err := r.kafkaOptions()
	if err != nil {
		return usageError{err}
	}
	if r.client, err = kgo.NewClient(append(options, kgo.DisableClientMetrics())...); err != nil {
		return fmt.Errorf("make Kafka client: %w", err)
	}
	r.admin = kadm.NewClient(r.client)
	id := r.runID
	if id == "" {
		id = fmt.Sprintf("%s-%04x", time.Now().UTC().Format("20060102t150405z"), rand.N(1<<16))
	}
	r.run = backfill.Run{Admin: r.admin, Group: group(id), ID: id}
	return nil
}

func (r *boundedRun) kafkaOptions() ([]kgo.Opt, error) {
	return r.settings.Kafka.options(r.show.log, r.redactor)
}

// planning bounds the time in which Kafka has to answer while a run is planned.
func planning(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, planWithin, errors.New("Kafka has not answered within "+planWithin.String()))
}

// seed keeps the plan and reads back which one stands.
func (r *boundedRun) seed(ctx context.Context, plan backfill.Plan) (*backfill.Plan, error) {
	if r.newSettings {
		return nil, usageError{fmt.Errorf("go on with run %s: there is none of this name: it was never begun, or Kafka has forgotten it. "+
			"Look at --run-id; to begin one, leave --%s out", r.run.ID, newSettingsFlag)}
	}
	plan.Asked = r.asked()
	if err := r.run.Seed(ctx, plan); err != nil {
		return nil, r.explain(ctx, err)
	}
	kept, begun, err := r.run.Read(ctx, r.topics)
	if err == nil && !begun {
		err = fmt.Errorf("read back the bounds of run %s: group %s has no commit", r.run.ID, r.run.Group)
	}
	if err != nil {
		return nil, r.explain(ctx, err)
	}
	return &kept, r.agree(kept)
}

// explain adds what to do about Kafka.
func (r *boundedRun) explain(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		err = fmt.Errorf("%w: check KAFKA_BROKERS and the network: %w", context.Cause(ctx), err)
	}
	return fmt.Errorf("plan %s: %w", r.name, err)
}

// resumeCommand is the command line that goes on with the run.
func (r *boundedRun) resumeCommand() string {
	return r.commandLine() + " --run-id " + shellWord(r.run.ID)
}

// commandLine is what was asked for, whichever run it is.
func (r *boundedRun) commandLine() string {
	words := append([]string{"serbridge"}, r.words...)
	r.flags.Visit(func(f *pflag.Flag) {
		switch values := f.Value.(type) {
		case pflag.SliceValue:
			for _, v := range values.GetSlice() {
				words = append(words, "--"+f.Name, v)
			}
		default:
			if f.Name != "run-id" && f.Name != newSettingsFlag {
				words = append(words, "--"+f.Name+"="+f.Value.String())
			}
		}
	})
	for i, w := range words {
		words[i] = shellWord(w)
	}
	return strings.Join(words, " ")
}

var plainWord = regexp.MustCompile(`^[A-Za-z0-9@%+=:,./_-]+$`)

func shellWord(w string) string {
	if plainWord.MatchString(w) {
		return w
	}
	return "'" + strings.ReplaceAll(w, "'", `'\''`) + "'"
}
