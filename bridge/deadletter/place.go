package deadletter

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// Place is where a dead letter stands in the dead-letter topic. Its text, PARTITION:OFFSET, is what the commands take and
// the key of the handled topic.
type Place struct {
	Partition int32
	Offset    int64
}

// String returns the text that [ParsePlace] reads.
func (p Place) String() string { return fmt.Sprintf("%d:%d", p.Partition, p.Offset) }

// ParsePlace reads PARTITION:OFFSET. Each place has one text only, so that a key means one letter.
func ParsePlace(text string) (Place, error) {
	partition, offset, _ := strings.Cut(text, ":")
	p, errP := parseNumber(partition, 31)
	o, errO := parseNumber(offset, 63)
	if errP != nil || errO != nil {
		return Place{}, fmt.Errorf("read place %q: want PARTITION:OFFSET, such as 0:17", cut(text, maxText))
	}
	return Place{Partition: int32(p), Offset: o}, nil
}

// Source is where a record stands in the topic that it came from.
type Source struct {
	Topic     string
	Partition int32
	Offset    int64
}

// String returns the text that [ParseSource] reads.
func (s Source) String() string { return fmt.Sprintf("%s:%d:%d", s.Topic, s.Partition, s.Offset) }

// ParseSource reads TOPIC:PARTITION:OFFSET.
func ParseSource(text string) (Source, error) {
	topic, rest, _ := strings.Cut(text, ":")
	p, err := ParsePlace(rest)
	if topic == "" || err != nil {
		return Source{}, fmt.Errorf("read place %q: want TOPIC:PARTITION:OFFSET, such as detections:0:17", cut(text, maxText))
	}
	return Source{Topic: topic, Partition: p.Partition, Offset: p.Offset}, nil
}

var errNumber = errors.New("not a whole number")

// parseNumber takes digits alone, without leading zeros.
func parseNumber(text string, bits int) (int64, error) {
	n, err := strconv.ParseUint(text, 10, bits)
	if err != nil || strconv.FormatUint(n, 10) != text {
		return 0, errNumber
	}
	return int64(n), nil
}
