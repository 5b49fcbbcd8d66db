package backfill

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"serbridge/bridge"
	"serbridge/bridge/deadletter"
	"serbridge/transform"
)

// Why a letter is left out of a redrive, and stays as it is; but for MostRedrives, which parks it.
const (
	NotSelected  transform.SkipReason = "not_selected" // the operator's filter does not mean it
	Handled      transform.SkipReason = "handled"      // it has another status than the ones that are meant
	Unreadable   transform.SkipReason = "unreadable"   // it is no dead letter
	NoValue      transform.SkipReason = "no_value"     // it was too large for its topic: only its source has the value
	Ambiguous    transform.SkipReason = "ambiguous"    // it may be stored already
	MostRedrives transform.SkipReason = "max_redrives" // it was redriven as often as it may be: the guard against loops
)

// Redrive says what each letter is to a run that sends dead letters again, and marks what became of it.
type Redrive struct {
	Letters *deadletter.Reader // whose Follow tells what others do meanwhile
	Marks   *deadletter.MarkWriter

	Meant     deadletter.Filter // its Fates empty: the open ones
	Ambiguous bool              // take also those that may be stored already
	Most      int               // redrives of one letter
	Forward   *Forward          // nil: letters are delivered through the pipeline

	ID, By, Because string // of the marks: run, who, and why

	mu sync.Mutex
	c  RedriveCounts
}

// RedriveCounts are what a process of a redrive has counted.
type RedriveCounts struct {
	Taken       int            `json:"taken"`        // letters that were sent, or tried to
	Redriven    int            `json:"redriven"`     // of these: delivered
	FailedAgain map[string]int `json:"failed_again"` // of these: a newer letter says why; by its first reason
	Discarded   int            `json:"discarded"`    // of these: they are no detection by now
	Parked      int            `json:"parked"`       // not taken: redriven as often as allowed
	LeftOut     map[string]int `json:"left_out"`     // not taken, and as before; by why
	Documents   int            `json:"documents"`    // delivered
	Repeats     int            `json:"repeats_possible"`
}

// Failed is how many failed again.
func (c RedriveCounts) Failed() int { return sum(c.FailedAgain) }

// Plan is where letters that are meant can stand in the topic as it was when it was opened; most of them at most, 0: all.
// For that the topic is read; without, only its ends count.
func (r *Redrive) Plan(ctx context.Context, most int) (p Plan, err error) {
	var last *deadletter.Place
	if most > 0 {
		if last, err = r.last(ctx, most); err != nil {
			return Plan{}, err
		}
	}
	meant := r.meant()
	for _, s := range r.Letters.Spans {
		s = meant.Narrow(s)
		switch {
		case last == nil:
		case s.Partition > last.Partition:
			s.End = s.Start
		case s.Partition == last.Partition:
			s.End = last.Offset + 1
		}
		p.Ranges = append(p.Ranges, Range{Place: Place{r.Letters.Topic, s.Partition}, Start: s.Start, At: s.Start, End: s.End, live: everything})
	}
	slices.SortFunc(p.Ranges, func(a, b Range) int { return compare(a.Place, b.Place) })
	return p, nil
}

// last is the place of the letter of this number, nil if there are fewer.
func (r *Redrive) last(ctx context.Context, number int) (last *deadletter.Place, err error) {
	err = r.Each(ctx, func(e *deadletter.Entry, skip transform.SkipReason) (bool, error) {
		if skip == "" {
			number--
		}
		if number == 0 {
			last = new(e.Place)
		}
		return number > 0, nil
	})
	return last, err
}

// Each calls f with every letter of the topic, and why the run leaves it out, until f returns false or an error. Letters
// that are not selected are left out of that.
func (r *Redrive) Each(ctx context.Context, f func(*deadletter.Entry, transform.SkipReason) (more bool, err error)) error {
	return r.Letters.Each(ctx, r.selected(), func(e *deadletter.Entry) (bool, error) { return f(e, r.skip(e)) })
}

func (r *Redrive) meant() deadletter.Filter {
	meant := r.Meant
	if len(meant.Fates) == 0 {
		meant.Fates = []deadletter.Fate{deadletter.Open}
	}
	return meant
}

// selected is the filter without the status, which changes while the run goes on.
func (r *Redrive) selected() deadletter.Filter {
	meant := r.Meant
	meant.Fates = nil
	return meant
}

