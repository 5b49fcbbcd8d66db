package turns_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"serbridge/bridge/turns"
)

// waiters are named by their topic and a number.
func of(w string) string { return w[:1] }

func TestWhoseTurnItIs(t *testing.T) {
	tests := []struct {
		name  string
		steps string // "a1" joins, "-a1" leaves, "+a" takes one beside the line, "a" gives one back, "!" serves one
		want  string // who is served
	}{
		{"first come, first served within a topic", "a1 a2 a3 ! ! !", "a1 a2 a3"},
		{"one of two does not wait for the backlog of the other", "a1 a2 a3 a4 ! b1 ! !", "a1 b1 a2"},
		{"in turn while both have as much", "+a +b a1 a2 a3 b1 b2 b3 ! ! ! ! ! !", "a1 b1 a2 b2 a3 b3"},
		{"who holds least is next", "+a +a +a a1 a2 b1 b2 b3 b4 ! ! ! ! !", "b1 b2 b3 a1 b4"},
		{"one that keeps what it has does not keep the others", "a1 a2 a3 b1 b2 ! ! b ! b a3", "a1 b1 b2"},
		{"what is given back counts no more", "+a +a +b a1 b1 a a !", "a1"},
		{"served longest ago, when they hold as much", "a1 b1 c1 ! a ! b a2 b2 ! !", "a1 b1 c1 a2"},
		{"one that comes back is not before who waits", "b1 b2 a1 ! b ! a a2 !", "b1 a1 b2"},
		{"one that left is passed over", "a1 a2 b1 -a1 ! !", "a2 b1"},
		{"from the middle", "a1 a2 a3 -a2 ! !", "a1 a3"},
		{"nobody", "a1 -a1 !", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var l turns.Line[string]
			var served []string
			for step := range strings.FieldsSeq(tt.steps) {
				switch {
				case step == "!":
					if topic, w, ok := l.Next(); ok {
						l.Serve(topic, w, 1)
						served = append(served, w)
					}
				case step[0] == '+':
					l.Take(step[1:], 1)
				case step[0] == '-':
					if !l.Leave(of(step[1:]), step[1:]) {
						t.Errorf("%s did not wait", step[1:])
					}
				case len(step) == 1:
					l.Give(step, 1)
				default:
					l.Join(of(step), step)
				}
			}
			if got := strings.Join(served, " "); got != tt.want {
				t.Errorf("served %s, want %s", got, tt.want)
			}
		})
	}
}

func TestFindPassesOverWhoDoesNotFit(t *testing.T) {
	var l turns.Line[string]
	l.Take("b", 1)
	for _, w := range []string{"a1", "a2", "b1"} {
		l.Join(of(w), w)
	}
	for want, is := range map[string]func(string) bool{
		"a2": func(w string) bool { return w != "a1" },
		"b1": func(w string) bool { return of(w) == "b" },
		"":   func(string) bool { return false },
	} {
		if _, w, ok := l.Find(is); w != want || ok != (want != "") {
			t.Errorf("found %q, want %q", w, want)
		}
	}
}

// Whatever comes and goes, everybody is served or leaves, a topic never waits while two turns go to one that holds no
// less, and nothing is remembered of those that are gone.
func TestTopicsComeAndGo(t *testing.T) {
	for seed := range uint64(50) {
		rng := rand.New(rand.NewPCG(seed, 0))
		var l turns.Line[string]
		held, waiting := make(map[string]int), make(map[string][]string)
		count := func() (n int) {
			for _, ws := range waiting {
				n += len(ws)
			}
			return n
		}
		for i := range 3000 {
			topic := fmt.Sprintf("%c", 'a'+rune(rng.IntN(20)))
			switch rng.IntN(5) {
			case 0, 1:
				w := fmt.Sprintf("%s%d", topic, i)
				l.Join(topic, w)
				waiting[topic] = append(waiting[topic], w)
			case 2:
				if ws := waiting[topic]; len(ws) > 0 {
					k := rng.IntN(len(ws))
					if !l.Leave(topic, ws[k]) || l.Leave(topic, ws[k]) {
						t.Fatalf("seed %d: %s leaves, but once", seed, ws[k])
					}
					waiting[topic] = append(ws[:k:k], ws[k+1:]...)
				}
			case 3:
				if held[topic] > 0 {
					l.Give(topic, 1)
					held[topic]--
				}
			default:
				topic, w, ok := l.Next()
				if ok != (count() > 0) {
					t.Fatalf("seed %d: next %v of %d", seed, ok, count())
				}
				if !ok {
					continue
				}
				for other, ws := range waiting {
					if len(ws) > 0 && held[other] < held[topic] {
						t.Fatalf("seed %d: %s, which holds %d, before %s, which holds %d", seed, topic, held[topic], other, held[other])
					}
				}
				if w != waiting[topic][0] {
					t.Fatalf("seed %d: %s before %s", seed, w, waiting[topic][0])
				}
				n := rng.IntN(3)
				l.Serve(topic, w, n)
				held[topic] += n
				waiting[topic] = waiting[topic][1:]
			}
			if l.Len() != count() {
				t.Fatalf("seed %d: %d wait, want %d", seed, l.Len(), count())
			}
		}
		for topic, ws := range waiting {
			for _, w := range ws {
				l.Leave(topic, w)
			}
			l.Give(topic, held[topic])
		}
		if l.Topics() != 0 || l.Len() != 0 {
			t.Fatalf("seed %d: %d topics remembered that are gone", seed, l.Topics())
		}
	}
}

func TestMoreGivenBackThanHeldIsLoud(t *testing.T) {
	for name, give := range map[string]func(*turns.Line[int]){
		"never held": func(l *turns.Line[int]) { l.Give("b", 1) },
		"less held":  func(l *turns.Line[int]) { l.Give("a", 2) },
	} {
		t.Run(name, func(t *testing.T) {
			defer func() {
				if recover() == nil {
					t.Error("no panic: a bound would be lifted in silence")
				}
			}()
			var l turns.Line[int]
			l.Take("a", 1)
			give(&l)
		})
	}
}
