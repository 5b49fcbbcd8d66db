package main

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"serbridge/bridge/deadletter"
	"serbridge/bridge/receipt"
	"serbridge/bridge/stellar"
)

const traceHelp = `Follows one detection from its topic to the index: the record, what it is recognised as and the document that it
makes, whether the group has settled it, its receipts (RECEIPTS_TOPIC) and dead letters, and whether Stellar Cyber has
it now.

It is named by its place, TOPIC:PARTITION:OFFSET; by a key that its document carries, dedup_key or delivery_key (64
hexadecimal digits); by its orig_id; or by the _id of its document. --by says which where the text alone does not. Other
names than a place are searched for in Stellar Cyber first, then in the receipts, all of them, or those since --since.

Settings are those of run (serbridge help settings). Nothing is sent but searches, up to --rate of them a second;
--read-back=false asks Stellar Cyber nothing, and needs no STELLAR_ settings. A document is made by the mappings of now:
where the one that is stored was made by another, it is not compared. event_status is not compared either: people change it.

With --json: one object a line for each record, with record, group, recognised, documents, receipts and letters.

Exit code 0 when something was found, 1 when nothing is known of it.`

// tracer is one run of `serbridge trace`.
type tracer struct {
	lookback
	by       string
	since    string
	json     bool
	readBack bool
}

const (
	byRecord      = "record"
	byDedupKey    = "dedup-key"
	byDeliveryKey = "delivery-key"
	byOrigID      = "orig-id"
	byID          = "id"
)

var namedBy = []string{byRecord, byDedupKey, byDeliveryKey, byOrigID, byID}

func newTraceCommand(p *program) *cobra.Command {
	t := &tracer{lookback: lookback{program: p}}
	cmd := &cobra.Command{
		Use:   "trace TOPIC:PARTITION:OFFSET | KEY | ORIG_ID | _ID",
		Short: "Follows one detection from its topic to the index",
		Long:  traceHelp,
		Args:  cobra.ExactArgs(1),
		RunE:  func(cmd *cobra.Command, args []string) error { return t.run(cmd.Context(), args[0]) },
	}
	f := cmd.Flags()
	f.StringVar(&t.by, "by", "", "what the argument is: "+strings.Join(namedBy, ", ")+" (default: as it looks)")
	f.StringVar(&t.since, "since", "", "receipts from this time on only: RFC 3339, a span back such as -24h, a date, today or yesterday")
	f.Float64Var(&t.rate, "rate", 0, "searches per second (default RATE_LIMIT)")
	f.BoolVar(&t.readBack, "read-back", true, "ask Stellar Cyber whether it has the document")
	f.BoolVar(&t.json, "json", false, "one JSON object a line")
	return cmd
}

// errUnknown ends a trace that has found nothing.
var errUnknown = errors.New("nothing is known of it")

// mostTraced is how many records one name may stand for: a source that repeats itself has one dedup_key.
const mostTraced = 10

func (t *tracer) run(ctx context.Context, name string) error {
	kinds, since, err := t.parse(name)
	if err != nil {
		return usageError{fmt.Errorf("trace: %w", err)}
	}
	if err := t.open(ctx, t.readBack); err != nil {
		return err
	}
	defer t.close()
	sources, err := t.locate(ctx, kinds, name, since)
	if err != nil {
		return err
	}
	known := false
	for _, s := range sources {
		found, err := t.trace(ctx, s)
		if err != nil {
			return err
		}
		known = known || found.known()
		if err := t.show(found); err != nil {
			return err
		}
	}
	if !known {
		return fmt.Errorf("trace %s: %w%s", cutText(name), errUnknown, t.hint(kinds))
	}
	return nil
}

// hint is where it was not looked for.
func (t *tracer) hint(kinds []string) string {
	var hints []string
	if t.stellar == nil {
		hints = append(hints, "Stellar Cyber was not asked")
	}
	if t.settings.Receipts.Topic == "" {
		hints = append(hints, "there are no receipts (RECEIPTS_TOPIC)")
	}
	if !slices.Contains(kinds, byRecord) {
		hints = append(hints, "a record that has no document yet is found by TOPIC:PARTITION:OFFSET alone")
	}
	if len(hints) == 0 {
		return ""
	}
	return ": " + strings.Join(hints, "; ")
}

