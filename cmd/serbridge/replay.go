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
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"serbridge/bridge/backfill"
	"serbridge/bridge/secret"
)

const replayHelp = `Delivers a range of topics once more, from bounds that are resolved once, and ends by itself.

Bounds: --from and --to take earliest, now, yesterday, a time (2026-01-31T08:00:00Z), a span back from
now (-24h), or offsets as topic:partition:offset, once for each partition: then all other partitions
are left out. --from is the first offset at or after its time. --to is not part of the range; a time
there is compared with each record's timestamp, since timestamps need not ascend, and the range ends
where the log ended when the run began. What the live group (KAFKA_GROUP) had not settled then is left
out, since it delivers that itself; --include-unsettled takes it too.

The run is a consumer group of its own, KAFKA_GROUP.backfill.RUN-ID, and keeps its bounds in its
commits: start the same command with the same --run-id in several places, and they share the run;
start it again after a crash or an interruption, and it goes on where it was. Kafka forgets a group
without members after offsets.retention.minutes (7 days by default), and the run with it.

Settings are those of run (serbridge help settings), KAFKA_TOPICS left out. The rate is the run's own:
the platform gets up to RATE_LIMIT from the live group and --rate from the replay. With --yield, the
default, the run stops while the live group is more than 30 s behind.

Documents say which run sent them (replay_id), and late if their record is over an hour old. Week-old
detections that arrive as New set off playbooks: for a range with records older than a day --status
says what they arrive as.

With --dry-run nothing is sent or committed: the range is read and transformed, and counted. With
--output FILE, or - for standard output, the documents are written there, one a line; no group, no
commit, no dead letters. Neither needs the settings of Stellar Cyber.

Exit code 0 when the run is complete, also if it was before; 1 when it was interrupted or failed.`

// replay is one run of `serbridge replay`.
type replay struct {
	*program
	topics           []string
	from, to         []string
	includeUnsettled bool
	dryRun           bool
	rate             float64
	maxInFlight      int
	limit            int64
	output           string
	status           string
	yield            bool
	runID            string
	verbose, json    bool

	flags    *pflag.FlagSet
	settings settings
	redactor *secret.Redactor
	client   *kgo.Client
	admin    *kadm.Client
	run      backfill.Run
	resumed  bool // the run had begun before
	show     *replayShow
}

const (
	toInsert      = "insert_ser"
	asMapped      = "as-mapped"
	yieldPatience = 30 * time.Second
	oldAfter      = 24 * time.Hour // records older than this want a status
	planWithin    = 30 * time.Second
)

func newReplayCommand(p *program) *cobra.Command {
	r := &replay{program: p}
	cmd := &cobra.Command{
		Use:   "replay TOPIC…",
		Short: "Delivers a time or offset range of topics once more",
		Long:  replayHelp,
		Args:  cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, topics []string) error {
			r.topics, r.flags = topics, cmd.Flags()
			return r.start(cmd.Context())
		},
	}
	f := cmd.Flags()
	f.StringArrayVar(&r.from, "from", nil, "where the range begins")
	f.StringArrayVar(&r.to, "to", []string{"now"}, "where the range ends")
	f.BoolVar(&r.includeUnsettled, "include-unsettled", false, "take also what the live group has not settled: it is delivered twice if that goes on")
	f.BoolVar(&r.dryRun, "dry-run", false, "read, transform and count; send and commit nothing")
	f.Float64Var(&r.rate, "rate", 0, "requests per second of the run (default RATE_LIMIT; needed when that is 0)")
	f.IntVar(&r.maxInFlight, "max-in-flight", 0, "requests of one process at a time (default MAX_IN_FLIGHT)")
	f.Int64Var(&r.limit, "limit", 0, "at most so many offsets, spread evenly over the partitions; 0: all")
	f.StringVar(&r.output, "output", toInsert, "insert_ser, a file for the documents, or - for standard output")
	f.StringVar(&r.status, "status", "", "event_status of every document: Closed, Ignored, or as-mapped")
	f.BoolVar(&r.yield, "yield", true, "stop while the live group is more than 30 s behind")
	f.StringVar(&r.runID, "run-id", "", "name of the run, to share or resume it (default: a new one)")
	f.BoolVar(&r.verbose, "verbose", false, "progress of each partition")
	f.BoolVar(&r.json, "json", false, "JSON lines on standard output: plan, progress, and the ledger at the end")
	return cmd
}

