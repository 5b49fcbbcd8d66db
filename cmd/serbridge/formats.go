package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"serbridge/transform"
	"serbridge/transform/format"
)

const formatsHelp = `The detection formats that are recognised, each a mapping file: what it is known by, and CEL
expressions for what each field comes from. Files of your own go into a directory that MAPPING_DIR
names: they add a format, stand in for a built-in one of the same name, or change one with a line
such as "extends: falco". "go doc serbridge/transform/format" describes the file.`

func newFormatsCommand(p *program) *cobra.Command {
	cmd := &cobra.Command{Use: "formats", Short: "The formats that are recognised, and mappings of your own", Long: formatsHelp}
	from := ""
	draft := &cobra.Command{Use: "new NAME --from FILE", Short: "A first mapping out of a sample record, to work on", Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error { return p.draftMapping(args[0], from) }}
	draft.Flags().StringVar(&from, "from", "-", "file with one record; - for standard input")
	cmd.AddCommand(
		&cobra.Command{Use: "ls", Short: "What is recognised, in the order in which it is tried", Args: cobra.NoArgs,
			RunE: func(*cobra.Command, []string) error { return p.listFormats() }},
		&cobra.Command{Use: "show NAME", Short: "A mapping file, as a start for your own", Args: cobra.ExactArgs(1),
			RunE: func(_ *cobra.Command, args []string) error { return p.showMapping(args[0]) }},
		&cobra.Command{Use: "test [DIR]", Short: "Runs the cases in mapping files: the built-in ones, or those of a directory", Args: cobra.MaximumNArgs(1),
			RunE: func(_ *cobra.Command, args []string) error { return p.testMappings(args) }},
		draft,
	)
	return cmd
}

func (p *program) listFormats() error {
	if _, err := loadTransformSettings(p.environ); err != nil {
		return err
	}
	w := tabwriter.NewWriter(p.stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "FORMAT\tMAPPING\tTITLE\t")
	fmt.Fprintln(w, "aella_ser\t(built in)\tthe fields of Stellar Cyber's own table\t")
	for _, m := range format.Mappings() {
		off := ""
		if m.Off {
			off = " (off unless FORMATS names it)"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t\n", escape(m.Format), escape(m.Hash), escape(m.Title)+off)
	}
	return w.Flush()
}

func (p *program) showMapping(name string) error {
	if _, err := loadTransformSettings(p.environ); err != nil {
		return err
	}
	var names []string
	for _, m := range format.Mappings() {
		if m.Name == name {
			_, err := io.WriteString(p.stdout, escapeLines(m.Source))
			return err
		}
		names = append(names, m.Name)
	}
	return usageError{fmt.Errorf("formats show: no mapping %q; there are %s", name, strings.Join(names, ", "))}
}

// errCases ends a run of cases of which some differ.
var errCases = errors.New("formats test: not every case became what it wants")

func (p *program) testMappings(dirs []string) error {
	run := func() (int, []string, error) { return format.RunCases(nil) }
	if len(dirs) == 1 {
		run = func() (int, []string, error) { return format.RunCases(os.DirFS(dirs[0])) }
	}
	cases, differences, err := run()
	if err != nil {
		return err
	}
	for _, d := range differences {
		fmt.Fprintln(p.stdout, escape(d))
	}
	fmt.Fprintf(p.stdout, "%d cases, %d differences\n", cases, len(differences))
	if len(differences) > 0 {
		return errCases
	}
	return nil
}

func (p *program) draftMapping(name, from string) error {
	if strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789_") != "" || name == "" {
		return usageError{fmt.Errorf("formats new: %q: want lower-case letters, digits and _", name)}
	}
	in := p.stdin
	if from != "-" {
		f, err := os.Open(filepath.Clean(from))
		if err != nil {
			return fmt.Errorf("read sample record: %w", err)
		}
		defer f.Close()
		in = f
	}
	value, err := io.ReadAll(io.LimitReader(in, maxRecordBytes))
	if err != nil {
		return fmt.Errorf("read sample record: %w", err)
	}
	draft, err := format.Draft(name, transform.Input{Value: value, Now: time.Now()})
	if err != nil {
		return err
	}
	_, err = io.WriteString(p.stdout, escapeLines(draft))
	return err
}

// printExplanation says on standard error how a record was read.
func (t *transformer) printExplanation(file string, line int64, value []byte) error {
	if err := t.flush(); err != nil { // so that both are in order on a terminal
		return err
	}
	in := transform.Input{Value: value, Topic: file, Offset: line, Now: time.Now(), Settings: t.settings}
	for i, e := range format.Explain(in) {
		fmt.Fprintf(t.stderr, "%s:%d: part %d\n", escape(file), line, i)
		for _, envelope := range e.Envelopes {
			fmt.Fprintf(t.stderr, "  envelope  %s\n", escape(envelope))
		}
		if e.Outcome != "" {
			fmt.Fprintf(t.stderr, "  %s\n", escape(e.Outcome))
			continue
		}
		fmt.Fprintf(t.stderr, "  mapping   %s, since %s\n", escape(e.Mapping), escape(e.Sign))
		for _, v := range e.Values {
			fmt.Fprintf(t.stderr, "  %-9s %s = %s  <- %s\n", v.Section, v.Name, escape(v.Value), escape(strings.Join(strings.Fields(v.Expression), " ")))
		}
	}
	return nil
}
