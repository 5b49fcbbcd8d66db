package stellartest

import (
	"maps"
	"net/http"
	"slices"
	"strconv"
	"time"
)

// A Fault is what happens to one request instead of, or on top of, the right answer. The zero value is no fault. What
// is stored is what the fields say, not what the client is told:
//
//   - Status: this answer; the document is stored only with Store (and if the platform would take it).
//   - Cut: the connection is closed at that point. CutPoint says what was stored.
//   - Hang: no answer until the client leaves or the server closes; stored only with Store.
//   - otherwise the platform behaves, after the delays.
type Fault struct {
	Name string `json:"fault,omitzero"` // as the ledger counts it

	Delay       time.Duration `json:"delay,omitzero"`        // after the body was read, before anything is stored
	AnswerDelay time.Duration `json:"answer_delay,omitzero"` // after it was stored, before the answer

	Status      int               `json:"status,omitzero"`
	Body        string            `json:"body,omitzero"`
	ContentType string            `json:"content_type,omitzero"` // "": text/plain
	Header      map[string]string `json:"header,omitzero"`

	Store       bool     `json:"store,omitzero"`
	Cut         CutPoint `json:"cut,omitzero"`
	Hang        bool     `json:"hang,omitzero"`
	RevokeToken bool     `json:"revoke_token,omitzero"` // the token of this request is refused from now on
}

// CutPoint is where a connection is closed.
type CutPoint string

const (
	// CutAtHeaders closes after the headers: the client may be still writing. Decided before the body is read, so
	// only [Server.ScriptArrivals] and rates can play it; elsewhere it is CutUnstored.
	CutAtHeaders CutPoint = "before_reading"
	CutUnstored  CutPoint = "before_storing" // the request was read, nothing is stored
	CutStored    CutPoint = "after_storing"  // stored, no answer
	CutMidBody   CutPoint = "mid_body"       // headers and half of the answer's body; stored as without the cut
)

const (
	htmlType = "text/html; charset=utf-8"
	textType = "text/plain; charset=utf-8"
	jsonType = "application/json"

	loginPage     = "<!DOCTYPE html>\n<html><head><title>Sign in</title></head><body><form method=\"post\" action=\"/login\"><input name=\"user\"><input name=\"password\" type=\"password\"></form></body></html>\n"
	firewallPage  = "<html><head><title>403 Forbidden</title></head><body><h1>Request blocked</h1><p>Support ID: 8817263554</p></body></html>\n"
	proxyPageFrom = "<html><head><title>"
	proxyPageTo   = "</title></head><body><center><h1>Error</h1></center><hr><center>nginx</center></body></html>\n"
)

// page is an answer as a proxy in front of the API gives it.
func page(name string, status int) Fault {
	title := strconv.Itoa(status) + " " + http.StatusText(status)
	return Fault{Name: name, Status: status, ContentType: htmlType, Body: proxyPageFrom + title + proxyPageTo}
}

// RateLimited is 429 with Retry-After in seconds, rounded up; without the header when d is 0.
func RateLimited(d time.Duration) Fault {
	f := Fault{Name: "rate_limited", Status: http.StatusTooManyRequests, Body: "Rate limit exceeded"}
	if d > 0 {
		return f.RetryAfter(d)
	}
	return f
}

// RateLimitedUntil is 429 with Retry-After as an HTTP date, rounded up to the second.
func RateLimitedUntil(t time.Time) Fault { return RateLimited(0).RetryAt(t) }

// Unavailable is 503 without Retry-After; add one with [Fault.RetryAfter] or [Fault.RetryAt].
func Unavailable() Fault { return page("unavailable", http.StatusServiceUnavailable) }

// ServerError is 500 with a text.
func ServerError() Fault {
	return Fault{Name: "server_error", Status: http.StatusInternalServerError, Body: "Internal Server Error"}
}

// BadGateway is 502: a proxy that cannot say whether the request arrived. Not stored, unless [Fault.Stored].
func BadGateway() Fault { return page("bad_gateway", http.StatusBadGateway) }

