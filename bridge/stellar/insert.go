package stellar

import (
	"bytes"
	"context"
	"fmt"
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
		req, err := c.request(ctx, http.MethodPost, c.cfg.InsertPath, bytes.NewReader(document), auth.header)
		if err != nil {
			return nil, err
		}
		req.Header.Set("Content-Type", "application/json")
		return req, nil
	})
	a := judge(o, c.cfg.Success, time.Now())
	a.Body = c.text(o.body)
	a.Err = c.clean(describe("insert document", a, o))
	switch {
	case a.Verdict == Unavailable && a.Status == http.StatusUnauthorized:
		if again := c.tokens.refused(auth); again && a.RetryAfter == 0 {
			a.Again, a.Effect = true, EffectNone
		}
	case a.Verdict == Delivered, a.Verdict == Refused:
		c.tokens.accepted(auth)
	}
	return a
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
