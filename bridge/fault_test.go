package bridge

import (
	"log/slog"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"serbridge/bridge/admin"
	"serbridge/bridge/stellar"
	"serbridge/transform"
	"serbridge/transform/format"
)

var (
	unprocessable = stellar.Answer{Verdict: stellar.Refused, Effect: stellar.EffectCounts, Reason: "http_422"}
	serverError   = stellar.Answer{Verdict: stellar.Unavailable, Effect: stellar.EffectCounts, Reason: "http_500", ServerFault: true}
	writeFailed   = stellar.Answer{Verdict: stellar.Unavailable, Effect: stellar.EffectCounts, Reason: "write_failed", ServerFault: true}
)

// happening is what befalls one document and those beside it.
type happening struct {
	fails     stellar.Answer // of the document itself
	delivered int            // others, then
	heals     stellar.Answer // another document that had failed so is delivered; then
	after     time.Duration
}

func repeat(n int, h ...happening) (all []happening) {
	for range n {
		all = append(all, h...)
	}
	return all
}

// knownFaults has met each way to fail for a while, so that only the rule of comparison is left.
func knownFaults() *faults {
	f, now := newFaults(), time.Now()
	for _, way := range append(stellar.Reasons(), serverFault) {
		f.struck[way] = spell{now.Add(-newFault), now}
	}
	return f
}

// When half a cluster begins to refuse, three unlucky refusals come before anybody has recovered from one.
func TestFirstSecondsOfAFaultProveNothing(t *testing.T) {
	f, d, now := newFaults(), new(document), time.Now()
	for i := range uint64(20) {
		if f.own(d, refused, i, now.Add(time.Duration(i)*newFault/20)) {
			t.Fatal("its own before the fault is known")
		}
	}
	if !f.own(d, refused, 20, now.Add(newFault)) {
		t.Error("never its own")
	}
	if f.own(new(document), refused, 21, now.Add(time.Hour)) {
		t.Error("a new document's at once")
	}
}

func TestWhoseFault(t *testing.T) {
	others := func(a stellar.Answer, after time.Duration) happening {
		return happening{fails: a, delivered: 1, after: after}
	}
	tests := []struct {
		name string
		runs []happening
		own  int // the failure that proves it, counted from 1; 0: none does
	}{
		{"one bad record among good ones", repeat(5, others(refused, time.Second)), 3},
		{"everything is refused", repeat(1000, happening{fails: refused, after: time.Second}), 0},
		{"all three before another delivery",
			append(repeat(50, happening{fails: refused}), repeat(3, others(refused, time.Second))...), 53},
		{"refused in two ways", repeat(2, others(refused, 0), others(unprocessable, 0)), 0},
		{"two of one, three of the other", append(repeat(2, others(refused, 0)), repeat(3, others(unprocessable, 0))...), 5},
		{"others recover from it", repeat(200, happening{fails: refused, delivered: 1, heals: refused, after: time.Minute}), 0},
		{"others recover from another way", repeat(3, happening{fails: refused, delivered: 1, heals: unprocessable}), 3},
		{"others recovered two minutes ago",
			append([]happening{{heals: refused, after: 2 * time.Minute}}, repeat(3, others(refused, 0))...), 3},
		{"others recovered less than two minutes ago",
			append([]happening{{heals: refused, after: 119 * time.Second}}, repeat(3, others(refused, 0))...), 0},
		{"proven after the recovery has passed",
			append([]happening{{heals: refused}}, repeat(10, others(refused, 30*time.Second))...), 5},
		{"5xx, too quickly", repeat(50, others(serverError, time.Second)), 0},
		{"5xx for two minutes", repeat(20, others(serverError, 20*time.Second)), 8},
		{"5xx for two minutes, more seldom", repeat(20, others(serverError, time.Minute)), 8},
		{"5xx of several kinds, and breaks while writing",
			repeat(4, others(serverError, 10*time.Second), others(overloaded, 10*time.Second), others(writeFailed, 10*time.Second)), 0},
		{"the same for longer",
			repeat(6, others(serverError, 10*time.Second), others(overloaded, 10*time.Second), others(writeFailed, 10*time.Second)), 13},
		{"an outage of 5xx", repeat(1000, happening{fails: serverError, after: time.Minute}), 0},
		{"half a cluster answers 5xx", repeat(200, happening{fails: serverError, delivered: 3, heals: serverError, after: 20 * time.Second}), 0},
		{"never sent", repeat(1000, others(notSent, time.Minute)), 0},
		{"a wrong address", repeat(1000, others(wrongHost, time.Minute)), 0},
		{"too many requests", repeat(1000, others(tooManyWait, time.Minute)), 0},
		{"may be stored", repeat(1000, others(noAnswer, time.Minute)), 0},
		{"cancelled", repeat(1000, others(cancelled, time.Minute)), 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f, d, now, deliveries, own := knownFaults(), new(document), time.Now(), uint64(0), 0
			for i, h := range tt.runs {
				if h.fails.Reason != "" && own == 0 && f.own(d, h.fails, deliveries, now) {
					own = i + 1
				}
				deliveries += uint64(h.delivered)
				if h.heals.Reason != "" {
					other := new(document)
					f.own(other, h.heals, deliveries, now)
					f.delivered(other, now)
				}
				now = now.Add(h.after)
			}
			if own > 0 && tt.runs[0].fails.Reason == "" {
				own-- // the first is none of the document's
			}
			if own != tt.own {
				t.Errorf("its own after failure %d, want %d", own, tt.own)
			}
		})
	}
}

