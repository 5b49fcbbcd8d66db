package format

import (
	"bytes"
	"compress/gzip"
	"strings"
	"testing"

	"serbridge/transform"
)

// A compressed detection is the detection, with its text as the native record, and not the bytes it came in.
func TestCompressedDetectionIsMappedLikeAPlainOne(t *testing.T) {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	w.Write([]byte(falcoAlert + "\n" + falcoAlert)) //nolint:errcheck // into memory
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	plain, compressed := Transform(input(falcoAlert+"\n"+falcoAlert, nil)), Transform(input(b.String(), nil))
	if len(compressed.Parts) != 2 || describe(compressed) != describe(plain) {
		t.Fatalf("got %s, want %s", describe(compressed), describe(plain))
	}
	text, _ := compressed.Parts[0].Document.Encode()
	if !bytes.Contains(text, []byte(`"raw_json":"{\"rule\":\"LAB\"`)) {
		t.Errorf("got %s", text)
	}
}

// What is held is neither skipped nor refused, and is the detection once its schema is there.
func TestFramedDetectionIsHeldUntilItsSchemaIsThere(t *testing.T) {
	var schema transform.Schema
	settings := &transform.Settings{Schemas: func(uint32) (transform.Schema, error) { return schema, nil }}
	in := input("\x00\x00\x00\x01\x02"+falcoAlert, settings)
	if r := Transform(in); r.Hold == nil || r.Hold.SchemaID != 258 || r.Skip != "" || r.Reject != nil || r.Parts != nil {
		t.Errorf("got %+v", r)
	}
	if all := Explain(in); len(all) != 1 || !strings.Contains(all[0].Outcome, "schema 258") {
		t.Errorf("explained as %+v", all)
	}
	schema = func(payload []byte, _ int) ([]byte, error) { return payload, nil }
	if r := Transform(in); r.Format != "falco" || r.Hold != nil || len(r.Parts) != 1 {
		t.Errorf("got %+v", r)
	}
	if r := Transform(input("\x00\x00\x00\x01\x02{}", nil)); r.Reject == nil || r.Reject.Reason != transform.UnknownSchema {
		t.Errorf("without a registry: %+v", r)
	}
}
