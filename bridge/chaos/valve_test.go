package main

import (
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"time"
)

// A harm that hits nobody, or everybody, would prove nothing about one member that is cut off alone.
func TestOnlyTheMemberNamedIsCutOff(t *testing.T) {
	v := &valve{}
	broker, err := v.listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer broker.Close()
	go echo(broker)
	dial := func() net.Conn {
		c, err := net.Dial("tcp", broker.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		return c
	}
	one, other := dial(), dial()
	answers := func(c net.Conn, member string, within time.Duration) error {
		sent := append(make([]byte, 12), binary.BigEndian.AppendUint16(nil, uint16(len(member)))...)
		sent = append(sent, member...)
		_, _ = c.Write(sent[:5]) // as a segment may end anywhere
		_, _ = c.Write(sent[5:])
		_ = c.SetReadDeadline(time.Now().Add(within))
		_, err := io.ReadFull(c, sent)
		return err
	}
	all := func(when string) {
		t.Helper()
		for c, member := range map[net.Conn]string{one: "one", other: "other"} {
			if err := answers(c, member, time.Minute); err != nil {
				t.Fatalf("%s, %s: %v", when, member, err)
			}
		}
	}
	all("before")
	v.isolate("one", true)
	if err := answers(one, "one", 20*time.Millisecond); err == nil {
		t.Error("a member that is cut off gets an answer")
	}
	if err := answers(other, "other", time.Minute); err != nil {
		t.Errorf("so is another: %v", err)
	}
	v.heal()
	underway := make([]byte, 14+len("one"))
	_ = one.SetReadDeadline(time.Now().Add(time.Minute))
	if _, err := io.ReadFull(one, underway); err != nil { // left there it would be the next answer
		t.Fatalf("what was held back: %v", err)
	}
	all("healed")
	v.isolate("one", false)
	for _, c := range []net.Conn{one, dial()} {
		if err := answers(c, "one", time.Minute); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("connection of a member that is cut off: %v, not broken", err)
		}
	}
	if err := answers(other, "other", time.Minute); err != nil {
		t.Errorf("so is another: %v", err)
	}
}
