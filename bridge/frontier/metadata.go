package frontier

import (
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"iter"
	"math"
	"math/bits"
	"slices"
	"strings"
)

// The commit metadata of version 1 (design, "Commit metadata"):
//
//	"sb1." + base64.RawStdEncoding( crc32c, big endian | fields ); no field at all: the empty string
//	crc32c = Castagnoli over uvarint length and bytes of the group, the same of the topic, the partition (4 bytes, big
//	         endian), the base (8 bytes, big endian) and the fields
//	field  = tag, 1 byte | uvarint length | bytes; tags ascend, so none is there twice; an unknown one is skipped
const (
	prefix = "sb1."

	tagRuns    = 1 // pairs of uvarint: gap (not settled since the last run, the first counts the base) and run, both >= 1
	tagBits    = 2 // bit i is offset base+i, least significant first; bit 0 is 0, the last byte is not 0
	tagCeiling = 3 // uvarint, distance from the base
	tagEnd     = 4 // uvarint, offset
	tagEpoch   = 5 // uvarint
	tagHeld    = 6 // empty
	tagUntil   = 7 // uvarint, milliseconds since 1970
	tagAsked   = 8 // at most maxAsked bytes

	defaultLimit = 3072  // characters; the broker's is offset.metadata.max.bytes, 4,096 by default
	highestLimit = 16384 // what fits into it is inside all caps of reading but the width

	// Caps of reading. Metadata may come from anybody who may commit to the group, and a few bytes can name any size.
	maxWidth      = 1 << 20 // of a settled offset, its distance from the base
	maxRuns       = 1 << 16
	maxCharacters = 1 << 18
	maxAsked      = 256

	fieldHeader    = 1 + 2 // tag, and the length of what fits into one commit
	checksumLength = 4
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Cause is why metadata was ignored: a closed set, for a metric's label.
type Cause string

// The causes. In each case consumption starts at the base without a map: repeats, never a loss.
const (
	CauseForeign   Cause = "foreign"   // not ours: another client committed, or kgo its member id
	CauseNewer     Cause = "newer"     // ours, of a later version: this binary was rolled back
	CauseDamaged   Cause = "damaged"   // no base64, or cut off
	CauseShifted   Cause = "shifted"   // the checksum: of another group, topic, partition or base, or a character changed
	CauseMalformed Cause = "malformed" // the checksum is right and the fields are not: a fault of the writer
	CauseOversized Cause = "oversized" // above a cap
)

// Causes returns all of them, to register a metric at zero.
func Causes() []Cause {
	return []Cause{CauseForeign, CauseNewer, CauseDamaged, CauseShifted, CauseMalformed, CauseOversized}
}

// MapError says why metadata was ignored. It quotes nothing of it.
type MapError struct {
	Cause  Cause
	Detail string
}

func (e *MapError) Error() string {
	return fmt.Sprintf("decode commit metadata: %s: %s", e.Cause, e.Detail)
}

// Map is what commit metadata says of a partition. The zero value says nothing. It is not changed once made.
type Map struct {
	Epoch   *int32 // leader epoch of the highest settled offset; without it no bit counts for a record that has an epoch
	Ceiling *int64 // no offset at or above it has been dispatched
	End     *int64 // end offset of a replay
	Until   *int64 // of a replay: records with a timestamp from here on, in milliseconds since 1970, are none of its
	Asked   []byte // of a replay: what it was asked for, as whoever began it puts that, at most 256 bytes
	Held    bool   // the partition is braked or paused: its backlog takes no share of the rate

	settled offsets
}

// Contains reports whether the map says that the offset, above the base, is settled.
func (m Map) Contains(offset int64) bool { return m.settled.has(offset) }

// Count returns how many offsets are settled above the base: they are lag to Kafka, but no work.
func (m Map) Count() int { return m.settled.count(math.MinInt64) }

// Runs yields the settled offsets as runs, ascending: the first offset and the one after the last.
func (m Map) Runs() iter.Seq2[int64, int64] { return m.settled.runs(math.MinInt64) }

// From returns the map for a base that moved up because the log now starts there. What is settled at and above it
// stays, the new base itself included: a frontier knows how to treat it, the codec never writes it.
func (m Map) From(base int64) Map {
	m.settled = m.settled.clone()
	m.settled.removeRange(math.MinInt64, base)
	return m
}

// Encode returns the metadata for a commit of base, of at most limit characters (0 is the default of 3,072, and no
// more than 16,384 are used). Of the settled set the prefix that fits is written; if the other fields do not fit, the empty string.
func (m Map) Encode(group, topic string, partition int32, base int64, limit int) string {
	if limit == 0 {
		limit = defaultLimit
	}
	epoch := int32(-1)
	if m.Epoch != nil {
		epoch = *m.Epoch
	}
	text, _ := m.encode(keyChecksum(group, topic, partition), base, limit, func(int64) int32 { return epoch })
	return text
}

// keyChecksum starts the checksum with what does not change during an assignment.
func keyChecksum(group, topic string, partition int32) uint32 {
	b := binary.AppendUvarint(nil, uint64(len(group)))
	b = append(b, group...)
	b = binary.AppendUvarint(b, uint64(len(topic)))
	b = append(b, topic...)
	b = binary.BigEndian.AppendUint32(b, uint32(partition))
	return crc32.Checksum(b, castagnoli)
}

func checksum(key uint32, base int64, fields []byte) uint32 {
	key = crc32.Update(key, castagnoli, binary.BigEndian.AppendUint64(nil, uint64(base)))
	return crc32.Update(key, castagnoli, fields)
}

// encode also returns the highest settled offset that it wrote, base if none: all that are settled between the two are
// written, and nothing above. epochOf gives the leader epoch of that offset, which is known only after the cut.
func (m Map) encode(key uint32, base int64, limit int, epochOf func(offset int64) int32) (string, int64) {
	space := (min(limit, highestLimit)-len(prefix))*6/8 - checksumLength
	reserved := len(m.appendFields(nil, base, math.MaxInt32))
	fields, last := appendSet(nil, &m.settled, base, space-reserved)
	epoch := int32(-1)
	if last > base {
		epoch = epochOf(last)
	}
	fields = m.appendFields(fields, base, epoch)
	if len(fields) == 0 || len(fields) > space {
		return "", base
	}
	body := binary.BigEndian.AppendUint32(make([]byte, 0, checksumLength+len(fields)), checksum(key, base, fields))
	return prefix + base64.RawStdEncoding.EncodeToString(append(body, fields...)), last
}

// appendFields appends all fields but the settled set; no epoch if it is -1.
func (m Map) appendFields(b []byte, base int64, epoch int32) []byte {
	if m.Ceiling != nil {
		b = appendUvarintField(b, tagCeiling, uint64(max(0, *m.Ceiling-base)))
	}
	if m.End != nil {
		b = appendUvarintField(b, tagEnd, uint64(*m.End))
	}
	if epoch >= 0 {
		b = appendUvarintField(b, tagEpoch, uint64(epoch))
	}
	if m.Held {
		b = append(b, tagHeld, 0)
	}
	if m.Until != nil {
		b = appendUvarintField(b, tagUntil, uint64(max(0, *m.Until)))
	}
	if len(m.Asked) > 0 {
		b = appendField(b, tagAsked, m.Asked)
	}
	return b
}

func appendUvarintField(b []byte, tag byte, v uint64) []byte {
	var value [binary.MaxVarintLen64]byte
	return appendField(b, tag, binary.AppendUvarint(value[:0], v))
}

func appendField(b []byte, tag byte, value []byte) []byte {
	b = append(b, tag)
	b = binary.AppendUvarint(b, uint64(len(value)))
	return append(b, value...)
}

// appendSet appends the settled set in the shorter of its two forms. Both are tried: which one is shorter is not
// guessed from the set, and neither takes longer than the limit allows. Cut, the one that reaches higher wins.
func appendSet(b []byte, set *offsets, base int64, space int) ([]byte, int64) {
	space -= fieldHeader
	asRuns, runsLast := encodeRuns(set, base, space)
	asBits, bitsLast := encodeBits(set, base, space)
	switch {
	case max(runsLast, bitsLast) == base:
		return b, base
	case runsLast > bitsLast || runsLast == bitsLast && len(asRuns) <= len(asBits):
		return appendField(b, tagRuns, asRuns), runsLast
	default:
		return appendField(b, tagBits, asBits), bitsLast
	}
}

func encodeRuns(set *offsets, base int64, space int) (b []byte, last int64) {
	last, gapStart := base, base // the first gap counts the base
	for first, end := range set.runs(base + 1) {
		end = min(end, base+maxWidth+1)
		if first >= end {
			break
		}
		fitting := len(b)
		b = binary.AppendUvarint(b, uint64(first-gapStart))
		b = binary.AppendUvarint(b, uint64(end-first))
		if len(b) > space {
			return b[:fitting], last
		}
		last, gapStart = end-1, end
	}
	return b, last
}

func encodeBits(set *offsets, base int64, space int) (b []byte, last int64) {
	top, ok := set.top(base + 1)
	if !ok || space <= 0 {
		return nil, base
	}
	size := min((top-base)/8+1, int64(space))
	shift := base & 63
	for at := base >> 6; int64(len(b)) < size; at++ {
		w := set.word(at)>>shift | set.word(at+1)<<(64-shift)
		b = binary.LittleEndian.AppendUint64(b, w)
	}
	b[0] &^= 1
	b = b[:size]
	for len(b) > 0 && b[len(b)-1] == 0 {
		b = b[:len(b)-1]
	}
	if len(b) == 0 {
		return nil, base
	}
	return b, base + int64(len(b)-1)*8 + highestBit(b[len(b)-1])
}

// Decode reads the metadata of a commit of base. The empty string is the zero Map. Any error is a *MapError, and means
// that there is no map: start from the base, count the cause, go on.
func Decode(group, topic string, partition int32, base int64, metadata string) (Map, error) {
	if metadata == "" {
		return Map{}, nil
	}
	text, err := unversioned(metadata)
	if err != nil {
		return Map{}, err
	}
	body, bad := base64.RawStdEncoding.Strict().DecodeString(text)
	if bad != nil || len(body) <= checksumLength {
		return Map{}, &MapError{CauseDamaged, "no base64, or too short"}
	}
	fields := body[checksumLength:]
	if checksum(keyChecksum(group, topic, partition), base, fields) != binary.BigEndian.Uint32(body) {
		return Map{}, &MapError{CauseShifted, "the checksum is not that of this group, topic, partition and base"}
	}
	return decodeFields(base, fields)
}

// unversioned cuts the prefix off.
func unversioned(metadata string) (string, error) {
	if text, ok := strings.CutPrefix(metadata, prefix); ok {
		if len(text) > maxCharacters {
			return "", &MapError{CauseOversized, "too many characters"}
		}
		return text, nil
	}
	version, _, ok := strings.Cut(metadata, ".")
	if digits, ours := strings.CutPrefix(version, "sb"); ok && ours && digits != "" && strings.Trim(digits, "0123456789") == "" {
		return "", &MapError{CauseNewer, "written by another version of serbridge"}
	}
	return "", &MapError{CauseForeign, "not written by serbridge"}
}

func decodeFields(base int64, b []byte) (Map, error) {
	var m Map
	if base < 0 || base > math.MaxInt64-2*maxWidth {
		return Map{}, malformed("no such base")
	}
	for tag := -1; len(b) > 0; {
		if int(b[0]) <= tag {
			return Map{}, malformed("tags do not ascend")
		}
		tag = int(b[0])
		length, n := binary.Uvarint(b[1:])
		if n <= 0 || length > uint64(len(b)-1-n) {
			return Map{}, malformed("a field is cut off")
		}
		b = b[1+n:]
		if err := m.decodeField(tag, base, b[:length]); err != nil {
			return Map{}, err
		}
		b = b[length:]
	}
	return m, nil
}

func (m *Map) decodeField(tag int, base int64, value []byte) error {
	switch tag {
	case tagRuns:
		return m.decodeRuns(base, value)
	case tagBits:
		if len(m.settled.pages) > 0 {
			return malformed("runs and bits")
		}
		return m.decodeBits(base, value)
	case tagCeiling:
		v, err := decodeUvarint(value, uint64(math.MaxInt64-base))
		m.Ceiling = new(base + int64(v))
		return err
	case tagEnd:
		v, err := decodeUvarint(value, math.MaxInt64)
		m.End = new(int64(v))
		return err
	case tagEpoch:
		v, err := decodeUvarint(value, math.MaxInt32)
		m.Epoch = new(int32(v))
		return err
	case tagHeld:
		if len(value) > 0 {
			return malformed("held has a value")
		}
		m.Held = true
	case tagUntil:
		v, err := decodeUvarint(value, math.MaxInt64)
		m.Until = new(int64(v))
		return err
	case tagAsked:
		if len(value) > maxAsked {
			return &MapError{CauseOversized, "more was asked for than a commit may say"}
		}
		m.Asked = slices.Clone(value)
	}
	return nil
}

func (m *Map) decodeRuns(base int64, b []byte) error {
	if len(b) == 0 {
		return malformed("no run")
	}
	next, from := base, uint64(0) // from: distance of next from the base
	for runs := 0; len(b) > 0; runs++ {
		gap, n := binary.Uvarint(b)
		if n <= 0 {
			return malformed("a gap is cut off")
		}
		run, k := binary.Uvarint(b[n:])
		if k <= 0 {
			return malformed("a run is cut off")
		}
		if gap == 0 || run == 0 {
			return malformed("an empty gap or run")
		}
		if runs == maxRuns || gap > maxWidth || run > maxWidth || from+gap+run-1 > maxWidth {
			return &MapError{CauseOversized, "too many runs or offsets"}
		}
		first := next + int64(gap)
		next, from = first+int64(run), from+gap+run
		m.settled.addRange(first, next)
		b = b[n+k:]
	}
	return nil
}

func (m *Map) decodeBits(base int64, b []byte) error {
	if len(b) == 0 || b[len(b)-1] == 0 {
		return malformed("no bits at the end")
	}
	if b[0]&1 != 0 {
		return malformed("the base is settled")
	}
	if int64(len(b)-1)*8+highestBit(b[len(b)-1]) > maxWidth {
		return &MapError{CauseOversized, "too many offsets"}
	}
	for i, w := range b {
		for j := range int64(8) {
			if w>>j&1 == 1 {
				m.settled.add(base + int64(i)*8 + j)
			}
		}
	}
	runs := 0
	for range m.settled.runs(base) {
		if runs++; runs > maxRuns {
			return &MapError{CauseOversized, "too many runs"}
		}
	}
	return nil
}

func decodeUvarint(b []byte, highest uint64) (uint64, error) {
	v, n := binary.Uvarint(b)
	if n <= 0 || n != len(b) || v > highest {
		return 0, malformed("a number is cut off, too long or too large")
	}
	return v, nil
}

func malformed(detail string) error { return &MapError{CauseMalformed, detail} }

// highestBit is the index of the highest 1 of a byte that is not 0.
func highestBit(b byte) int64 { return int64(bits.Len8(b)) - 1 }
