package stellar

import (
	"bufio"
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"os"
	"time"

	"github.com/valyala/fasthttp"
)

// request is one call of the platform.
type request struct {
	head
	body []byte
}

// head is all of a request but its body: for a document what it was for the
// one before.
type head struct {
	method        string
	target        string // escaped path, with its query
	authorization string // empty: none is sent
	contentType   string
}

// connection is one to the platform. An attempt has it for itself, and does in
// its own goroutine all that is done with it: so what it knows of how far the
// request got is exact. And no goroutine waits for another on the way, which
// with net/http's client costs a document as much as its transform. The
// parsing of HTTP/1.1 is fasthttp's.
type connection struct {
	net.Conn // over TLS, if there is any

	socket      net.Conn                      // below it
	host        string                        // of the platform, as a request names it
	agent       string                        // the User-Agent
	forward     *forward                      // of plain HTTP through a proxy; else nil
	certificate *x509.Certificate             // the platform's own; nil without TLS
	quiet       func(deadline time.Time) bool // whether nothing waits to be read, not even the end

	in     *bufio.Reader          // of Read
	out    *bufio.Writer          // to Write
	last   head                   // of the request before
	header fasthttp.RequestHeader // for HTTP, of last
	answer fasthttp.ResponseHeader
	began  bool      // something of the request was written
	lost   error     // with which Read ended; what parsers make of it may quote what was read
	full   bool      // Read got all that it asked for, and TLS may hold the rest of it
	since  time.Time // idle since
}

const (
	answerBuffer = 4 << 10
	longestHead  = 64 << 10 // of an answer
	// earlyAnswer is time enough to read what has come already.
	earlyAnswer = 10 * time.Millisecond
)

// Read notes the error that ends it, and whether there may be more.
func (c *connection) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.lost, c.full = err, n == len(b)
	return n, err
}

// Write notes whether something was written.
func (c *connection) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	c.began = c.began || n > 0
	return n, err
}

// close ends an idle connection.
func (c *connection) close() { _ = c.Conn.Close() }

// drop ends one that carries no more requests, without the farewell of TLS,
// which waits up to 5 s for a server that reads nothing.
func (c *connection) drop() { _ = c.socket.Close() }

// untouched reports whether the connection is as it was after its last answer.
// What the server sent beyond that, an end or a complaint, answers no request
// of ours. The deadline, set already, is that of the next attempt.
func (c *connection) untouched(deadline time.Time) bool {
	return c.in.Buffered() == 0 && (!c.full || quietPipe(c.Conn)(deadline)) && !held(c.Conn) && c.quiet(deadline)
}

// attempt sends the request and reads its answer up to limit bytes. again is
// whether the connection can carry another.
func (c *connection) attempt(ctx context.Context, r request, limit int64) (o outcome, again bool) {
	stop := endWith(ctx, c)
	// Once ctx has ended, its func may come at any time: the next attempt must not meet it.
	defer func() { again = stop() && again }()
	c.began, c.lost = false, nil
	o.certificate = c.certificate
	err := c.send(r)
	o.began, o.written = c.began, err == nil
	if err = c.hear(ctx, err); err != nil {
		return o.failed(ctx, err), false
	}
	o.status = c.answer.StatusCode()
	o.said = said{date: string(c.answer.Peek("Date")), contentType: string(c.answer.ContentType()), retryAfter: string(c.answer.Peek("Retry-After"))}
	body, whole, err := c.body(limit)
	if o.body = body; err != nil {
		return o.failed(ctx, err), false
	}
	return o, whole && o.written && !c.answer.ConnectionClose()
}

// longAgo is the deadline that ends what is under way.
var longAgo = time.Unix(1, 0)

// endWith ends what is under way on conn when ctx ends; stop is that of
// context.AfterFunc.
func endWith(ctx context.Context, conn net.Conn) (stop func() bool) {
	return context.AfterFunc(ctx, func() { _ = conn.SetDeadline(longAgo) })
}

// send writes the request to its end, or fails.
func (c *connection) send(r request) error {
	if r.head != c.last {
		c.compose(r.head)
	}
	if r.method != http.MethodGet {
		c.header.SetContentLength(len(r.body))
	}
	c.out.Reset(c)
	if err := c.header.Write(c.out); err != nil {
		return err
	}
	if _, err := c.out.Write(r.body); err != nil {
		return err
	}
	return c.out.Flush()
}

