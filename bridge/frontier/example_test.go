package frontier_test

import (
	"context"
	"fmt"
	"time"

	"serbridge/bridge/frontier"
)

// One record is stuck, others are delivered, the process dies, the next owner sends the stuck one alone.
func Example() {
	room := frontier.NewExposure(200)
	first := frontier.New(frontier.Config{Group: "serbridge", Topic: "alerts", Base: 10, Epoch: -1})
	for offset := int64(10); offset < 15; offset++ {
		first.Add(offset, 0, 512, time.Unix(0, 0))
		_ = room.Acquire(context.Background(), "alerts", 1, true)
	}
	for _, offset := range []int64{11, 12, 14} {
		first.Settle(offset, 1)
	}
	commit, _ := first.Snapshot()
	room.ReleaseAll("alerts", first.Committed(commit)) // after the broker acknowledged it
	fmt.Println("committed", commit.Base, "a crash could repeat", room.Held())

	said, err := frontier.Decode("serbridge", "alerts", 0, commit.Base, commit.Metadata)
	if err != nil {
		fmt.Println(err) // and go on from the base, without a map
	}
	second := frontier.New(frontier.Config{
		Group: "serbridge", Topic: "alerts", Base: commit.Base, Epoch: commit.LeaderEpoch, Restored: said,
	})
	for offset := int64(10); offset < 15; offset++ {
		if !second.Add(offset, 0, 512, time.Unix(0, 0)) {
			fmt.Println("sends", offset)
		}
	}
	// Output:
	// committed 10 a crash could repeat 2
	// sends 10
	// sends 13
}
