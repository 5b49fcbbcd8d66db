package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"serbridge/bridge"
	"serbridge/bridge/backfill"
	"serbridge/bridge/deadletter"
	"serbridge/transform"
)

const dlqRedriveHelp = `Sends dead letters again, through the same pipeline as run and with its settings: mend what was at fault first (a
setting, a mapping, the platform's rights), see what would become of them with --dry-run, then redrive.

Without a selection every open letter is meant. Letters that are named by their place are taken if they are open, too;
--status parked or discarded takes such ones up again. Left out are letters that may be stored already (certainty
unknown), unless --include-ambiguous; those without a value; and records that are no dead letters.

The run reads the dead-letter topic up to where it ended when the run began. What became of each letter stands in
<DLQ_TOPIC>.handled before the run passes it: redriven; discarded, if the record is no detection by now; or failed_again:
then a new letter is at the end of the topic, with dlq.redrives one higher. A letter that was redriven --max-redrives
times is not sent any more: it is parked. One redrive of a topic runs at a time.

A run is the consumer group DLQ_TOPIC.redrive.RUN-ID. After a crash or an interruption the same command with --run-id
goes on where it was; several processes with the same --run-id share a run. Who has other flags, mappings or settings than
began it is refused; --new-settings goes on with mended ones, once no other process takes part. The rate is the run's own: the platform gets
up to RATE_LIMIT from the live group and --rate from the redrive. With --yield, the default, the run stops while the live
group is more than 30 s behind.

Week-old detections that arrive as New set off playbooks: if a letter that would be taken is of a record older than a day,
--event-status says what documents arrive as.

What fails by the platform's fault, for all that is known, is held: a failure is a letter's own only if others are
delivered meanwhile. A run that has settled nothing for --give-up-after ends, and leaves what it holds open: the command
says what that is, and how to go on.

With --to topic=NAME the record of each letter is produced to that topic instead, as it was: key, value, headers and
timestamp, into the partition that it had (mod the topic's); every group that reads the topic gets it. It says in dlq.*
headers where it came from first and how often it was redriven, so the guard against loops holds, and nothing of what
was wrong. Left out are letters of one document of a record that has several. --rate is then records of each process; a
process that is killed leaves at most --max-in-flight records in the topic that the resumed run produces again.

Exit code 0 when the run is complete, also if letters failed again; 1 when it was interrupted or failed.`

// redrive is one run of `serbridge dlq redrive`.
type redrive struct {
	boundedRun
	meant     selection
	dryRun    bool
	ambiguous bool
	most      int
	to        string // insert_ser, or topic=NAME
	status    string // event_status
	yield     bool

	box *letterBox
	job *backfill.Redrive
}

const redrivePatience = 10 * time.Minute

func newDLQRedriveCommand(p *program) *cobra.Command {
	r := &redrive{boundedRun: boundedRun{program: p, name: "redrive"}}
	cmd := &cobra.Command{
		Use:   "redrive [PARTITION:OFFSET…]",
		Short: "Send them again, up to twice each",
		Long:  dlqRedriveHelp,
		RunE: func(cmd *cobra.Command, places []string) error {
			r.words = append([]string{"dlq", "redrive"}, places...)
			return r.start(cmd.Context(), places)
		},
	}
	// a new one goes to the end: see backfill.Asked
	for _, name := range []string{"reason", "field", "status", "topic", "since", "until", "partition", "offset", "key", "max",
		"include-ambiguous", "max-redrives", "event-status", "to"} {
		r.pins = append(r.pins, pin{flag: name})
	}
	r.pins = append(append(r.pins, pin{}), settingPins...)
	f := cmd.Flags()
	r.meant.add(cmd, 0, "letters to redrive, at most; 0: all of the selection")
	r.addFlags(f, redrivePatience)
	f.BoolVar(&r.dryRun, "dry-run", false, "read, transform and count; send, mark and commit nothing")
	f.BoolVar(&r.ambiguous, "include-ambiguous", false, "take also letters that may be stored already: they may be stored twice then")
	f.StringVar(&r.to, "to", toInsert, "insert_ser, or topic=NAME: produce the records there, to whoever reads the topic")
	f.StringVar(&r.status, "event-status", "", "event_status of every document: Closed, Ignored, or as-mapped")
	f.BoolVar(&r.yield, "yield", true, "stop while the live group is more than 30 s behind")
	f.IntVar(&r.most, "max-redrives", 2, "park a letter that was redriven so often, instead of sending it again")
	return cmd
}

