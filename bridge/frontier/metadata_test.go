package frontier

import (
	"encoding/base64"
	"encoding/binary"
	"errors"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// seal gives fields a right prefix and checksum, as a hostile or faulty writer could.
func seal(base int64, fields ...byte) string {
	sum := checksum(keyChecksum("g", "t", 3), base, fields)
	return prefix + base64.RawStdEncoding.EncodeToString(append(binary.BigEndian.AppendUint32(nil, sum), fields...))
}

func uvarints(values ...uint64) (b []byte) {
	for _, v := range values {
		b = binary.AppendUvarint(b, v)
	}
	return b
}

// The sizes of delivery.md 4, up to 3 characters off; runs of a random sample, 10 %.
func TestSizesAreThoseOfTheTable(t *testing.T) {
	tests := []struct {
		name   string
		width  int64
		open   float64
		tag    byte
		want   int
		random int // tolerance
	}{
		{"50,000 in a row", 50_000, 0, tagRuns, 16, 0},
		{"128 wide, half open", 128, 0.5, tagBits, 35, 0},
		{"256 wide, 12 % open", 256, 0.12, tagBits, 56, 0},
		{"16,384 wide, 5 % open", 16384, 0.05, tagRuns, 2172, 217},
		{"16,384 wide, 1 % open", 16384, 0.01, tagRuns, 472, 47},
		{"16,384 wide, half open", 16384, 0.5, tagBits, 2746, 0},
		{"20,000 wide, 1 % open", 20000, 0.01, tagRuns, 612, 61},
		{"100,000 wide, 0.1 % open", 100000, 0.001, tagRuns, 375, 37},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var m Map
			m.settled.addRange(1, tt.width)
			for _, i := range rand.New(rand.NewPCG(7, 7)).Perm(int(tt.width) - 2)[:int(float64(tt.width)*tt.open)] {
				m.settled.removeRange(int64(i)+1, int64(i)+2)
			}
			text := m.Encode("g", "t", 3, 0, 0)
			body, err := base64.RawStdEncoding.DecodeString(text[len(prefix):])
			if err != nil {
				t.Fatal(err)
			}
			if body[checksumLength] != tt.tag || len(text) < tt.want-3-tt.random || len(text) > tt.want+3+tt.random {
				t.Errorf("tag %d, %d characters, want tag %d, %d", body[checksumLength], len(text), tt.tag, tt.want)
			}
			sameMap(t, decode(t, 0, text), m)
		})
	}
}

