// Browser looks at the status page with a real Chromium, while the built serbridge runs against an embedded broker and the
// simulator: what the page shows is what they did; a bridge that dies and comes back needs no hand on the page; no console
// error, no secret, no record content; light and dark, and as wide as a phone. A module of its own, made by .ci/page, since
// what drives a browser is no part of serbridge.
package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"strings"
	"time"

	"serbridge/bridge/stellar/stellartest"
)

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: browser SERBRIDGE FOLDER-FOR-PICTURES")
		os.Exit(2)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	if err := look(ctx, os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, "page:", err)
		os.Exit(1)
	}
}

func look(ctx context.Context, binary, pictures string) error {
	w, err := newWorld(ctx, binary)
	if err != nil {
		return err
	}
	defer w.close()
	b, err := newBrowser(ctx, pictures)
	if err != nil {
		return err
	}
	defer b.close()
	for _, step := range []struct {
		name string
		run  func(*world, *browser) error
	}{
		{"what was delivered and rejected, as the simulator and the dead-letter topic count it", counted},
		{"attempts of unknown end", unknown},
		{"the last hour is drawn", drawn},
		{"light and dark, on a phone and on a desk", looks},
		{"the gate, closed and open again", gate},
		{"a bridge killed and started again", restarted},
		{"a bridge that was away when the page refreshed", away},
		{"the browser tells of what the policy forbids", forbidden},
	} {
		if err := step.run(w, b); err != nil {
			b.picture("failed")
			return fmt.Errorf("%s: %w", step.name, err)
		}
		fmt.Println("page: ok:", step.name)
	}
	return nil
}

// shows waits until the page, which refreshes itself, shows what is wanted; what it says is then looked through for secrets.
func shows(w *world, b *browser, wanted func(state) error) (state, error) {
	s, err := b.await(wanted)
	if err != nil {
		return s, err
	}
	for _, word := range w.secrets() {
		if strings.Contains(s.HTML, word) {
			return s, fmt.Errorf("the page holds %q", word)
		}
	}
	return s, b.complaints()
}

// settled is a page that shows the figures of simulator and dead-letter topic, since the bridge started.
func (w *world) settled(s state) error {
	reasons, err := w.deadLetters()
	if err != nil {
		return err
	}
	if want := fmt.Sprint(w.api.Ledger().Documents - w.before.stored); s.Now["delivered"] != want {
		return fmt.Errorf("delivered %q, the simulator stored %s", s.Now["delivered"], want)
	}
	if !maps.Equal(s.Rejects, reasons) {
		return fmt.Errorf("rejects %v, the dead-letter topic holds %v", s.Rejects, reasons)
	}
	sum := 0
	for _, n := range reasons {
		sum += n
	}
	if s.Now["rejected"] != fmt.Sprint(sum) || s.Now["lag"] != "0" || s.Now["real backlog"] != "0" {
		return fmt.Errorf("rejected %q of %d, lag %q, backlog %q", s.Now["rejected"], sum, s.Now["lag"], s.Now["real backlog"])
	}
	return nil
}

func counted(w *world, b *browser) error {
	w.produce(300, sound)
	w.produce(20, noJSON)
	w.produce(10, noName)
	w.produce(5, tombstone)
	if err := errors.Join(w.start(), w.stored(300), b.open(w.page())); err != nil {
		return err
	}
	s, err := shows(w, b, w.settled)
	switch {
	case err != nil:
		return err
	case s.Now["skipped"] != "5" || s.Now["gate"] != "open" || s.Now["attempts of unknown end"] != "0":
		return fmt.Errorf("%v", s.Now)
	case !strings.HasSuffix(s.Verdict, "; ready") || s.Title != "ready · serbridge":
		return fmt.Errorf("verdict %q, title %q", s.Verdict, s.Title)
	case len(s.Partitions) != partitions || s.Rejects["invalid_json"] != 20 || s.Rejects["missing_field"] != 10:
		return fmt.Errorf("partitions %v, rejects %v", s.Partitions, s.Rejects)
	}
	return nil
}

func unknown(w *world, b *browser) error {
	w.api.Script(stellartest.Sequence(stellartest.CutAfterStoring(), stellartest.BadGateway(), stellartest.BadGateway()))
	w.produce(60, sound)
	_, err := shows(w, b, func(s state) error {
		faults := w.api.Ledger().Faults
		if want := fmt.Sprint(faults["cut_after_storing"] + faults["bad_gateway"]); want != "3" || s.Now["attempts of unknown end"] != want {
			return fmt.Errorf("%q of unknown end, the simulator left %s", s.Now["attempts of unknown end"], want)
		}
		if !s.failed("http_502") || s.Now["delivered"] != "360" {
			return fmt.Errorf("failures %v, delivered %q", s.Failures, s.Now["delivered"])
		}
		return nil
	})
	w.before.stored += w.api.Ledger().Untold // stored, and the bridge was not told: no delivery that it knows of
	return err
}

func drawn(w *world, b *browser) error {
	_, err := shows(w, b, func(s state) error {
		if s.Lines != 5 {
			return fmt.Errorf("%d lines are drawn, want 5", s.Lines)
		}
		return nil
	})
	return err
}

func gate(w *world, b *browser) error {
	w.api.Script(stellartest.Always(stellartest.Unauthorized()))
	w.produce(30, sound)
	s, err := shows(w, b, func(s state) error {
		if s.Now["gate"] != "closed: http_401" || s.Title != "not ready · serbridge" || !strings.Contains(s.Verdict, "not ready since") {
			return fmt.Errorf("gate %q, title %q, verdict %q", s.Now["gate"], s.Title, s.Verdict)
		}
		return nil
	})
	if err != nil {
		return err
	}
	if s.Now["lag"] == "0" || !s.failed("http_401") || len(s.Troubles) == 0 {
		return fmt.Errorf("lag %q, failures %v, troubles %q", s.Now["lag"], s.Failures, s.Troubles)
	}
	b.picture("gate-closed")
	w.api.Script(nil)
	_, err = shows(w, b, w.settled)
	return err
}

func restarted(w *world, b *browser) error {
	if err := w.kill(); err != nil {
		return err
	}
	w.produce(40, sound)
	w.produce(3, noJSON)
	if err := errors.Join(w.start(), w.stored(40)); err != nil {
		return err
	}
	s, err := shows(w, b, w.settled)
	if err == nil && s.Now["delivered"] != "40" {
		err = fmt.Errorf("delivered %q since the start, want 40", s.Now["delivered"])
	}
	return err
}

// away ends when the browser, by itself, comes back from the page with which it says that nobody answers.
func away(w *world, b *browser) error {
	if err := w.kill(); err != nil {
		return err
	}
	if err := b.awaitGone(); err != nil {
		return err
	}
	w.produce(25, sound)
	if err := errors.Join(w.start(), w.stored(25)); err != nil {
		return err
	}
	b.forgive() // what it said of a page that was not there is not the page's
	_, err := shows(w, b, w.settled)
	return err
}

// forbidden shows that silence of the browser means something.
func forbidden(_ *world, b *browser) error { return b.provoke() }
