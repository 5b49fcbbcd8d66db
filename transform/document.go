package transform

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"

	"github.com/go-json-experiment/json/jsontext"
)

// Document is one aella-ser document: the vendor's fields, each valid by its type and range, and our namespace beside
// them. It never changes, and is safe for concurrent use.
//
// It is kept as its JSON alone, which may wait in memory for long, with the places at which the slimming ladder cuts.
type Document struct {
	encoded []byte
	marks   marks

	flat     bool // the namespace stands at top level, and the server moves it
	degraded bool

	format, mapping, dedupKey, deliveryKey string
}

// marks are offsets in a document's JSON, in this order.
type marks struct {
	vendor    int // end of the vendor's fields, custom_ser_field left out
	namespace int // start of our namespace's name; before it stand the members of an incoming custom_ser_field
	identity  int // end of dedup_key, delivery_key and the Kafka coordinates: what the last rung keeps
	about     int // start of the rest of what the namespace says of the detection; before it stands degraded
	cut, kept int // start and end of raw_truncated in it
	raw       int // end of it, and start of the native record
	end       int // end of the namespace's members
}

// Encode returns the document as one JSON object, the same bytes at every call. They are shared: do not change them. It
// fails only for a Document that this package did not make.
func (d *Document) Encode() ([]byte, error) {
	if d.encoded == nil {
		return nil, errors.New("encode document: it is empty; documents come from format.Transform")
	}
	return d.encoded, nil
}

// DeliveryKey identifies this delivery: cluster, topic, partition, offset, part and replay. 64 hexadecimal digits.
func (d *Document) DeliveryKey() string { return d.deliveryKey }

// DedupKey identifies the detection: the same when its source sends it again unchanged. 64 hexadecimal digits.
func (d *Document) DedupKey() string { return d.dedupKey }

// Mapping names the mapping that made the document and the start of its hash, such as aella_ser@0123abcd.
func (d *Document) Mapping() string { return d.mapping }

// OrigID returns the detection's orig_id as it is sent; empty without one.
func (d *Document) OrigID() string {
	tokens := jsontext.NewDecoder(bytes.NewReader(d.encoded[:d.marks.vendor]))
	if _, err := tokens.ReadToken(); err != nil {
		return ""
	}
	for {
		name, err := tokens.ReadToken()
		if err != nil || name.Kind() != jsontext.KindString { // behind the vendor's fields
			return ""
		}
		if name.String() == fieldNames[origIDField] {
			value, err := tokens.ReadToken()
			if err != nil || value.Kind() != jsontext.KindString {
				return ""
			}
			return value.String()
		}
		if tokens.SkipValue() != nil {
			return ""
		}
	}
}

// Format names the format that the record was recognised as.
func (d *Document) Format() string { return d.format }

// WithoutRaw is the first step of the slimming ladder: the document without the native record, marked degraded. It is d
// itself when there is nothing to take off, so that the step can be left out.
func (d *Document) WithoutRaw() *Document {
	m := d.marks
	if m.raw == m.end {
		return d
	}
	slim := d.degradedFrom(append(make([]byte, 0, len(d.encoded)), d.encoded[:m.identity]...), m)
	slim.encoded = append(append(slim.encoded, d.encoded[m.about:m.cut]...), d.encoded[m.kept:m.raw]...)
	return slim.closed()
}

// Bare is the last step of the slimming ladder: the vendor's fields, both keys and the Kafka coordinates alone, marked
// degraded. It is d itself when d is bare already.
func (d *Document) Bare() *Document {
	m := d.marks
	if m.about == m.end {
		return d
	}
	dst := append(make([]byte, 0, len(d.encoded)), d.encoded[:m.vendor]...)
	if d.flat {
		dst = append(dst, ',')
	} else {
		dst = append(appendKey(dst, fieldNames[customField]), '{')
	}
	at := len(dst)
	dst = append(dst, d.encoded[m.namespace:m.identity]...)
	return d.degradedFrom(dst, marks{vendor: m.vendor, namespace: at, identity: len(dst)}).closed()
}

// degradedFrom is d with what dst holds so far, up to the identity, and marked degraded.
func (d *Document) degradedFrom(dst []byte, m marks) *Document {
	slim := *d
	slim.degraded = true
	slim.encoded = append(appendKey(dst, keyDegraded), "true"...)
	slim.marks = m
	slim.marks.about = len(slim.encoded)
	return &slim
}

