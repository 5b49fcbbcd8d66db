package deadletter

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"
	"unicode/utf8"

	"github.com/twmb/franz-go/pkg/kgo"
)

// line is a dead letter as one line of JSON. Nothing of the record is lost: bytes that are no UTF-8 stand in base64 under
// the name with _base64, and what is missing, other than empty, is null.
type line struct {
	Partition *int32       `json:"partition"`
	Offset    int64        `json:"offset"`
	Timestamp *int64       `json:"timestamp"` // milliseconds since 1970
	Key       *string      `json:"key"`
	Key64     []byte       `json:"key_base64,omitempty"`
	Headers   []lineHeader `json:"headers"`
	Value     *string      `json:"value"`
	Value64   []byte       `json:"value_base64,omitempty"`
}

type lineHeader struct {
	Key     *string `json:"key,omitempty"`
	Key64   []byte  `json:"key_base64,omitempty"`
	Value   *string `json:"value"`
	Value64 []byte  `json:"value_base64,omitempty"`
}

// text is b as a JSON string or, if it is no UTF-8, as bytes for base64; both nil for none.
func text(b []byte) (*string, []byte) {
	if b == nil {
		return nil, nil
	}
	if !utf8.Valid(b) {
		return nil, b
	}
	s := string(b)
	return &s, nil
}

// EncodeLine returns a record of the dead-letter topic as one line of JSON, without its end, from which [DecodeLine] makes
// the same record, byte for byte:
//
//	{"partition":0,"offset":17,"timestamp":1763975287654,"key":"k","headers":[{"key":"h","value":"v"}],"value":"{}"}
//
// timestamp is in milliseconds since 1970. A key or value that is no UTF-8 stands in base64 under key_base64 or
// value_base64; null is none at all, which is not the same as empty.
func EncodeLine(r *kgo.Record) ([]byte, error) {
	at := r.Timestamp.UnixMilli()
	l := line{Partition: &r.Partition, Offset: r.Offset, Timestamp: &at, Headers: make([]lineHeader, len(r.Headers))}
	l.Key, l.Key64 = text(r.Key)
	l.Value, l.Value64 = text(r.Value)
	for i, h := range r.Headers {
		l.Headers[i].Key, l.Headers[i].Key64 = text([]byte(h.Key))
		l.Headers[i].Value, l.Headers[i].Value64 = text(h.Value)
	}
	var out bytes.Buffer
	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(l); err != nil {
		return nil, fmt.Errorf("encode dead letter %d:%d: %w", r.Partition, r.Offset, err)
	}
	return bytes.TrimSuffix(out.Bytes(), []byte("\n")), nil
}

// DecodeLine reads what [EncodeLine] wrote. Anything else is refused, so that a file of other JSON does not become dead
// letters. The record's Offset is where it stood, not where it will.
func DecodeLine(b []byte) (*kgo.Record, error) {
	var l line
	decoder := json.NewDecoder(bytes.NewReader(b))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&l); err != nil {
		return nil, fmt.Errorf("decode dead letter: %w", err)
	}
	if _, err := decoder.Token(); err != io.EOF {
		return nil, errors.New("decode dead letter: more than one JSON value on the line")
	}
	if l.Partition == nil || *l.Partition < 0 || l.Timestamp == nil || l.Headers == nil {
		return nil, errors.New("decode dead letter: partition, timestamp and headers are required: want a line that dlq export wrote")
	}
	r := &kgo.Record{Partition: *l.Partition, Offset: l.Offset, Timestamp: time.UnixMilli(*l.Timestamp)}
	var err error
	r.Key, err = raw("key", l.Key, l.Key64)
	if err == nil {
		r.Value, err = raw("value", l.Value, l.Value64)
	}
	if err == nil {
		r.Headers, err = rawHeaders(l.Headers)
	}
	if err != nil {
		return nil, fmt.Errorf("decode dead letter: %w", err)
	}
	return r, nil
}

func rawHeaders(hs []lineHeader) (headers []kgo.RecordHeader, err error) {
	for _, h := range hs {
		key, err := raw("key of a header", h.Key, h.Key64)
		if err == nil && key == nil {
			err = errors.New("a header has no key")
		}
		if err != nil {
			return nil, err
		}
		value, err := raw("value of a header", h.Value, h.Value64)
		if err != nil {
			return nil, err
		}
		headers = append(headers, kgo.RecordHeader{Key: string(key), Value: value})
	}
	return headers, nil
}

func raw(what string, text *string, encoded []byte) ([]byte, error) {
	switch {
	case text != nil && encoded != nil:
		return nil, fmt.Errorf("%s is there twice, as text and in base64", what)
	case text != nil:
		return []byte(*text), nil
	case encoded != nil:
		return encoded, nil
	}
	return nil, nil
}

// MaxLine is the length of the longest line that [EncodeLine] makes of a letter this package writes: each byte of a text may
// need six.
const MaxLine = 6*maxRecordBytes + 1<<20
