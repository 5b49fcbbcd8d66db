package bridge

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"go.opentelemetry.io/otel/trace"
	"golang.org/x/sync/errgroup"

	"serbridge/bridge/admin"
	"serbridge/bridge/deadletter"
	"serbridge/bridge/frontier"
	"serbridge/bridge/stellar"
	"serbridge/transform"
)

// Why work on a record ends before the record is settled.
var (
	errDrained   = errors.New("partition is handed over")
	errAbandoned = errors.New("drain timeout has passed")
	errLost      = errors.New("partition is lost")
	errStopped   = errors.New("bridge has stopped")
	errCutOff    = errors.New("log was cut off")
)

// Config is what a Bridge needs. Zero values mean the design's defaults, but
// for the clients and the topics.
type Config struct {
	// Kafka reaches the brokers: seeds, TLS, SASL, dialer, logger.
	Kafka          []kgo.Opt
	Member         []kgo.Opt // of the group member alone: hooks
	Topics         []string  // names, or one pattern that starts with ^
	Group          string    // default serbridge
	Protocol       string    // "classic" (default) or "consumer", KIP-848
	SessionTimeout time.Duration
	Rack           string
	Start          Start

	Stellar     *stellar.Client
	DeadLetters *deadletter.Writer // closed by its owner, after Run has returned
	Internal    []string           // our own topics, which a pattern must not match

	// Transform holds the settings of a topic; nil means the defaults for all.
	Transform func(topic string) *transform.Settings

	// Schema reads the schema of an id, which records wait for that Transform's
	// settings hold (transform.Settings.Schemas); its error holds them.
	Schema func(ctx context.Context, id uint32) error

	// Read says what a record is; nil: itself. Ended is told what became of each
	// before its offset counts as settled, from many goroutines; its error holds
	// the offset, and it is told again. Flush is called before each commit, with
	// what may be committed already told to Ended; its error holds the commit.
	Read  func(*kgo.Record) Reading
	Ended func(context.Context, Outcome) error
	Flush func(context.Context) error

	// Begin is asked before a record is begun, and waits for as long as none may
	// be; its error, when ctx has ended, leaves the record to the next owner.
	Begin func(context.Context) error

	// Bounded ends Run by itself once the group has settled each partition up to
	// the end that its first commit names (frontier.Map.End). A partition
	// without one is none of the run's.
	Bounded bool

	RateLimit      float64 // requests per second of the whole group; 0: none
	RateBurst      int     // default 5
	RateShare      string  // "backlog" (default) or "partitions"
	MaxInFlight    int     // attempts on the wire, default 64
	BufferBytes    int     // default 32 MiB: kgo's fetch and decompression buffers and our queue together
	CommitInterval time.Duration
	MaxRepeats     int           // default 200 documents; negative: unbounded
	MaxSends       int           // default 3
	OnAmbiguous    string        // "retry" (default), "probe" or "dead-letter"
	ProbeWait      time.Duration // until the index must show what was stored, default 60 s
	OnRefused      string        // "slim" (default) or "dead-letter"
	RejectBrake    int           // default 200 records; negative: never
	DrainTimeout   time.Duration

	Instance string // names this process in dead letters and in the group
	Version  string

	Health     *admin.Health
	Journal    *admin.Journal // told of what fails, for the page
	Logger     *slog.Logger
	Tracer     trace.Tracer          // nil: nothing is traced
	Registerer prometheus.Registerer // nil: metrics are counted and shown to nobody
	Redact     func(string) string   // takes credentials out of what reaches a dead letter
}

// leaveMargin is what a rebalance leaves beyond the drain for the commit.
const leaveMargin = 35 * time.Second

// RebalanceTimeout is how long the group waits for a member that drains.
func (c Config) RebalanceTimeout() time.Duration { return c.DrainTimeout + leaveMargin }

func def[T comparable](v *T, d T) {
	var zero T
	if *v == zero {
		*v = d
	}
}

