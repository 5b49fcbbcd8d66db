package format_test

import (
	"fmt"
	"time"

	"serbridge/transform"
	"serbridge/transform/format"
)

// A record of Event Hubs holds several rows of Defender: one is an alert, the other evidence, which is no detection.
func ExampleTransform_envelope() {
	at := time.Date(2026, 3, 4, 6, 0, 0, 0, time.UTC)
	result := format.Transform(transform.Input{Topic: "hub", Timestamp: at, Now: at, Value: []byte(`{"records":[
	 {"category":"AdvancedHunting-AlertInfo","properties":{"AlertId":"a-1","Title":"Hidden file","Severity":"High","Timestamp":"2026-03-04T05:06:07.89Z"}},
	 {"category":"AdvancedHunting-AlertEvidence","properties":{"AlertId":"a-1","Title":"Hidden file","Severity":"High"}}]}`)})
	for i, part := range result.Parts {
		if part.Document == nil {
			fmt.Println(i, part.Skip)
			continue
		}
		fmt.Println(i, part.Document.Format())
	}
	// Output:
	// 0 defender
	// 1 not_a_detection
}

// FORMATS is checked before anything is read.
func ExampleCheck() {
	fmt.Println(format.Check([]string{"suricata", "falco"}))
	fmt.Println(format.Check([]string{"surikata"}) != nil)
	// Output:
	// <nil>
	// true
}
