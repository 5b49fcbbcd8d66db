package bridge_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"golang.org/x/time/rate"

	"serbridge/bridge"
	"serbridge/bridge/backfill"
	"serbridge/bridge/deadletter"
	"serbridge/transform"
)

const letterTopic = group + ".dlq"

// letterTopics are there from the start: of a compacted topic kfake unpacks zstd with decoders of the bubble, as
// zstdOutside explains.
var letterTopics = []string{letterTopic, letterTopic + ".handled"}

// redrive is a run over the dead-letter topic, as `serbridge dlq redrive` makes one.
type redrive struct {
	w      *world
	run    backfill.Run
	meant  deadletter.Filter
	change func(*bridge.Config) // of every member; may be nil
	to     string               // topic to which the records go; empty: documents go to the platform
}

func (w *world) redrive(id string) *redrive {
	return &redrive{w: w, run: backfill.Run{Admin: w.admin, Group: backfill.RedriveGroup(letterTopic, id), ID: id}}
}

// letterOptions read in a bubble.
func (w *world) letterOptions(d dialer) []kgo.Opt {
	return append(w.kafka(d), kgo.WithDecompressor(zstdOutside{}))
}

// putLetters writes what letterOptions can read.
func (w *world) putLetters(rs []*kgo.Record) {
	w.t.Helper()
	w.produceWith(rs, kgo.ProducerBatchCompression(kgo.NoCompression()))
}

// join starts a process of the run, which reads the letters and marks with its own connections.
func (r *redrive) join() (*member, *backfill.Redrive) {
	r.w.t.Helper()
	ctx, w := context.Background(), r.w
	marks, err := deadletter.NewMarkWriter(deadletter.MarkConfig{Options: w.kafka(w.dialer), Topic: letterTopic, Create: true})
	if err != nil {
		w.t.Fatal(err)
	}
	defer marks.Close()
	if err := marks.Ready(ctx); err != nil {
		w.t.Fatal(err)
	}
	letters, err := deadletter.OpenReader(ctx, w.letterOptions(w.dialer), letterTopic)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(letters.Close)
	d := &backfill.Redrive{Letters: letters, Meant: r.meant, Most: 2, ID: r.run.ID, By: "test", Because: "mended"}
	r.seed(d)
	following, stop := context.WithCancel(ctx)
	w.t.Cleanup(stop)
	go letters.Follow(following) //nolint:errcheck // says nothing but a faulty configuration
	return w.start(func(c *bridge.Config) {
		c.Kafka = append(c.Kafka, kgo.WithDecompressor(zstdOutside{}))
		c.Topics, c.Group, c.Bounded, c.RateLimit, c.RejectBrake = []string{letterTopic}, r.run.Group, true, 100, -1
		c.Read, c.Ended = d.Reading, d.Ended
		c.Transform = func(string) *transform.Settings { return &transform.Settings{EventSource: "mended"} }
		if r.change != nil {
			r.change(c)
		}
		if d.Marks, err = deadletter.NewMarkWriter(deadletter.MarkConfig{Options: c.Kafka, Topic: letterTopic}); err != nil {
			w.t.Fatal(err)
		}
		w.t.Cleanup(d.Marks.Close)
		if r.to != "" {
			to, err := deadletter.NewForwarder(c.Kafka, r.to)
			if err != nil {
				w.t.Fatal(err)
			}
			w.t.Cleanup(to.Close)
			d.Forward = &backfill.Forward{To: to, Limit: rate.NewLimiter(200, 5)}
		}
	}), d
}

// seed keeps the bounds of the run, unless it has begun.
func (r *redrive) seed(d *backfill.Redrive) {
	r.w.t.Helper()
	ctx := context.Background()
	_, begun, err := r.run.Read(ctx, []string{letterTopic})
	if err == nil && !begun {
		var p backfill.Plan
		if p, err = d.Plan(ctx, 0); err == nil {
			err = r.run.Seed(ctx, p)
		}
	}
	if err != nil {
		r.w.t.Fatal(err)
	}
}

