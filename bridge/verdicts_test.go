package bridge_test

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"serbridge/bridge/deadletter"
	"serbridge/bridge/stellar"
	"serbridge/bridge/stellar/stellartest"
)

// answer is a row of the design's verdict table, as the simulator plays it.
type answer struct {
	name string

	// What is played. fault decides about each insert; arrival, before the
	// body was read, likewise; refuse is a connection that never comes up.
	fault   stellartest.Fault
	arrival bool // play fault on arrival
	refuse  func(*world, *stellar.Config) (heal func())
	until   time.Duration // Retry-After as a date, so long after the request
	large   bool          // records that the transport writes in several parts
	trust   bool          // STELLAR_SUCCESS=status

	// What the table says.
	verdict   stellar.Verdict
	certainty string
	reason    string
	atOnce    bool   // one answer closes the gate
	stores    bool   // each attempt is stored
	letter    string // reason of the dead letter when one record alone is answered so for ever; "" none
	attempts  int    // in that dead letter, at least
}

func text(status int, body string) stellartest.Fault {
	return stellartest.Fault{Name: "text", Status: status, ContentType: "text/plain", Body: body}
}

func storedText(status int, body string) stellartest.Fault {
	f := text(status, body)
	f.Store = true
	return f
}

const (
	badStatus = `Invalid event status value "Opened". Valid values are New, In Progress, Ignored, Closed`
	missing   = "Missing fields: event_name"
)

