package deadletter

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// HandledTopic is the compacted topic that says what became of the dead letters in topic.
func HandledTopic(topic string) string { return topic + ".handled" }

// Fate is what became of a dead letter.
type Fate uint8

// Every Fate there is. The zero value is a letter that nobody has handled.
const (
	Open        Fate = iota
	Redriven         // sent again, and settled
	Parked           // left where it is on purpose
	Discarded        // of no use to anybody
	FailedAgain      // redriven, and given up again: a newer letter says why
)

var fateNames = []string{"open", "redriven", "parked", "discarded", "failed_again"}

// Fates returns all, Open first.
func Fates() []Fate { return []Fate{Open, Redriven, Parked, Discarded, FailedAgain} }

// String is the name in marks and on the command line.
func (f Fate) String() string {
	if int(f) < len(fateNames) {
		return fateNames[f]
	}
	return fmt.Sprintf("fate %d", uint8(f))
}

// ParseFate reads the name of a Fate.
func ParseFate(name string) (Fate, error) {
	i := slices.Index(fateNames, name)
	if i < 0 {
		return Open, fmt.Errorf("read fate %q: want one of %s", cut(name, maxText), strings.Join(fateNames, ", "))
	}
	return Fate(i), nil
}

// Mark says what became of one dead letter: a record of the handled topic. The last mark of a letter counts.
type Mark struct {
	Place Place // of the letter; the key
	Fate  Fate
	At    time.Time

	By      string // who did it
	Because string // and why, in words; at most 512 bytes are kept
	Run     string // the run that did it

	Source   Source // of the letter
	Part     int    // and which document of its record, -1 for all of it
	Redrives int    // how often it had been redriven

	// TopicID is the dead-letter topic's. A topic that was deleted and created again has other letters under the same
	// offsets: a mark without it would hide them. Zero where brokers give no ids.
	TopicID [16]byte
}

// markValue is the value of a mark's record.
type markValue struct {
	Schema    int       `json:"schema"`
	Fate      string    `json:"fate"`
	At        time.Time `json:"at"`
	By        string    `json:"by,omitempty"`
	Because   string    `json:"because,omitempty"`
	Run       string    `json:"run,omitempty"`
	Topic     string    `json:"topic,omitempty"`
	Partition int32     `json:"partition"`
	Offset    int64     `json:"offset"`
	Part      int       `json:"part"`
	Redrives  int       `json:"redrives"`
	TopicID   string    `json:"topic_id,omitempty"`
}

// Record returns m as a record of the handled topic. An Open one is a tombstone: the letter is as if never handled.
func (m Mark) Record(topic string) (*kgo.Record, error) {
	r := &kgo.Record{Topic: topic, Key: []byte(m.Place.String())}
	if m.Fate == Open {
		return r, nil
	}
	v := markValue{
		Schema: 1, Fate: m.Fate.String(), At: m.At.UTC(), By: cut(m.By, maxText), Because: cut(m.Because, maxDetail), Run: cut(m.Run, maxText),
		Topic: cut(m.Source.Topic, maxText), Partition: m.Source.Partition, Offset: m.Source.Offset, Part: m.Part, Redrives: m.Redrives,
	}
	if m.TopicID != [16]byte{} {
		v.TopicID = hex.EncodeToString(m.TopicID[:])
	}
	value, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("encode mark of dead letter %s: %w", m.Place, err)
	}
	r.Value = value
	return r, nil
}

// ParseMark reads a record of the handled topic.
func ParseMark(r *kgo.Record) (Mark, error) {
	place, err := ParsePlace(string(r.Key))
	if err != nil {
		return Mark{}, fmt.Errorf("read key of mark: %w", err)
	}
	if r.Value == nil {
		return Mark{Place: place}, nil
	}
	var v markValue
	if err := json.Unmarshal(r.Value, &v); err != nil {
		return Mark{}, fmt.Errorf("read mark of dead letter %s: %w", place, err)
	}
	m := Mark{
		Place: place, At: v.At, By: v.By, Because: v.Because, Run: v.Run, Part: v.Part, Redrives: v.Redrives,
		Source: Source{v.Topic, v.Partition, v.Offset},
	}
	return m, m.complete(v)
}

// complete reads what has a form of its own.
func (m *Mark) complete(v markValue) (err error) {
	if v.Schema != 1 {
		return fmt.Errorf("read mark of dead letter %s: this build knows schema 1 only", m.Place)
	}
	if m.Fate, err = ParseFate(v.Fate); err != nil {
		return fmt.Errorf("read mark of dead letter %s: %w", m.Place, err)
	}
	id, err := hex.DecodeString(v.TopicID)
	if err != nil || len(id) != 0 && len(id) != len(m.TopicID) {
		return fmt.Errorf("read mark of dead letter %s: %w", m.Place, errors.New("topic_id is none"))
	}
	copy(m.TopicID[:], id)
	return nil
}

// isOf reports whether the mark is of a letter in this topic, and not of one of the same name before it.
func (m Mark) isOf(id [16]byte) bool {
	return m.TopicID == id || m.TopicID == [16]byte{} || id == [16]byte{}
}