var runIDPattern = regexp.MustCompile(`^[A-Za-z0-9._-]{1,64}$`)

// check finds what is wrong with the command line alone.
func (r *replay) check() error {
	switch {
	case !(r.rate >= 0) || math.IsInf(r.rate, 0) || r.flags.Changed("rate") && r.rate == 0:
		return errors.New("--rate wants a number of requests per second above 0")
	case r.maxInFlight < 0 || r.maxInFlight > 4096:
		return errors.New("--max-in-flight wants a number from 1 to 4096")
	case r.limit < 0:
		return errors.New("--limit wants a number of offsets above 0")
	case r.output == "":
		return errors.New("--output wants insert_ser, a file, or - for standard output")
	case r.output == "-" && r.json:
		return errors.New("--json and --output - both want standard output: write the documents to a file")
	case r.runID != "" && !runIDPattern.MatchString(r.runID):
		return errors.New("--run-id wants 1 to 64 letters, digits, '.', '_' and '-'")
	case !slices.Contains([]string{"", "Closed", "Ignored", asMapped}, r.status):
		return errors.New("--status wants Closed, Ignored or as-mapped")
	}
	for _, topic := range r.topics {
		if strings.HasPrefix(topic, "^") || topicFault(topic) != "" {
			return fmt.Errorf("%q is no name of a topic; replay takes names, no patterns", topic)
		}
	}
	return nil
}

// sends reports whether documents go to the platform.
func (r *replay) sends() bool { return r.output == toInsert && !r.dryRun }

// load reads the settings of `run`, with the run's topics.
func (r *replay) load() (err error) {
	environ := maps.Clone(r.environ)
	if environ == nil {
		environ = make(map[string]string)
	}
	r.topics = slices.Compact(slices.Sorted(slices.Values(r.topics)))
	environ["KAFKA_TOPICS"] = strings.Join(r.topics, ",")
	if environ["LOG_LEVEL"] == "" {
		environ["LOG_LEVEL"] = "warn" // the progress says the rest
	}
	r.redactor = new(secret.Redactor)
	load := loadReadingSettings
	if r.sends() {
		load = loadSettings
	}
	if r.settings, err = load(environ, r.redactor); err != nil {
		return err
	}
	d := &r.settings.Delivery
	d.RateLimit, d.MaxInFlight = cmp.Or(r.rate, d.RateLimit), cmp.Or(r.maxInFlight, d.MaxInFlight)
	if d.RateLimit == 0 && r.sends() {
		return usageError{errors.New("RATE_LIMIT is 0, so nothing bounds a replay: say how many requests per second it may send with --rate")}
	}
	return nil
}

func (r *replay) start(ctx context.Context) error {
	if err := r.check(); err != nil {
		return usageError{err}
	}
	if err := r.load(); err != nil {
		return err
	}
	now := time.Now().In(r.zone())
	from, err := backfill.ParseFrom(r.from, now)
	if err != nil {
		return usageError{fmt.Errorf("--from: %w", err)}
	}
	to, err := backfill.ParseTo(r.to, now)
	if err != nil {
		return usageError{fmt.Errorf("--to: %w", err)}
	}
	r.show = newReplayShow(r)
	if err := r.connect(); err != nil {
		return err
	}
	defer r.client.Close()
	plan, err := r.plan(ctx, from, to)
	if err != nil || plan == nil {
		return err
	}
	switch {
	case r.dryRun:
		return r.rehearse(ctx, *plan)
	case r.output != toInsert:
		return r.export(ctx, *plan)
	}
	return r.deliver(ctx, *plan)
}

