package receipt

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"serbridge/bridge/kafka"
	"serbridge/bridge/pause"
)

const (
	// roomBytes bounds the receipts that are not acknowledged yet, those of all partitions together.
	roomBytes = 4 << 20
	// leastShare is how many partitions the room is shared by at least.
	leastShare = 4
	// entryBytes is what a receipt costs beside its bytes.
	entryBytes = 256

	batchBytes = 256 << 10
	hurried    = 5 * time.Second // how long a stop waits for receipts, which is less than it tries to commit
	caughtUp   = time.Second     // a partition that acknowledges within this time is well again
	longest    = 5 * time.Second // backoff
	readyWait  = 10 * time.Second
	userFor    = time.Minute // how long the destination's user is kept, which may stand in a file
)

// Config configures a [Writer].
type Config struct {
	Options   []kgo.Opt       // brokers, TLS, SASL, dialer
	Topic     string          // required
	Retention time.Duration   // of the topic, where it is created
	Sources   func() []string // topics that are read: a created topic gets as many partitions. nil: the broker's default
	Hold      time.Duration   // how long receipts may hold up delivery and commits

	Host            string                 // destination
	User            func() (string, error) // and its user; nil: none
	Group, Run      string
	Instance        string
	Bridge          string           // version of the build
	Trouble         func(why string) // told what is wrong, and of its end with "". nil: nobody is
	Redact          func(string) string
	Logger          *slog.Logger
	roomBytesOfTest int
}

// Stats are a writer's numbers.
type Stats struct {
	Written int64 // receipts acknowledged
	Lost    int64 // receipts that are in no topic
	Waiting int64 // receipts not acknowledged yet
}

// Writer writes receipts with a client of its own, while delivery goes on.
type Writer struct {
	cfg    Config
	log    *slog.Logger
	writes *kafka.Producer
	life   context.Context
	end    context.CancelFunc
	wg     sync.WaitGroup // keep
	due    chan struct{}  // capacity 1: something failed

	mu      sync.Mutex
	hold    time.Duration
	lanes   map[int32]*lane // by source partition
	away    int             // of them
	taken   uint64
	changed chan struct{} // closed at the next change, if somebody waits
	failed  []*entry      // to be produced again
	fault   error         // of the last that failed
	ready   bool          // the topic is there
	known   bool          // our producer id was not refused
	said    string        // trouble
	lost    int64         // when the trouble began
	stats   Stats
	user    string
	userAt  time.Time
}

// lane holds what is not acknowledged of one source partition, which is one partition of the topic.
type lane struct {
	entries []*entry // oldest first; some of them acknowledged
	bytes   int
	away    bool // its receipts are waited for by nobody
}

type entry struct {
	n     uint64
	lane  *lane
	at    time.Time
	bytes int
	acked bool

	key, value []byte
	ended      time.Time
	partition  int32
}

