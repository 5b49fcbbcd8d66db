// Package deadletter turns a record that was given up into a Kafka record and back, writes it, reads the topic of them, and
// remembers what became of each.
//
// The promise: what a dead letter carries of its source (key, value, headers with their order, repeats and nulls, timestamp)
// comes back byte for byte; [Writer.Write] returns nil only when every in-sync replica has the letter, so that the source's
// offset may then count as settled; and it returns when its context ends, whatever the broker does. A letter too large for
// its topic is written with less, never dropped.
//
// What became of a letter (redriven, parked, discarded, failed again) stands in a second, compacted topic, under the
// letter's place in the first: [Mark]. A [Reader] reads both as they are at one moment, a letter at a time, in memory that
// does not grow with the topic. Letters that Kafka Connect wrote are read as well; a record that is no letter is shown as
// one that cannot be read, never left out.
package deadletter

import (
	"errors"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// Stages name the step that failed in Kafka Connect's words, which other tools know.
const (
	StageConvert   = "VALUE_CONVERTER" // decode
	StageTransform = "TRANSFORMATION"  // map and validate
	StagePut       = "TASK_PUT"        // HTTP
)

// What a letter too large for its topic was written without.
const (
	LeftOutHeaders = "headers" // the source's headers and Kafka Connect's
	LeftOutValue   = "value"   // a pointer: the value too, and a key above 1 KiB; the source still has them under the coordinates
)

// ErrNotALetter is returned by [Parse] for a record with neither our headers nor Kafka Connect's.
var ErrNotALetter = errors.New("record is no dead letter")

// Letter is a record, or one document of it, that was given up, and why.
type Letter struct {
	// The source record as it was. A zero Timestamp becomes the time of writing.
	Key, Value []byte
	Headers    []kgo.RecordHeader
	Timestamp  time.Time

	// Where the source record stands. Part is the number of the document in it, -1 for the whole record.
	Topic     string
	Partition int32
	Offset    int64
	Part      int

	Reason    string // of the closed set
	Field     string // which field is at fault, if one is
	Detail    string // which rule; at most 512 bytes are kept
	Certainty string // not_sent, refused or unknown
	Stage     string // StagePut by default

	Attempts      int
	HTTPStatus    int    // 0: no answer
	HTTPBody      string // at most 1,024 bytes are kept
	FirstFailedAt time.Time
	FailedAt      time.Time

	DeliveryKey string
	Mapping     string
	Bridge      string // version of the build
	Instance    string // pod
	Group       string // consumer group; Kafka Connect's connector.name
	Redrives    int    // how often it has been redriven
	Run         string // redrive that wrote it
	LeftOut     string // "", LeftOutHeaders or LeftOutValue
}

// Record returns l as a record of topic: the source's headers first, ours after them, then Kafka Connect's.
//
// When l.Headers come from a dead letter themselves, as after a redrive, its attempt and error headers are replaced and its
// coordinates and first failure kept, so that a record never grows by failing again. Kafka Connect's coordinates are always
// those of l, which are the only trace of where it was read if somebody planted ours.
//
// Its Partition is the source's; a partitioner has to fold it into what the topic has.
func (l Letter) Record(topic string) *kgo.Record {
	originals, earlier := split(l.Headers)
	m := l.following(earlier)
	headers := append(originals, m.own()...)
	return m.record(topic, append(headers, l.connect()...))
}

// bare is l without the source's headers.
func (l Letter) bare(topic string) *kgo.Record {
	m := l.followingHeaders()
	m.LeftOut = LeftOutHeaders
	return m.record(topic, m.own())
}

// maxPointerKey bounds the key a pointer keeps: it tells people whose record it was, and may itself be what is too large.
const maxPointerKey = 1 << 10

// pointer is what always fits: coordinates and reason.
func (l Letter) pointer(topic string) *kgo.Record {
	m := l.followingHeaders()
	m.LeftOut = LeftOutValue
	m.Value = nil
	if len(m.Key) > maxPointerKey {
		m.Key = nil
	}
	return m.record(topic, m.own())
}

func (l Letter) record(topic string, headers []kgo.RecordHeader) *kgo.Record {
	return &kgo.Record{
		Key: l.Key, Value: l.Value, Headers: headers, Timestamp: l.Timestamp,
		Topic: topic, Partition: l.Partition,
	}
}

func (l Letter) followingHeaders() Letter {
	_, earlier := split(l.Headers)
	return l.following(earlier)
}

// following is l as the successor of the dead letters its record already was, oldest first.
func (l Letter) following(earlier []Letter) Letter {
	if len(earlier) == 0 {
		return l
	}
	first, last := earlier[0], earlier[len(earlier)-1]
	l.Topic, l.Partition, l.Offset = first.Topic, first.Partition, first.Offset
	if !first.FirstFailedAt.IsZero() {
		l.FirstFailedAt = first.FirstFailedAt
	}
	l.Redrives = max(l.Redrives, last.Redrives)
	if l.LeftOut == "" {
		l.LeftOut = last.LeftOut
	}
	return l
}

// Redriven is what the next dead letter of the record starts from, if it fails again in the run of this id. Of the first one
// stay the source's headers, the first failure and what was left out; whoever gives the record up says the rest.
func (l Letter) Redriven(run string) Letter {
	return Letter{Headers: l.Headers, FirstFailedAt: l.FirstFailedAt, LeftOut: l.LeftOut, Redrives: l.Redrives + 1, Run: run}
}

// Parse reads a dead letter: by our headers, else by Kafka Connect's, which say less. It shares memory with r.
// The error is [ErrNotALetter], or says which header cannot be read.
func Parse(r *kgo.Record) (Letter, error) {
	originals, earlier := split(r.Headers)
	if len(earlier) > 0 {
		l := earlier[len(earlier)-1].following(earlier)
		l.Key, l.Value, l.Headers, l.Timestamp = r.Key, r.Value, originals, r.Timestamp
		return l, nil
	}
	l, err := parseConnect(r.Headers)
	if err != nil {
		return Letter{}, errors.Join(ErrNotALetter, damage(r.Headers), err)
	}
	l.Key, l.Value, l.Timestamp = r.Key, r.Value, r.Timestamp
	return l, nil
}

// cut returns at most n bytes of s as valid UTF-8.
func cut(s string, n int) string {
	return strings.ToValidUTF8(s[:min(n, len(s))], "?")
}
