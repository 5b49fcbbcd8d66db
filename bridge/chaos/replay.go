package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"serbridge/bridge/backfill"
	"serbridge/bridge/deadletter"
	"serbridge/bridge/pause"
	"serbridge/bridge/stellar/stellartest"
)

const runID = "proof"

// startReplay starts a process of the run.
func (w *world) startReplay() error {
	w.runID, w.commits = runID, backfill.ReplayGroup(w.group, runID)
	return w.start("replay", w.topic, "--from", "earliest", "--include-unsettled", "--run-id", runID, "--rate", "5000")
}

// proveReplay kills the only process of a replay again and again, each time resuming the run by the same command: each kill
// repeats at most MAX_REPEATS, and none does where documents are searched for before they are sent again.
func (w *world) proveReplay(ctx context.Context, rng *rand.Rand) error {
	if err := errors.Join(w.api.SetFaults(soundDelay), w.produce(ctx, w.o.records)); err != nil {
		return err
	}
	each := w.storable() / (w.o.rounds + 1)
	var kills []time.Time
	for i := range w.o.rounds {
		if err := w.startReplay(); err != nil {
			return err
		}
		if err := w.stored(ctx, i*each+each/2+rng.IntN(each/2)); err != nil {
			return err
		}
		if err := pause.For(ctx, time.Duration(rng.IntN(500))*time.Millisecond); err != nil {
			return err
		}
		if err := w.killMember(0); err != nil {
			return err
		}
		kills = append(kills, time.Now())
		w.say("kill %d: %d of %d stored, %d again so far", i+1, w.api.Ledger().Distinct, w.storable(), w.api.Ledger().Repeats)
	}
	if err := w.startReplay(); err != nil {
		return err
	}
	if err := w.ended(ctx, w.remove(0), true); err != nil {
		return err
	}
	return w.judgeReplay(kills)
}

// judgeReplay counts for each kill what it had stored again.
func (w *world) judgeReplay(kills []time.Time) error {
	again := repeatsByKill(w.api.Documents(), kills)
	worst, all := slices.Max(again), w.api.Ledger().Repeats
	counted := 0
	for _, n := range again {
		counted += n
	}
	fmt.Printf("replay: %d kills in a run of %d records, %d documents stored again in all, %d by the worst kill: %d\n", w.o.rounds, w.o.records, all, worst, again)
	if counted != all || again[len(kills)] > 0 {
		return fmt.Errorf("%d of %d documents stored again are explained by a kill", counted-again[len(kills)], all)
	}
	if worst > w.o.bound() {
		return fmt.Errorf("a kill repeated %d documents, at most %d are explained", worst, w.o.bound())
	}
	return nil
}

// afterKill is how long what a dead process had sent may take to be stored. The next one takes longer to begin.
const afterKill = 700 * time.Millisecond

// repeatsByKill counts the copies of what the process that a kill ended had sent: whichever process after it came to a
// document that no commit covered, often not the next one.
func repeatsByKill(stored []stellartest.Stored, kills []time.Time) []int {
	again, last := make([]int, len(kills)+1), make(map[string]time.Time)
	for _, d := range stored {
		if before, repeated := last[d.DeliveryKey]; repeated {
			kill := slices.IndexFunc(kills, func(at time.Time) bool { return before.Before(at.Add(afterKill)) })
			if kill < 0 {
				kill = len(kills) // no kill explains it
			}
			again[kill]++
		}
		last[d.DeliveryKey] = d.At
	}
	return again
}

// proveShared has two processes share a run, a third join and one leave by SIGTERM: nothing is lost and nothing stored again.
func (w *world) proveShared(ctx context.Context, rng *rand.Rand) error {
	if err := errors.Join(w.api.SetFaults(soundDelay), w.produce(ctx, w.o.records), w.startReplay(), w.startReplay()); err != nil {
		return err
	}
	if err := w.stored(ctx, w.o.records/4); err != nil {
		return err
	}
	if err := w.startReplay(); err != nil {
		return err
	}
	if err := w.stored(ctx, w.o.records/2); err != nil {
		return err
	}
	leaver := w.remove(rng.IntN(2))
	if err := leaver.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	if err := w.ended(ctx, leaver, false); err != nil {
		return err
	}
	for len(w.members) > 0 {
		if err := w.ended(ctx, w.remove(0), true); err != nil {
			return err
		}
	}
	n := w.api.Ledger().Repeats
	fmt.Printf("shared: two processes, a third joined, one left by SIGTERM; %d records, %d documents stored again\n", w.o.records, n)
	if n > 0 {
		return fmt.Errorf("%d documents stored again and nobody was killed", n)
	}
	return nil
}

const (
	liveLimit   = 100 // RATE_LIMIT of the live group
	besideLimit = 50  // --rate of the replay beside it
	burst       = 5   // of each, by default
)

