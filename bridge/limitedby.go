package bridge

// limit names what keeps delivery from going faster.
type limit string

const (
	byRate        limit = "rate"        // an attempt waits for a token of RATE_LIMIT
	byGate        limit = "gate"        // it is closed
	byConcurrency limit = "concurrency" // attempts wait for others on the wire to be answered
	byCommit      limit = "commit"      // records wait for room under MAX_REPEATS, which commits free
	byNothing     limit = "nothing"     // nobody waits: there is no more to do, or it waits in Kafka
)

var limits = []limit{byRate, byGate, byConcurrency, byCommit, byNothing}

// limitedBy is where the records wait now. An attempt takes room, a slot and a
// token in this order and keeps what it has while it waits for the next, so
// that a lack of the last shows as a lack of all before it: the last counts.
func (b *Bridge) limitedBy() limit {
	closed, _, _ := b.gate.state()
	switch {
	case closed:
		return byGate
	case b.tokens.isAwaited():
		return byRate
	case b.slots.waiting() > 0:
		return byConcurrency
	case b.exposure.Waiting() > 0:
		return byCommit
	}
	return byNothing
}
