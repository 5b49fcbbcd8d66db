package main

import (
	"fmt"
	"time"
)

// reading shows how far a long command is, on standard error: one line that is written over on a terminal, a plain line
// now and then elsewhere. A command that takes a second says nothing.
type reading struct {
	*program
	what        string
	done, total int64 // 0: unknown
	begun, last time.Time
	shown       bool
}

func (p *program) newReading(what string, total int64) *reading {
	return &reading{program: p, what: what, total: total, begun: time.Now(), last: time.Now()}
}

// add says that n more are done.
func (r *reading) add(n int64) {
	r.done += n
	every := 5 * time.Second
	if r.stderrIsTerminal {
		every = 250 * time.Millisecond
	}
	if now := time.Now(); now.Sub(r.begun) >= time.Second && now.Sub(r.last) >= every {
		r.last, r.shown = now, true
		r.print(now.Sub(r.begun))
	}
}

func (r *reading) print(took time.Duration) {
	text := fmt.Sprintf("%s: %d", r.what, r.done)
	if r.total > 0 {
		left := time.Duration(float64(took) / float64(max(r.done, 1)) * float64(max(0, r.total-r.done)))
		text += fmt.Sprintf(" of %d, %d %%, about %s left", r.total, 100*r.done/r.total, left.Round(time.Second))
	}
	if r.stderrIsTerminal {
		fmt.Fprintf(r.stderr, "\r\x1b[K%s", text)
		return
	}
	fmt.Fprintln(r.stderr, text)
}

// end clears the line.
func (r *reading) end() {
	if r.shown && r.stderrIsTerminal {
		fmt.Fprint(r.stderr, "\r\x1b[K")
	}
}
