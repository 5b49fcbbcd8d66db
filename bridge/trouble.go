package bridge

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"time"

	"serbridge/bridge/admin"
)

// troubles says each trouble once: when it begins, and when it is over, with
// how long it lasted and how often it struck. While it lasts the process is
// not ready, and the reason stands on /readyz.
type troubles struct {
	log    *slog.Logger
	health *admin.Health

	mu     sync.Mutex
	now    map[string]*trouble
	silent bool
}

type trouble struct {
	since time.Time
	count int
	what  string
	fades bool // it is over when it has not struck for a while
	last  time.Time
}

// fadeAfter is how long a trouble that nothing ends has not struck when it is
// over: the next fetch of an idle partition brings nothing that would say so.
const fadeAfter = 30 * time.Second

func newTroubles(log *slog.Logger, health *admin.Health) *troubles {
	return &troubles{log: log, health: health, now: make(map[string]*trouble)}
}

// begin notes that key is in trouble; only the first time, or when the words
// change, is it logged.
func (t *troubles) begin(key, what string, attrs ...any) { t.note(key, what, false, attrs...) }

// strike is begin for a trouble that is over when it has not struck for a
// while.
func (t *troubles) strike(key, what string) { t.note(key, what, true) }

func (t *troubles) note(key, what string, fades bool, attrs ...any) {
	t.mu.Lock()
	defer t.mu.Unlock()
	tr := t.now[key]
	if tr == nil {
		tr = &trouble{since: time.Now()}
		t.now[key] = tr
	}
	tr.count++
	tr.fades, tr.last = fades, time.Now()
	if t.silent || sameWords(tr.what, what) {
		return
	}
	tr.what = what
	t.health.NotReady(key, what)
	t.log.Warn(what, append([]any{"trouble", key}, attrs...)...)
}

// sameWords reports whether two texts differ in numbers only: a port or an
// offset that is another one each time makes no new trouble.
func sameWords(a, b string) bool {
	return strings.Map(noDigit, a) == strings.Map(noDigit, b)
}

func noDigit(r rune) rune {
	if r >= '0' && r <= '9' {
		return -1
	}
	return r
}

// silence says no more: what fails from here on is our own end.
func (t *troubles) silence() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.silent = true
}

// keys are those in trouble that begin so.
func (t *troubles) keys(prefix string) (keys []string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for key := range t.now {
		if strings.HasPrefix(key, prefix) {
			keys = append(keys, key)
		}
	}
	return keys
}

// fade ends what has not struck for a while.
func (t *troubles) fade() {
	t.mu.Lock()
	var over []string
	for key, tr := range t.now {
		if tr.fades && time.Since(tr.last) >= fadeAfter {
			over = append(over, key)
		}
	}
	t.mu.Unlock()
	for _, key := range over {
		t.end(key)
	}
}

// drop forgets a trouble that is not over, but nobody's any more.
func (t *troubles) drop(key string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.now[key] != nil {
		delete(t.now, key)
		t.health.Ready(key)
	}
}

// end notes that key is well again.
func (t *troubles) end(key string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	tr := t.now[key]
	if tr == nil {
		return
	}
	delete(t.now, key)
	t.health.Ready(key)
	t.log.LogAttrs(context.Background(), slog.LevelInfo, "recovered",
		slog.String("trouble", key), slog.String("from", tr.what), slog.Int("times", tr.count),
		slog.Duration("after", time.Since(tr.since).Round(time.Millisecond)))
}
