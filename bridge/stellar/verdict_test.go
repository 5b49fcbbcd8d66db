package stellar

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// row is a line of an expected table: statuses from to, and what they mean.
type row struct {
	from, to int
	want     string // verdict certainty effect reason
}

func rows(t *testing.T, table string) []row {
	t.Helper()
	var rs []row
	for line := range strings.Lines(strings.TrimSpace(table)) {
		statuses, want, _ := strings.Cut(strings.TrimSpace(line), " ")
		from, to, isRange := strings.Cut(statuses, "-")
		if !isRange {
			to = from
		}
		f, err1 := strconv.Atoi(from)
		l, err2 := strconv.Atoi(to)
		if err1 != nil || err2 != nil {
			t.Fatalf("bad row %q", line)
		}
		rs = append(rs, row{f, l, strings.Join(strings.Fields(want), " ")})
	}
	return rs
}

func find(rs []row, status int) string {
	for _, r := range rs {
		if r.from <= status && status <= r.to {
			return r.want
		}
	}
	return "no row"
}

func summary(a Answer) string {
	certainty := a.Certainty
	if certainty == "" {
		certainty = "-"
	}
	reason := a.Reason
	if reason == "" {
		reason = "-"
	}
	return fmt.Sprintf("%s %s %s %s", a.Verdict, certainty, a.Effect, reason)
}

// unrecognised is the table for a body that says nothing.
const unrecognised = `
200-299 unknown     unknown counts no_id
300-399 unavailable refused closes redirected
400     refused     refused counts http_400
401     unavailable refused closes http_401
402     refused     refused counts http_4xx
403     refused     refused counts http_403
404     unavailable refused closes http_404
405     unavailable refused closes http_405
406     refused     refused counts http_406
407     refused     refused counts http_407
408     refused     refused counts http_408
409     refused     refused counts http_409
410     refused     refused counts http_410
411     refused     refused counts http_411
412     refused     refused counts http_4xx
413     refused     refused counts http_413
414     refused     refused counts http_414
415     refused     refused counts http_415
416-420 refused     refused counts http_4xx
421     refused     refused counts http_421
422     refused     refused counts http_422
423-428 refused     refused counts http_4xx
429     unavailable refused closes http_429
430     refused     refused counts http_4xx
431     refused     refused counts http_431
432-499 refused     refused counts http_4xx
500     unavailable refused counts http_500
501     unavailable refused counts http_501
502     unknown     unknown counts http_502
503     unavailable refused counts http_503
504     unknown     unknown counts http_504
505-506 unavailable refused counts http_5xx
507     unavailable refused counts http_507
508-599 unavailable refused counts http_5xx
`

// pushedBack is the table for an answer with Retry-After, above 299.
const pushedBack = `
300-399 unavailable refused closes redirected
502     unknown     unknown closes http_502
504     unknown     unknown closes http_504
`

// The bodies, each with the rows in which it differs from unrecognised.
var bodies = []struct {
	name, contentType, body string
	differs                 string
	byStatus                string // and with Success "status"
}{
	{name: "empty", byStatus: "200-299 delivered - opens -"},
	{name: "{}", body: "{}", byStatus: "200-299 delivered - opens -"},
	{name: "empty _id", body: `{"index":"i","_id":""}`, byStatus: "200-299 delivered - opens -"},
	{name: "null _id", body: `{"index":"i","_id":null}`, byStatus: "200-299 delivered - opens -"},
	{name: "number as _id", body: `{"_id":7}`, byStatus: "200-299 delivered - opens -"},
	{name: "_ID", body: `{"_ID":"x"}`, byStatus: "200-299 delivered - opens -"},
	{name: "array", body: `[{"_id":"x"}]`, byStatus: "200-299 delivered - opens -"},
	{name: "torn JSON", body: `{"index":"i","_id":"x"`, byStatus: "200-299 delivered - opens -"},
	{name: "JSON and more", body: `{"_id":"x"} {"error":true}`, byStatus: "200-299 delivered - opens -"},
	{name: "text", body: "created", byStatus: "200-299 delivered - opens -"},
	{name: "text called HTML", contentType: "text/html", body: "created", byStatus: "200-299 delivered - opens -"},
	{name: "OK and more", body: "OK then", byStatus: "200-299 delivered - opens -"},
	{name: "ids", contentType: "application/json", body: `{"index":"aella-ser-2021.04.28-","_id":"ZbWy"}`,
		differs: "200 delivered - opens -", byStatus: "200-299 delivered - opens -"},
	{name: "ids called HTML, with the status behind", contentType: "text/html", body: "\ufeff{\"index\":\"i\",\"_id\":\"x\"} 200\n",
		differs: "200 delivered - opens -", byStatus: "200-299 delivered - opens -"},
	{name: "OK", body: " OK\r\n", differs: "200 delivered - opens -", byStatus: "200-299 delivered - opens -"},
	{name: "OK 200", contentType: "text/html", body: "OK 200", differs: "200 delivered - opens -", byStatus: "200-299 delivered - opens -"},
	{name: "web page", contentType: "text/html; charset=utf-8", body: "<!DOCTYPE html><title>Log in</title>",
		differs: "200-299 unavailable refused closes not_the_api"},
	{name: "web page called JSON", contentType: "application/json", body: "\n<html><body>OK</body></html>",
		differs: "200-299 unavailable refused closes not_the_api"},
	{name: "XHTML", contentType: "application/xhtml+xml", body: `<?xml version="1.0"?><html/>`,
		differs: "200-299 unavailable refused closes not_the_api"},
	{name: "refused status", body: "Invalid event status value: closed", differs: refusedAs("invalid_event_status")},
	{name: "refused fields as JSON", contentType: "application/json", body: `{"error":"Missing fields to be updated for the event"}`,
		differs: refusedAs("missing_event_fields")},
	{name: "ids and a refusal", body: `{"_id":"x","note":"Missing fields"}`,
		differs: "200 delivered - opens -\n" + refusedAs("missing_event_fields")},
}

