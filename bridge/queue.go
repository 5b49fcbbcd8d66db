package bridge

import (
	"context"
	"sync"
	"time"
)

// queue holds what was received and not yet taken, partition by partition, and
// hands it out in turn: a partition with a long backlog delays none beside it.
// Its bounds count records until they end, so that what is under way counts as
// well.
type queue struct {
	mostRecords, mostBytes int

	mu      sync.Mutex
	turn    []*partition // those with something queued, next first
	records int
	bytes   int
	large   float64       // about the largest record of late: what the next ones may be
	ready   chan struct{} // capacity 1: there may be something to take
	free    chan struct{} // capacity 1: there may be room
}

// forgets is how much of the largest record is forgotten with each other one.
const forgets = 0.99

func newQueue(records, bytes int) *queue {
	return &queue{mostRecords: records, mostBytes: bytes, large: max(1, float64(bytes)/8),
		ready: make(chan struct{}, 1), free: make(chan struct{}, 1)}
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// room is how many more records may be received now. A record larger than what
// is free is taken once nothing else is here, so 1 is the least then.
func (q *queue) room() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	n := min(q.mostRecords-q.records, int(float64(q.mostBytes-q.bytes)/q.large))
	if q.records == 0 {
		n = max(1, n)
	}
	return max(0, n)
}

// push queues received records of one partition.
func (q *queue) push(p *partition, rs []*record) {
	if len(rs) == 0 {
		return
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, r := range rs {
		q.records++
		q.bytes += r.size
		q.large = max(float64(r.size), q.large*forgets)
	}
	p.queued = append(p.queued, rs...)
	if !p.inTurn {
		p.inTurn = true
		q.turn = append(q.turn, p)
	}
	signal(q.ready)
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
		p := q.turn[0]
		q.turn = q.turn[1:]
		p.inTurn = false
		if len(p.queued) == 0 {
			continue
		}
		ok, trial := admit(p)
		if !ok {
			continue
		}
		r := p.queued[0]
		r.trial = trial
		p.queued[0] = nil
		p.queued = p.queued[1:]
		if len(p.queued) > 0 {
			p.inTurn = true
			q.turn = append(q.turn, p)
		}
		return r
	}
	return nil
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
	signal(q.free)
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

// crowdedAfter is how long the next record of a partition with more than its
// share of the queue may have waited.
const crowdedAfter = 2 * time.Second

// crowded reports whether a partition, one of so many, takes more than its
// share and is long in getting through it, until half of that is done: then
// about a second's work is left, for the fetches to begin again.
func (q *queue) crowded(p *partition, now time.Time, of int) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	n := len(p.queued)
	switch {
	case p.crowd > 0:
		if n <= p.crowd/2 {
			p.crowd = 0
		}
	case of < 2, n == 0, now.Sub(p.queued[0].at) < crowdedAfter:
	case n > q.mostRecords/(2*of), n*p.queued[0].size > q.mostBytes/(2*of):
		p.crowd = n
	}
	return p.crowd > 0
}

// revive puts a partition that was left out back in turn.
func (q *queue) revive(p *partition) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(p.queued) > 0 && !p.inTurn {
		p.inTurn = true
		q.turn = append(q.turn, p)
		signal(q.ready)
	}
}

func (q *queue) state() (records, bytes int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.records, q.bytes
}
