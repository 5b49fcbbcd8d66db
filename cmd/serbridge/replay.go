package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"serbridge/bridge/backfill"
	"serbridge/transform/format"
)

const replayHelp = `Delivers a range of topics once more, from bounds that are resolved once, and ends by itself.

Bounds: --from and --to take earliest, now, yesterday, a time (2026-01-31T08:00:00Z), a span back from
now (-24h), or offsets as topic:partition:offset, once for each partition: then all other partitions
are left out. --from is the first offset at or after its time. --to is not part of the range; a time
there is compared with each record's timestamp, since timestamps need not ascend, and the range ends
where the log ended when the run began. What the live group (KAFKA_GROUP) had not settled then is left
out, since it delivers that itself; --include-unsettled takes it too.

The run is a consumer group of its own, KAFKA_GROUP.backfill.RUN-ID, and keeps its bounds in its
commits: start the same command with the same --run-id in several places, and they share the run (what means something
else by it, such as another --filter, --status or mapping, is refused; --new-settings goes on with mended
mappings or other settings, once no other process takes part);
start it again after a crash or an interruption, and it goes on where it was. Kafka forgets a group
without members after offsets.retention.minutes (7 days by default), and the run with it.

Settings are those of run (serbridge help settings), KAFKA_TOPICS left out. The rate is the run's own:
the platform gets up to RATE_LIMIT from the live group and --rate from the replay. With --yield, the
default, the run stops while the live group is more than 30 s behind.

Documents say which run sent them (replay_id), and late if their record is over an hour old. Week-old
detections that arrive as New set off playbooks: for a range with records older than a day --status
says what they arrive as.

--filter takes a condition in CEL (cel.dev) on record (the value as JSON, else text), document (as it is sent), format, key,
headers, topic, partition, offset and timestamp, with the functions of mappings. Each document of a record is judged for
itself; where none is made, document is null. What cannot be evaluated is not meant. What is not meant is skipped as filtered.

--skip-delivered, the default where there are receipts (RECEIPTS_TOPIC), skips as already_delivered what a receipt says that
this host took from this user, made by the mapping that makes it today, whoever delivered it. For that the receipts are read
from a day before what is left of the range on, and eight bytes kept for each offset of it.

With --dry-run nothing is sent or committed: the range is read and transformed, and counted. With
--output FILE, or - for standard output, the documents are written there, one a line; no group, no
commit, no dead letters. Neither needs the settings of Stellar Cyber.

What fails by the platform's fault, for all that is known, is held, and so is what may be there already while no search can
be trusted (ON_AMBIGUOUS=probe). A run of which all processes together have settled nothing for --give-up-after ends, and
leaves what it holds: the command says what that is, and how to go on. Waiting for the live group does not count.

Exit code 0 when the run is complete, also if it was before; 1 when it was interrupted or failed.`

// replay is one run of `serbridge replay`.
type replay struct {
	boundedRun
	from, to         []string
	includeUnsettled bool
	dryRun           bool
	limit            int64
	output           string
	status           string
	yield            bool
	filter           string
	skipDelivered    bool

	condition *format.Filter      // nil: everything is meant
	delivered *backfill.Delivered // nil: nothing is left out
}

const (
	toInsert      = "insert_ser"
	asMapped      = "as-mapped"
	yieldPatience = 30 * time.Second
	// replayPatience is longer than a redrive's: a replay may run unattended, and most outages are over by then.
	replayPatience = time.Hour
	oldAfter       = 24 * time.Hour // records older than this want a status
)

