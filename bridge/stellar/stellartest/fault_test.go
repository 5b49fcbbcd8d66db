package stellartest

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// Every fault by name over real HTTP: what the client sees, and whether the document is there.
func TestFaultsDoWhatTheySay(t *testing.T) {
	type want struct {
		status int // 0: no answer
		html   bool
		stored int
	}
	wants := map[string]want{
		"rate_limited": {429, false, 0}, "unavailable": {503, true, 0}, "server_error": {500, false, 0},
		"bad_gateway": {502, true, 0}, "gateway_timeout": {504, true, 0}, "login_redirect": {302, false, 0},
		"login_page": {200, true, 0}, "empty_ok": {200, false, 0}, "empty_object": {200, false, 0}, "blank_id": {200, false, 0},
		"created": {201, false, 0}, "accepted": {202, false, 0}, "bad_request": {400, false, 0}, "unprocessable": {422, false, 0},
		"too_large": {413, true, 0}, "unauthorized": {401, false, 0}, "revoked": {401, false, 0}, "forbidden": {403, false, 0},
		"firewall": {403, true, 0}, "not_found": {404, true, 0}, "method_not_allowed": {405, true, 0},
		"cut_before_reading": {0, false, 0}, "cut_before_storing": {0, false, 0}, "cut_after_storing": {0, false, 1},
		"cut_body": {200, false, 1}, "server_error_stored": {500, false, 1}, "unavailable_stored": {503, true, 1},
		"bad_gateway_stored": {502, true, 1}, "gateway_timeout_stored": {504, true, 1}, "empty_ok_stored": {200, false, 1},
		"accepted_stored": {202, false, 1},
	}
	for _, name := range FaultNames() {
		if strings.HasPrefix(name, "hang") {
			continue // TestHangEndsWhenTheClientLeaves
		}
		t.Run(name, func(t *testing.T) {
			w, ok := wants[name]
			if !ok {
				t.Fatal("no expectation")
			}
			p := overTCP(t, Config{})
			f, _ := Preset(name)
			p.Script(Always(f))
			got := p.insert(document("k"))
			if got.status != w.status || strings.HasPrefix(got.header.Get("Content-Type"), "text/html") != w.html {
				t.Errorf("answer %+v, want %+v", got, w)
			}
			if broken := w.status == 0 || name == "cut_body"; broken != (got.err != nil) || got.id() != "" {
				t.Errorf("error %v, body %q", got.err, got.body)
			}
			if n := len(p.Documents()); n != w.stored || p.Unknowns()["k"] != w.stored || p.Copies()["k"] != w.stored {
				t.Errorf("%d stored, copies %v, unknowns %v; want %d", n, p.Copies(), p.Unknowns(), w.stored)
			}
			r := p.Requests()[0]
			if r.Fault != name || r.Told || (r.Stored != "") != (w.stored == 1) || r.Cut != (got.err != nil) || r.Status != w.status {
				t.Errorf("ledger says %+v", r)
			}
			if sum := p.Ledger(); sum.Faults[name] != 1 || sum.Untold != w.stored || sum.Statuses[r.complete()] != 1 {
				t.Errorf("ledger %+v", sum)
			}
		})
	}
}

func TestCutBodyIsCutWithinTheBody(t *testing.T) {
	p := overTCP(t, Config{})
	p.Script(Always(CutBody()))
	got := p.insert(document("k"))
	if !errors.Is(got.err, io.ErrUnexpectedEOF) || got.status != 200 || !strings.HasPrefix(got.body, `{"index":`) {
		t.Errorf("%+v", got)
	}
	empty := EmptyOK()
	empty.Cut = CutMidBody
	p.Script(Always(empty))
	if got := p.insert(document("k")); !errors.Is(got.err, io.ErrUnexpectedEOF) || len(p.Documents()) != 1 {
		t.Errorf("an empty body is not cut: %+v", got)
	}
	stored := EmptyOK()
	stored.Cut = CutStored
	p.Script(Always(stored))
	if got := p.insert(document("k")); got.status != 0 || len(p.Documents()) != 2 {
		t.Errorf("cut after storing, with a status: %+v", got)
	}
}

