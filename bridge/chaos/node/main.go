// Node is the world around serbridge in a test on a real Kubernetes node: an embedded broker, the API simulator and a
// source of records in one process, for one pod. It listens at the pod's address, which the broker gives to its clients.
//
//	:9092  the broker, with the topic detections; in plain text, and by TLS for clients with a certificate
//	:8088  the simulator of the API, in plain text and by TLS, and, under /world/:
//	         POST /world/produce?records=N&rate=PER_SECOND   produces in the background; with &value=TEXT that, no detections
//	         POST /world/credentials?key=KEY                 another API key, and no token is good any more
//	         POST /world/authority                           another certificate authority, and a Secret for its clients
//	         GET  /world/account                             what was produced, committed and stored, as JSON
package main

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"serbridge/bridge/stellar/stellartest"
)

const (
	topic      = "detections"
	partitions = 6
	group      = "serbridge"
	most       = 1_000_000 // records of one call
)

// world is all that serbridge sees.
type world struct {
	ctx       context.Context // of what runs in the background; ends with the process
	client    *kgo.Client
	admin     *kadm.Client
	simulator *stellartest.Server
	produced  atomic.Int64
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Getenv("POD_IP")); err != nil {
		log.Fatal("node: ", err)
	}
}

func run(ctx context.Context, ip string) error {
	a := &authority{ip: ip, open: make(map[net.Conn]struct{})}
	listen := func(network, address string) (net.Listener, error) {
		_, port, err := net.SplitHostPort(address)
		if err != nil {
			return nil, err
		}
		l, err := net.Listen(network, net.JoinHostPort(ip, port))
		return listener{l, a, tls.RequireAndVerifyClientCert}, err
	}
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.Ports(9092), kfake.ListenFn(listen), kfake.SeedTopics(partitions, topic))
	if err != nil {
		return fmt.Errorf("start broker: %w", err)
	}
	defer cluster.Close()
	client, err := kgo.NewClient(kgo.SeedBrokers(cluster.ListenAddrs()...), kgo.DefaultProduceTopic(topic),
		kgo.RecordPartitioner(kgo.RoundRobinPartitioner())) // every member has something to do
	if err != nil {
		return fmt.Errorf("make client: %w", err)
	}
	defer client.Close()
	w := &world{ctx: ctx, client: client, admin: kadm.NewClient(client), simulator: stellartest.New(stellartest.Config{APIKey: os.Getenv("API_KEY")})}
	defer w.simulator.Close()
	mux := http.NewServeMux()
	mux.HandleFunc("POST /world/produce", w.produce)
	mux.HandleFunc("POST /world/credentials", w.credentials)
	mux.HandleFunc("POST /world/authority", a.renew)
	mux.HandleFunc("GET /world/account", w.account)
	mux.Handle("/", w.simulator)
	api, err := net.Listen("tcp", net.JoinHostPort(ip, "8088"))
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	server := &http.Server{Handler: mux, ReadHeaderTimeout: time.Minute}
	defer context.AfterFunc(ctx, func() { server.Close() })()
	if err := server.Serve(listener{api, a, tls.NoClientCert}); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve: %w", err)
	}
	return nil
}

func (w *world) produce(out http.ResponseWriter, r *http.Request) {
	n, err1 := strconv.Atoi(r.FormValue("records"))
	rate, err2 := strconv.Atoi(r.FormValue("rate"))
	if err := errors.Join(err1, err2); err != nil || n < 1 || n > most || rate < 1 || rate > 100_000 {
		http.Error(out, "records and rate want numbers", http.StatusBadRequest)
		return
	}
	go w.load(n, time.Second/time.Duration(rate), r.FormValue("value")) // ends by itself, or with the process
	out.WriteHeader(http.StatusAccepted)
}

// load produces n records, one each pause: detections, or that value.
func (w *world) load(n int, pause time.Duration, given string) {
	tick := time.NewTicker(pause)
	defer tick.Stop()
	for range n {
		select {
		case <-tick.C:
		case <-w.ctx.Done():
			return
		}
		value := []byte(given)
		if given == "" {
			value = detection(time.Now())
		}
		w.client.Produce(w.ctx, &kgo.Record{Value: value}, func(_ *kgo.Record, err error) {
			if err == nil {
				w.produced.Add(1)
			}
		})
	}
}

func detection(now time.Time) []byte {
	return fmt.Appendf(nil, `{"event_name":"node test","event_source":"node","event_status":"New","timestamp":%d,"severity":50}`, now.UnixMilli())
}

func (w *world) credentials(out http.ResponseWriter, r *http.Request) {
	w.simulator.SetCredentials(stellartest.DefaultUser, r.FormValue("key"))
	w.simulator.RevokeTokens()
	out.WriteHeader(http.StatusNoContent)
}

// account is what became of the records.
type account struct {
	Produced  int64 `json:"produced"`
	Committed int64 `json:"committed"`
	Documents int   `json:"documents"`
	Distinct  int   `json:"distinct"`
	Repeats   int   `json:"repeats"`
}

func (w *world) account(out http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), 5*time.Second)
	defer cancel()
	l := w.simulator.Ledger()
	a := account{Produced: w.produced.Load(), Documents: l.Documents, Distinct: l.Distinct, Repeats: l.Repeats}
	commits, err := w.admin.FetchOffsets(ctx, group) // without a group yet, nothing is committed
	if err == nil {
		commits.Each(func(o kadm.OffsetResponse) {
			if o.Topic == topic {
				a.Committed += max(0, o.At)
			}
		})
	}
	out.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(out).Encode(a)
}