// whole runs it with one process, to its end.
func (r *redrive) whole() backfill.RedriveCounts {
	r.w.t.Helper()
	m, d := r.join()
	r.w.endsWithin(time.Hour, m)
	return d.Counts()
}

// lettersOfAllKinds are n letters; a tenth each is of a kind.
func lettersOfAllKinds(n int) (rs []*kgo.Record) {
	for i := range n {
		l := deadletter.Letter{Topic: topic, Partition: int32(i % 3), Offset: int64(i), Part: -1, Reason: "missing_field", Certainty: "not_sent",
			Key: fmt.Appendf(nil, "key-%d", i), Value: detection(i), Timestamp: time.Date(2026, 1, 1, 0, 0, i, 0, time.UTC),
			Headers: []kgo.RecordHeader{{Key: "a"}, {Key: "traceparent", Value: []byte("00-1")}, {Key: "a", Value: []byte{0xff}}}}
		switch i % 10 {
		case 4:
			l.Reason, l.Value = "invalid_json", []byte("not JSON")
		case 5:
			l.Reason, l.Certainty, l.Part = "retries_exhausted", "refused", 0
		case 6:
			l.Reason, l.Certainty, l.Part = "ambiguous", "unknown", 0
		case 7: // Kafka Connect's
			r := &kgo.Record{Topic: letterTopic, Partition: l.Partition, Key: l.Key, Value: l.Value, Timestamp: l.Timestamp, Headers: l.Headers}
			for _, h := range [][2]string{{"topic", l.Topic}, {"partition", fmt.Sprint(l.Partition)}, {"offset", fmt.Sprint(l.Offset)}, {"exception.message", "no"}} {
				r.Headers = append(r.Headers, kgo.RecordHeader{Key: "__connect.errors." + h[0], Value: []byte(h[1])})
			}
			if i%20 == 7 {
				r.Value = []byte("[")
			}
			rs = append(rs, r)
			continue
		case 8:
			l.Reason, l.Certainty, l.Part = "http_403", "refused", 0 // the firewall's exception is there by now
		case 9:
			if l.Part = i / 10 % 2; l.Part == 1 {
				l.Reason = "invalid_field" // of a second document, which nobody makes of the record any more
			}
		default:
			l.Value = fmt.Appendf(nil, `{"event_name":"detection %d","orig_id":"id-%d"}`, i, i)
		}
		rs = append(rs, l.Record(letterTopic))
	}
	return rs
}

// delivers reports whether a letter of this number is delivered by a redrive.
func delivers(i int) bool {
	return i%10 < 4 || i%10 == 5 || i%10 == 8 || i%20 == 17 || i%20 == 9
}

// Dead letters of all kinds, redriven under faults by a run that is killed and resumed: each is handled, what fails again is
// a new letter that is redriven once more and then parked, and then there is nothing to do.
func TestRedriveHandlesEachLetterAndEnds(t *testing.T) {
	t.Parallel()
	const letters, kills, bound = 5000, 4, 50
	faulty := lively
	faulty.Faults.Rates, faulty.Faults.MaxUnknownPerDocument = map[string]float64{"rate_limited": 0.01, "unavailable": 0.02, "cut_before_storing": 0.01, "cut_after_storing": 0.005}, 1
	searched := faulty
	searched.Variant.RefreshDelay = 30 * time.Second
	for _, c := range rows([]struct {
		name    string
		world   worldConfig
		change  func(*bridge.Config)
		repeats int
	}{
		{"probe", worldConfig{api: searched, kafka: brisk}, probing, 0},
		{"retry", worldConfig{api: faulty}, nil, kills*bound + letters/50},
	}) {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c.world.topics = letterTopics
				w := newWorld(t, c.world)
				w.putLetters(lettersOfAllKinds(letters))
				r := w.redrive("r1")
				r.change = func(cfg *bridge.Config) {
					cfg.MaxRepeats = bound
					if c.change != nil {
						c.change(cfg)
					}
				}
				for i := range kills {
					m, _ := r.join()
					w.stored((i + 1) * letters / 10)
					m.kill()
					go m.end()
				}
				r.whole()
				w.expectRedriven(letters, c.repeats)
				w.expectRound("r2", 1, func(n backfill.RedriveCounts, open int) bool {
					return n.Taken == open && n.Failed() == open && n.Parked == 0
				})
				w.expectRound("r3", 2, func(n backfill.RedriveCounts, open int) bool { return n.Parked == open && n.Taken == 0 })
				w.expectRound("r4", 0, func(n backfill.RedriveCounts, open int) bool { return n.Taken+n.Parked == 0 })
				if l := w.api.Ledger(); l.Distinct != count(letters, delivers) {
					t.Errorf("stored %d documents, want %d", l.Distinct, count(letters, delivers))
				}
			})
		})
	}
}

