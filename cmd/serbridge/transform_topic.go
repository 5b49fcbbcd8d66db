package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kgo"

	"serbridge/bridge/deadletter"
	"serbridge/bridge/kafka"
	"serbridge/bridge/secret"
	"serbridge/transform"
	"serbridge/transform/format"
)

// check finds what is wrong with the command line alone.
func (t *transformer) check(cmd *cobra.Command, files []string) error {
	changed := cmd.Flags().Changed
	switch {
	case changed("topic") && (strings.HasPrefix(t.topic, "^") || topicFault(t.topic) != ""):
		return fmt.Errorf("--topic %q is no name of a topic", t.topic)
	case t.topic == "" && changed("last"):
		return errors.New("--last is of --topic: how many of its newest records")
	case t.topic != "" && (len(files) > 0 || t.wholeFile || t.asTopic != ""):
		return errors.New("--topic reads Kafka: want it without files, --whole-file and --as-topic")
	case t.explain && (t.topic != "" || t.against != ""):
		return errors.New("--explain is for records from files, without --topic and --against")
	case t.last < 1:
		return errors.New("--last wants a number of records above 0")
	}
	return nil
}

// newReport reads the other mappings, if there are any to compare with.
func (t *transformer) newReport(s settings) (*mappingReport, error) {
	if t.against == "" {
		return newMappingReport(s, nil), nil
	}
	other, err := format.Against(os.DirFS(t.against))
	if err != nil {
		return nil, usageError{fmt.Errorf("--against %s: %w", t.against, err)}
	}
	return newMappingReport(s, other), nil
}

// sayReport prints the report, as JSON or for a person.
func (t *transformer) sayReport() error {
	if !t.json {
		t.report.print(t.stdout)
		return nil
	}
	text, err := json.Marshal(t.report)
	if err != nil {
		return fmt.Errorf("encode report: %w", err)
	}
	if t.stdoutIsTerminal {
		text = []byte(escape(string(text)))
	}
	_, err = fmt.Fprintf(t.stdout, "%s\n", text)
	return err
}

// live reports on the newest records of a topic. It joins no group and commits nothing.
func (t *transformer) live(ctx context.Context) error {
	environ := maps.Clone(t.environ)
	if environ == nil {
		environ = make(map[string]string)
	}
	environ["KAFKA_TOPICS"] = t.topic
	red := new(secret.Redactor)
	s, err := loadReadingSettings(environ, red)
	if err != nil {
		return err
	}
	if t.report, err = t.newReport(s); err != nil {
		return err
	}
	log := slog.New(red.Handler(slog.NewTextHandler(t.stderr, &slog.HandlerOptions{Level: slog.LevelError})))
	options, err := s.Kafka.options(log, red)
	if err != nil {
		return usageError{err}
	}
	t.settings = s.byTopic()(t.topic)
	if err := t.readNewest(ctx, options); err != nil {
		return t.liveFault(err, red)
	}
	return t.sayReport()
}

func (t *transformer) liveFault(err error, red *secret.Redactor) error {
	doing := "read topic " + t.topic + ": "
	switch {
	case errors.Is(err, context.Canceled):
		return fmt.Errorf("%sinterrupted: %w", doing, err)
	case errors.Is(err, deadletter.ErrNoTopic):
		return fmt.Errorf("%s%w, or our Kafka user may not see it (Describe)", doing, err)
	}
	return faultError{err, red.Redact(doing + kafka.Explain(err))}
}

func (t *transformer) readNewest(ctx context.Context, options []kgo.Opt) error {
	log, err := deadletter.OpenLog(ctx, options, t.topic)
	if err != nil {
		return err
	}
	defer log.Close()
	spans := lastOffsets(log.Spans, t.last)
	progress := t.newReading("reading "+t.topic, min(t.last, log.Offsets()))
	defer progress.end()
	for _, s := range spans {
		err := log.Read(ctx, s, func(k *kgo.Record) error {
			progress.add(1)
			return t.liveRecord(ctx, k)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func (t *transformer) liveRecord(ctx context.Context, k *kgo.Record) error {
	if k.Attrs.IsControl() { // the marker of a transaction, and no record
		return nil
	}
	t.report.span(k.Timestamp)
	in := transform.Input{Value: k.Value, Topic: k.Topic, Partition: k.Partition, Offset: k.Offset, Timestamp: k.Timestamp,
		Now: time.Now(), Settings: t.settings}
	return t.report.add(ctx, in, fmt.Sprintf("%s:%d:%d", k.Topic, k.Partition, k.Offset))
}

// lastOffsets are the last n offsets of a topic, spread evenly over its partitions; what short ones lack, the others give.
func lastOffsets(spans []deadletter.Span, n int64) []deadletter.Span {
	shortest := slices.Clone(spans)
	slices.SortStableFunc(shortest, func(a, b deadletter.Span) int { return cmp.Compare(a.End-a.Start, b.End-b.Start) })
	for i := range shortest {
		s, left := &shortest[i], int64(len(shortest)-i)
		share := min(s.End-s.Start, (n+left-1)/left)
		s.Start = s.End - share
		n -= share
	}
	slices.SortFunc(shortest, func(a, b deadletter.Span) int { return cmp.Compare(a.Partition, b.Partition) })
	return shortest
}
