package bridge_test

import (
	"bytes"
	"fmt"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"serbridge/bridge"
	"serbridge/bridge/stellar/stellartest"
)

// outage is what an API does to all inserts for ten minutes.
type outage struct {
	name   string
	script func(stellartest.Request) stellartest.Fault // nil: nobody listens
	some   bool                                        // some documents are delivered meanwhile
	stores bool                                        // what is not confirmed may be stored
}

var outages = []outage{
	{name: "unreachable"},
	{name: "401", script: stellartest.Always(stellartest.Unauthorized())},
	{name: "404", script: stellartest.Always(stellartest.NotFound())},
	{name: "400", script: stellartest.Always(stellartest.BadRequest())},
	{name: "403 of a firewall", script: stellartest.Always(stellartest.Blocked())},
	{name: "missing fields", script: stellartest.Always(text(400, missing))},
	{name: "500", script: stellartest.Always(stellartest.ServerError())},
	{name: "503 with Retry-After", script: stellartest.Always(stellartest.Unavailable().RetryAfter(30 * time.Second))},
	{name: "504, stored", script: stellartest.Always(stellartest.GatewayTimeout().Stored()), stores: true},
	{name: "{}", script: stellartest.Always(stellartest.EmptyObject())},
	{name: "{}, stored", script: stellartest.Always(stellartest.EmptyObject().Stored()), stores: true},
	{name: "no answer, stored", script: stellartest.Always(stellartest.Hang().Stored()), stores: true},
	{name: "brown-out", script: except(10, stellartest.ServerError()), some: true},
	{name: "half answers 400", script: except(2, stellartest.BadRequest()), some: true},
	{name: "half answers 403", script: except(2, stellartest.Blocked()), some: true},
	{name: "half answers missing fields", script: except(2, text(400, missing)), some: true},
	{name: "400 first, then 403, by halves", script: half400Then403(), some: true},
}

// except is a cluster of n of which one member is well.
func except(n int, f stellartest.Fault) func(stellartest.Request) stellartest.Fault {
	return func(r stellartest.Request) stellartest.Fault {
		if r.N%n == 0 {
			return stellartest.Fault{}
		}
		return f
	}
}

func half400Then403() func(stellartest.Request) stellartest.Fault {
	requests := 0
	return func(r stellartest.Request) stellartest.Fault {
		requests++
		switch {
		case r.N%2 == 0:
			return stellartest.Fault{}
		case requests < 200:
			return stellartest.BadRequest()
		}
		return stellartest.Blocked()
	}
}

// Ten minutes of an API that is at fault must lose nothing, dead-letter nothing, and end without a stampede.
func TestOutageLosesNothingAndDeadLettersNothing(t *testing.T) {
	t.Parallel()
	for _, o := range rows(outages) {
		t.Run(o.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { suffer(t, o) })
		})
	}
}

func suffer(t *testing.T, o outage) {
	const records = 300
	w := newWorld(t, worldConfig{api: slow})
	w.api.Script(o.script)
	if o.script == nil {
		w.door.Close()
	}
	w.produce(0, records)
	m := w.start(nil)
	time.Sleep(10 * time.Minute)
	if lag := w.lag(topic); !o.some && lag != records {
		t.Errorf("lag %d of %d: something was committed", lag, records)
	}
	if n := w.api.Ledger().Requests[stellartest.KindInsert]; !o.some && n > 120 {
		t.Errorf("%d requests in ten minutes: the gate did not hold", n)
	}
	if !o.some {
		m.expectNotReady("gate closed")
	}
	if n := m.metric("dead_letters_total"); n > 0 {
		t.Errorf("%v dead letters during the outage", n)
	}
	healed := len(w.api.Requests())
	w.api.Script(nil)
	if o.script == nil {
		w.open()
	}
	w.settled(6 * time.Minute)
	repeats := 0
	if o.stores {
		repeats = 2 * records
	}
	w.expect(records, repeats)
	if n := mostCopies(w); n > 3 {
		t.Errorf("a document was stored %d times", n)
	}
	if n := w.api.Ledger().Unexplained; n > 0 {
		t.Errorf("%d repeats that no answer explains", n)
	}
	m.expectReady()
	if !o.some {
		expectNoStampede(t, w.api.Requests()[healed:])
	}
}

