package main

import (
	"encoding/binary"
	"net"
	"sync"
)

// valve stands before the embedded broker, or the proxy to a real one: shut, it
// cuts every connection, before the embedded one the harness's own as well, and
// lets none through; frozen, it holds what the broker answers. One member can be
// cut off alone.
type valve struct {
	mu     sync.Mutex
	shut   bool
	thawed chan struct{} // closed by thaw; nil: not frozen
	alone  *alone        // nil: nobody is
	conns  []*valveConn
}

// alone is one member that is cut off from the broker.
type alone struct {
	member string
	silent bool          // nothing arrives and nothing ends, as when a switch fails; else its connections break
	healed chan struct{} // closed by heal
}

func (v *valve) listen(network, addr string) (net.Listener, error) {
	ln, err := net.Listen(network, addr)
	return valveListener{ln, v}, err
}

type valveListener struct {
	net.Listener
	v *valve
}

func (l valveListener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if vc := l.v.admit(c); vc != nil {
			return vc, nil
		}
		c.Close()
	}
}

func (v *valve) admit(c net.Conn) *valveConn {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.shut {
		return nil
	}
	vc := &valveConn{Conn: c, v: v}
	v.conns = append(v.conns, vc)
	return vc
}

// valveConn is a connection that the valve lets through.
type valveConn struct {
	net.Conn
	v *valve

	mu     sync.Mutex
	head   []byte // of the first request, until it names the client
	member string // the client id; empty: not known yet
}

// Read holds back what a member that is cut off sends.
func (c *valveConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if off := c.v.cutOff(c.learn(b[:n])); off != nil && !c.outlast(off) {
		return 0, net.ErrClosed
	}
	return n, err
}

// Write holds back what the broker answers.
func (c *valveConn) Write(b []byte) (int, error) {
	c.v.mu.Lock()
	thawed := c.v.thawed
	c.v.mu.Unlock()
	if thawed != nil {
		<-thawed
	}
	if off := c.v.cutOff(c.learn(nil)); off != nil && !c.outlast(off) {
		return 0, net.ErrClosed
	}
	return c.Conn.Write(b)
}

// outlast waits until the member is no longer cut off; false: the connection is
// broken instead.
func (c *valveConn) outlast(off *alone) bool {
	if !off.silent {
		c.Close()
		return false
	}
	<-off.healed
	return true
}

// learn takes the client id from the first request: size, key, version and
// correlation id are 12 bytes, its length two (request header v1 and v2,
// https://kafka.apache.org/protocol).
func (c *valveConn) learn(sent []byte) string {
	const at = 14
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.member != "" {
		return c.member
	}
	c.head = append(c.head, sent...)
	if len(c.head) < at {
		return ""
	}
	if end := at + int(binary.BigEndian.Uint16(c.head[at-2:])); len(c.head) >= end {
		c.member, c.head = string(c.head[at:end]), nil
	}
	return c.member
}

func (v *valve) cutOff(member string) *alone {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.alone == nil || v.alone.member != member {
		return nil
	}
	return v.alone
}

// isolate cuts one member off, until heal.
func (v *valve) isolate(member string, silent bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.alone = &alone{member: member, silent: silent, healed: make(chan struct{})}
	for _, c := range v.conns {
		if !silent && c.learn(nil) == member {
			c.Close()
		}
	}
}

// heal lets a silent connection go on where it was, as TCP does.
func (v *valve) heal() {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.alone != nil {
		close(v.alone.healed)
		v.alone = nil
	}
}

func (v *valve) freeze() {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.thawed == nil {
		v.thawed = make(chan struct{})
	}
}

func (v *valve) thaw() {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.thawed != nil {
		close(v.thawed)
		v.thawed = nil
	}
}

func (v *valve) close() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.shut = true
	for _, c := range v.conns {
		c.Close()
	}
	v.conns = nil
}

func (v *valve) open() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.shut = false
}
