package stellar

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"time"
)

// Insert POSTs the document once, or not at all, and says what became of it.
// It never repeats: Answer.Again asks the caller to. Nobody may change the
// document any more, since the transport can still read it after an early
// answer.
//
// When ctx ends first, the Reason is "cancelled": not_sent if the request was
// not written to its end, else unknown.
func (c *Client) Insert(ctx context.Context, auth Authorization, document []byte) Answer {
	o := c.exchange(ctx, maxBody, func(ctx context.Context) (*http.Request, error) {
		return c.post(ctx, document, auth), nil
	})
	a := judge(o, c.cfg.Success, time.Now())
	if a.Verdict == Delivered {
		c.tokens.accepted(auth)
		return a
	}
	a.Body = c.text(o.body)
	a.Err = c.clean(describe("insert document", a, o))
	switch {
	case a.Verdict == Unavailable && a.Status == http.StatusUnauthorized:
		if again := c.tokens.refused(auth); again && a.RetryAfter == 0 {
			a.Again, a.Effect = true, EffectNone
		}
	case a.Verdict == Refused:
		c.tokens.accepted(auth)
	}
	return a
}

// post is request for a document, put together by hand: it is made for each,
// and the address need not be parsed again. Without GetBody, Go never sends
// the body again over a second connection.
func (c *Client) post(ctx context.Context, document []byte, auth Authorization) *http.Request {
	req := &http.Request{
		Method: http.MethodPost, URL: c.insert, Host: c.insert.Host,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: http.Header{
			"Authorization": {auth.header},
			"Accept":        {"application/json"},
			"Content-Type":  {"application/json"},
			"User-Agent":    {c.cfg.UserAgent},
		},
		Body: io.NopCloser(bytes.NewReader(document)), ContentLength: int64(len(document)),
	}
	return req.WithContext(ctx)
}

// describe is the error of an answer that is no delivery: what was done, what
// happened, and what to do.
func describe(doing string, a Answer, o outcome) error {
	switch {
	case a.Verdict == Delivered:
		return nil
	case o.err != nil:
		return fmt.Errorf("%s: %s: %w", doing, Explain(a.Reason), o.err)
	}
	return fmt.Errorf("%s: HTTP %d: %s", doing, a.Status, Explain(a.Reason))
}