// closed ends a slimmed document behind what it says of the detection.
func (d *Document) closed() *Document {
	n := len(d.encoded)
	d.marks.cut, d.marks.kept, d.marks.raw, d.marks.end = n, n, n, n
	d.encoded = d.appendEnd(d.encoded)
	return d
}

func (d *Document) appendEnd(dst []byte) []byte {
	if d.flat {
		return append(dst, "}}"...)
	}
	return append(dst, "}}}"...)
}

// fitted returns d in the fullest form that limit bytes hold.
func (d *Document) fitted(limit int) (*Document, *Reject) {
	for _, slimmed := range []func() *Document{func() *Document { return d }, d.WithoutRaw, d.Bare} {
		if s := slimmed(); len(s.encoded) <= limit {
			return s, nil
		}
	}
	return nil, &Reject{Reason: DocumentTooLarge, Detail: fmt.Sprintf(
		"%d bytes with the vendor's fields alone; MAX_DOCUMENT_BYTES allows %d", len(d.Bare().encoded), limit)}
}

// buffers are where documents grow before they are copied out at their exact size, and what else is a text of a record.
var buffers = sync.Pool{New: func() any { return new([]byte) }}

// usualBytes is the largest buffer that is kept.
const usualBytes = 64 << 10

// keepBuffer takes a buffer back as it has grown.
func keepBuffer(buffer *[]byte, grown []byte) {
	if cap(grown) <= usualBytes {
		*buffer = grown
		buffers.Put(buffer)
	}
}

// document puts together what the builder has gathered.
func (b *builder) document(part int) *Document {
	d := &Document{
		flat:        b.settings.CustomFields == "flat",
		format:      b.d.Format,
		mapping:     b.d.Mapping,
		deliveryKey: DeliveryKey(b.in, part),
	}
	buffer := buffers.Get().(*[]byte)
	identity := b.identity(keyText((*buffer)[:0]), part)
	d.dedupKey = identity.sum()
	dst := b.encode(identity[:0], d)
	d.encoded = bytes.Clone(dst)
	keepBuffer(buffer, dst)
	return d
}

// encode appends the document and notes its marks.
func (b *builder) encode(dst []byte, d *Document) []byte {
	custom, own, leftover := b.incomingCustom()
	b.numbers(&custom, &own, &leftover, &b.d.Own, &b.d.Rest)
	dst = b.appendVendor(append(dst, '{'))
	d.marks.vendor = len(dst)
	if !d.flat {
		dst = append(appendKey(dst, fieldNames[customField]), '{')
	}
	dst = appendMembers(dst, custom)
	d.marks.namespace = len(dst)
	if dst[len(dst)-1] != '{' {
		d.marks.namespace++ // behind the comma
	}
	dst = append(appendName(dst, b.settings.Namespace), '{')
	dst = b.appendIdentity(dst, d)
	d.marks.identity, d.marks.about = len(dst), len(dst)
	dst = b.appendAbout(dst, d, own, leftover)
	d.marks.raw = len(dst)
	if b.raw != "" {
		dst = appendQuoted(appendKey(dst, keyRaw), b.raw)
	}
	d.marks.end = len(dst)
	return d.appendEnd(dst)
}

// numbers has what no index takes as a number sent as text.
func (b *builder) numbers(fields ...*[]Member) {
	for _, members := range fields {
		if indexable, changed := indexableMembers(*members); changed {
			*members = indexable
			b.flags[numberAsText] = true
		}
	}
}

// nativeText is the native record of the detection: the whole record, or what of it is this part.
func (b *builder) nativeText() string {
	if b.d.Raw != "" {
		return b.d.Raw
	}
	return b.tree.Text
}

// appendVendor appends the vendor's fields that are sent, in the order of the table.
func (b *builder) appendVendor(dst []byte) []byte {
	for f := range b.sent {
		if !b.sent[f].IsAbsent() {
			dst = b.sent[f].appendTo(appendKey(dst, fieldNames[f]))
		}
	}
	return dst
}

