package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kgo"

	"serbridge/bridge/deadletter"
)

const dlqShowHelp = `Shows dead letters whole: why each was given up, what that means and what to do, what became of it, and the
record itself. Letters are named by their place, or selected; what is selected is shown in the order of the topic,
at most --max of them.

What a record holds is hostile: control characters are shown as \uXXXX, JSON is indented, bytes that are no text
are dumped. A long value is cut; dlq export writes it whole.

With --json: one object a line, in which record is the whole record as dlq export writes it.`

// viewer is one run of `serbridge dlq show`.
type viewer struct {
	*program
	meant selection
	json  bool
	out   *bufio.Writer
}

func newDLQShowCommand(p *program) *cobra.Command {
	v := &viewer{program: p}
	cmd := &cobra.Command{
		Use:   "show [PARTITION:OFFSET…]",
		Short: "One or many of them, with what to do about it",
		Long:  dlqShowHelp,
		RunE:  func(cmd *cobra.Command, places []string) error { return v.run(cmd.Context(), places) },
	}
	v.meant.add(cmd, listMost, "letters to show, at most, at a time; 0: all")
	v.meant.addAll(cmd)
	cmd.Flags().BoolVar(&v.json, "json", false, "one JSON object a line")
	return cmd
}

// What is held at once: what became of letters is read once for each page of them.
const (
	viewPage  = 200
	viewBytes = 16 << 20
)

func (v *viewer) run(ctx context.Context, args []string) error {
	if len(args) == 0 && !v.meant.named() {
		return usageError{errors.New("dlq show: say which letters: PARTITION:OFFSET as dlq ls prints it, or a selection such as --reason invalid_json")}
	}
	meant, err := v.meant.filter(args, time.Now())
	if err != nil {
		return err
	}
	box, err := openLetterBox(v.program)
	if err != nil {
		return err
	}
	r, err := box.reader(ctx)
	if err != nil {
		return err
	}
	defer r.Close()
	v.out = bufio.NewWriter(v.stdout)
	if len(args) > 0 {
		v.meant.max = 0
	}
	found, err := v.pages(ctx, r, meant)
	if err != nil {
		return box.fault("show dead letters", err)
	}
	if err := v.out.Flush(); err != nil {
		return fmt.Errorf("write dead letters to standard output: %w", err)
	}
	if len(found) == 0 && len(args) == 0 {
		fmt.Fprintln(v.stderr, "no letter is of this selection (handled ones: --all)")
	}
	return unfound(meant.Places, found, r)
}

// pages shows the letters a few at a time, so that memory does not grow with their number.
func (v *viewer) pages(ctx context.Context, r *deadletter.Reader, meant deadletter.Filter) (map[deadletter.Place]bool, error) {
	found := make(map[deadletter.Place]bool)
	shown, held := 0, 0
	var page []*deadletter.Entry
	show := v.newReading("reading dead letters", r.Offsets())
	r.OnProgress = show.add
	defer show.end()
	flush := func() error {
		err := v.page(ctx, r, page)
		clear(page)
		page, held = page[:0], 0
		return err
	}
	err := r.Each(ctx, meant, func(e *deadletter.Entry) (bool, error) {
		if len(meant.Places) > 0 || len(found) == 0 {
			found[e.Place] = true
		}
		page = append(page, e)
		shown, held = shown+1, held+len(e.Record.Value)+len(e.Record.Key)
		more := v.meant.max == 0 || shown < v.meant.max
		if len(page) < viewPage && held < viewBytes {
			return more, nil
		}
		return more, flush()
	})
	if err != nil {
		return nil, err
	}
	return found, flush()
}

func (v *viewer) page(ctx context.Context, r *deadletter.Reader, page []*deadletter.Entry) error {
	var places []deadletter.Place
	for _, e := range page {
		places = append(places, e.Place)
	}
	marks, err := r.Marks(ctx, places)
	if err != nil {
		return err
	}
	for _, e := range page {
		mark, handled := marks[e.Place]
		if !handled {
			mark = deadletter.Mark{}
		}
		if err := v.show(newView(e, mark)); err != nil {
			return err
		}
	}
	return nil
}

