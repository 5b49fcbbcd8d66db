package codec

import (
	"encoding/binary"
	"errors"
	"fmt"

	"serbridge/transform"
)

// frameBytes is what a registry's serializers put before a value: a zero, which begins no text, and the schema's id.
const frameBytes = 5

func isFramed(value []byte) bool { return len(value) > frameBytes && value[0] == 0 }

// framed reads a value by the schema that it names.
func framed(value []byte, settings *transform.Settings, most int) ([]byte, *transform.Hold, *transform.Reject) {
	id := binary.BigEndian.Uint32(value[1:])
	if settings == nil || settings.Schemas == nil {
		return nil, nil, &transform.Reject{Reason: transform.UnknownSchema,
			Detail: fmt.Sprintf("the record names schema %d of a registry, and SCHEMA_REGISTRY_URL is not set", id)}
	}
	schema, err := settings.Schemas(id)
	switch {
	case errors.Is(err, transform.ErrUnknownSchema):
		return nil, nil, &transform.Reject{Reason: transform.UnknownSchema, Detail: fmt.Sprintf("the registry has no schema %d", id)}
	case err != nil:
		return nil, nil, reject(fmt.Sprintf("schema %d", id), err)
	case schema == nil:
		return nil, &transform.Hold{SchemaID: id}, nil
	}
	text, err := schema(value[frameBytes:], most)
	if err != nil {
		return nil, nil, reject(fmt.Sprintf("value of schema %d", id), err)
	}
	return text, nil, nil
}

// decoder reads what a schema describes, as JSON of at most so many bytes.
type decoder = transform.Schema

// Kind is the language of a schema.
type Kind string

// The kinds of schema there are, by their names in a registry.
const (
	Avro       Kind = "AVRO"
	Protobuf   Kind = "PROTOBUF"
	JSONSchema Kind = "JSON"
)

// Reference is a schema that another one refers to by name.
type Reference struct{ Name, Text string }

// Compile makes the function that reads what a schema describes. References stand before what refers to them.
func Compile(kind Kind, text string, references []Reference) (transform.Schema, error) {
	switch kind {
	case Avro:
		return avroSchema(text, references)
	case Protobuf:
		return protobufSchema(text, references)
	case JSONSchema:
		return plain, nil
	}
	return nil, fmt.Errorf("a schema of kind %.32q is none that serbridge reads", kind)
}

// plain is a value under a JSON schema: JSON, which the schema describes and does not change.
func plain(payload []byte, _ int) ([]byte, error) { return payload, nil }