func decode(t *testing.T, base int64, text string) Map {
	t.Helper()
	m, err := Decode("g", "t", 3, base, text)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func sameMap(t *testing.T, got, want Map) {
	t.Helper()
	if g, w := slices.Collect(firsts(got)), slices.Collect(firsts(want)); !slices.Equal(g, w) || got.Count() != want.Count() {
		t.Errorf("settled %d in runs from %v, want %d from %v", got.Count(), g, want.Count(), w)
	}
	if !same(got.Epoch, want.Epoch) || !same(got.Ceiling, want.Ceiling) || !same(got.End, want.End) || got.Held != want.Held ||
		!same(got.Until, want.Until) || !slices.Equal(got.Asked, want.Asked) {
		t.Errorf("fields %+v, want %+v", got, want)
	}
}

func firsts(m Map) func(func(int64) bool) {
	return func(yield func(int64) bool) {
		for first, end := range m.Runs() {
			if !yield(first) || !yield(end) {
				return
			}
		}
	}
}

func same[T comparable](a, b *T) bool {
	return a == nil && b == nil || a != nil && b != nil && *a == *b
}

// Written down once, with a checksum computed apart from this package, so that no later version changes what an older
// binary wrote.
func TestFormatStays(t *testing.T) {
	var m Map
	m.settled.addRange(1002, 1100)
	m.settled.add(1105)
	m.Epoch, m.Ceiling, m.End, m.Held = new(int32(9)), new(int64(1200)), new(int64(5000)), true
	fields := []byte{
		tagRuns, 4, 2, 98, 5, 1,
		tagCeiling, 2, 0xc8, 0x01,
		tagEnd, 2, 0x88, 0x27,
		tagEpoch, 1, 9,
		tagHeld, 0,
	}
	const want = "sb1.kD01YgEEAmIFAQMCyAEEAognBQEJBgA"
	if got := m.Encode("g", "t", 3, 1000, 0); got != seal(1000, fields...) || got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	sameMap(t, decode(t, 1000, want), m)
}

func TestNoFieldIsTheEmptyString(t *testing.T) {
	if got := (Map{}).Encode("g", "t", 3, 1000, 0); got != "" {
		t.Errorf("got %q", got)
	}
	sameMap(t, decode(t, 1000, ""), Map{})
}

func TestUntilStays(t *testing.T) {
	m := Map{End: new(int64(5)), Until: new(int64(1_750_000_000_000))}
	got := m.Encode("g", "t", 3, 0, 0)
	if want := seal(0, tagEnd, 1, 5, tagUntil, 6, 0x80, 0xb8, 0x83, 0xa1, 0xf7, 0x32); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	sameMap(t, decode(t, 0, got), m)
}

func TestAskedStays(t *testing.T) {
	m := Map{End: new(int64(5)), Asked: []byte("asked")}
	got := m.Encode("g", "t", 3, 0, 0)
	if want := seal(0, append([]byte{tagEnd, 1, 5, 8, 5}, "asked"...)...); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	sameMap(t, decode(t, 0, got), m)
	if _, err := Decode("g", "t", 3, 0, Map{Asked: make([]byte, 257)}.Encode("g", "t", 3, 0, 0)); err == nil {
		t.Error("any number of bytes is taken in")
	}
}

// A map without fields beside it, an end without a set: what a replay commits first.
func TestEndAlone(t *testing.T) {
	m := Map{End: new(int64(0))}
	sameMap(t, decode(t, 7, m.Encode("g", "t", 3, 7, 0)), m)
	if got := m.Encode("g", "t", 3, 7, 12); got != "" {
		t.Errorf("%q is above the limit", got)
	}
}

// Pitfalls 2, 3, 4 and 10.
func TestForeignDamagedShiftedAndHostileMetadataIsNoMap(t *testing.T) {
	var m Map
	m.settled.addRange(1005, 1050)
	good := m.Encode("g", "t", 3, 1000, 0)
	many := uvarints(slices.Repeat([]uint64{1, 1}, maxRuns+1)...)
	huge := make([]byte, maxWidth/8+2)
	huge[len(huge)-1] = 1
	checker := slices.Repeat([]byte{0xaa}, maxRuns/4+1)
	tests := []struct {
		name, metadata string
		want           Cause
	}{
		{"member id", "serbridge-7f9c-0b1e", CauseForeign},
		{"Kafka Streams", "AgAAAYtZ", CauseForeign},
		{"without version", "sb.AAAA", CauseForeign},
		{"another word", "sbx.AAAA", CauseForeign},
		{"later version", "sb2." + good[len(prefix):], CauseNewer},
		{"no base64", good + "*", CauseDamaged},
		{"prefix alone", prefix, CauseDamaged},
		{"checksum alone", seal(1000), CauseDamaged},
		{"cut off", good[:len(good)-4], CauseShifted},
		{"cut off inside a byte", good[:len(good)-1], CauseDamaged},
		{"a character changed", strings.Replace(good, good[5:6], "z", 1), CauseShifted},
		{"shifted: of another base", m.Encode("g", "t", 3, 1001, 0), CauseShifted},
		{"of another partition", m.Encode("g", "t", 4, 1000, 0), CauseShifted},
		{"of another topic", m.Encode("g", "u", 3, 1000, 0), CauseShifted},
		{"of another group", m.Encode("h", "t", 3, 1000, 0), CauseShifted},
		{"of names that run together", m.Encode("gt", "", 3, 1000, 0), CauseShifted},
		{"length beyond the end", seal(1000, tagRuns, 9, 1, 1), CauseMalformed},
		{"length cut off", seal(1000, tagHeld, 0x80), CauseMalformed},
		{"field twice", seal(1000, tagHeld, 0, tagHeld, 0), CauseMalformed},
		{"fields in the wrong order", seal(1000, tagHeld, 0, tagEpoch, 1, 1), CauseMalformed},
		{"runs and bits", seal(1000, tagRuns, 2, 1, 1, tagBits, 1, 2), CauseMalformed},
		{"no runs", seal(1000, tagRuns, 0), CauseMalformed},
		{"no first gap: the base is settled", seal(1000, tagRuns, 2, 0, 1), CauseMalformed},
		{"no gap", seal(1000, tagRuns, 4, 1, 1, 0, 1), CauseMalformed},
		{"no run", seal(1000, tagRuns, 2, 1, 0), CauseMalformed},
		{"gap without run", seal(1000, tagRuns, 3, 1, 1, 1), CauseMalformed},
		{"bit 0: the base is settled", seal(1000, tagBits, 1, 3), CauseMalformed},
		{"no bits", seal(1000, tagBits, 0), CauseMalformed},
		{"no bits at the end", seal(1000, tagBits, 2, 2, 0), CauseMalformed},
		{"ceiling with more behind", seal(1000, tagCeiling, 2, 1, 1), CauseMalformed},
		{"end above all offsets", seal(1000, appendUvarintField(nil, tagEnd, math.MaxUint64)...), CauseMalformed},
		{"ceiling above all offsets", seal(1000, appendUvarintField(nil, tagCeiling, math.MaxInt64)...), CauseMalformed},
		{"epoch above all epochs", seal(1000, appendUvarintField(nil, tagEpoch, 1<<31)...), CauseMalformed},
		{"held with a value", seal(1000, tagHeld, 1, 1), CauseMalformed},
		{"a gap of a billion", seal(1000, appendField(nil, tagRuns, uvarints(1<<30, 1))...), CauseOversized},
		{"a run of 2^64-1", seal(1000, appendField(nil, tagRuns, uvarints(1, math.MaxUint64))...), CauseOversized},
		{"a run beyond a million", seal(1000, appendField(nil, tagRuns, uvarints(2, maxWidth))...), CauseOversized},
		{"too many runs", seal(1000, appendField(nil, tagRuns, many)...), CauseOversized},
		{"bits beyond a million", seal(1000, appendField(nil, tagBits, huge)...), CauseOversized},
		{"too many runs in bits", seal(1000, appendField(nil, tagBits, checker)...), CauseOversized},
		{"too many characters", prefix + strings.Repeat("A", maxCharacters+1), CauseOversized},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m, err := Decode("g", "t", 3, 1000, tt.metadata)
			var cause *MapError
			if !errors.As(err, &cause) || cause.Cause != tt.want || !slices.Contains(Causes(), cause.Cause) {
				t.Fatalf("got %v, want %s", err, tt.want)
			}
			sameMap(t, m, Map{})
		})
	}
}

