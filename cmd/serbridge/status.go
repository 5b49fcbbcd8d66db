package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"serbridge/bridge/kafka"
	"serbridge/bridge/pause"
	"serbridge/bridge/secret"
)

const statusHelp = `Says how the group is, from Kafka alone, so that it works while its members crash. The first line is the verdict. Then
come the partitions: who owns each, its first unsettled offset (base), what is settled above it, what is left to do, how
many offsets a second were settled between two readings of the commits, when the oldest unsettled record was produced,
and how long until retention may remove it. An offset without a record (a marker, what compaction removed) counts until
the group passes it.

It takes the settings of run, and needs only those of Kafka, with the rights Read and Describe on the topics and Describe
on the group; DescribeConfigs for retention, and Read on the dead-letter and handled topics for dead letters. Without one
of the latter a remark says what is not known. It joins no group and commits nothing.

With --pods it also asks the members at their admin addresses why they do not deliver, since when, and whether far more of a
topic is skipped or dead-lettered than before. One that does not answer is a warning.

With --json: one object with at, verdict, state (ok, warning, failed), findings, group, seconds, settled_per_second,
backlog, max_repeats, rate_limit, partitions, pods, dead_letters, oldest_dead_letter_at, dead_letter_retention_in_seconds and
remarks; with --watch one a line. On a terminal --watch draws it anew, elsewhere it prints the verdict, a line for each look.
Dead letters it looks at once a minute, since for them it reads all that was handled.

Exit codes: 0 well, or with warnings; 1 something is wrong, or Kafka does not say how the group is; 2 usage. With --watch,
that of the last look.`

// status is one run of `serbridge status`.
type status struct {
	*program
	json, watch   bool
	over, timeout time.Duration
	pods          []string

	settings settings
	red      *secret.Redactor
	options  []kgo.Opt
	admin    *kadm.Client
	letters  openLetters // as they were looked at last
}

func newStatusCommand(p *program) *cobra.Command {
	s := &status{program: p}
	cmd := &cobra.Command{
		Use:   "status",
		Short: "How the group is, from Kafka alone: a verdict and a table",
		Long:  statusHelp,
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return s.run(cmd.Context()) },
	}
	f := cmd.Flags()
	f.BoolVar(&s.json, "json", false, "one JSON object")
	f.BoolVar(&s.watch, "watch", false, "look again and again, until interrupted")
	f.DurationVar(&s.over, "over", 5*time.Second, "time between the two readings that the rate is made of; with --watch, between looks")
	f.StringSliceVar(&s.pods, "pods", nil, "admin addresses of the members, host:port; a name stands for all the addresses that it has")
	f.DurationVar(&s.timeout, "timeout", 10*time.Second, "time for one reading")
	return cmd
}

func (s *status) run(ctx context.Context) error {
	if s.over < 100*time.Millisecond || s.timeout <= 0 {
		return usageError{errors.New("--over wants at least 100ms, --timeout more than 0")}
	}
	s.red = new(secret.Redactor)
	var err error
	if s.settings, err = loadStatusSettings(s.environ, s.red); err != nil {
		return err
	}
	if s.options, err = s.settings.Kafka.options(slog.New(slog.DiscardHandler), s.red); err != nil { // a remark says it once
		return usageError{err}
	}
	client, err := kgo.NewClient(append(s.options[:len(s.options):len(s.options)], kgo.RequestRetries(1), kgo.RetryTimeout(s.timeout), kgo.DisableClientMetrics())...)
	if err != nil {
		return usageError{fmt.Errorf("make a Kafka client: %w", err)}
	}
	defer client.Close()
	s.admin = kadm.NewClient(client)
	return s.looks(ctx)
}

// errNotWell ends a status that has found something wrong.
var errNotWell = errors.New("status: something is wrong, as the first line says")

// looks tells of the group once, or again and again until ctx ends.
func (s *status) looks(ctx context.Context) error {
	before, err := s.readGroup(ctx)
	for {
		paused := pause.For(ctx, s.over)
		if paused != nil && !s.watch {
			return fmt.Errorf("status: interrupted: %w", paused)
		}
		var told *standing
		var now *groupReading
		if err == nil {
			now, err = s.readGroup(ctx)
		}
		if err != nil {
			told = cannotTell(time.Now(), s.red.Redact(kafka.Explain(err)))
		} else {
			told = s.standing(ctx, before, now)
		}
		if paused == nil && ctx.Err() == nil {
			if err := s.tell(told); err != nil {
				return err
			}
		}
		switch {
		case !s.watch && told.State == stateFailed:
			return errNotWell
		case !s.watch, ctx.Err() != nil:
			return nil
		}
		if before = now; before == nil {
			before, err = s.readGroup(ctx)
		}
	}
}

// standing is what two readings and what they lead to say.
func (s *status) standing(ctx context.Context, before, now *groupReading) *standing {
	oldest := s.oldest(ctx, now)
	topics := make([]string, 0, len(now.partitions))
	for p := range now.partitions {
		topics = append(topics, p.Topic)
	}
	asking, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	kept, err := kafka.ReadRetention(asking, s.admin, sortedOnce(topics)...)
	if err != nil {
		now.remark("retention is not known: %s", kafka.Explain(err))
	}
	for _, topic := range sortedOnce(topics) {
		if kept[topic].Bytes > 0 {
			now.remark("%s has retention.bytes, which is not counted: its records may go sooner than is said here", topic)
		}
	}
	st := compose(before, now, oldest, kept)
	st.Group.Name, st.MaxRepeats, st.RateLimit = s.settings.Kafka.Group, s.settings.Delivery.MaxRepeats, s.settings.Delivery.RateLimit
	s.lookAtLetters(ctx, now.at)
	s.letters.tell(st, now)
	st.Pods = s.readPods(ctx, now)
	st.Remarks = now.remarks
	st.judge()
	st.redact(s.red.Redact)
	return st
}
