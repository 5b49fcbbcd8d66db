package stellar

import (
	"bytes"
	"crypto/x509"
	"errors"
	"fmt"
	"math"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	json "github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// Verdict is the meaning of an attempt. Its zero value is none of them, so
// that a forgotten one is no delivery.
type Verdict int

// The verdicts.
const (
	Delivered   Verdict = iota + 1 // stored, as the API says
	Refused                        // the document was refused, for its own sake or everybody's
	Unavailable                    // the destination, the network or our configuration is at fault
	Unknown                        // it may have been stored
)

// String returns the verdict in snake_case.
func (v Verdict) String() string {
	switch v {
	case Delivered:
		return "delivered"
	case Refused:
		return "refused"
	case Unavailable:
		return "unavailable"
	case Unknown:
		return "unknown"
	}
	return fmt.Sprintf("verdict_%d", int(v))
}

// Certainty is what is known of an attempt that was no delivery; empty for a
// delivery.
type Certainty string

// The certainties.
const (
	CertaintyNotSent Certainty = "not_sent" // cannot have been stored: it never arrived whole
	CertaintyRefused Certainty = "refused"  // was not stored, as the answer says
	CertaintyUnknown Certainty = "unknown"  // may have been stored
)

// Effect is what an answer does to the gate.
type Effect int

// The effects.
const (
	EffectNone   Effect = iota
	EffectCounts        // closes it when 10 in a row do so
	EffectCloses        // closes it at once
	EffectOpens         // opens it
)

// String returns the effect in snake_case.
func (e Effect) String() string {
	switch e {
	case EffectNone:
		return "none"
	case EffectCounts:
		return "counts"
	case EffectCloses:
		return "closes"
	case EffectOpens:
		return "opens"
	}
	return fmt.Sprintf("effect_%d", int(e))
}

// Answer is what became of one attempt.
type Answer struct {
	Verdict   Verdict
	Certainty Certainty
	Effect    Effect
	// Reason is one of Reasons; empty for a delivery.
	Reason string
	// Status is that of HTTP, 0 when no answer began.
	Status int
	// RetryAfter, when above 0, is how long the API wants to be left alone,
	// at most 5 minutes.
	RetryAfter time.Duration
	// Documented marks a refusal that the vendor documents: it is about a
	// field that we always send, so sending less does not help.
	Documented bool
	// ServerFault marks a failure that one document may cause again and
	// again: 5xx but 502 and 504, or a connection that broke while the
	// request was written.
	ServerFault bool
	// PushBack asks for fewer requests at a time: 503, or a timeout.
	PushBack bool
	// Again marks a 401 that a new token may cure: authorize and send again
	// at once. It costs the document no attempt and closes no gate.
	Again bool
	// Body is the beginning of the answer as text: at most 1 KiB, redacted,
	// without control characters. It may hold record content. Empty for a
	// delivery.
	Body string
	// Index and ID name the stored document, when the API named it. Opaque.
	Index, ID string
	// Err says what happened and whose fault it is, without a URL, a
	// credential or record content; nil for a delivery.
	Err error
}

// outcome is the evidence of one attempt: how far the request got, and the
// answer, if a complete one came.
type outcome struct {
	failure string // the Reason why no complete answer came; empty when one did
	began   bool   // the headers were written
	written bool   // the whole request was written
	err     error  // of the failure
	status  int    // 0: no answer began
	said    said   // its headers
	body    []byte // its first maxBody bytes

	certificate *x509.Certificate // of whom we spoke to; nil without TLS
}

// said is what the headers of an answer say; empty for one that it has not.
type said struct {
	date, contentType, retryAfter string
}

// judge is the table of the package comment, one row after the other. It
// knows only what it is given; success is Config.Success.
func judge(o outcome, success string, now time.Time) Answer {
	a := Answer{Status: o.status}
	switch {
	case o.failure != "":
		return judgeFailure(a, o)
	case o.status < 200 || o.status > 599:
		return a.set(Unknown, EffectCounts, ReasonInvalidStatus)
	}
	is2xx := o.status < 300
	if o.status == http.StatusOK {
		if index, id, ok := stored(o.body); ok {
			a.Index, a.ID = index, id
			return a.set(Delivered, EffectOpens, "")
		}
	}
	wait, hasWait := retryAfter(o.said.retryAfter, now)
	refusal := documentedRefusal(o.body)
	switch s := o.status; {
	case s == http.StatusBadGateway, s == http.StatusGatewayTimeout:
		if hasWait {
			a.RetryAfter = wait
			return a.set(Unknown, EffectCloses, httpReason(s))
		}
		return a.set(Unknown, EffectCounts, httpReason(s))
	case s == http.StatusTooManyRequests, hasWait && !is2xx:
		a.RetryAfter = wait
		a.ServerFault, a.PushBack = s >= 500, s == http.StatusServiceUnavailable
		return a.set(Unavailable, EffectCloses, statusReason(s))
	case refusal != "":
		a.Documented = true
		return a.set(Refused, EffectCounts, refusal)
	case is2xx && isHTML(o.said.contentType, o.body):
		return a.set(Unavailable, EffectCloses, ReasonNotTheAPI)
	case !is2xx && s < 400:
		return a.set(Unavailable, EffectCloses, ReasonRedirected)
	case is2xx && success == SuccessStatus:
		return a.set(Delivered, EffectOpens, "")
	case is2xx:
		return a.set(Unknown, EffectCounts, ReasonNoID)
	case s == http.StatusUnauthorized, s == http.StatusNotFound, s == http.StatusMethodNotAllowed:
		return a.set(Unavailable, EffectCloses, httpReason(s))
	case s < 500:
		return a.set(Refused, EffectCounts, httpReason(s))
	default:
		a.ServerFault, a.PushBack = true, s == http.StatusServiceUnavailable
		return a.set(Unavailable, EffectCounts, httpReason(s))
	}
}

// judgeFailure is the table's first two rows: no complete answer came.
func judgeFailure(a Answer, o outcome) Answer {
	effect := EffectCounts
	if o.failure == ReasonCancelled {
		effect = EffectNone // it tells nothing about the API
	}
	a.PushBack = o.failure == ReasonTimeout
	if o.written {
		return a.set(Unknown, effect, o.failure)
	}
	a.ServerFault = o.began && o.failure != ReasonCancelled
	a = a.set(Unavailable, effect, o.failure)
	a.Certainty = CertaintyNotSent
	return a
}

// set fills in the row that fits. The certainty of a complete answer follows
// from the verdict.
func (a Answer) set(v Verdict, e Effect, reason string) Answer {
	a.Verdict, a.Effect, a.Reason = v, e, reason
	switch v {
	case Refused, Unavailable:
		a.Certainty = CertaintyRefused
	case Unknown:
		a.Certainty = CertaintyUnknown
	}
	return a
}

// statusReason is httpReason, and that of a redirect.
func statusReason(status int) string {
	if status < 400 {
		return ReasonRedirected
	}
	return httpReason(status)
}

// lenient reads what a platform may write, not what a standard allows; names
// keep their case, since _id is not _ID.
var lenient = json.JoinOptions(jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true))

