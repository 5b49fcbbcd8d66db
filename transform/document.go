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
type Document struct {
	vendor   []Member // the vendor's fields, in the order of the table, custom_ser_field left out
	identity []Member // dedup_key, delivery_key and the Kafka coordinates: what the last rung keeps
	about    []Member // the rest of what the namespace says of the detection
	custom   []Member // members of an incoming custom_ser_field, to stand beside the namespace
	raw      string   // the native record, or empty

	namespace string
	flat      bool // the namespace stands at top level, and the server moves it
	degraded  bool

	format, mapping, dedupKey, deliveryKey string

	encoded []byte
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

// Format names the format that the record was recognised as.
func (d *Document) Format() string { return d.format }

// WithoutRaw is the first step of the slimming ladder: the document without the native record, marked degraded. It is d
// itself when there is nothing to take off, so that the step can be left out.
func (d *Document) WithoutRaw() *Document {
	if d.raw == "" {
		return d
	}
	slim := *d
	slim.raw = ""
	slim.about = slices.DeleteFunc(slices.Clone(d.about), func(m Member) bool { return m.Name == flagNames[rawTruncated] })
	return slim.asDegraded()
}

// Bare is the last step of the slimming ladder: the vendor's fields, both keys and the Kafka coordinates alone, marked
// degraded. It is d itself when d is bare already.
func (d *Document) Bare() *Document {
	if d.degraded && d.raw == "" && d.about == nil && d.custom == nil {
		return d
	}
	bare := *d
	bare.raw, bare.about, bare.custom = "", nil, nil
	return bare.asDegraded()
}

func (d *Document) asDegraded() *Document {
	d.degraded = true
	d.encoded = d.encode()
	return d
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

func (d *Document) encode() []byte {
	buffer := buffers.Get().(*[]byte)
	dst := append((*buffer)[:0], '{')
	dst = appendMembers(dst, d.vendor)
	if !d.flat {
		dst = append(appendName(dst, fieldNames[customField]), '{')
	}
	dst = appendMembers(dst, d.custom)
	dst = d.appendNamespace(dst)
	if !d.flat {
		dst = append(dst, '}')
	}
	dst = append(dst, '}')
	encoded := bytes.Clone(dst)
	if cap(dst) <= usualBytes {
		*buffer = dst
		buffers.Put(buffer)
	}
	return encoded
}

// buffers are where documents grow before they are copied out at their exact size, which may wait in memory for long.
var buffers = sync.Pool{New: func() any { return new([]byte) }}

// usualBytes is the largest buffer that is kept.
const usualBytes = 64 << 10

func (d *Document) appendNamespace(dst []byte) []byte {
	dst = append(appendName(dst, d.namespace), '{')
	dst = appendMembers(dst, d.identity)
	if d.degraded {
		dst = append(appendName(dst, keyDegraded), "true"...)
	}
	dst = appendMembers(dst, d.about)
	if d.raw != "" {
		dst = appendQuoted(appendName(dst, keyRaw), d.raw)
	}
	return append(dst, '}')
}

// document puts together what the builder has gathered.
func (b *builder) document(part int) *Document {
	d := &Document{
		namespace:   b.settings.Namespace,
		flat:        b.settings.CustomFields == "flat",
		format:      b.d.Format,
		mapping:     b.d.Mapping,
		dedupKey:    b.dedupKey(part),
		deliveryKey: DeliveryKey(b.in, part),
	}
	d.vendor = b.vendor()
	if b.settings.RawBytes > 0 {
		d.raw, b.flags[rawTruncated] = cutText(b.tree.Text, b.settings.RawBytes)
	}
	d.identity = []Member{
		{keyDedup, plain(d.dedupKey)}, {keyDelivery, plain(d.deliveryKey)}, {keyKafka, coordinates(b.in)},
	}
	custom, own, leftover := b.incomingCustom()
	d.custom = custom
	d.about = append(b.about(len(own)), own...)
	d.about = b.appendRest(d.about, leftover)
	d.encoded = d.encode()
	return d
}

// vendor returns the vendor's fields that are sent, in the order of the table.
func (b *builder) vendor() []Member {
	n := 0
	for i := range b.sent {
		if !b.sent[i].IsAbsent() {
			n++
		}
	}
	members := make([]Member, 0, n)
	for i := range b.sent {
		if !b.sent[i].IsAbsent() {
			members = append(members, Member{fieldNames[i], b.sent[i]})
		}
	}
	return members
}

// plain returns a string that is known to be valid UTF-8.
func plain(s string) Value { return Value{kind: jsontext.KindString, text: s} }

func coordinates(in *Input) Value {
	kafka := []Member{
		{"topic", String(in.Topic)},
		{"partition", number(strconv.Itoa(int(in.Partition)))},
		{"offset", number(strconv.FormatInt(in.Offset, 10))},
	}
	if !in.Timestamp.IsZero() {
		kafka = append(kafka, Member{"timestamp_ms", number(strconv.FormatInt(in.Timestamp.UnixMilli(), 10))})
	}
	return Object(kafka...)
}

// about returns what the namespace says of the mapping: format, native words, flags, and what the format adds.
func (b *builder) about(more int) []Member {
	about := make([]Member, 0, 2+len(b.native)+len(b.d.Own)+len(b.d.Rest)+more+4)
	about = append(about, Member{keySourceFormat, plain(b.d.Format)}, Member{keyMapping, plain(b.d.Mapping)})
	about = append(about, b.native...)
	about = append(about, b.d.Own...)
	for i, repair := range Repairs() {
		b.flags[repairFlags+flag(i)] = slices.Contains(b.tree.Repairs, repair)
	}
	for f, set := range b.flags {
		if set {
			about = append(about, Member{flagNames[f], boolean(true)})
		}
	}
	return about
}

// appendRest appends the record's own fields: directly in the namespace, or in its object "fields" when the name is one
// of ours. What of an incoming custom_ser_field has no place of its own stands there too, under that name.
func (b *builder) appendRest(about []Member, leftover []Member) []Member {
	var taken []Member
	for _, m := range b.d.Rest {
		switch {
		case m.Value.IsAbsent():
		case b.isTaken(m):
			taken = append(taken, m)
		default:
			about = append(about, m)
		}
	}
	if len(leftover) > 0 {
		taken = append(taken, Member{fieldNames[customField], Object(leftover...)})
	}
	if len(taken) > 0 {
		about = append(about, Member{keyFields, Object(taken...)})
	}
	return about
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
	for _, m := range v.members {
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
	for _, m := range v.members {
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
