package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"serbridge/transform"
	"serbridge/transform/format"
)

// maxRecordBytes bounds one line, or one file with --whole-file: far above what a broker takes, far below memory.
const maxRecordBytes = 64 << 20

const transformHelp = `Turns records into the documents that would be sent: one record a line, or one a file, without any
network (but see --topic). Reads standard input without arguments, or for the argument -. Blank lines
are no records.

With --topic, the records are the newest of a Kafka topic (--last of them, spread evenly over its
partitions), read without a group: nothing is committed or sent. A report takes the place of the
documents: what is skipped and rejected, why, with the first example; severities that were defaulted,
by the native one; and how many of the documents have each field. The settings of Kafka apply then too.

With --against, there is such a report for files too, and what would change, field by field, if the
mapping files in a directory stood in the place of those in MAPPING_DIR. A report ends with exit
code 0, whatever was rejected.

With --as-topic, what STREAMS_FILE says of that topic holds for all of them, as it does in run.

Documents go to standard output, one a line; what is rejected goes to standard error, with the
reason. Exit code 1 if a record, or a part of one, was rejected or a file could not be read. The
settings of the sections Transform and Schema registry apply (serbridge help settings). Compressed, Avro
and framed records are no lines: they want --whole-file, or --topic.

With --json there is one object for each record on standard output instead: file, line, format, and
documents (a list), reject (reason, field, detail) or skipped (why). A record with several
detections may have part_rejects and part_skips beside its documents.`

func newTransformCommand(p *program) *cobra.Command {
	t := &transformer{program: p}
	cmd := &cobra.Command{
		Use:   "transform [FILE…]",
		Short: "Files or standard input to documents; or a report on live records",
		Long:  transformHelp,
		RunE: func(cmd *cobra.Command, files []string) error {
			if err := t.check(cmd, files); err != nil {
				return usageError{err}
			}
			if t.topic != "" {
				return t.live(cmd.Context())
			}
			// A filter has nothing to finish, and a blocked read does not see the end of a context: a signal
			// ends the process as it would without us.
			signal.Reset(os.Interrupt, syscall.SIGTERM)
			return t.run(files)
		},
	}
	cmd.Flags().BoolVar(&t.wholeFile, "whole-file", false, "each file is one record")
	cmd.Flags().BoolVar(&t.json, "json", false, "one JSON object for each record")
	cmd.Flags().StringVar(&t.topic, "topic", "", "a report on the newest records of this topic, in place of files")
	cmd.Flags().Int64Var(&t.last, "last", 1000, "how many records of --topic, at most")
	cmd.Flags().StringVar(&t.against, "against", "", "directory of mapping files: report what would change under them")
	cmd.Flags().StringVar(&t.asTopic, "as-topic", "", "read the records as those of this topic: its settings in STREAMS_FILE")
	cmd.Flags().BoolVar(&t.explain, "explain", false, "on standard error, for each record: envelopes, format and why, each value and its expression")
	return cmd
}

// transformer is one run of `serbridge transform`.
type transformer struct {
	*program
	wholeFile, json, explain bool
	asTopic, topic, against  string
	last                     int64

	report   *mappingReport // nil: the documents are printed
	settings *transform.Settings
	registry registrySettings
	out      *bufio.Writer
	seen     struct{ records, documents, rejected int }
	skipped  map[string]int
}

// stdinName stands for standard input in messages.
const stdinName = "stdin"

// errRejected ends a run in which everything worked but the records.
var errRejected = errors.New("transform: not every record became documents")

func (t *transformer) run(files []string) error {
	s, err := loadTransformSettings(t.environ)
	if err != nil {
		return err
	}
	t.registry = s.Registry
	t.settings, t.out, t.skipped = s.byTopic()(t.asTopic), bufio.NewWriterSize(t.stdout, 64<<10), make(map[string]int)
	if t.against != "" {
		if t.report, err = t.newReport(s); err != nil {
			return err
		}
	}
	if len(files) == 0 {
		files = []string{"-"}
	}
	var unread []error
	for _, file := range files {
		if err := t.file(file); err != nil {
			unread = append(unread, err)
		}
	}
	if err := t.flush(); err != nil {
		return err // which every file met before
	}
	if t.report != nil {
		return errors.Join(append(unread, t.sayReport())...)
	}
	t.summary()
	if t.seen.rejected > 0 {
		unread = append(unread, errRejected)
	}
	return errors.Join(unread...)
}