// verdictTable is every row of design.md, Verdicts, in its order.
var verdictTable = []answer{
	{name: "refused dial", refuse: refuseDial, verdict: stellar.Unavailable, certainty: "not_sent", reason: stellar.ReasonDialFailed},
	{name: "refused dial of an insert", refuse: refuseInserts, verdict: stellar.Unavailable, certainty: "not_sent", reason: stellar.ReasonDialFailed},
	{name: "TLS handshake", refuse: refuseTLS, verdict: stellar.Unavailable, certainty: "not_sent", reason: stellar.ReasonTLSFailed},
	{name: "cut while written", fault: stellartest.CutBeforeReading(), arrival: true, large: true,
		verdict: stellar.Unavailable, certainty: "not_sent", reason: stellar.ReasonWriteFailed, letter: "retries_exhausted", attempts: 8},

	{name: "cut before storing", fault: stellartest.CutBeforeStoring(), verdict: stellar.Unknown, reason: stellar.ReasonConnectionLost},
	{name: "cut after storing", fault: stellartest.CutAfterStoring(), verdict: stellar.Unknown, reason: stellar.ReasonConnectionLost, stores: true},
	{name: "cut body", fault: stellartest.CutBody(), verdict: stellar.Unknown, reason: stellar.ReasonAnswerCutOff, stores: true},
	{name: "no answer", fault: stellartest.Hang(), verdict: stellar.Unknown, reason: stellar.ReasonTimeout},
	{name: "no answer, stored", fault: stellartest.Hang().Stored(), verdict: stellar.Unknown, reason: stellar.ReasonTimeout, stores: true},

	{name: "200 OK", fault: storedText(200, "OK"), verdict: stellar.Delivered},
	{name: "200 OK 200", fault: storedText(200, " OK 200\r\n"), verdict: stellar.Delivered},

	{name: "502", fault: stellartest.BadGateway(), verdict: stellar.Unknown, reason: "http_502"},
	{name: "504, stored", fault: stellartest.GatewayTimeout().Stored(), verdict: stellar.Unknown, reason: "http_504", stores: true},
	{name: "504 with Retry-After", fault: stellartest.GatewayTimeout().RetryAfter(20 * time.Second), verdict: stellar.Unknown, reason: "http_504", atOnce: true},

	{name: "429", fault: stellartest.RateLimited(0), verdict: stellar.Unavailable, reason: "http_429", atOnce: true},
	{name: "429 with seconds", fault: stellartest.RateLimited(20 * time.Second), verdict: stellar.Unavailable, reason: "http_429", atOnce: true},
	{name: "429 with a date", fault: stellartest.RateLimited(0), until: 20 * time.Second, verdict: stellar.Unavailable, reason: "http_429", atOnce: true},
	{name: "503 with Retry-After", fault: stellartest.Unavailable().RetryAfter(20 * time.Second), verdict: stellar.Unavailable, reason: "http_503", atOnce: true, letter: "retries_exhausted", attempts: 8},
	{name: "500 with Retry-After", fault: stellartest.ServerError().RetryAfter(20 * time.Second), verdict: stellar.Unavailable, reason: "http_500", atOnce: true, letter: "retries_exhausted", attempts: 8},
	{name: "403 with Retry-After", fault: stellartest.Forbidden().RetryAfter(20 * time.Second), verdict: stellar.Unavailable, reason: "http_403", atOnce: true},
	{name: "302 with Retry-After", fault: stellartest.LoginRedirect().RetryAfter(20 * time.Second), verdict: stellar.Unavailable, reason: stellar.ReasonRedirected, atOnce: true},

	{name: "documented refusal at 200", fault: text(200, badStatus), verdict: stellar.Refused, reason: stellar.ReasonInvalidEventStatus, letter: stellar.ReasonInvalidEventStatus, attempts: 3},
	{name: "documented refusal at 400", fault: text(400, missing), verdict: stellar.Refused, reason: stellar.ReasonMissingEventFields, letter: stellar.ReasonMissingEventFields, attempts: 3},
	{name: "documented refusal at 422", fault: text(422, badStatus), verdict: stellar.Refused, reason: stellar.ReasonInvalidEventStatus, letter: stellar.ReasonInvalidEventStatus, attempts: 3},
	{name: "documented refusal at 500", fault: text(500, missing), verdict: stellar.Refused, reason: stellar.ReasonMissingEventFields, letter: stellar.ReasonMissingEventFields, attempts: 3},

	{name: "200 with HTML", fault: stellartest.LoginPage(), verdict: stellar.Unavailable, reason: stellar.ReasonNotTheAPI, atOnce: true},
	{name: "200 with HTML, status trusted", fault: stellartest.LoginPage(), trust: true, verdict: stellar.Unavailable, reason: stellar.ReasonNotTheAPI, atOnce: true},
	{name: "302", fault: stellartest.LoginRedirect(), verdict: stellar.Unavailable, reason: stellar.ReasonRedirected, atOnce: true},
	{name: "302, status trusted", fault: stellartest.LoginRedirect(), trust: true, verdict: stellar.Unavailable, reason: stellar.ReasonRedirected, atOnce: true},

	{name: "empty 200, status trusted", fault: stellartest.EmptyOK().Stored(), trust: true, verdict: stellar.Delivered},
	{name: "201, status trusted", fault: storedText(201, ""), trust: true, verdict: stellar.Delivered},
	{name: "202, status trusted", fault: stellartest.Accepted().Stored(), trust: true, verdict: stellar.Delivered},
	{name: "empty 200", fault: stellartest.EmptyOK(), verdict: stellar.Unknown, reason: stellar.ReasonNoID},
	{name: "empty 200, stored", fault: stellartest.EmptyOK().Stored(), verdict: stellar.Unknown, reason: stellar.ReasonNoID, stores: true},
	{name: "200 {}", fault: stellartest.EmptyObject(), verdict: stellar.Unknown, reason: stellar.ReasonNoID},
	{name: "200 with an empty _id", fault: stellartest.BlankID(), verdict: stellar.Unknown, reason: stellar.ReasonNoID},
	{name: "201", fault: stellartest.Created(), verdict: stellar.Unknown, reason: stellar.ReasonNoID},
	{name: "202, stored", fault: stellartest.Accepted().Stored(), verdict: stellar.Unknown, reason: stellar.ReasonNoID, stores: true},

	{name: "401", fault: stellartest.Unauthorized(), verdict: stellar.Unavailable, reason: "http_401", atOnce: true},
	{name: "404", fault: stellartest.NotFound(), verdict: stellar.Unavailable, reason: "http_404", atOnce: true},
	{name: "405", fault: stellartest.MethodNotAllowed(), verdict: stellar.Unavailable, reason: "http_405", atOnce: true},

	{name: "400", fault: stellartest.BadRequest(), verdict: stellar.Refused, reason: "http_400", letter: "http_400", attempts: 5},
	{name: "413", fault: stellartest.TooLarge(), verdict: stellar.Refused, reason: "http_413", letter: "http_413", attempts: 5},
	{name: "422", fault: stellartest.Unprocessable(), verdict: stellar.Refused, reason: "http_422", letter: "http_422", attempts: 5},
	{name: "403", fault: stellartest.Blocked(), verdict: stellar.Refused, reason: "http_403", letter: "http_403", attempts: 5},
	{name: "415", fault: text(415, "Unsupported Media Type"), verdict: stellar.Refused, reason: "http_415", letter: "http_415", attempts: 5},

	{name: "500", fault: stellartest.ServerError(), verdict: stellar.Unavailable, reason: "http_500", letter: "retries_exhausted", attempts: 8},
	{name: "503", fault: stellartest.Unavailable(), verdict: stellar.Unavailable, reason: "http_503", letter: "retries_exhausted", attempts: 8},
	{name: "507", fault: text(507, "Insufficient Storage"), verdict: stellar.Unavailable, reason: "http_507", letter: "retries_exhausted", attempts: 8},
}

