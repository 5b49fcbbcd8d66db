//go:build unix

package stellar

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"sync/atomic"
	"syscall"
	"testing"
)

// dialled hands on the sockets that cfg opens.
func dialled(cfg *Config) <-chan net.Conn {
	sockets := make(chan net.Conn, 100)
	cfg.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
		socket, err := new(net.Dialer).DialContext(ctx, network, addr)
		if err == nil {
			sockets <- socket
		}
		return socket, err
	}
	return sockets
}

// awaitBytes waits until something can be read from socket, be it the end.
func awaitBytes(t *testing.T, socket net.Conn) {
	t.Helper()
	raw, err := socket.(syscall.Conn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	err = raw.Read(func(fd uintptr) bool {
		_, _, err := syscall.Recvfrom(int(fd), make([]byte, 1), syscall.MSG_PEEK)
		return err != syscall.EAGAIN
	})
	if err != nil {
		t.Fatal(err)
	}
}

// What a server says while a connection is idle must be seen before the next
// document is written, whose fate were unknown otherwise.
func TestConnectionEndedWhileIdleTakesNoDocument(t *testing.T) {
	ends := map[string]func(c, socket net.Conn){
		"closed":        func(c, _ net.Conn) { c.Close() },
		"end of stream": func(_, socket net.Conn) { _ = socket.(*net.TCPConn).CloseWrite() },
		"reset":         func(_, socket net.Conn) { reset(socket); socket.Close() },
		"complaint":     func(c, _ net.Conn) { fmt.Fprint(c, "HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n") },
		"farewell of TLS": func(c, _ net.Conn) {
			if secure, ok := c.(*tls.Conn); ok {
				_ = secure.CloseWrite()
				return
			}
			c.Close()
		},
	}
	for network, serve := range map[string]func(*testing.T, func(c, socket net.Conn)) Config{
		"TCP": func(t *testing.T, f func(c, socket net.Conn)) Config { return raw(t, func(c net.Conn) { f(c, c) }) },
		"TLS 1.2": func(t *testing.T, f func(c, socket net.Conn)) Config {
			return rawTLS(t, &tls.Config{MaxVersion: tls.VersionTLS12}, f)
		},
		"TLS 1.3": func(t *testing.T, f func(c, socket net.Conn)) Config { return rawTLS(t, &tls.Config{}, f) },
		"TLS 1.3, without tickets": func(t *testing.T, f func(c, socket net.Conn)) Config {
			return rawTLS(t, &tls.Config{SessionTicketsDisabled: true}, f)
		},
	} {
		for name, end := range ends {
			t.Run(network+", "+name, func(t *testing.T) {
				var connections atomic.Int32
				idle := make(chan struct{})
				cfg := serve(t, func(c, socket net.Conn) {
					first := connections.Add(1) == 1
					b := bufio.NewReader(c)
					for answer(c, b) == nil {
						if first {
							<-idle
							end(c, socket)
						}
					}
				})
				sockets := dialled(&cfg)
				cfg.Auth = AuthBasic
				c := client(t, cfg)
				first := insertOnce(t.Context(), t, c, doc)
				close(idle)
				awaitBytes(t, <-sockets)
				second := insertOnce(t.Context(), t, c, doc)
				if first.Verdict != Delivered || second.Verdict != Delivered {
					t.Fatalf("got %s, then %s (%v)", summary(first), summary(second), second.Err)
				}
				if n := connections.Load(); n != 2 {
					t.Errorf("two documents over %d connections, want 2", n)
				}
			})
		}
	}
}
