package main

import (
	"context"
	"log/slog"
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"serbridge/bridge/secret"
)

// A quota of the brokers is of a client id: pods, each with a host's name of its own, could share none.
func TestBrokersKnowTheMemberByItsClientID(t *testing.T) {
	t.Parallel()
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(1, "t"))
	if err != nil {
		t.Fatal(err)
	}
	defer cluster.Close()
	s, err := loadSettings(map[string]string{"KAFKA_BROKERS": cluster.ListenAddrs()[0], "KAFKA_TOPICS": "t", "KAFKA_CLIENT_ID": "bridge-7",
		"STELLAR_URL": "https://127.0.0.1:1", "STELLAR_USER": "u", "STELLAR_API_KEY": "k", "ADMIN_ADDR": "127.0.0.1:0"}, new(secret.Redactor))
	if err != nil {
		t.Fatal(err)
	}
	v, err := newService(s, slog.New(slog.DiscardHandler), new(secret.Redactor))
	if err != nil {
		t.Fatal(err)
	}
	if err := v.start(); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- v.run(ctx) }()
	defer func() { stop(); <-done }()
	if _, err := cluster.WaitGroupStable(t.Context(), "serbridge", 1); err != nil {
		t.Fatal(err)
	}
	client, err := kgo.NewClient(kgo.SeedBrokers(cluster.ListenAddrs()...))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	group, err := kadm.NewClient(client).DescribeGroups(t.Context(), "serbridge")
	if err != nil {
		t.Fatal(err)
	}
	if members := group["serbridge"].Members; len(members) != 1 || members[0].ClientID != "bridge-7" {
		t.Errorf("members: %+v", members)
	}
}
