package main

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"serbridge/bridge/stellar/stellartest"
)

const simulatorHelp = `Runs the simulator of the Stellar Cyber API alone, until interrupted: access_token, insert_ser and
reading back, with a ledger of every request and every stored document.

Ask it, and make it misbehave, under /simulator/:
  curl ADDRESS/simulator/ledger                       what happened so far, in numbers
  curl ADDRESS/simulator/documents                    the stored documents, one a line
  curl -X POST ADDRESS/simulator/reset                forget all that
  curl -X POST -d '{"rates":{"unavailable":0.2}}' ADDRESS/simulator/faults
Names of faults: serbridge simulator --list-faults`

// simulation is what `serbridge simulator` can be told.
type simulation struct {
	*program
	listen, caFile, user, apiKey string
	preset                       string
	tls, faults, listFaults      bool
	tokenLifetime                time.Duration
	seed                         uint64
}

func newSimulatorCommand(p *program) *cobra.Command {
	s := &simulation{program: p}
	cmd := &cobra.Command{
		Use:   "simulator",
		Short: "The API simulator alone",
		Long:  simulatorHelp,
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return s.run(cmd.Context()) },
	}
	f := cmd.Flags()
	f.StringVar(&s.listen, "listen", "127.0.0.1:8088", "address to listen on; port 0 takes a free one")
	f.BoolVar(&s.tls, "tls", false, "serve TLS with a certificate of its own")
	f.StringVar(&s.caFile, "ca-file", "", "with --tls: write the certificate authority to this file, for STELLAR_CA_FILE")
	f.StringVar(&s.user, "user", stellartest.DefaultUser, "user to accept")
	f.StringVar(&s.apiKey, "api-key", stellartest.DefaultAPIKey, "API key to accept; it is no secret here")
	f.DurationVar(&s.tokenLifetime, "token-lifetime", stellartest.DefaultTokenLifetime, "how long a token is valid")
	f.BoolVar(&s.faults, "faults", false, "misbehave as in demo --faults")
	f.BoolVar(&s.listFaults, "list-faults", false, "list the names of faults and exit")
	f.StringVar(&s.preset, "preset", "", "answer as the platform that check --learn --preset wrote this file about")
	f.Uint64Var(&s.seed, "seed", 0, "seed of the faults; 0: another one each time")
	return cmd
}

func (s *simulation) run(ctx context.Context) error {
	if s.listFaults {
		for _, name := range stellartest.FaultNames() {
			fmt.Fprintln(s.stdout, name)
		}
		return nil
	}
	if s.caFile != "" && !s.tls {
		return usageError{fmt.Errorf("--ca-file wants --tls: without it there is no certificate")}
	}
	if s.tokenLifetime < time.Second {
		return usageError{fmt.Errorf("--token-lifetime wants a duration of at least 1s")}
	}
	cfg := stellartest.Config{User: s.user, APIKey: s.apiKey, TokenLifetime: s.tokenLifetime, Seed: seedOr(s.seed)}
	if s.preset != "" {
		text, err := os.ReadFile(s.preset)
		if err != nil {
			return fmt.Errorf("read preset: %w", err)
		}
		if cfg.Variant, err = stellartest.ParseVariant(text); err != nil {
			return usageError{fmt.Errorf("%s: %w", s.preset, err)}
		}
	}
	if s.faults {
		cfg.Faults = stellartest.DemoFaults(cfg.Seed)
	}
	server := stellartest.New(cfg)
	defer server.Close()
	running, err := s.start(server)
	if err != nil {
		return fmt.Errorf("start simulator: %w", err)
	}
	fmt.Fprintf(s.stdout, "simulator at %s, user %s, API key %s, seed %d\n", running.URL(), s.user, s.apiKey, cfg.Seed)
	select {
	case <-ctx.Done():
		return nil
	case <-running.Done():
		return fmt.Errorf("serve simulator: %w", running.Close())
	}
}

func (s *simulation) start(server *stellartest.Server) (*stellartest.Running, error) {
	if !s.tls {
		return server.Start(s.listen)
	}
	running, err := server.StartTLS(s.listen)
	if err != nil || s.caFile == "" {
		return running, err
	}
	return running, running.WriteCA(s.caFile)
}

// seedOr returns a random seed for 0.
func seedOr(seed uint64) uint64 {
	for seed == 0 {
		var b [4]byte
		_, _ = rand.Read(b[:]) // never fails
		seed = uint64(binary.BigEndian.Uint32(b[:]))
	}
	return seed
}