func (c *Config) defaults() {
	def(&c.Group, "serbridge")
	def(&c.Protocol, "classic")
	def(&c.SessionTimeout, 45*time.Second)
	def(&c.RateBurst, 5)
	def(&c.RateShare, "backlog")
	def(&c.MaxInFlight, 64)
	def(&c.BufferBytes, 32<<20)
	def(&c.CommitInterval, 250*time.Millisecond)
	def(&c.MaxRepeats, 200)
	def(&c.MaxSends, 3)
	def(&c.OnAmbiguous, "retry")
	def(&c.ProbeWait, time.Minute)
	def(&c.OnRefused, "slim")
	def(&c.RejectBrake, 200)
	def(&c.DrainTimeout, 25*time.Second)
	def(&c.Instance, "serbridge")
	def(&c.Health, new(admin.Health))
	def(&c.Journal, new(admin.Journal))
	def(&c.Logger, slog.New(slog.DiscardHandler))
	if c.Transform == nil {
		settings := new(transform.Settings)
		c.Transform = func(string) *transform.Settings { return settings }
	}
	if c.Schema == nil {
		c.Schema = func(context.Context, uint32) error { return errors.New("no schema registry is configured") }
	}
	if c.Redact == nil {
		c.Redact = func(s string) string { return s }
	}
	if c.OnAmbiguous == "dead-letter" {
		c.MaxSends = 1 // a document that may have been stored is never sent again
	}
}

// Bridge is one member of the consumer group: it delivers what its partitions
// hold. Make one with New, and run it once.
type Bridge struct {
	cfg     Config
	log     *slog.Logger
	pattern *regexp.Regexp // nil: topics by name

	polls      uint64                             // the poll loop's own count
	cancelPoll atomic.Pointer[context.CancelFunc] // ends the poll that waits
	client     *kgo.Client                        // the member
	made       chan struct{}                      // closed once client is set: its callbacks may come before
	visitor    *kgo.Client                        // a client of its own: it answers while the member is in a rebalance
	admin      *kadm.Client                       // on visitor
	stop       sync.Once
	life       context.Context
	ending     context.Context // ends when a stop may wait for no commit any more; child of life
	endEnding  context.CancelFunc
	member     context.Context // the group client's: ended when it cannot leave by itself
	endMember  context.CancelFunc

	unpacker *unpacker
	queue    *queue
	exposure *frontier.Exposure
	gate     *gate
	slots    *slots
	tokens   *dispenser
	faults   *faults
	prober   prober
	heard    *heard
	troubles *troubles
	metrics  *metrics
	tracing  *tracing // nil: nothing is traced

	lettersAge lettersAge

	idle    chan *record   // to a goroutine that has delivered its record
	idlers  idlers         // that wait for another
	records sync.WaitGroup // every record taken has a goroutine; Run waits for them

	cluster    string        // id
	commitTurn chan struct{} // capacity 1: one commit at a time
	startTurn  chan struct{} // capacity 1: starts are decided one at a time
	began      time.Time     // when Run began: what Start.Ago is before, however long a start is held
	uncovered  counter       // settled documents that no commit covers
	due        chan struct{} // capacity 1: a commit is due
	paused     counter       // partitions whose fetches are paused
	nudged     chan struct{} // capacity 1: the poll loop has partitions to tend

	mu         sync.Mutex
	partitions map[string]map[int32]*partition
	brakes     map[string]*brake
	totals     map[string]int // partitions of each consumed topic, owned or not
	topicIDs   map[string][16]byte
	shares     shares         // that count now, and
	looked     shares         // as last looked at
	blind      bool           // the last look failed
	retention  retentions     // of the consumed topics
	stopped    time.Time      // when the stop began; zero: it has not
	said       map[place]bool // partitions whose first start was told
}

