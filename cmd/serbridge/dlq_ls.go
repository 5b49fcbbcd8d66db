package main

import (
	"container/heap"
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"serbridge/bridge/deadletter"
)

const dlqListHelp = `Counts dead letters by status, reason, source topic and day, and lists the newest ones first. Handled ones are
counted by status, and left out of everything else unless --all or --status asks for them.

The day and the order are those of when a letter was given up; Kafka Connect does not say it, so there they are
those of the record. Days are in UTC. The whole topic is read, in a bounded memory; nothing is committed.

With --json: one object with topic, letters, by_status, by_reason, by_topic, by_day and newest, a list of objects.`

// lister is one run of `serbridge dlq ls`.
type lister struct {
	*program
	meant selection
	json  bool
}

const (
	listMost   = 20      // letters listed by default
	listBound  = 100_000 // and at most
	talliesMax = 1000    // different values that are counted one by one: what headers say is hostile
)

func newDLQListCommand(p *program) *cobra.Command {
	l := &lister{program: p}
	cmd := &cobra.Command{
		Use:   "ls",
		Short: "Count them, and list the newest",
		Long:  dlqListHelp,
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return l.run(cmd.Context()) },
	}
	l.meant.add(cmd, listMost, "letters to list, at most; all are counted")
	l.meant.addAll(cmd)
	cmd.Flags().BoolVar(&l.json, "json", false, "one JSON object")
	return cmd
}

func (l *lister) run(ctx context.Context) error {
	meant, err := l.meant.filter(nil, time.Now())
	if err != nil {
		return err
	}
	if l.meant.max > listBound {
		return usageError{fmt.Errorf("--max: want at most %d; dlq export lists all", listBound)}
	}
	box, err := openLetterBox(l.program)
	if err != nil {
		return err
	}
	r, err := box.reader(ctx)
	if err != nil {
		return err
	}
	defer r.Close()
	c := newCensus(r.Topic, meant, l.meant.max)
	show := l.newReading("reading dead letters", r.Offsets())
	r.OnProgress = show.add
	meant.Fates = nil // those that are left out are counted by status
	err = r.Each(ctx, meant, func(e *deadletter.Entry) (bool, error) {
		c.add(e)
		return true, nil
	})
	show.end()
	if err != nil {
		return box.fault("list dead letters", err)
	}
	c.finish(r.Damaged)
	if l.json {
		return writeJSONLine(l.stdout, c, l.stdoutIsTerminal)
	}
	if err := c.print(l.stdout); err != nil {
		return fmt.Errorf("write the list to standard output: %w", err)
	}
	return nil
}

// census is what ls says.
type census struct {
	Topic        string    `json:"topic"`
	Letters      int64     `json:"letters"` // that are meant
	LeftOut      int64     `json:"left_out"`
	ByStatus     tally     `json:"by_status"`
	ByReason     tally     `json:"by_reason"`
	ByTopic      tally     `json:"by_topic"`
	ByDay        tally     `json:"by_day"`
	Newest       []listing `json:"newest"`
	DamagedMarks int64     `json:"damaged_marks"`

	meant  []deadletter.Fate
	newest newest
}

// listing is one line of the list: little, and none of the record.
type listing struct {
	Place     string    `json:"place"`
	At        time.Time `json:"failed_at"`
	Reason    string    `json:"reason"`
	Field     string    `json:"field,omitempty"`
	Topic     string    `json:"topic,omitempty"`
	Partition int32     `json:"partition"`
	Offset    int64     `json:"offset"`
	Part      *int      `json:"part,omitempty"`
	Redrives  int       `json:"redrives"`
	Status    string    `json:"status"`

	place deadletter.Place
}

func newCensus(topic string, meant deadletter.Filter, most int) *census {
	return &census{
		Topic: topic, ByStatus: tally{}, ByReason: tally{}, ByTopic: tally{}, ByDay: tally{},
		meant: meant.Fates, newest: newest{most: most}, Newest: []listing{},
	}
}

func (c *census) add(e *deadletter.Entry) {
	c.ByStatus.add(e.Fate.String())
	if len(c.meant) > 0 && !slices.Contains(c.meant, e.Fate) {
		c.LeftOut++
		return
	}
	c.Letters++
	c.ByReason.add(e.Reason())
	c.ByDay.add(e.At().UTC().Format(time.DateOnly))
	c.ByTopic.add(sourceTopic(e))
	if c.newest.wants(e) {
		c.newest.take(newListing(e))
	}
}

func (c *census) finish(damaged int64) {
	c.DamagedMarks = damaged
	c.Newest = append(c.Newest, c.newest.list...)
	slices.SortFunc(c.Newest, func(a, b listing) int {
		if older(a, b) {
			return 1
		}
		return -1
	})
}

// sourceTopic is that of the letter's record; a record that is no letter has none.
func sourceTopic(e *deadletter.Entry) string {
	if e.Err != nil {
		return "(unknown)"
	}
	return e.Letter.Topic
}

