package bridge

import (
	"context"
	"slices"
	"sync"
	"time"
)

// queue holds what was received and not yet taken, partition by partition, and
// hands it out in turn, topic by topic and within a topic partition by
// partition: one with a long backlog delays none beside it.
// Its bounds count records until they end, so that what is under way counts as
// well.
//
// While there are several topics none takes more than half of what the others
// leave: of the hands, of what may be under way, and, if it is slow, of the
// queue. So one whose every document fails leaves something to whoever comes,
// and so do the next ones that fail.
type queue struct {
	mostRecords, mostBytes int
	mostHands              int // records between queue and room

	mu      sync.Mutex
	several bool // topics are consumed, so that one must leave something to others
	lines   map[string]*line
	hands   int
	turn    []*line // those with something queued, next first
	records int
	bytes   int
	large   float64       // about the largest record of late: what the next ones may be
	ready   chan struct{} // capacity 1: there may be something to take
	free    chan struct{} // capacity 1: there may be room
}

// line is a topic's part of the queue: there is none of a topic of which
// nothing is here.
type line struct {
	turn    []*partition // those with something queued, next first
	inTurn  bool
	records int // received and not ended
	bytes   int
	taken   int // of the records, those under way
	hands   int

	crowdedSince time.Time // zero: it is not crowded
	slow         bool      // it was when last crowded
}

// forgets is how much of the largest record is forgotten with each other one.
const forgets = 0.99

func newQueue(records, bytes, hands int) *queue {
	return &queue{mostRecords: records, mostBytes: bytes, mostHands: hands, large: max(1, float64(bytes)/8),
		lines: make(map[string]*line), ready: make(chan struct{}, 1), free: make(chan struct{}, 1)}
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// worthAPoll is the part of the bound that must be free before more is
// received: a poll costs as much for one record as for a hundred.
const worthAPoll = 1.0 / 16

// room is how many more records may be received now. A record larger than what
// is free is taken once nothing else is here, so 1 is the least then.
func (q *queue) room() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.roomLocked()
}

func (q *queue) roomLocked() int {
	n := min(q.mostRecords-q.records, int(float64(q.mostBytes-q.bytes)/q.large))
	switch {
	case q.records == 0:
		return max(1, n)
	case float64(n) < worthAPoll*min(float64(q.mostRecords), float64(q.mostBytes)/q.large):
		return 0
	}
	return n
}

