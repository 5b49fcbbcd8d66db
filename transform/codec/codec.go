package codec

import (
	"bytes"
	"errors"
	"fmt"

	"serbridge/transform"
)

// Bounds of what one value may expand to.
const (
	mostRatio    = 100
	leastAllowed = 16 << 10
	mostAllowed  = 16 << 20
)

// allowed is how many bytes may come of a value.
func allowed(value []byte) int { return min(max(mostRatio*len(value), leastAllowed), mostAllowed) }

// Expansion is how many bytes Decode may make of a value, at most; 0 of text, which it leaves as it is. Whoever holds records
// has to have room for so many.
func Expansion(value []byte) int {
	if compressionOf(value) == nil && !bytes.HasPrefix(value, containerMagic) && !isFramed(value) {
		return 0
	}
	return allowed(value)
}

// errTooFar says that more would come of a value than may.
var errTooFar = errors.New("it expands too far")

// Decode returns in.Value as text for the package format: as it came, or what was under a compression, an object container
// or a registry's frame. Else it is a reject, or a hold until the schema has been read.
func Decode(in *transform.Input) ([]byte, *transform.Hold, *transform.Reject) {
	value, most := in.Value, allowed(in.Value)
	if unpack := compressionOf(value); unpack != nil {
		plain, err := unpack(value, most)
		if err != nil {
			return nil, nil, reject("compressed value", err)
		}
		value = plain
	}
	switch {
	case bytes.HasPrefix(value, containerMagic):
		text, err := container(value, most)
		if err != nil {
			return nil, nil, reject("Avro object container", err)
		}
		return text, nil, nil
	case isFramed(value):
		return framed(value, in.Settings, most)
	}
	return value, nil, nil
}

// reject says what could not be read. Its detail may quote the record as little as the libraries' errors do.
func reject(what string, err error) *transform.Reject {
	if errors.Is(err, errTooFar) {
		return &transform.Reject{Reason: transform.ExpandsTooFar,
			Detail: fmt.Sprintf("the %s expands to more than %d times its size, or to more than %d MiB", what, mostRatio, mostAllowed>>20)}
	}
	return &transform.Reject{Reason: transform.InvalidEncoding, Detail: transform.Cut(fmt.Sprintf("the %s cannot be read: %v", what, err), 256)}
}