// NewWriter returns a writer. It connects to nothing before Start. The caller has to Close it.
func NewWriter(cfg Config) (*Writer, error) {
	if cfg.Topic == "" {
		return nil, errors.New("configure receipts: no topic (RECEIPTS_TOPIC)")
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Trouble == nil {
		cfg.Trouble = func(string) {}
	}
	if cfg.Redact == nil {
		cfg.Redact = func(s string) string { return s }
	}
	w := &Writer{cfg: cfg, log: cfg.Logger, hold: cfg.Hold, due: make(chan struct{}, 1), lanes: make(map[int32]*lane)}
	writes, err := kafka.NewProducer(append(cfg.Options[:len(cfg.Options):len(cfg.Options)],
		kgo.RequiredAcks(kgo.AllISRAcks()),
		kgo.ProducerBatchCompression(kgo.ZstdCompression(), kgo.NoCompression()),
		kgo.ProducerBatchMaxBytes(batchBytes),
		kgo.ProducerLinger(0),
		kgo.MaxBufferedRecords(roomBytes/entryBytes+1), // never reached: the room is
		kgo.RecordPartitioner(kgo.BasicConsistentPartitioner(likeTheSource)),
		kgo.AllowIdempotentProduceCancellation(), // or Close would wait for a broker that is silent
		kgo.MetadataMinAge(250*time.Millisecond), // a topic that was just created is found within this time
		kgo.DisableClientMetrics(),
	)...)
	if err != nil {
		return nil, fmt.Errorf("configure the Kafka client for receipts: %w", err)
	}
	w.writes = writes
	w.life, w.end = context.WithCancel(context.Background())
	return w, nil
}

// Start has the writer look for its topic, and create it if it is missing; it never gives up. Call it once.
func (w *Writer) Start() { w.wg.Go(w.keep) }

// likeTheSource puts a receipt into source partition mod N.
func likeTheSource(string) func(*kgo.Record, int) int {
	return func(r *kgo.Record, n int) int { return int(r.Partition) % n }
}

// Take accepts a receipt. It waits only when there is no room, which is bounded by Hold: a receipt that finds none in a
// partition that is away is lost. The error is that ctx has ended.
func (w *Writer) Take(ctx context.Context, r Receipt) error {
	r.Host, r.User = w.cfg.Host, w.destinationUser(r.Ended)
	r.Group, r.Run, r.Instance, r.Bridge = w.cfg.Group, w.cfg.Run, w.cfg.Instance, w.cfg.Bridge
	for _, piece := range r.split() {
		v, err := piece.Encode()
		if err != nil {
			return err
		}
		e := &entry{key: []byte(r.Source.String()), value: v, ended: r.Ended, partition: r.Source.Partition}
		e.bytes = len(e.key) + len(e.value) + entryBytes
		if err := w.put(ctx, e); err != nil {
			return fmt.Errorf("take receipt of %s: %w", r.Source, err)
		}
	}
	return nil
}

// destinationUser is read from its source now and then; one that cannot be read is for others to say.
func (w *Writer) destinationUser(now time.Time) string {
	if w.cfg.User == nil {
		return ""
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.userAt.IsZero() || now.Sub(w.userAt) > userFor {
		if user, err := w.cfg.User(); err == nil {
			w.user = user
		}
		w.userAt = now
	}
	return w.user
}

func (w *Writer) put(ctx context.Context, e *entry) error {
	w.mu.Lock()
	l := w.lanes[e.partition]
	if l == nil {
		l = new(lane)
		w.lanes[e.partition] = l
	}
	for !w.hasRoom(l, e) {
		now := time.Now()
		if l.away || w.overdue(l, now) {
			w.stats.Lost++
			w.mu.Unlock()
			w.say()
			return nil
		}
		err := w.wait(ctx, w.until(l).Sub(now))
		if err != nil {
			w.mu.Unlock()
			return err
		}
	}
	w.taken++
	e.n, e.lane, e.at = w.taken, l, time.Now()
	l.entries = append(l.entries, e)
	l.bytes += e.bytes
	w.stats.Waiting++
	w.mu.Unlock()
	w.produce(e)
	return nil
}

// hasRoom reports whether the lane may take one more: each has an equal part of the room, so that one that is away takes
// it from no other. One that is empty takes anything. The caller holds the lock.
func (w *Writer) hasRoom(l *lane, e *entry) bool {
	room := cmp.Or(w.cfg.roomBytesOfTest, roomBytes) / max(leastShare, len(w.lanes))
	return len(l.entries) == 0 || l.bytes+e.bytes <= room
}

// overdue reports whether the lane's oldest receipt has been waited for as long as it may be; then the lane is away. The
// caller holds the lock.
func (w *Writer) overdue(l *lane, now time.Time) bool {
	if now.Before(w.until(l)) {
		return false
	}
	l.away = true
	w.away++
	w.wake()
	return true
}

// until is when the lane's oldest receipt is waited for no longer. While another lane is away the hold has been spent: one
// that is well acknowledges in far less than what is left to it. The caller holds the lock.
func (w *Writer) until(l *lane) time.Time {
	if w.away > 0 {
		return l.entries[0].at.Add(min(w.hold, caughtUp))
	}
	return l.entries[0].at.Add(w.hold)
}

// wait gives up the lock until something changes, d has passed or ctx has ended, which is its error.
func (w *Writer) wait(ctx context.Context, d time.Duration) error {
	if w.changed == nil {
		w.changed = make(chan struct{})
	}
	changed := w.changed
	w.mu.Unlock()
	defer w.mu.Lock()
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-changed:
	case <-timer.C:
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-w.life.Done():
		return errClosed
	}
	return nil
}

var errClosed = errors.New("the writer of receipts is closed")

// wake ends all waits. The caller holds the lock.
func (w *Writer) wake() {
	if w.changed != nil {
		close(w.changed)
		w.changed = nil
	}
}

// produce hands e to the client, which keeps trying where that helps. The record is a new one each time: the client
// writes into it.
func (w *Writer) produce(e *entry) {
	r := &kgo.Record{Topic: w.cfg.Topic, Partition: e.partition, Key: e.key, Value: e.value, Timestamp: e.ended}
	w.writes.Client().Produce(w.life, r, func(_ *kgo.Record, err error) { w.answered(e, err) })
}

// answered notes what became of one produce.
func (w *Writer) answered(e *entry, err error) {
	w.mu.Lock()
	if err != nil {
		w.fault = err
		if w.life.Err() == nil {
			w.failed = append(w.failed, e)
		}
		w.mu.Unlock()
		signal(w.due)
		return
	}
	recovered := w.acknowledged(e, time.Now())
	w.mu.Unlock()
	if recovered {
		w.say()
	}
}

// acknowledged takes e out of its lane, and reports whether that is well again. The caller holds the lock.
func (w *Writer) acknowledged(e *entry, now time.Time) (recovered bool) {
	l := e.lane
	e.acked, e.key, e.value = true, nil, nil
	l.bytes -= e.bytes
	w.stats.Written++
	w.stats.Waiting--
	for len(l.entries) > 0 && l.entries[0].acked {
		l.entries[0] = nil
		l.entries = l.entries[1:]
	}
	if l.away && (len(l.entries) == 0 || now.Sub(l.entries[0].at) < caughtUp) {
		l.away, recovered = false, true
		w.away--
	}
	w.wake()
	return recovered
}

// Flush returns nil when all that was taken is acknowledged, but for partitions that are away. Its error is that ctx has
// ended before, and says why.
func (w *Writer) Flush(ctx context.Context) error {
	gaveUp := false
	w.mu.Lock()
	mark := w.taken
	for {
		until, waits, newly := w.awaited(mark, time.Now())
		gaveUp = gaveUp || newly
		if !waits {
			w.mu.Unlock()
			break
		}
		if err := w.wait(ctx, time.Until(until)); err != nil {
			err = fmt.Errorf("write receipts to %s: %s: %w", w.cfg.Topic, w.why(), err)
			w.mu.Unlock()
			return &kafka.SettingError{Setting: "RECEIPTS_TOPIC", Err: err} // the network is not why a deadline has passed
		}
	}
	if gaveUp {
		w.say()
	}
	return nil
}

// awaited reports whether anything up to mark is to be waited for, and until when at most. The caller holds the lock.
func (w *Writer) awaited(mark uint64, now time.Time) (until time.Time, waits, gaveUp bool) {
	for _, l := range w.lanes {
		if l.away || len(l.entries) == 0 || l.entries[0].n > mark {
			continue
		}
		if w.overdue(l, now) {
			gaveUp = true
			continue
		}
		end := w.until(l)
		if !waits || end.Before(until) {
			until, waits = end, true
		}
	}
	return until, waits, gaveUp
}

// Hurry says that the process stops: from now on receipts hold up the last commits for a few seconds only, since a
// commit that comes too late costs repeats, and a receipt that is lost does not.
func (w *Writer) Hurry() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.hold = min(w.hold, hurried)
	w.wake()
}