// push queues received records of one partition.
func (q *queue) push(p *partition, rs []*record) {
	if len(rs) == 0 {
		return
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	l := q.lines[p.topic]
	if l == nil {
		l = new(line)
		q.lines[p.topic] = l
	}
	for _, r := range rs {
		l.records++
		l.bytes += r.size
		q.records++
		q.bytes += r.size
		q.large = max(float64(r.size), q.large*forgets)
	}
	p.queued = append(p.queued, rs...)
	q.await(l, p)
}

// await puts a partition last among those of its topic.
func (q *queue) await(l *line, p *partition) {
	if !p.inTurn {
		p.inTurn = true
		l.turn = append(l.turn, p)
	}
	q.goOn(l)
}

// goOn puts a topic in turn once there is something to take, and it may be.
func (q *queue) goOn(l *line) {
	if len(l.turn) > 0 && !l.inTurn && q.mayTake(l) {
		l.inTurn = true
		q.turn = append(q.turn, l)
		signal(q.ready)
	}
}

// take waits for the next record. A partition that admit refuses is left out
// until it is pushed to again: the poll loop gives its queue back to Kafka.
func (q *queue) take(ctx context.Context, admit func(*partition) (ok, trial bool)) (*record, error) {
	for {
		if r := q.pop(admit); r != nil {
			return r, nil
		}
		select {
		case <-q.ready:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

func (q *queue) pop(admit func(*partition) (ok, trial bool)) *record {
	q.mu.Lock()
	defer q.mu.Unlock()
	for len(q.turn) > 0 {
		l := q.turn[0]
		q.turn = slices.Delete(q.turn, 0, 1) // keeps its memory, as short as it is
		l.inTurn = false
		if !q.mayTake(l) {
			continue // until one of those taken makes place
		}
		r := l.next(admit)
		if r == nil {
			continue
		}
		l.taken++
		l.hands++
		q.hands++
		q.goOn(l)
		return r
	}
	return nil
}

func (l *line) next(admit func(*partition) (ok, trial bool)) *record {
	for len(l.turn) > 0 {
		p := l.turn[0]
		l.turn = slices.Delete(l.turn, 0, 1)
		p.inTurn = false
		if len(p.queued) == 0 {
			continue
		}
		ok, trial := admit(p)
		if !ok {
			continue
		}
		r := p.queued[0]
		r.trial, r.taken = trial, true
		p.queued[0] = nil
		p.queued = p.queued[1:]
		if len(p.queued) > 0 {
			p.inTurn = true
			l.turn = append(l.turn, p)
		}
		return r
	}
	return nil
}

// mayTake reports whether one more of the topic may be under way: always when
// none is, or nobody would put it back in turn.
func (q *queue) mayTake(l *line) bool {
	if !q.several {
		return l.hands < q.mostHands
	}
	return l.hands < part(q.mostHands, q.hands-l.hands) && l.taken < q.allowance(l)
}

// part is what one may have of so many, of which the others have some; never
// nothing, or a small bound would stop a topic.
func part(most, others int) int { return max(1, (most-others)/2) }

// allowance is how many records of a topic may be here while others may come.
func (q *queue) allowance(l *line) int {
	bytes := part(q.mostBytes, q.bytes-l.bytes)
	return max(1, min(part(q.mostRecords, q.records-l.records), int(int64(l.records)*int64(bytes)/int64(max(1, l.bytes)))))
}

// handBack notes that a record that was taken has its room, or waits for what
// is no business of the others.
func (q *queue) handBack(r *record) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.hands--
	if l := q.lines[r.p.topic]; l != nil {
		l.hands--
		q.goOn(l)
	}
}

// ended notes that a record that was taken is no longer here.
func (q *queue) ended(r *record) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.forget(r)
}

func (q *queue) forget(r *record) {
	q.records--
	q.bytes -= r.size
	if q.roomLocked() > 0 {
		signal(q.free)
	}
	l := q.lines[r.p.topic]
	l.records--
	l.bytes -= r.size
	if r.taken {
		l.taken--
		q.goOn(l)
	}
	if l.records == 0 {
		for _, p := range l.turn { // they come back in another line
			p.inTurn = false
		}
		l.turn = nil
		delete(q.lines, r.p.topic)
	}
}

// giveBack empties a partition's queue; from is the first offset given back,
// -1 if nothing was queued.
func (q *queue) giveBack(p *partition) (from int64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	from = -1
	if len(p.queued) > 0 {
		from = p.queued[0].k.Offset
	}
	for _, r := range p.queued {
		q.forget(r)
	}
	p.queued = nil
	return from
}

// giveTailBack cuts a partition of a crowded topic down to its part, one of so
// many of the topic; from is the first offset given back, -1 if none is.
func (q *queue) giveTailBack(p *partition, of int) (from int64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	l := q.lines[p.topic]
	if l == nil || l.crowdedSince.IsZero() {
		return -1
	}
	keep := (max(0, q.allowance(l)-l.taken) + of - 1) / max(1, of)
	if len(p.queued) <= keep {
		return -1
	}
	tail := p.queued[keep:]
	from = tail[0].k.Offset
	for _, r := range tail {
		q.forget(r)
	}
	clear(tail)
	p.queued = p.queued[:keep]
	return from
}

// crowdedAfter is how long the next record of a partition with more than its
// share of the queue may have waited.
const crowdedAfter = 2 * time.Second

// crowded reports whether a partition, one of so many, or its topic, one of so
// many, takes more than its share and is long in getting through it, until half
// of that is done: then about a second's work is left, for the fetches to begin
// again.
func (q *queue) crowded(p *partition, now time.Time, partitions, topics int) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.several = topics > 1
	topic := q.topicCrowded(p, now)
	n := len(p.queued)
	switch {
	case p.crowd > 0:
		if n <= p.crowd/2 {
			p.crowd = 0
		}
	case partitions < 2, !p.waits(now):
	case n > q.mostRecords/(2*partitions), n*p.queued[0].size > q.mostBytes/(2*partitions):
		p.crowd = n
	}
	return p.crowd > 0 || topic
}

// waits reports whether the partition's next record has waited for long.
func (p *partition) waits(now time.Time) bool {
	return len(p.queued) > 0 && now.Sub(p.queued[0].at) >= crowdedAfter
}

// topicCrowded is crowded for the partition's topic. One that was slow before
// is found crowded at once: until it has waited again it would take what is
// left to the others.
func (q *queue) topicCrowded(p *partition, now time.Time) bool {
	l := q.lines[p.topic]
	switch {
	case l == nil:
		return false
	case !l.crowdedSince.IsZero():
		if l.records <= q.allowance(l)/2 {
			l.slow = now.Sub(l.crowdedSince) >= crowdedAfter
			l.crowdedSince = time.Time{}
		}
	case q.several && l.records > q.allowance(l) && (l.slow || p.waits(now)):
		l.crowdedSince = now
	}
	return !l.crowdedSince.IsZero()
}

// revive puts a partition that was left out back in turn.
func (q *queue) revive(p *partition) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(p.queued) > 0 {
		q.await(q.lines[p.topic], p)
	}
}

func (q *queue) state() (records, bytes int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.records, q.bytes
}