// Killed and resumed, a redrive to a topic produces every record, and again at most those that were in hand.
func TestRedriveToATopicKilledLosesNoRecord(t *testing.T) {
	t.Parallel()
	const letters, kills, inHand = 2000, 5, 8
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, worldConfig{topics: append([]string{"mended"}, letterTopics...), kafka: brisk})
		w.putLetters(lettersOfAllKinds(letters))
		r := w.redrive("r1")
		r.to, r.change = "mended", func(c *bridge.Config) { c.MaxInFlight = inHand }
		taken := count(letters, func(i int) bool { return i%10 != 6 && i%20 != 19 })
		for i := range kills {
			m, _ := r.join()
			w.await("records in the topic", func() bool { return w.produced("mended") >= (i+1)*letters/10 })
			m.kill()
			go m.end()
		}
		r.whole()
		marked := 0
		w.eachLetter(func(e *deadletter.Entry) {
			if e.Fate == deadletter.Redriven {
				marked++
			}
		})
		times := w.timesOf("mended")
		if all := w.produced("mended"); marked != taken || len(times) != taken || all < taken || all > taken+kills*inHand {
			t.Errorf("%d letters marked, %d of them in the topic, %d records; want %d", marked, len(times), all, taken)
		}
		if sent := w.api.Ledger().Documents; sent > 0 {
			t.Errorf("%d documents went to the platform", sent)
		}
		if n := w.redriveAgain("r2", "mended"); n.Taken != 0 {
			t.Errorf("a second run takes %+v", n)
		}
	})
}

// produced is how many records a topic has.
func (w *world) produced(topic string) (n int) {
	w.t.Helper()
	ends, err := w.admin.ListEndOffsets(context.Background(), topic)
	if err != nil {
		w.t.Fatal(err)
	}
	ends.Each(func(o kadm.ListedOffset) { n += int(o.Offset) })
	return n
}

// timesOf is how often the record of each letter is in a topic, by the letter's offset.
func (w *world) timesOf(topic string) map[int64]int {
	w.t.Helper()
	client, err := kgo.NewClient(append(w.kafka(w.dialer), kgo.ConsumeTopics(topic))...)
	if err != nil {
		w.t.Fatal(err)
	}
	defer client.Close()
	times := make(map[int64]int)
	for read, all := 0, w.produced(topic); read < all; {
		fs := client.PollFetches(context.Background())
		fs.EachRecord(func(k *kgo.Record) {
			read++
			l, err := deadletter.Parse(k)
			if err != nil {
				w.t.Error(err)
			}
			times[l.Offset]++
		})
	}
	return times
}

func (w *world) redriveAgain(id, to string) backfill.RedriveCounts {
	r := w.redrive(id)
	r.to = to
	return r.whole()
}

func count(n int, is func(int) bool) (found int) {
	for i := range n {
		if is(i) {
			found++
		}
	}
	return found
}

