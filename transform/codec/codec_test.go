package codec

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/twmb/avro"
	"github.com/twmb/avro/ocf"

	"serbridge/transform"
)

const alert = `{"rule":"LAB","priority":"Error"}`

func gzipped(t testing.TB, plain []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	w.Write(plain) //nolint:errcheck // into memory
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func zstded(t testing.TB, plain []byte) []byte {
	t.Helper()
	w, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	return w.EncodeAll(plain, nil)
}

const avroAlert = `{"type":"record","name":"Alert","namespace":"lab","fields":[{"name":"rule","type":"string"},{"name":"priority","type":["null","string"]},
	{"name":"at","type":{"type":"long","logicalType":"timestamp-millis"}},{"name":"id","type":"long"}]}`

func avroValue(t testing.TB, rule string) []byte {
	t.Helper()
	b, err := avro.MustParse(avroAlert).Encode(map[string]any{"rule": rule, "priority": "Error", "at": int64(1772600767890), "id": int64(1) << 60})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func objectContainer(t testing.TB, rules ...string) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := ocf.NewWriter(&b, avro.MustParse(avroAlert), ocf.WithCodec(ocf.DeflateCodec(9)))
	if err != nil {
		t.Fatal(err)
	}
	for _, rule := range rules {
		if err := w.Encode(map[string]any{"rule": rule, "priority": nil, "at": int64(1), "id": int64(2)}); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func framedValue(id uint32, payload ...byte) []byte {
	return append(binary.BigEndian.AppendUint32([]byte{0}, id), payload...)
}

// schemas has each kind under an id of its own; 7 is not read yet, 8 unknown, 9 cannot be compiled.
func schemas(t testing.TB) func(uint32) (transform.Schema, error) {
	t.Helper()
	known := make(map[uint32]transform.Schema)
	for id, s := range map[uint32]struct {
		kind       Kind
		text       string
		references []Reference
	}{
		1: {Avro, avroAlert, nil},
		2: {Protobuf, protoAlert, []Reference{{"lab/where.proto", protoWhere}}},
		3: {JSONSchema, `{"type":"object"}`, nil},
		4: {Avro, `{"type":"record","name":"Outer","fields":[{"name":"a","type":"lab.Alert"}]}`, []Reference{{"lab.Alert", avroAlert}}},
	} {
		schema, err := Compile(s.kind, s.text, s.references)
		if err != nil {
			t.Fatalf("schema %d: %v", id, err)
		}
		known[id] = schema
	}
	return func(id uint32) (transform.Schema, error) {
		switch id {
		case 7:
			return nil, nil
		case 9:
			return nil, errors.New("no schema of ours")
		}
		if s := known[id]; s != nil {
			return s, nil
		}
		return nil, transform.ErrUnknownSchema
	}
}

const protoWhere = `syntax = "proto3"; package lab; message Where { string host = 1; }`

const protoAlert = `syntax = "proto3"; package lab;
import "google/protobuf/timestamp.proto"; import "lab/where.proto";
message Other { string x = 1; message Alert {
  string rule = 1; int64 id = 2; Level level = 3; google.protobuf.Timestamp at = 4; repeated uint32 ports = 5;
  map<string, string> labels = 6; Where where = 7; bytes raw = 8; double score = 9; bool ok = 10; } }
enum Level { LOW = 0; HIGH = 2; }`

// protoValue is Other.Alert: places 0, 0 in the schema.
var protoValue = []byte{4, 0, 0,
	0x0a, 3, 'L', 'A', 'B', 0x10, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x10, 0x18, 2, 0x22, 2, 0x08, 1, 0x2a, 2, 80, 90,
	0x32, 6, 0x0a, 1, 'k', 0x12, 1, 'v', 0x3a, 3, 0x0a, 1, 'h', 0x42, 1, 0xff, 0x49, 0, 0, 0, 0, 0, 0, 0xf8, 0x7f, 0x50, 1}

func TestValuesUnderOtherFormsBecomeTheirJSON(t *testing.T) {
	settings := &transform.Settings{Schemas: schemas(t)}
	const avroJSON = `{"rule":"LAB","priority":"Error","at":1772600767890,"id":1152921504606846976}`
	for name, tc := range map[string]struct {
		value []byte
		want  string
	}{
		"text":                 {[]byte(alert), alert},
		"gzip":                 {gzipped(t, []byte(alert)), alert},
		"zstd":                 {zstded(t, []byte(alert)), alert},
		"container of one":     {objectContainer(t, "a"), `{"rule":"a","priority":null,"at":1,"id":2}`},
		"container of two":     {objectContainer(t, "a", "b"), `[{"rule":"a","priority":null,"at":1,"id":2},{"rule":"b","priority":null,"at":1,"id":2}]`},
		"container of none":    {objectContainer(t), `[]`},
		"container in gzip":    {gzipped(t, objectContainer(t, "a")), `{"rule":"a","priority":null,"at":1,"id":2}`},
		"avro":                 {framedValue(1, avroValue(t, "LAB")...), avroJSON},
		"avro with references": {framedValue(4, avroValue(t, "LAB")...), `{"a":` + avroJSON + `}`},
		"avro in zstd":         {zstded(t, framedValue(1, avroValue(t, "LAB")...)), avroJSON},
		"json schema":          {framedValue(3, []byte(alert)...), alert},
		"protobuf": {framedValue(2, protoValue...), `{"rule":"LAB","id":1152921504606846976,"level":"HIGH","at":"1970-01-01T00:00:01Z","ports":[80,90],` +
			`"labels":{"k":"v"},"where":{"host":"h"},"raw":"/w==","score":null,"ok":true}`},
		"protobuf, first message": {framedValue(2, 0, 0x0a, 1, 'y'), `{"x":"y"}`},
		"protobuf, empty":         {framedValue(2, 0), `{}`},
	} {
		text, hold, reject := Decode(&transform.Input{Value: tc.value, Settings: settings})
		if hold != nil || reject != nil || !sameJSON(t, text, tc.want) {
			t.Errorf("%s: got %s, %v, %+v, want %s", name, text, hold, reject, tc.want)
		}
	}
}

// sameJSON regards the order of members as Protobuf does: not at all.
func sameJSON(t *testing.T, got []byte, want string) bool {
	t.Helper()
	a, b := jsontext.Value(bytes.Clone(got)), jsontext.Value(want)
	if a.Canonicalize() != nil || b.Canonicalize() != nil {
		return string(got) == want
	}
	const exact = "1152921504606846976" // which Canonicalize would round
	return bytes.Equal(a, b) && strings.Contains(string(got), exact) == strings.Contains(want, exact)
}

// A record whose schema has not been read waits for it; one that can never be read becomes a dead letter that says why.
func TestWhatCannotBeReadIsHeldOrRefusedWithItsReason(t *testing.T) {
	settings := &transform.Settings{Schemas: schemas(t)}
	if _, hold, reject := Decode(&transform.Input{Value: framedValue(7, 1), Settings: settings}); hold == nil || hold.SchemaID != 7 || reject != nil {
		t.Errorf("not read yet: %v, %v", hold, reject)
	}
	for name, tc := range map[string]struct {
		value    []byte
		settings *transform.Settings
		reason   transform.Reason
		detail   string
	}{
		"unknown id":          {framedValue(8, 1), settings, transform.UnknownSchema, "no schema 8"},
		"no registry":         {framedValue(1, 1), nil, transform.UnknownSchema, "SCHEMA_REGISTRY_URL"},
		"no registry, either": {framedValue(1, 1), new(transform.Settings), transform.UnknownSchema, "SCHEMA_REGISTRY_URL"},
		"schema of no use":    {framedValue(9, 1), settings, transform.InvalidEncoding, "no schema of ours"},
		"avro, cut off":       {framedValue(1, avroValue(t, "LAB")[:3]...), settings, transform.InvalidEncoding, "schema 1"},
		"avro, too long":      {framedValue(1, append(avroValue(t, "LAB"), 1)...), settings, transform.InvalidEncoding, "left behind"},
		"protobuf, broken":    {framedValue(2, 0, 0x0a, 9, 'y'), settings, transform.InvalidEncoding, "schema 2"},
		"no such message":     {framedValue(2, 2, 18), settings, transform.InvalidEncoding, "no message at the place"},
		"no place":            {framedValue(2, 0xff), settings, transform.InvalidEncoding, "malformed"},
		"negative place":      {framedValue(2, 2, 1), settings, transform.InvalidEncoding, "malformed"},
		"very deep place":     {framedValue(2, 0xfe, 0xff, 0x7f, 0), settings, transform.InvalidEncoding, "malformed"},
		"gzip, cut off":       {gzipped(t, []byte(alert))[:20], settings, transform.InvalidEncoding, "compressed"},
		"zstd, cut off":       {zstded(t, []byte(alert))[:12], settings, transform.InvalidEncoding, "compressed"},
		"container, cut off":  {objectContainer(t, "a")[:60], settings, transform.InvalidEncoding, "container"},
		"gzip bomb":           {gzipped(t, make([]byte, 8<<20)), settings, transform.ExpandsTooFar, "100 times"},
		"zstd bomb":           {zstded(t, make([]byte, 8<<20)), settings, transform.ExpandsTooFar, "100 times"},
		"container bomb":      {objectContainer(t, strings.Repeat("x", 8<<20)), settings, transform.InvalidEncoding, "limit"},
	} {
		text, hold, reject := Decode(&transform.Input{Value: tc.value, Settings: tc.settings})
		if reject == nil || hold != nil || text != nil || reject.Reason != tc.reason || !strings.Contains(reject.Detail, tc.detail) {
			t.Errorf("%s: got %d bytes, %v, %+v", name, len(text), hold, reject)
		}
	}
}

// A schema may say that very much stands in very little.
func TestSchemaThatMakesMuchOfLittleIsBounded(t *testing.T) {
	long := strings.Repeat("n", 60_000)
	schema, err := Compile(Avro, `{"type":"record","name":"R","fields":[{"name":"`+long+`","type":"int"},{"name":"`+long+`2","type":"int"}]}`, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := schema([]byte{2, 2}, leastAllowed); !errors.Is(err, errTooFar) {
		t.Errorf("avro: %v", err)
	}
	schema, err = Compile(Protobuf, `syntax = "proto3"; message M { repeated M `+long+` = 1; }`, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := schema(append([]byte{0}, bytes.Repeat([]byte{0x0a, 2, 0x0a, 0}, 1000)...), leastAllowed); !errors.Is(err, errTooFar) {
		t.Errorf("protobuf: %v", err)
	}
}

func TestSchemasThatCannotBeReadAreErrors(t *testing.T) {
	for _, s := range []struct {
		kind Kind
		text string
	}{{Avro, `{"type":"nothing"}`}, {Avro, ""}, {Protobuf, "message"}, {Protobuf, `import "not/there.proto";`}, {"THRIFT", ""}} {
		if _, err := Compile(s.kind, s.text, nil); err == nil {
			t.Errorf("%s %q was compiled", s.kind, s.text)
		}
	}
}

// FuzzDecode: whatever the bytes, no panic; text, a hold or a reject, and no more text than is allowed.
func FuzzDecode(f *testing.F) {
	settings := &transform.Settings{Schemas: schemas(f)}
	for _, seed := range [][]byte{nil, []byte(alert), gzipped(f, []byte(alert)), zstded(f, []byte(alert)), objectContainer(f, "a", "b"),
		framedValue(1, avroValue(f, "LAB")...), framedValue(2, protoValue...), framedValue(3, []byte(alert)...), framedValue(4), framedValue(7, 0)} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, value []byte) {
		text, hold, reject := Decode(&transform.Input{Value: value, Settings: settings})
		if len(text) > 2*mostAllowed || reject != nil && (reject.Reason == "" || text != nil || hold != nil) {
			t.Errorf("%d bytes, %v, %+v", len(text), hold, reject)
		}
	})
}

// Whoever holds records takes room for what Decode may make of them: it must never be more than was said.
func TestExpansionIsWhatDecodeMayMake(t *testing.T) {
	for name, tc := range map[string]struct {
		value []byte
		want  int
	}{
		"nothing": {nil, 0}, "text": {[]byte(alert), 0}, "a zero alone": {[]byte{0}, 0},
		"gzip": {gzipped(t, []byte(alert)), leastAllowed}, "frame": {framedValue(1, make([]byte, 1000)...), 100 * 1005},
		"container": {objectContainer(t, "a"), 100 * len(objectContainer(t, "a"))}, "large": {zstded(t, randomText(1<<20)), mostAllowed},
	} {
		if got := Expansion(tc.value); got != tc.want {
			t.Errorf("%s: got %d, want %d", name, got, tc.want)
		}
	}
	inner := objectContainer(t, strings.Repeat("x", 90_000)) // a hundredth of itself
	value := gzipped(t, inner)
	if text, _, reject := Decode(&transform.Input{Value: value}); len(text) > Expansion(value) || text == nil && reject.Reason == "" {
		t.Errorf("%d bytes of %d, wrapped twice: %+v", len(text), len(value), reject)
	}
}

func randomText(n int) []byte {
	b := make([]byte, n)
	r := rand.New(rand.NewPCG(1, 2))
	for i := range b {
		b[i] = byte(' ' + r.IntN(90))
	}
	return b
}