func (b *builder) appendIdentity(dst []byte, d *Document) []byte {
	dst = append(append(append(appendKey(dst, keyDedup), '"'), d.dedupKey...), '"')
	dst = append(append(append(appendKey(dst, keyDelivery), '"'), d.deliveryKey...), '"')
	dst = append(appendKey(dst, keyKafka), '{')
	dst = appendQuoted(appendKey(dst, "topic"), b.in.Topic)
	dst = strconv.AppendInt(appendKey(dst, "partition"), int64(b.in.Partition), 10)
	dst = strconv.AppendInt(appendKey(dst, "offset"), b.in.Offset, 10)
	if !b.in.Timestamp.IsZero() {
		dst = strconv.AppendInt(appendKey(dst, "timestamp_ms"), b.in.Timestamp.UnixMilli(), 10)
	}
	return append(dst, '}')
}

// appendAbout appends what the namespace says of the mapping: format, native words, what the format adds, flags, and
// the record's own fields.
func (b *builder) appendAbout(dst []byte, d *Document, own, leftover []Member) []byte {
	dst = appendQuoted(appendKey(dst, keySourceFormat), b.d.Format)
	dst = appendQuoted(appendKey(dst, keyMapping), b.d.Mapping)
	if b.in.ReplayID != "" {
		dst = appendQuoted(appendKey(dst, keyReplay), b.in.ReplayID)
	}
	dst = appendMembers(dst, b.native)
	dst = appendMembers(dst, b.d.Own)
	if b.settings.RawBytes > 0 {
		b.raw, b.flags[rawTruncated] = cutText(b.nativeText(), b.settings.RawBytes)
	}
	for i, repair := range allRepairs {
		b.flags[repairFlags+flag(i)] = slices.Contains(b.tree.Repairs, repair)
	}
	for f, set := range b.flags {
		if flag(f) == rawTruncated {
			d.marks.cut = len(dst)
		}
		if set {
			dst = append(appendKey(dst, flagNames[f]), "true"...)
		}
		if flag(f) == rawTruncated {
			d.marks.kept = len(dst)
		}
	}
	return b.appendRest(appendMembers(dst, own), leftover)
}

// appendRest appends the record's own fields: directly in the namespace, or in its object "fields" when the name is one
// of ours. What of an incoming custom_ser_field has no place of its own stands there too, under that name.
func (b *builder) appendRest(dst []byte, leftover []Member) []byte {
	var taken []Member
	for _, m := range b.d.Rest {
		switch {
		case m.Value.IsAbsent():
		case b.isTaken(m):
			taken = append(taken, m)
		default:
			dst = m.Value.appendTo(appendName(dst, m.Name))
		}
	}
	if len(leftover) > 0 {
		taken = append(taken, Member{fieldNames[customField], Object(leftover...)})
	}
	if len(taken) > 0 {
		dst = Object(taken...).appendTo(appendKey(dst, keyFields))
	}
	return dst
}

// incomingCustom sorts the members of a custom_ser_field that the record brings: beside the namespace; in it, those
// that stand under our namespace already; or nowhere, when their name is taken.
func (b *builder) incomingCustom() (beside, inside, leftover []Member) {
	v := b.d.native[customField]
	if !v.IsObject() {
		if !v.IsAbsent() {
			b.drop(customField, v)
		}
		return nil, nil, nil
	}
	for _, m := range v.members() {
		switch {
		case m.Value.IsAbsent():
		case m.Name == b.settings.Namespace && m.Value.IsObject():
			var clash []Member
			inside, clash = b.ourNamespace(m.Value)
			if len(clash) > 0 {
				leftover = append(leftover, Member{m.Name, Object(clash...)})
			}
		case m.Name == b.settings.Namespace, b.settings.CustomFields == "flat" && isTopLevel(m.Name):
			leftover = append(leftover, m)
		default:
			beside = append(beside, m)
		}
	}
	return beside, inside, leftover
}

// ourNamespace sorts what a record brings in an object of our namespace's name.
func (b *builder) ourNamespace(v Value) (inside, clash []Member) {
	rest := make(map[string]bool, len(b.d.Rest))
	for _, m := range b.d.Rest {
		rest[m.Name] = true
	}
	for _, m := range v.members() {
		switch {
		case m.Value.IsAbsent():
		case b.isTaken(m), rest[m.Name]:
			clash = append(clash, m)
		default:
			inside = append(inside, m)
		}
	}
	return inside, clash
}
