package bridge

import (
	"maps"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

const (
	mixLooks  = 6   // the last minute, a look each watchEvery
	mixLeast  = 20  // fewer say nothing
	mixFade   = 360 // looks, an hour, after which what was before weighs a third
	mixMost   = 0.5 // of which at least this part is turned away when it has jumped,
	mixJump   = 0.3 // so much more than before,
	mixReturn = 0.15
)

// mix is how many documents were delivered and how many parts of records were
// skipped or dead-lettered.
type mix struct{ delivered, away float64 }

func (m mix) all() float64        { return m.delivered + m.away }
func (m mix) plus(o mix) mix      { return mix{m.delivered + o.delivered, m.away + o.away} }
func (m mix) times(f float64) mix { return mix{f * m.delivered, f * m.away} }

// ratio is the part that was turned away, 0 to 1.
func (m mix) ratio() float64 {
	if m.all() == 0 {
		return 0
	}
	return m.away / m.all()
}

// topicMix remembers how a topic's mix was before it jumped: a source that
// changes its format is skipped without an error, and the figure now does not
// say that it ever was another.
type topicMix struct {
	now    mix   // since the last look
	recent []mix // by look, the oldest first
	usual  mix   // what came before these, fading
	since  time.Time
	before float64 // ratio; only with since
}

// look ends a while and judges the last minute.
func (t *topicMix) look(now time.Time) {
	t.recent = append(t.recent, t.now)
	t.now = mix{}
	if len(t.recent) > mixLooks {
		if t.since.IsZero() {
			t.usual = t.usual.times(1 - 1.0/mixFade).plus(t.recent[0])
		}
		t.recent = append(t.recent[:0], t.recent[1:]...)
	}
	minute := t.minute()
	if minute.all() < mixLeast {
		return
	}
	switch ratio := minute.ratio(); {
	case t.since.IsZero():
		if t.usual.all() >= mixLeast && ratio >= mixMost && ratio >= t.usual.ratio()+mixJump {
			t.since, t.before = now.Add(-t.turned()), t.usual.ratio()
		}
	case ratio < t.before+mixReturn:
		t.since = time.Time{}
	}
}

func (t *topicMix) minute() (sum mix) {
	for _, m := range t.recent {
		sum = sum.plus(m)
	}
	return sum
}

// turned is how long ago the run of looks began in which most was turned away.
func (t *topicMix) turned() (ago time.Duration) {
	for i := len(t.recent) - 1; i >= 0; i-- {
		if m := t.recent[i]; m.all() > 0 && m.ratio() < mixMost {
			break
		}
		ago += watchEvery
	}
	return ago
}

// mixes are those of all topics.
type mixes struct {
	mu sync.Mutex
	of map[string]*topicMix
}

func (m *mixes) count(topic string, one mix) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.of == nil {
		m.of = make(map[string]*topicMix)
	}
	if m.of[topic] == nil {
		m.of[topic] = new(topicMix)
	}
	m.of[topic].now = m.of[topic].now.plus(one)
}

// look judges all topics and forgets those that are consumed no more.
func (m *mixes) look(now time.Time, consumed func(topic string) bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	maps.DeleteFunc(m.of, func(topic string, _ *topicMix) bool { return !consumed(topic) })
	for _, t := range m.of {
		t.look(now)
	}
}

var (
	awayDesc       = desc("turned_away_ratio", "Part of what this member brought to an end in the last minute that was skipped or dead-lettered, 0 to 1.", "topic")
	awayBeforeDesc = desc("turned_away_before_ratio", "What turned_away_ratio was before it jumped; only while it is much higher than it was.", "topic")
	awaySinceDesc  = desc("turned_away_since_timestamp_seconds", "When turned_away_ratio jumped; only while it is much higher than it was.", "topic")
)

func (m *mixes) collect(gauge func(*prometheus.Desc, float64, ...string)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for topic, t := range m.of {
		gauge(awayDesc, t.minute().ratio(), topic)
		if !t.since.IsZero() {
			gauge(awayBeforeDesc, t.before, topic)
			gauge(awaySinceDesc, float64(t.since.Unix()), topic)
		}
	}
}

// lookAtMixes is one look at what became of the records of each topic.
func (b *Bridge) lookAtMixes() {
	b.mu.Lock()
	consumed := maps.Clone(b.totals)
	b.mu.Unlock()
	b.metrics.mixes.look(time.Now(), func(topic string) bool { _, is := consumed[topic]; return is })
}
