package byhand_test

import (
	"context"
	"fmt"

	"github.com/twmb/franz-go/pkg/kgo"

	"serbridge/bridge/byhand"
	"serbridge/bridge/deadletter"
)

// A record that is held for ever becomes a dead letter, while the group is stopped.
func Example() {
	ctx, kafka := context.Background(), []kgo.Opt{kgo.SeedBrokers("broker-1:9092")}
	letters, err := deadletter.NewWriter(deadletter.Config{Options: kafka, Topic: "serbridge.dlq"})
	if err != nil {
		return
	}
	defer letters.Close()
	put, err := byhand.Prepare(ctx, byhand.Config{
		Options: kafka, Group: "serbridge", Earliest: true, Letters: letters,
		Letter: deadletter.Letter{Reason: deadletter.ByHand, Detail: "held for ever", Certainty: "unknown"},
	}, deadletter.Source{Topic: "detections", Partition: 2, Offset: 4711})
	if err != nil {
		return // the group has members, say
	}
	defer put.Close()
	fmt.Println(put.Committed, "becomes", put.Base, put.Do(ctx))
}
