package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
)

// proxy carries the members' connections to a real broker's listener that names
// the proxy as its address. A valve stands before it.
type proxy struct {
	front  net.Listener
	broker string
	wg     sync.WaitGroup // of carry and what it started
}

// startProxy takes ports as TEST_KAFKA_PROXIED gives them: its own, "=", that
// of the broker's listener, both on loopback.
func startProxy(ports string, v *valve) (*proxy, error) {
	own, broker, ok := strings.Cut(ports, "=")
	if !ok {
		return nil, fmt.Errorf("start proxy: %q is not listen-port=broker-port", ports)
	}
	front, err := v.listen("tcp", net.JoinHostPort("127.0.0.1", own))
	if err != nil {
		return nil, fmt.Errorf("start proxy: %w", err)
	}
	p := &proxy{front: front, broker: net.JoinHostPort("127.0.0.1", broker)}
	p.wg.Go(p.accept)
	return p, nil
}

func (p *proxy) accept() {
	for {
		c, err := p.front.Accept()
		if err != nil {
			return
		}
		p.wg.Go(func() { p.carry(c) })
	}
}

// carry copies both ways until either side ends.
func (p *proxy) carry(member net.Conn) {
	defer member.Close()
	broker, err := net.Dial("tcp", p.broker)
	if err != nil {
		return
	}
	defer broker.Close()
	p.wg.Go(func() {
		_, _ = io.Copy(broker, member) // how it ended does not matter: both are closed
		broker.Close()
	})
	_, _ = io.Copy(member, broker)
}

// close ends the proxy, once the valve has cut what it carries.
func (p *proxy) close() error {
	err := p.front.Close()
	p.wg.Wait()
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}
