package transform

import (
	"math"
	"strings"
)

// decimal is a number exactly as it was written: 0.digits × 10^exp. float64 would lose the end of a FILETIME, and an
// arbitrary-precision number would let 1e999999999 take all memory.
type decimal struct {
	negative bool
	digits   string // without leading and trailing zeros; empty: zero
	exp      int
}

// maxExponent bounds an exponent: what lies beyond is above or below every range there is.
const maxExponent = 1 << 20

// parseDecimal reads a JSON number, and what people write in its place: leading zeros, a leading +, a bare fraction.
func parseDecimal(s string) (decimal, bool) {
	var d decimal
	s = strings.TrimSpace(s)
	if s != "" && (s[0] == '-' || s[0] == '+') {
		d.negative = s[0] == '-'
		s = s[1:]
	}
	whole, s := cutDigits(s)
	var fraction string
	if strings.HasPrefix(s, ".") {
		fraction, s = cutDigits(s[1:])
	}
	if whole == "" && fraction == "" {
		return decimal{}, false
	}
	exponent, ok := parseExponent(s)
	if !ok {
		return decimal{}, false
	}
	digits := whole
	if fraction != "" {
		digits += fraction
	}
	d.digits = strings.TrimLeft(digits, "0")
	d.exp = len(whole) - (len(digits) - len(d.digits)) + exponent
	d.digits = strings.TrimRight(d.digits, "0")
	return d, true
}

func cutDigits(s string) (digits, rest string) {
	n := 0
	for n < len(s) && '0' <= s[n] && s[n] <= '9' {
		n++
	}
	return s[:n], s[n:]
}

// parseExponent reads nothing, or e, an optional sign and digits.
func parseExponent(s string) (int, bool) {
	if s == "" {
		return 0, true
	}
	if s[0] != 'e' && s[0] != 'E' {
		return 0, false
	}
	s = s[1:]
	sign := 1
	if s != "" && (s[0] == '-' || s[0] == '+') {
		if s[0] == '-' {
			sign = -1
		}
		s = s[1:]
	}
	digits, rest := cutDigits(s)
	if digits == "" || rest != "" {
		return 0, false
	}
	n := 0
	for _, c := range digits {
		n = min(n*10+int(c-'0'), maxExponent)
	}
	return sign * n, true
}

// truncated returns d × 10^shift without its fraction, at the ends of int64 when it lies outside; exact reports that
// nothing was cut.
func (d decimal) truncated(shift int) (n int64, exact bool) {
	n, _, exact = d.whole(shift)
	return n, exact
}

// rounded returns d rounded half away from zero, at the ends of int64 when it lies outside; exact reports that it is d.
func (d decimal) rounded() (n int64, exact bool) {
	n, next, exact := d.whole(0)
	if next < '5' || n == math.MaxInt64 || n == math.MinInt64 {
		return n, exact
	}
	if d.negative {
		return n - 1, exact
	}
	return n + 1, exact
}

// whole returns the integer part of d × 10^shift and the digit after it.
func (d decimal) whole(shift int) (n int64, next byte, exact bool) {
	exp := d.exp + shift
	if d.digits == "" {
		return 0, '0', true
	}
	if exp < 0 {
		return 0, '0', false
	}
	if exp > 19 { // 19 digits fit into a uint64
		return d.end(), '0', false
	}
	var u uint64
	for i := range exp {
		u *= 10
		if i < len(d.digits) {
			u += uint64(d.digits[i] - '0')
		}
	}
	next, exact = '0', len(d.digits) <= exp
	if !exact {
		next = d.digits[exp]
	}
	switch {
	case !d.negative && u > math.MaxInt64, d.negative && u > 1<<63:
		return d.end(), '0', false
	case d.negative:
		return -int64(u), next, exact
	}
	return int64(u), next, exact
}

// overflows reports whether d lies outside int64.
func (d decimal) overflows() bool {
	n, exact := d.truncated(0)
	return !exact && n == d.end()
}

func (d decimal) end() int64 {
	if d.negative {
		return math.MinInt64
	}
	return math.MaxInt64
}
