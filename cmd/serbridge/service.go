package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/plugin/kprom"

	"serbridge/bridge"
	"serbridge/bridge/admin"
	"serbridge/bridge/deadletter"
	"serbridge/bridge/receipt"
	"serbridge/bridge/secret"
	"serbridge/bridge/stellar"
)

// service is the bridge with everything around it, as `run` and `demo` run it.
type service struct {
	settings settings
	log      *slog.Logger
	redactor *secret.Redactor

	health   admin.Health
	journal  admin.Journal
	registry *prometheus.Registry
	admin    *admin.Server
	stellar  *stellar.Client
	letters  *deadletter.Writer
	receipts *receipt.Writer // nil: none are written
	traces   *traces
	bridge   *bridge.Bridge
}

// stopAdmin bounds the end of the admin port: a scrape under way may finish.
const stopAdmin = 2 * time.Second

// stopTraces bounds the last sending of spans.
const stopTraces = time.Second

// newService makes all parts; it connects to nothing. Errors are of the
// configuration. What changes alter is what the environment cannot say.
func newService(s settings, log *slog.Logger, red *secret.Redactor, changes ...func(*bridge.Config)) (_ *service, err error) {
	v := &service{settings: s, log: log, redactor: red, registry: prometheus.NewRegistry()}
	defer func() {
		if err != nil {
			v.close()
		}
	}()
	if v.traces, err = newTraces(s.Traces, log, red); err != nil {
		return nil, err
	}
	v.registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		newBuildInfo())
	v.admin = admin.New(admin.Config{Addr: s.Process.AdminAddr, Health: &v.health, Gatherer: v.registry, Logger: log, Redactor: red, Journal: &v.journal})
	if v.stellar, err = stellar.New(s.stellarConfig(log, red)); err != nil {
		return nil, err
	}
	options, err := s.Kafka.options(log, red)
	if err != nil {
		return nil, err
	}
	v.letters, err = deadletter.NewWriter(deadletter.Config{
		Options: options, Topic: s.DLQ.Topic, Create: s.DLQ.Create, Sources: s.Kafka.named, Redactor: red, Logger: log,
		OnPointer: v.countPointers(),
	})
	if err != nil {
		return nil, err
	}
	if s.Receipts.Topic != "" {
		if v.receipts, err = receipt.NewWriter(v.receiptConfig(options)); err != nil {
			return nil, err
		}
		v.countReceipts()
	}
	cfg := v.bridgeConfig(options)
	for _, change := range changes {
		change(&cfg)
	}
	v.bridge, err = bridge.New(cfg)
	return v, err
}

func (all settings) stellarConfig(log *slog.Logger, red *secret.Redactor) stellar.Config {
	s := all.Stellar
	return stellar.Config{
		URL: s.URL, InsertPath: s.InsertPath, Auth: s.Auth, User: s.User, APIKey: s.APIKey, Success: s.Success,
		Timeout: s.Timeout, MaxInFlight: all.Delivery.MaxInFlight,
		CAFile: s.CAFile, InsecureSkipVerify: s.InsecureSkipVerify,
		Namespace: all.Transform.CustomNamespace, Redactor: red, Logger: log,
		UserAgent: "serbridge/" + buildVersion(),
	}
}