// expected certainty: what the row says, else what follows from the verdict.
func (a answer) wantCertainty() string {
	switch {
	case a.certainty != "":
		return a.certainty
	case a.verdict == stellar.Unknown:
		return "unknown"
	}
	return "refused"
}

func refuseDial(w *world, _ *stellar.Config) func() {
	w.door.Close()
	return w.open
}

// refuseInserts is refuseDial without a token call before.
func refuseInserts(w *world, c *stellar.Config) func() {
	c.Auth = stellar.AuthBasic
	return refuseDial(w, c)
}

// refuseTLS speaks plain HTTP where TLS is wanted, and TLS once healed.
func refuseTLS(w *world, c *stellar.Config) func() {
	ln, err := w.net.Listen("tcp", "localhost:443")
	if err != nil {
		w.t.Fatal(err)
	}
	if _, err := w.api.ServeTLS(ln); err != nil {
		w.t.Fatal(err)
	}
	dial := c.DialContext
	var healed atomic.Bool
	c.DialContext = func(ctx context.Context, network, _ string) (net.Conn, error) {
		if healed.Load() {
			return dial(ctx, network, "localhost:443")
		}
		return dial(ctx, network, "localhost:80")
	}
	c.URL, c.InsecureSkipVerify = "https://localhost:443", true
	c.Auth = stellar.AuthBasic // no token call before
	return func() { healed.Store(true) }
}

// play makes the simulator answer so, to the inserts that match; heal ends it.
func (a answer) play(w *world, m *memberConfig, match func(stellartest.Request) bool) (heal func()) {
	m.stellar = func(c *stellar.Config) {
		if a.trust {
			c.Success = stellar.SuccessStatus
		}
	}
	if a.refuse != nil {
		trust := m.stellar
		m.stellar = func(c *stellar.Config) {
			trust(c)
			heal = a.refuse(w, c)
		}
		return func() { heal() }
	}
	script, set := func(r stellartest.Request) stellartest.Fault {
		switch {
		case !match(r):
			return stellartest.Fault{}
		case a.until > 0:
			return a.fault.RetryAt(r.At.Add(a.until))
		}
		return a.fault
	}, w.api.Script
	if a.arrival {
		set = w.api.ScriptArrivals
	}
	set(script)
	return func() { set(nil) }
}

func all(stellartest.Request) bool { return true }

// value is a detection of the row's size.
func (a answer) value(i int) []byte {
	if !a.large {
		return detection(i)
	}
	return sized(i, 10_000)
}

// sized is a sound detection of at least so many bytes.
func sized(i, bytes int) []byte {
	v := detection(i)
	return fmt.Appendf(nil, `%s,"note":"%s"}`, v[:len(v)-1], strings.Repeat("x", bytes))
}

// An API that answers everything so must cost no record: what is not delivered holds its offset, the gate closes as
// the table says, and everything is delivered once it is over.
func TestNoAnswerToEverythingLosesOrDeadLetters(t *testing.T) {
	t.Parallel()
	for _, a := range rows(verdictTable) {
		t.Run(a.name, func(t *testing.T) {
			for _, records := range []int{5, 20} {
				synctest.Test(t, func(t *testing.T) { answerEverything(t, a, records) })
			}
		})
	}
}

