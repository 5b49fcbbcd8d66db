package format

import (
	"testing"

	"github.com/go-json-experiment/json"

	"serbridge/transform"
)

// BenchmarkTransformFormats is a record of each mapping's first case to the bytes of its documents. The promise is at
// most 3 times the floor beside it, which decodes and encodes the same bytes with the same library.
func BenchmarkTransformFormats(b *testing.B) {
	for _, m := range builtIn().mappings {
		in := caseInput(m, m.cases[0])
		floor := in.Value
		if leaves, ok := plainText(string(in.Value), nil); ok {
			floor = []byte(leaves[0].record.JSON()) // of a text, what it says as JSON
		}
		Transform(in) // compiles the mapping
		b.Run(m.name+"/map", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				for _, part := range Transform(in).Parts {
					if part.Document == nil {
						continue
					}
					if _, err := part.Document.Encode(); err != nil {
						b.Fatal(err)
					}
				}
			}
		})
		b.Run(m.name+"/floor", func(b *testing.B) {
			b.ReportAllocs()
			benchFloor(b, floor)
		})
	}
}

func benchFloor(b *testing.B, record []byte) {
	for b.Loop() {
		var v any
		if err := json.Unmarshal(record, &v); err != nil {
			b.Fatal(err)
		}
		if _, err := json.Marshal(v, json.Deterministic(true)); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkTransformUnknown is a record that no format knows. The promise is at most 1.2 times its decoding alone.
func BenchmarkTransformUnknown(b *testing.B) {
	record := []byte(`{"flow":{"src":{"ip":"10.0.0.7","port":51515},"dst":{"ip":"198.51.100.7","port":443}},"proto":"tcp","bytes":[1234,5678],
 "packets":[12,34],"started":"2026-03-04T05:06:07.890123Z","ended":"2026-03-04T05:07:07.890123Z","exporter":{"name":"lab-router","interface":7},
 "tcp":{"flags":"SPA","rtt_ms":12.5},"labels":{"site":"lab","zone":"dmz","owner":"nobody"},"sampling":1,"direction":"egress","vlan":12}`)
	in := transform.Input{Value: record, Topic: "t", Timestamp: caseTime, Now: caseTime}
	b.Run("transform", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if Transform(in).Reject == nil {
				b.Fatal("it is known")
			}
		}
	})
	b.Run("decode", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			var v any
			if err := json.Unmarshal(record, &v); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("read", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, reject := transform.Read(&in); reject != nil {
				b.Fatal(reject)
			}
		}
	})
}

// BenchmarkLoad is what the first record costs: reading all files. Expressions are compiled with each format's first.
func BenchmarkLoad(b *testing.B) {
	for b.Loop() {
		if _, err := load(files); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkCompileAll(b *testing.B) {
	for b.Loop() {
		c, err := load(files)
		if err != nil {
			b.Fatal(err)
		}
		for _, m := range c.mappings {
			if _, err := m.rules(); err != nil {
				b.Fatal(err)
			}
		}
	}
}