func TestUnknownTagsAreSkipped(t *testing.T) {
	m := decode(t, 1000, seal(1000, 0, 1, 7, tagRuns, 2, 3, 2, tagHeld, 0, 9, 3, 1, 2, 3, 200, 0))
	if m.Count() != 2 || !m.Contains(1003) || !m.Contains(1004) || !m.Held {
		t.Errorf("%d settled, held %t", m.Count(), m.Held)
	}
}

// The widest map that may be read, and the prefix of a wider set.
func TestMillionIsTheWidest(t *testing.T) {
	var m Map
	m.settled.addRange(1001, 1000+2*maxWidth)
	got := decode(t, 1000, m.Encode("g", "t", 3, 1000, math.MaxInt))
	if got.Count() != maxWidth || !got.Contains(1000+maxWidth) {
		t.Errorf("%d settled, want the prefix of %d", got.Count(), maxWidth)
	}
}

// The largest limit, and the worst set for it, stay inside the caps: no owner writes what the next would refuse.
func TestNothingIsWrittenThatCannotBeRead(t *testing.T) {
	for _, gap := range []int64{2, 3, 9, 40, 130, 5000} {
		var m Map
		for o := int64(1000) + gap; o < 3*maxWidth; o += gap {
			m.settled.add(o)
		}
		if got := decode(t, 1000, m.Encode("g", "t", 3, 1000, math.MaxInt)); got.Count() < 200 {
			t.Errorf("gap %d: %d settled", gap, got.Count())
		}
	}
}