func (v *service) bridgeConfig(options []kgo.Opt) bridge.Config {
	k, d := v.settings.Kafka, v.settings.Delivery
	clientMetrics := kprom.NewMetrics("serbridge_kafka", kprom.Registry(v.registry), kprom.BrokerLabels())
	c := bridge.Config{
		Kafka: options, Member: []kgo.Opt{kgo.WithHooks(clientMetrics)}, Topics: k.Topics, Group: k.Group, Protocol: k.GroupProtocol,
		SessionTimeout: k.SessionTimeout, Rack: k.Rack,
		Start:   bridge.Start{Latest: k.Start.Latest, Time: k.Start.Time, Ago: k.Start.Ago},
		Stellar: v.stellar, DeadLetters: v.letters,
		Internal:  v.settings.ownTopics(),
		Transform: v.settings.byTopic(),
		RateLimit: d.RateLimit, RateBurst: d.RateBurst, RateShare: d.RateShare, MaxInFlight: d.MaxInFlight,
		BufferBytes: int(d.BufferBytes), CommitInterval: d.CommitInterval,
		MaxRepeats: zeroIsNone(d.MaxRepeats), MaxSends: d.MaxSends, RejectBrake: zeroIsNone(d.RejectBrake),
		OnAmbiguous: d.OnAmbiguous, ProbeWait: d.ProbeWait, OnRefused: d.OnRefused, DrainTimeout: d.DrainTimeout,
		Instance: k.instance(), Version: buildVersion(),
		Health: &v.health, Journal: &v.journal, Logger: v.log, Registerer: v.registry, Redact: v.redactor.Redact, Tracer: v.traces.tracer(),
	}
	if opened := v.settings.Registry.opened; opened != nil {
		c.Schema = opened.Fetch
	}
	if v.receipts != nil {
		c.Ended, c.Flush = v.takeReceipt, v.receipts.Flush
	}
	return c
}

// countPointers counts dead letters that were too large for their topic even
// alone: the record must be looked for in its source before retention takes it.
func (v *service) countPointers() func(deadletter.Letter) {
	c := prometheus.NewCounter(prometheus.CounterOpts{
		Name: "serbridge_dead_letter_pointers_total",
		Help: "Dead letters written without the record's value, which the dead-letter topic refused as too large.",
	})
	v.registry.MustRegister(c)
	return func(deadletter.Letter) { c.Inc() }
}

// zeroIsNone turns the operator's 0, no bound, into the bridge's.
func zeroIsNone(n int) int {
	if n == 0 {
		return -1
	}
	return n
}

// start opens the admin port; its address is known from then on. After an
// error there is nothing to run.
func (v *service) start() error {
	if err := v.admin.Start(); err != nil {
		v.close()
		return err
	}
	return nil
}

// run serves until ctx ends and the drain is over. Call it once, after start.
func (v *service) run(ctx context.Context) error {
	defer v.close()
	defer v.stopAdmin()
	return v.runBridge(ctx)
}

// runBridge runs the bridge and what writes its receipts.
func (v *service) runBridge(ctx context.Context) error {
	if v.receipts != nil {
		v.receipts.Start()
		defer context.AfterFunc(ctx, v.receipts.Hurry)()
	}
	return v.bridge.Run(ctx)
}

func (v *service) stopAdmin() {
	ctx, cancel := context.WithTimeout(context.Background(), stopAdmin)
	defer cancel()
	if err := v.admin.Shutdown(ctx); err != nil && !errors.Is(err, net.ErrClosed) {
		v.log.Debug("stop admin port", "error", err)
	}
}

// stopTraces bounds the end of the traces: a collector that is away must not hold up a stop.
func (v *service) stopTraces() {
	ctx, cancel := context.WithTimeout(context.Background(), stopTraces)
	defer cancel()
	if err := v.traces.stop(ctx); err != nil {
		v.log.Warn("the last traces are lost", "error", err)
	}
}

func (v *service) close() {
	v.stopTraces()
	if v.receipts != nil {
		v.receipts.Close()
	}
	if v.letters != nil {
		v.letters.Close()
	}
	if v.stellar != nil {
		v.stellar.Close()
	}
}

// instance names this machine: the pod's name on Kubernetes.
func instance() string {
	name, err := os.Hostname()
	if err != nil || name == "" {
		return fmt.Sprintf("serbridge-%d", os.Getpid())
	}
	return name
}

func newBuildInfo() prometheus.Collector {
	g := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "serbridge_build_info", Help: "1, with the build's version.",
		ConstLabels: prometheus.Labels{"version": buildVersion()},
	})
	g.Set(1)
	return g
}
