package bridge

import (
	"context"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
)

// A member whose client cannot leave must be out of the group all the same, in both protocols, or its partitions stand
// until its session ends.
func TestLeavingInTheNameOfAMember(t *testing.T) {
	t.Parallel()
	for protocol, balancer := range map[string]kgo.Opt{"classic": kgo.Balancers(kgo.CooperativeStickyBalancer()), "consumer": kgo.ServerSideBalancer()} {
		t.Run(protocol, func(t *testing.T) {
			broker, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(1, "t"))
			if err != nil {
				t.Fatal(err)
			}
			defer broker.Close()
			joined := make(chan struct{}, 8)
			client := func(opts ...kgo.Opt) *kgo.Client {
				cl, err := kgo.NewClient(append(opts, kgo.SeedBrokers(broker.ListenAddrs()...))...)
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(cl.Close)
				return cl
			}
			member := client(kgo.ConsumerGroup("g"), kgo.ConsumeTopics("t"), balancer, kgo.HeartbeatInterval(time.Minute), kgo.SessionTimeout(3*time.Minute),
				kgo.OnPartitionsAssigned(func(context.Context, *kgo.Client, map[string][]int32) { joined <- struct{}{} }))
			<-joined
			visitor := client()
			id, _ := member.GroupMetadata()
			b := &Bridge{cfg: Config{Group: "g", Protocol: protocol}}
			if err := b.leaveInName(t.Context(), visitor, id); err != nil {
				t.Fatal(err)
			}
			lag, err := kadm.NewClient(visitor).Lag(t.Context(), "g")
			if err != nil || len(lag["g"].Members) != 0 {
				t.Errorf("%d members left, error %v", len(lag["g"].Members), err)
			}
		})
	}
}