// eachLetter reads the topic with what became of its letters.
func (w *world) eachLetter(f func(*deadletter.Entry)) {
	w.t.Helper()
	r, err := deadletter.OpenReader(context.Background(), w.letterOptions(w.dialer), letterTopic)
	if err != nil {
		w.t.Fatal(err)
	}
	defer r.Close()
	if err := r.Each(context.Background(), deadletter.Filter{}, func(e *deadletter.Entry) (bool, error) { f(e); return true, nil }); err != nil {
		w.t.Fatal(err)
	}
}

// expectRedriven compares what became of the letters of all kinds with what should.
func (w *world) expectRedriven(letters, mostRepeats int) {
	w.t.Helper()
	seen, again, firsts := 0, make(map[int64]int), lettersOfAllKinds(letters)
	w.eachLetter(func(e *deadletter.Entry) {
		l, i := e.Letter, int(e.Letter.Offset)
		if l.Run != "" {
			again[l.Offset]++
			w.expectAgain(e, firsts[i])
			return
		}
		seen++
		want := deadletter.FailedAgain
		switch {
		case i%10 == 6:
			want = deadletter.Open
		case delivers(i):
			want = deadletter.Redriven
		}
		if e.Fate != want {
			w.t.Errorf("letter of %d (%s) is %s, want %s", i, e.Reason(), e.Fate, want)
		}
	})
	fails := count(letters, func(i int) bool { return !delivers(i) && i%10 != 6 })
	if seen != letters || len(again) != fails {
		w.t.Errorf("%d letters, %d of them failed again, want %d and %d", seen, len(again), letters, fails)
	}
	if l := w.api.Ledger(); l.Distinct != letters-letters/10-fails || l.Repeats > mostRepeats {
		w.t.Errorf("stored %d, %d again, want %d and at most %d", l.Distinct, l.Repeats, letters-letters/10-fails, mostRepeats)
	}
}

// expectAgain is that a letter that failed again is the record that it was.
func (w *world) expectAgain(e *deadletter.Entry, was *kgo.Record) {
	w.t.Helper()
	l := e.Letter
	first, err := deadletter.Parse(was)
	if err != nil {
		w.t.Fatal(err)
	}
	if l.Redrives != 1 || l.Run != "r1" || l.Topic != topic || l.Partition != first.Partition || l.Part != first.Part || string(l.Key) != string(first.Key) ||
		string(l.Value) != string(first.Value) || !l.Timestamp.Equal(first.Timestamp) || len(l.Headers) != 3 || e.Fate != deadletter.Open {
		w.t.Errorf("failed again as %+v, %s; was %+v", l, e.Fate, first)
	}
	connect := 0
	for _, h := range e.Record.Headers {
		if h.Key == "__connect.errors.topic" {
			connect++
		}
	}
	if connect != 1 {
		w.t.Errorf("%d times Kafka Connect's headers", connect)
	}
}

// expectRound runs a redrive over what there is, of which as many as open are of that many redrives and not handled.
func (w *world) expectRound(id string, redrives int, as func(n backfill.RedriveCounts, open int) bool) {
	w.t.Helper()
	open := 0
	w.eachLetter(func(e *deadletter.Entry) {
		if e.Fate == deadletter.Open && e.Letter.Redrives == redrives && e.Letter.Certainty != "unknown" {
			open++
		}
	})
	sent := w.api.Ledger().Documents
	n := w.redrive(id).whole()
	if !as(n, open) || w.api.Ledger().Documents != sent {
		w.t.Errorf("%s: counted %+v, with %d open; %d documents stored", id, n, open, w.api.Ledger().Documents-sent)
	}
}

// Only what is meant is taken, at most as many as asked for, and nobody else's commit is needed for that.
func TestRedriveTakesWhatIsMeant(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, worldConfig{topics: letterTopics})
		w.putLetters(lettersOfAllKinds(60))
		r := w.redrive("r1")
		r.meant = deadletter.Filter{Reasons: []string{"missing_field"}, Partitions: []int32{1}}
		got := r.whole()
		var want []int
		for i := range 60 {
			if i%3 == 1 && (i%10 < 4 || i%20 == 9) {
				want = append(want, i)
			}
		}
		if got.Taken != len(want) || got.Redriven != len(want) || got.LeftOut[string(backfill.NotSelected)] != 20-len(want) {
			t.Errorf("counted %+v, want %d taken of the 20 of a partition", got, len(want))
		}
		w.expectIDs(func(i int) bool { return slices.Contains(want, i) })
	})
}