// skip says why a letter is not taken; empty: it is.
func (r *Redrive) skip(e *deadletter.Entry) transform.SkipReason {
	selected := r.selected()
	switch l := e.Letter; {
	case !selected.Matches(e):
		return NotSelected
	case !slices.Contains(r.meant().Fates, e.Fate):
		return Handled
	case e.Err != nil:
		return Unreadable
	case l.LeftOut == deadletter.LeftOutValue:
		return NoValue
	case l.Certainty == "unknown" && !r.Ambiguous:
		return Ambiguous
	case l.Redrives >= r.Most:
		return MostRedrives
	}
	return ""
}

// Ended marks what became of a letter, and returns once every in-sync replica has the mark. It is the bridge's
// Config.Ended, so a letter's offset counts as settled only after its mark.
func (r *Redrive) Ended(ctx context.Context, o bridge.Outcome) error {
	fate, because := judge(o)
	if fate == deadletter.Open {
		r.count(o, fate)
		return nil
	}
	e := r.Letters.Entry(o.Record)
	if r.forwards(o) {
		if err := r.Forward.send(ctx, e, r.ID, o.Leaving); err != nil {
			return err
		}
		fate, because = deadletter.Redriven, "produced to topic "+r.Forward.To.Topic()
	}
	m := e.Mark(fate)
	m.At, m.By, m.Because, m.Run, m.TopicID = time.Now(), r.By, because+": "+r.Because, r.ID, r.Letters.ID
	if err := r.Marks.Write(ctx, m); err != nil {
		return err
	}
	if r.Forward != nil {
		r.Forward.marked(e.Place)
	}
	r.count(o, fate)
	return nil
}

// judge says what became of a letter, and why. Of a record with several documents one that was given up again is enough:
// there is a newer letter of it.
func judge(o bridge.Outcome) (fate deadletter.Fate, because string) {
	switch {
	case o.Reading.Skip == MostRedrives:
		return deadletter.Parked, fmt.Sprintf("redriven %d times before", o.Reading.Letter.Redrives-1)
	case o.Reading.Skip != "", o.Skip == string(OneOfSeveral):
		return deadletter.Open, ""
	case o.Skip != "":
		return deadletter.Discarded, "no detection by now, " + o.Skip
	}
	var reasons []string
	fate, because = deadletter.Discarded, "no detection by now"
	for _, p := range o.Parts {
		if p.Reason != "" && !slices.Contains(reasons, p.Reason) {
			reasons = append(reasons, p.Reason)
		}
		if p.Delivered {
			fate, because = deadletter.Redriven, "delivered"
		}
	}
	if len(reasons) > 0 {
		return deadletter.FailedAgain, "given up again as " + strings.Join(reasons, ", ")
	}
	return fate, because
}

func (r *Redrive) count(o bridge.Outcome, fate deadletter.Fate) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.c.LeftOut == nil {
		r.c.LeftOut, r.c.FailedAgain = make(map[string]int), make(map[string]int)
	}
	switch fate {
	case deadletter.Open:
		r.c.LeftOut[cmp.Or(string(o.Reading.Skip), o.Skip)]++
		return
	case deadletter.Parked:
		r.c.Parked++
		return
	case deadletter.Redriven:
		r.c.Redriven++
	case deadletter.Discarded:
		r.c.Discarded++
	case deadletter.FailedAgain:
		i := slices.IndexFunc(o.Parts, func(p bridge.PartOutcome) bool { return p.Reason != "" })
		r.c.FailedAgain[o.Parts[i].Reason]++
	}
	r.c.Taken++
	for _, p := range o.Parts {
		if p.Delivered {
			r.c.Documents++
		}
		if repeats(p) {
			r.c.Repeats++
		}
	}
}

// Counts returns what was counted so far.
func (r *Redrive) Counts() RedriveCounts {
	r.mu.Lock()
	defer r.mu.Unlock()
	c := r.c
	c.FailedAgain, c.LeftOut = maps.Clone(c.FailedAgain), maps.Clone(c.LeftOut)
	return c
}

// CheckFates refuses a status that is no use to a redrive: what was delivered would be stored twice, and of what failed
// again there is a newer letter.
func CheckFates(fates []deadletter.Fate) error {
	if slices.Contains(fates, deadletter.Redriven) || slices.Contains(fates, deadletter.FailedAgain) {
		return errors.New("want open, parked or discarded: a redriven letter was delivered, of one that failed again there is a newer one")
	}
	return nil
}