// filter is the selection. The error is of the command line.
func (r *redrive) filter(places []string) (deadletter.Filter, error) {
	meant, err := r.meant.filter(places, time.Now())
	if err != nil {
		return meant, err
	}
	if err := backfill.CheckFates(meant.Fates); err != nil {
		return meant, usageError{fmt.Errorf("--status: %w", err)}
	}
	if err := r.checkTo(); err != nil {
		return meant, usageError{err}
	}
	if r.most < 1 {
		return meant, usageError{errors.New("--max-redrives: want a number of at least 1")}
	}
	if err := errors.Join(checkEventStatus("--event-status", r.status), r.checkFlags()); err != nil {
		return meant, usageError{err}
	}
	return meant, nil
}

func (r *redrive) start(ctx context.Context, places []string) error {
	meant, err := r.filter(places)
	if err != nil {
		return err
	}
	if err := r.loadSettings(!r.dryRun, nil); err != nil {
		return err
	}
	r.topics = []string{r.settings.DLQ.Topic}
	if err := r.connect(func(id string) string { return backfill.RedriveGroup(r.settings.DLQ.Topic, id) }); err != nil {
		return err
	}
	defer r.client.Close()
	if err := r.checkOwnTopic(); err != nil {
		return usageError{err}
	}
	options, err := r.kafkaOptions()
	if err != nil {
		return usageError{err}
	}
	r.box = &letterBox{program: r.program, settings: lettersSettings{r.settings.Kafka, r.settings.DLQ, r.settings.Receipts}, options: options, red: r.redactor, log: r.show.log}
	r.job = &backfill.Redrive{Meant: meant, Ambiguous: r.ambiguous, Most: r.most, ID: r.run.ID, By: operator(), Because: r.commandLine()}
	if err := r.openTopic(ctx); err != nil {
		return err
	}
	defer r.closeTopic()
	if !r.dryRun {
		return r.deliver(ctx)
	}
	if r.job.Letters, err = r.box.reader(ctx); err != nil {
		return err
	}
	defer r.job.Letters.Close()
	return r.rehearse(ctx)
}

// deliver takes the run up, or begins it, and runs it to its end.
func (r *redrive) deliver(ctx context.Context) (err error) {
	if err := r.beAlone(ctx); err != nil {
		return err
	}
	if r.job.Marks, err = r.box.marks(); err != nil {
		return err
	}
	defer r.job.Marks.Close()
	if err := r.open(ctx); err != nil {
		return err
	}
	defer r.job.Letters.Close()
	plan, err := r.plan(ctx)
	if err != nil {
		return err
	}
	r.sayPlan(*plan)
	if plan.Complete() {
		return nil
	}
	e, err := r.drive(ctx, r.driven(*plan))
	if err != nil {
		return err
	}
	r.sayLedger(e)
	return r.conclude(e)
}

// beAlone refuses to begin beside another run. Two that begin in one moment are told apart by backfill.Alone.
func (r *redrive) beAlone(ctx context.Context) error {
	ctx, cancel := planning(ctx)
	defer cancel()
	others, err := backfill.OtherRedrives(ctx, r.admin, r.settings.DLQ.Topic, r.run.Group)
	if err != nil {
		return r.explain(ctx, err)
	}
	if len(others) > 0 {
		return fmt.Errorf("begin redrive: %w", r.otherRuns(others))
	}
	return nil
}

// otherRuns says which they are, and what to do.
func (r *redrive) otherRuns(ids []string) error {
	return fmt.Errorf("%w on %s: %s. Wait until it ends, or end it (SIGTERM); one that was killed counts until its session ends (KAFKA_SESSION_TIMEOUT, %s). "+
		"To go on with it instead: --run-id %s", errOtherRun, r.settings.DLQ.Topic, strings.Join(ids, ", "), r.settings.Kafka.SessionTimeout, ids[0])
}