// The client's body must still be unread when the connection goes, or nobody could test a broken write.
func TestCutAtArrivalBreaksTheWrite(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := inBubble(t, Config{})
		p.ScriptArrivals(func(r Request) Fault {
			if r.Length > 100_000 {
				return CutBeforeReading()
			}
			return Fault{}
		})
		got := p.insert(document(strings.Repeat("k", 200_000)))
		if !errors.Is(got.err, io.ErrClosedPipe) {
			t.Errorf("the write ended with %v", got.err)
		}
		if got := p.insert(document("small")); got.status != 200 {
			t.Errorf("a small one: %+v", got)
		}
		if r := p.Requests()[0]; r.DeliveryKey != "" || !r.Cut || r.Fault != "cut_before_reading" {
			t.Errorf("ledger says %+v", r)
		}
	})
}

func TestRetryAfterForms(t *testing.T) {
	at := time.Date(2021, 4, 28, 10, 0, 0, 1, time.UTC)
	for _, c := range []struct {
		f    Fault
		want string
	}{
		{RateLimited(0), ""}, {RateLimited(time.Second), "1"}, {RateLimited(1500 * time.Millisecond), "2"},
		{RateLimitedUntil(at), "Wed, 28 Apr 2021 10:00:01 GMT"}, {Unavailable(), ""},
		{Unavailable().RetryAfter(2 * time.Minute), "120"}, {Forbidden().RetryAt(at.Truncate(time.Second)), "Wed, 28 Apr 2021 10:00:00 GMT"},
	} {
		p := overTCP(t, Config{})
		p.Script(Always(c.f))
		if got := p.insert(document("k")); got.header.Get("Retry-After") != c.want {
			t.Errorf("%s: Retry-After %q, want %q", c.f.Name, got.header.Get("Retry-After"), c.want)
		}
	}
	first := Unavailable().RetryAfter(time.Second)
	if first.RetryAfter(time.Minute); first.Header["Retry-After"] != "1" {
		t.Errorf("a fault changed the one it was made of: %v", first.Header)
	}
}

func TestRedirectLeadsToAPageThatLooksLikeSuccess(t *testing.T) {
	p := overTCP(t, Config{})
	p.Script(Always(LoginRedirect()))
	p.http.CheckRedirect = nil
	if got := p.insert(document("k")); got.status != 200 || got.body != loginPage || len(p.Documents()) != 0 {
		t.Errorf("%+v", got)
	}
}

func TestHangEndsWhenTheClientLeaves(t *testing.T) {
	for stored, f := range []Fault{Hang(), Hang().Stored()} {
		synctest.Test(t, func(t *testing.T) {
			p := inBubble(t, Config{})
			p.http.Timeout = 20 * time.Second
			p.Script(Always(f))
			start := time.Now()
			if got := p.insert(document("k")); got.err == nil || time.Since(start) != 20*time.Second {
				t.Errorf("after %v: %+v", time.Since(start), got)
			}
			synctest.Wait()
			r := p.Requests()[0]
			if !r.Left || r.Status != 0 || len(p.Documents()) != stored || p.Unknowns()["k"] != stored {
				t.Errorf("%s: ledger says %+v, %d stored", f.Name, r, len(p.Documents()))
			}
			if now, peak := p.InFlight(); now != 0 || peak != 1 {
				t.Errorf("in flight %d, peak %d", now, peak)
			}
		})
	}
}

// A platform does not notice that its client left: what was slow is stored all the same, and nobody was told.
func TestSlowInsertIsStoredThoughTheClientLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := inBubble(t, Config{})
		p.http.Timeout = 20 * time.Second
		p.Script(Sequence(Slow(30 * time.Second)))
		if got := p.insert(document("k")); got.err == nil {
			t.Errorf("%+v", got)
		}
		if n := len(p.Documents()); n != 0 {
			t.Errorf("%d stored before its time", n)
		}
		<-time.After(10 * time.Second)
		synctest.Wait()
		if r := p.Requests()[0]; !r.Left || p.Unknowns()["k"] != 1 || p.Documents()[0].Told {
			t.Errorf("ledger says %+v, unknowns %v", r, p.Unknowns())
		}
		if got := p.insert(document("k")); got.status != 200 || len(p.Unexplained()) != 0 || p.Copies()["k"] != 2 {
			t.Errorf("%+v, unexplained %v", got, p.Unexplained())
		}
	})
}

func TestDelaysTakeTheirTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := inBubble(t, Config{})
		f := Unavailable().After(3 * time.Second)
		f.AnswerDelay = 4 * time.Second
		p.Script(Always(f))
		start := time.Now()
		if got := p.insert(document("k")); got.status != 503 || time.Since(start) != 7*time.Second {
			t.Errorf("%+v after %v", got, time.Since(start))
		}
	})
}

func TestScriptsComeInOrderAndOutrankRates(t *testing.T) {
	p := overTCP(t, Config{Faults: Faults{Rates: map[string]float64{"server_error": 1}}})
	p.Script(Sequence(Unavailable(), Fault{Name: "none"}, RateLimited(0)))
	var got []int
	for range 4 {
		got = append(got, p.insert(document("k")).status)
	}
	if want := []int{503, 200, 429, 500}; !slices.Equal(got, want) {
		t.Errorf("statuses %v, want %v", got, want)
	}
	var seen []string
	p.Script(func(r Request) Fault {
		seen = append(seen, fmt.Sprintln(r.N, r.Attempt, r.DeliveryKey, r.DedupKey, string(r.Body) == document(r.DeliveryKey), r.Kind))
		return Fault{}
	})
	p.insert(document("k"))
	p.insert(document("l"))
	if want := []string{"5 5 k d-k true insert\n", "6 1 l d-l true insert\n"}; !slices.Equal(seen, want) {
		t.Errorf("the script saw %q, want %q", seen, want)
	}
	p.ScriptTokens(Always(BadGateway()))
	p.ScriptReads(Always(Forbidden()))
	if tok, read := p.do("POST", TokenPath, ""), p.do("GET", DataPath+"aella-ser-*/_search", ""); tok.status != 502 || read.status != 403 {
		t.Errorf("token call %d, search %d", tok.status, read.status)
	}
}

// The same seed hits the same documents with the same faults, in whatever order they come.
func TestRatesRepeatWhateverTheOrder(t *testing.T) {
	run := func(seed uint64, order []int) map[string]string {
		f := DemoFaults(seed)
		f.Latency = Latency{}
		f.MaxUnknownPerDocument = 0
		p := overTCP(t, Config{Faults: f})
		hit := map[string]string{}
		for _, i := range order {
			for range 2 {
				p.insert(document(fmt.Sprint(i)))
			}
		}
		for _, r := range p.Requests() {
			hit[fmt.Sprint(r.DeliveryKey, "/", r.Attempt)] = r.Fault
		}
		return hit
	}
	var up, down []int
	for i := range 300 {
		up, down = append(up, i), append([]int{i}, down...)
	}
	one, two, other := run(1, up), run(1, down), run(2, up)
	if !maps.Equal(one, two) {
		t.Error("the order of requests changed the faults")
	}
	if maps.Equal(one, other) {
		t.Error("the seed changes nothing")
	}
	if n := len(slices.DeleteFunc(slices.Collect(maps.Values(one)), func(f string) bool { return f == "" })); n < 10 || n > 60 {
		t.Errorf("%d of 600 attempts were hit; the rates sum to 4 %%", n)
	}
}

// The bound of demo: with three sends allowed, a document left unknown a third time would become a dead letter.
func TestRatesLeaveADocumentUnknownAtMostTwice(t *testing.T) {
	p := overTCP(t, Config{Faults: Faults{MaxUnknownPerDocument: 2, Rates: map[string]float64{
		"cut_after_storing": 0.3, "bad_gateway": 0.3, "cut_body": 0.2, "empty_ok": 0.2}}})
	for key := range 20 {
		for attempt := range 4 {
			got := p.insert(document(fmt.Sprint(key)))
			if (got.id() != "" && got.err == nil) != (attempt >= 2) {
				t.Errorf("document %d, attempt %d: %+v", key, attempt+1, got)
			}
		}
	}
}

