package format

import (
	"syscall"
	"testing"
	"time"

	"github.com/go-json-experiment/json"

	"serbridge/transform"
)

// benchRecord is a detection of a usual size, written by hand.
var benchRecord = []byte(`{
 "event_name": "Outbound beacon to a rare destination",
 "event_type": "c2_beacon",
 "event_source": "acme_ndr",
 "event_status": "open",
 "timestamp": "2026-03-04T05:06:07.890123Z",
 "severity": "High",
 "fidelity": 82.5,
 "orig_id": "7f3c9a52-4c1f-4f0e-9f57-2b1d8a6ce001",
 "detected_fields": ["dns.query", "dstip", "srcip"],
 "detected_values": ["a1b2c3.example.net", "203.0.113.77", "10.20.30.40"],
 "srcip": "10.20.30.40", "dstip": "203.0.113.77", "dstport": 443, "proto": "tcp",
 "bytes_out": 9007199254740993, "bytes_in": 182734, "duration_ms": 61532.25,
 "sensor": {"name": "edge-07", "site": "plant \"north\"", "version": "4.2.1", "interfaces": ["ens1", "ens2"]},
 "intervals": [60.01, 59.98, 60.02, 60.0, 59.99, 60.03, 60.01],
 "tls": {"sni": "a1b2c3.example.net", "ja3": "e7d705a3286e19ea42f587b344ee6865", "version": "TLS 1.3", "resumed": false},
 "custom_ser_field": {"acme": {"campaign": "spring", "analyst_note": "seen on two hosts before; compare the ticket from Monday"}},
 "description": "The host contacted a destination that nobody else in the network talks to, every minute, for six hours."
}`)

func benchInput() transform.Input {
	at := time.Date(2026, 3, 4, 6, 0, 0, 0, time.UTC)
	return transform.Input{
		Value: benchRecord, Topic: "detections", Partition: 3, Offset: 1234567, Timestamp: at, Now: at, ClusterID: "c1",
	}
}

// BenchmarkTransform is a record to the bytes of its document. The promise is at most 1.6 times the CPU of the floor:
// the same bytes decoded and encoded with the same library, and nothing else. The two take turns, so that a busy machine
// slows both.
func BenchmarkTransform(b *testing.B) {
	const turn = 64
	in := benchInput()
	b.SetBytes(int64(len(in.Value)))
	b.ReportAllocs()
	var spent, floor time.Duration
	for n := 0; n < b.N; n += turn {
		begun := cpuTime()
		for range min(turn, b.N-n) {
			result := Transform(in)
			if _, err := result.Parts[0].Document.Encode(); err != nil {
				b.Fatal(err)
			}
		}
		spent += cpuTime() - begun
		b.StopTimer()
		begun = cpuTime()
		for range min(turn, b.N-n) {
			decodeAndEncode(b)
		}
		floor += cpuTime() - begun
		b.StartTimer()
	}
	b.ReportMetric(float64(spent)/float64(max(floor, 1)), "x-floor-cpu")
}

func decodeAndEncode(b *testing.B) {
	var v any
	if err := json.Unmarshal(benchRecord, &v); err != nil {
		b.Fatal(err)
	}
	if _, err := json.Marshal(v, json.Deterministic(true)); err != nil {
		b.Fatal(err)
	}
}

func BenchmarkTransformFloor(b *testing.B) {
	b.SetBytes(int64(len(benchRecord)))
	b.ReportAllocs()
	for b.Loop() {
		decodeAndEncode(b)
	}
}

func cpuTime() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
