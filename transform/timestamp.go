package transform

import (
	"strings"
	"time"
)

// The window of plausible times opens with the year 2000: zero, 1970 and 1601 are how sources say "none".
var windowStart = time.Date(2000, time.January, 1, 0, 0, 0, 0, time.UTC).UnixMilli()

// windowAhead is how far a time may lie in the future.
const windowAhead = 24 * time.Hour

// clock is what a time is read against.
type clock struct {
	now  time.Time      // zero: no upper bound
	zone *time.Location // of times without one; nil: UTC, assumed
}

// timestamp reads v as a point in time, in milliseconds since 1970, truncated. assumed reports that UTC was taken for a
// time without zone. ok is false when v is no time or lies outside the window.
func (c clock) timestamp(v Value) (ms int64, assumed, ok bool) {
	text, scalar := v.Text()
	if !scalar {
		return 0, false, false
	}
	text = strings.TrimSpace(text)
	if d, numeric := parseDecimal(text); numeric {
		ms, ok = byMagnitude(d)
	} else {
		ms, assumed, ok = c.byLayout(text)
	}
	return ms, assumed, ok && c.inWindow(ms)
}

// Millis reads v as a point in time, in milliseconds since 1970, truncated; a time without zone as UTC. It is how two
// ways to write one time become the same part of an identity.
func Millis(v Value) (ms int64, ok bool) {
	ms, _, ok = clock{}.timestamp(v)
	return ms, ok
}

func (c clock) inWindow(ms int64) bool {
	return ms >= windowStart && (c.now.IsZero() || ms <= c.now.Add(windowAhead).UnixMilli())
}

const (
	year2000    = 946_684_800    // seconds since 1970
	year2100    = 4_102_444_800  // seconds since 1970
	fileTime    = 11_644_473_600 // seconds from 1601, where FILETIME starts, to 1970
	dotNetTicks = 62_135_596_800 // seconds from year 1, where .NET ticks start, to 1970
)

// units are what a number may count, for dates from 2000 to 2100: the ranges are disjoint, so that at most one fits.
var units = []struct {
	perSecond int64
	epoch     int64 // seconds from the unit's zero to 1970
}{
	{1, 0}, {1e3, 0}, {1e6, 0}, {1e7, fileTime}, {1e7, dotNetTicks}, {1e9, 0},
}

// byMagnitude finds a number's unit by its size: the documented unit is not always the delivered one.
func byMagnitude(d decimal) (ms int64, ok bool) {
	n, _ := d.truncated(0)
	for _, u := range units {
		if n < (year2000+u.epoch)*u.perSecond || n > (year2100+u.epoch)*u.perSecond {
			continue
		}
		if u.perSecond == 1 {
			n, _ = d.truncated(3)
			return n, true
		}
		return (n - u.epoch*u.perSecond) / (u.perSecond / 1000), true
	}
	return 0, false
}

// zonedLayouts carry an offset, nakedLayouts none. Go takes a fraction of any length, or none, in every one of them. No
// layout has a zone abbreviation: Go would read one that it does not know as UTC, hours off and without an error.
var (
	zonedLayouts = []string{
		time.RFC3339Nano,
		"2006-01-02T15:04:05.999999999-0700",
		"2006-01-02 15:04:05.999999999Z07:00",
		"2006-01-02 15:04:05.999999999 Z07:00",
		"2006-01-02 15:04:05.999999999 -0700",
		"2006-01-02T15:04:05.999999999Z07",
		"2006-01-02T15:04Z07:00",
		"20060102T150405Z0700",
		time.RFC1123Z,
		"Mon, _2 Jan 2006 15:04:05 -0700",
		"02/Jan/2006:15:04:05 -0700",
		"Mon Jan _2 15:04:05 UTC 2006",
	}
	nakedLayouts = []string{
		"2006-01-02T15:04:05.999999999",
		"2006-01-02 15:04:05.999999999",
		"2006/01/02 15:04:05.999999999",
		"Mon, _2 Jan 2006 15:04:05", // RFC 9110's, once GMT is taken off
		time.ANSIC,
		"Jan _2 2006 15:04:05.999999999",
	}
)

// layoutsOf are the layouts by what the texts that fit them have in common. Trying one that cannot fit is dear: it ends
// in an error that quotes the text.
var layoutsOf = func() (all [shapes]struct{ zoned, naked []string }) {
	for _, layout := range zonedLayouts {
		fitting := &all[shape(layout)]
		fitting.zoned = append(fitting.zoned, layout)
	}
	for _, layout := range nakedLayouts {
		fitting := &all[shape(layout)]
		fitting.naked = append(fitting.naked, layout)
	}
	return all
}()

const (
	dateThenT = iota
	dateThenBlank
	nameFirst // of a day or a month
	otherShape
	shapes
)

// shape is the same for a layout and for every text that fits it. The text has at least 11 bytes.
func shape(text string) int {
	switch date, after := text[:len("2006-01-02")], text[len("2006-01-02")]; {
	case date[0] > '9':
		return nameFirst
	case date[4] == '-' && after == 'T':
		return dateThenT
	case date[4] == '-' && after == ' ':
		return dateThenBlank
	}
	return otherShape
}

func (c clock) byLayout(text string) (ms int64, assumed, ok bool) {
	if len(text) < len("20060102T150405Z") || len(text) > 64 {
		return 0, false, false
	}
	if text[len("2006-01-02")] == 't' { // RFC 3339 takes small letters as well
		text = strings.ToUpper(text)
	}
	fitting := &layoutsOf[shape(text)]
	if strings.ContainsAny(text[len("2006-01-02"):], "+-ZU") { // an offset, Z or UTC
		for _, layout := range fitting.zoned {
			if t, err := time.Parse(layout, text); err == nil {
				return t.UnixMilli(), false, true
			}
		}
	}
	zone := c.zone
	naked, named := cutUTC(text)
	switch {
	case named:
		zone = time.UTC
	case zone == nil:
		zone, assumed = time.UTC, true
	}
	for _, layout := range fitting.naked {
		if t, err := time.ParseInLocation(layout, naked, zone); err == nil {
			return t.UnixMilli(), assumed, true
		}
	}
	return 0, false, false
}

// cutUTC takes off the only zone names that mean one thing everywhere. CST, IST and BST are three zones each.
func cutUTC(text string) (naked string, found bool) {
	for _, name := range []string{" UTC", " GMT", " Z"} {
		if before, ok := strings.CutSuffix(text, name); ok {
			return strings.TrimSpace(before), true
		}
	}
	return text, false
}
