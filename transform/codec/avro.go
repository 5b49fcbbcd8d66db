package codec

import (
	"bytes"
	"errors"
	"io"

	"github.com/twmb/avro"
	"github.com/twmb/avro/ocf"
)

// containerMagic begins an Avro object container file.
var containerMagic = []byte{'O', 'b', 'j', 1}

// container reads the values of an object container, with the schema in it, as one JSON value or an array of them.
func container(value []byte, most int) ([]byte, error) {
	r, err := ocf.NewReader(bytes.NewReader(value), ocf.WithMaxBlockBytes(int64(len(value))), ocf.WithMaxDecompressedBlockBytes(int64(most)))
	if err != nil {
		return nil, err
	}
	defer r.Close()
	text := []byte{'['}
	n := 0
	for ; ; n++ {
		var v any
		if err := r.Decode(&v); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return nil, err
		}
		one, err := r.Schema().EncodeJSON(v)
		if err != nil {
			return nil, err
		}
		if n > 0 {
			text = append(text, ',')
		}
		if text = append(text, one...); len(text) > most {
			return nil, errTooFar
		}
	}
	if n == 1 {
		return text[1:], nil
	}
	return append(text, ']'), nil
}

// avroSchema compiles a schema; those it refers to are compiled before it.
func avroSchema(text string, references []Reference) (decoder, error) {
	var known avro.SchemaCache
	for _, r := range references {
		if _, err := known.Parse(r.Text); err != nil {
			return nil, err
		}
	}
	schema, err := known.Parse(text)
	if err != nil {
		return nil, err
	}
	return func(payload []byte, most int) ([]byte, error) {
		var v any
		rest, err := schema.Decode(payload, &v)
		if err != nil {
			return nil, err
		}
		if len(rest) > 0 {
			return nil, errors.New("bytes are left behind the value")
		}
		text, err := schema.EncodeJSON(v)
		if len(text) > most {
			return nil, errTooFar
		}
		return text, err
	}, nil
}
