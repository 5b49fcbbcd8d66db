package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"serbridge/bridge/deadletter"
	"serbridge/bridge/receipt"
	"serbridge/transform"
)

// traceView is a trace as --json has it.
type traceView struct {
	Record     recordView     `json:"record"`
	Group      groupView      `json:"group"`
	Recognised *recognised    `json:"recognised,omitempty"`
	Documents  []documentView `json:"documents"`
	Receipts   []receiptView  `json:"receipts"`
	Letters    []letterView   `json:"letters"`
}

type recordView struct {
	Topic     string          `json:"topic"`
	Partition int32           `json:"partition"`
	Offset    int64           `json:"offset"`
	There     bool            `json:"there"`
	Why       string          `json:"why,omitempty"` // it is not
	Time      string          `json:"time,omitempty"`
	Bytes     int             `json:"bytes"`
	Record    json.RawMessage `json:"record,omitempty"`
}

type groupView struct {
	Name  string `json:"name"`
	State string `json:"state"` // settled, pending, or no_commit of this partition
}

// recognised is what the mappings of now make of the record.
type recognised struct {
	Format    string `json:"format,omitempty"`
	Documents int    `json:"documents"`
	Skip      string `json:"skip,omitempty"`
	Reject    string `json:"reject,omitempty"`
	Field     string `json:"field,omitempty"`
	Detail    string `json:"detail,omitempty"`
	Skipped   int    `json:"parts_skipped"`
	Rejected  int    `json:"parts_rejected"`
}

type documentView struct {
	Part        int             `json:"part"`
	Run         string          `json:"run,omitempty"`
	DeliveryKey string          `json:"delivery_key"`
	DedupKey    string          `json:"dedup_key,omitempty"`
	Mapping     string          `json:"mapping,omitempty"`
	Stored      string          `json:"stored"` // stored, missing, different, doubled, mapped_otherwise, not_asked
	Copies      int             `json:"copies"`
	Index       string          `json:"index,omitempty"`
	ID          string          `json:"id,omitempty"`
	Differs     []string        `json:"differs,omitempty"`
	StoredBy    string          `json:"stored_mapping,omitempty"` // if it is another mapping
	Document    json.RawMessage `json:"document,omitempty"`
}

type receiptView struct {
	Fate  string         `json:"fate"`
	Ended string         `json:"ended"`
	Skip  string         `json:"skip,omitempty"`
	Group string         `json:"group"`
	Run   string         `json:"run"`
	Host  string         `json:"host"`
	User  string         `json:"user"`
	By    string         `json:"instance"`
	Parts []receipt.Part `json:"parts"`
}

type letterView struct {
	Place     string `json:"place"`
	Part      int    `json:"part"`
	Reason    string `json:"reason"`
	Field     string `json:"field,omitempty"`
	Detail    string `json:"detail,omitempty"`
	Certainty string `json:"certainty,omitempty"`
	FailedAt  string `json:"failed_at,omitempty"`
	Attempts  int    `json:"attempts"`
	Redrives  int    `json:"redrives"`
	Status    string `json:"status"`
	Handled   string `json:"handled_at,omitempty"`
	By        string `json:"handled_by,omitempty"`
	Because   string `json:"because,omitempty"`
}

func (t *tracer) view(f *traced) (*traceView, error) {
	v := &traceView{Group: groupView{t.settings.Kafka.Group, f.group}, Documents: []documentView{}, Receipts: []receiptView{}, Letters: []letterView{}}
	v.Record = recordView{Topic: f.source.Topic, Partition: f.source.Partition, Offset: f.source.Offset, Why: f.there}
	if k := f.record; k != nil {
		line, err := deadletter.EncodeLine(k)
		if err != nil {
			return nil, err
		}
		v.Record.There, v.Record.Time, v.Record.Bytes, v.Record.Record = true, stamp(k.Timestamp), len(k.Key)+len(k.Value), line
		v.Recognised = recognise(f.result)
	}
	for _, d := range f.copies {
		one, err := d.view(f.asked)
		if err != nil {
			return nil, err
		}
		v.Documents = append(v.Documents, one)
	}
	for _, r := range f.receipts {
		v.Receipts = append(v.Receipts, receiptView{string(r.Fate()), stamp(r.Ended), r.Skip, r.Group, r.Run, r.Host, r.User, r.Instance, r.Parts})
	}
	for _, l := range f.letters {
		v.Letters = append(v.Letters, l.view())
	}
	return v, nil
}

func recognise(result transform.Result) *recognised {
	r := &recognised{Format: result.Format, Skip: string(result.Skip)}
	if result.Reject != nil {
		r.Reject, r.Field, r.Detail = string(result.Reject.Reason), result.Reject.Field, result.Reject.Detail
	}
	for _, p := range result.Parts {
		switch {
		case p.Document != nil:
			r.Documents++
		case p.Reject != nil:
			r.Rejected++
		default:
			r.Skipped++
		}
	}
	return r
}

func (d tracedDocument) view(asked bool) (v documentView, err error) {
	c := d.copies
	v = documentView{Part: d.part, Run: d.run, DeliveryKey: d.deliveryKey, Copies: c.N, Index: c.Index, ID: c.ID, Differs: c.Differs, StoredBy: c.Elsewise}
	if d.document != nil {
		v.DedupKey, v.Mapping = d.document.DedupKey(), d.document.Mapping()
		if v.Document, err = d.document.Encode(); err != nil {
			return v, err
		}
	}
	switch {
	case !asked:
		v.Stored = "not_asked"
	case c.N == 0:
		v.Stored = "missing"
	case c.N > 1:
		v.Stored = "doubled"
	case len(c.Differs) > 0:
		v.Stored = "different"
	case c.Elsewise != "":
		v.Stored = "mapped_otherwise"
	default:
		v.Stored = "stored"
	}
	return v, nil
}

