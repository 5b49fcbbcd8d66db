// Serbridge brings every detection from Kafka topics into Stellar Cyber's aella-ser index: once, quickly, without
// flooding the platform, and with nothing lost.
//
// Here are signals, settings, subcommands and exit codes only. What the bridge promises is in package bridge.
package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	_ "time/tzdata" // TIME_ZONE must work in an image without files

	"github.com/spf13/cobra"
	"golang.org/x/term"
)

// commands are the subcommands, in the order of the help.
var commands = []func(*program) *cobra.Command{
	newRunCommand,
	newCheckCommand,
	newStatusCommand,
	newReplayCommand,
	newDemoCommand,
	newTransformCommand,
	newFormatsCommand,
	newDLQCommand,
	newTraceCommand,
	newAuditCommand,
	newSimulatorCommand,
	newVersionCommand,
	newSettingsTopic,
}

func main() {
	os.Exit(run(os.Args[1:], &program{
		environ: environment(os.Environ()),
		stdin:   os.Stdin, stdout: os.Stdout, stderr: os.Stderr,
		stdoutIsTerminal: term.IsTerminal(int(os.Stdout.Fd())),
		stderrIsTerminal: term.IsTerminal(int(os.Stderr.Fd())),
	}))
}

// program is all that a subcommand may use of the process, so that a test can be one.
type program struct {
	environ                            map[string]string
	stdin                              io.Reader
	stdout, stderr                     io.Writer
	stdoutIsTerminal, stderrIsTerminal bool
}

// Exit codes, the same for every subcommand.
const (
	exitDone   = 0 // or with warnings
	exitFailed = 1
	exitUsage  = 2 // wrong flags or arguments, malformed or contradictory settings
)

// usageError is a fault of the command line or of the settings: exit code 2.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

// run executes one command line. The first SIGINT or SIGTERM ends the command's context; the second one ends the
// process, for an operator who does not want to wait for a drain.
func run(args []string, p *program) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop)
	out := &output{Writer: p.stdout}
	p.stdout = out
	err := cmp.Or(execute(ctx, args, p), out.failure())
	if err != nil {
		fmt.Fprintln(p.stderr, "serbridge: "+escapeLines(err.Error()))
	}
	return exitCode(err)
}

// output is standard output that remembers the first write that failed: what was not written was not done, also where
// nobody looks, as in cobra's help.
type output struct {
	io.Writer
	mu  sync.Mutex
	err error
}

func (o *output) Write(b []byte) (int, error) {
	n, err := o.Writer.Write(b)
	if err != nil {
		o.mu.Lock()
		defer o.mu.Unlock()
		o.err = cmp.Or(o.err, err)
	}
	return n, err
}

func (o *output) failure() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.err != nil {
		return fmt.Errorf("write standard output: %w", o.err)
	}
	return nil
}

func exitCode(err error) int {
	switch usage := (usageError{}); {
	case err == nil:
		return exitDone
	case errors.As(err, &usage):
		return exitUsage
	}
	return exitFailed
}

// execute runs a subcommand. What cobra refuses before the command's own code has begun is a usage error.
func execute(ctx context.Context, args []string, p *program) error {
	begun := false
	root := newRootCommand(p)
	root.PersistentPreRun = func(*cobra.Command, []string) { begun = true }
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	if err != nil && !begun {
		return usageError{err}
	}
	return err
}

func newRootCommand(p *program) *cobra.Command {
	root := &cobra.Command{
		Use:           "serbridge",
		Short:         "Brings every detection from Kafka topics into Stellar Cyber, once",
		SilenceErrors: true, // printed by run, escaped
		SilenceUsage:  true,
		Args:          cobra.NoArgs,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.CompletionOptions.HiddenDefaultCmd = true
	root.SetIn(p.stdin)
	root.SetOut(p.stdout)
	root.SetErr(p.stderr)
	for _, newCommand := range commands {
		root.AddCommand(newCommand(p))
	}
	return root
}

// newSettingsTopic is `serbridge help settings`.
func newSettingsTopic(*program) *cobra.Command {
	return &cobra.Command{
		Use:   "settings",
		Short: "All environment variables, with defaults and ranges",
		Long:  "Settings are environment variables.\n\n" + settingsTable("text"),
	}
}

// environment is what os.Environ lists, by name.
func environment(list []string) map[string]string {
	environ := make(map[string]string, len(list))
	for _, entry := range list {
		name, value, _ := strings.Cut(entry, "=")
		environ[name] = value
	}
	return environ
}
