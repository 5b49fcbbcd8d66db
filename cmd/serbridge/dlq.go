package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"os/user"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"serbridge/bridge/deadletter"
	"serbridge/bridge/kafka"
	"serbridge/bridge/secret"
)

const dlqHelp = `Dead letters: what was rejected or given up, with the reason, and what became of it.

The commands take the settings of the sections Kafka and Dead letters (serbridge help settings), as run
does, and nothing of the platform, but for redrive, which takes all of them. A dead letter is named by its place in the dead-letter topic,
PARTITION:OFFSET, as ls prints it. Redriving, parking and discarding leave the letter where it is: what became of it
stands in the topic <DLQ_TOPIC>.handled, and handled letters are left out of every selection that does not
name them or ask for them with --all or --status.`

func newDLQCommand(p *program) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "dlq",
		Short: "Dead letters: list, show, export, import, redrive, park, discard, put",
		Long:  dlqHelp,
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	for _, newCommand := range []func(*program) *cobra.Command{
		newDLQListCommand, newDLQShowCommand, newDLQExportCommand, newDLQImportCommand, newDLQRedriveCommand, newDLQParkCommand, newDLQDiscardCommand,
		newDLQPutCommand,
	} {
		cmd.AddCommand(newCommand(p))
	}
	return cmd
}

// letterBox is how a command reaches the dead letters.
type letterBox struct {
	*program
	settings lettersSettings
	options  []kgo.Opt
	red      *secret.Redactor
	log      *slog.Logger
}

// openLetterBox reads the settings; it connects to nothing.
func openLetterBox(p *program) (*letterBox, error) {
	b := &letterBox{program: p, red: new(secret.Redactor)}
	var err error
	if b.settings, err = loadLettersSettings(p.environ, b.red); err != nil {
		return nil, err
	}
	// What fails, the command says at its end, once; a client's warnings on the way would be in the way.
	b.log = slog.New(b.red.Handler(slog.NewTextHandler(p.stderr, &slog.HandlerOptions{Level: slog.LevelError})))
	if b.options, err = b.settings.Kafka.options(b.log, b.red); err != nil {
		return nil, usageError{err}
	}
	return b, nil
}

// reader opens the dead-letter topic as it is now.
func (b *letterBox) reader(ctx context.Context) (*deadletter.Reader, error) {
	r, err := deadletter.OpenReader(ctx, b.options, b.settings.DLQ.Topic)
	return r, b.readFault(err)
}

// readFault also says why there may be no topic.
func (b *letterBox) readFault(err error) error {
	if errors.Is(err, deadletter.ErrNoTopic) {
		return fmt.Errorf("read dead letters: %w: nothing was dead-lettered yet, or DLQ_TOPIC and KAFKA_GROUP are not those of the bridge, or our Kafka user may not see it (Describe)",
			err)
	}
	return b.fault("read dead letters", err)
}

// writer writes dead letters as the bridge does.
func (b *letterBox) writer() (*deadletter.Writer, error) {
	return deadletter.NewWriter(deadletter.Config{
		Options: b.options, Topic: b.settings.DLQ.Topic, Create: b.settings.DLQ.Create, Sources: b.settings.Kafka.named,
		Redactor: b.red, Logger: b.log,
	})
}

// marks writes what became of dead letters.
func (b *letterBox) marks() (*deadletter.MarkWriter, error) {
	return deadletter.NewMarkWriter(deadletter.MarkConfig{Options: b.options, Topic: b.settings.DLQ.Topic, Create: b.settings.DLQ.Create})
}

// faultError says what to do, without a credential.
type faultError struct {
	error
	text string
}

func (e faultError) Error() string { return e.text }
func (e faultError) Unwrap() error { return e.error }

// fault is err with advice; nil for nil.
func (b *letterBox) fault(doing string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, context.Canceled):
		return fmt.Errorf("%s: interrupted: %w", doing, err)
	case strings.Contains(err.Error(), "grant "): // it says itself what to do
		return faultError{err, b.red.Redact(doing + ": " + err.Error())}
	case errors.Is(err, kerr.TopicAuthorizationFailed):
		return faultError{err, b.red.Redact(fmt.Sprintf("%s: our Kafka user lacks a right: grant Describe and Read on %s and %s.handled, for put also on the record's topic (%v)",
			doing, b.settings.DLQ.Topic, b.settings.DLQ.Topic, err))}
	}
	return faultError{err, b.red.Redact(doing + ": " + kafka.Explain(err))}
}

const (
	writeWait = 30 * time.Second // how long a write may take before the command gives up
	putWait   = 5 * time.Minute  // and all of a put, which reads what lies between the base and the record
)

// operator names who runs this command, for the marks.
func operator() string {
	name := "unknown"
	if u, err := user.Current(); err == nil {
		name = u.Username
	}
	return name + "@" + instance()
}

// newRunID names one run of a command in what it writes.
func newRunID() string {
	var b [4]byte
	_, _ = rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}

// count is a number and its noun.
func count[N int | int64](n N, noun string) string {
	if n != 1 {
		noun += "s"
	}
	return strconv.FormatInt(int64(n), 10) + " " + noun
}
