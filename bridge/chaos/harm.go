package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"syscall"
	"time"

	"serbridge/bridge/pause"
	"serbridge/bridge/stellar/stellartest"
)

const (
	session    = 6 * time.Second  // of the members, as add sets it
	stopWait   = 30 * time.Second // drain, last commit and leave take less after SIGTERM
	settleWait = 3 * time.Minute
)

// harms are what can happen, each about as often as it stands here.
var harms = []struct {
	name  string
	often int
	do    func(*world, context.Context, *rand.Rand) error
}{
	{"kill", 3, (*world).kill},
	{"restart", 3, (*world).restart},
	{"add", 1, (*world).grow},
	{"remove", 1, (*world).shrink},
	{"freeze", 1, (*world).freeze},
	{"cut broker", 1, (*world).cutBroker},
	{"cut one member off", 2, (*world).cutMemberOff},
	{"freeze broker", 1, (*world).freezeBrokerBriefly},
	{"cut API", 2, (*world).cutAPI},
	{"slow API", 2, (*world).slowAPI},
	{"revoke tokens", 1, (*world).revokeTokens},
}

// harm produces and does one harm after another until the time is over.
func (w *world) harm(ctx context.Context, rng *rand.Rand) error {
	total := 0
	for _, h := range harms {
		total += h.often
	}
	end := time.Now().Add(w.o.duration)
	for time.Now().Before(end) && ctx.Err() == nil {
		if err := w.produceFor(ctx, time.Duration(500+rng.IntN(2000))*time.Millisecond); err != nil {
			return err
		}
		at := rng.IntN(total)
		for _, h := range harms {
			if at -= h.often; at < 0 {
				w.say("%s", h.name)
				if err := h.do(w, ctx, rng); err != nil {
					return fmt.Errorf("%s: %w", h.name, err)
				}
				break
			}
		}
	}
	return ctx.Err()
}

func (w *world) say(format string, args ...any) {
	if !w.o.quiet {
		l := w.api.Ledger()
		fmt.Printf("%7d produced %7d stored %5d again   %s\n", w.produced, l.Distinct, l.Repeats, fmt.Sprintf(format, args...))
	}
}

// produceFor produces at the rate for so long.
func (w *world) produceFor(ctx context.Context, d time.Duration) error {
	const step = 100 * time.Millisecond
	for end := time.Now().Add(d); time.Now().Before(end); {
		if err := w.produce(ctx, max(1, w.o.rate/int(time.Second/step))); err != nil {
			return err
		}
		if err := pause.For(ctx, step); err != nil {
			return err
		}
	}
	return nil
}

func (w *world) kill(_ context.Context, rng *rand.Rand) error {
	if err := w.killMember(rng.IntN(len(w.members))); err != nil {
		return err
	}
	return w.add()
}

// killMember ends one by kill -9.
func (w *world) killMember(i int) error {
	m := w.remove(i)
	w.kills++
	if err := m.cmd.Process.Kill(); err != nil {
		return err
	}
	<-m.done
	return nil
}

func (w *world) restart(ctx context.Context, rng *rand.Rand) error {
	if err := w.shrinkBy(ctx, rng.IntN(len(w.members))); err != nil {
		return err
	}
	return w.add()
}

func (w *world) grow(context.Context, *rand.Rand) error {
	if len(w.members) > w.o.members+1 {
		return nil
	}
	return w.add()
}

func (w *world) shrink(ctx context.Context, rng *rand.Rand) error {
	if len(w.members) < 2 {
		return nil
	}
	return w.shrinkBy(ctx, rng.IntN(len(w.members)))
}

func (w *world) shrinkBy(ctx context.Context, i int) error {
	m := w.remove(i)
	if err := m.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	if err := w.awaitEnd(ctx, m); err != nil {
		return err
	}
	if m.err != nil {
		return fmt.Errorf("%s ended with %w", m.name, m.err)
	}
	return nil
}

