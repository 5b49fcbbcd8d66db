package stellartest

import (
	"bytes"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json/jsontext"
	"golang.org/x/time/rate"
)

// bodyLimit is what no installation would take, so that a client gone mad cannot fill our memory.
const bodyLimit = 64 << 20

// activeVariant is a Variant made ready.
type activeVariant struct {
	Variant
	insertPath string
	refresh    time.Duration
	bodyLimit  int64
	limiter    *rate.Limiter // nil: none
}

func newActiveVariant(v Variant) *activeVariant {
	a := &activeVariant{Variant: v, insertPath: InsertPath, refresh: time.Second, bodyLimit: bodyLimit}
	if v.InsertPath != "" {
		a.insertPath = v.InsertPath
	}
	if v.RefreshDelay != 0 {
		a.refresh = max(v.RefreshDelay, 0)
	}
	if v.MaxBodyBytes > 0 {
		a.bodyLimit = int64(v.MaxBodyBytes)
	}
	if v.RateLimit > 0 {
		a.limiter = rate.NewLimiter(rate.Limit(v.RateLimit), max(1, int(v.RateLimit)))
	}
	return a
}

// insert plays one insert_ser request: arrival, body, fault, platform, answer.
func (s *Server) insert(x *exchange) {
	early := s.decideArrival(x)
	if early.Cut == CutAtHeaders {
		x.play(early, nil)
		return
	}
	if x.r.ContentLength > x.v.bodyLimit {
		x.play(early, func() answer { return x.v.tooLarge() })
		return
	}
	doc := shapers.Get().(*shaper)
	defer doc.release()
	doc.body.Grow(int(min(max(x.r.ContentLength, 0), 1<<20)) + bytes.MinRead)
	if _, err := doc.body.ReadFrom(http.MaxBytesReader(x.w, x.r.Body, x.v.bodyLimit)); err != nil {
		s.unread(x, err)
		return
	}
	x.req.Body = doc.body.Bytes()
	x.req.DeliveryKey, x.req.DedupKey = keys(x.req.Body)
	s.ledger.identify(&x.req)
	fault := early
	if early.isZero() {
		fault = s.decide(&s.scripts.inserts, x, s.dice.Load().inserts)
	}
	x.play(fault, func() answer { return s.take(x, doc) })
}

// unread ends a request whose body did not come, or came too large without saying so.
func (s *Server) unread(x *exchange, err error) {
	if tooLarge := (*http.MaxBytesError)(nil); errors.As(err, &tooLarge) {
		x.play(Fault{}, func() answer { return x.v.tooLarge() })
		return
	}
	x.req.Left = true
	x.cut()
}

// tooLarge is the answer above the body limit; the zero answer cuts the connection.
func (v *activeVariant) tooLarge() answer {
	switch v.OverLimit {
	case OverLimit400:
		return text(http.StatusBadRequest, "Request body too large")
	case OverLimitCut:
		return answer{}
	}
	return TooLarge().answer()
}

// take is the platform without faults, in the order in which a request meets its parts.
func (s *Server) take(x *exchange, doc *shaper) answer {
	if x.v.Firewall && hostile(doc.body.Bytes()) {
		return Blocked().answer()
	}
	if x.r.Method != http.MethodPost {
		return MethodNotAllowed().answer()
	}
	caller, ok := s.tokens.accepts(x.r, x.v.Auth)
	if !ok {
		return Unauthorized().answer()
	}
	if caller.scoped && x.v.ScopedInsert {
		return Forbidden().answer()
	}
	if x.v.limiter != nil && !x.v.limiter.AllowN(s.cfg.Now(), 1) {
		return x.v.limited(s.cfg.Now())
	}
	if kind, _, _ := mime.ParseMediaType(x.r.Header.Get("Content-Type")); kind != jsonType {
		return text(http.StatusUnsupportedMediaType, "Unsupported Media Type: send application/json")
	}
	if x.v.Success == SuccessHTML {
		return LoginPage().answer()
	}
	return s.index(x, doc)
}