func refusedAs(reason string) string {
	return `429 unavailable refused closes http_429
502 unknown unknown counts http_502
504 unknown unknown counts http_504
200-599 refused refused counts ` + reason
}

func TestVerdictOfEveryStatus(t *testing.T) {
	usual := rows(t, unrecognised)
	for _, b := range bodies {
		differs := rows(t, cmp.Or(b.differs, "0 -"))
		byStatus := append(slices.Clone(differs), rows(t, cmp.Or(b.byStatus, "0 -"))...)
		for status := 200; status <= 599; status++ {
			o := outcome{status: status, said: said{contentType: b.contentType}, body: []byte(b.body), began: true, written: true}
			for success, special := range map[string][]row{SuccessID: differs, SuccessStatus: byStatus} {
				want := find(special, status)
				if want == "no row" {
					want = find(usual, status)
				}
				a := judge(o, success, time.Time{})
				if got := summary(a); got != want {
					t.Errorf("%d with %s, success by %s: got %s, want %s", status, b.name, success, got, want)
				}
				checkMarks(t, status, a)
			}
		}
	}
}

// checkMarks holds what Answer promises beside the verdict.
func checkMarks(t *testing.T, status int, a Answer) {
	t.Helper()
	serverFault := a.Verdict == Unavailable && status >= 500
	if a.ServerFault != serverFault {
		t.Errorf("%d: ServerFault is %v", status, a.ServerFault)
	}
	if pushBack := a.Verdict == Unavailable && status == 503; a.PushBack != pushBack {
		t.Errorf("%d: PushBack is %v", status, a.PushBack)
	}
	documented := a.Reason == ReasonInvalidEventStatus || a.Reason == ReasonMissingEventFields
	if a.Documented != documented {
		t.Errorf("%d: Documented is %v with reason %s", status, a.Documented, a.Reason)
	}
	if (a.Verdict == Delivered) != (a.Certainty == "") || (a.Verdict == Delivered) != (a.Reason == "") {
		t.Errorf("%d: %s has certainty %q and reason %q", status, a.Verdict, a.Certainty, a.Reason)
	}
	if a.Status != status || a.Again {
		t.Errorf("%d: Status is %d, Again is %v", status, a.Status, a.Again)
	}
}

func TestVerdictOfEveryStatusWithRetryAfter(t *testing.T) {
	usual := rows(t, pushedBack)
	for _, b := range bodies {
		for status := 300; status <= 599; status++ {
			want := find(usual, status)
			if want == "no row" {
				want = "unavailable refused closes " + httpReason(status)
			}
			o := outcome{status: status, said: said{retryAfter: "7"}, body: []byte(b.body), written: true}
			a := judge(o, SuccessID, time.Time{})
			if got := summary(a); got != want || a.RetryAfter != 7*time.Second {
				t.Errorf("%d with %s: got %s after %v, want %s", status, b.name, got, a.RetryAfter, want)
			}
		}
	}
	// A delivery is one, whatever it asks for.
	o := outcome{status: 200, said: said{retryAfter: "7"}, body: []byte(`{"_id":"x"}`), written: true}
	if a := judge(o, SuccessID, time.Time{}); a.Verdict != Delivered || a.RetryAfter != 0 {
		t.Errorf("a delivery with Retry-After: %s after %v", summary(a), a.RetryAfter)
	}
}

func TestStatusThatIsNoFinalAnswerIsUnknown(t *testing.T) {
	for _, status := range []int{100, 101, 103, 199, 600, 999} {
		o := outcome{status: status, body: []byte(`{"_id":"x"}`), written: true}
		if got := summary(judge(o, SuccessStatus, time.Time{})); got != "unknown unknown counts invalid_status" {
			t.Errorf("%d: got %s", status, got)
		}
	}
}

