package deadletter

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"serbridge/bridge/kafka"
	"serbridge/bridge/secret"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// maxRecordBytes is the largest record tried, before compression. The topic's max.message.bytes, which counts compressed bytes,
// is what decides; the client's default of 1 MB would refuse what the topic takes.
const maxRecordBytes = 64 << 20

// Config configures a [Writer].
type Config struct {
	Options   []kgo.Opt        // brokers, TLS, SASL, dialer
	Topic     string           // required
	Create    bool             // create the topic if it is missing
	Sources   func() []string  // the topics read, when asked: a created topic copies their partitions and limits. nil: the broker's defaults
	Redactor  *secret.Redactor // for the texts of a letter; nil: none
	Logger    *slog.Logger     // nil: none
	OnPointer func(Letter)     // called when a letter was written without its value: somebody has to look. May be nil
}

// Writer writes dead letters with a client of its own, which outlives the consumer at shutdown.
type Writer struct {
	cfg     Config
	log     *slog.Logger
	dials   *dials
	writes  *kafka.Producer
	setting chan struct{} // holds one token while somebody creates the topic

	partitions atomic.Int32 // of the topic, 0 until the first produce has seen it
	mu         sync.Mutex
	turns      map[int32]chan struct{}
}

// NewWriter returns a writer. It does not connect: a broker that is down heals later.
// The caller has to Close it.
func NewWriter(cfg Config) (*Writer, error) {
	if cfg.Topic == "" {
		return nil, errors.New("configure dead letters: no topic (DLQ_TOPIC)")
	}
	w := &Writer{
		cfg: cfg, log: cfg.Logger, dials: new(dials),
		setting: make(chan struct{}, 1), turns: make(map[int32]chan struct{}),
	}
	if w.log == nil {
		w.log = slog.New(slog.DiscardHandler)
	}
	writes, err := kafka.NewProducer(w.options()...)
	if err != nil {
		return nil, fmt.Errorf("configure the Kafka client for dead letters: %w", err)
	}
	w.writes = writes
	return w, nil
}

func (w *Writer) options() []kgo.Opt {
	return append(w.cfg.Options[:len(w.cfg.Options):len(w.cfg.Options)],
		kgo.RequiredAcks(kgo.AllISRAcks()),
		kgo.ProducerBatchCompression(kgo.ZstdCompression(), kgo.NoCompression()),
		kgo.ProducerBatchMaxBytes(maxRecordBytes),
		kgo.ProducerLinger(0),
		kgo.RecordPartitioner(kgo.BasicConsistentPartitioner(w.partitioner)),
		// Without it a broker that took the request and is silent holds Write beyond its context. The price is a second copy,
		// which the coordinates tell.
		kgo.AllowIdempotentProduceCancellation(),
		// A topic that was just created is produced to within this time, not the default of 5 s.
		kgo.MetadataMinAge(250*time.Millisecond),
		kgo.WithHooks(w.dials),
	)
}

// partitioner puts a letter into source partition mod N.
func (w *Writer) partitioner(string) func(*kgo.Record, int) int {
	return func(r *kgo.Record, n int) int {
		w.partitions.Store(int32(n))
		return int(r.Partition) % n
	}
}

// Topic is where letters go.
func (w *Writer) Topic() string { return w.cfg.Topic }

