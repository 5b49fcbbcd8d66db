package stellar

import (
	"context"
	"crypto/x509"
	"net/http"
	"time"
)

// Reached is what is to be seen of a platform without a credential.
type Reached struct {
	Certificate *x509.Certificate // its own, the first of the chain; nil without TLS
	Date        time.Time         // its clock, to a second; zero if it does not say
	Took        time.Duration     // until the answer was here
}

// Reach asks the platform for its start page, without a credential: whether
// name, connection, proxy and certificate are well, whatever the answer. When
// ok is false, why has the Reason and the error.
func (c *Client) Reach(ctx context.Context) (r Reached, why Answer, ok bool) {
	begun := time.Now()
	o := c.exchange(ctx, keptBody, request{head: head{method: http.MethodGet, target: "/"}})
	if o.status == 0 {
		why = judge(o, SuccessID, time.Now())
		why.Err = c.clean(describe("reach the platform", why, o))
		return Reached{}, why, false
	}
	r = Reached{Certificate: o.certificate, Took: time.Since(begun)}
	if date, err := http.ParseTime(o.said.date); err == nil {
		r.Date = date
	}
	return r, Answer{}, true
}