// index checks and stores the document.
func (s *Server) index(x *exchange, doc *shaper) answer {
	v := &x.v.Variant
	if refusal := doc.shape(v); refusal.status != 0 {
		return refusal
	}
	custom := doc.customMembers()
	if v.Mappings {
		if reason := s.ledger.addMapping(custom); reason != "" {
			return conflict(reason)
		}
	}
	mergeKey := ""
	if v.Merge {
		if mergeKey = x.req.DeliveryKey; mergeKey == "" {
			mergeKey = strconv.FormatUint(mix(doc.body.String(), 0), 16)
		}
	}
	source := doc.encode(v, custom, s.cfg.Now().UnixMilli())
	return v.success(s.ledger.store(&x.req, source, v, mergeKey))
}

func (l *ledger) addMapping(custom []byte) (reason string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.mapping.add(custom)
}

// success is the answer to a stored document.
func (v *Variant) success(index, id string) answer {
	ids := jsonAnswer(http.StatusOK, `{"index":"`+index+`","_id":"`+id+`"}`)
	ids.success = true
	switch v.Success {
	case SuccessOK:
		ids.contentType, ids.body = textType, "OK"
	case SuccessOK200:
		ids.contentType, ids.body = textType, "OK 200"
	case SuccessEmpty:
		return EmptyOK().answer()
	case SuccessObject:
		return EmptyObject().answer()
	case SuccessBlankID:
		return BlankID().answer()
	case SuccessCreated:
		ids.status, ids.success = http.StatusCreated, false
	case SuccessAccepted:
		return Accepted().answer()
	}
	return ids
}

// refusal is the answer to what the vendor's page says is refused.
func (v *Variant) refusal(reason string) answer {
	quoted, _ := jsontext.AppendQuote(nil, reason)
	body := `{"error":` + string(quoted) + `}`
	switch v.Errors {
	case Errors400JSON:
		return jsonAnswer(http.StatusBadRequest, body)
	case Errors422:
		return text(http.StatusUnprocessableEntity, reason)
	case Errors200Text:
		return text(http.StatusOK, reason)
	case Errors200JSON:
		return jsonAnswer(http.StatusOK, body)
	case Errors500Text:
		return text(http.StatusInternalServerError, reason)
	}
	return text(http.StatusBadRequest, reason)
}

// conflict is a refusal of Elasticsearch, passed through by the platform.
func conflict(reason string) answer {
	return elastic(http.StatusBadRequest, "mapper_parsing_exception", reason)
}

func elastic(status int, kind, reason string) answer {
	quoted, _ := jsontext.AppendQuote(nil, reason)
	cause := fmt.Sprintf(`"type":"%s","reason":%s`, kind, quoted)
	return jsonAnswer(status, fmt.Sprintf(`{"error":{"root_cause":[{%s}],%s},"status":%d}`, cause, cause, status))
}

// limited is the answer above the rate limit.
func (v *Variant) limited(now time.Time) answer {
	switch v.RateLimitForm {
	case RateLimit429Date:
		return RateLimitedUntil(now.Add(time.Second)).answer()
	case RateLimit429Silent:
		return RateLimited(0).answer()
	case RateLimit503:
		return Unavailable().RetryAfter(time.Second).answer()
	case RateLimit503Silent:
		return Unavailable().answer()
	}
	return RateLimited(time.Second).answer()
}

// alias is the index name of an insert's answer.
func (v *Variant) alias(now time.Time) string {
	date := now.UTC().Format("2006.01.02")
	if v.SaaSIndex {
		return "stellar-index-v1-ser-0a1b2c3d4e5f-" + date + "-000033"
	}
	return "aella-ser-" + date + "-"
}

// attacks are what a web application firewall refuses, in lower case: detections are full of them.
var attacks = []string{
	"<script", `\u003cscript`, "javascript:", "onerror=", "union select", "' or '1'='1", "' or 1=1", "xp_cmdshell", "../../", "/etc/passwd",
	"${jndi:", "cmd.exe", "powershell", "/bin/sh", "; wget ", "| nc ", "<?php", "eval(",
}

func hostile(body []byte) bool {
	lower := string(bytes.ToLower(body))
	for _, a := range attacks {
		if strings.Contains(lower, a) {
			return true
		}
	}
	return false
}