// Write writes l and returns nil when all in-sync replicas have acknowledged it. An error means that the offset must be held:
// it says what to do, and writing again is right (it may then be there twice, if the acknowledgement was lost). It returns
// when ctx ends, even if the broker is silent, and after Close. It is safe for concurrent use.
//
// A letter too large for the topic is written again without the source's headers, then as a pointer without value.
func (w *Writer) Write(ctx context.Context, l Letter) error {
	l.Detail, l.HTTPBody = w.cfg.Redactor.Redact(l.Detail), w.cfg.Redactor.Redact(l.HTTPBody)
	err := w.writeLargest(ctx, l)
	if errors.Is(err, kerr.InvalidTimestamp) {
		// The topic bounds timestamps and will never take this one: the letter goes in with the time of writing and says so.
		l.Detail = cut(l.Detail, maxDetail/2) + " (timestamp refused by the topic: " + l.Timestamp.UTC().Format(time.RFC3339Nano) + ")"
		l.Timestamp = time.Time{}
		if err = w.writeLargest(ctx, l); err == nil {
			w.log.WarnContext(ctx, "the dead-letter topic refuses the record's timestamp: written with the time of now", w.attrs(l)...)
		}
	}
	if err != nil {
		return fmt.Errorf("write dead letter of %s/%d offset %d: %w", l.Topic, l.Partition, l.Offset, w.explain("produce to", err))
	}
	return nil
}

// writeLargest writes the largest form of l that the topic takes.
func (w *Writer) writeLargest(ctx context.Context, l Letter) error {
	err := w.writeForm(ctx, l.Record)
	if !isTooLarge(err) {
		return err
	}
	err = w.writeForm(ctx, l.bare)
	if err == nil {
		w.log.WarnContext(ctx, "dead letter is too large for its topic: written without the record's headers; raise max.message.bytes", w.attrs(l)...)
	}
	if !isTooLarge(err) {
		return err
	}
	if err = w.writeForm(ctx, l.pointer); err != nil {
		return err
	}
	w.log.ErrorContext(ctx, "dead letter is too large for its topic: written as a pointer without value; the record is only in its source, until retention", w.attrs(l)...)
	if w.cfg.OnPointer != nil {
		l.LeftOut = LeftOutValue
		w.cfg.OnPointer(l)
	}
	return nil
}

// writeForm produces one form of a letter. If the topic is missing, it creates it, if it may, and tries again: once more when the
// client only then learns that the topic is another one of the same name.
func (w *Writer) writeForm(ctx context.Context, form func(topic string) *kgo.Record) (err error) {
	for range 3 {
		if err = w.produce(ctx, form(w.cfg.Topic)); !isUnknownTopic(err) {
			return err
		}
		if errors.Is(err, kerr.UnknownTopicID) {
			// The client refuses to write to it until it forgets the former one. Letters it holds for others fail with it; they
			// are written again.
			w.writes.Client().PurgeTopicsFromProducing(w.cfg.Topic)
		}
		if err := w.ready(ctx); err != nil {
			return err
		}
	}
	return err
}

// produce returns when r is acknowledged, refused or ctx ends.
//
// One record of a partition at a time, so that a batch is one record: a broker refuses a batch as a whole, and a letter that
// would fit must not lose its value because of its neighbours. The promise, not this function, ends the turn: so a partition
// whose broker is silent holds one record in the client's memory, however often Write is called.
func (w *Writer) produce(ctx context.Context, r *kgo.Record) error {
	turn := w.turn(r.Partition)
	select {
	case turn <- struct{}{}:
	case <-ctx.Done():
		return w.unanswered(ctx)
	}
	client := w.writes.Client()
	if err := w.writes.Identify(ctx, client); err != nil {
		<-turn
		return err
	}
	answer := make(chan error, 1) // room for an answer that nobody waits for any more
	client.Produce(ctx, r, func(_ *kgo.Record, err error) {
		<-turn
		answer <- err
	})
	select {
	case err := <-answer:
		if err != nil && ctx.Err() != nil && errors.Is(err, ctx.Err()) {
			return w.unanswered(ctx)
		}
		return err
	case <-ctx.Done():
		return w.unanswered(ctx)
	}
}

// turn is where a letter of this source partition waits for its predecessor in the topic's partition. It must know how many
// partitions the topic has; until then there is one turn for all.
func (w *Writer) turn(partition int32) chan struct{} {
	p := partition % max(1, w.partitions.Load())
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.turns[p] == nil {
		w.turns[p] = make(chan struct{}, 1)
	}
	return w.turns[p]
}