// keep looks for the topic, and produces again what failed, until the writer is closed.
func (w *Writer) keep() {
	rest := firstRest
	for {
		ready := w.assured(&w.ready, w.findOrCreate) && w.assured(&w.known, w.identify)
		var again []*entry
		if ready {
			again = w.takeFailed()
		}
		if ready && len(again) == 0 {
			rest = firstRest
			select {
			case <-w.due:
			case <-w.life.Done():
				return
			}
		}
		if pause.For(w.life, rand.N(rest)) != nil {
			return
		}
		rest = min(2*rest, longest)
		for _, e := range again {
			w.produce(e)
		}
	}
}

const firstRest = 500 * time.Millisecond

func (w *Writer) takeFailed() []*entry {
	w.mu.Lock()
	defer w.mu.Unlock()
	again := w.failed
	w.failed = nil
	w.known = w.known && len(again) == 0
	if isUnknownTopic(w.fault) {
		w.ready = false // it was deleted
		w.fault = nil
	}
	return again
}

// assured reports whether what ask asks for is so: it is asked until it was, which is remembers.
func (w *Writer) assured(is *bool, ask func(context.Context) error) bool {
	w.mu.Lock()
	known := *is
	w.mu.Unlock()
	if known {
		return true
	}
	ctx, cancel := context.WithTimeout(w.life, readyWait)
	defer cancel()
	err := ask(ctx)
	w.mu.Lock()
	*is = err == nil
	if err != nil {
		w.fault = err
	}
	w.mu.Unlock()
	if w.life.Err() == nil {
		w.say()
	}
	return err == nil
}

// identify finds out whether our producer id is refused. What a client that was refused holds fails with its end, and is
// produced again.
func (w *Writer) identify(ctx context.Context) error {
	return w.writes.Identify(ctx, w.writes.Client())
}

// why is what is known of the fault. The caller holds the lock.
func (w *Writer) why() string {
	if w.fault == nil {
		return "no acknowledgement in time"
	}
	return w.cfg.Redact(explain(w.fault))
}

// say tells of a trouble when it begins, and when it is over.
func (w *Writer) say() {
	w.mu.Lock()
	defer w.mu.Unlock()
	now := w.trouble()
	if (now == "") == (w.said == "") {
		return // each is said once
	}
	w.said = now
	w.cfg.Trouble(now)
	if now != "" {
		w.lost = w.stats.Lost
		w.log.Warn(now, "receipts_topic", w.cfg.Topic)
		return
	}
	w.log.Info("receipts are written again", "receipts_topic", w.cfg.Topic, "lost", w.stats.Lost-w.lost)
}

// trouble is what is wrong now. The caller holds the lock.
func (w *Writer) trouble() string {
	if w.away > 0 {
		return fmt.Sprintf("receipts are not written, and delivery goes on without them: %s: %s", w.cfg.Topic, w.why())
	}
	if !w.ready {
		return "no receipts topic: " + w.why()
	}
	return ""
}

// Stats returns the numbers of now.
func (w *Writer) Stats() Stats {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.stats
}

// Close ends the writer. It waits for no broker: what is not acknowledged by now is lost, counted and said.
func (w *Writer) Close() {
	w.end()
	w.writes.Close()
	w.wg.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.stats.Lost += w.stats.Waiting
	if w.stats.Waiting > 0 {
		w.log.Warn("receipts are lost: they were not acknowledged before the end", "receipts_topic", w.cfg.Topic, "lost", w.stats.Waiting)
	}
	w.stats.Waiting = 0
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
