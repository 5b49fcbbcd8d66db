package transform

import (
	"math"
	"testing"
)

func TestDecimalRoundsHalfAwayFromZero(t *testing.T) {
	for _, tc := range []struct {
		in      string
		rounded int64
		exact   bool
	}{
		{"0", 0, true}, {"-0", 0, true}, {"0.0", 0, true}, {"7", 7, true}, {"007", 7, true}, {"+7", 7, true}, {" 7 ", 7, true},
		{"0.5", 1, false}, {"-0.5", -1, false}, {".5", 1, false}, {"5.", 5, true}, {"0.49999999999999999999", 0, false},
		{"2.5", 3, false}, {"-2.5", -3, false}, {"99.4", 99, false}, {"1e2", 100, true}, {"1.005E2", 101, false}, {"12345e-2", 123, false},
		{"0.05", 0, false}, {"0e999999999999", 0, true}, {"1e999999999999", math.MaxInt64, false}, {"-1e400", math.MinInt64, false},
		{"1e-999999999999", 0, false}, {"9007199254740993", 9007199254740993, true},
		{"9223372036854775807", math.MaxInt64, true}, {"9223372036854775808", math.MaxInt64, false},
		{"-9223372036854775808", math.MinInt64, true}, {"-9223372036854775809", math.MinInt64, false},
		{"99999999999999999999999", math.MaxInt64, false},
	} {
		d, ok := parseDecimal(tc.in)
		if !ok {
			t.Errorf("%q is no number", tc.in)
			continue
		}
		if n, exact := d.rounded(); n != tc.rounded || exact != tc.exact {
			t.Errorf("%q: got %d %v, want %d %v", tc.in, n, exact, tc.rounded, tc.exact)
		}
	}
	for _, in := range []string{"", " ", "-", ".", "e5", "1e", "1e+", "1x", "0x10", "1,5", "1 2", "NaN", "--1", "1.2.3", "1e5.5", "∞"} {
		if d, ok := parseDecimal(in); ok {
			t.Errorf("%q was read as %+v", in, d)
		}
	}
}
