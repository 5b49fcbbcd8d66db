// Package transform turns one record into the documents that Stellar Cyber's aella-ser index stores. It is pure: bytes,
// coordinates, clock and settings come in; documents, a Skip or a Reject come out, the same ones for the same input.
//
// What a detection format looks like is not known here but in the package format, which recognises a record and maps
// it to Detections; the rules that hold for every format, the vendor's field table and the encoding are here.
package transform

import (
	"cmp"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"time"
)

// Input is one record and all that a transform may know of it.
type Input struct {
	Value     []byte // nil: a tombstone
	Topic     string
	Partition int32
	Offset    int64
	Timestamp time.Time // Kafka's: what a detection without a usable time of its own gets
	Now       time.Time // no detection is later than a day from here; zero: no such bound

	ClusterID string
	ReplayID  string // empty outside a replay

	Settings *Settings // of this topic; nil: the defaults
}

// Settings are a topic's. The zero value holds the defaults.
type Settings struct {
	Formats         []string       // FORMATS: names of formats; empty or "auto": all
	EventSource     string         // EVENT_SOURCE: for detections that name no source
	EventStatus     string         // EVENT_STATUS: for detections without a status; empty: New
	ForcedStatus    string         // of every document, whatever the detection says; empty: none is forced
	SeverityDefault *int           // SEVERITY_DEFAULT, 0 to 100; nil: 47
	TimeZone        *time.Location // TIME_ZONE: of times without a zone; nil: UTC is assumed, and flagged
	OnUnknown       string         // ON_UNKNOWN: "dead-letter" (or empty) or "generic"
	Filter          string         // a CEL expression, as mappings have them; where it says false, a detection is left out

	Namespace    string // CUSTOM_NAMESPACE: [a-z0-9_]+; empty: serbridge
	CustomFields string // CUSTOM_FIELDS: "object" (or empty) or "flat"
	RawBytes     int    // RAW_BYTES: bytes of the native record to send along; 0: 4096, negative: none

	MaxDocumentBytes int // MAX_DOCUMENT_BYTES of one encoded document; 0: 1 MiB
	MaxFanout        int // MAX_FANOUT: documents made of one record; 0: 1000
	MaxDepth         int // MAX_DEPTH: levels of objects and arrays in a record; 0: 64

	// Schemas is the schema of an id, from memory: a nil one has not been read yet, and holds the record. The error is
	// ErrUnknownSchema, or says why none can be made of what the registry has. nil: no registry is configured.
	Schemas func(id uint32) (Schema, error)
}

// Result is what a record turned into: exactly one of Skip, Reject, Hold and Parts is set.
type Result struct {
	Format  string   // the format that recognised the record; empty when none did
	Repairs []Repair // what had to be mended before the value could be read
	Skip    SkipReason
	Reject  *Reject
	Hold    *Hold // not yet anything: see there
	Parts   []Part
}

// Part is one detection of a record: exactly one field is set. Its index in Result.Parts is its part number, which is
// hashed into the document's delivery key.
type Part struct {
	Document *Document
	Skip     SkipReason
	Reject   *Reject
}

const (
	defaultNamespace        = "serbridge"
	defaultRawBytes         = 4096
	defaultMaxDocumentBytes = 1 << 20
	defaultMaxFanout        = 1000
	defaultMaxDepth         = 64
	defaultStatus           = "New"
)

var defaultSeverity = 47

var namespacePattern = regexp.MustCompile(`^[a-z0-9_]+$`)

// Validate returns every malformed setting at once, each named by its environment variable, with its value and what is
// allowed. The names in Formats, and Filter, are judged by the package format.
func (s *Settings) Validate() error {
	if s == nil {
		return nil
	}
	var problems []error
	bad := func(format string, args ...any) { problems = append(problems, fmt.Errorf(format, args...)) }
	if s.Namespace != "" && !namespacePattern.MatchString(s.Namespace) {
		bad("CUSTOM_NAMESPACE=%q: only lower-case letters, digits and _ are allowed", s.Namespace)
	}
	if isTopLevel(s.Namespace) {
		bad("CUSTOM_NAMESPACE=%q: this is a field of the index; choose a name of your own", s.Namespace)
	}
	if !slices.Contains([]string{"", "object", "flat"}, s.CustomFields) {
		bad("CUSTOM_FIELDS=%q: allowed are object and flat", s.CustomFields)
	}
	if !slices.Contains([]string{"", "dead-letter", "generic"}, s.OnUnknown) {
		bad("ON_UNKNOWN=%q: allowed are dead-letter and generic", s.OnUnknown)
	}
	if _, known := eventStatus(s.EventStatus); s.EventStatus != "" && !known {
		bad("EVENT_STATUS=%q: allowed are New, In Progress, Ignored and Closed", s.EventStatus)
	}
	if s.ForcedStatus != "" && !slices.Contains(Statuses(), s.ForcedStatus) {
		bad("status %q: allowed are New, In Progress, Ignored and Closed", s.ForcedStatus)
	}
	if n := s.SeverityDefault; n != nil && (*n < 0 || *n > 100) {
		bad("SEVERITY_DEFAULT=%d: allowed are 0 to 100", *n)
	}
	if s.MaxDocumentBytes < 0 {
		bad("MAX_DOCUMENT_BYTES=%d: allowed is a number above 0", s.MaxDocumentBytes)
	}
	if s.MaxFanout < 0 {
		bad("MAX_FANOUT=%d: allowed is a number above 0", s.MaxFanout)
	}
	if s.MaxDepth < 0 || s.MaxDepth > depthLimit {
		bad("MAX_DEPTH=%d: allowed are 1 to %d", s.MaxDepth, depthLimit)
	}
	return errors.Join(problems...)
}

// depthLimit keeps a document, which nests a record a few levels deeper, below what other JSON readers take (10,000).
const depthLimit = 1000

// Fanout returns how many documents one record may become. s may be nil.
func (s *Settings) Fanout() int {
	if s == nil {
		return defaultMaxFanout
	}
	return cmp.Or(s.MaxFanout, defaultMaxFanout)
}

// resolved returns s with the defaults in place of zero values. s may be nil.
func (s *Settings) resolved() Settings {
	var r Settings
	if s != nil {
		r = *s
	}
	r.Namespace = cmp.Or(r.Namespace, defaultNamespace)
	r.RawBytes = cmp.Or(r.RawBytes, defaultRawBytes)
	r.MaxDocumentBytes = cmp.Or(r.MaxDocumentBytes, defaultMaxDocumentBytes)
	r.MaxFanout = cmp.Or(r.MaxFanout, defaultMaxFanout)
	r.MaxDepth = cmp.Or(r.MaxDepth, defaultMaxDepth)
	r.EventStatus = cmp.Or(r.EventStatus, defaultStatus)
	if r.SeverityDefault == nil {
		r.SeverityDefault = &defaultSeverity
	}
	return r
}
