package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kgo"

	"serbridge/bridge/deadletter"
)

const dlqExportHelp = `Writes dead letters as lines of JSON, one a letter, from which dlq import makes the same records again, byte for
byte: key, value, all headers in their order with repeats and nulls, timestamp, and the partition and offset at which
the letter stands.

  {"partition":0,"offset":17,"timestamp":1763975287654,"key":"k","headers":[{"key":"h","value":"v"}],"value":"{}"}

timestamp is in milliseconds since 1970. A key or value that is no UTF-8 stands in base64, under key_base64 or
value_base64; null is none at all. The topic is read partition by partition, so two exports of the same letters are
the same. Handled letters are left out unless --all or --status asks for them.`

// exporter is one run of `serbridge dlq export`.
type exporter struct {
	*program
	meant  selection
	output string
}

func newDLQExportCommand(p *program) *cobra.Command {
	x := &exporter{program: p}
	cmd := &cobra.Command{
		Use:   "export [PARTITION:OFFSET…]",
		Short: "Write them as lines of JSON that keep every byte",
		Long:  dlqExportHelp,
		RunE:  func(cmd *cobra.Command, places []string) error { return x.run(cmd.Context(), places) },
	}
	x.meant.add(cmd, 0, "letters to write, at most; 0: all")
	x.meant.addAll(cmd)
	cmd.Flags().StringVar(&x.output, "output", "-", "file to write, which must not exist yet; - is standard output")
	return cmd
}

func (x *exporter) run(ctx context.Context, args []string) (err error) {
	meant, err := x.meant.filter(args, time.Now())
	if err != nil {
		return err
	}
	box, err := openLetterBox(x.program)
	if err != nil {
		return err
	}
	r, err := box.reader(ctx)
	if err != nil {
		return err
	}
	defer r.Close()
	out, finish, err := x.open()
	if err != nil {
		return err
	}
	found, n, leftOut, err := x.write(ctx, r, meant, out)
	if err := errors.Join(box.fault("export dead letters", err), finish()); err != nil {
		return fmt.Errorf("the export is not complete: %w", err)
	}
	fmt.Fprintf(x.stderr, "%s exported\n", count(n, "letter"))
	if leftOut > 0 {
		fmt.Fprintf(x.stderr, "%s of another status left out (--all exports them too)\n", count(leftOut, "letter"))
	}
	return unfound(meant.Places, found, r)
}

// open is where the lines go. A file that is there may be the only copy of something, and is never written over.
func (x *exporter) open() (io.Writer, func() error, error) {
	if x.output == "-" {
		w := bufio.NewWriterSize(x.stdout, 64<<10)
		return w, w.Flush, nil
	}
	f, err := os.OpenFile(x.output, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, nil, fmt.Errorf("create the export: %w", err)
	}
	w := bufio.NewWriterSize(f, 64<<10)
	return w, func() error { return errors.Join(w.Flush(), f.Sync(), f.Close()) }, nil
}

func (x *exporter) write(ctx context.Context, r *deadletter.Reader, meant deadletter.Filter, out io.Writer) (found map[deadletter.Place]bool, n, leftOut int64, err error) {
	show := x.newReading("reading dead letters", r.Offsets())
	r.OnProgress = show.add
	defer show.end()
	terminal := x.output == "-" && x.stdoutIsTerminal
	found = make(map[deadletter.Place]bool)
	fates := meant
	meant.Fates = nil // to count those that are left out
	err = r.Each(ctx, meant, func(e *deadletter.Entry) (bool, error) {
		if !fates.Matches(e) {
			leftOut++
			return true, nil
		}
		if len(meant.Places) > 0 {
			found[e.Place] = true
		}
		n++
		return x.meant.max == 0 || n < int64(x.meant.max), writeLine(out, e, terminal)
	})
	return found, n, leftOut, err
}

func writeLine(out io.Writer, e *deadletter.Entry, terminal bool) error {
	line, err := deadletter.EncodeLine(e.Record)
	if err != nil {
		return err
	}
	if terminal {
		line = []byte(escape(string(line)))
	}
	_, err = out.Write(append(line, '\n'))
	return err
}

const dlqImportHelp = `Writes letters that dlq export wrote back to the dead-letter topic, as they were: key, value, headers and timestamp,
each into the partition that it had (mod the number that there are now), in the order of the file. Reads standard input
for the argument -. The topic is created if it is missing, unless DLQ_CREATE=false.

Kafka counts retention from a record's own time: letters that are older than the topic's retention.ms are counted in a
warning. Letters that are there already are written a second time, and stand as open. It ends at the first line that cannot be
read or written, and says from which line on to go on.`

