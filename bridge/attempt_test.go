package bridge

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"

	"serbridge/bridge/deadletter"
	"serbridge/bridge/secret"
	"serbridge/bridge/stellar"
	"serbridge/bridge/stellar/stellartest"
)

// rig is a Bridge without Kafka: what an attempt needs, and the API.
type rig struct {
	*Bridge
	api *stellartest.Server
}

func newRig(t *testing.T, rate float64) *rig {
	t.Helper()
	var network kfake.VirtualNetwork
	ln, err := network.Listen("tcp", "localhost:80")
	if err != nil {
		t.Fatal(err)
	}
	api := stellartest.New(stellartest.Config{})
	api.Serve(ln)
	client, err := stellar.New(stellar.Config{URL: "http://localhost:80", DialContext: network.DialContext,
		User: secret.Literal(stellartest.DefaultUser), APIKey: secret.Literal(stellartest.DefaultAPIKey)})
	if err != nil {
		t.Fatal(err)
	}
	b, err := New(Config{Topics: []string{"detections"}, Stellar: client, DeadLetters: new(deadletter.Writer), RateLimit: rate})
	if err != nil {
		t.Fatal(err)
	}
	b.tokens.share(rate, b.cfg.RateBurst)
	b.heard.hear(time.Now().Add(24 * time.Hour)) // the group always answers
	ctx, cancel := context.WithCancel(t.Context())
	b.life = ctx
	var gate sync.WaitGroup
	gate.Go(func() { b.gate.run(ctx) })
	t.Cleanup(func() { cancel(); gate.Wait(); client.Close(); api.Close() })
	return &rig{b, api}
}

// document makes one of a record of its own.
func (r *rig) document(t *testing.T, p *partition, offset int64) *document {
	return &document{r: taken(t, p, offset, 1), topic: p.topic, body: fmt.Appendf(nil,
		`{"event_name":"x","timestamp":1750000000000,"event_status":"New","event_source":"test","severity":50,"custom_ser_field":{"serbridge":{"delivery_key":"%d"}}}`, offset)}
}

// expectNothingLeft is that everything that was taken has been given back.
func (r *rig) expectNothingLeft(t *testing.T) {
	t.Helper()
	if _, inUse := r.slots.state(); inUse != 0 || r.slots.line.Len() != 0 {
		t.Errorf("%d slots leaked, %d wait", inUse, r.slots.line.Len())
	}
	if len(r.tokens.turn) != 0 {
		t.Error("the turn at the rate leaked: nobody gets a token any more")
	}
	if r.gate.canary != nil || len(r.gate.waiters()) != 0 {
		t.Errorf("a canary leaked (%v) or somebody still waits (%d): the gate never opens", r.gate.canary != nil, len(r.gate.waiters()))
	}
	if held, waiting := r.exposure.Held(), r.exposure.Waiting(); held != 0 || waiting != 0 {
		t.Errorf("%d units of room leaked, %d wait", held, waiting)
	}
}

// Whatever the API and the group do, and at whatever moment the partitions go
// away, an attempt leaves no ticket, slot, turn or room behind; and once all is
// well, everything that is still ours is delivered.
func TestAttemptGivesBackWhatItTook(t *testing.T) {
	for seed := range uint64(30) {
		synctest.Test(t, func(t *testing.T) {
			rng := rand.New(rand.NewPCG(seed, 0))
			r := newRig(t, 50)
			faults := []stellartest.Fault{stellartest.Unavailable(), stellartest.RateLimited(3 * time.Second), stellartest.BadRequest(),
				stellartest.Unauthorized(), stellartest.NotFound(), stellartest.Slow(2 * time.Second), stellartest.CutBeforeStoring(),
				stellartest.GatewayTimeout(), stellartest.Hang(), {}, {}, {}, {}}
			var mu sync.Mutex
			api := rand.New(rand.NewPCG(seed, 1))
			pick := func(stellartest.Request) stellartest.Fault {
				mu.Lock()
				defer mu.Unlock()
				return faults[api.IntN(len(faults))]
			}
			r.api.Script(pick)
			if seed%2 == 0 {
				r.api.ScriptTokens(pick)
			}
			var all sync.WaitGroup
			var ps []*partition
			for range 4 {
				p := ownPartition(r.life)
				ps = append(ps, p)
				for i := range int64(30) {
					d := r.document(t, p, i)
					all.Go(func() { r.carry(d) })
				}
			}
			for _, p := range ps[1:] {
				time.Sleep(time.Duration(rng.IntN(20_000)) * time.Millisecond)
				if seed%3 > 0 {
					p.drain()
					time.Sleep(time.Duration(rng.IntN(5_000)) * time.Millisecond)
				}
				room, _, _ := p.fence(errLost)
				r.exposure.ReleaseAll("detections", room)
			}
			r.api.Script(nil)
			r.api.ScriptTokens(nil)
			all.Wait()
			if s := ps[0].frontier().Stats(); s.Open > 0 {
				t.Errorf("seed %d: %d records of the partition that stayed were not delivered", seed, s.Open)
			}
			for _, p := range ps {
				room, active, _ := p.fence(errLost)
				r.exposure.ReleaseAll("detections", room)
				if active != 0 {
					t.Errorf("seed %d: %d records never ended", seed, active)
				}
			}
			r.expectNothingLeft(t)
			if t.Failed() {
				t.Logf("seed %d", seed)
			}
		})
	}
}