// slow is an API whose answers take a twentieth of a second each.
var slow = stellartest.Config{Faults: stellartest.Faults{Latency: stellartest.Latency{Median: 50 * time.Millisecond}}}

// expectNoStampede is that the requests after an outage begin one at a time, and at most double with each answer time:
// an API that has just come back is not to be knocked over by all that waited.
func expectNoStampede(t *testing.T, rs []stellartest.Request) {
	t.Helper()
	for len(rs) > 1 && rs[1].At.Sub(rs[0].At) < 50*time.Millisecond {
		rs = rs[1:] // sent before it was healed
	}
	begun, most := rs[0].At, []int{1, 2, 4, 8, 16, 32}
	counts := make([]int, len(most))
	for _, r := range rs {
		if i := int(r.At.Sub(begun) / (50 * time.Millisecond)); i < len(counts) {
			counts[i]++
		}
	}
	for i := range counts {
		if counts[i] > most[i] {
			t.Errorf("requests per twentieth of a second after the outage: %v, want at most %v", counts, most)
			return
		}
	}
}

// With every answer unknown for ever something has to give: a canary that was sent as often as it may be becomes a dead
// letter, one at a time; nobody else does, and no document is stored more often than MaxSends.
func TestEveryAnswerUnknownForEverDeadLettersOneCanaryAtATime(t *testing.T) {
	t.Parallel()
	for _, f := range rows([]stellartest.Fault{stellartest.GatewayTimeout().Stored(), stellartest.EmptyObject().Stored(), stellartest.CutAfterStoring()}) {
		t.Run(f.Name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				const records = 40
				w := newWorld(t, worldConfig{})
				w.api.Script(stellartest.Always(f))
				w.produce(0, records)
				m := w.start(nil)
				for i := 0; len(w.letters()) == 0 && i < 120; i++ {
					time.Sleep(time.Minute)
				}
				time.Sleep(time.Minute)
				letters := w.letters()
				l := w.api.Ledger()
				for i, d := range letters {
					if d.Reason != "ambiguous" || d.Certainty != "unknown" || d.Attempts != 3 {
						t.Errorf("dead letter for %s, certainty %s, after %d attempts", d.Reason, d.Certainty, d.Attempts)
					}
					if i > 0 && d.FailedAt.Equal(letters[i-1].FailedAt) {
						t.Errorf("two dead letters at %v: not one at a time", d.FailedAt)
					}
				}
				if n := l.Requests[stellartest.KindInsert] / 3; len(letters) > n || len(letters) == 0 || len(letters) == records {
					t.Errorf("%d dead letters of %d requests, want some but not all, each sent three times", len(letters), l.Requests[stellartest.KindInsert])
				}
				m.expectNotReady("gate closed")
				w.api.Script(nil)
				w.produce(records, 1) // company for those that may not be sent again
				w.settled(30 * time.Minute)
				expectAccounted(t, w, records+1)
				if n := mostCopies(w); n > 3 {
					t.Errorf("a document was stored %d times", n)
				}
				m.expectReady()
			})
		})
	}
}

// Documents that may be stored and may not be sent again hold their room until another is delivered. Where that is all the
// room there is, and they are too few to close the gate, the last unit must go to that other, or all would wait for ever.
func TestFewUnknownDocumentsDoNotHoldAllTheRoomForEver(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ bound, bad int }{{2, 1}, {5, 4}, {10, 9}} {
		t.Run(fmt.Sprintf("%d of %d", c.bad, c.bound), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				const others = 300
				w := newWorld(t, worldConfig{partitions: 1, api: slow})
				w.api.Script(poison(stellartest.GatewayTimeout().Stored()))
				m := w.start(func(cfg *bridge.Config) { cfg.MaxRepeats = c.bound })
				w.produceTo(topic, 0, c.bad, poisoned)
				w.produce(c.bad, others)
				w.settled(10 * time.Minute)
				for _, l := range w.letters() {
					if l.Reason != "ambiguous" || l.Offset >= int64(c.bad) {
						t.Errorf("dead letter of offset %d for %s", l.Offset, l.Reason)
					}
				}
				expectAccounted(t, w, c.bad+others)
				if n := mostCopies(w); n > 3 {
					t.Errorf("a document was stored %d times", n)
				}
				m.expectReady()
			})
		})
	}
}