func TestRatesAreMet(t *testing.T) {
	d := newDice(Faults{Rates: map[string]float64{"server_error": 0.2, "cut_body": 0.1, "cut_before_reading": 0.05},
		Latency: Latency{Median: 20 * time.Millisecond, P99: 200 * time.Millisecond}}, 7)
	const n = 40_000
	counts := map[string]int{}
	var totals []time.Duration
	early := 0.0
	for i := range n {
		f := d.draw(d.inserts, fmt.Sprint(i/4), i%4, time.Time{})
		counts[f.Name]++
		totals = append(totals, f.Delay+f.AnswerDelay)
		early += float64(f.Delay) / float64(f.Delay+f.AnswerDelay) / n
	}
	near := func(what string, got, want, tolerance float64) {
		if math.Abs(got-want) > tolerance*want {
			t.Errorf("%s: %v, want about %v", what, got, want)
		}
	}
	near("server_error", float64(counts["server_error"])/n, 0.2, 0.05)
	near("cut_body", float64(counts["cut_body"])/n, 0.1, 0.05)
	near("nothing", float64(counts[""])/n, 0.7, 0.05)
	slices.Sort(totals)
	near("median", float64(totals[n/2]), 20e6, 0.03)
	near("p99", float64(totals[n*99/100]), 200e6, 0.1)
	near("before storing", early, 0.5, 0.05)
	if totals[n-1] > 2*time.Second {
		t.Errorf("the slowest takes %v", totals[n-1])
	}
}

func TestLatencyAndRateLimitedByRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := inBubble(t, Config{Faults: Faults{RetryAfter: time.Second, Latency: Latency{Median: time.Minute},
			Rates: map[string]float64{"rate_limited": 1}, TokenRates: map[string]float64{"unavailable": 1}}})
		start := time.Now()
		one, two := p.insert(document("k")), p.insert(document("k"))
		if took := time.Since(start); took != 2*time.Minute {
			t.Errorf("two inserts took %v", took)
		}
		date := start.Add(time.Minute + time.Second).UTC().Format("Mon, 02 Jan 2006 15:04:05 GMT")
		if a, b := one.header.Get("Retry-After"), two.header.Get("Retry-After"); a != "1" || b != date {
			t.Errorf("Retry-After %q then %q, want 1 and %q", a, b, date)
		}
		if got := p.do("POST", TokenPath, ""); got.status != 503 {
			t.Errorf("token call %+v", got)
		}
		if got := p.do("GET", DataPath+"aella-ser-*/_search", ""); got.status != 200 || time.Since(start) != 4*time.Minute {
			t.Errorf("search %d after %v", got.status, time.Since(start))
		}
	})
}

func TestCutBeforeReadingByRate(t *testing.T) {
	p := overTCP(t, Config{Faults: Faults{Rates: map[string]float64{"cut_before_reading": 0.5}}})
	for range 60 {
		p.insert(document("k"))
	}
	if n := p.Ledger().Faults["cut_before_reading"]; n < 15 || n > 45 {
		t.Errorf("%d of 60 were cut", n)
	}
}

func TestInvalidFaultsAreNamed(t *testing.T) {
	err := New(Config{}).SetFaults(Faults{RetryAfter: -1, Rates: map[string]float64{"bad_gatway": 0.1, "hang": -1, "cut_body": math.NaN()},
		TokenRates: map[string]float64{"unavailable": 0.7, "server_error": 0.7}})
	for _, want := range []string{"bad_gatway", "hang", "cut_body", "retry_after", "token_rates", "sum to 1.4"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v does not name %s", err, want)
		}
	}
	defer func() {
		if recover() == nil {
			t.Error("New took invalid faults")
		}
	}()
	New(Config{Faults: Faults{Rates: map[string]float64{"x": 1}}})
}

