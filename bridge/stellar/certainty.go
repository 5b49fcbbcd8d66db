package stellar

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http/httptrace"
	"sync/atomic"
)

// evidence is what httptrace saw of one attempt.
//
// Over HTTP/1.1 the transport waits for its writer before it returns an
// error, so all that was written has been seen by then. WroteRequest comes
// before the last flush: what never left the buffer counts as written, which
// errs toward unknown, the side on which nothing is lost. The hooks of a dial
// may run later, in other goroutines, and for another request; hence atomics.
type evidence struct {
	handshaking atomic.Bool // a TLS handshake began: without a connection, it failed
	connected   atomic.Bool
	began       atomic.Bool // the headers were written
	written     atomic.Bool // the whole request was
}

func (e *evidence) watch(ctx context.Context) context.Context {
	return httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		TLSHandshakeStart: func() { e.handshaking.Store(true) },
		GotConn:           func(httptrace.GotConnInfo) { e.connected.Store(true) },
		WroteHeaders:      func() { e.began.Store(true) },
		WroteRequest: func(info httptrace.WroteRequestInfo) {
			if info.Err == nil {
				e.written.Store(true)
			}
		},
	})
}

// errAttemptTimeout is the cause with which an attempt's own deadline ends it,
// to tell it from the caller's.
var errAttemptTimeout = errors.New("no answer within the timeout of one attempt")

// errProxyRefused is a proxy's answer to CONNECT other than 200.
var errProxyRefused = errors.New("the proxy does not connect us")

// failed is the outcome of an attempt that ended with err before its answer
// was complete. ctx is the attempt's own, ended by the caller or its deadline.
func (e *evidence) failed(ctx context.Context, err error) outcome {
	o := outcome{began: e.began.Load(), written: e.written.Load(), err: err}
	switch cause := context.Cause(ctx); {
	case cause == errAttemptTimeout:
		o.failure, o.err = ReasonTimeout, errAttemptTimeout
	case cause != nil:
		o.failure, o.err = ReasonCancelled, cause
	case o.written:
		o.failure, o.err = ReasonConnectionLost, ofConnection(err)
	case o.began:
		o.failure, o.err = ReasonWriteFailed, ofConnection(err)
	case e.connected.Load():
		o.failure, o.err = ReasonConnectionLost, ofConnection(err)
	default:
		o.failure = e.connectFailure(err)
	}
	return o
}

// connectFailure tells apart why there is no connection.
func (e *evidence) connectFailure(err error) string {
	var op *net.OpError
	var dns *net.DNSError
	switch isOp := errors.As(err, &op); {
	case errors.Is(err, errProxyRefused), isOp && op.Op == "proxyconnect":
		return ReasonProxyFailed
	case errors.As(err, &dns):
		return ReasonDNSFailed
	case e.handshaking.Load():
		return ReasonTLSFailed
	}
	return ReasonDialFailed
}

// errNotHTTP takes the place of errors that may quote what the server wrote.
var errNotHTTP = errors.New("the connection was closed, or what came over it is no HTTP answer")

// ofConnection keeps the errors of a connection whose text is known to hold
// no bytes of the answer.
func ofConnection(err error) error {
	var op *net.OpError
	switch {
	case errors.As(err, &op):
		return op
	case errors.Is(err, io.ErrUnexpectedEOF):
		return io.ErrUnexpectedEOF
	case errors.Is(err, io.EOF):
		return io.EOF
	}
	return errNotHTTP
}