func answerEverything(t *testing.T, a answer, records int) {
	w := newWorld(t, worldConfig{partitions: 1})
	w.produceTo(topic, 0, records, a.value)
	var mc memberConfig
	heal := a.play(w, &mc, all)
	m := w.startWith(mc)
	if records < 10 {
		time.Sleep(45 * time.Second)
	} else {
		time.Sleep(2 * time.Minute)
	}
	if a.fault.Hang {
		time.Sleep(2 * time.Minute) // ten timeouts, one at a time
	}
	if a.verdict == stellar.Delivered {
		w.settled(0)
		w.expect(records, 0)
		m.expectReady()
		return
	}
	if lag := w.lag(topic); lag != int64(records) {
		t.Errorf("lag %d of %d: something was committed", lag, records)
	}
	switch why := m.gate(); {
	case records < 10 && a.atOnce != (why != ""), records >= 10 && why != a.reason:
		t.Errorf("%d records: gate closed for %q", records, why)
	}
	if n := m.metric("attempts_total", "verdict", a.verdict.String(), "certainty", a.wantCertainty(), "reason", a.reason); n == 0 || n != m.metric("attempts_total") {
		t.Errorf("%v of %v attempts were judged as the table says", n, m.metric("attempts_total"))
		for _, r := range stellar.Reasons() {
			if n := m.metric("attempts_total", "reason", r); n > 0 {
				t.Errorf("%v were %s", n, r)
			}
		}
	}
	if ls := w.letters(); len(ls) > 0 {
		t.Errorf("%d dead letters, the first for %s", len(ls), ls[0].Reason)
	}
	if records < 10 && a.verdict == stellar.Unknown {
		return // each may have been sent as often as it may: what follows is TestUnknown...
	}
	heal()
	w.settled(5 * time.Minute)
	repeats := 0
	if a.stores {
		repeats = 2 * records
	}
	w.expect(records, repeats)
	if n := w.api.Ledger().Unexplained; n > 0 {
		t.Errorf("%d repeats that no answer explains", n)
	}
	m.expectReady()
}

// One such answer must cost nothing: the record is sent again, and nobody else waits longer than the gate.
func TestOneBadAnswerLosesNothing(t *testing.T) {
	for _, a := range rows(verdictTable) {
		if a.refuse != nil {
			continue
		}
		t.Run(a.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, worldConfig{partitions: 1})
				w.produceTo(topic, 0, 20, a.value)
				var mc memberConfig
				a.play(w, &mc, func(r stellartest.Request) bool { return r.N == 1 })
				m := w.startWith(mc)
				w.settled(time.Minute)
				repeats, requests := 0, 21
				if a.stores {
					repeats = 1
				}
				if a.verdict == stellar.Delivered {
					requests = 20
				}
				w.expect(20, repeats)
				if n := w.api.Ledger().Requests[stellartest.KindInsert]; n != requests {
					t.Errorf("%d requests, want %d", n, requests)
				}
				m.expectReady()
			})
		})
	}
}

// A token that ended early is renewed once, and neither the record nor the others notice.
func TestExpiredTokenCostsNoAttemptAndNoTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, worldConfig{partitions: 1})
		m := w.start(nil)
		w.produce(0, 100)
		w.settled(time.Minute)
		w.api.RevokeTokens()
		begun := time.Now()
		w.produce(100, 100)
		w.stored(200)
		if took := time.Since(begun); took > 50*time.Millisecond { // a backoff would be half a second
			t.Errorf("delivered after %v: somebody waited", took)
		}
		w.settled(time.Minute)
		w.expect(200, 0)
		if n := w.api.Ledger().Requests[stellartest.KindToken]; n != 2 {
			t.Errorf("%d token calls, want the first and one renewal", n)
		}
		if n := m.metric("attempts_total", "verdict", "delivered"); n != 200 {
			t.Errorf("%v deliveries counted", n)
		}
		m.expectReady()
	})
}

// What the API asks for is waited for, by all: hammering an API that asks for a pause makes the pause longer.
func TestRetryAfterIsWaitedForByAll(t *testing.T) {
	for _, a := range rows(verdictTable) {
		asked := a.until
		if asked == 0 && a.fault.Header["Retry-After"] != "" {
			asked = 20 * time.Second
		}
		if asked == 0 {
			continue
		}
		t.Run(a.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, worldConfig{})
				w.produce(0, 50)
				m := w.start(nil)
				w.settled(time.Minute)
				var mc memberConfig
				a.play(w, &mc, all)
				before := len(w.api.Requests())
				w.produce(50, 50)
				time.Sleep(5 * time.Minute)
				rs := w.api.Requests()[before:]
				for i := 1; i < len(rs); i++ {
					if gap := rs[i].At.Sub(rs[i-1].At); gap > 0 && gap < asked {
						t.Errorf("a request %v after an answer that asks for %v", gap, asked)
					}
				}
				if len(rs) < 3 || len(rs) > 64+15 {
					t.Errorf("%d requests in five minutes", len(rs))
				}
				m.expectNotReady("gate closed")
			})
		})
	}
}

