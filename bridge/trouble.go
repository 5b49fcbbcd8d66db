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
}

func newTroubles(log *slog.Logger, health *admin.Health) *troubles {
	return &troubles{log: log, health: health, now: make(map[string]*trouble)}
}

// begin notes that key is in trouble; only the first time, or when the words
// change, is it logged.
func (t *troubles) begin(key, what string, attrs ...any) {
	t.mu.Lock()
	defer t.mu.Unlock()
	tr := t.now[key]
	if tr == nil {
		tr = &trouble{since: time.Now()}
		t.now[key] = tr
	}
	tr.count++
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
