package deadletter_test

import (
	"fmt"

	"serbridge/bridge/deadletter"

	"github.com/twmb/franz-go/pkg/kgo"
)

func Example() {
	letter := deadletter.Letter{
		Key: []byte("host-1"), Value: []byte(`{"broken":`),
		Headers: []kgo.RecordHeader{{Key: "source", Value: []byte("suricata")}},
		Topic:   "detections", Partition: 2, Offset: 17, Part: -1,
		Reason: "invalid_json", Detail: "unexpected end", Stage: deadletter.StageConvert,
	}
	record := letter.Record("serbridge.dlq")

	back, err := deadletter.Parse(record)
	fmt.Println(back.Topic, back.Partition, back.Offset, back.Reason, len(back.Headers), err)
	// Output: detections 2 17 invalid_json 1 <nil>
}