func cutText(s string) string { return s[:min(len(s), 128)] }

var keyPattern = regexp.MustCompile(`^[0-9a-f]{64}$`)

// parse says what the name may be.
func (t *tracer) parse(name string) (kinds []string, since time.Time, err error) {
	if since, err = moment(t.since, time.Now()); err != nil {
		return nil, since, fmt.Errorf("--since: %w", err)
	}
	_, placeErr := deadletter.ParseSource(name)
	switch {
	case t.rate < 0:
		return nil, since, errors.New("--rate wants a number of requests per second above 0")
	case t.by == byRecord && placeErr != nil:
		return nil, since, placeErr
	case t.by != "" && !slices.Contains(namedBy, t.by):
		return nil, since, fmt.Errorf("--by wants %s", orList(namedBy))
	case name == "":
		return nil, since, errors.New("want TOPIC:PARTITION:OFFSET, a key, an orig_id or an _id")
	case t.by != "":
		return []string{t.by}, since, nil
	case placeErr == nil:
		return []string{byRecord}, since, nil
	case keyPattern.MatchString(name):
		return []string{byDedupKey, byDeliveryKey}, since, nil
	}
	return []string{byID, byOrigID}, since, nil
}

// locate returns the records that the name stands for.
func (t *tracer) locate(ctx context.Context, kinds []string, name string, since time.Time) (sources []deadletter.Source, err error) {
	if slices.Contains(kinds, byRecord) {
		s, err := deadletter.ParseSource(name)
		return []deadletter.Source{s}, err
	}
	if t.index != nil {
		if sources, err = t.locateStored(ctx, kinds, name); err != nil || len(sources) > 0 {
			return sources, err
		}
	}
	return t.locateReceipts(ctx, kinds, name, since)
}

// locateStored asks the index, whose documents say where they came from.
func (t *tracer) locateStored(ctx context.Context, kinds []string, name string) (sources []deadletter.Source, err error) {
	fields := map[string]stellar.Field{byDedupKey: stellar.ByDedupKey, byDeliveryKey: stellar.ByDeliveryKey, byOrigID: stellar.ByOrigID, byID: stellar.ByID}
	for _, kind := range kinds {
		found, err := t.index.Find(ctx, fields[kind], name)
		if err != nil {
			return nil, t.box.fault("trace", err)
		}
		for _, d := range found {
			k := t.stellar.Ours(d).Kafka
			if k.Topic == "" {
				fmt.Fprintf(t.stderr, "document %s in %s is none of serbridge\n", escape(d.ID), escape(d.Index))
				continue
			}
			sources = addSource(sources, deadletter.Source{Topic: k.Topic, Partition: k.Partition, Offset: k.Offset})
		}
	}
	return sources, nil
}

func addSource(all []deadletter.Source, s deadletter.Source) []deadletter.Source {
	if slices.Contains(all, s) || len(all) == mostTraced {
		return all
	}
	return append(all, s)
}

// locateReceipts reads the receipts for the name, which hold the keys, the _id, and a hash of the orig_id.
func (t *tracer) locateReceipts(ctx context.Context, kinds []string, name string, since time.Time) (sources []deadletter.Source, err error) {
	r, err := t.receipts(ctx, since)
	if r == nil || err != nil {
		return nil, err
	}
	defer r.Close()
	progress := t.newReading("reading receipts", r.Offsets())
	r.OnProgress = progress.add
	orig := receipt.HashOrigID(name)
	err = r.Each(ctx, func(one receipt.Receipt) (bool, error) {
		for _, p := range one.Parts {
			for _, kind := range kinds {
				if kind == byDedupKey && p.DedupKey == name || kind == byDeliveryKey && p.DeliveryKey == name ||
					kind == byID && p.ID == name || kind == byOrigID && p.Orig == orig {
					sources = addSource(sources, one.Source)
				}
			}
		}
		return len(sources) < mostTraced, nil
	})
	progress.end()
	return sources, t.box.fault("read receipts", err)
}
