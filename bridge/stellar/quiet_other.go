//go:build !unix

package stellar

import (
	"net"
	"time"
)

// quiet returns a func that reports whether nothing waits to be read from the
// socket, as far as that can be told here.
func quiet(socket net.Conn) func(deadline time.Time) bool { return quietPipe(socket) }
