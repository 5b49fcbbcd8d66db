package bridge_test

import (
	"context"
	"fmt"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"serbridge/bridge"
	"serbridge/bridge/deadletter"
	"serbridge/bridge/secret"
	"serbridge/bridge/stellar"
	"serbridge/bridge/stellar/stellartest"
)

// A detection on a Kafka topic becomes a document in the index. Broker and API
// are small real ones in this process.
func Example() {
	ctx := context.Background()
	broker, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(1, "detections"))
	if err != nil {
		panic(err)
	}
	defer broker.Close()
	platform := stellartest.New(stellartest.Config{})
	defer platform.Close()
	api, err := platform.Start("127.0.0.1:0")
	if err != nil {
		panic(err)
	}

	options := []kgo.Opt{kgo.SeedBrokers(broker.ListenAddrs()...)}
	producer, err := kgo.NewClient(options...)
	if err != nil {
		panic(err)
	}
	defer producer.Close()
	producer.ProduceSync(ctx, &kgo.Record{Topic: "detections", Value: []byte(
		`{"event_name":"Beaconing","event_source":"ids","event_status":"OPEN","timestamp":1795510800,"severity":"high"}`)})

	client, err := stellar.New(stellar.Config{URL: api.URL(),
		User: secret.Literal(stellartest.DefaultUser), APIKey: secret.Literal(stellartest.DefaultAPIKey)})
	if err != nil {
		panic(err)
	}
	defer client.Close()
	letters, err := deadletter.NewWriter(deadletter.Config{Options: options, Topic: "serbridge.dlq", Create: true})
	if err != nil {
		panic(err)
	}
	defer letters.Close()
	b, err := bridge.New(bridge.Config{Kafka: options, Topics: []string{"detections"}, Stellar: client, DeadLetters: letters})
	if err != nil {
		panic(err)
	}

	running, stop := context.WithCancel(ctx)
	ended := make(chan error)
	go func() { ended <- b.Run(running) }()
	if err := platform.Wait(ctx, func(l stellartest.Ledger) bool { return l.Documents == 1 }); err != nil {
		panic(err)
	}
	stop() // drains, commits, leaves the group
	fmt.Println("ended:", <-ended)
	fmt.Println("stored", platform.Ledger().Documents)
	// Output:
	// ended: <nil>
	// stored 1
}
