package stellartest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// The ledger must be exact, or no test of the bridge is.
func TestLedgerIsExactUnderConcurrency(t *testing.T) {
	const workers, each = 16, 60
	p := overTCP(t, Config{Faults: Faults{Seed: 3, Rates: map[string]float64{
		"cut_after_storing": 0.1, "cut_body": 0.1, "bad_gateway_stored": 0.1, "server_error": 0.1, "cut_before_storing": 0.1}}})
	type seen struct{ sent, told, answered int }
	all := make([]map[string]seen, workers)
	var wg sync.WaitGroup
	for w := range workers {
		all[w] = map[string]seen{}
		wg.Go(func() {
			for i := range each {
				key := fmt.Sprintf("%d-%d", w, i%20) // each key three times
				got := p.insert(document(key))
				s := all[w][key]
				s.sent++
				if got.err == nil {
					s.answered++
				}
				if got.err == nil && got.id() != "" {
					s.told++
				}
				all[w][key] = s
			}
		})
	}
	wg.Wait()
	var total, told, answered int
	copies, unknowns, unexplained := p.Copies(), p.Unknowns(), p.Unexplained()
	for _, keys := range all {
		for key, s := range keys {
			total, told, answered = total+s.sent, told+s.told, answered+s.answered
			if docs := p.DocumentsOf(key); copies[key]-unknowns[key] != s.told || len(docs) != copies[key] {
				t.Errorf("%s: told %d times; ledger says %d copies, %d unknown, %d kept", key, s.told, copies[key], unknowns[key], len(docs))
			}
			if unexplained[key] != max(0, s.told-1) {
				t.Errorf("%s: unexplained %d, want %d", key, unexplained[key], s.told-1)
			}
		}
	}
	sum := p.Ledger()
	if sum.Requests[KindInsert] != total || sum.Documents-sum.Untold != told || total-sum.Statuses[0] != answered || sum.InFlight != 0 {
		t.Errorf("sent %d, told %d, answered %d; ledger %+v", total, told, answered, sum)
	}
	if sum.Distinct != len(copies) || sum.Distinct+sum.Repeats != sum.Documents || sum.Documents != len(p.Documents()) || len(p.Requests()) != total {
		t.Errorf("%d keys, %d documents kept; ledger %+v", len(copies), len(p.Documents()), sum)
	}
	if _, peak := p.InFlight(); peak < 1 || peak > workers { // how many meet is up to the machine
		t.Errorf("%d at once, with %d workers", peak, workers)
	}
}

func TestBoundsForgetTheOldest(t *testing.T) {
	p := overTCP(t, Config{StoreLimit: 10, KeyLimit: 5, Variant: Variant{RefreshDelay: -1, Merge: true}})
	for i := range 25 {
		p.insert(document(fmt.Sprint(i)))
	}
	docs, requests := p.Documents(), p.Requests()
	if len(docs) != 10 || docs[0].N != 16 || docs[0].DeliveryKey != "15" || len(requests) != 10 || requests[0].Seq != 16 {
		t.Errorf("%d documents from %d, %d requests from %d", len(docs), docs[0].N, len(requests), requests[0].Seq)
	}
	if copies := p.Copies(); len(copies) != 5 || copies["24"] != 1 {
		t.Errorf("copies %v", copies)
	}
	if sum := p.Ledger(); sum.Documents != 25 || sum.Distinct != 25 || sum.Forgotten != 20 || sum.Requests[KindInsert] != 25 {
		t.Errorf("%+v", sum)
	}
	if total, _, _ := p.search(""); total != 10 {
		t.Errorf("a search finds %d", total)
	}
	if n := len(p.ledger.byID) + len(p.ledger.byKey) + len(p.ledger.first); n != 30 {
		t.Errorf("%d index entries for 10 documents", n)
	}
	small := overTCP(t, Config{StoreBytes: 1000})
	for i := range 25 {
		small.insert(document(fmt.Sprint(i)))
	}
	if n := len(small.Documents()); n == 0 || n > 4 {
		t.Errorf("%d documents kept in 1000 bytes", n)
	}
}