// GatewayTimeout is 504, as BadGateway.
func GatewayTimeout() Fault { return page("gateway_timeout", http.StatusGatewayTimeout) }

// LoginRedirect is 302 to /login, which answers 200 with a page: who follows it believes the insert succeeded.
func LoginRedirect() Fault {
	return Fault{Name: "login_redirect", Status: http.StatusFound, Header: map[string]string{"Location": "/login"}}
}

// LoginPage is 200 with HTML: this is not the API. Nothing is stored.
func LoginPage() Fault {
	return Fault{Name: "login_page", Status: http.StatusOK, ContentType: htmlType, Body: loginPage}
}

// EmptyOK is 200 without a body. Not stored, unless [Fault.Stored]: the client cannot know.
func EmptyOK() Fault { return Fault{Name: "empty_ok", Status: http.StatusOK} }

// EmptyObject is 200 with {}, as EmptyOK.
func EmptyObject() Fault {
	return Fault{Name: "empty_object", Status: http.StatusOK, ContentType: jsonType, Body: "{}"}
}

// BlankID is 200 with an empty _id, as EmptyOK.
func BlankID() Fault {
	return Fault{Name: "blank_id", Status: http.StatusOK, ContentType: jsonType, Body: `{"_id":""}`}
}

// Created is 201 without an _id, as EmptyOK.
func Created() Fault { return Fault{Name: "created", Status: http.StatusCreated} }

// Accepted is 202, as EmptyOK.
func Accepted() Fault { return Fault{Name: "accepted", Status: http.StatusAccepted} }

// BadRequest is 400 with a text that is no documented refusal.
func BadRequest() Fault {
	return Fault{Name: "bad_request", Status: http.StatusBadRequest, Body: "Bad Request"}
}

// Unprocessable is 422 with a text that is no documented refusal.
func Unprocessable() Fault {
	return Fault{Name: "unprocessable", Status: http.StatusUnprocessableEntity, Body: "Unprocessable Entity"}
}

// TooLarge is 413 from a proxy.
func TooLarge() Fault { return page("too_large", http.StatusRequestEntityTooLarge) }

// Unauthorized is 401. The token stays good for others; [Revoked] also drops it.
func Unauthorized() Fault {
	return Fault{Name: "unauthorized", Status: http.StatusUnauthorized, Body: "Unauthorized"}
}

// Revoked is 401, and the token of the request is refused from now on, as if it had expired early.
func Revoked() Fault {
	f := Unauthorized()
	f.Name, f.RevokeToken = "revoked", true
	return f
}

// Forbidden is 403 with a text, as for a user without the rights.
func Forbidden() Fault {
	return Fault{Name: "forbidden", Status: http.StatusForbidden, Body: "Forbidden"}
}

// Blocked is 403 with a firewall's page.
func Blocked() Fault {
	return Fault{Name: "firewall", Status: http.StatusForbidden, ContentType: htmlType, Body: firewallPage}
}

// NotFound is 404 from the web server: a wrong address.
func NotFound() Fault { return page("not_found", http.StatusNotFound) }

// MethodNotAllowed is 405 from the web server.
func MethodNotAllowed() Fault { return page("method_not_allowed", http.StatusMethodNotAllowed) }

// CutBeforeReading closes the connection when the headers were read, the body not.
func CutBeforeReading() Fault { return Fault{Name: "cut_before_reading", Cut: CutAtHeaders} }

// CutBeforeStoring closes the connection when the request was read; nothing is stored.
func CutBeforeStoring() Fault { return Fault{Name: "cut_before_storing", Cut: CutUnstored} }

// CutAfterStoring stores the document and closes the connection without an answer.
func CutAfterStoring() Fault { return Fault{Name: "cut_after_storing", Cut: CutStored} }

// CutBody stores the document and closes the connection within the answer's body.
func CutBody() Fault { return Fault{Name: "cut_body", Cut: CutMidBody} }

// Hang never answers; nothing is stored, unless [Fault.Stored].
func Hang() Fault { return Fault{Name: "hang", Hang: true} }