// stored reports whether the body of a 200 says that the document was stored,
// and where. The vendor shows {"index":…,"_id":…}, once with a 200 behind it,
// and in another place the text OK 200.
func stored(body []byte) (index, id string, ok bool) {
	body = trim(body)
	if s := string(body); s == "OK" || s == "OK 200" {
		return "", "", true
	}
	if len(body) == 0 || body[0] != '{' {
		return "", "", false
	}
	d := decoders.Get().(*decoder)
	defer decoders.Put(d)
	d.of(body)
	if index, id, ok = names(&d.Decoder); !ok {
		return "", "", false
	}
	if rest := string(trim(body[d.InputOffset():])); rest != "" && rest != "200" {
		return "", "", false
	}
	return index, id, id != ""
}

// decoder keeps the memory in which it counts what it has read.
type decoder struct {
	jsontext.Decoder
	in bytes.Buffer
}

func (d *decoder) of(body []byte) {
	d.in = *bytes.NewBuffer(body)
	d.Reset(&d.in, lenient)
}

var decoders = sync.Pool{New: func() any { return new(decoder) }}

// names reads an object to its end, for index and _id. Token by token, since
// to decode it into a struct costs every document three times as much.
func names(dec *jsontext.Decoder) (index, id string, ok bool) {
	if _, err := dec.ReadToken(); err != nil {
		return "", "", false
	}
	for dec.PeekKind() == '"' {
		name, err := dec.ReadToken()
		if err != nil {
			return "", "", false
		}
		key := name.String()
		value, err := dec.ReadValue()
		if err != nil {
			return "", "", false
		}
		switch key {
		case "index":
			index = text(value)
		case "_id":
			id = text(value)
		}
	}
	_, err := dec.ReadToken()
	return index, id, err == nil
}

// text is a JSON string's, empty for another value.
func text(v jsontext.Value) string {
	if v.Kind() != '"' {
		return ""
	}
	var short [64]byte
	b, _ := jsontext.AppendUnquote(short[:0], v) // lenient: what is no UTF-8 is replaced
	return string(b)
}

func trim(b []byte) []byte {
	return bytes.TrimSpace(bytes.TrimPrefix(b, []byte("\ufeff")))
}

// documentedRefusal recognises the two refusals that the vendor documents, by
// phrase, since "the contents will be similar to" them. Their status is
// documented nowhere.
func documentedRefusal(body []byte) string {
	text := strings.ToLower(string(body[:min(len(body), judgedText)]))
	switch {
	case strings.Contains(text, "invalid event status value"):
		return ReasonInvalidEventStatus
	case strings.Contains(text, "missing fields"):
		return ReasonMissingEventFields
	}
	return ""
}

// judgedText bounds the part of a body in which a phrase is looked for.
const judgedText = 64 << 10

// isHTML reports whether the body is a web page: by what it says it is, when
// it begins like one, or by how it begins. A text that is only called HTML, as
// some frameworks call all they send, is none, and may be the API's.
func isHTML(contentType string, body []byte) bool {
	body = trim(body)
	if len(body) == 0 || body[0] != '<' {
		return false
	}
	return strings.Contains(strings.ToLower(contentType), "html") ||
		strings.HasPrefix(http.DetectContentType(body), "text/html")
}

// longestWait bounds what a server may ask for; a wrong clock or a slip of
// its configuration must not stop delivery for a day.
const longestWait = 5 * time.Minute

// retryAfter reads Retry-After (RFC 9110, 10.2.3: seconds or a date), from 0
// to 5 minutes. One that is neither is none.
func retryAfter(v string, now time.Time) (time.Duration, bool) {
	v = strings.TrimSpace(v)
	if v == "" {
		return 0, false
	}
	seconds, err := strconv.ParseInt(v, 10, 64)
	switch {
	case err == nil:
	case errors.Is(err, strconv.ErrRange):
		seconds = math.MaxInt64
		if v[0] == '-' {
			seconds = 0
		}
	default:
		at, err := http.ParseTime(v)
		if err != nil {
			return 0, false
		}
		return min(max(at.Sub(now), 0), longestWait), true
	}
	return time.Duration(min(max(seconds, 0), int64(longestWait/time.Second))) * time.Second, true
}