func TestVariantLimits(t *testing.T) {
	big := strings.Replace(document("k"), `"n"`, `"`+strings.Repeat("n", 5000)+`"`, 1)
	for form, status := range map[OverLimitForm]int{OverLimit413: 413, OverLimit400: 400, OverLimitCut: 0} {
		p := overTCP(t, Config{Variant: Variant{MaxBodyBytes: 1000, OverLimit: form}})
		if got := p.insert(big); got.status != status || len(p.Documents()) != 0 {
			t.Errorf("%q: %+v", form, got)
		}
		req := func(body string) reply { // without Content-Length
			return p.send(p.newInsert(io.MultiReader(strings.NewReader(body))))
		}
		if got := req(big); got.status != status || len(p.Documents()) != 0 {
			t.Errorf("%q, length unknown: %+v", form, got)
		}
		if got := p.insert(document("k")); got.status != 200 {
			t.Errorf("%q: a small one: %+v", form, got)
		}
	}
	for form, want := range map[RateLimitForm]struct {
		status int
		after  string
	}{
		RateLimit429: {429, "1"}, RateLimit429Date: {429, "Thu, 01 Jan 1970 00:00:06 GMT"}, RateLimit429Silent: {429, ""},
		RateLimit503: {503, "1"}, RateLimit503Silent: {503, ""},
	} {
		p := overTCP(t, Config{Now: func() time.Time { return time.Unix(5, 0) }, Variant: Variant{RateLimit: 2, RateLimitForm: form}})
		for i := range 3 {
			got := p.insert(document("k"))
			if i < 2 && got.status != 200 || i == 2 && (got.status != want.status || got.header.Get("Retry-After") != want.after) {
				t.Errorf("%q, insert %d: %+v", form, i+1, got)
			}
		}
	}
}

func TestFirewallRefusesAttackStrings(t *testing.T) {
	p := overTCP(t, Config{Variant: Variant{Firewall: true}})
	p.auth = "none at all" // a firewall stands before the authentication
	for _, attack := range attacks {
		if got := p.insert(strings.Replace(document("k"), `"n"`, `"x `+strings.ToUpper(attack)+`"`, 1)); got.status != 403 || got.body != firewallPage {
			t.Errorf("%s: %+v", attack, got)
		}
	}
	p.auth = ""
	if got := p.insert(document("k")); got.status != 200 {
		t.Errorf("harmless: %+v", got)
	}
}

func TestMergeKeepsOneCopy(t *testing.T) {
	p := overTCP(t, Config{Variant: Variant{Merge: true}})
	bare := `{"event_name":"n","timestamp":1,"event_status":"New","event_source":"s"}`
	ids := []string{p.insert(document("k")).id(), p.insert(document("k")).id(), p.insert(bare).id(), p.insert(bare).id(), p.insert(document("l")).id()}
	if ids[0] != ids[1] || ids[2] != ids[3] || ids[0] == ids[2] || ids[0] == ids[4] || ids[0] == "" {
		t.Errorf("ids %q", ids)
	}
	if sum := p.Ledger(); sum.Documents != 3 || sum.Merged != 2 || sum.Repeats != 0 {
		t.Errorf("%+v", sum)
	}
}

func TestInsertPathElsewhere(t *testing.T) {
	p := overTCP(t, Config{Variant: Variant{InsertPath: "/connect/api/v2/insert"}})
	if got := p.insert(document("k")); got.status != 404 {
		t.Errorf("documented path: %+v", got)
	}
	if got := p.do("POST", "/connect/api/v2/insert", document("k")); got.status != 200 {
		t.Errorf("other path: %+v", got)
	}
	if got := p.do("GET", "/connect/api/v2/insert", ""); got.status != 405 {
		t.Errorf("GET: %+v", got)
	}
	if sum := p.Ledger(); sum.Requests[KindOther] != 1 || sum.Requests[KindInsert] != 2 {
		t.Errorf("%+v", sum)
	}
}
