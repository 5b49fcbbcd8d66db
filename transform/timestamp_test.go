package transform

import (
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

var testNow = time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC)

func TestTimestampOfEveryUnitAndLayout(t *testing.T) {
	const at = 1714567890123 // 2024-05-01T12:51:30.123Z
	for _, tc := range []struct {
		name    string
		in      Value
		want    int64
		assumed bool
	}{
		{"seconds", number("1714567890"), 1714567890000, false},
		{"seconds with fraction, truncated", number("1714567890.1239"), at, false},
		{"seconds with exponent", number("1.7145678901239e9"), at, false},
		{"seconds as text", String(" 1714567890.1239 "), at, false},
		{"milliseconds", number("1714567890123"), at, false},
		{"milliseconds with fraction", number("1714567890123.999"), at, false},
		{"microseconds", number("1714567890123999"), at, false},
		{"nanoseconds beyond 2^53", number("1714567890123999999"), at, false},
		{"nanoseconds as text", String("1714567890123999999"), at, false},
		{"FILETIME", number("133590414901239999"), at, false},
		{".NET ticks", number("638501646901239999"), at, false},
		{"first of the window", number("946684800"), 946684800000, false},
		{"RFC 3339", String("2024-05-01T12:51:30.123999999Z"), at, false},
		{"RFC 3339 with offset", String("2024-05-01T08:51:30.123-04:00"), at, false},
		{"seven digits", String("2024-05-01T12:51:30.1239999Z"), at, false},
		{"comma", String("2024-05-01T12:51:30,123Z"), at, false},
		{"offset without colon", String("2024-05-01T18:21:30.123+0530"), at, false},
		{"T, no zone", String("2024-05-01T12:51:30.123456"), at, true},
		{"T, no zone, no fraction", String("2024-05-01T12:51:30"), 1714567890000, true},
		{"blank, no zone", String("2024-05-01 12:51:30.123456789"), at, true},
		{"blank, Z", String("2024-05-01 12:51:30Z"), 1714567890000, false},
		{"blank, offset", String("2024-05-01 14:51:30.123+02:00"), at, false},
		{"blank before the offset", String("2024-05-01 14:51:30.123 +02:00"), at, false},
		{"blank before Z", String("2024-05-01 12:51:30.123 Z"), at, false},
		{"UTC named", String("2024-05-01 12:51:30.123 UTC"), at, false},
		{"GMT named", String("May 01 2024 12:51:30.123 GMT"), at, false},
		{"small letters", String("2024-05-01t12:51:30.123z"), at, false},
		{"blank before an offset without colon", String("2024-05-01 14:51:30.123 +0200"), at, false},
		{"offset of hours", String("2024-05-01T14:51:30.123+02"), at, false},
		{"no seconds", String("2024-05-01T12:51Z"), 1714567860000, false},
		{"ISO 8601, basic", String("20240501T125130Z"), 1714567890000, false},
		{"ISO 8601, basic, offset", String("20240501T145130+0200"), 1714567890000, false},
		{"HTTP", String("Wed, 01 May 2024 12:51:30 GMT"), 1714567890000, false},
		{"mail", String("Wed, 1 May 2024 14:51:30 +0200"), 1714567890000, false},
		{"access log", String("01/May/2024:14:51:30 +0200"), 1714567890000, false},
		{"date", String("Wed May  1 12:51:30 UTC 2024"), 1714567890000, false},
		{"slashes, no zone", String("2024/05/01 12:51:30.123"), at, true},
		{"C library", String("Wed May  1 12:51:30 2024"), 1714567890000, true},
		{"CEF", String("May 01 2024 12:51:30.123"), at, true},
		{"CEF, one digit", String("May 1 2024 12:51:30"), 1714567890000, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			ms, assumed, ok := clock{now: testNow}.timestamp(tc.in)
			if !ok || ms != tc.want || assumed != tc.assumed {
				t.Errorf("got %d assumed=%v ok=%v, want %d assumed=%v", ms, assumed, ok, tc.want, tc.assumed)
			}
		})
	}
}

