//go:build unix

package stellar

import (
	"net"
	"syscall"
	"time"
)

// quiet returns a func that reports whether nothing waits to be read from the
// socket, not even its end. It looks without taking anything and without
// waiting: nobody reads a connection between two answers.
func quiet(socket net.Conn) func(deadline time.Time) bool {
	s, ok := socket.(syscall.Conn)
	if !ok {
		return quietPipe(socket)
	}
	raw, err := s.SyscallConn()
	if err != nil {
		return func(time.Time) bool { return false }
	}
	var b [1]byte
	var empty bool
	peek := func(fd uintptr) bool {
		_, _, err := syscall.Recvfrom(int(fd), b[:], syscall.MSG_PEEK)
		empty = err == syscall.EAGAIN || err == syscall.EWOULDBLOCK
		return true
	}
	return func(time.Time) bool { return raw.Read(peek) == nil && empty }
}