// proveBeside replays while records flow and two members deliver at their limit: the requests of any second stay within
// what both may have.
func (w *world) proveBeside(ctx context.Context, _ *rand.Rand) error {
	half := w.o.records / 2
	if err := errors.Join(w.produce(ctx, half), w.settle(ctx)); err != nil {
		return err
	}
	again := w.storable()
	if err := w.start("replay", w.topic, "--from", "earliest", "--to", "now", "--run-id", runID, "--rate", strconv.Itoa(besideLimit)); err != nil {
		return err
	}
	replay := w.remove(len(w.members) - 1)
	if err := errors.Join(w.produce(ctx, w.o.records-half), w.ended(ctx, replay, true), w.settle(ctx)); err != nil {
		return err
	}
	l, most := w.api.Ledger(), w.api.MaxInWindow(time.Second)
	fmt.Printf("beside: %d live and %d replayed at %d and %d a second; %d requests in the fullest second, %d documents stored again\n",
		w.storable(), again, liveLimit, besideLimit, most, l.Repeats)
	if l.Distinct != w.storable()+again || l.Repeats > 0 {
		return fmt.Errorf("%d different documents stored, want %d; %d again, and nobody was killed", l.Distinct, w.storable()+again, l.Repeats)
	}
	if allowed := liveLimit*105/100 + besideLimit + 2*burst; most > allowed {
		return fmt.Errorf("%d requests in a second, at most %d are allowed", most, allowed)
	}
	return nil
}

// ended waits for a process to end by itself; complete: with exit code 0, which says that the whole run is.
func (w *world) ended(ctx context.Context, m *member, complete bool) error {
	ctx, cancel := context.WithTimeout(ctx, settleWait)
	defer cancel()
	select {
	case <-m.done:
	case <-ctx.Done():
		_ = m.cmd.Process.Kill()
		<-m.done
		return fmt.Errorf("%s has not ended after %v", m.name, settleWait)
	}
	if complete != (m.err == nil) {
		return fmt.Errorf("%s ended with %v, complete should be %t", m.name, m.err, complete)
	}
	return nil
}

// proveRedrive makes every record a dead letter, and kills the redrive of them again and again: each is delivered or a new
// letter, none goes round, and then there is nothing left to do.
func (w *world) proveRedrive(ctx context.Context, rng *rand.Rand) error {
	w.commits = "" // the live group settles nothing here
	if err := errors.Join(w.api.SetFaults(soundDelay), w.produce(ctx, w.o.records), w.makeLetters(ctx)); err != nil {
		return err
	}
	redrive := func(id string) error { return w.start("dlq", "redrive", "--run-id", id, "--rate", "5000", "--json") }
	each := w.storable() / (w.o.rounds + 1)
	for i := range w.o.rounds {
		if err := redrive("r1"); err != nil {
			return err
		}
		if err := w.stored(ctx, i*each+each/2+rng.IntN(each/2)); err != nil {
			return err
		}
		if err := w.killMember(0); err != nil {
			return err
		}
		w.say("kill %d: %d of %d stored", i+1, w.api.Ledger().Distinct, w.storable())
	}
	last := ""
	for _, id := range []string{"r1", "r2", "r3", "r4"} { // what fails is sent twice more, then parked
		if err := redrive(id); err != nil {
			return err
		}
		m := w.remove(0)
		if err := w.ended(ctx, m, true); err != nil {
			return err
		}
		var err error
		if last, err = w.lastLine(m); err != nil {
			return err
		}
		w.say("%s: %s", id, last)
	}
	l := w.api.Ledger()
	if !strings.Contains(last, `"taken":0,`) || !strings.Contains(last, `"parked":0,`) {
		return fmt.Errorf("the last redrive found something to do: %s", last)
	}
	fmt.Printf("redrive: %d letters, %d kills, %d documents stored again; the last redrive found nothing to do\n", w.o.records, w.o.rounds, l.Repeats)
	return nil
}

// makeLetters writes a dead letter of each record.
func (w *world) makeLetters(ctx context.Context) error {
	dlq := w.group + ".dlq"
	if _, err := w.admin.CreateTopic(ctx, partitions, 1, nil, dlq); err != nil {
		return fmt.Errorf("create topic: %w", err)
	}
	var letters []*kgo.Record
	err := w.read(ctx, w.topic, func(r *kgo.Record) error {
		l := deadletter.Letter{Topic: r.Topic, Partition: r.Partition, Offset: r.Offset, Part: -1, Key: r.Key, Value: r.Value, Timestamp: r.Timestamp,
			Reason: "missing_field", Certainty: "not_sent", FailedAt: time.Now()}
		letters = append(letters, l.Record(dlq))
		return nil
	})
	if err != nil {
		return err
	}
	return w.client.ProduceSync(ctx, letters...).FirstErr()
}

// lastLine is the last that the process has written.
func (w *world) lastLine(m *member) (string, error) {
	text, err := os.ReadFile(filepath.Join(w.dir, m.name+".log"))
	if err != nil {
		return "", err
	}
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	return lines[len(lines)-1], nil
}
