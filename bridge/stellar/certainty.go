package stellar

import (
	"context"
	"errors"
	"net"
	"os"
)

// errAttemptTimeout is the error of an attempt that its own deadline ended.
var errAttemptTimeout = errors.New("no answer within the timeout of one attempt")

// connectError says which step of making a connection failed.
type connectError struct {
	reason string
	error
}

func (e *connectError) Unwrap() error { return e.error }

// unconnected is the outcome of an attempt that got no connection: nothing was
// sent. ctx is of the connecting alone, ended by the caller or the attempt's
// deadline.
func unconnected(ctx context.Context, err error) outcome {
	var step *connectError
	var dns *net.DNSError
	switch cause := context.Cause(ctx); {
	case cause == errAttemptTimeout:
		return outcome{failure: ReasonTimeout, err: cause}
	case cause != nil:
		return outcome{failure: ReasonCancelled, err: cause}
	case errors.As(err, &step):
		return outcome{failure: step.reason, err: err}
	case errors.As(err, &dns):
		return outcome{failure: ReasonDNSFailed, err: err}
	}
	return outcome{failure: ReasonDialFailed, err: err}
}

// failed is the outcome o of an attempt whose connection then failed with err,
// before the answer was complete. ctx is the caller's.
//
// A request counts as written once the system has taken it to its end. What of
// that never left the machine counts as well, which errs toward unknown, the
// side on which nothing is lost.
func (o outcome) failed(ctx context.Context, err error) outcome {
	o.err = err
	switch cause := context.Cause(ctx); {
	case cause != nil:
		o.failure, o.err = ReasonCancelled, cause
	case errors.Is(err, os.ErrDeadlineExceeded):
		o.failure, o.err = ReasonTimeout, errAttemptTimeout
	case o.status != 0:
		o.failure = ReasonAnswerCutOff
	case o.began && !o.written:
		o.failure = ReasonWriteFailed
	default:
		o.failure = ReasonConnectionLost
	}
	return o
}