// flush shows what was printed. A broken output stays broken: every later write and flush fails with the same error.
func (t *transformer) flush() error {
	if err := t.out.Flush(); err != nil {
		return fmt.Errorf("write documents to standard output: %w", err)
	}
	return nil
}

// file reads one argument to its end.
func (t *transformer) file(name string) error {
	in := t.stdin
	if name == "-" {
		name = stdinName
	} else {
		f, err := os.Open(name)
		if err != nil {
			return fmt.Errorf("read records: %w", err) // a PathError names the file
		}
		defer f.Close()
		in = f
	}
	r := bufio.NewReaderSize(in, 64<<10)
	if t.wholeFile {
		return t.whole(r, name)
	}
	return t.lines(r, name)
}

func (t *transformer) whole(r *bufio.Reader, name string) error {
	value, err := io.ReadAll(io.LimitReader(r, maxRecordBytes+1))
	if err != nil {
		return fmt.Errorf("read record from %s: %w", name, err)
	}
	return t.record(name, 1, value, len(value) > maxRecordBytes)
}

func (t *transformer) lines(r *bufio.Reader, name string) error {
	for line := int64(1); ; line++ {
		value, tooLong, err := readLine(r, maxRecordBytes)
		if err != nil && err != io.EOF {
			return fmt.Errorf("read records from %s, line %d: %w", name, line, err)
		}
		if tooLong || len(bytes.TrimSpace(value)) > 0 {
			if err := t.record(name, line, value, tooLong); err != nil {
				return err
			}
		}
		if err == io.EOF {
			return nil
		}
		if r.Buffered() == 0 { // the next read may wait: show what there is
			if err := t.flush(); err != nil {
				return err
			}
		}
	}
}

// readLine reads a line of at most limit bytes, without its end. Of a longer one nothing is kept but that it was
// too long: the rest is read past, not held. io.EOF comes with the last line.
func readLine(r *bufio.Reader, limit int) (line []byte, tooLong bool, err error) {
	for {
		var part []byte
		part, err = r.ReadSlice('\n')
		if tooLong = tooLong || len(line)+len(part) > limit+len("\r\n"); tooLong {
			line = nil
		} else {
			line = append(line, part...)
		}
		if err != bufio.ErrBufferFull {
			break
		}
	}
	line = bytes.TrimSuffix(bytes.TrimSuffix(line, []byte("\n")), []byte("\r"))
	if len(line) > limit {
		return nil, true, err
	}
	return line, tooLong, err
}

// outcome is what became of one record; with --json it is printed as it is.
type outcome struct {
	File        string            `json:"file"`
	Line        int64             `json:"line"`
	Format      string            `json:"format,omitempty"`
	Repairs     []string          `json:"repairs,omitempty"`
	Documents   []json.RawMessage `json:"documents,omitempty"`
	Reject      *rejection        `json:"reject,omitempty"`
	Skipped     string            `json:"skipped,omitempty"`
	PartRejects []rejection       `json:"part_rejects,omitempty"`
	PartSkips   []partSkip        `json:"part_skips,omitempty"`
}

type rejection struct {
	Part   *int   `json:"part,omitempty"`
	Reason string `json:"reason"`
	Field  string `json:"field,omitempty"`
	Detail string `json:"detail,omitempty"`
}

type partSkip struct {
	Part    int    `json:"part"`
	Skipped string `json:"skipped"`
}

// record transforms and prints one record.
func (t *transformer) record(file string, line int64, value []byte, tooLong bool) error {
	if t.report != nil && !tooLong {
		now := time.Now()
		in := transform.Input{Value: value, Topic: file, Offset: line, Timestamp: now, Now: now, Settings: t.settings}
		return t.report.add(context.Background(), in, // a signal ends the process
			fmt.Sprintf("%s:%d", file, line))
	}
	o := outcome{File: file, Line: line}
	if tooLong {
		o.Reject = &rejection{Reason: "record_too_large", Detail: fmt.Sprintf("longer than %s", size(maxRecordBytes))}
	} else if err := o.transform(value, t); err != nil {
		return err
	}
	t.count(o)
	if t.explain && !tooLong {
		if err := t.printExplanation(file, line, value); err != nil {
			return err
		}
	}
	if t.json {
		return t.printJSON(o)
	}
	return t.print(o)
}

