package main

import (
	"context"
	"io"
	"log/slog"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/plugin/kslog"

	"serbridge/bridge/secret"
)

// newLogger writes to w in the form and from the level that the settings say, every credential that red knows
// removed. Without LOG_FORMAT a terminal gets text. No record content comes here at all: that is the callers' duty.
func newLogger(w io.Writer, s processSettings, isTerminal bool, red *secret.Redactor) *slog.Logger {
	options := &slog.HandlerOptions{Level: s.slogLevel(), ReplaceAttr: inWords}
	var h slog.Handler = slog.NewJSONHandler(w, options)
	if s.LogFormat == "text" || s.LogFormat == "" && isTerminal {
		h = slog.NewTextHandler(w, options)
	}
	return slog.New(red.Handler(h))
}

// inWords writes durations with their unit, where JSON would have bare
// nanoseconds.
func inWords(_ []string, a slog.Attr) slog.Attr {
	if a.Value.Kind() == slog.KindDuration {
		a.Value = slog.StringValue(a.Value.Duration().String())
	}
	return a
}

// newKafkaLogger is what a Kafka client logs to. An unreachable broker is tried several times a second by each of
// our clients, for as long as the outage lasts; saying so each time would bury everything else.
func newKafkaLogger(logger *slog.Logger) kgo.Logger {
	return kslog.New(slog.New(&repeatHandler{Handler: logger.Handler(), said: new(saidFailures)}))
}

// repeatEvery is how often a broker's failure that goes on is said again, with a count.
const repeatEvery = time.Minute

// repeatHandler lets a broker's failure through once per broker, message and minute; the next one that it lets
// through has the number of those held back, as "repeated". Debug records and all others pass.
type repeatHandler struct {
	slog.Handler
	said *saidFailures // shared by the handlers derived from this one
}

// Enabled takes what the client tells for information as being for debugging: a dozen lines at each rebalance say
// what our own one says.
func (h *repeatHandler) Enabled(ctx context.Context, level slog.Level) bool {
	if level == slog.LevelInfo {
		level = slog.LevelDebug
	}
	return h.Handler.Enabled(ctx, level)
}

// Handle holds a repeated failure back.
func (h *repeatHandler) Handle(ctx context.Context, r slog.Record) error {
	broker, failed := brokerFailure(r)
	if !failed {
		return h.Handler.Handle(ctx, r)
	}
	repeated, again := h.said.again(failure{broker, r.Message}, r.Time)
	if again {
		return nil
	}
	if repeated > 0 {
		r = r.Clone()
		r.AddAttrs(slog.Int("repeated", repeated))
	}
	return h.Handler.Handle(ctx, r)
}

// WithAttrs keeps the count.
func (h *repeatHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &repeatHandler{Handler: h.Handler.WithAttrs(attrs), said: h.said}
}

// WithGroup keeps the count.
func (h *repeatHandler) WithGroup(name string) slog.Handler {
	return &repeatHandler{Handler: h.Handler.WithGroup(name), said: h.said}
}

// brokerFailure recognises kgo's way to log one: attributes "broker" and "err".
func brokerFailure(r slog.Record) (broker string, failed bool) {
	if r.Level < slog.LevelInfo {
		return "", false
	}
	r.Attrs(func(a slog.Attr) bool {
		switch a.Key {
		case "broker":
			broker = a.Value.String()
		case "err":
			failed = true
		}
		return true
	})
	return broker, failed && broker != ""
}

// failure leaves the error's text out: it holds a port that differs each time.
type failure struct{ broker, message string }

// saidFailures remembers what was said of each failure.
type saidFailures struct {
	mu   sync.Mutex
	last map[failure]*saidFailure
}

type saidFailure struct {
	at   time.Time
	held int // back since then
}

// maxFailures bounds the memory: brokers times messages. Forgetting says a failure once more, no worse.
const maxFailures = 1024

// again tells whether the failure was said within the last minute, else how many were held back since it was.
func (s *saidFailures) again(f failure, now time.Time) (held int, again bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	said := s.last[f]
	if said != nil && now.Sub(said.at) < repeatEvery {
		said.held++
		return 0, true
	}
	if said != nil {
		held = said.held
	}
	if s.last == nil || len(s.last) >= maxFailures {
		s.last = make(map[failure]*saidFailure)
	}
	s.last[f] = &saidFailure{at: now}
	return held, false
}