// importer is one run of `serbridge dlq import`.
type importer struct {
	*program
	from   int64
	dryRun bool

	box     *letterBox
	writer  *deadletter.Writer
	pending []*kgo.Record
	lines   []int64 // of the pending
	bytes   int
	written int64
	show    *reading

	kept time.Duration // by the topic, once asked for; 0: for ever
	old  int64         // letters that are older than that
}

func newDLQImportCommand(p *program) *cobra.Command {
	i := &importer{program: p}
	cmd := &cobra.Command{
		Use:   "import FILE|-",
		Short: "Write exported ones back",
		Long:  dlqImportHelp,
		Args:  cobra.ExactArgs(1),
		RunE:  func(cmd *cobra.Command, args []string) error { return i.run(cmd.Context(), args[0]) },
	}
	cmd.Flags().Int64Var(&i.from, "from-line", 1, "go on from this line of the file")
	cmd.Flags().BoolVar(&i.dryRun, "dry-run", false, "read the whole file, write nothing")
	return cmd
}

func (i *importer) run(ctx context.Context, file string) (err error) {
	if i.box, err = openLetterBox(i.program); err != nil {
		return err
	}
	in := i.stdin
	if file != "-" {
		f, err := os.Open(file)
		if err != nil {
			return fmt.Errorf("read the export: %w", err)
		}
		defer f.Close()
		in = f
	}
	if i.writer, err = i.box.writer(); err != nil {
		return err
	}
	defer i.writer.Close()
	i.show = i.newReading("importing dead letters", 0)
	err = i.read(ctx, bufio.NewReaderSize(in, 64<<10))
	i.show.end()
	if err != nil {
		return err
	}
	if i.dryRun {
		fmt.Fprintf(i.stderr, "%s can be imported into %s; nothing was written (--dry-run)\n", count(i.written, "letter"), i.box.settings.DLQ.Topic)
		return nil
	}
	fmt.Fprintf(i.stderr, "%s imported into %s\n", count(i.written, "letter"), i.box.settings.DLQ.Topic)
	if i.old > 0 {
		fmt.Fprintf(i.stderr, "warning: %s of a record's time that retention.ms of the topic (%s) has passed: Kafka removes them soon. Raise it, or set it to -1, and import them again\n",
			count(i.old, "letter"), i.kept)
	}
	return nil
}

func (i *importer) read(ctx context.Context, in *bufio.Reader) error {
	for line := int64(1); ; line++ {
		text, tooLong, err := readLine(in, deadletter.MaxLine)
		last := errors.Is(err, io.EOF)
		if err != nil && !last {
			return errors.Join(i.flush(ctx), fmt.Errorf("read the export, line %d: %w", line, err))
		}
		if err := i.line(ctx, line, text, tooLong); err != nil {
			return err
		}
		if last {
			return i.flush(ctx)
		}
	}
}

// What is written at a time: bounded in number and bytes.
const (
	importLetters = 500
	importBytes   = 4 << 20
)

func (i *importer) line(ctx context.Context, line int64, text []byte, tooLong bool) error {
	if line < i.from || !tooLong && len(bytes.TrimSpace(text)) == 0 {
		return nil
	}
	if tooLong {
		return errors.Join(i.flush(ctx), fmt.Errorf("read the export: line %d is longer than any that dlq export writes; go on with --from-line %d once it is mended", line, line))
	}
	r, err := deadletter.DecodeLine(text)
	if err != nil {
		return errors.Join(i.flush(ctx), fmt.Errorf("read the export, line %d (what stands before it is imported; mend it and go on with --from-line %d): %w", line, line, err))
	}
	i.pending, i.lines, i.bytes = append(i.pending, r), append(i.lines, line), i.bytes+len(text)
	if len(i.pending) >= importLetters || i.bytes >= importBytes {
		return i.flush(ctx)
	}
	return nil
}

// countOld counts those that will not stay: what was imported must not go again in silence.
func (i *importer) countOld(ctx context.Context, written int) {
	if i.written == int64(written) { // the first ones: by now the topic is there
		i.kept = i.writer.Retention(ctx)
	}
	for _, r := range i.pending[:written] {
		if i.kept > 0 && time.Since(r.Timestamp) > i.kept {
			i.old++
		}
	}
}

func (i *importer) flush(ctx context.Context) error {
	n := len(i.pending)
	if n == 0 {
		return nil
	}
	if !i.dryRun {
		writing, cancel := context.WithTimeout(ctx, writeWait)
		defer cancel()
		done, err := i.writer.Restore(writing, i.pending...)
		i.written += int64(done)
		i.countOld(writing, done)
		if err != nil {
			return i.box.fault(fmt.Sprintf("import line %d (%s imported before it; go on with --from-line %d)", i.lines[done], count(i.written, "letter"), i.lines[done]), err)
		}
	} else {
		i.written += int64(n)
	}
	i.show.add(int64(n))
	i.pending, i.lines, i.bytes = nil, nil, 0
	return nil
}