func TestSlimmedDeliveryAcquitsNobody(t *testing.T) {
	f, now := knownFaults(), time.Now()
	slim := &document{rung: 1}
	f.own(slim, refused, 0, now)
	f.delivered(slim, now)
	d, own := new(document), false
	for i := range uint64(3) {
		own = f.own(d, refused, i, now)
	}
	if !own {
		t.Error("a document that was stored without its raw record keeps all others of its kind from the ladder for two minutes")
	}
}

// Half of the cluster is broken: every attempt meets it or does not. Whatever
// the documents, none is given up once one has shown that trying again helps.
func TestHalfABrokenClusterIsNoDocumentsFault(t *testing.T) {
	for _, broken := range []stellar.Answer{refused, serverError} {
		for seed := range uint64(20) {
			rng := rand.New(rand.NewPCG(seed, 0))
			f, now, deliveries := knownFaults(), time.Now(), uint64(0)
			sick := new(document) // one that was tried before
			f.own(sick, broken, 0, now)
			f.delivered(sick, now)
			open := make([]*document, 64)
			for i := range open {
				open[i] = new(document)
			}
			for range 50_000 {
				now = now.Add(time.Duration(rng.IntN(20)) * time.Millisecond)
				i := rng.IntN(len(open))
				if rng.IntN(2) == 0 {
					deliveries++
					f.delivered(open[i], now)
					open[i] = new(document)
				} else if f.own(open[i], broken, deliveries, now) {
					t.Fatalf("seed %d: given up for %s after %d failures", seed, broken.Reason, open[i].failures[way(broken)].count)
				}
			}
		}
	}
}

// And yet a bad record among good ones is out of the way soon.
func TestBadRecordAmongGoodOnesIsOutOfTheWaySoon(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, d, begun := newFaults(), new(document), time.Now()
		wait := fullJitter(mostWait)
		for deliveries := uint64(0); !f.own(d, serverError, deliveries, time.Now()); deliveries += 10 {
			time.Sleep(wait.NextBackOff())
			if time.Since(begun) > 10*time.Minute {
				t.Fatal("not given up in ten minutes")
			}
		}
		if time.Since(begun) < serverFaultSpan {
			t.Errorf("given up after %v: a short brown-out would do that", time.Since(begun))
		}
	})
}

// sound is a document with a raw record, made as the pipeline makes it.
func sound(t *testing.T) *document {
	t.Helper()
	result := format.Transform(transform.Input{
		Value: []byte(`{"event_name":"x","event_source":"test","severity":50,"timestamp":1750000000000,"vendor_thing":{"a":"b"}}`),
		Topic: "detections", Now: time.Now(), Timestamp: time.Now(), Settings: new(transform.Settings),
	})
	if len(result.Parts) != 1 || result.Parts[0].Document == nil {
		t.Fatalf("no document: %+v", result)
	}
	d := &document{r: &record{k: &kgo.Record{Topic: "detections"}}, doc: result.Parts[0].Document}
	if err := d.encode(); err != nil {
		t.Fatal(err)
	}
	return d
}

func TestRefusedDocumentIsSlimmedBeforeItIsGivenUp(t *testing.T) {
	documented := refused
	documented.Documented, documented.Reason = true, "invalid_event_status"
	tests := []struct {
		name      string
		onRefused string
		answer    stellar.Answer
		want      []next // from the failure on that proves it
	}{
		{"refused", "slim", refused, []next{slimmer, slimmer, giveUp}},
		{"as the operator wants it", "dead-letter", refused, []next{giveUp}},
		{"documented", "slim", documented, []next{giveUp}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b := &Bridge{cfg: Config{OnRefused: tt.onRefused, Journal: new(admin.Journal)}, log: slog.New(slog.DiscardHandler), faults: knownFaults(),
				gate: newGate(nil, func(bool, stellar.Answer) {})}
			d := sound(t)
			for range refusalsToOwn - 1 {
				if got := b.weigh(d, tt.answer); got != again {
					t.Fatalf("given up unproven: %d", got)
				}
				b.gate.last++
			}
			size := len(d.body)
			for i, want := range tt.want {
				if got := b.weigh(d, tt.answer); got != want {
					t.Fatalf("rung %d: %d, want %d", i, got, want)
				}
				if want == slimmer {
					if len(d.body) >= size {
						t.Errorf("rung %d has %d bytes, the one before %d", i+1, len(d.body), size)
					}
					size = len(d.body)
				}
			}
		})
	}
}

func TestOutageInTheMiddleOfTheLadderGivesNothingUp(t *testing.T) {
	b := &Bridge{cfg: Config{OnRefused: "slim", Journal: new(admin.Journal)}, log: slog.New(slog.DiscardHandler), faults: knownFaults(),
		gate: newGate(nil, func(bool, stellar.Answer) {})}
	d := sound(t)
	for range refusalsToOwn {
		b.weigh(d, refused)
		b.gate.last++
	}
	if d.rung != 1 {
		t.Fatalf("rung %d, want 1", d.rung)
	}
	for _, a := range []stellar.Answer{notSent, wrongHost, tooMany, serverError, overloaded, noAnswer} {
		if got := b.weigh(d, a); got != again || d.rung != 1 {
			t.Errorf("%s: %d at rung %d, want it tried again", a.Reason, got, d.rung)
		}
	}
}
