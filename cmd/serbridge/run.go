package main

import (
	"context"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"serbridge/bridge"
	"serbridge/bridge/secret"
)

const runHelp = `Runs the bridge as one member of the consumer group, configured by environment variables
(serbridge help settings), until SIGTERM or SIGINT: then it finishes what has started, commits and
leaves the group. A second signal ends it at once.

Malformed settings end it with exit code 2 and all problems. What can heal does not end it: an
unreachable host, a wrong password, a missing topic, a bad certificate. It stays up, says so on
/readyz and in the log, and tries again.`

func newRunCommand(p *program) *cobra.Command {
	return &cobra.Command{
		Use:   "run",
		Short: "The service: from Kafka into Stellar Cyber",
		Long:  runHelp,
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return p.serve(cmd.Context()) },
	}
}

func (p *program) serve(ctx context.Context) error {
	signal.Ignore(syscall.SIGPIPE) // whoever read our log may go away; the service does not
	red := new(secret.Redactor)
	s, err := loadSettings(p.environ, red)
	if err != nil {
		return err
	}
	if p.environ["GOGC"] == "" && p.environ["GOMEMLIMIT"] == "" {
		bridge.TuneHeap(int(s.Delivery.BufferBytes))
	}
	log := newLogger(p.stderr, s.Process, p.stderrIsTerminal, red)
	v, err := newService(s, log, red)
	if err != nil {
		return usageError{err}
	}
	log.Info("serbridge starts", "version", buildVersion(), "group", s.Kafka.Group, "topics", s.Kafka.Topics,
		"rate_limit", s.Delivery.RateLimit, "max_repeats", s.Delivery.MaxRepeats)
	if names := s.strangers(); names != nil {
		log.Warn("STREAMS_FILE names topics that KAFKA_TOPICS does not: correct one of them", "topics", names)
	}
	if err := v.start(); err != nil {
		return err
	}
	err = v.run(ctx)
	log.Info("serbridge has stopped")
	return err
}
