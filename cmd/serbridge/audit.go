package main

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kadm"

	"serbridge/bridge/audit"
	"serbridge/bridge/backfill"
	"serbridge/bridge/receipt"
)

const auditHelp = `Accounts for every offset of a time range: by topic and hour, what was produced is delivered, dead-lettered, skipped,
pending, lost to retention, or unexplained; each unexplained offset is named. Topics are those of the arguments, or of
KAFKA_TOPICS; --from and --to are those of replay, and hours are those of the records' own time, in UTC.

What became of a record is what the receipts of the live group (RECEIPTS_TOPIC) and the dead letters say. Unexplained is
a record that the group has settled while neither says how, one whose receipt names a dead letter that is not there, and
one of which a part of the receipts is missing. Pending is what the group has not settled. Lost to retention is what the
log has no more while nothing is written of it. Offsets without a record (markers and aborted records of transactions,
what compaction removed) are none, unless a receipt says what became of them: then they count, as gone since. Of a record with
several documents one in the dead-letter topic makes it dead-lettered.

--read-back all, or 1/1000 for one record of a thousand, searches Stellar Cyber for what was delivered, up to --rate
searches a second beside what the live group sends. It reports documents that are missing, different from what was sent,
or there more than once. What another mapping made than today's is not compared, nor is event_status, which people change. A
settled record without a receipt is explained by its document. Without RECEIPTS_TOPIC --read-back all is needed.

Settings are those of run (serbridge help settings); without --read-back those of Stellar Cyber are not needed. Nothing
is committed. Memory is bounded: 8 million offsets are accounted for at a time, and the receipts are read once for each.

With --json: one object a line, {"type":"finding",…} for each, then {"type":"row",…}, then {"type":"total",…}.
A row without an hour is of records whose time is not known.

Exit code 0 when all is explained, 1 when something is unexplained, missing, different or doubled, or could not be read.`

// auditor is one run of `serbridge audit`.
type auditor struct {
	lookback
	from, to []string
	readBack string
	json     bool

	every int64 // one of so many records is read back; 0: none
}

func newAuditCommand(p *program) *cobra.Command {
	a := &auditor{lookback: lookback{program: p}}
	cmd := &cobra.Command{
		Use:   "audit --from WHEN [TOPIC…]",
		Short: "Accounts for a time range to the last offset, and reads documents back",
		Long:  auditHelp,
		RunE:  func(cmd *cobra.Command, topics []string) error { return a.run(cmd.Context(), topics) },
	}
	f := cmd.Flags()
	f.StringArrayVar(&a.from, "from", nil, "where the range begins; required")
	f.StringArrayVar(&a.to, "to", []string{"now"}, "where the range ends")
	f.StringVar(&a.readBack, "read-back", "none", "search for documents: all, 1/1000 (one record of so many), or none")
	f.Float64Var(&a.rate, "rate", 0, "searches per second (default RATE_LIMIT; needed when that is 0)")
	f.BoolVar(&a.json, "json", false, "JSON lines")
	return cmd
}

var samplePattern = regexp.MustCompile(`^1/([1-9][0-9]{0,8})$`)

// check finds what is wrong with the command line alone.
func (a *auditor) check(topics []string) error {
	sample := samplePattern.FindStringSubmatch(a.readBack)
	switch {
	case a.readBack == "all":
		a.every = 1
	case sample != nil:
		a.every, _ = strconv.ParseInt(sample[1], 10, 64) // the pattern fits
	case a.readBack != "none":
		return errors.New("--read-back wants all, none, or a part such as 1/1000")
	}
	switch {
	case len(a.from) == 0:
		return errors.New("--from is needed: where does the range begin?")
	case !(a.rate >= 0):
		return errors.New("--rate wants a number of requests per second above 0")
	}
	for _, topic := range topics {
		if strings.HasPrefix(topic, "^") || topicFault(topic) != "" {
			return fmt.Errorf("%q is no name of a topic; audit takes names, no patterns", topic)
		}
	}
	return nil
}

// errUnexplained ends an audit that has found something.
var errUnexplained = errors.New("not everything is explained")

func (a *auditor) run(ctx context.Context, topics []string) error {
	if err := a.check(topics); err != nil {
		return usageError{fmt.Errorf("audit: %w", err)}
	}
	if err := a.open(ctx, a.every > 0); err != nil {
		return err
	}
	defer a.close()
	if err := a.checkSources(); err != nil {
		return usageError{fmt.Errorf("audit: %w", err)}
	}
	cfg, err := a.config(ctx, topics)
	if cfg.Receipts != nil {
		defer cfg.Receipts.Close()
	}
	if cfg.Letters != nil {
		defer cfg.Letters.Close()
	}
	if err != nil {
		return err
	}
	account, err := a.account(ctx, cfg)
	if err != nil {
		return a.box.fault("audit", err)
	}
	if err := a.sayAccount(account); err != nil {
		return err
	}
	total := account.Total()
	if total.Unexplained > 0 {
		a.sayReceiptsBegin(ctx, cfg.Receipts, cfg.From)
	}
	if total.Bad() > 0 {
		return fmt.Errorf("audit: %w: see the findings, and serbridge trace TOPIC:PARTITION:OFFSET of one", errUnexplained)
	}
	return nil
}

