package main

import (
	"fmt"
	"io"
	"net"
	"testing"
)

// echo answers with what it is sent, until the listener ends.
func echo(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go func() { _, _ = io.Copy(c, c); c.Close() }()
	}
}

// A cut that let one connection through, old or new, would prove nothing about members without a broker; one that could not
// be mended would prove less.
func TestCutLetsNothingThroughUntilItIsMended(t *testing.T) {
	broker, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer broker.Close()
	go echo(broker)
	v := &valve{}
	p, err := startProxy(fmt.Sprintf("0=%d", broker.Addr().(*net.TCPAddr).Port), v)
	if err != nil {
		t.Fatal(err)
	}
	dial := func() net.Conn {
		c, err := net.Dial("tcp", p.front.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		return c
	}
	answers := func(c net.Conn) bool {
		b := make([]byte, 1)
		_, sent := c.Write([]byte("x"))
		_, got := io.ReadFull(c, b)
		return sent == nil && got == nil
	}
	before := dial()
	if !answers(before) {
		t.Fatal("nothing gets through")
	}
	v.close()
	if answers(before) || answers(dial()) {
		t.Error("a cut lets through")
	}
	v.open()
	if answers(before) || !answers(dial()) {
		t.Error("a mended cut lets nothing new through, or what it had cut")
	}
	v.close()
	if err := p.close(); err != nil {
		t.Error(err)
	}
}
