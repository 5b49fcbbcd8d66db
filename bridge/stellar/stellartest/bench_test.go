package stellartest

import (
	"io"
	"net/http"
	"strings"
	"testing"
)

// discard is a ResponseWriter that costs nothing.
type discard struct{ h http.Header }

func (d discard) Header() http.Header         { return d.h }
func (d discard) Write(b []byte) (int, error) { return len(b), nil }
func (d discard) WriteHeader(int)             {}

// BenchmarkInsert is the simulator alone: a document of 3 kB, no network.
func BenchmarkInsert(b *testing.B) {
	s := New(Config{})
	body := strings.Replace(document("0123456789abcdef0123456789abcdef"), `"n"`, `"n","raw_json":"`+strings.Repeat("detection ", 300)+`"`, 1)
	req, _ := http.NewRequest("POST", InsertPath, nil)
	req.SetBasicAuth(DefaultUser, DefaultAPIKey)
	req.Header.Set("Content-Type", "application/json")
	b.ReportAllocs()
	for b.Loop() {
		req.Body, req.ContentLength = io.NopCloser(strings.NewReader(body)), int64(len(body))
		s.ServeHTTP(discard{http.Header{}}, req)
	}
	if n := s.Ledger().Documents; n != b.N {
		b.Fatalf("%d stored of %d", n, b.N)
	}
}

// BenchmarkInsertTCP is client, network and simulator together.
func BenchmarkInsertTCP(b *testing.B) {
	p := overTCP(b, Config{})
	body := document("k")
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			p.insert(body)
		}
	})
}
