package bridge_test

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"serbridge/bridge"
	"serbridge/bridge/stellar"
	"serbridge/bridge/stellar/stellartest"
	"serbridge/transform"
)

// poisoned is a detection that the script of poison recognises.
func poisoned(i int) []byte {
	return bytes.Replace(detection(i), []byte(`"detection `), []byte(`"poison `), 1)
}

// poison answers each poisoned document so.
func poison(f stellartest.Fault) func(stellartest.Request) stellartest.Fault {
	return func(r stellartest.Request) stellartest.Fault {
		if bytes.Contains(r.Body, []byte(`"poison `)) {
			return f
		}
		return stellartest.Fault{}
	}
}

// One poisoned record among good ones, and one in fifty, must cost the others nothing: they are delivered as fast as
// without, and each poisoned one ends alone.
func TestPoisonDelaysNobody(t *testing.T) {
	t.Parallel()
	type poisons struct {
		name   string
		every  int
		fault  stellartest.Fault
		reason string
	}
	for _, c := range rows([]poisons{
		{"one of all, 400", 1500, stellartest.BadRequest(), "http_400"},
		{"one of all, 500", 1500, stellartest.ServerError(), "retries_exhausted"},
		{"one of all, slow", 1500, stellartest.Slow(15 * time.Second), ""},
		{"one of all, never answered", 1500, stellartest.Hang(), "ambiguous"},
		{"one in fifty, 422", 50, stellartest.Unprocessable(), "http_422"},
		{"one in fifty, missing fields", 50, text(400, missing), stellar.ReasonMissingEventFields},
	}) {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				const records, rate = 1500, 50
				w := newWorld(t, worldConfig{api: slow})
				w.api.Script(poison(c.fault))
				poisons, good := 0, 0
				m := w.start(func(c *bridge.Config) { c.RateLimit = rate })
				time.Sleep(time.Second)
				w.produceTo(topic, 0, records, func(i int) []byte {
					if i%c.every == c.every/2 {
						poisons++
						return poisoned(i)
					}
					good++
					return detection(i)
				})
				begun := time.Now()
				if c.reason == "" {
					poisons, good = 0, records
				}
				w.stored(good - 60) // the last second shows the ramp's end, not the rate
				if took := time.Since(begun); took > records*time.Second/rate*(100+5+15*time.Duration(poisons)/10)/100 {
					// Each poisoned record costs three to five tokens beside its own.
					t.Errorf("%d good records took %v at %d per second", good, took, rate)
				}
				stop := w.trickle(records, time.Second) // a lone record holds: company for the last ones
				for n := 0; n < poisons && time.Since(begun) < time.Hour; n = int(m.metric("dead_letters_total")) {
					time.Sleep(10 * time.Second)
				}
				good += stop() - records
				w.settled(5 * time.Minute)
				letters := w.letters()
				if len(letters) != poisons {
					t.Errorf("%d dead letters for %d poisoned records", len(letters), poisons)
				}
				for _, l := range letters {
					if l.Reason != c.reason || !bytes.Contains(l.Value, []byte("poison")) {
						t.Errorf("dead letter for %s: %.60s", l.Reason, l.Value)
					}
				}
				if n := w.api.Ledger().Distinct; n != good {
					t.Errorf("%d good records stored, want %d", n, good)
				}
				m.expectReady()
			})
		})
	}
}