// Each of these parses somewhere, and is wrong.
func TestTimestampRefusesWhatWouldBeSilentlyWrong(t *testing.T) {
	for _, in := range []string{
		"May 01 2024 12:51:30.009 CEST", "2024-05-01 12:51:30 CST", "2024-05-01 12:51:30 IST", "2024-05-01 12:51:30 PST", // hours off
		"May 11 12:29:18", "May 11 12:29:18 UTC", // no year
		"0", "-1", "0.0", "1970-01-01 00:00:00Z", "1601-01-01T00:00:00Z", "0001-01-01T00:00:00Z", "1999-12-31T23:59:59.999Z", // none
		"946684799", "4102444801", "5e10", "1e30", "99999999999999999999", "1e999999999", // no unit
		"", "-", "now", "NaN", "yesterday", "2024-05-01", "2024-13-01T00:00:00Z", "2024-02-30T00:00:00Z", strings.Repeat("2024-05-01T12:51:30", 10),
		"2026-07-02T12:00:00.001Z", "1783080000.001", // a day and a millisecond ahead
	} {
		if ms, _, ok := (clock{now: testNow}).timestamp(String(in)); ok {
			t.Errorf("%q was read as %d", in, ms)
		}
	}
	for _, v := range []Value{{}, boolean(true), Object(), texts([]string{"1714567890"})} {
		if ms, _, ok := (clock{now: testNow}).timestamp(v); ok {
			t.Errorf("%s was read as %d", asJSON(v), ms)
		}
	}
	if _, _, ok := (clock{now: testNow}).timestamp(String("2026-07-02T12:00:00Z")); !ok {
		t.Error("a day ahead is inside the window")
	}
}

func TestTimestampZone(t *testing.T) {
	berlin := time.FixedZone("", 2*60*60)
	c := clock{now: testNow, zone: berlin}
	for in, want := range map[string]int64{
		"2024-05-01T14:51:30":     1714567890000, // read in the zone that was set
		"2024-05-01T12:51:30Z":    1714567890000,
		"2024-05-01 12:51:30 UTC": 1714567890000,
	} {
		if ms, assumed, ok := c.timestamp(String(in)); !ok || assumed || ms != want {
			t.Errorf("%s: got %d assumed=%v ok=%v, want %d", in, ms, assumed, ok, want)
		}
	}
}

// FuzzTimestamp: it never panics, what it accepts lies inside the window, a time that it accepts is the same time when
// its milliseconds are read again, and no layout is passed over that fits.
func FuzzTimestamp(f *testing.F) {
	for _, s := range []string{"1714567890.5", "2024-05-01T1:51:30Z", "2024-05-01  12:51:30", "wed, 1 MAY 2024 14:51:30 +0200", "may 1 2024 1:51:30", "133590414901239999", "2024-05-01T12:51:30.1+0200", "May 01 2024 12:51:30 UTC", "1e309", "-0", "Wed May  1 12:51:30 2024"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		c := clock{now: testNow}
		ms, _, ok := c.timestamp(String(s))
		if text := strings.TrimSpace(s); !ok && len(text) >= len("20060102T150405Z") && len(text) <= 64 {
			for _, layout := range slices.Concat(zonedLayouts, nakedLayouts) {
				if at, err := time.Parse(layout, text); err == nil && c.inWindow(at.UnixMilli()) {
					t.Fatalf("%q fits the layout %q and was not read", s, layout)
				}
			}
		}
		if !ok {
			return
		}
		if ms < windowStart || ms > testNow.Add(windowAhead).UnixMilli() {
			t.Fatalf("%q is %d, outside the window", s, ms)
		}
		again, _, ok := c.timestamp(number(strconv.FormatInt(ms, 10)))
		if !ok || again != ms {
			t.Fatalf("%q is %d, and that is %d (%v)", s, ms, again, ok)
		}
	})
}
