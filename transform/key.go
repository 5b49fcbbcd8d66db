package transform

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"strconv"
)

// The first part of what is hashed names the rule. Whoever changes a rule changes its name; stored documents are
// searched for by these keys, and a golden test holds them.
const (
	dedupRule    = "serbridge dedup 1"
	deliveryRule = "serbridge delivery 1"
)

// keyText is what a key hashes: parts, each behind its length in 8 bytes, so that no two lists run together into the
// same bytes.
type keyText []byte

func (t keyText) add(part string) keyText {
	t = binary.BigEndian.AppendUint64(t, uint64(len(part)))
	return append(t, part...)
}

func (t keyText) addNumber(n int64) keyText {
	var digits [20]byte
	return t.add(string(strconv.AppendInt(digits[:0], n, 10)))
}

// addValue adds a value as its JSON text, so that 1 and "1" differ.
func (t keyText) addValue(v Value) keyText {
	start := len(t)
	t = binary.BigEndian.AppendUint64(t, 0)
	t = v.appendTo(t)
	binary.BigEndian.PutUint64(t[start:], uint64(len(t)-start-8))
	return t
}

func (t keyText) sum() string {
	sum := sha256.Sum256(t)
	var digits [2 * sha256.Size]byte
	hex.Encode(digits[:], sum[:])
	return string(digits[:])
}

// usualKey is the size of a key's text that needs no allocation.
const usualKey = 512

// DeliveryKey is the key of the document that a part of the record becomes: cluster, topic, partition, offset, part and
// replay, whatever the record holds.
func DeliveryKey(in *Input, part int) string {
	text := make(keyText, 0, usualKey)
	text = text.add(deliveryRule).add(in.ClusterID).add(in.Topic)
	text = text.addNumber(int64(in.Partition)).addNumber(in.Offset).addNumber(int64(part))
	return text.add(in.ReplayID).sum()
}

// identity appends what dedup_key hashes: the identity that the mapping found. A detection with neither an id nor a time of
// its own has nothing that tells it from the next one of its name: there it is the record's bytes and the part.
func (b *builder) identity(text keyText, part int) keyText {
	text = text.add(dedupRule).add(b.d.Format)
	timeless := (b.flags[timeFromKafka] || b.flags[timeFromClock]) && !b.d.Identified
	if len(b.d.Identity) == 0 || timeless && b.value(origIDField).IsAbsent() {
		return text.add("record").add(b.nativeText()).add(strconv.Itoa(part))
	}
	for _, v := range b.d.Identity {
		text = text.addValue(v)
	}
	return text
}
