package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"serbridge/bridge/backfill"
	"serbridge/bridge/deadletter"
	"serbridge/bridge/pause"
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
	worst, all, each := 0, 0, w.storable()/(w.o.rounds+1)
	for i := range w.o.rounds {
		before := w.api.Ledger()
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
		// What the kill before repeated was repeated by now: a record is begun where the run goes on.
		again := w.api.Ledger().Repeats - before.Repeats
		worst, all = max(worst, again), all+again
		w.say("kill %d: %d of %d stored; since the kill before it %d were stored again", i+1, w.api.Ledger().Distinct, w.storable(), again)
	}
	before := w.api.Ledger().Repeats
	if err := w.startReplay(); err != nil {
		return err
	}
	if err := w.ended(ctx, w.remove(0), true); err != nil {
		return err
	}
	again := w.api.Ledger().Repeats - before
	worst, all = max(worst, again), all+again
	fmt.Printf("replay: %d kills in a run of %d records, %d documents stored again in all, %d by the worst kill\n", w.o.rounds, w.o.records, all, worst)
	if worst > w.o.bound() {
		return fmt.Errorf("a kill repeated %d documents, at most %d are explained", worst, w.o.bound())
	}
	return nil
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
