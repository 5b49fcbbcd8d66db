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

// running runs the service with these settings, until stop, which waits for its end.
func running(t *testing.T, environ map[string]string) (stop func()) {
	t.Helper()
	red := new(secret.Redactor)
	s, err := loadSettings(environ, red)
	if err != nil {
		t.Fatal(err)
	}
	v, err := newService(s, slog.New(slog.DiscardHandler), red)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- v.run(ctx) }()
	return func() {
		t.Helper()
		cancel()
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
}

// A quota of the brokers is of a client id: pods, each with a host's name of its own, could share none.
func TestBrokersKnowTheMemberByItsClientID(t *testing.T) {
	t.Parallel()
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(1, "t"))
	if err != nil {
		t.Fatal(err)
	}
	defer cluster.Close()
	defer running(t, map[string]string{"KAFKA_BROKERS": cluster.ListenAddrs()[0], "KAFKA_TOPICS": "t", "KAFKA_CLIENT_ID": "bridge-7",
		"STELLAR_URL": "https://127.0.0.1:1", "STELLAR_USER": "u", "STELLAR_API_KEY": "k", "ADMIN_ADDR": "127.0.0.1:0"})()
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