// A record that alone is answered so for ever must not stop the others, and ends as the table says: dead-lettered for a
// fault of its own, with what is known of it; held for anybody else's.
func TestOneRecordAnsweredSoForEverEndsAsTheTableSays(t *testing.T) {
	t.Parallel()
	for _, a := range rows(verdictTable) {
		if a.refuse != nil || a.verdict == stellar.Delivered {
			continue
		}
		t.Run(a.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { answerOneRecord(t, a) })
		})
	}
}

func answerOneRecord(t *testing.T, a answer) {
	w := newWorld(t, worldConfig{partitions: 1})
	var mc memberConfig
	a.play(w, &mc, func(r stellartest.Request) bool {
		if a.arrival {
			return r.Length > 10_000 // the body is not known yet
		}
		return bytes.Contains(r.Body, []byte(`"detection 1000000"`))
	})
	w.produceTo(topic, 1_000_000, 1, a.value)
	m := w.startWith(mc)
	letter := a.letter
	if a.verdict == stellar.Unknown {
		letter, a.attempts = "ambiguous", 3
	}
	stop := w.trickle(0, 2*time.Second)
	for begun := time.Now(); time.Since(begun) < 4*time.Minute || letter != "" && m.metric("dead_letters_total") == 0 && time.Since(begun) < 15*time.Minute; {
		time.Sleep(10 * time.Second)
	}
	good := stop()
	time.Sleep(time.Minute) // a closed gate's wait is over
	if d := goodStored(w); d < good-1 && letter == "" || d < good && letter != "" {
		t.Errorf("%d of %d good records delivered", d, good)
	}
	ls := w.letters()
	switch {
	case letter == "" && len(ls) > 0:
		t.Errorf("dead letter for %s: the fault is not the record's", ls[0].Reason)
	case letter == "" && w.lag(topic) == 0:
		t.Error("committed though never delivered")
	case letter == "":
		return
	case len(ls) != 1:
		t.Errorf("%d dead letters after a quarter of an hour, want 1", len(ls))
		return
	}
	expectLetter(t, ls[0], deadletter.Letter{Reason: letter, Certainty: a.wantCertainty(), Attempts: a.attempts, Offset: 0,
		Value: a.value(1_000_000), Stage: deadletter.StagePut, HTTPStatus: a.status()})
	w.settled(time.Minute)
	m.expectReady()
	if n := w.api.Ledger().Unexplained; n > 0 {
		t.Errorf("%d repeats that no answer explains", n)
	}
	if most := mostCopies(w); most > 3 {
		t.Errorf("a document was stored %d times", most)
	}
}

// status is what the attempt was answered with, as far as its bridge could read.
func (a answer) status() int {
	if a.fault.Cut == stellartest.CutMidBody {
		return http.StatusOK
	}
	return a.fault.Status
}

// goodStored counts the different documents that are none of the poison's.
func goodStored(w *world) int {
	good := make(map[string]bool)
	for _, d := range w.api.Documents() {
		if !bytes.Contains(d.Body, []byte(`"detection 1000000"`)) {
			good[d.DeliveryKey] = true
		}
	}
	return len(good)
}

func mostCopies(w *world) (most int) {
	for _, n := range w.api.Copies() {
		most = max(most, n)
	}
	return most
}

// expectLetter compares what a person will act on.
func expectLetter(t *testing.T, got, want deadletter.Letter) {
	t.Helper()
	if got.Reason != want.Reason || got.Certainty != want.Certainty || got.Attempts < want.Attempts || got.HTTPStatus != want.HTTPStatus ||
		got.Offset != want.Offset || got.Stage != want.Stage || !bytes.Equal(got.Value, want.Value) {
		t.Errorf("dead letter for %s, certainty %s, %d attempts, status %d, offset %d, stage %s, %d bytes; want %s, %s, at least %d, %d, %d, %s, %d bytes",
			got.Reason, got.Certainty, got.Attempts, got.HTTPStatus, got.Offset, got.Stage, len(got.Value),
			want.Reason, want.Certainty, want.Attempts, want.HTTPStatus, want.Offset, want.Stage, len(want.Value))
	}
}
