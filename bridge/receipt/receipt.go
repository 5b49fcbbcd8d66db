// Package receipt writes down what became of each record: one receipt per outcome, in a topic of its own, and reads them
// back by time and partition.
//
// The promise: what [Writer.Take] took is acknowledged by every in-sync replica of the receipts topic before
// [Writer.Flush] returns nil, so that an offset committed after it has a receipt. A topic that is away holds that up for no
// longer than Config.Hold; from then on receipts of its partition may be lost, which is said and counted, until it takes
// them again. No record content is in a receipt: coordinates, names, keys that are hashes, and numbers.
package receipt

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"serbridge/bridge"
	"serbridge/bridge/deadletter"
)

// Receipt says what became of a record, or of some of its parts: one with many parts has several receipts, which
// together hold Of parts.
type Receipt struct {
	Source deadletter.Source // where the record stands; the key
	Time   time.Time         // the record's own
	Ended  time.Time         // when its outcome was known; the receipt's time in the topic

	Format string // that recognised it; empty: none did
	Skip   string // why all of it is no detection
	Parts  []Part
	Of     int // parts of the record

	Host, User string // destination
	Group      string
	Run        string // of the process or of the command that wrote it
	Instance   string
	Bridge     string // version of the build
}

// Part is what became of one document of a record: it was delivered unless Skip or Reason says something.
type Part struct {
	Part        int    `json:"part"` // bridge.WholeRecord: the record was refused as a whole
	Skip        string `json:"skip,omitempty"`
	Reason      string `json:"reason,omitempty"` // of its dead letter
	Index       string `json:"index,omitempty"`
	ID          string `json:"id,omitempty"` // empty where the platform names none
	DedupKey    string `json:"dedup_key,omitempty"`
	DeliveryKey string `json:"delivery_key,omitempty"`
	Mapping     string `json:"mapping,omitempty"`
	Orig        string `json:"orig,omitempty"` // HashOrigID of the detection's orig_id
	Attempts    int    `json:"attempts,omitempty"`
}

// Fate is what became of all of a record, in one word.
type Fate string

// The fates. A record of several parts is dead-lettered if one of them is, else delivered if one of them is.
const (
	Delivered    Fate = "delivered"
	DeadLettered Fate = "dead_lettered"
	Skipped      Fate = "skipped"
)

// Fate returns what became of the part.
func (p Part) Fate() Fate {
	switch {
	case p.Reason != "":
		return DeadLettered
	case p.Skip != "":
		return Skipped
	}
	return Delivered
}

// Fate returns what became of what the receipt holds.
func (r Receipt) Fate() Fate {
	worst := Skipped
	for _, p := range r.Parts {
		switch p.Fate() {
		case DeadLettered:
			return DeadLettered
		case Delivered:
			worst = Delivered
		}
	}
	return worst
}

// HashOrigID is what a receipt holds of an orig_id, which is record content; empty for none.
func HashOrigID(id string) string {
	if id == "" {
		return ""
	}
	sum := sha256.Sum256([]byte("orig_id\x00" + id))
	return hex.EncodeToString(sum[:16])
}

// Of makes the receipt of an outcome; what is the same for all receipts is the [Writer]'s.
func Of(o bridge.Outcome, now time.Time) Receipt {
	in := o.Reading.Input
	r := Receipt{
		Source: deadletter.Source{Topic: in.Topic, Partition: in.Partition, Offset: in.Offset},
		Time:   in.Timestamp, Ended: now, Format: o.Format, Skip: o.Skip,
	}
	for _, p := range o.Parts {
		if !p.Wanted() {
			continue
		}
		part := Part{Part: p.Part, Skip: p.Skip, Reason: p.Reason, Index: cut(p.Answer.Index), ID: cut(p.Answer.ID), Attempts: p.Attempts}
		if d := p.Document; d != nil {
			part.DedupKey, part.DeliveryKey, part.Mapping = d.DedupKey(), d.DeliveryKey(), d.Mapping()
			part.Orig = HashOrigID(d.OrigID())
		}
		r.Parts = append(r.Parts, part)
	}
	r.Of = len(r.Parts)
	return r
}

// maxText bounds the names that the platform gives, which are opaque to us.
const maxText = 512

func cut(s string) string { return strings.ToValidUTF8(s[:min(len(s), maxText)], "?") }

// partsAtOnce is how many parts one receipt holds: at their largest they fit into a topic of the usual limits.
const partsAtOnce = 200

// split returns r as receipts of at most partsAtOnce parts.
func (r Receipt) split() []Receipt {
	var all []Receipt
	for parts := r.Parts; ; parts = parts[partsAtOnce:] {
		piece := r
		piece.Parts = parts[:min(len(parts), partsAtOnce)]
		all = append(all, piece)
		if len(parts) <= partsAtOnce {
			return all
		}
	}
}

const schema = 1

// value is the value of a receipt's record.
type value struct {
	Schema    int       `json:"schema"`
	Topic     string    `json:"topic"`
	Partition int32     `json:"partition"`
	Offset    int64     `json:"offset"`
	Time      time.Time `json:"time"`
	Ended     time.Time `json:"ended"`
	Format    string    `json:"format,omitempty"`
	Skip      string    `json:"skip,omitempty"`
	Of        int       `json:"of"`
	Parts     []Part    `json:"parts,omitempty"`
	Host      string    `json:"host,omitempty"`
	User      string    `json:"user,omitempty"`
	Group     string    `json:"group,omitempty"`
	Run       string    `json:"run,omitempty"`
	Instance  string    `json:"instance,omitempty"`
	Bridge    string    `json:"bridge,omitempty"`
}

// Encode returns r as JSON, the value of its record.
func (r Receipt) Encode() ([]byte, error) {
	b, err := json.Marshal(value{
		Schema: schema, Topic: r.Source.Topic, Partition: r.Source.Partition, Offset: r.Source.Offset,
		Time: r.Time.UTC(), Ended: r.Ended.UTC(), Format: r.Format, Skip: r.Skip, Of: r.Of, Parts: r.Parts,
		Host: r.Host, User: r.User, Group: r.Group, Run: r.Run, Instance: r.Instance, Bridge: r.Bridge,
	})
	if err != nil {
		return nil, fmt.Errorf("encode receipt of %s: %w", r.Source, err)
	}
	return b, nil
}

// ErrNotAReceipt is returned by [Parse] for what is none, or of a schema that this build does not know.
var ErrNotAReceipt = errors.New("record is no receipt that this build can read")

// Parse reads a record of the receipts topic.
func Parse(r *kgo.Record) (Receipt, error) {
	var v value
	if err := json.Unmarshal(r.Value, &v); err != nil {
		return Receipt{}, fmt.Errorf("read receipt: %w: %w", ErrNotAReceipt, err)
	}
	source := deadletter.Source{Topic: v.Topic, Partition: v.Partition, Offset: v.Offset}
	if _, err := deadletter.ParseSource(source.String()); err != nil || v.Schema != schema {
		return Receipt{}, fmt.Errorf("read receipt: %w: schema %d", ErrNotAReceipt, v.Schema)
	}
	return Receipt{
		Source: source, Time: v.Time, Ended: v.Ended, Format: v.Format, Skip: v.Skip, Of: v.Of, Parts: v.Parts,
		Host: v.Host, User: v.User, Group: v.Group, Run: v.Run, Instance: v.Instance, Bridge: v.Bridge,
	}, nil
}
