package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"golang.org/x/time/rate"

	"serbridge/bridge/audit"
	"serbridge/bridge/deadletter"
	"serbridge/bridge/receipt"
	"serbridge/bridge/secret"
	"serbridge/bridge/stellar"
	"serbridge/transform"
)

// lookback is what trace and audit share: how to find out what has become of records, from Kafka and the platform. Nothing
// is sent, committed or joined.
type lookback struct {
	*program
	rate float64 // searches per second; 0: RATE_LIMIT

	settings settings
	red      *secret.Redactor
	options  []kgo.Opt
	client   *kgo.Client
	admin    *kadm.Client
	box      *letterBox
	stellar  *stellar.Client // nil: the platform is not asked
	index    *audit.Index    // nil: as well
	cluster  string          // hashed into delivery keys
	mapped   func(topic string) *transform.Settings
}

// receiptsBefore is how much earlier than the time of its record a receipt is looked for: producers set that time, and
// their clocks may be ahead.
const receiptsBefore = 24 * time.Hour

// open reads the settings of `run`, those of the platform only if it is asked, and connects. The caller has to close.
func (l *lookback) open(ctx context.Context, asks bool) (err error) {
	defer func() {
		if err != nil {
			l.close()
		}
	}()
	l.red = new(secret.Redactor)
	load := loadReadingSettings
	if asks {
		load = loadSettings
	}
	if l.settings, err = load(l.environ, l.red); err != nil {
		return err
	}
	log := slog.New(l.red.Handler(slog.NewTextHandler(l.stderr, &slog.HandlerOptions{Level: slog.LevelError})))
	if l.options, err = l.settings.Kafka.options(log, l.red); err != nil {
		return usageError{err}
	}
	l.box = &letterBox{program: l.program, settings: lettersSettings{l.settings.Kafka, l.settings.DLQ, l.settings.Receipts}, options: l.options, red: l.red, log: log}
	l.mapped = l.settings.byTopic()
	if asks {
		if l.stellar, err = stellar.New(l.settings.stellarConfig(log, l.red)); err != nil {
			return usageError{err}
		}
		l.index = &audit.Index{Client: l.stellar, Limit: l.limiter()}
	}
	if l.client, err = kgo.NewClient(append(l.options[:len(l.options):len(l.options)], kgo.DisableClientMetrics())...); err != nil {
		return usageError{fmt.Errorf("make Kafka client: %w", err)}
	}
	l.admin = kadm.NewClient(l.client)
	asking, cancel := planning(ctx)
	defer cancel()
	meta, err := l.admin.BrokerMetadata(asking)
	if err != nil {
		return l.box.fault("ask Kafka for its cluster", errors.Join(err, context.Cause(asking)))
	}
	l.cluster = meta.Cluster
	return nil
}

// limiter is that of searches, which come on top of what the live group sends.
func (l *lookback) limiter() *rate.Limiter {
	n := l.rate
	if n == 0 {
		n = l.settings.Delivery.RateLimit
	}
	if n == 0 {
		return nil
	}
	return rate.NewLimiter(rate.Limit(n), 1)
}

func (l *lookback) close() {
	if l.client != nil {
		l.client.Close()
	}
	if l.stellar != nil {
		l.stellar.Close()
	}
}

// receipts opens the receipts topic from a time on; nil if none are written.
func (l *lookback) receipts(ctx context.Context, since time.Time) (*receipt.Reader, error) {
	if l.settings.Receipts.Topic == "" {
		return nil, nil
	}
	if !since.IsZero() {
		since = since.Add(-receiptsBefore)
	}
	r, err := receipt.OpenReader(ctx, l.options, l.settings.Receipts.Topic, since)
	if errors.Is(err, deadletter.ErrNoTopic) {
		return nil, fmt.Errorf("read receipts: topic %s: %w: RECEIPTS_TOPIC is not that of the bridge, or our Kafka user may not see it (Describe)", l.settings.Receipts.Topic, err)
	}
	return r, l.box.fault("read receipts", err)
}

// letters opens the dead-letter topic; nil if there is none.
func (l *lookback) letters(ctx context.Context) (*deadletter.Reader, error) {
	r, err := deadletter.OpenReader(ctx, l.options, l.settings.DLQ.Topic)
	if errors.Is(err, deadletter.ErrNoTopic) {
		return nil, nil
	}
	return r, l.box.fault("read dead letters", err)
}

// input is the record as the bridge reads it, now.
func (l *lookback) input(k *kgo.Record) transform.Input {
	return transform.Input{Value: k.Value, Topic: k.Topic, Partition: k.Partition, Offset: k.Offset, Timestamp: k.Timestamp,
		Now: time.Now(), ClusterID: l.cluster, Settings: l.mapped(k.Topic)}
}