func newReplayCommand(p *program) *cobra.Command {
	r := &replay{boundedRun: boundedRun{program: p, name: "replay"}}
	cmd := &cobra.Command{
		Use:   "replay TOPIC…",
		Short: "Delivers a time or offset range of topics once more",
		Long:  replayHelp,
		Args:  cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, topics []string) error {
			r.topics, r.words = topics, append([]string{"replay"}, topics...)
			return r.start(cmd.Context())
		},
	}
	r.pins = append([]pin{{flag: "filter"}, {flag: "status"}, {flag: "skip-delivered"}, {flag: "include-unsettled", begun: true},
		{flag: "limit", begun: true}, {flag: "from", begun: true}, {flag: "to", begun: true}}, settingPins...)
	f := cmd.Flags()
	r.addFlags(f, replayPatience)
	f.StringArrayVar(&r.from, "from", nil, "where the range begins")
	f.StringArrayVar(&r.to, "to", []string{"now"}, "where the range ends")
	f.BoolVar(&r.includeUnsettled, "include-unsettled", false, "take also what the live group has not settled: it is delivered twice if that goes on")
	f.BoolVar(&r.dryRun, "dry-run", false, "read, transform and count; send and commit nothing")
	f.Int64Var(&r.limit, "limit", 0, "at most so many offsets, spread evenly over the partitions; 0: all")
	f.StringVar(&r.output, "output", toInsert, "insert_ser, a file for the documents, or - for standard output")
	f.StringVar(&r.status, "status", "", "event_status of every document: Closed, Ignored, or as-mapped")
	f.BoolVar(&r.yield, "yield", true, "stop while the live group is more than 30 s behind")
	f.StringVar(&r.filter, "filter", "", "only documents of which this CEL expression is true, such as 'document.severity >= 80'")
	f.BoolVar(&r.skipDelivered, "skip-delivered", true, "leave out what a receipt (RECEIPTS_TOPIC) of the same destination and mapping says is there")
	return cmd
}

// check finds what is wrong with the command line alone.
func (r *replay) check() error {
	if err := r.checkFlags(); err != nil {
		return err
	}
	switch {
	case r.limit < 0:
		return errors.New("--limit wants a number of offsets above 0")
	case r.output == "":
		return errors.New("--output wants insert_ser, a file, or - for standard output")
	case r.output == "-" && r.json:
		return errors.New("--json and --output - both want standard output: write the documents to a file")
	}
	if err := checkEventStatus("--status", r.status); err != nil {
		return err
	}
	for _, topic := range r.topics {
		if strings.HasPrefix(topic, "^") || topicFault(topic) != "" {
			return fmt.Errorf("%q is no name of a topic; replay takes names, no patterns", topic)
		}
	}
	return r.compile()
}

// sends reports whether documents go to the platform.
func (r *replay) sends() bool { return r.output == toInsert && !r.dryRun }

// load reads the settings of `run`, with the run's topics.
func (r *replay) load() error {
	r.topics = slices.Compact(slices.Sorted(slices.Values(r.topics)))
	return r.loadSettings(r.sends(), map[string]string{"KAFKA_TOPICS": strings.Join(r.topics, ",")})
}

func (r *replay) start(ctx context.Context) error {
	if err := r.check(); err != nil {
		return usageError{err}
	}
	if err := r.load(); err != nil {
		return err
	}
	now := time.Now().In(r.settings.Transform.zone())
	from, err := backfill.ParseFrom(r.from, now)
	if err != nil {
		return usageError{fmt.Errorf("--from: %w", err)}
	}
	to, err := backfill.ParseTo(r.to, now)
	if err != nil {
		return usageError{fmt.Errorf("--to: %w", err)}
	}
	if err := r.connect(func(id string) string { return backfill.ReplayGroup(r.settings.Kafka.Group, id) }); err != nil {
		return err
	}
	defer r.client.Close()
	plan, err := r.plan(ctx, from, to)
	if err != nil || plan == nil {
		return err
	}
	if err := r.readDelivered(ctx, *plan); err != nil {
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

// plan reads the run's bounds, or resolves and keeps them. nil: there is nothing to do, which was said.
func (r *replay) plan(ctx context.Context, from, to backfill.Bound) (*backfill.Plan, error) {
	ctx, cancel := planning(ctx)
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
	r.sayPlan(plan)
	if plan.Complete() {
		return nil, nil
	}
	if !r.sends() {
		return &plan, nil
	}
	if begun { // what they arrive as was said then, and records grow old while a run is interrupted
		return r.goOn(ctx, &plan)
	}
	if err := r.checkStatus(ctx, plan); err != nil {
		return nil, err
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