func TestMaxInWindowIsTheSlidingMaximum(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := inBubble(t, Config{})
		start := time.Now()
		for _, at := range []int{0, 400, 900, 1000, 1100, 1399, 5000} { // milliseconds
			<-time.After(time.Duration(at)*time.Millisecond - time.Since(start))
			p.insert(document("k"))
			p.login("") // not counted
			p.auth = ""
		}
		for d, want := range map[time.Duration]int{time.Millisecond: 1, 100 * time.Millisecond: 1, 101 * time.Millisecond: 2,
			time.Second: 5, 1001 * time.Millisecond: 5, time.Hour: 7} {
			if got := p.MaxInWindow(d); got != want {
				t.Errorf("within %v: %d, want %d", d, got, want)
			}
		}
		p.do("GET", DataPath+"aella-ser-*/_search", "")
		if got := p.MaxInWindow(time.Nanosecond); got != 2 {
			t.Errorf("a search is an attempt: %d", got)
		}
	})
}

func TestResetForgetsWhatIsStillInFlight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := inBubble(t, Config{})
		p.Script(Sequence(Fault{AnswerDelay: time.Minute}, Slow(time.Minute)))
		done := make(chan reply, 2)
		go func() { done <- p.insert(document("old")) }()
		synctest.Wait()
		go func() { done <- p.insert(document("late")) }()
		synctest.Wait()
		p.Reset()
		if sum := p.Ledger(); sum.Documents != 0 || sum.InFlight != 2 || len(p.Copies()) != 0 || len(p.Requests()) != 0 {
			t.Errorf("after Reset: %+v", sum)
		}
		if a, b := <-done, <-done; a.status != 200 || b.status != 200 {
			t.Errorf("answers %+v, %+v", a, b)
		}
		if sum := p.Ledger(); sum.Documents != 1 || sum.Untold != 0 || sum.Distinct != 1 || sum.InFlight != 0 || p.Copies()["late"] != 1 {
			t.Errorf("stored after Reset: %+v", sum)
		}
		p.insert(document("new"))
		if r := p.Requests(); len(r) != 1 || r[0].N != 1 || r[0].Seq != 3 || p.Documents()[1].N != 2 {
			t.Errorf("then %+v", r)
		}
	})
}

func TestWaitSeesWhatHappens(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := inBubble(t, Config{})
		ended := make(chan error, 2)
		ctx, cancel := context.WithCancel(t.Context())
		go func() { ended <- p.Wait(ctx, func(l Ledger) bool { return l.Distinct == 2 }) }()
		for _, key := range []string{"a", "a", "b"} {
			synctest.Wait()
			select {
			case err := <-ended:
				t.Fatalf("ended before %s: %v", key, err)
			default:
			}
			p.insert(document(key))
		}
		if err := <-ended; err != nil {
			t.Error(err)
		}
		go func() { ended <- p.Wait(ctx, func(Ledger) bool { return false }) }()
		synctest.Wait()
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
}

// Random adds and drops against a plain slice: the kept items are always the newest, under their own numbers.
func TestRecentAgainstASlice(t *testing.T) {
	var r recent[int]
	var model []int // index: number; dropped ones stay
	dropped := 0
	for i := range 20_000 {
		if mixed := mix("recent", uint64(i)); mixed>>60 < 9 || dropped == len(model) {
			if n := r.add(i); n != len(model) {
				t.Fatalf("number %d, want %d", n, len(model))
			}
			model = append(model, i)
		} else {
			if v := r.drop(); v != model[dropped] {
				t.Fatalf("dropped %d, want %d", v, model[dropped])
			}
			dropped++
		}
		if r.len() != len(model)-dropped || len(r.items) > 2*r.len()+2 {
			t.Fatalf("%d kept in %d, want %d", r.len(), len(r.items), len(model)-dropped)
		}
		for _, n := range []int{dropped - 1, dropped, len(model) - 1, len(model)} {
			v := r.at(n)
			if kept := n >= dropped && n < len(model); kept != (v != nil) || kept && *v != model[n] {
				t.Fatalf("at %d: %v", n, v)
			}
		}
		if from := r.from(len(model) - 1); len(from) != min(1, r.len()) {
			t.Fatalf("from the last: %v", from)
		}
	}
}