// checkSources finds out whether there is anything that says what became of records.
func (a *auditor) checkSources() error {
	switch {
	case a.every > 0 && a.limiter() == nil:
		return errors.New("RATE_LIMIT is 0, so nothing bounds the searches: say how many a second with --rate")
	case a.settings.Receipts.Topic == "" && a.every != 1:
		return errors.New("RECEIPTS_TOPIC is not set, so nothing says what became of records: set it, or search for every document with --read-back all")
	}
	return nil
}

// account runs the audit, and shows how far it is.
func (a *auditor) account(ctx context.Context, cfg audit.Config) (*audit.Account, error) {
	if cfg.Receipts != nil {
		receipts := a.newReading("reading receipts", 0) // as often as there are windows
		cfg.Receipts.OnProgress = receipts.add
		defer receipts.end()
	}
	var progress *reading
	cfg.Progress = func(read, of int64) {
		if progress == nil {
			progress = a.newReading("accounting for offsets", of)
		}
		progress.add(read - progress.done)
	}
	defer func() {
		if progress != nil {
			progress.end()
		}
	}()
	return audit.Run(ctx, cfg)
}

// config looks where everything stands, in the order that the package wants.
func (a *auditor) config(ctx context.Context, topics []string) (cfg audit.Config, err error) {
	asking, cancel := planning(ctx)
	defer cancel()
	cfg = audit.Config{Options: a.options, Group: a.settings.Kafka.Group, Tell: a.sayFinding, Starts: make(map[backfill.Place]int64)}
	q, err := a.request(asking, topics)
	if err != nil {
		return cfg, err
	}
	cfg.From = q.From.Time
	if cfg.Plan, err = backfill.Resolve(asking, a.admin, q); err != nil {
		return cfg, a.box.fault("audit", err)
	}
	starts, err := a.admin.ListStartOffsets(asking, q.Topics...)
	if err == nil {
		err = starts.Error()
	}
	if err != nil {
		return cfg, a.box.fault("list the starts of the logs", err)
	}
	starts.Each(func(o kadm.ListedOffset) {
		cfg.Starts[backfill.Place{Topic: o.Topic, Partition: o.Partition}] = o.Offset
	})
	if cfg.Commits, err = backfill.CommitsOf(asking, a.admin, a.settings.Kafka.Group); err != nil {
		return cfg, a.box.fault("audit", err)
	}
	if cfg.Letters, err = a.letters(ctx); err != nil {
		return cfg, err
	}
	if cfg.Receipts, err = a.receipts(ctx, cfg.From); err != nil {
		return cfg, err
	}
	if a.every > 0 {
		cfg.ReadBack = &audit.ReadBack{Index: a.index, Ours: a.stellar.Ours, Input: a.input, Schema: a.settings.Registry.fetch, Every: a.every,
			Shown: time.Now().Add(a.settings.Delivery.ProbeWait)}
	}
	return cfg, nil
}

// request is the range.
func (a *auditor) request(ctx context.Context, topics []string) (q backfill.Request, err error) {
	now := time.Now().In(a.settings.Transform.zone())
	if q.From, err = backfill.ParseFrom(a.from, now); err != nil {
		return q, usageError{fmt.Errorf("audit: --from: %w", err)}
	}
	if q.To, err = backfill.ParseTo(a.to, now); err != nil {
		return q, usageError{fmt.Errorf("audit: --to: %w", err)}
	}
	if q.Topics = topics; len(topics) == 0 {
		if q.Topics, err = a.readTopics(ctx); err != nil {
			return q, err
		}
	}
	q.Topics = slices.Compact(slices.Sorted(slices.Values(q.Topics)))
	return q, nil
}

// readTopics are those that the live group reads.
func (a *auditor) readTopics(ctx context.Context) ([]string, error) {
	pattern := a.settings.Kafka.topicPattern()
	if pattern == "" {
		return a.settings.Kafka.Topics, nil
	}
	all, err := a.settings.listTopics(ctx, a.admin)
	if err != nil {
		return nil, a.box.fault("list topics", err)
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("audit: KAFKA_TOPICS=%s matches no topic that our Kafka user may see", pattern)
	}
	return all.Names(), nil
}

// sayReceiptsBegin says that a range is older than the receipts, which may be all that is wrong.
func (a *auditor) sayReceiptsBegin(ctx context.Context, r *receipt.Reader, from time.Time) {
	if r == nil {
		return
	}
	first, any, err := r.First(ctx)
	switch {
	case err != nil:
	case !any:
		fmt.Fprintf(a.stderr, "%s holds no receipts: so nothing that the group has settled is explained\n", escape(r.Topic))
	case from.Before(first):
		fmt.Fprintf(a.stderr, "the receipts begin at %s: what the group settled before is unexplained\n", first.UTC().Format(time.RFC3339))
	}
}
