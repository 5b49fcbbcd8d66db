package main

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"time"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"serbridge/bridge/pause"
	"serbridge/bridge/secret"
	"serbridge/bridge/stellar"
)

const checkHelp = `Looks at everything that run will need, with the settings of run, and says one line for each fact: ok, warning
or failed, and what to do. It joins no group, commits, produces and creates nothing, and inserts nothing.

On Kafka it reads the first record of each partition that has a backlog, to learn how old it is, and asks for the
right to commit by a heartbeat of a member that does not exist. On the platform it fetches the start page and a
token, and searches for a key that no document has. Whether the user may insert is asked with --post-empty: it
POSTs {}, which the API refuses for its missing fields, as the vendor documents.

Exit codes: 0 nothing failed, 1 something failed, 2 malformed settings.

--learn, with --consent, finds out how this platform answers where the vendor's page leaves it open. It INSERTS a
document with the status Closed and the score 0, or two if the platform takes the misspelt status of the second,
named "serbridge check --learn", tries each kind of authentication once, and sends the documented mistakes. It
prints what it learned, the settings to paste, and with --preset FILE writes a preset for serbridge simulator.`

// check is one run of `serbridge check`.
type check struct {
	*program
	json, postEmpty, learn, consent bool
	preset                          string
	replicas                        int
	wait, timeout                   time.Duration
	cgroup                          string                                                            // where the kernel says how much memory we may use
	dial                            func(ctx context.Context, network, addr string) (net.Conn, error) // to the platform; nil: as ever

	settings settings
	red      *secret.Redactor
	log      *slog.Logger
	facts    facts
	kafka    *kgo.Client
	admin    *kadm.Client
	platform *stellar.Client
	found    cluster
}

// cluster is what the facts about Kafka have found, for those that follow from them.
type cluster struct {
	brokers    int
	partitions int // of all topics
	members    int // of the group
	topics     kadm.TopicDetails
}

func newCheckCommand(p *program) *cobra.Command {
	c := &check{program: p, cgroup: "/sys/fs/cgroup"}
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Preflight: settings, Kafka, topics, rights, credentials, and what to do",
		Long:  checkHelp,
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return c.run(cmd.Context()) },
	}
	f := cmd.Flags()
	f.BoolVar(&c.json, "json", false, "one JSON object: result and facts")
	f.BoolVar(&c.postEmpty, "post-empty", false, "ask whether the user may insert, by a POST of {} that the API refuses")
	f.IntVar(&c.replicas, "replicas", 0, "replicas that will run, for the share of the rate; 0: as many as the group has members, or 1")
	f.DurationVar(&c.wait, "wait", 0, "check again until nothing fails, for so long at most")
	f.DurationVar(&c.timeout, "timeout", 10*time.Second, "time for one question")
	f.BoolVar(&c.learn, "learn", false, "find out how this platform answers: inserts documents, wants --consent")
	f.BoolVar(&c.consent, "consent", false, "with --learn: yes, insert into this platform")
	f.StringVar(&c.preset, "preset", "", "with --learn: write a preset for serbridge simulator --preset to this file")
	return cmd
}

func (c *check) run(ctx context.Context) error {
	if err := c.refuse(); err != nil {
		return usageError{err}
	}
	c.red = new(secret.Redactor)
	var err error
	if c.settings, err = loadSettings(c.environ, c.red); err != nil {
		if c.json {
			_ = c.tell(problemFacts(err)) // the error is worth more
		}
		return err
	}
	c.log = slog.New(slog.DiscardHandler) // a fact says it once
	if c.learn {
		return c.learnPlatform(ctx)
	}
	until := time.Now().Add(c.wait)
	for {
		if err := c.once(ctx); err != nil {
			return err
		}
		if c.facts.err() == nil || !c.again(ctx, until) {
			break
		}
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("check: interrupted: %w", err)
	}
	c.facts.redact(c.red.Redact)
	if err := c.tell(c.facts); err != nil {
		return err
	}
	return c.facts.err()
}

// refuse says what contradicts itself on the command line.
func (c *check) refuse() error {
	switch {
	case c.learn && !c.consent:
		return fmt.Errorf("--learn inserts documents into the platform of STELLAR_URL: add --consent if that is meant (serbridge check --help)")
	case !c.learn && (c.consent || c.preset != ""):
		return fmt.Errorf("--consent and --preset belong to --learn")
	case c.replicas < 0 || c.timeout <= 0 || c.wait < 0:
		return fmt.Errorf("--replicas and --wait want at least 0, --timeout more than 0")
	}
	return nil
}

// again waits two to four seconds, unless the time is up.
func (c *check) again(ctx context.Context, until time.Time) bool {
	rest := 2*time.Second + rand.N(2*time.Second)
	return !time.Now().Add(rest).After(until) && pause.For(ctx, rest) == nil
}

// once asks everything, in the order in which things depend on each other. An error is of the configuration.
func (c *check) once(ctx context.Context) error {
	c.facts, c.found = nil, cluster{}
	c.facts.ok("settings", "", "well formed")
	if err := c.open(); err != nil {
		return usageError{err}
	}
	defer c.close()
	c.checkCredentials()
	if c.checkBrokers(ctx) && c.checkLogin(ctx) {
		c.checkTopics(ctx)
		c.checkGroup(ctx)
		c.checkOwnTopics(ctx)
	}
	if c.checkPlatform(ctx) {
		c.checkToken(ctx)
	}
	c.checkRegistry(ctx)
	c.checkRate()
	c.checkMemory()
	return nil
}

// open makes the clients; they connect to nothing yet.
func (c *check) open() error {
	options, err := c.settings.Kafka.options(c.log, c.red)
	if err != nil {
		return err
	}
	// One answer, good or bad, is what a check is after; the bridge itself tries again for ever.
	options = append(options, kgo.RequestRetries(1), kgo.RetryTimeout(c.timeout))
	if c.kafka, err = kgo.NewClient(options...); err != nil {
		return fmt.Errorf("make a Kafka client: %w", err)
	}
	c.admin = kadm.NewClient(c.kafka)
	if c.platform, err = stellar.New(c.platformConfig()); err != nil {
		c.kafka.Close()
		return err
	}
	return nil
}

func (c *check) close() {
	c.kafka.Close()
	c.platform.Close()
}

// platformConfig is that of the bridge, with the time of a check.
func (c *check) platformConfig() stellar.Config {
	cfg := c.settings.stellarConfig(c.log, c.red)
	cfg.Timeout, cfg.DialContext = min(cfg.Timeout, c.timeout), c.dial
	return cfg
}

// tell writes the facts in the form that was asked for.
func (c *check) tell(f facts) error {
	if !c.json {
		return f.print(c.stdout)
	}
	return writeJSONLine(c.stdout, struct {
		Result state `json:"result"`
		Facts  facts `json:"facts"`
	}{f.result(), f}, c.stdoutIsTerminal)
}

// ask bounds one question.
func (c *check) ask(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, c.timeout)
}