// open makes sure that there is a handled topic to write to and to follow, but only beside a dead-letter topic.
func (r *redrive) open(ctx context.Context) error {
	letters, err := deadletter.OpenLog(ctx, r.box.options, r.settings.DLQ.Topic)
	if err != nil {
		return r.box.readFault(err)
	}
	letters.Close()
	ready, cancel := context.WithTimeout(ctx, writeWait)
	defer cancel()
	if err := r.job.Marks.Ready(ready); err != nil {
		return r.box.fault("begin redrive", err)
	}
	r.job.Letters, err = r.box.reader(ctx)
	return err
}

// plan reads the run's bounds, or makes and keeps them.
func (r *redrive) plan(ctx context.Context) (*backfill.Plan, error) {
	asking, cancel := planning(ctx)
	defer cancel()
	plan, begun, err := r.run.Read(asking, r.topics)
	if err != nil {
		return nil, r.explain(asking, err)
	}
	if r.resumed = begun; begun {
		return r.goOn(asking, &plan)
	}
	if plan, err = r.job.Plan(ctx, r.meant.max); err != nil {
		return nil, r.box.fault("plan redrive", err)
	}
	if plan.Complete() {
		return &plan, nil
	}
	if err := r.checkAge(ctx); err != nil {
		return nil, err
	}
	seeding, cancel := planning(ctx)
	defer cancel()
	return r.seed(seeding, plan)
}

// checkAge refuses to send old detections without having been told what they arrive as.
func (r *redrive) checkAge(ctx context.Context) error {
	if r.status != "" || r.toTopic() != "" { // who reads the topic says as what they arrive
		return nil
	}
	old, since := false, time.Now().Add(-oldAfter)
	err := r.job.Each(ctx, func(e *deadletter.Entry, skip transform.SkipReason) (bool, error) {
		old = skip == "" && e.Letter.Timestamp.Before(since)
		return !old, nil
	})
	if err != nil {
		return r.box.fault("plan redrive", err)
	}
	if old {
		return usageError{errors.New("letters of records older than a day are meant, and detections that arrive as New set off playbooks: " +
			"say with --event-status what they arrive as: Closed, Ignored, or as-mapped for what each detection says")}
	}
	return nil
}

// driven is what makes a redrive out of the bridge. Its letters were refused before, and most of them in rows: the brake,
// which keeps a topic from being emptied into the dead-letter topic, has nothing to keep here.
func (r *redrive) driven(plan backfill.Plan) drive {
	alone := &backfill.Alone{Admin: r.admin, Topic: r.settings.DLQ.Topic, Group: r.run.Group}
	yield := &backfill.Yield{Admin: r.admin, Group: r.settings.Kafka.Group, Patience: yieldPatience, Say: r.sayYields}
	d := drive{
		plan: plan,
		configure: func(c *bridge.Config) {
			c.Read, c.Ended, c.RejectBrake = r.job.Reading, also(r.job.Ended, c.Ended), -1 // a mark may have to be written again
			if r.job.Forward != nil {                                                      // no receipt: whoever reads the topic writes it
				c.Ended, c.Flush = r.job.Ended, nil
			}
			c.Transform = r.settings.byTopic(withStatus(r.status))
			c.Begin = alone.Begin
			if r.yield {
				c.Begin = func(ctx context.Context) error { return cmp.Or(alone.Begin(ctx), yield.Begin(ctx)) }
			}
		},
		begun: func(stop context.CancelCauseFunc) {
			alone.Refuse = func(others []string) { stop(r.otherRuns(others)) }
		},
		beside: []func(context.Context){func(ctx context.Context) {
			if err := r.job.Letters.Follow(ctx); err != nil {
				r.show.log.Error("what others do with dead letters meanwhile is not seen", "error", err)
			}
		}},
		counted: func() (string, map[string]any) {
			n := r.job.Counts()
			return fmt.Sprintf("%d redriven, %d failed again, %d parked", n.Redriven, n.Failed(), n.Parked), map[string]any{"counts": n}
		},
	}
	if r.yield {
		d.beside = append(d.beside, yield.Watch)
	}
	return d
}
