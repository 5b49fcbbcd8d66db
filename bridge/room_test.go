package bridge_test

import (
	"bytes"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"serbridge/bridge"
	"serbridge/bridge/stellar/stellartest"
)

// A document that was sent as often as it may be holds its room until another is delivered, which needs room. However
// little there is of it, and however few of them fill it, too few to close the gate: the others must not wait for ever.
func TestSmallestRoomIsNotHeldForEver(t *testing.T) {
	t.Parallel()
	topics := []string{topic, "other", "third"}
	for _, c := range rows([]struct{ bound, unknown int }{{1, 1}, {2, 3}, {3, 5}, {9, 9}, {12, 12}, {5, 8}, {8, 20}}) {
		t.Run(fmt.Sprintf("%d unknown, room for %d", c.unknown, c.bound), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				const refused, others = 3, 100
				w := newWorld(t, worldConfig{partitions: 1, api: slow, topics: topics})
				w.api.Script(func(r stellartest.Request) stellartest.Fault {
					switch {
					case bytes.Contains(r.Body, []byte(`"poison 1`)): // 100 and above
						return stellartest.GatewayTimeout().Stored()
					case bytes.Contains(r.Body, []byte(`"poison `)):
						return stellartest.BadRequest()
					}
					return stellartest.Fault{}
				})
				m := w.start(func(cfg *bridge.Config) { cfg.Topics, cfg.MaxRepeats = topics, c.bound })
				w.produceTo(topic, 100, c.unknown, poisoned)
				time.Sleep(time.Minute) // alone, they have nobody to be compared with
				w.produceTo(topic, 200, refused, poisoned)
				for i, name := range topics {
					w.produceTo(name, 1000*(i+1), others, detection)
				}
				stop := w.trickle(9000, time.Second) // company for those refused last
				time.Sleep(30 * time.Minute)
				all := c.unknown + refused + len(topics)*others + stop() - 9000
				w.settled(10*time.Minute, topics...)
				expectAccounted(t, w, all)
				for _, l := range w.letters() {
					if l.Topic != topic || l.Offset >= int64(c.unknown+refused) || l.Offset < int64(c.unknown) != (l.Reason == "ambiguous") {
						t.Errorf("dead letter of %s offset %d for %s", l.Topic, l.Offset, l.Reason)
					}
				}
				if n := mostCopies(w); n > 3 {
					t.Errorf("a document was stored %d times", n)
				}
				m.expectReady()
			})
		})
	}
}