// zone is that in which days begin.
func (r *replay) zone() *time.Location {
	if z := r.settings.Transform.TimeZone.Location; z != nil {
		return z
	}
	return time.UTC
}

// connect makes the command's own client, which plans, watches and tells.
func (r *replay) connect() error {
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
	r.run = backfill.Run{Admin: r.admin, Live: r.settings.Kafka.Group, ID: id}
	return nil
}

func (r *replay) kafkaOptions() ([]kgo.Opt, error) {
	c := r.settings.Kafka.config(r.redactor)
	c.ClientID = instance()
	options, err := c.Options()
	if err != nil {
		return nil, err
	}
	return append(options, kgo.WithLogger(newKafkaLogger(r.show.log))), nil
}

// plan reads the run's bounds, or resolves and keeps them. nil: there is nothing to do, which was said.
func (r *replay) plan(ctx context.Context, from, to backfill.Bound) (*backfill.Plan, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, planWithin, errors.New("Kafka has not answered within "+planWithin.String()))
	defer cancel()
	plan, begun, err := r.run.Read(ctx, r.topics)
	if err != nil {
		return nil, r.explain(ctx, err)
	}
	if r.resumed = begun; !begun {
		if len(r.from) == 0 {
			return nil, usageError{errors.New("--from is needed to begin a run: where does the range begin?")}
		}
		if plan, err = backfill.Resolve(ctx, r.admin, r.request(from, to)); err != nil {
			return nil, r.explain(ctx, err)
		}
	}
	r.show.plan(plan)
	if plan.Complete() {
		return nil, nil
	}
	if !r.sends() {
		return &plan, nil
	}
	if err := r.checkStatus(ctx, plan); err != nil || begun {
		return &plan, err
	}
	return r.seed(ctx, plan)
}

func (r *replay) request(from, to backfill.Bound) backfill.Request {
	q := backfill.Request{Topics: r.topics, From: from, To: to, Limit: r.limit, Live: r.settings.Kafka.Group}
	if r.includeUnsettled {
		q.Live = ""
	}
	return q
}

// seed keeps the plan and reads back which one stands.
func (r *replay) seed(ctx context.Context, plan backfill.Plan) (*backfill.Plan, error) {
	if err := r.run.Seed(ctx, plan); err != nil {
		return nil, r.explain(ctx, err)
	}
	kept, begun, err := r.run.Read(ctx, r.topics)
	if err == nil && !begun {
		err = fmt.Errorf("read back the bounds of run %s: group %s has no commit", r.run.ID, r.run.Group())
	}
	if err != nil {
		return nil, r.explain(ctx, err)
	}
	return &kept, nil
}

func (r *replay) checkStatus(ctx context.Context, plan backfill.Plan) error {
	if r.status != "" {
		return nil
	}
	old, err := backfill.HoldsOlder(ctx, r.admin, plan, time.Now().Add(-oldAfter))
	if err != nil {
		return r.explain(ctx, err)
	}
	if old {
		return usageError{errors.New("the range holds records older than a day, and detections that arrive as New set off playbooks: " +
			"say with --status what they arrive as: Closed, Ignored, or as-mapped for what each detection says")}
	}
	return nil
}

// explain adds what to do about Kafka.
func (r *replay) explain(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		err = fmt.Errorf("%w: check KAFKA_BROKERS and the network: %w", context.Cause(ctx), err)
	}
	return fmt.Errorf("plan replay: %w", err)
}

// resumeCommand is the command line that goes on with the run.
func (r *replay) resumeCommand() string {
	words := append([]string{"serbridge", "replay"}, r.topics...)
	r.flags.Visit(func(f *pflag.Flag) {
		switch values := f.Value.(type) {
		case pflag.SliceValue:
			for _, v := range values.GetSlice() {
				words = append(words, "--"+f.Name, v)
			}
		default:
			if f.Name != "run-id" {
				words = append(words, "--"+f.Name+"="+f.Value.String())
			}
		}
	})
	words = append(words, "--run-id", r.run.ID)
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