// New checks cfg and makes a Bridge; it connects to nothing yet. The errors
// are of the configuration.
func New(cfg Config) (*Bridge, error) {
	cfg.defaults()
	if len(cfg.Topics) == 0 {
		return nil, errors.New("make bridge: no topics to consume")
	}
	if cfg.Stellar == nil || cfg.DeadLetters == nil {
		return nil, errors.New("make bridge: a Stellar client and a dead-letter writer are needed")
	}
	b := &Bridge{
		cfg: cfg, log: cfg.Logger,
		idle:       make(chan *record),
		exposure:   frontier.NewExposure(cfg.MaxRepeats),
		slots:      newSlots(cfg.MaxInFlight),
		tokens:     newDispenser(cfg.RateLimit > 0),
		faults:     newFaults(),
		heard:      newHeard(cfg.SessionTimeout),
		troubles:   newTroubles(cfg.Logger, cfg.Health),
		commitTurn: make(chan struct{}, 1),
		startTurn:  make(chan struct{}, 1),
		made:       make(chan struct{}),
		due:        make(chan struct{}, 1),
		nudged:     make(chan struct{}, 1),
		partitions: make(map[string]map[int32]*partition),
		brakes:     make(map[string]*brake),
		totals:     make(map[string]int),
		topicIDs:   make(map[string][16]byte),
		said:       make(map[place]bool),
	}
	unpacker, err := newUnpacker(cfg.BufferBytes)
	if err != nil {
		return nil, fmt.Errorf("make bridge: %w", err)
	}
	b.unpacker = unpacker
	b.queue = newQueue(mostQueued, cfg.BufferBytes/queueShare, cfg.MaxInFlight)
	b.gate = newGate(b.exposure.GrantLast, b.gateChanged)
	b.gate.spare = b.exposure.GrantSpare
	b.gate.crowded = func() (int, bool) { return b.exposure.Held(), b.exposure.Waiting() > 0 }
	b.gate.turned = b.slots.restart
	b.metrics = newMetrics(b)
	b.tracing = newTracing(&cfg)
	if cfg.Topics[0][0] == '^' {
		re, err := regexp.Compile(cfg.Topics[0])
		if err != nil {
			return nil, fmt.Errorf("compile topic pattern: %w", err)
		}
		b.pattern = re
	}
	if cfg.Registerer != nil {
		if err := b.metrics.register(cfg.Registerer); err != nil {
			return nil, fmt.Errorf("register metrics: %w", err)
		}
	}
	return b, nil
}

// Run consumes and delivers until ctx ends, then drains: it finishes what has
// started, within the drain timeout, commits and leaves the group. What cannot
// heal by itself is an error; a broker or an API that is away is none.
func (b *Bridge) Run(ctx context.Context) error {
	life, stop := context.WithCancelCause(context.WithoutCancel(ctx))
	defer stop(errStopped)
	b.life, b.began = life, time.Now()
	b.ending, b.endEnding = context.WithCancel(life)
	defer b.endEnding()
	b.member, b.endMember = context.WithCancel(life)
	visitor, err := kgo.NewClient(append(b.cfg.Kafka[:len(b.cfg.Kafka):len(b.cfg.Kafka)],
		kgo.ClientID(b.cfg.Instance), kgo.WithContext(life), kgo.DisableClientMetrics())...)
	if err != nil {
		return fmt.Errorf("make Kafka client: %w", err)
	}
	defer visitor.Close()
	b.visitor = visitor
	b.admin = kadm.NewClient(visitor)
	b.cfg.Health.NotReady(starting, "not in the consumer group yet")
	if err := b.meet(ctx); err != nil {
		return nil // ended before Kafka was there: nothing to drain
	}
	if b.client, err = kgo.NewClient(b.memberOptions()...); err != nil {
		return fmt.Errorf("make Kafka group client: %w", err)
	}
	close(b.made)
	var g errgroup.Group
	for _, part := range []func(context.Context){b.dispatch, b.gate.run, b.keepCommitting, b.watch, b.tryBrakes, b.search, b.awaitStarts} {
		g.Go(func() error { part(life); return nil })
	}
	if b.cfg.Bounded {
		bounded, over := context.WithCancel(ctx)
		defer over()
		ctx = bounded
		g.Go(func() error { b.awaitEnd(life, over); return nil })
	} else {
		g.Go(func() error { b.lookAtLetters(life); return nil })
	}
	context.AfterFunc(ctx, b.beginStop) // now, even if a rebalance holds up the poll loop; leave waits for its end
	b.poll(ctx)
	b.leave(visitor)
	stop(errStopped)
	err = g.Wait() // the dispatcher first: it starts the records' goroutines
	b.records.Wait()
	return err
}

