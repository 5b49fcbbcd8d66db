package receipt_test

import (
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"serbridge/bridge/deadletter"
	"serbridge/bridge/receipt"
)

func Example() {
	value, _ := receipt.Receipt{
		Source: deadletter.Source{Topic: "detections", Partition: 2, Offset: 17},
		Ended:  time.Date(2026, 11, 24, 9, 0, 0, 0, time.UTC),
		Of:     1, Parts: []receipt.Part{{Index: "aella-ser-1", ID: "AXkq", Mapping: "aella_ser@0123abcd", Attempts: 2}},
	}.Encode()

	back, err := receipt.Parse(&kgo.Record{Value: value})
	fmt.Println(back.Source, back.Fate(), back.Parts[0].ID, back.Parts[0].Attempts, err)
	// Output: detections:2:17 delivered AXkq 2 <nil>
}