// view is a letter as show says it.
type view struct {
	Place         string          `json:"place"`
	Status        string          `json:"status"`
	Handled       *handledView    `json:"handled,omitempty"`
	Topic         string          `json:"topic,omitempty"`
	Partition     int32           `json:"partition"`
	Offset        int64           `json:"offset"`
	Part          *int            `json:"part,omitempty"`
	Reason        string          `json:"reason"`
	Means         string          `json:"means"`
	Do            string          `json:"do"`
	Field         string          `json:"field,omitempty"`
	Detail        string          `json:"detail,omitempty"`
	Certainty     string          `json:"certainty,omitempty"`
	Stage         string          `json:"stage,omitempty"`
	Attempts      int             `json:"attempts"`
	HTTPStatus    int             `json:"http_status,omitempty"`
	HTTPBody      string          `json:"http_body,omitempty"`
	FirstFailedAt string          `json:"first_failed_at,omitempty"`
	FailedAt      string          `json:"failed_at,omitempty"`
	DeliveryKey   string          `json:"delivery_key,omitempty"`
	Mapping       string          `json:"mapping,omitempty"`
	Bridge        string          `json:"bridge,omitempty"`
	Instance      string          `json:"instance,omitempty"`
	Group         string          `json:"group,omitempty"`
	Redrives      int             `json:"redrives"`
	Run           string          `json:"run,omitempty"`
	LeftOut       string          `json:"left_out,omitempty"`
	Record        json.RawMessage `json:"record"`

	letter deadletter.Letter // of which the record is the source's, without our headers
}

type handledView struct {
	At      string `json:"at,omitempty"`
	By      string `json:"by,omitempty"`
	Because string `json:"because,omitempty"`
	Run     string `json:"run,omitempty"`
}

func newView(e *deadletter.Entry, m deadletter.Mark) (*view, error) {
	l := e.Letter
	if e.Err != nil {
		l = deadletter.Letter{Key: e.Record.Key, Value: e.Record.Value, Headers: e.Record.Headers, Timestamp: e.Record.Timestamp, Part: -1, Detail: e.Err.Error()}
	}
	record, err := deadletter.EncodeLine(e.Record)
	if err != nil {
		return nil, err
	}
	a := adviceFor(e.Reason())
	w := &view{
		Place: e.Place.String(), Status: e.Fate.String(), Topic: l.Topic, Partition: l.Partition, Offset: l.Offset,
		Reason: e.Reason(), Means: a.means, Do: a.do, Field: l.Field, Detail: l.Detail, Certainty: l.Certainty, Stage: l.Stage,
		Attempts: l.Attempts, HTTPStatus: l.HTTPStatus, HTTPBody: l.HTTPBody, FirstFailedAt: stamp(l.FirstFailedAt), FailedAt: stamp(l.FailedAt),
		DeliveryKey: l.DeliveryKey, Mapping: l.Mapping, Bridge: l.Bridge, Instance: l.Instance, Group: l.Group, Redrives: l.Redrives,
		Run: l.Run, LeftOut: l.LeftOut, Record: record, letter: l,
	}
	if l.Part >= 0 {
		w.Part = &l.Part
	}
	if e.Fate != deadletter.Open {
		w.Handled = &handledView{At: stamp(m.At), By: m.By, Because: m.Because, Run: m.Run}
	}
	return w, nil
}

// stamp is a time for people and scripts; empty for none.
func stamp(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339Nano)
}

func (v *viewer) show(w *view, err error) error {
	if err != nil {
		return err
	}
	if v.json {
		return writeJSONLine(v.out, w, v.stdoutIsTerminal)
	}
	w.print(v.out)
	return nil
}

// writeJSONLine writes one JSON text and a line's end; on a terminal without anything that the terminal would obey.
func writeJSONLine(out io.Writer, v any, terminal bool) error {
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(v); err != nil {
		return fmt.Errorf("encode: %w", err)
	}
	text := b.Bytes()
	if terminal {
		text = []byte(escapeLines(b.String()))
	}
	if _, err := out.Write(text); err != nil {
		return fmt.Errorf("write to standard output: %w", err)
	}
	return nil
}

// print writes the letter for people. Whatever others wrote is escaped, wherever the output goes.
func (w *view) print(out io.Writer) {
	fmt.Fprintf(out, "dead letter %s\n", w.Place)
	say := func(name, text string) {
		if text != "" {
			fmt.Fprintf(out, "  %-10s %s\n", name, escape(text))
		}
	}
	say("record", w.record())
	say("reason", strings.TrimSpace(w.Reason+" "+w.Field))
	say("means", w.Means)
	say("to do", w.Do)
	say("detail", w.Detail)
	say("certainty", certaintyWords(w.Certainty))
	say("failed", w.failed())
	if w.HTTPStatus != 0 || w.HTTPBody != "" {
		say("http", strings.TrimSpace(fmt.Sprintf("%d %s", w.HTTPStatus, w.HTTPBody)))
	}
	say("status", w.status())
	say("written by", w.writer())
	say("left out", w.LeftOut)
	if w.Redrives > 0 {
		say("redrives", strings.TrimSpace(fmt.Sprintf("%d %s", w.Redrives, w.Run)))
	}
	say("delivery", w.DeliveryKey)
	w.printRecord(out, say)
	fmt.Fprintln(out)
}

