package format

import (
	"slices"
	"testing"
	"time"

	"github.com/go-json-experiment/json"

	"serbridge/transform"
)

// BenchmarkTransformFormats is a record of each mapping, the largest of its cases, to the bytes of its documents. The
// promise is at most 3 times the CPU of the floor, which decodes and encodes the same bytes with the same library; for a
// text that is no JSON, what it says as JSON. The two take turns, so that a busy machine slows both.
func BenchmarkTransformFormats(b *testing.B) {
	for _, m := range builtIn().mappings {
		largest := slices.MaxFunc(m.cases(), func(a, b mappingCase) int { return len(a.input) - len(b.input) })
		in := caseInput(m, largest)
		floor := in.Value
		if leaves, ok := plainText(string(in.Value), nil); ok {
			floor = []byte(leaves[0].record.JSON())
		}
		Transform(in) // compiles the mapping
		b.Run(m.name, func(b *testing.B) {
			b.ReportAllocs()
			inTurns(b, func() { transformAndEncode(b, in) }, func() { decodeAndEncodeOf(b, floor) })
		})
	}
}

// BenchmarkTransformUnknown is a record that no format knows. The promise is at most 1.2 times its decoding alone.
func BenchmarkTransformUnknown(b *testing.B) {
	record := []byte(`{"flow":{"src":{"ip":"10.0.0.7","port":51515},"dst":{"ip":"198.51.100.7","port":443}},"proto":"tcp","bytes":[1234,5678],
 "packets":[12,34],"started":"2026-03-04T05:06:07.890123Z","ended":"2026-03-04T05:07:07.890123Z","exporter":{"name":"lab-router","interface":7},
 "tcp":{"flags":"SPA","rtt_ms":12.5},"labels":{"site":"lab","zone":"dmz","owner":"nobody"},"sampling":1,"direction":"egress","vlan":12}`)
	in := transform.Input{Value: record, Topic: "t", Timestamp: caseTime, Now: caseTime}
	b.ReportAllocs()
	inTurns(b, func() {
		if Transform(in).Reject == nil {
			b.Fatal("it is known")
		}
	}, func() {
		var v any
		if err := json.Unmarshal(record, &v); err != nil {
			b.Fatal(err)
		}
	})
}

// inTurns runs both by turns and reports how many times the CPU of the floor the first took.
func inTurns(b *testing.B, run, floor func()) {
	const turn = 64
	var spent, least time.Duration
	for n := 0; n < b.N; n += turn {
		begun := cpuTime()
		for range min(turn, b.N-n) {
			run()
		}
		spent += cpuTime() - begun
		b.StopTimer()
		begun = cpuTime()
		for range min(turn, b.N-n) {
			floor()
		}
		least += cpuTime() - begun
		b.StartTimer()
	}
	b.ReportMetric(float64(spent)/float64(max(least, 1)), "x-floor-cpu")
}

func transformAndEncode(b *testing.B, in transform.Input) {
	for _, part := range Transform(in).Parts {
		if part.Document == nil {
			continue
		}
		if _, err := part.Document.Encode(); err != nil {
			b.Fatal(err)
		}
	}
}

func decodeAndEncodeOf(b *testing.B, record []byte) {
	var v any
	if err := json.Unmarshal(record, &v); err != nil {
		b.Fatal(err)
	}
	if _, err := json.Marshal(v, json.Deterministic(true)); err != nil {
		b.Fatal(err)
	}
}

// BenchmarkLoad is what the first record of a process costs: reading all files. The expressions of a format are compiled
// with its own first record.
func BenchmarkLoad(b *testing.B) {
	for b.Loop() {
		if _, err := load(files); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkCompileAll is the compiling of every expression there is.
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
