package codec

import (
	"context"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/bufbuild/protocompile"
	"github.com/go-json-experiment/json/jsontext"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/dynamicpb"
)

// schemaFile is the name of the schema itself among the files it refers to.
const schemaFile = "serbridge.schema.proto"

// protobufSchema compiles a .proto file, with those it imports.
func protobufSchema(text string, references []Reference) (decoder, error) {
	files := map[string]string{schemaFile: text}
	for _, r := range references {
		files[r.Name] = r.Text
	}
	compiler := protocompile.Compiler{MaxParallelism: 1,
		Resolver: protocompile.WithStandardImports(&protocompile.SourceResolver{Accessor: protocompile.SourceAccessorFromMap(files)})}
	compiled, err := compiler.Compile(context.Background(), schemaFile) // from memory: it waits for nothing
	if err != nil {
		return nil, err
	}
	file := compiled[0]
	return func(payload []byte, most int) ([]byte, error) {
		path, rest, err := messagePath(payload)
		if err != nil {
			return nil, err
		}
		described, err := messageAt(file.Messages(), path)
		if err != nil {
			return nil, err
		}
		m := dynamicpb.NewMessage(described)
		if err := (proto.UnmarshalOptions{DiscardUnknown: true}).Unmarshal(rest, m); err != nil {
			return nil, err
		}
		return appendMessage(nil, m, most)
	}, nil
}

// mostNested bounds how deep in one another the messages of a schema can be named.
const mostNested = 32

// messagePath reads which message of the file the value is: the place of each in the one around it. One zero byte stands for
// the first message of the file.
func messagePath(payload []byte) (path []int, rest []byte, err error) {
	n, used := binary.Varint(payload)
	if used <= 0 || n < 0 || n > mostNested {
		return nil, nil, errors.New("the place of its message in the schema is malformed")
	}
	rest = payload[used:]
	if n == 0 {
		return []int{0}, rest, nil
	}
	for range n {
		at, used := binary.Varint(rest)
		if used <= 0 || at < 0 || at > math.MaxInt32 {
			return nil, nil, errors.New("the place of its message in the schema is malformed")
		}
		path, rest = append(path, int(at)), rest[used:]
	}
	return path, rest, nil
}

func messageAt(all protoreflect.MessageDescriptors, path []int) (d protoreflect.MessageDescriptor, err error) {
	for _, at := range path {
		if at >= all.Len() {
			return nil, errors.New("the schema has no message at the place that it names")
		}
		d = all.Get(at)
		all = d.Messages()
	}
	return d, nil
}

// appendMessage writes a message as JSON: members by the names in the schema, 64-bit numbers as numbers, which mappings
// compare; protojson would make text of them. What is not set is left out.
func appendMessage(dst []byte, m protoreflect.Message, most int) ([]byte, error) {
	if strings.HasPrefix(string(m.Descriptor().FullName()), "google.protobuf.") { // times, wrappers and structs have forms of their own
		text, err := protojson.Marshal(m.Interface())
		return append(dst, text...), err
	}
	dst = append(dst, '{')
	start := len(dst)
	var err error
	m.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		if len(dst) > start {
			dst = append(dst, ',')
		}
		if dst, err = appendText(dst, f.TextName()); err != nil {
			return false
		}
		dst, err = appendField(append(dst, ':'), f, v, most)
		return err == nil
	})
	return append(dst, '}'), err
}

func appendField(dst []byte, f protoreflect.FieldDescriptor, v protoreflect.Value, most int) (_ []byte, err error) {
	switch {
	case f.IsMap():
		return appendMap(dst, f, v.Map(), most)
	case !f.IsList():
		return appendValue(dst, f, v, most)
	}
	dst = append(dst, '[')
	for i := range v.List().Len() {
		if i > 0 {
			dst = append(dst, ',')
		}
		if dst, err = appendValue(dst, f, v.List().Get(i), most); err != nil {
			return nil, err
		}
	}
	return append(dst, ']'), nil
}

func appendMap(dst []byte, f protoreflect.FieldDescriptor, m protoreflect.Map, most int) ([]byte, error) {
	dst = append(dst, '{')
	start := len(dst)
	var err error
	m.Range(func(k protoreflect.MapKey, v protoreflect.Value) bool {
		if len(dst) > start {
			dst = append(dst, ',')
		}
		if dst, err = appendText(dst, k.String()); err != nil {
			return false
		}
		dst, err = appendValue(append(dst, ':'), f.MapValue(), v, most)
		return err == nil
	})
	return append(dst, '}'), err
}

// appendValue writes one value. What is written so far is looked at here, so that nothing grows far beyond what is allowed.
func appendValue(dst []byte, f protoreflect.FieldDescriptor, v protoreflect.Value, most int) ([]byte, error) {
	if len(dst) > most {
		return nil, errTooFar
	}
	switch f.Kind() {
	case protoreflect.MessageKind, protoreflect.GroupKind:
		return appendMessage(dst, v.Message(), most)
	case protoreflect.StringKind:
		return appendText(dst, v.String())
	case protoreflect.BytesKind:
		return appendText(dst, base64.StdEncoding.EncodeToString(v.Bytes()))
	case protoreflect.BoolKind:
		return strconv.AppendBool(dst, v.Bool()), nil
	case protoreflect.EnumKind:
		if named := f.Enum().Values().ByNumber(v.Enum()); named != nil {
			return appendText(dst, string(named.Name()))
		}
		return strconv.AppendInt(dst, int64(v.Enum()), 10), nil
	case protoreflect.FloatKind, protoreflect.DoubleKind:
		return appendFloat(dst, v.Float()), nil
	}
	return fmt.Append(dst, v.Interface()), nil // whole numbers
}

// appendFloat writes null for what JSON has no number for, as the repairs of JSON text do.
func appendFloat(dst []byte, f float64) []byte {
	if math.IsNaN(f) || math.IsInf(f, 0) {
		return append(dst, "null"...)
	}
	return strconv.AppendFloat(dst, f, 'g', -1, 64)
}

func appendText(dst []byte, s string) ([]byte, error) {
	return jsontext.AppendQuote(dst, strings.ToValidUTF8(s, "\uFFFD"))
}