func (w *world) awaitEnd(ctx context.Context, m *member) error {
	for end := time.Now().Add(stopWait); time.Now().Before(end); {
		if err := w.produce(ctx, w.o.rate/20); err != nil {
			return err
		}
		select {
		case <-m.done:
			return nil
		case <-time.After(50 * time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	_ = m.cmd.Process.Signal(syscall.SIGQUIT) // its goroutines go into its log
	<-m.done
	return fmt.Errorf("%s still ran %v after SIGTERM", m.name, stopWait)
}

// freeze stops a member as a paused machine does. Beyond its session it is as
// good as killed: what it had settled and not committed may be sent again.
func (w *world) freeze(ctx context.Context, rng *rand.Rand) error {
	m := w.members[rng.IntN(len(w.members))]
	d := time.Duration(rng.Int64N(int64(2 * session)))
	if d > session/2 {
		w.kills++
	}
	if err := m.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		return err
	}
	err := w.produceFor(ctx, d)
	return errors.Join(err, m.cmd.Process.Signal(syscall.SIGCONT))
}

// cutBroker cuts all members from the broker. A commit whose answer was cut
// off may be lost while partitions move, so it counts as a kill of each.
func (w *world) cutBroker(ctx context.Context, rng *rand.Rand) error {
	if w.valve == nil {
		return nil // a real broker that cannot be cut off
	}
	w.kills += len(w.members)
	w.valve.close()
	err := pause.For(ctx, time.Duration(200+rng.IntN(2000))*time.Millisecond)
	w.valve.open()
	return err
}

// cutMemberOff cuts one member from the broker, for less than a session or for
// more: then it must not deliver what another has taken over.
func (w *world) cutMemberOff(ctx context.Context, rng *rand.Rand) error {
	m, silent := w.members[rng.IntN(len(w.members))], rng.IntN(2) == 0
	d := time.Duration(rng.Int64N(int64(2 * session)))
	if w.valve == nil {
		return nil // a real broker that cannot be cut off
	}
	w.kills++ // for its last commits
	w.say("%s for %v, silently: %t", m.name, d.Round(time.Millisecond), silent)
	w.valve.isolate(m.name, silent)
	defer w.valve.heal()
	return w.produceFor(ctx, d)
}

// freezeBrokerBriefly has it answer nothing for less than a session: members
// wait at their bound, and nothing is repeated.
func (w *world) freezeBrokerBriefly(ctx context.Context, rng *rand.Rand) error {
	if !w.freezeBroker() {
		return nil
	}
	defer w.thawBroker()
	return pause.For(ctx, time.Duration(200+rng.IntN(2000))*time.Millisecond)
}

func (w *world) cutAPI(ctx context.Context, rng *rand.Rand) error {
	if err := w.serving.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
		return err
	}
	err := w.produceFor(ctx, time.Duration(200+rng.IntN(3000))*time.Millisecond)
	var again error
	w.serving, again = w.api.Start(w.addr)
	return errors.Join(err, again)
}

func (w *world) slowAPI(ctx context.Context, rng *rand.Rand) error {
	median := time.Duration(10+rng.IntN(300)) * time.Millisecond
	if err := w.api.SetFaults(stellartest.Faults{Latency: stellartest.Latency{Median: median, P99: 4 * median}}); err != nil {
		return err
	}
	err := w.produceFor(ctx, time.Duration(500+rng.IntN(3000))*time.Millisecond)
	return errors.Join(err, w.api.SetFaults(stellartest.Faults{}))
}

func (w *world) revokeTokens(context.Context, *rand.Rand) error {
	w.api.RevokeTokens()
	return nil
}

// settle lets the members finish in peace.
func (w *world) settle(ctx context.Context) error {
	w.say("peace")
	for end := time.Now().Add(settleWait); time.Now().Before(end); {
		left, err := w.lag(ctx)
		if err == nil && left == 0 {
			return nil
		}
		if err := pause.For(ctx, 200*time.Millisecond); err != nil {
			return err
		}
	}
	left, err := w.lag(ctx)
	return errors.Join(fmt.Errorf("%d records not settled %v after the last harm", left, settleWait), err)
}
