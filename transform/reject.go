package transform

import (
	"errors"
	"slices"
)

// Reason says why a detection is refused by our own validation. The set is closed: it labels metrics and dead letters.
type Reason string

// Every Reason there is.
const (
	InvalidJSON      Reason = "invalid_json"       // not JSON, even after the repairs
	TooDeep          Reason = "too_deep"           // nested deeper than MAX_DEPTH
	UnknownFormat    Reason = "unknown_format"     // no format recognises the record
	MissingField     Reason = "missing_field"      // a required field that no rule can fill
	InvalidField     Reason = "invalid_field"      // a required field of a type that cannot be read
	TooManyDocuments Reason = "too_many_documents" // more detections in the record than MAX_FANOUT
	DocumentTooLarge Reason = "document_too_large" // above MAX_DOCUMENT_BYTES, even with the vendor's fields alone
	InvalidText      Reason = "invalid_text"       // a line of CEF, LEEF or a log with columns that cannot be taken apart
	MappingCost      Reason = "mapping_cost"       // an expression of the mapping took more steps than it may
	InvalidEncoding  Reason = "invalid_encoding"   // compressed, Avro or Protobuf, and broken, or not of its schema
	ExpandsTooFar    Reason = "expands_too_far"    // unpacked, it would be larger than its size warrants
	UnknownSchema    Reason = "unknown_schema"     // the registry has no schema of the id that the record names
)

// Reasons returns all, so that a metric can start each at zero.
func Reasons() []Reason {
	return []Reason{InvalidJSON, TooDeep, UnknownFormat, MissingField, InvalidField, TooManyDocuments, DocumentTooLarge, InvalidText, MappingCost,
		InvalidEncoding, ExpandsTooFar, UnknownSchema}
}

// SkipReason says why a record, or a part of it, is no detection. The set is closed.
type SkipReason string

// Every SkipReason there is.
const (
	Tombstone     SkipReason = "tombstone"       // a record without a value
	AlreadyStored SkipReason = "already_stored"  // carries write_by: it came out of the index
	NotADetection SkipReason = "not_a_detection" // another kind of record of a source that also sends detections
	PassedCheck   SkipReason = "passed_check"    // a check that found nothing wrong
	RowRemoved    SkipReason = "row_removed"     // what a query found is gone
	NoDetections  SkipReason = "no_detections"   // an envelope or a report that holds none
	FormatOff     SkipReason = "format_off"      // of a format that FORMATS has to name before it is mapped
	Filtered      SkipReason = "filtered"        // left out by the filter of its topic, in STREAMS_FILE
)

// SkipReasons returns all, so that a metric can start each at zero.
func SkipReasons() []SkipReason {
	return []SkipReason{Tombstone, AlreadyStored, NotADetection, PassedCheck, RowRemoved, NoDetections, FormatOff, Filtered}
}

// Repair is a fault of the input that was mended. Its text is the flag in the document's namespace.
type Repair string

// Every Repair there is.
const (
	RepairedDuplicateKey Repair = "repaired_duplicate_key" // the last member of a name stands
	RepairedUTF8         Repair = "repaired_utf8"          // U+FFFD in place of invalid bytes and lone surrogates
	RepairedNaN          Repair = "repaired_nan"           // null in place of NaN and Infinity
	RepairedBOM          Repair = "repaired_bom"           // a leading byte-order mark was taken off
)

var allRepairs = [...]Repair{RepairedDuplicateKey, RepairedUTF8, RepairedNaN, RepairedBOM}

// Repairs returns all, so that a metric can start each at zero.
func Repairs() []Repair { return slices.Clone(allRepairs[:]) }

// Reject is a refusal: the rule that was broken, by which field, and what a person can do about it.
type Reject struct {
	Reason Reason
	Field  string // the vendor's name of the field, or empty
	Detail string // names the rule and quotes at most 64 characters of the record: for the dead letter, never for a log
}

// Error names reason and field. It leaves out Detail, which may quote the record.
func (r *Reject) Error() string {
	if r.Field == "" {
		return "reject record: " + string(r.Reason)
	}
	return "reject record: " + string(r.Reason) + " " + r.Field
}

// Hold is no refusal: the record cannot be read yet, since the schema that it names has not been read from the registry.
// Whoever reads it transforms the record again.
type Hold struct{ SchemaID uint32 }

// Schema reads a value that a registry's schema describes, without its frame, as JSON text of at most so many bytes.
type Schema func(payload []byte, most int) ([]byte, error)

// ErrUnknownSchema says that the registry was asked, and has no such schema.
var ErrUnknownSchema = errors.New("the registry has no such schema")