// Slow behaves, after a wait.
func Slow(d time.Duration) Fault { return Fault{Name: "slow", Delay: d} }

// Stored is the fault with the document stored behind the client's back.
func (f Fault) Stored() Fault {
	f.Name, f.Store = f.Name+"_stored", true
	return f
}

// After is the fault after a wait in which nothing is stored yet.
func (f Fault) After(d time.Duration) Fault {
	f.Delay += d
	return f
}

// RetryAfter is the fault with Retry-After in seconds, rounded up.
func (f Fault) RetryAfter(d time.Duration) Fault {
	return f.with("Retry-After", strconv.FormatInt(int64((d+time.Second-1)/time.Second), 10))
}

// RetryAt is the fault with Retry-After as an HTTP date, rounded up to the second.
func (f Fault) RetryAt(t time.Time) Fault {
	if t.Nanosecond() > 0 {
		t = t.Add(time.Second)
	}
	return f.with("Retry-After", t.UTC().Format(http.TimeFormat))
}

func (f Fault) with(name, value string) Fault {
	h := maps.Clone(f.Header)
	if h == nil {
		h = make(map[string]string, 1)
	}
	h[name] = value
	f.Header = h
	return f
}

// behaves says that nothing but time separates the fault from the right answer.
func (f Fault) behaves() bool { return f.Status == 0 && f.Cut == "" && !f.Hang }

// unstored says that the connection ends before the platform has the document.
func (f Fault) unstored() bool { return f.Cut == CutAtHeaders || f.Cut == CutUnstored }

// processes says that the platform takes the request, whatever it answers.
func (f Fault) processes() bool {
	return !f.unstored() && (f.Store || f.Cut == CutStored || f.Status == 0 && !f.Hang)
}

// unknown says that the client cannot tell, or is told wrongly, whether the document was stored: such an attempt may
// become a repeat.
func (f Fault) unknown() bool {
	vague := f.Status >= 200 && f.Status < 300 && f.ContentType != htmlType
	gateway := f.Status == http.StatusBadGateway || f.Status == http.StatusGatewayTimeout
	return f.Store || f.Cut != "" || f.Hang || vague || gateway
}

// presets are the faults that rates and the control endpoints know by name.
var presets = func() map[string]Fault {
	m := make(map[string]Fault)
	for _, f := range []Fault{
		RateLimited(0), Unavailable(), ServerError(), BadGateway(), GatewayTimeout(), LoginRedirect(), LoginPage(),
		EmptyOK(), EmptyObject(), BlankID(), Created(), Accepted(), BadRequest(), Unprocessable(), TooLarge(),
		Unauthorized(), Revoked(), Forbidden(), Blocked(), NotFound(), MethodNotAllowed(),
		CutBeforeReading(), CutBeforeStoring(), CutAfterStoring(), CutBody(), Hang(),
		ServerError().Stored(), Unavailable().Stored(), BadGateway().Stored(), GatewayTimeout().Stored(),
		EmptyOK().Stored(), Accepted().Stored(), Hang().Stored(),
	} {
		m[f.Name] = f
	}
	return m
}()

// FaultNames are the names that [Faults].Rates and the control endpoints understand, sorted.
func FaultNames() []string { return slices.Sorted(maps.Keys(presets)) }

// Preset is the fault of that name, as its constructor makes it without arguments.
func Preset(name string) (Fault, bool) {
	f, ok := presets[name]
	return f, ok
}

// Always is a script with one fault for every request.
func Always(f Fault) func(Request) Fault { return func(Request) Fault { return f } }

// Sequence is a script: the nth request since it was set gets the nth fault, later ones none. For one use.
func Sequence(faults ...Fault) func(Request) Fault {
	next := 0
	return func(Request) Fault {
		if next >= len(faults) {
			return Fault{}
		}
		next++
		return faults[next-1]
	}
}

func (f Fault) isZero() bool {
	return f.behaves() && f.Name == "" && f.Delay == 0 && f.AnswerDelay == 0 && !f.Store && !f.RevokeToken
}