const (
	lastCommit = 10 * time.Second // how long a stop tries to commit what its drain has finished
	leaveWait  = time.Second      // and the group client may take to leave
)

// beginStop has every partition finish what it has started and begin nothing
// more. Who is handed over meanwhile, to whomever, has no more time than the
// stop has.
func (b *Bridge) beginStop() {
	b.stop.Do(func() {
		b.mu.Lock()
		b.stopped = time.Now()
		b.mu.Unlock()
		b.cfg.Health.NotReady("stopping", "stopping: what has started is finished, nothing more begins")
		b.log.Info("stopping: what has started is finished, within DRAIN_TIMEOUT", "drain_timeout", b.cfg.DrainTimeout)
		for _, p := range b.owned() {
			b.queue.giveBack(p)
			p.drain()
		}
		time.AfterFunc(b.cfg.DrainTimeout+lastCommit, b.endEnding)
	})
}

// stopBegan is when the stop began; zero: it has not.
func (b *Bridge) stopBegan() time.Time {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.stopped
}

// leave hands everything over and leaves the group. It does not wait for kgo
// to call revoked, which it does only once a join that is under way has ended:
// another member's drain or a dead one's session can hold that up for longer
// than a pod has.
func (b *Bridge) leave(visitor *kgo.Client) {
	b.beginStop()
	b.client.AllowRebalance()
	if ps := b.owned(); len(ps) > 0 {
		b.handOver(ps)
	}
	b.troubles.silence()
	id, _ := b.client.GroupMetadata()
	ctx, cancel := context.WithTimeout(b.life, leaveWait)
	defer cancel()
	err := b.client.LeaveGroupContext(ctx)
	b.endMember() // or closing would wait for brokers that do not answer
	if err != nil {
		b.leaveFor(visitor, id)
	}
	b.client.CloseAllowingRebalance()
	b.client.AllowRebalance() // Close polls once more at its end, which would hold off the rest of its leave for ever
}

// leaveFor leaves the group in the name of a member whose client waits in a
// join. Not told, the group would wait for it until its session ends.
func (b *Bridge) leaveFor(visitor *kgo.Client, id string) {
	ctx, cancel := context.WithTimeout(b.life, leaveWait)
	defer cancel()
	if err := b.leaveInName(ctx, visitor, id); err != nil && !errors.Is(err, kerr.UnknownMemberID) {
		b.log.Warn("leave group: the next owner starts after the session timeout", "error", err)
	}
}

func (b *Bridge) leaveInName(ctx context.Context, visitor *kgo.Client, id string) error {
	if b.cfg.Protocol == "consumer" {
		return b.leaveConsumer(ctx, visitor, id)
	}
	return b.leaveClassic(ctx, visitor, id)
}

func (b *Bridge) leaveClassic(ctx context.Context, visitor *kgo.Client, id string) error {
	req := kmsg.NewPtrLeaveGroupRequest()
	req.Group, req.MemberID = b.cfg.Group, id
	m := kmsg.NewLeaveGroupRequestMember()
	m.MemberID = id
	req.Members = append(req.Members, m)
	resp, err := req.RequestWith(ctx, visitor)
	if err != nil {
		return err
	}
	for _, m := range resp.Members {
		if err := kerr.ErrorForCode(m.ErrorCode); err != nil {
			return err
		}
	}
	return kerr.ErrorForCode(resp.ErrorCode)
}

// leaveConsumer leaves as KIP-848 has it: a heartbeat of epoch -1.
func (b *Bridge) leaveConsumer(ctx context.Context, visitor *kgo.Client, id string) error {
	req := kmsg.NewPtrConsumerGroupHeartbeatRequest()
	req.Group, req.MemberID, req.MemberEpoch = b.cfg.Group, id, -1
	resp, err := req.RequestWith(ctx, visitor)
	if err != nil {
		return err
	}
	return kerr.ErrorForCode(resp.ErrorCode)
}

func (b *Bridge) gateChanged(closed bool, why stellar.Answer) {
	if closed {
		b.troubles.begin("gate", "gate closed: "+explain(why), "reason", why.Reason)
		return
	}
	b.troubles.end("gate")
	b.troubles.end("credentials") // a delivery is the best proof of them
}