// expectAccounted is that each of n records is stored or a dead letter, or both if its letter says that it may be.
func expectAccounted(t *testing.T, w *world, n int) {
	t.Helper()
	seen := make(map[string]bool)
	for _, d := range w.api.Documents() {
		seen[d.DeliveryKey] = true
	}
	for _, l := range w.letters() {
		if l.DeliveryKey == "" {
			seen[fmt.Sprintf("%s/%d/%d", l.Topic, l.Partition, l.Offset)] = true
			continue
		}
		if seen[l.DeliveryKey] && l.Certainty != "unknown" {
			t.Errorf("offset %d of %d was stored and dead-lettered as %s", l.Offset, l.Partition, l.Certainty)
		}
		seen[l.DeliveryKey] = true
	}
	if len(seen) != n {
		t.Errorf("%d of %d records accounted for", len(seen), n)
	}
}

// A dead-letter topic that is away must not keep the gate's canary: when the API comes back meanwhile, whoever is sound
// is delivered.
func TestDeadLetterTopicAwayDoesNotHoldTheGate(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, worldConfig{partitions: 1})
		w.api.Script(stellartest.Always(stellartest.EmptyObject()))
		w.produce(0, 12)
		m := w.startWith(memberConfig{letters: noTopic})
		time.Sleep(30 * time.Minute) // all have been sent three times
		m.expectNotReady("DLQ_CREATE")
		w.api.Script(nil)
		w.produce(12, 100)
		time.Sleep(15 * time.Minute)
		fresh := 0
		for _, d := range w.api.Documents() {
			if !bytes.Contains(d.Body, []byte(`"detection 0"`)) {
				fresh++
			}
		}
		if fresh < 100 {
			t.Errorf("%d of 100 new records delivered while the dead-letter topic is missing", fresh)
		}
		if err := w.cluster.CreateTopic(group+".dlq", 1, nil); err != nil {
			t.Fatal(err)
		}
		w.settled(10 * time.Minute)
		expectAccounted(t, w, 112)
		time.Sleep(10 * time.Second) // the next look
		m.expectReady()
	})
}

// However long an outage lasts and however long the backlog is, memory must not grow: what is not received costs nothing,
// and what is tried again and again costs no more than once. Not parallel: the heap is everybody's.
func TestOutageKeepsMemoryFlat(t *testing.T) {
	type row struct {
		outage
		lasting time.Duration
		records int
	}
	all := []row{{outage{name: "an hour of 429", script: stellartest.Always(stellartest.RateLimited(20 * time.Second))}, time.Hour, 100_000}}
	for _, o := range outages {
		all = append(all, row{o, 10 * time.Minute, 10_000})
	}
	for _, r := range rows(all) {
		t.Run(r.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				const buffer, size, least = 4 << 20, 1000, 1 << 20
				cfg := slow
				cfg.StoreLimit = 100
				w := newWorld(t, worldConfig{api: cfg})
				w.api.Script(r.script)
				if r.script == nil {
					w.door.Close()
				}
				for first := 0; first < r.records; first += 1000 {
					w.produceTo(topic, first, 1000, func(i int) []byte { return sized(i, size) })
				}
				before := heapAfterCollection()
				m := w.start(func(c *bridge.Config) { c.BufferBytes = buffer })
				time.Sleep(r.lasting / 5)
				first := heapAfterCollection()
				time.Sleep(r.lasting * 4 / 5)
				last := heapAfterCollection()
				grown := last > first+least && !r.some // the simulator remembers what was delivered
				if most := before + 3*buffer; max(first, last) > most || grown {
					t.Errorf("heap of %d KiB before, %d early and %d late in the outage", before>>10, first>>10, last>>10)
				}
				if n := m.metric("records_in_memory_bytes"); n > buffer/2+size+1000 || n == 0 && !r.some {
					t.Errorf("%v bytes of records in memory", n)
				}
				t.Logf("%d KiB before, %d early, %d late", before>>10, first>>10, last>>10)
			})
		})
	}
}

// heapAfterCollection is what is in use.
func heapAfterCollection() int64 {
	runtime.GC()
	runtime.GC()
	return heapInUse()
}
