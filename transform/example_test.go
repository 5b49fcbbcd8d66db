package transform_test

import (
	"fmt"
	"strings"
	"time"

	"serbridge/transform"
	"serbridge/transform/format"
)

// The two steps of the slimming ladder take off what a firewall or an index may refuse, and keep what finds the document.
func ExampleDocument_Bare() {
	at := time.Date(2026, 3, 4, 6, 0, 0, 0, time.UTC)
	result := format.Transform(transform.Input{
		Value: []byte(`{"event_name":"Webshell","event_source":"acme_edr","timestamp":1772600767,"severity":"critical","cmdline":"cat /etc/passwd"}`),
		Topic: "edr", Offset: 42, Timestamp: at, Now: at,
		Settings: &transform.Settings{RawBytes: 40},
	})
	full := result.Parts[0].Document
	bare := full.WithoutRaw().Bare()
	text, _ := bare.Encode()
	fmt.Println(bare.DeliveryKey() == full.DeliveryKey())
	vendors, _, _ := strings.Cut(string(text), `,"custom_ser_field"`)
	fmt.Println(vendors)
	// Output:
	// true
	// {"event_name":"Webshell","timestamp":1772600767000,"event_status":"New","event_source":"acme_edr","event_category":"killchain","severity":99,"event_score":99
}

// A Reject says which rule was broken, and what to do.
func ExampleReject() {
	result := format.Transform(transform.Input{Value: []byte(`{"event_name":"Beacon"}`)})
	fmt.Println(result.Reject.Reason, result.Reject.Field)
	fmt.Println(result.Reject.Detail)
	// Output:
	// missing_field event_source
	// event_source is absent or empty, and EVENT_SOURCE is not set
}