// transform fills in what became of value. Now is taken for Kafka's timestamp too.
func (o *outcome) transform(value []byte, t *transformer) error {
	now := time.Now()
	in := transform.Input{Value: value, Topic: o.File, Offset: o.Line, Timestamp: now, Now: now, Settings: t.settings}
	result, err := t.registry.reading(context.Background(), func() transform.Result { return format.Transform(in) }) // a signal ends the process
	if err != nil {
		return fmt.Errorf("transform %s, line %d: %w", o.File, o.Line, err)
	}
	o.Format, o.Skipped = result.Format, string(result.Skip)
	for _, repair := range result.Repairs {
		o.Repairs = append(o.Repairs, string(repair))
	}
	if result.Reject != nil {
		o.Reject = newRejection(result.Reject, nil)
	}
	for i, part := range result.Parts {
		switch {
		case part.Document != nil:
			document, err := part.Document.Encode()
			if err != nil {
				return fmt.Errorf("encode document of %s, line %d: %w", o.File, o.Line, err)
			}
			o.Documents = append(o.Documents, document)
		case part.Reject != nil:
			o.PartRejects = append(o.PartRejects, *newRejection(part.Reject, &i))
		default:
			o.PartSkips = append(o.PartSkips, partSkip{Part: i, Skipped: string(part.Skip)})
		}
	}
	return nil
}

func newRejection(r *transform.Reject, part *int) *rejection {
	return &rejection{Part: part, Reason: string(r.Reason), Field: r.Field, Detail: r.Detail}
}

// rejects are all of a record, the one of the whole record included.
func (o outcome) rejects() []rejection {
	if o.Reject != nil {
		return append([]rejection{*o.Reject}, o.PartRejects...)
	}
	return o.PartRejects
}

func (t *transformer) count(o outcome) {
	t.seen.records++
	t.seen.documents += len(o.Documents)
	t.seen.rejected += len(o.rejects())
	if o.Skipped != "" {
		t.skipped[o.Skipped]++
	}
	for _, s := range o.PartSkips {
		t.skipped[s.Skipped]++
	}
}

// print writes documents to standard output, then rejects to standard error.
func (t *transformer) print(o outcome) error {
	for _, document := range o.Documents {
		if err := t.printLine(document); err != nil {
			return err
		}
	}
	rejects := o.rejects()
	if len(rejects) == 0 {
		return nil
	}
	if err := t.flush(); err != nil { // so that both are in order on a terminal
		return err
	}
	for _, r := range rejects {
		where := fmt.Sprintf("%s:%d: ", o.File, o.Line)
		if r.Part != nil {
			where += fmt.Sprintf("part %d: ", *r.Part)
		}
		why := strings.TrimSpace(r.Reason + " " + r.Field)
		if r.Detail != "" {
			why += ": " + r.Detail
		}
		fmt.Fprintln(t.stderr, escape(where+"rejected: "+why))
	}
	return nil
}

func (t *transformer) printJSON(o outcome) error {
	var line bytes.Buffer
	encoder := json.NewEncoder(&line)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(o); err != nil {
		return fmt.Errorf("encode outcome of %s, line %d: %w", o.File, o.Line, err)
	}
	return t.printLine(bytes.TrimSuffix(line.Bytes(), []byte("\n")))
}

// printLine writes one JSON text; on a terminal without anything that the terminal would obey.
func (t *transformer) printLine(text []byte) error {
	if t.stdoutIsTerminal {
		text = []byte(escape(string(text)))
	}
	t.out.Write(text) //nolint:errcheck // the buffer keeps its error for the next call
	if err := t.out.WriteByte('\n'); err != nil {
		return fmt.Errorf("write documents to standard output: %w", err)
	}
	return nil
}

// summary says on standard error what standard output does not show.
func (t *transformer) summary() {
	if t.seen.rejected == 0 && len(t.skipped) == 0 {
		return
	}
	var why []string
	total := 0
	for _, reason := range slices.Sorted(maps.Keys(t.skipped)) {
		why = append(why, fmt.Sprintf("%s %d", reason, t.skipped[reason]))
		total += t.skipped[reason]
	}
	line := fmt.Sprintf("%d records: %d documents, %d rejected, %d skipped", t.seen.records, t.seen.documents, t.seen.rejected, total)
	if total > 0 {
		line += " (" + strings.Join(why, ", ") + ")"
	}
	fmt.Fprintln(t.stderr, escape(line))
}
