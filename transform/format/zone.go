package format

import (
	"strconv"
	"strings"
	"time"

	"serbridge/transform"
)

func parseInteger(s string) (int64, error) { return strconv.ParseInt(strings.TrimSpace(s), 10, 64) }

// zoneHours are the abbreviations of time zones that mean one thing. Go's own layout MST would read one that it does not
// know as UTC, hours off and without an error. Not here, since each is two or three zones: CST, IST, BST, AST, SST.
var zoneHours = map[string]float64{
	"UTC": 0, "GMT": 0, "Z": 0, "WET": 0, "WEST": 1, "CET": 1, "CEST": 2, "MEZ": 1, "MESZ": 2, "EET": 2, "EEST": 3, "MSK": 3,
	"EST": -5, "EDT": -4, "CDT": -5, "MDT": -6, "PST": -8, "PDT": -7, "AKST": -9, "AKDT": -8, "HST": -10,
	"JST": 9, "KST": 9, "SGT": 8, "HKT": 8, "AWST": 8, "AEST": 10, "AEDT": 11, "NZST": 12, "NZDT": 13,
}

// zone returns the zone that a text names: an abbreviation, or an offset such as +02:00.
func zone(name string) (*time.Location, bool) {
	name = strings.TrimSpace(name)
	if hours, ok := zoneHours[strings.ToUpper(name)]; ok {
		return time.FixedZone("", int(hours*3600)), true
	}
	if name == "" || name[0] != '+' && name[0] != '-' {
		return nil, false
	}
	for _, layout := range []string{"-07:00", "-0700", "-07"} {
		if t, err := time.Parse(layout, name); err == nil {
			_, offset := t.Zone()
			return time.FixedZone("", offset), true
		}
	}
	return nil, false
}

// nakedLayouts are how logs write a time without a zone, or with one behind a blank.
var nakedLayouts = []string{
	"Jan _2 2006 15:04:05.999999999", "Jan _2 2006 15:04:05", "2006-01-02T15:04:05.999999999", "2006-01-02 15:04:05.999999999",
	"2006/01/02 15:04:05.999999999",
}

// zoned reads a time that names its zone by abbreviation behind a blank, or that has none and gets the one of the second
// argument. Absent when neither says which: a guess would be hours off.
func zoned(_ bool, args ...transform.Value) transform.Value {
	s, _ := args[0].Text()
	named, _ := args[1].Text()
	s = strings.TrimSpace(s)
	if i := strings.LastIndexByte(s, ' '); i > 0 {
		if _, ok := zone(s[i+1:]); ok && !strings.Contains(s[i+1:], ":00:") {
			s, named = s[:i], s[i+1:]
		}
	}
	in, ok := zone(named)
	if !ok {
		return transform.Value{}
	}
	for _, layout := range nakedLayouts {
		if t, err := time.ParseInLocation(layout, s, in); err == nil {
			return instant(t)
		}
	}
	return transform.Value{}
}

func instant(t time.Time) transform.Value {
	return transform.String(t.UTC().Format(time.RFC3339Nano))
}

// timed reads a time by a pattern in Java's letters, which is how LEEF names the layout of its devTime. The optional
// third argument is the zone of a time whose pattern has none.
func timed(_ bool, args ...transform.Value) transform.Value {
	s, _ := args[0].Text()
	pattern, _ := args[1].Text()
	layout, abbreviated, ok := layoutOf(pattern)
	if !ok {
		return transform.Value{}
	}
	s = strings.TrimSpace(s)
	named := "UTC"
	hasZone := strings.Contains(layout, "07")
	if len(args) == 3 {
		named, _ = args[2].Text()
	}
	if abbreviated {
		i := strings.LastIndexByte(s, ' ')
		if i < 0 {
			return transform.Value{}
		}
		s, named = s[:i], s[i+1:]
	}
	in, known := zone(named)
	if !known {
		if abbreviated || !hasZone && len(args) == 3 && named != "" {
			return transform.Value{}
		}
		in = time.UTC
	}
	t, err := time.ParseInLocation(layout, s, in)
	if err != nil {
		return transform.Value{}
	}
	if !hasZone && !abbreviated && len(args) < 3 { // naked: the clock assumes the zone, and flags it
		return transform.String(t.Format("2006-01-02T15:04:05.999999999"))
	}
	return instant(t)
}

// javaLetters are what runs of one letter in Java's pattern are in Go's layout, by the letter and how long the run is.
var javaLetters = map[string]string{
	"yyyy": "2006", "yy": "06", "uuuu": "2006", "MMM": "Jan", "MMMM": "January", "MM": "01", "M": "1", "dd": "02", "d": "2",
	"HH": "15", "H": "15", "hh": "03", "h": "3", "mm": "04", "m": "4", "ss": "05", "s": "5", "a": "PM", "EEE": "Mon", "EEEE": "Monday",
	"XXX": "Z07:00", "XX": "Z0700", "X": "Z07", "Z": "-0700", "ZZZZZ": "-07:00",
}

// layoutOf translates a pattern. abbreviated reports that it ends in z, a zone by name, which no layout may hold.
func layoutOf(pattern string) (layout string, abbreviated, ok bool) {
	pattern = strings.TrimSpace(pattern)
	var out strings.Builder
	for i := 0; i < len(pattern); {
		c := pattern[i]
		n := 1
		for i+n < len(pattern) && pattern[i+n] == c {
			n++
		}
		run := pattern[i : i+n]
		i += n
		switch letters, known := javaLetters[run]; {
		case known:
			out.WriteString(letters)
		case c == 'S':
			out.WriteString(strings.Repeat("0", n)) // behind a point or a comma, which Go reads as a fraction
		case c == 'z' && i == len(pattern):
			return strings.TrimRight(out.String(), " "), true, out.Len() > 0
		case c == '\'':
			end := strings.IndexByte(pattern[i:], '\'')
			if end < 0 {
				return "", false, false
			}
			out.WriteString(pattern[i : i+end])
			i += end + 1
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z':
			return "", false, false
		default:
			out.WriteString(run)
		}
	}
	return out.String(), false, out.Len() > 0
}