func (c *connection) compose(r head) {
	h := &c.header
	h.Reset()
	h.SetMethod(r.method)
	h.SetRequestURI(r.target)
	h.SetHost(c.host)
	h.SetUserAgent(c.agent)
	h.Set("Accept", "application/json")
	if r.authorization != "" {
		h.Set("Authorization", r.authorization)
	}
	if r.method != http.MethodGet {
		h.SetContentType(r.contentType)
	}
	if c.forward != nil {
		c.forward.mark(h)
	}
	c.last = r
}

// hear reads the head of the answer. After a request that could not be sent to
// its end there is one if the server refused it early, as too large for instance.
func (c *connection) hear(ctx context.Context, unsent error) error {
	if unsent != nil {
		if ctx.Err() != nil || c.SetReadDeadline(time.Now().Add(earlyAnswer)) != nil {
			return unsent
		}
	}
	for {
		err := c.readHead()
		switch {
		case err != nil && tooLong(err) && c.in.Size() < longestHead:
			c.makeRoom()
		case unsent != nil && err != nil:
			return unsent
		case err != nil:
			return c.ended()
		case c.answer.StatusCode() >= 200, c.answer.StatusCode() == http.StatusSwitchingProtocols:
			return nil
		}
	}
}

// tooLong reports whether a head did not fit in the buffer; what was read of it
// is still there.
func tooLong(err error) bool {
	var small *fasthttp.ErrSmallBuffer
	return errors.As(err, &small)
}

// readHead reads one head. An answer begins with a status from 100: fasthttp
// takes 000 for a 200.
func (c *connection) readHead() error {
	const version = len("HTTP/1.1 ")
	switch start, err := c.in.Peek(version + 1); {
	case err != nil:
		return err
	case string(start[:len("HTTP/1.")]) != "HTTP/1.", start[version-1] != ' ', start[version] < '1', start[version] > '9':
		return errNotHTTP
	}
	return c.answer.Read(c.in)
}

// makeRoom is for a head that is longer than the buffer. What was read already
// is read again, and nothing stays in the small buffer, where it were not seen.
func (c *connection) makeRoom() {
	begun, _ := c.in.Peek(c.in.Buffered())
	c.in = bufio.NewReaderSize(io.MultiReader(bytes.NewReader(begun), c), longestHead)
}

// body reads the body of the answer up to limit bytes. whole is whether that
// was its end, known without the end of the connection.
func (c *connection) body(limit int64) (body []byte, whole bool, err error) {
	status, length := c.answer.StatusCode(), int64(c.answer.ContentLength())
	switch {
	case status == http.StatusSwitchingProtocols:
		return nil, false, nil // what follows is no body, and may never end
	case status == http.StatusNoContent, status == http.StatusNotModified:
		return nil, true, nil
	case length >= 0:
		body, err = readLength(c.in, min(length, limit))
		whole = length <= limit
	case length == -1:
		body, err = io.ReadAll(io.LimitReader(httputil.NewChunkedReader(c.in), limit))
		if int64(len(body)) < limit && err == nil {
			whole = c.answer.ReadTrailer(c.in) == nil // the body is, whatever follows it
		}
	default:
		body, err = io.ReadAll(io.LimitReader(c.in, limit))
	}
	if err != nil {
		err = c.ended()
	}
	return body, whole, err
}

// readLength reads n bytes. Most answers are short; for more than that, memory
// is taken as the bytes come.
func readLength(r io.Reader, n int64) ([]byte, error) {
	const short = 4 << 10
	if n > short {
		body, err := io.ReadAll(io.LimitReader(r, n))
		if err == nil && int64(len(body)) < n {
			err = io.ErrUnexpectedEOF
		}
		return body, err
	}
	body := make([]byte, n)
	read, err := io.ReadFull(r, body)
	return body[:read], err
}

// errNotHTTP takes the place of errors that may quote what the server wrote.
var errNotHTTP = errors.New("what came over the connection is no HTTP answer")

// ended is why an answer could not be read.
func (c *connection) ended() error {
	switch c.lost {
	case nil:
		return errNotHTTP
	case io.EOF:
		return io.ErrUnexpectedEOF
	}
	return c.lost
}

// quietPipe is quiet for a connection without a socket, net.Pipe's for
// instance: its end is seen even after the deadline, which is set again.
func quietPipe(conn net.Conn) func(deadline time.Time) bool {
	return func(deadline time.Time) bool {
		if conn.SetReadDeadline(longAgo) != nil {
			return false
		}
		_, err := conn.Read(make([]byte, 1))
		return errors.Is(err, os.ErrDeadlineExceeded) && conn.SetReadDeadline(deadline) == nil
	}
}