// Pitfall 6: a cut map is a prefix, and the longer of the two forms.
func TestCutIsPrefix(t *testing.T) {
	random := rand.New(rand.NewPCG(5, 5))
	for range 300 {
		var m Map
		base, share := random.Int64N(1<<40), random.Float64()
		for o := int64(1); o < 3000; o++ {
			if random.Float64() < share {
				m.settled.add(base + o)
			}
		}
		m.Held = random.IntN(2) == 0
		limit := 1 + random.IntN(600)
		text, last := m.encode(keyChecksum("g", "t", 3), base, limit, func(int64) int32 { return 5 })
		if len(text) > limit {
			t.Fatalf("%d characters, limit %d", len(text), limit)
		}
		want := Map{settled: m.settled.clone(), Held: m.Held && text != ""}
		want.settled.removeRange(last+1, math.MaxInt64)
		if last > base {
			want.Epoch = new(int32(5))
		}
		sameMap(t, decode(t, base, text), want)
	}
}

func TestFromKeepsWhatIsAbove(t *testing.T) {
	var m Map
	m.settled.addRange(5, 5000)
	if up := m.From(4999); up.Count() != 1 || !up.Contains(4999) || m.Count() != 4995 {
		t.Errorf("%d left, %d in the original", up.Count(), m.Count())
	}
}

// FuzzDecode: whatever stands in the metadata, and whoever sealed it: no panic, nothing settled at or below the base or
// above the caps, and what is read can be written and read again.
func FuzzDecode(f *testing.F) {
	f.Add(int64(1000), "sb1.kD01YgEEAmIFAQMCyAEEAognBQEJBgA", []byte{tagRuns, 2, 3, 2})
	f.Add(int64(0), "", []byte{tagBits, 2, 0xaa, 1, tagEpoch, 1, 3, tagHeld, 0})
	f.Add(int64(math.MaxInt64), "sb2.AAAA", []byte{tagRuns, 4, 0xff, 0xff, 0x3f, 1})
	f.Fuzz(func(t *testing.T, base int64, text string, fields []byte) {
		for _, metadata := range []string{text, seal(base, fields...)} {
			m, err := Decode("g", "t", 3, base, metadata)
			var cause *MapError
			if err != nil && (!errors.As(err, &cause) || !slices.Contains(Causes(), cause.Cause)) {
				t.Fatalf("error %v", err)
			}
			if len(m.settled.pages) > maxWidth/4096+2 {
				t.Fatalf("%d pages", len(m.settled.pages))
			}
			for first, end := range m.Runs() {
				if first <= base || end-1-base > maxWidth {
					t.Fatalf("settled %d to %d, base %d", first, end, base)
				}
			}
			again, last := m.encode(keyChecksum("g", "t", 3), base, highestLimit, func(int64) int32 {
				if m.Epoch == nil {
					return -1
				}
				return *m.Epoch
			})
			if m.settled.removeRange(last+1, math.MaxInt64); m.Count() == 0 {
				m.Epoch = nil // that of no offset is not written
			}
			sameMap(t, decode(t, base, again), m)
		}
	})
}
