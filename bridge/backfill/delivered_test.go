package backfill

import (
	"math/rand/v2"
	"testing"
	"time"

	"serbridge/bridge/deadletter"
	"serbridge/bridge/receipt"
	"serbridge/transform"
)

// What is left out as delivered is what a receipt of this very record says, part by part, and nothing else: to leave out
// more would be to lose it.
func TestOnlyWhatReceiptsSayIsLeftOut(t *testing.T) {
	type key struct {
		offset int64
		ms     int64
		part   int
	}
	for seed := range uint64(20) {
		r := rand.New(rand.NewPCG(seed, 2))
		d := &Delivered{pages: make(map[deliveredNumber]*[deliveredPage]partsThere), scattered: make(map[scatteredPart]uint8)}
		said := make(map[key]map[string]bool) // mappings
		for range 300 {
			offset, ms := int64(r.IntN(40)*777), int64(r.IntN(2))
			one := receipt.Receipt{Source: deadletter.Source{Topic: "a", Partition: 1, Offset: offset}, Time: time.UnixMilli(ms)}
			mapping := []string{"m@1", "m@2"}[r.IntN(2)]
			for part := range 1 + r.IntN(6) {
				p := receipt.Part{Part: part, Mapping: mapping}
				switch r.IntN(5) {
				case 0:
					p.Reason = "http_400"
				case 1:
					p.Skip = "no_detection"
				case 2:
					p.Mapping = "other@1"
				}
				one.Parts = append(one.Parts, p)
				if k := (key{offset, ms, part}); p.Fate() == receipt.Delivered {
					if said[k] == nil {
						said[k] = make(map[string]bool)
					}
					said[k][p.Mapping] = true
				}
			}
			if err := d.take(one); err != nil {
				t.Fatal(err)
			}
			// The receipt that was just taken in is not forgotten, whatever its parts.
			for _, p := range one.Parts {
				in := transform.Input{Topic: "a", Partition: 1, Offset: offset, Timestamp: one.Time}
				if p.Fate() == receipt.Delivered && !d.has(&in, p.Part, p.Mapping) {
					t.Fatalf("seed %d: offset %d part %d of %+v is sent again", seed, offset, p.Part, one.Parts)
				}
			}
		}
		for offset := int64(0); offset < 40*777; offset += 777 {
			for ms := range int64(3) {
				for part := range 8 {
					for _, mapping := range []string{"m@1", "m@2", "other@1", "new@1"} {
						in := transform.Input{Topic: "a", Partition: 1, Offset: offset, Timestamp: time.UnixMilli(ms)}
						if d.has(&in, part, mapping) && !said[key{offset, ms, part}][mapping] {
							t.Fatalf("seed %d: offset %d, time %d, part %d, %s is left out, and nobody delivered it", seed, offset, ms, part, mapping)
						}
					}
				}
			}
		}
	}
}

// A receipt in many pieces, and one of many parts, are taken in whole.
func TestManyPartsAreLeftOut(t *testing.T) {
	d := &Delivered{pages: make(map[deliveredNumber]*[deliveredPage]partsThere), scattered: make(map[scatteredPart]uint8)}
	at := time.UnixMilli(5)
	for first := 0; first < 600; first += 200 {
		one := receipt.Receipt{Source: deadletter.Source{Topic: "a", Offset: 9}, Time: at, Of: 600}
		for part := first; part < first+200; part++ {
			one.Parts = append(one.Parts, receipt.Part{Part: part, Mapping: "m@1"})
		}
		if err := d.take(one); err != nil {
			t.Fatal(err)
		}
	}
	in := transform.Input{Topic: "a", Offset: 9, Timestamp: at}
	for part := range 600 {
		if !d.has(&in, part, "m@1") || d.has(&in, part, "m@2") {
			t.Fatalf("part %d", part)
		}
	}
	if d.has(&in, 600, "m@1") || d.Records() != 1 {
		t.Errorf("a part that nobody delivered, or %d records", d.Records())
	}
}
