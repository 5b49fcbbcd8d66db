package main

import (
	"bytes"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"serbridge/bridge/backfill"
)

// screen is what a terminal shows after these bytes: a line that was written over is not there any more.
func screen(t *testing.T, out string) (lines []string) {
	t.Helper()
	lines, row := []string{""}, 0
	for _, part := range regexp.MustCompile(`\x1b\[\d*[A-Z]|\r|\n|[^\x1b\r\n]+`).FindAllString(out, -1) {
		switch {
		case part == "\r" || part == "\x1b[K": // only seen together
		case part == "\n":
			if row++; row == len(lines) {
				lines = append(lines, "")
			}
		case part == "\x1b[J":
			lines = lines[:row+1]
			lines[row] = ""
		case strings.HasSuffix(part, "A"):
			n, err := strconv.Atoi(part[2 : len(part)-1])
			if err != nil || n > row {
				t.Fatalf("%q in row %d", part, row)
			}
			row -= n
		case lines[row] != "":
			t.Fatalf("%q over %q", part, lines[row])
		default:
			lines[row] = part
		}
	}
	return lines
}

func showOnTerminal() (*runShow, *bytes.Buffer) {
	var out bytes.Buffer
	r := &boundedRun{program: &program{stderr: &out, stderrIsTerminal: true}, verbose: true}
	r.show = newRunShow(r)
	return r.show, &out
}

func partitionsLeft(left ...int64) (p backfill.Plan) {
	for i, n := range left {
		p.Ranges = append(p.Ranges, backfill.Range{Place: backfill.Place{Topic: "t", Partition: int32(i)}, At: 1000 - n, End: 1000})
	}
	return p
}

// An operator who asked for --verbose sees which partition stands still, all the time, not only what each had at the start.
func TestPartitionsStandUnderTheBarAndMove(t *testing.T) {
	t.Parallel()
	s, out := showOnTerminal()
	for i, p := range []backfill.Plan{partitionsLeft(1000, 1000), partitionsLeft(700, 0), partitionsLeft(300, 0)} {
		s.last = time.Time{}
		s.progress(p, "0 rejects", nil, nil)
		if i == 1 {
			s.say("a line between")
		}
	}
	want := []string{"a line between", "", "  t/0                            700 of      1000, at offset 700 of 1000"}
	got := screen(t, out.String())
	if len(got) != 3 || got[0] != want[0] || !strings.HasPrefix(got[1], "[#################...] 1700 of 2000") || got[2] != want[2] {
		t.Errorf("shown:\n%s", strings.Join(got, "\n"))
	}
	s.endBar()
	if got := screen(t, out.String()); !slices.Equal(got, []string{"a line between", ""}) {
		t.Errorf("after the end:\n%s", strings.Join(got, "\n"))
	}
}

// Hundreds of partitions would scroll the terminal, and what has scrolled away cannot be written over.
func TestPartitionsUnderTheBarAreBounded(t *testing.T) {
	t.Parallel()
	left := make([]int64, 500)
	for i := range left {
		left[i] = int64(i) // the last have the most
	}
	s, out := showOnTerminal()
	s.line(strings.Repeat("long ", 50), partitionsLeft(left...))
	got := screen(t, out.String())
	if len(got) != 1+mostPartitions+1 || !strings.HasPrefix(got[1], "  t/484 ") || !strings.HasPrefix(got[mostPartitions], "  t/499 ") ||
		got[mostPartitions+1] != fmt.Sprintf("  and %d more partitions with %d offsets left", 499-mostPartitions, 116886) {
		t.Errorf("shown:\n%s", strings.Join(got, "\n"))
	}
	for _, line := range got {
		if len([]rune(line)) > 79 {
			t.Errorf("it wraps: %s", line)
		}
	}
}