func (l tracedLetter) view() letterView {
	e, m := l.entry, l.mark
	return letterView{Place: e.Place.String(), Part: e.Letter.Part, Reason: e.Reason(), Field: e.Letter.Field, Detail: e.Letter.Detail,
		Certainty: e.Letter.Certainty, FailedAt: stamp(e.At()), Attempts: e.Letter.Attempts, Redrives: e.Letter.Redrives, Status: e.Fate.String(),
		Handled: stamp(m.At), By: m.By, Because: m.Because}
}

func (t *tracer) show(f *traced) error {
	v, err := t.view(f)
	if err != nil {
		return err
	}
	if t.json {
		return writeJSONLine(t.stdout, v, t.stdoutIsTerminal)
	}
	v.print(t.stdout, f)
	return nil
}

// print is for people. Whatever others wrote is escaped.
func (v *traceView) print(out io.Writer, f *traced) {
	fmt.Fprintf(out, "record %s\n", escape(f.source.String()))
	say := func(name, text string) {
		if text != "" {
			fmt.Fprintf(out, "  %-10s %s\n", name, escape(text))
		}
	}
	say("not there", v.Record.Why)
	say("time", v.Record.Time)
	say("recognised", v.Recognised.text())
	say("group", v.Group.text())
	for _, r := range v.Receipts {
		say("receipt", r.text())
		for _, p := range r.Parts {
			fmt.Fprintf(out, "    %s\n", escape(partText(p)))
		}
	}
	for _, l := range v.Letters {
		say("letter", l.text())
	}
	if len(v.Receipts)+len(v.Letters) == 0 {
		say("written", "no receipt and no dead letter")
	}
	for _, d := range v.Documents {
		d.print(out, say)
	}
	if f.record != nil {
		w := view{letter: deadletter.Letter{Key: f.record.Key, Value: f.record.Value, Headers: f.record.Headers}}
		w.printRecord(out, say)
	}
	fmt.Fprintln(out)
}

func (r *recognised) text() string {
	if r == nil {
		return ""
	}
	switch {
	case r.Reject != "":
		return strings.TrimSpace(fmt.Sprintf("%s rejected as %s: %s", r.Format, strings.TrimSpace(string(r.Reject)+" "+r.Field), r.Detail))
	case r.Skip != "":
		return strings.TrimSpace(r.Format + " no detection: " + r.Skip)
	}
	s := r.Format + ", " + count(r.Documents, "document")
	if r.Rejected > 0 {
		s += fmt.Sprintf(", %d parts rejected", r.Rejected)
	}
	if r.Skipped > 0 {
		s += fmt.Sprintf(", %d parts no detection", r.Skipped)
	}
	return s
}

func (g groupView) text() string {
	switch g.State {
	case "settled":
		return g.Name + " has settled it"
	case "pending":
		return g.Name + " has not settled it yet"
	}
	return g.Name + " has committed nothing of the partition"
}

func (r receiptView) text() string {
	s := r.Fate + " " + r.Ended
	if r.Skip != "" {
		s += ", " + r.Skip
	}
	s = fmt.Sprintf("%s, by %s on %s", s, r.Group, r.By)
	if r.Host == "" { // put by hand
		return s
	}
	return fmt.Sprintf("%s to %s as %s", s, r.Host, r.User)
}

func partText(p receipt.Part) string {
	s := fmt.Sprintf("part %d %s", p.Part, p.Fate())
	for _, more := range []string{p.Skip, p.Reason, strings.TrimSpace(p.Index + " " + p.ID), p.Mapping} {
		if more != "" {
			s += ", " + more
		}
	}
	return s + ", " + count(p.Attempts, "attempt")
}

func (l letterView) text() string {
	s := strings.TrimSpace(fmt.Sprintf("%s %s %s", l.Place, l.Reason, l.Field)) + ", failed " + l.FailedAt + ", " + count(l.Attempts, "attempt")
	if l.Certainty != "" {
		s += ", " + certaintyWords(l.Certainty)
	}
	s += "; " + l.Status
	if l.Handled != "" {
		s += " on " + l.Handled + " by " + l.By
	}
	if l.Because != "" {
		s += " because " + l.Because
	}
	return s
}

func (d documentView) print(out io.Writer, say func(name, text string)) {
	name := fmt.Sprintf("part %d", d.Part)
	if d.Run != "" {
		name += " of " + d.Run
	}
	say("document", strings.TrimSuffix(name+", "+d.Mapping, ", "))
	say("dedup", d.DedupKey)
	say("delivery", d.DeliveryKey)
	say("stored", d.storedText())
	if d.Document != nil {
		for line := range strings.Lines(prettyValue(d.Document)) {
			fmt.Fprintf(out, "    %s\n", escape(strings.TrimSuffix(line, "\n")))
		}
	}
}

func (d documentView) storedText() string {
	where := strings.TrimSpace(d.Index + " " + d.ID)
	switch d.Stored {
	case "not_asked":
		return "Stellar Cyber was not asked"
	case "missing":
		return "no: Stellar Cyber does not find it (what was delivered in the last minute may not be searchable yet)"
	case "doubled":
		return fmt.Sprintf("%d copies, the first %s", d.Copies, where)
	case "different":
		return "yes, " + where + ", and not as it was sent: " + strings.Join(d.Differs, ", ")
	case "mapped_otherwise":
		return "yes, " + where + ", made by another mapping, " + d.StoredBy
	}
	return "yes, " + where
}