func (w *Writer) unanswered(ctx context.Context) error {
	if err := w.dials.last(); err != nil {
		return fmt.Errorf("no connection (%w): %w", err, ctx.Err())
	}
	return fmt.Errorf("no acknowledgement in time: %w", ctx.Err())
}

// Close ends the writer; Writes under way return an error. It waits for nothing that a broker has to do.
func (w *Writer) Close() { w.writes.Close() }

func (w *Writer) attrs(l Letter) []any {
	return []any{
		"dlq_topic", w.cfg.Topic, "topic", l.Topic, "partition", l.Partition, "offset", l.Offset, "reason", l.Reason,
		"bytes", len(l.Key) + len(l.Value),
	}
}

// explain says whose fault err is and what to do.
func (w *Writer) explain(doing string, err error) error {
	return fmt.Errorf("%s %s: %s%w", doing, w.cfg.Topic, w.advice(err), err)
}

// advice covers the refusals that an operator mends at this topic; the others speak for themselves.
func (w *Writer) advice(err error) string {
	switch {
	case errors.Is(err, kerr.TopicAuthorizationFailed):
		return "grant Describe, Write (and Create, or set DLQ_CREATE=false) on the topic to our Kafka user: "
	case errors.Is(err, kerr.ClusterAuthorizationFailed):
		return "grant our Kafka user Create on the topic or create it by hand (DLQ_CREATE=false), and IdempotentWrite on the cluster if the brokers are older than 2.8: "
	case isUnknownTopic(err) && !w.cfg.Create:
		return "the topic does not exist and DLQ_CREATE is false: create it, or set DLQ_CREATE=true: "
	case isTooLarge(err):
		return "not even a letter without value fits: raise the topic's max.message.bytes and segment.bytes: "
	case errors.Is(err, kerr.NotEnoughReplicas), errors.Is(err, kerr.NotEnoughReplicasAfterAppend):
		return "the topic has fewer in-sync replicas than its min.insync.replicas; Kafka has to recover: "
	case errors.Is(err, kerr.InvalidRecord):
		return "the topic refuses the record; a dead-letter topic must have cleanup.policy=delete: "
	case errors.Is(err, kerr.PolicyViolation), errors.Is(err, kerr.InvalidConfig), errors.Is(err, kerr.InvalidReplicationFactor):
		return "the cluster refuses the topic as we would create it; create it by hand (DLQ_CREATE=false): "
	case errors.Is(err, kgo.ErrClientClosed):
		return "the writer was closed: "
	}
	return ""
}

// isTooLarge covers the client's limit, the topic's, and that of its segments.
func isTooLarge(err error) bool {
	return errors.Is(err, kerr.MessageTooLarge) || errors.Is(err, kerr.RecordListTooLarge)
}

func isUnknownTopic(err error) bool {
	return errors.Is(err, kerr.UnknownTopicOrPartition) || errors.Is(err, kerr.UnknownTopicID)
}

// dials remembers why the last connection failed: a produce that waits for a broker ends with nothing but its context's error.
type dials struct{ err atomic.Pointer[error] }

func (d *dials) last() error {
	if err := d.err.Load(); err != nil {
		return *err
	}
	return nil
}

// inTime says of a request that ended with its context why nobody answered.
func (d *dials) inTime(ctx context.Context, err error) error {
	if last := d.last(); last != nil && ctx.Err() != nil {
		return fmt.Errorf("no connection (%w): %w", last, ctx.Err())
	}
	return err
}

// OnBrokerConnect implements [kgo.HookBrokerConnect].
func (d *dials) OnBrokerConnect(_ kgo.BrokerMetadata, _ time.Duration, _ net.Conn, err error) {
	switch {
	case err == nil:
		d.err.Store(nil)
	case !errors.Is(err, context.Canceled) && !errors.Is(err, kgo.ErrClientClosed):
		d.err.Store(&err)
	}
}
