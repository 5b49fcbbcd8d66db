package deadletter_test

import (
	"context"
	"fmt"
	"time"

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

// All open letters of one reason, and what becomes of them. A redrive reads and marks in the same way.
func ExampleReader() {
	ctx, kafka := context.Background(), []kgo.Opt{kgo.SeedBrokers("broker-1:9092")}
	letters, err := deadletter.OpenReader(ctx, kafka, "serbridge.dlq")
	if err != nil {
		return
	}
	defer letters.Close()
	marks, err := deadletter.NewMarkWriter(deadletter.MarkConfig{Options: kafka, Topic: "serbridge.dlq", Create: true})
	if err != nil {
		return
	}
	defer marks.Close()
	meant := deadletter.Filter{Reasons: []string{"invalid_json"}, Fates: []deadletter.Fate{deadletter.Open}}
	err = letters.Each(ctx, meant, func(e *deadletter.Entry) (more bool, err error) {
		mark := e.Mark(deadletter.Parked)
		mark.Because, mark.At, mark.TopicID = "the source is mended", time.Now(), letters.ID
		return true, marks.Write(ctx, mark)
	})
	fmt.Println(err)
}