// A firewall that refuses the raw text of every second detection must cost nobody an alert: each is delivered with less
// beside it, and says so.
func TestFirewallCostsNoAlert(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		where string // of the attack string
		slim  string // ON_REFUSED
		saved bool
	}{
		{"in a field that the bare document leaves out", `,"note":"powershell -enc %d"}`, "slim", true},
		{"in a field that every alert needs", `,"event_name":"powershell %d"}`, "slim", false},
		{"not slimmed", `,"note":"powershell -enc %d"}`, "dead-letter", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				const records = 400
				w := newWorld(t, worldConfig{api: stellartest.Config{Variant: stellartest.Variant{Firewall: true}}})
				w.produceTo(topic, 0, records, func(i int) []byte {
					if v := detection(i); i%2 == 1 {
						return append(v[:len(v)-1], fmt.Sprintf(c.where, i)...)
					}
					return detection(i)
				})
				m := w.start(func(cfg *bridge.Config) { cfg.OnRefused = c.slim })
				time.Sleep(time.Second)
				stop := w.trickle(records, 200*time.Millisecond)
				for i := 0; i < 300 && w.lag(topic) > 20; i++ {
					time.Sleep(time.Second)
				}
				all := stop()
				w.settled(10 * time.Minute)
				degraded := 0
				for _, d := range w.api.Documents() {
					if bytes.Contains(d.Body, []byte(`"degraded":true`)) {
						degraded++
					}
				}
				letters := w.letters()
				want, refused := records/2, 0
				if !c.saved {
					want, refused = 0, records/2
				}
				if degraded != want || len(letters) != refused {
					t.Errorf("%d degraded documents and %d dead letters of %d refused ones, want %d and %d", degraded, len(letters), records/2, want, refused)
				}
				for _, l := range letters {
					if l.Reason != "http_403" || l.Certainty != "refused" {
						t.Errorf("dead letter for %s, %s", l.Reason, l.Certainty)
						break
					}
				}
				if n := w.api.Ledger().Distinct; n != all-refused || w.api.Ledger().Repeats > 0 {
					t.Errorf("%d of %d stored, %d repeats", n, all-refused, w.api.Ledger().Repeats)
				}
				m.expectReady()
			})
		})
	}
}

// One record that is always slow, its API calls lasting nearly the timeout, must stall nobody.
func TestOneSlowRecordStallsNobody(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, worldConfig{partitions: 1})
		w.start(nil)
		w.produce(0, 200)
		w.settled(time.Minute)
		w.api.Script(poison(stellartest.Slow(19 * time.Second)))
		w.produceTo(topic, 200, 1, poisoned)
		w.produce(201, 1999)
		begun := time.Now()
		w.stored(2199)
		if took := time.Since(begun); took > time.Second {
			t.Errorf("the others took %v", took)
		}
		w.settled(time.Minute)
		w.expect(2200, 0)
	})
}

// A lone record that is refused has nobody to compare with: it is held, loudly, and never given up.
func TestLoneRefusedRecordIsHeld(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, worldConfig{partitions: 1})
		w.api.Script(stellartest.Always(stellartest.BadRequest()))
		w.produce(0, 1)
		m := w.start(nil)
		time.Sleep(30 * time.Minute)
		if n := len(w.letters()); n > 0 || w.lag(topic) != 1 {
			t.Errorf("%d dead letters, lag %d: a lone record was given up", n, w.lag(topic))
		}
		w.api.Script(nil)
		w.settled(time.Minute)
		w.expect(1, 0)
		m.expectReady()
	})
}

// What our own rules refuse is a dead letter at once, with the rule, and never waits for anybody.
func TestRejectIsADeadLetterAtOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, worldConfig{partitions: 1})
		bad := map[string]transform.Reason{
			`{"event_name":`:                     transform.InvalidJSON,
			``:                                   transform.InvalidJSON,
			`{"hello":"world"}`:                  transform.UnknownFormat,
			`{"timestamp":1,"event_source":"x"}`: transform.MissingField,
		}
		values := [][]byte{detection(0), detection(1)}
		for v := range bad {
			values = append(values, []byte(v))
		}
		w.produceTo(topic, 0, len(values), func(i int) []byte { return values[i] })
		m := w.start(nil)
		w.settled(time.Minute)
		letters := w.letters()
		for _, l := range letters {
			if want := bad[string(l.Value)]; l.Reason != string(want) || l.Certainty != "not_sent" || l.Attempts != 0 || l.Part != -1 || strings.TrimSpace(l.Detail) == "" {
				t.Errorf("%q: dead letter for %s, %s, %d attempts, part %d, detail %q; want %s", l.Value, l.Reason, l.Certainty, l.Attempts, l.Part, l.Detail, want)
			}
		}
		if len(letters) != len(bad) || w.api.Ledger().Distinct != 2 {
			t.Errorf("%d dead letters and %d documents, want %d and 2", len(letters), w.api.Ledger().Distinct, len(bad))
		}
		m.expectReady()
	})
}

