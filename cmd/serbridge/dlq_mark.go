package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"serbridge/bridge/deadletter"
)

const dlqMarkHelp = `Letters are named by their place, or selected; of a selection, those that are open, unless --status says otherwise.
The letter stays where it is. Its mark says who did it, when, and why (--because), and counts once every in-sync replica
has it; a later mark of the same letter replaces it.

With --json: one object with marked, status, run, dry_run and by_reason.`

const (
	becauseMost = 512 // bytes that a mark keeps
	markBatch   = 500 // marks written at a time
	markSay     = 20  // letters that are named one by one
)

// marker is one run of `serbridge dlq park` or `discard`.
type marker struct {
	*program
	fate    deadletter.Fate
	because string
	dryRun  bool
	json    bool
	meant   selection

	run     string
	pending []deadletter.Mark
	writer  *deadletter.MarkWriter
	report  markReport
	names   []string
}

type markReport struct {
	Marked   int64  `json:"marked"`
	Status   string `json:"status"`
	Run      string `json:"run"`
	DryRun   bool   `json:"dry_run"`
	ByReason tally  `json:"by_reason"`
}

func newDLQParkCommand(p *program) *cobra.Command {
	return newMarkCommand(p, deadletter.Parked, "park", "Leave them where they are on purpose, with a reason",
		"Parks dead letters: somebody has seen them, and they stay.\n\n")
}

func newDLQDiscardCommand(p *program) *cobra.Command {
	return newMarkCommand(p, deadletter.Discarded, "discard", "Say that they are of no use, with a reason",
		"Discards dead letters: they are of no use to anybody. Retention removes them in time.\n\n")
}

func newMarkCommand(p *program, fate deadletter.Fate, name, short, long string) *cobra.Command {
	m := &marker{program: p, fate: fate}
	cmd := &cobra.Command{
		Use:   name + " [PARTITION:OFFSET…] --because TEXT",
		Short: short,
		Long:  long + dlqMarkHelp,
		RunE:  func(cmd *cobra.Command, places []string) error { return m.mark(cmd.Context(), name, places) },
	}
	m.meant.add(cmd, 0, "letters to "+name+", at most; 0: all of the selection")
	cmd.Flags().StringVar(&m.because, "because", "", "why; required")
	cmd.Flags().BoolVar(&m.dryRun, "dry-run", false, "say what would be done, and do nothing")
	cmd.Flags().BoolVar(&m.json, "json", false, "one JSON object")
	return cmd
}

// checkBecause holds for every command that wants a reason: a mark is no use to the next operator without one.
func checkBecause(text string) error {
	switch {
	case strings.TrimSpace(text) == "":
		return errors.New("--because is required: say why, for whoever comes after you")
	case len(text) > becauseMost:
		return fmt.Errorf("--because: want at most %d bytes", becauseMost)
	}
	return nil
}

func (m *marker) mark(ctx context.Context, name string, args []string) error {
	if len(args) == 0 && !m.meant.named() {
		return usageError{fmt.Errorf("dlq %s: say which letters: PARTITION:OFFSET as dlq ls prints it, or a selection such as --reason invalid_json", name)}
	}
	if err := checkBecause(m.because); err != nil {
		return usageError{fmt.Errorf("dlq %s: %w", name, err)}
	}
	meant, err := m.meant.filter(args, time.Now())
	if err != nil {
		return err
	}
	box, err := openLetterBox(m.program)
	if err != nil {
		return err
	}
	r, err := box.reader(ctx)
	if err != nil {
		return err
	}
	defer r.Close()
	if m.writer, err = box.marks(); err != nil {
		return err
	}
	defer m.writer.Close()
	m.run = newRunID()
	m.report = markReport{Status: m.fate.String(), Run: m.run, DryRun: m.dryRun, ByReason: tally{}}
	found, err := m.all(ctx, r, meant)
	if err != nil {
		return box.fault(fmt.Sprintf("%s dead letters (%d are done; the same command does the rest)", name, m.report.Marked), err)
	}
	if err := m.say(); err != nil {
		return fmt.Errorf("write to standard output: %w", err)
	}
	return unfound(meant.Places, found, r)
}

func (m *marker) all(ctx context.Context, r *deadletter.Reader, meant deadletter.Filter) (map[deadletter.Place]bool, error) {
	show := m.newReading("reading dead letters", r.Offsets())
	r.OnProgress = show.add
	defer show.end()
	found := make(map[deadletter.Place]bool)
	who, taken := operator(), 0
	err := r.Each(ctx, meant, func(e *deadletter.Entry) (bool, error) {
		if len(meant.Places) > 0 {
			found[e.Place] = true
		}
		mark := e.Mark(m.fate)
		mark.At, mark.By, mark.Because, mark.Run, mark.TopicID = time.Now(), who, m.because, m.run, r.ID
		m.pending = append(m.pending, mark)
		m.note(e)
		taken++
		more := m.meant.max == 0 || taken < m.meant.max
		if len(m.pending) < markBatch {
			return more, nil
		}
		return more, m.flush(ctx)
	})
	if err != nil {
		return found, err
	}
	return found, m.flush(ctx)
}

// note remembers what to say of a letter; counted when it is written.
func (m *marker) note(e *deadletter.Entry) {
	m.report.ByReason.add(e.Reason())
	if len(m.names) <= markSay {
		m.names = append(m.names, e.Place.String()+" "+brief(e.Reason()))
	}
}

func (m *marker) flush(ctx context.Context) error {
	if !m.dryRun && len(m.pending) > 0 {
		ctx, cancel := context.WithTimeout(ctx, writeWait)
		defer cancel()
		if err := m.writer.Write(ctx, m.pending...); err != nil {
			return err
		}
	}
	m.report.Marked += int64(len(m.pending))
	m.pending = m.pending[:0]
	return nil
}

func (m *marker) say() error {
	if m.json {
		return writeJSONLine(m.stdout, m.report, m.stdoutIsTerminal)
	}
	verb := m.report.Status
	if m.dryRun {
		verb = "would be " + verb + " (--dry-run: nothing was done)"
	}
	if len(m.names) <= markSay {
		for _, name := range m.names {
			fmt.Fprintf(m.stdout, "  %s\n", escape(name))
		}
	} else {
		w := tabwriter.NewWriter(m.stdout, 0, 0, 2, ' ', 0)
		m.report.ByReason.print(w, "REASON", false)
		fmt.Fprintln(w)
		if err := w.Flush(); err != nil {
			return err
		}
	}
	_, err := fmt.Fprintf(m.stdout, "%s %s, run %s\n", count(m.report.Marked, "letter"), verb, m.run)
	return err
}