// What an operator handles meanwhile is left out, though the run has begun, but for the letters that it has in hand.
func TestRedriveLeavesOutWhatIsHandledMeanwhile(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, worldConfig{topics: letterTopics, partitions: 1})
		var rs []*kgo.Record
		for i := range 1000 {
			rs = append(rs, deadletter.Letter{Topic: topic, Offset: int64(i), Part: -1, Reason: "missing_field", Value: detection(i)}.Record(letterTopic))
		}
		w.putLetters(rs)
		r := w.redrive("r1")
		r.change = func(c *bridge.Config) { c.RateLimit, c.RateBurst, c.MaxInFlight = 2, 1, 1 }
		m, d := r.join()
		w.stored(10)
		var marks []deadletter.Mark
		for i := range int64(500) {
			marks = append(marks, deadletter.Mark{Place: deadletter.Place{Offset: 500 + i}, Fate: deadletter.Parked, At: time.Now()})
		}
		if err := d.Marks.Write(context.Background(), marks...); err != nil {
			t.Fatal(err)
		}
		w.endsWithin(time.Hour, m)
		if got := d.Counts(); got.Redriven != 500 || got.LeftOut[string(backfill.Handled)] != 500 {
			t.Errorf("counted %+v", got)
		}
	})
}

// Two runs at a time might send a letter twice: whoever sees the other begins nothing.
func TestRedriveBesideAnotherIsRefused(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, worldConfig{topics: letterTopics})
		w.putLetters(lettersOfAllKinds(300))
		slow := func(r *redrive, refuse func([]string)) {
			a := &backfill.Alone{Admin: w.admin, Topic: letterTopic, Group: r.run.Group, Refuse: refuse}
			r.change = func(c *bridge.Config) { c.Begin, c.RateLimit = a.Begin, 2 }
		}
		first, second := w.redrive("r1"), w.redrive("r2")
		slow(first, func(others []string) { t.Errorf("the first sees %q", others) })
		m, _ := first.join()
		w.stored(5)
		if others, err := backfill.OtherRedrives(t.Context(), w.admin, letterTopic, second.run.Group); err != nil || strings.Join(others, " ") != "r1" {
			t.Errorf("others %q, %v", others, err)
		}
		refused := make(chan []string, 1)
		slow(second, func(others []string) { refused <- others })
		late, d := second.join()
		if others := <-refused; strings.Join(others, " ") != "r1" {
			t.Errorf("refused because of %q", others)
		}
		late.end()
		if n := d.Counts(); n.Taken+n.Parked+len(n.LeftOut) != 0 {
			t.Errorf("counted %+v", n)
		}
		m.end()
		if others, err := backfill.OtherRedrives(t.Context(), w.admin, letterTopic, "none"); err != nil || len(others) > 0 {
			t.Errorf("others %q, %v", others, err)
		}
	})
}

// A plan is bounded by the letter that is the last of so many.
func TestRedrivePlanHasAtMostSoMany(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, worldConfig{topics: letterTopics})
		w.putLetters(lettersOfAllKinds(60))
		letters, err := deadletter.OpenReader(t.Context(), w.letterOptions(w.dialer), letterTopic)
		if err != nil {
			t.Fatal(err)
		}
		defer letters.Close()
		for most, want := range map[int]int64{0: 60, 1: 1, 17: 19, 18: 20, 19: 21, 1000: 60} { // of the 20 in 0, 6 and 36 are ambiguous
			d := &backfill.Redrive{Letters: letters, Most: 2}
			if p, err := d.Plan(t.Context(), most); err != nil || p.Total() != want {
				t.Errorf("at most %d: %d offsets, want %d, %v", most, p.Total(), want, err)
			}
		}
	})
}
