package bridge

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"serbridge/bridge/deadletter"
	"serbridge/bridge/pause"
)

const (
	lettersEvery = 5 * time.Minute // how often the dead letters are looked at
	lettersWait  = time.Minute     // and how long a look may read
)

// lettersAge is how old the oldest dead letter is that nobody has handled, as
// the one member last saw it that looks.
type lettersAge struct {
	mu     sync.Mutex
	oldest deadletter.Oldest
	known  bool
}

var (
	letterAgeDesc = desc("dead_letter_oldest_open_age_seconds",
		"Age of the first record in the dead-letter topic that nobody has handled, by the time from which retention counts; 0: none. Shown by one member, looked at every 5 minutes.")
	letterRetentionDesc = desc("dead_letter_retention_seconds",
		"How long the dead-letter topic keeps records; none where it is unlimited or may not be read. Shown by the same member.")
)

func (l *lettersAge) set(o deadletter.Oldest, known bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.oldest, l.known = o, known
}

func (l *lettersAge) collect(gauge func(*prometheus.Desc, float64, ...string)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.known {
		return
	}
	age := 0.0
	if l.oldest.Open {
		age = time.Since(l.oldest.Timestamp).Seconds()
	}
	gauge(letterAgeDesc, age)
	if l.oldest.Retention > 0 {
		gauge(letterRetentionDesc, l.oldest.Retention.Seconds())
	}
}

// lookAtLetters looks for the oldest dead letter now and then, until ctx ends.
func (b *Bridge) lookAtLetters(ctx context.Context) {
	pause.Every(ctx, lettersEvery, func() { b.lookAtLettersOnce(ctx) })
}

func (b *Bridge) lookAtLettersOnce(ctx context.Context) {
	if !b.looksForAll() {
		b.lettersAge.set(deadletter.Oldest{}, false)
		return
	}
	ctx, cancel := context.WithTimeout(ctx, lettersWait)
	defer cancel()
	oldest, err := b.cfg.DeadLetters.OldestOpen(ctx)
	if err != nil {
		b.log.Debug("the age of the dead letters is not known", "error", err)
	}
	b.lettersAge.set(oldest, err == nil)
}

// looksForAll reports whether this member looks at what concerns the whole
// group: it owns partition 0 of the first topic.
func (b *Bridge) looksForAll() bool {
	topics := b.topics()
	return len(topics) > 0 && b.partition(slices.Min(topics), 0) != nil
}
