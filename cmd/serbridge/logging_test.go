package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"serbridge/bridge/secret"
)

func TestLogForm(t *testing.T) {
	for _, c := range []struct {
		format   string
		terminal bool
		want     string // beginning of the line
	}{
		{"", false, `{"time":`}, {"", true, "time="}, {"json", true, `{"time":`}, {"text", false, "time="},
	} {
		var b bytes.Buffer
		newLogger(&b, processSettings{LogFormat: c.format, LogLevel: "info"}, c.terminal, nil).Info("started")
		if !strings.HasPrefix(b.String(), c.want) {
			t.Errorf("LOG_FORMAT=%q, terminal %t: got %q", c.format, c.terminal, b.String())
		}
	}
}

func TestLogLevel(t *testing.T) {
	for _, c := range []struct {
		level string
		lines int
	}{{"debug", 4}, {"info", 3}, {"warn", 2}, {"error", 1}, {"", 3}} {
		var b bytes.Buffer
		l := newLogger(&b, processSettings{LogLevel: c.level}, false, nil)
		l.Debug("a")
		l.Info("b")
		l.Warn("c")
		l.Error("d")
		if got := strings.Count(b.String(), "\n"); got != c.lines {
			t.Errorf("LOG_LEVEL=%s: %d lines, want %d", c.level, got, c.lines)
		}
	}
}

// TestLogShowsNoSecret: neither our logger nor a Kafka client's.
func TestLogShowsNoSecret(t *testing.T) {
	const key = "k3y-0123456789"
	red := new(secret.Redactor)
	red.Add(key)
	for _, format := range []string{"json", "text"} {
		var b bytes.Buffer
		l := newLogger(&b, processSettings{LogFormat: format}, false, red)
		l.With("with", key).WithGroup("g").Error("message "+key, "attr", key, "err", errors.New("error "+key))
		newKafkaLogger(l).Log(kgo.LogLevelError, "message "+key, "broker", "1", "err", errors.New("error "+key))
		if strings.Contains(b.String(), key) || !strings.Contains(b.String(), "[redacted]") {
			t.Errorf("%s: got %s", format, b.String())
		}
	}
}

type line struct {
	Time     time.Time
	Msg      string
	Broker   string
	Err      string
	Repeated int
}

func lines(t *testing.T, b *bytes.Buffer) (all []line) {
	t.Helper()
	for d := json.NewDecoder(b); d.More(); {
		var l line
		if err := d.Decode(&l); err != nil {
			t.Fatal(err)
		}
		all = append(all, l)
	}
	return all
}

// TestBrokerOutageDoesNotFloodTheLog runs a real client whose brokers cannot be reached for five minutes.
func TestBrokerOutageDoesNotFloodTheLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b bytes.Buffer
		client, err := kgo.NewClient(
			kgo.SeedBrokers("a:9092", "b:9092"), kgo.ConsumeTopics("t"),
			kgo.Dialer(func(context.Context, string, string) (net.Conn, error) { return nil, errors.New("refused") }),
			kgo.WithLogger(newKafkaLogger(slog.New(slog.NewJSONHandler(&b, nil)))),
		)
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(5 * time.Minute)
		client.Close()
		synctest.Wait()

		last := make(map[failure]time.Time)
		said, repeated := 0, 0
		for _, l := range lines(t, &b) {
			if l.Broker == "" || l.Err == "" {
				continue
			}
			f := failure{l.Broker, l.Msg}
			if at, ok := last[f]; ok && l.Time.Sub(at) < time.Minute {
				t.Errorf("%q of broker %s said again after %s", l.Msg, l.Broker, l.Time.Sub(at))
			}
			last[f] = l.Time
			said++
			repeated += l.Repeated
		}
		if said < 4 || repeated < 10 {
			t.Errorf("%d failures said, %d counted as repeated: the outage is hidden", said, repeated)
		}
	})
}

// TestRepeatedFailureIsCounted walks through two minutes of one failure, with everything that must pass at once.
func TestRepeatedFailureIsCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b bytes.Buffer
		l := newKafkaLogger(slog.New(slog.NewJSONHandler(&b, &slog.HandlerOptions{Level: slog.LevelDebug})))
		fail := func(broker string) {
			l.Log(kgo.LogLevelWarn, "unable to open", "broker", broker, "err", errors.New("refused"))
		}
		expect := func(step string, want ...line) {
			t.Helper()
			got := lines(t, &b)
			if len(got) != len(want) {
				t.Fatalf("%s: got %+v, want %+v", step, got, want)
			}
			for i, g := range got {
				if g.Broker != want[i].Broker || g.Repeated != want[i].Repeated {
					t.Errorf("%s: got %+v, want %+v", step, g, want[i])
				}
			}
		}
		fail("1")
		fail("1")
		fail("2")
		expect("first", line{Broker: "1"}, line{Broker: "2"})
		time.Sleep(time.Minute - 1)
		fail("1")
		expect("within the minute")
		time.Sleep(time.Nanosecond)
		fail("1")
		expect("after the minute", line{Broker: "1", Repeated: 2})
		time.Sleep(time.Minute)
		fail("1")
		expect("nothing held back", line{Broker: "1"})
		for range 2 {
			l.Log(kgo.LogLevelInfo, "no broker", "err", errors.New("x"))
			l.Log(kgo.LogLevelInfo, "no failure", "broker", "1")
			l.Log(kgo.LogLevelDebug, "unable to open", "broker", "1", "err", errors.New("refused"))
		}
		expect("others pass", line{}, line{Broker: "1"}, line{Broker: "1"}, line{}, line{Broker: "1"}, line{Broker: "1"})
	})
}

// TestFailureMemoryIsBounded: a cluster whose broker ids never repeat fills no memory.
func TestFailureMemoryIsBounded(t *testing.T) {
	var s saidFailures
	for i := range 10 * maxFailures {
		s.again(failure{broker: string(rune(i))}, time.Now())
		if len(s.last) > maxFailures {
			t.Fatalf("%d failures remembered", len(s.last))
		}
	}
}