// carry is deliver without a transform and without dead letters.
func (r *rig) carry(d *document) {
	r.queue.push(d.r.p, []*record{d.r}) // its place in the budget
	defer r.ended(d.r)
	for {
		a, err := r.attempt(d)
		if err != nil {
			return
		}
		if a.Verdict == stellar.Delivered {
			r.settle(d.r)
			return
		}
		d.last = a
		if r.backOff(d, a) != nil {
			return
		}
	}
}

// At a share of one request in twenty seconds those who wait for a token wait
// for longer than an authorization lives.
func TestSmallShareIsNotSpentOnExpiredTokens(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 0.05)
		r.slots.limit = 64
		p := ownPartition(r.life)
		var all sync.WaitGroup
		for i := range int64(64) {
			d := r.document(t, p, i)
			all.Go(func() { r.carry(d) })
		}
		all.Wait()
		if n := r.api.Ledger().Requests[stellartest.KindInsert]; n != 64 {
			t.Errorf("%d requests for 64 documents: the others ran into a 401", n)
		}
		room, _, _ := p.fence(errLost)
		r.exposure.ReleaseAll("detections", room)
		r.expectNothingLeft(t)
	})
}

// A token call that hangs must not gather tokens of the rate behind it.
func TestSlowTokenCallIsFollowedByNoBurst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 10)
		r.slots.limit = 64
		p := ownPartition(r.life)
		var all sync.WaitGroup
		for i := range int64(150) {
			d := r.document(t, p, i)
			all.Go(func() { r.carry(d) })
		}
		time.Sleep(3 * time.Second)
		r.api.RevokeTokens()
		r.api.ScriptTokens(stellartest.Always(stellartest.Slow(10 * time.Second)))
		all.Wait()
		if n := r.api.MaxInWindow(time.Second); n > 10+r.cfg.RateBurst {
			t.Errorf("%d requests in one second at 10/s and a burst of %d", n, r.cfg.RateBurst)
		}
		room, _, _ := p.fence(errLost)
		r.exposure.ReleaseAll("detections", room)
	})
}

func TestRefusedCredentialsHoldNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 100)
		r.api.SetCredentials("another", "key")
		d := r.document(t, ownPartition(r.life), 0)
		a, err := r.attempt(d)
		if err != nil || a.Reason != "token_refused" || d.attempts != 0 {
			t.Errorf("answer %s after %d attempts, %v; want token_refused, which is no attempt of the record's", a.Reason, d.attempts, err)
		}
		r.expectNothingLeft(t)
		if closed, reason, _ := r.gate.state(); !closed || reason != "token_refused" {
			t.Errorf("gate closed %v for %q: every record asks for a token of its own", closed, reason)
		}
	})
}

func TestCanaryLostInATokenCallMakesPlace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 100)
		shut(t, r.gate, wrongHost)
		r.api.ScriptTokens(stellartest.Sequence(stellartest.Slow(10 * time.Second)))
		p, q := ownPartition(r.life), ownPartition(r.life)
		var all sync.WaitGroup
		first, second := r.document(t, p, 0), r.document(t, q, 0)
		all.Go(func() { r.carry(first) })
		time.Sleep(2 * time.Second) // it is the canary, and waits for the token
		p.fence(errLost)
		all.Go(func() { r.carry(second) })
		time.Sleep(time.Minute)
		if closed, _, _ := r.gate.state(); closed {
			t.Error("closed a minute later: no other canary goes")
		}
		all.Wait()
	})
}

// The order in which an attempt takes what it needs: while the gate is closed
// nobody spends a token of the rate but the canary.
func TestClosedGateSpendsNoTokens(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 100)
		r.api.Script(stellartest.Always(stellartest.NotFound()))
		p := ownPartition(r.life)
		var all sync.WaitGroup
		for i := range int64(100) {
			d := r.document(t, p, i)
			all.Go(func() { r.carry(d) })
		}
		time.Sleep(10 * time.Minute)
		if n := r.api.Ledger().Requests[stellartest.KindInsert]; n > 200 {
			t.Errorf("%d requests in ten minutes of 404", n)
		}
		r.api.Script(nil)
		all.Wait()
		room, _, _ := p.fence(errLost)
		r.exposure.ReleaseAll("detections", room)
		r.expectNothingLeft(t)
	})
}
