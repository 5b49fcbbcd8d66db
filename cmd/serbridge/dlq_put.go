package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"time"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kgo"

	"serbridge/bridge"
	"serbridge/bridge/byhand"
	"serbridge/bridge/deadletter"
	"serbridge/bridge/receipt"
	"serbridge/bridge/stellar"
)

const dlqPutHelp = `Makes one record of a stopped group a dead letter by hand: the one that a bridge holds for ever, because it fails and
there is nothing to compare it with. Stop every serbridge of the group first (scale it to 0); the command refuses a
group that has members.

The record is written to the dead-letter topic as by_hand, with --because as its detail, and acknowledged by every
in-sync replica, and so is its receipt where RECEIPTS_TOPIC is set. Only then does the group's commit say that this one record is settled; all others stay as they are.
Whether the platform has it already is not known here: the letter says that it may be stored.

With --json: one object with record, letter_topic, committed, base and dry_run.`

// putter is one run of `serbridge dlq put`.
type putter struct {
	*program
	because      string
	dryRun, json bool
}

func newDLQPutCommand(p *program) *cobra.Command {
	u := &putter{program: p}
	cmd := &cobra.Command{
		Use:   "put TOPIC:PARTITION:OFFSET --because TEXT",
		Short: "Make one record of a stopped group a dead letter",
		Long:  dlqPutHelp,
		Args:  cobra.ExactArgs(1),
		RunE:  func(cmd *cobra.Command, args []string) error { return u.run(cmd.Context(), args[0]) },
	}
	cmd.Flags().StringVar(&u.because, "because", "", "why; required")
	cmd.Flags().BoolVar(&u.dryRun, "dry-run", false, "say what would be done, and do nothing")
	cmd.Flags().BoolVar(&u.json, "json", false, "one JSON object")
	return cmd
}

func (u *putter) run(ctx context.Context, record string) error {
	at, err := deadletter.ParseSource(record)
	if err = errors.Join(err, checkBecause(u.because)); err != nil {
		return usageError{fmt.Errorf("dlq put: %w", err)}
	}
	box, err := openLetterBox(u.program)
	if err != nil {
		return err
	}
	if !box.settings.Kafka.reads(at.Topic) {
		return usageError{fmt.Errorf("dlq put: %s is no topic of KAFKA_TOPICS, so no record of it is held by the group %s", at.Topic, box.settings.Kafka.Group)}
	}
	writer, err := box.writer()
	if err != nil {
		return err
	}
	defer writer.Close()
	receipts, err := u.receipts(box)
	if err != nil {
		return usageError{err}
	}
	if receipts != nil {
		defer receipts.Close()
	}
	ctx, cancel := context.WithTimeout(ctx, putWait)
	defer cancel()
	put, err := byhand.Prepare(ctx, u.config(box, writer, receipts), at)
	if err != nil {
		return box.fault("dlq put", err)
	}
	defer put.Close()
	if !u.dryRun {
		if receipts != nil {
			receipts.Start()
		}
		if err := put.Do(ctx); err != nil {
			return box.fault("dlq put", err)
		}
	}
	return u.say(box, put)
}

func (u *putter) config(box *letterBox, writer *deadletter.Writer, receipts *receipt.Writer) byhand.Config {
	k := box.settings.Kafka
	c := byhand.Config{
		Options: box.options, Group: k.Group, Earliest: k.Start.Earliest, Letters: writer,
		Letter: deadletter.Letter{
			Reason: deadletter.ByHand, Detail: u.because, Certainty: string(stellar.CertaintyUnknown),
			Bridge: buildVersion(), Instance: operator(),
		},
	}
	if receipts != nil {
		c.Written = func(ctx context.Context, r *kgo.Record) error { return writeReceipt(ctx, receipts, r) }
	}
	return c
}

// receipts writes what audit has to find when the dead-letter topic has no longer kept the letter; nil: RECEIPTS_TOPIC is not set.
func (u *putter) receipts(box *letterBox) (*receipt.Writer, error) {
	s := box.settings
	if s.Receipts.Topic == "" {
		return nil, nil
	}
	return receipt.NewWriter(receipt.Config{
		Options: box.options, Topic: s.Receipts.Topic, Retention: s.Receipts.Retention, Sources: s.Kafka.named, Hold: writeWait,
		Group: s.Kafka.Group, Run: newRunID(), Instance: operator(), Bridge: buildVersion(), Redact: box.red.Redact, Logger: box.log,
		Trouble: func(why string) {
			if why != "" {
				fmt.Fprintf(u.stderr, "no receipt is written: %s\n", escape(why))
			}
		},
	})
}

func writeReceipt(ctx context.Context, w *receipt.Writer, r *kgo.Record) error {
	err := w.Take(ctx, receipt.Receipt{
		Source: deadletter.Source{Topic: r.Topic, Partition: r.Partition, Offset: r.Offset}, Time: r.Timestamp, Ended: time.Now(), Of: 1,
		Parts: []receipt.Part{{Part: bridge.WholeRecord, Reason: string(deadletter.ByHand)}},
	})
	return cmp.Or(err, w.Flush(ctx))
}

// reads reports whether the group reads the topic.
func (s kafkaSettings) reads(topic string) bool {
	if pattern := s.topicPattern(); pattern != "" {
		re, err := regexp.Compile(pattern)
		return err == nil && re.MatchString(topic)
	}
	return slices.Contains(s.Topics, topic)
}

type putReport struct {
	Record    string `json:"record"`
	Letters   string `json:"letter_topic"`
	Committed int64  `json:"committed"` // -1: the group had no commit
	Base      int64  `json:"base"`
	DryRun    bool   `json:"dry_run"`
}

func (u *putter) say(box *letterBox, put *byhand.Put) error {
	report := putReport{put.Source.String(), box.settings.DLQ.Topic, put.Committed, put.Base, u.dryRun}
	if u.json {
		return writeJSONLine(u.stdout, report, u.stdoutIsTerminal)
	}
	verb, group := "is a dead letter in", "settled for"
	if u.dryRun {
		verb, group = "would become a dead letter in", "then settled for (--dry-run: nothing was done)"
	}
	how := "above the first open record, offset " + fmt.Sprint(put.Base)
	if put.Base > put.Source.Offset {
		how = fmt.Sprintf("committed offset %d", put.Base)
	}
	_, err := fmt.Fprintf(u.stdout, "%s (%s) %s %s, and %s group %s: %s\n", escape(report.Record), count(put.Bytes, "byte"), verb, report.Letters,
		group, escape(box.settings.Kafka.Group), how)
	return err
}