// A record of five hundred documents takes its turn among the others: they never wait for it, and one bad document of it
// costs nobody else anything.
func TestRecordOfManyDocumentsStallsNobody(t *testing.T) {
	t.Parallel()
	for _, bad := range []int{-1, 250, 499} {
		t.Run(fmt.Sprintf("bad one: %d", bad), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				const parts, others, rate = 500, 600, 50
				w := newWorld(t, worldConfig{partitions: 1, api: slow})
				w.api.Script(poison(stellartest.BadRequest()))
				m := w.start(func(c *bridge.Config) { c.RateLimit = rate })
				time.Sleep(time.Second)
				w.produceTo(topic, 0, 1, func(int) []byte {
					return bytes.Replace(bundle(0, parts), fmt.Appendf(nil, `"detection %d"`, bad), []byte(`"poison 1"`), 1)
				})
				w.produce(parts, others)
				begun, single := time.Now(), 0
				var last time.Time
				w.stored(parts + others - 10)
				for _, d := range w.api.Documents() {
					if i := numbered(t, d.Body); i >= parts {
						if gap := d.At.Sub(last); !last.IsZero() && gap > 500*time.Millisecond {
							t.Errorf("no other record was delivered for %v", gap)
						}
						last = d.At
						single++
					}
				}
				// Eight of it at a time beside all of the others, which share the rate.
				if took := last.Sub(begun); single == others && took > others*time.Second/rate*3/2 {
					t.Errorf("the others took %v", took)
				}
				stop := w.trickle(parts+others, time.Second)
				time.Sleep(2 * time.Minute)
				end := stop()
				w.settled(time.Minute)
				letters := w.letters()
				for _, l := range letters {
					if l.Part != bad || l.Offset != 0 || l.Reason != "http_400" {
						t.Errorf("dead letter of part %d of offset %d for %s", l.Part, l.Offset, l.Reason)
					}
				}
				want := min(1, bad+1)
				if len(letters) != want || w.api.Ledger().Distinct != end-want || w.api.Ledger().Repeats > 0 {
					t.Errorf("%d dead letters and %d stored, %d again; want %d and %d", len(letters), w.api.Ledger().Distinct, w.api.Ledger().Repeats, want, end-want)
				}
				m.expectReady()
			})
		})
	}
}

// numbered is the number of a stored detection.
func numbered(t *testing.T, body []byte) (i int) {
	t.Helper()
	_, rest, _ := bytes.Cut(body, []byte(`"event_name":"detection `))
	if _, err := fmt.Sscanf(string(rest), "%d", &i); err != nil {
		t.Fatalf("%v: %.100s", err, body)
	}
	return i
}

// Records of many documents, each with one that always fails, hold the room of all the others that are stored until that
// one is given up, for which others must be delivered: these must not wait for the room, or it is for ever.
func TestBadDocumentOfALargeRecordStallsNobody(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ records, parts int }{{1, 500}, {4, 50}, {9, 25}} {
		t.Run(fmt.Sprintf("%d of %d documents", c.records, c.parts), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				const others = 600
				w := newWorld(t, worldConfig{partitions: 1, api: slow})
				w.api.Script(poison(stellartest.ServerError()))
				m := w.start(nil)
				w.produceTo(topic, 0, c.records, func(i int) []byte {
					return bytes.Replace(bundle(i, c.parts), fmt.Appendf(nil, `"detection %d"`, i*c.parts+2), []byte(`"poison 1"`), 1)
				})
				first := c.records * c.parts
				w.produce(first, others)
				time.Sleep(20 * time.Second)
				n := 0
				for _, d := range w.api.Documents() {
					if numbered(t, d.Body) >= first {
						n++
					}
				}
				if n != others {
					t.Errorf("%d of %d others delivered", n, others)
				}
				stop := w.trickle(first+others, time.Second)
				time.Sleep(15 * time.Minute)
				end := stop()
				w.settled(time.Minute)
				letters := w.letters()
				for _, l := range letters {
					if l.Part != 2 || l.Reason != "retries_exhausted" || l.Attempts < 8 {
						t.Errorf("dead letter of part %d for %s after %d attempts", l.Part, l.Reason, l.Attempts)
					}
				}
				if l := w.api.Ledger(); len(letters) != c.records || l.Distinct != end-c.records || l.Repeats > 0 {
					t.Errorf("%d dead letters, %d stored, %d again; want %d and %d", len(letters), l.Distinct, l.Repeats, c.records, end-c.records)
				}
				m.expectReady()
			})
		})
	}
}