func (w *view) record() string {
	if w.Topic == "" {
		return ""
	}
	s := fmt.Sprintf("%s:%d:%d", w.Topic, w.Partition, w.Offset)
	if w.Part != nil {
		s += fmt.Sprintf(" part %d", *w.Part)
	}
	return s
}

func (w *view) failed() string {
	if w.FailedAt == "" {
		return ""
	}
	s := w.FailedAt
	if w.FirstFailedAt != "" && w.FirstFailedAt != w.FailedAt {
		s += ", first " + w.FirstFailedAt
	}
	return s + ", " + count(w.Attempts, "attempt")
}

func (w *view) status() string {
	s := w.Status
	if h := w.Handled; h != nil {
		for _, part := range []struct{ word, text string }{{"on", h.At}, {"by", h.By}, {"run", h.Run}, {"because", h.Because}} {
			if part.text != "" {
				s += " " + part.word + " " + part.text
			}
		}
	}
	return s
}

func (w *view) writer() string {
	s := strings.TrimSpace(w.Group + " " + w.Instance)
	for _, extra := range []string{w.Bridge, w.Mapping, w.Stage} {
		if extra != "" {
			s += ", " + extra
		}
	}
	return s
}

func certaintyWords(certainty string) string {
	words := map[string]string{
		"not_sent": "it was never sent", "refused": "the API refused it, so it is not stored", "unknown": "it may be stored",
	}
	if w := words[certainty]; w != "" {
		return certainty + ": " + w
	}
	return certainty
}

const (
	shownBytes  = 16 << 10 // of a value or another text
	dumpedBytes = 512      // of what is no text
	mostNesting = 64       // levels that are indented: the indents of thousands would be a flood
)

func (w *view) printRecord(out io.Writer, say func(name, text string)) {
	say("time", stamp(w.letter.Timestamp))
	if w.letter.Key != nil {
		say("key", shortText(w.letter.Key))
	}
	for _, h := range w.letter.Headers {
		fmt.Fprintf(out, "  %-10s %s\n", "header", escape(headerText(h)))
	}
	if w.letter.Value == nil {
		fmt.Fprintf(out, "  %-10s none\n", "value")
		return
	}
	fmt.Fprintf(out, "  %-10s %s\n", "value", count(len(w.letter.Value), "byte"))
	for line := range strings.Lines(prettyValue(w.letter.Value)) {
		fmt.Fprintf(out, "    %s\n", escape(strings.TrimSuffix(line, "\n")))
	}
}

func headerText(h kgo.RecordHeader) string {
	if h.Value == nil {
		return h.Key + " (null)"
	}
	return h.Key + " = " + shortText(h.Value)
}

// shortText is one line of what may be anything.
func shortText(b []byte) string {
	if !utf8.Valid(b) {
		return "(hex) " + hex.EncodeToString(b[:min(len(b), dumpedBytes)])
	}
	if len(b) > shownBytes {
		return strings.ToValidUTF8(string(b[:shownBytes]), "") + "…"
	}
	return string(b)
}

// prettyValue is lines, not yet escaped.
func prettyValue(b []byte) string {
	rest := ""
	if len(b) > shownBytes {
		rest = fmt.Sprintf("\n… %d bytes more", len(b)-shownBytes)
	}
	var indented bytes.Buffer
	switch {
	case rest == "" && nesting(b) <= mostNesting && json.Indent(&indented, b, "", "  ") == nil:
		return indented.String()
	case !utf8.Valid(b[:min(len(b), shownBytes-utf8.UTFMax)]):
		return hex.Dump(b[:min(len(b), dumpedBytes)])
	}
	return strings.ToValidUTF8(string(b[:min(len(b), shownBytes)]), "") + rest
}

// nesting is at least how deep the brackets go.
func nesting(b []byte) (deepest int) {
	depth := 0
	for _, c := range b {
		switch c {
		case '{', '[':
			depth++
			deepest = max(deepest, depth)
		case '}', ']':
			depth--
		}
	}
	return deepest
}