// newListing copies what it keeps: a text that shares memory with its record would keep the record.
func newListing(e *deadletter.Entry) listing {
	l := listing{
		Place: e.Place.String(), At: e.At().UTC(), Reason: brief(e.Reason()), Field: brief(e.Letter.Field), Topic: brief(e.Letter.Topic),
		Partition: e.Letter.Partition, Offset: e.Letter.Offset, Redrives: e.Letter.Redrives, Status: e.Fate.String(), place: e.Place,
	}
	if year := l.At.Year(); year < 1 || year > 9999 { // JSON knows no others, and a record's time is the producer's word
		l.At = time.Time{}
	}
	if e.Err == nil && e.Letter.Part >= 0 {
		part := e.Letter.Part // not a pointer into the entry, which holds the record
		l.Part = &part
	}
	return l
}

const briefBytes = 256 // of a text that others wrote

func brief(s string) string {
	return strings.ToValidUTF8(strings.Clone(s[:min(len(s), briefBytes)]), "?")
}

// tally counts by value; what comes after the first thousand values is counted together.
type tally map[string]int64

const others = "(others)"

func (t tally) add(value string) {
	value = brief(value)
	if _, known := t[value]; !known && len(t) >= talliesMax {
		value = others
	}
	t[value]++
}

// newest keeps the newest letters, the oldest of them on top of the heap.
type newest struct {
	most int
	list []listing
}

func (n *newest) wants(e *deadletter.Entry) bool {
	if len(n.list) < n.most {
		return true
	}
	return n.most > 0 && older(n.list[0], listing{At: e.At().UTC(), place: e.Place})
}

func (n *newest) take(l listing) {
	if len(n.list) == n.most {
		n.list[0] = l
		heap.Fix(n, 0)
		return
	}
	heap.Push(n, l)
}

// older orders by time, then by place.
func older(a, b listing) bool {
	if !a.At.Equal(b.At) {
		return a.At.Before(b.At)
	}
	if a.place.Offset != b.place.Offset {
		return a.place.Offset < b.place.Offset
	}
	return a.place.Partition < b.place.Partition
}

// Len, Less, Swap, Push and Pop are heap.Interface's.
func (n *newest) Len() int           { return len(n.list) }
func (n *newest) Less(i, j int) bool { return older(n.list[i], n.list[j]) }
func (n *newest) Swap(i, j int)      { n.list[i], n.list[j] = n.list[j], n.list[i] }
func (n *newest) Push(l any)         { n.list = append(n.list, l.(listing)) }
func (n *newest) Pop() any {
	last := n.list[len(n.list)-1]
	n.list = n.list[:len(n.list)-1]
	return last
}

func (c *census) print(out io.Writer) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "%s in %s", count(c.Letters, "dead letter"), escape(c.Topic))
	if c.LeftOut > 0 {
		fmt.Fprintf(w, ", %d of another status left out (--all)", c.LeftOut)
	}
	fmt.Fprintln(w)
	for _, t := range []struct {
		heading string
		tally
		byName bool
	}{{"STATUS", c.ByStatus, false}, {"REASON", c.ByReason, false}, {"TOPIC", c.ByTopic, false}, {"DAY", c.ByDay, true}} {
		t.print(w, t.heading, t.byName)
	}
	if c.DamagedMarks > 0 {
		fmt.Fprintf(w, "\n%s in %s.handled cannot be read; their letters count as the mark before says\n", count(c.DamagedMarks, "record"), escape(c.Topic))
	}
	if len(c.Newest) > 0 {
		fmt.Fprintf(w, "\nFAILED AT\tLETTER\tREASON\tFIELD\tRECORD\tSTATUS\n")
	}
	for _, l := range c.Newest {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", l.At.Format(time.RFC3339), l.Place, escape(l.Reason), escape(dash(l.Field)), escape(l.record()), l.Status)
	}
	return w.Flush()
}

func (l listing) record() string {
	if l.Topic == "" {
		return "-"
	}
	s := fmt.Sprintf("%s:%d:%d", l.Topic, l.Partition, l.Offset)
	if l.Part != nil {
		s += " part " + strconv.Itoa(*l.Part)
	}
	return s
}

func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// print writes a tally, the largest number first, or the last name first.
func (t tally) print(w io.Writer, heading string, byName bool) {
	if len(t) == 0 {
		return
	}
	fmt.Fprintf(w, "\n%s\tLETTERS\n", heading)
	names := slices.Sorted(maps.Keys(t))
	if byName {
		slices.Reverse(names)
	} else {
		slices.SortStableFunc(names, func(a, b string) int { return int(max(-1, min(1, t[b]-t[a]))) })
	}
	for _, name := range names {
		fmt.Fprintf(w, "%s\t%d\n", escape(dash(name)), t[name])
	}
}