// Without a complete answer only the evidence counts, whatever began to come.
func TestVerdictWithoutAnswer(t *testing.T) {
	failures := []string{
		ReasonCancelled, ReasonTimeout, ReasonDNSFailed, ReasonDialFailed, ReasonTLSFailed, ReasonProxyFailed,
		ReasonWriteFailed, ReasonConnectionLost, ReasonAnswerCutOff,
	}
	for _, failure := range failures {
		effect := "counts"
		if failure == ReasonCancelled {
			effect = "none"
		}
		for _, status := range []int{0, 200, 204, 302, 400, 401, 404, 413, 429, 500, 502, 503} {
			for _, o := range []outcome{{}, {began: true}, {began: true, written: true}} {
				o.failure, o.status, o.said, o.body = failure, status, said{retryAfter: "7"}, []byte(`{"_id":"x"}`)
				want := "unavailable not_sent " + effect + " " + failure
				if o.written {
					want = "unknown unknown " + effect + " " + failure
				}
				a := judge(o, SuccessStatus, time.Time{})
				if got := summary(a); got != want {
					t.Errorf("%s, %+v: got %s, want %s", failure, o, got, want)
				}
				if fault := o.began && !o.written && failure != ReasonCancelled; a.ServerFault != fault {
					t.Errorf("%s, began %v, written %v: ServerFault is %v", failure, o.began, o.written, a.ServerFault)
				}
				if a.PushBack != (failure == ReasonTimeout) {
					t.Errorf("%s: PushBack is %v", failure, a.PushBack)
				}
			}
		}
	}
}

func TestIDsAreCarriedAsTheyAre(t *testing.T) {
	o := outcome{status: 200, body: []byte(`{"_id":"old","index":"stellar-index-v1-ser-x-000033","_id":"Zb\u0057y","took":[1,{"_id":2}]}`)}
	a := judge(o, SuccessID, time.Time{})
	if a.Index != "stellar-index-v1-ser-x-000033" || a.ID != "ZbWy" {
		t.Errorf("got %q, %q", a.Index, a.ID)
	}
}

func TestRetryAfterIsBounded(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	for _, test := range []struct {
		value string
		want  time.Duration
		ok    bool
	}{
		{"", 0, false},
		{"soon", 0, false},
		{"1.5", 0, false},
		{"0", 0, true},
		{"-30", 0, true},
		{" 12 ", 12 * time.Second, true},
		{"300", 5 * time.Minute, true},
		{"86400", 5 * time.Minute, true},
		{"99999999999999999999999999", 5 * time.Minute, true},
		{"-99999999999999999999999999", 0, true},
		{"Sun, 01 Mar 2026 12:00:45 GMT", 45 * time.Second, true},
		{"Sunday, 01-Mar-26 12:00:45 GMT", 45 * time.Second, true},
		{"Sun, 01 Mar 2026 11:00:00 GMT", 0, true},
		{"Mon, 01 Mar 9999 11:00:00 GMT", 5 * time.Minute, true},
	} {
		got, ok := retryAfter(test.value, now)
		if got != test.want || ok != test.ok {
			t.Errorf("%q: got %v, %v; want %v, %v", test.value, got, ok, test.want, test.ok)
		}
	}
}

func TestEveryReasonIsExplained(t *testing.T) {
	all := Reasons()
	if !slices.IsSorted(all) || len(all) < 20 {
		t.Errorf("Reasons: %v", all)
	}
	for _, r := range all {
		if text := Explain(r); text == r || text == "" || strings.Trim(r, "abcdefghijklmnopqrstuvwxyz_0123456789") != "" {
			t.Errorf("%s is explained as %q", r, text)
		}
	}
	if got := Explain("else"); got != "else" {
		t.Errorf("an unknown reason is explained as %q", got)
	}
}

// FuzzJudge: no answer makes judge panic; only a 2xx is ever a delivery, by
// default only a 200 that says so; what is not delivered has a reason of the
// closed set and a certainty; no wait is longer than 5 minutes.
func FuzzJudge(f *testing.F) {
	for _, b := range bodies {
		f.Add(200, b.contentType, "", b.body, true)
	}
	f.Add(503, "", "Sun, 01 Mar 2026 12:00:45 GMT", "", false)
	f.Add(429, "", "-9", "\xff\x00", false)
	known := Reasons()
	f.Fuzz(func(t *testing.T, status int, contentType, after, body string, byStatus bool) {
		success := SuccessID
		if byStatus {
			success = SuccessStatus
		}
		a := judge(outcome{status: status, said: said{contentType: contentType, retryAfter: after}, body: []byte(body), written: true}, success, time.Unix(1772366400, 0))
		if a.Verdict == Delivered {
			if a.Certainty != "" || a.Reason != "" || status/100 != 2 || !byStatus && status != 200 {
				t.Errorf("%d %q is a delivery: %+v", status, body, a)
			}
			return
		}
		if a.Certainty == "" || !slices.Contains(known, a.Reason) || a.Verdict.String() == "verdict_0" {
			t.Errorf("%d %q: %+v", status, body, a)
		}
		if a.RetryAfter < 0 || a.RetryAfter > longestWait {
			t.Errorf("Retry-After %q: %v", after, a.RetryAfter)
		}
	})
}
