package stellar

import (
	"context"
	"fmt"
	"net/http"
	"time"
)

// Insert POSTs the document once, or not at all, and says what became of it.
// It never repeats: Answer.Again asks the caller to.
//
// When ctx ends first, the Reason is "cancelled": not_sent if the request was
// not written to its end, else unknown.
func (c *Client) Insert(ctx context.Context, auth Authorization, document []byte) Answer {
	o := c.exchange(ctx, maxBody, request{body: document, head: head{
		method: http.MethodPost, target: c.target, authorization: auth.header, contentType: "application/json",
	}})
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
