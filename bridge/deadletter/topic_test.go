package deadletter

import (
	"context"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// created are the partitions and configs that the dead-letter topic was given, without the broker's defaults.
func (w *world) created() (int, map[string]string) {
	w.t.Helper()
	adm := kadm.NewClient(w.client())
	topics, err := adm.ListTopics(context.Background(), dlq)
	if err != nil || topics.Error() != nil {
		w.t.Fatal(err, topics.Error())
	}
	all, err := adm.DescribeTopicConfigs(context.Background(), dlq)
	if err != nil {
		w.t.Fatal(err)
	}
	configs := make(map[string]string)
	for _, c := range all[0].Configs {
		if c.Source == kmsg.ConfigSourceDynamicTopicConfig {
			configs[c.Key] = c.MaybeValue()
		}
	}
	return len(topics[dlq].Partitions), configs
}

func TestCreatedTopicTakesWhatItsSourcesHave(t *testing.T) {
	s := kadm.StringPtr
	for _, test := range []struct {
		name       string
		a, b       map[string]*string
		partitions int
		want       map[string]string
	}{
		{
			"limited",
			map[string]*string{"retention.ms": s("86400000"), "max.message.bytes": s("2000000"), "retention.bytes": s("1000")},
			map[string]*string{"retention.ms": s("3600000"), "max.message.bytes": s("3000000"), "retention.bytes": s("9000")},
			5,
			map[string]string{"cleanup.policy": "delete", "retention.ms": "1296000000", "max.message.bytes": "4048576", "retention.bytes": "9000"},
		},
		{
			"unlimited",
			map[string]*string{"retention.ms": s("-1"), "retention.bytes": s("-1"), "cleanup.policy": s("compact")},
			map[string]*string{"retention.ms": s("3600000"), "max.message.bytes": s("2147483647"), "retention.bytes": s("9000")},
			5,
			map[string]string{"cleanup.policy": "delete", "retention.ms": "-1", "max.message.bytes": "2147483647", "retention.bytes": "-1"},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				w.createTopic("a", 2, test.a)
				w.createTopic("b", 5, test.b)
				writer := w.writer(func(c *Config) { c.Sources = func() []string { return []string{"a", "b", "not there yet"} } })
				if err := writer.Ready(seconds(t, 10)); err != nil {
					t.Fatal(err)
				}
				partitions, configs := w.created()
				if partitions != test.partitions {
					t.Errorf("%d partitions, want %d", partitions, test.partitions)
				}
				for name, want := range test.want {
					if configs[name] != want {
						t.Errorf("%s = %s, want %s", name, configs[name], want)
					}
				}
			})
		})
	}
}

func TestManyReplicasCreateOneTopic(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		var all sync.WaitGroup
		for range 5 {
			writer := w.writer()
			for range 3 {
				all.Go(func() {
					if err := writer.Write(seconds(t, 60), sample()); err != nil {
						t.Error(err)
					}
				})
			}
		}
		all.Wait()
		w.letters(15)
	})
}

// A topic of the broker's default size would stay as small for ever, because the sources were created a minute later.
func TestTopicIsNotCreatedBeforeItsSources(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		writer := w.writer(func(c *Config) { c.Sources = func() []string { return []string{"detections"} } })
		mustSay(t, writer.Ready(seconds(t, 10)), dlq, "KAFKA_TOPICS")
		w.createTopic("detections", 4, nil)
		if err := writer.Ready(seconds(t, 10)); err != nil {
			t.Fatal(err)
		}
		if partitions, _ := w.created(); partitions != 4 {
			t.Errorf("%d partitions, want 4", partitions)
		}
	})
}

func TestUnreadableLimitsDoNotStopTheTopic(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, kfake.SeedTopics(4, "detections"))
		w.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.DescribeConfigs}, Err: kerr.TopicAuthorizationFailed})
		writer := w.writer(func(c *Config) { c.Sources = func() []string { return []string{"detections"} } })
		if err := writer.Ready(seconds(t, 10)); err != nil {
			t.Fatal(err)
		}
		if partitions, _ := w.created(); partitions != 4 {
			t.Errorf("%d partitions, want 4", partitions)
		}
		if !strings.Contains(w.log.String(), "DescribeConfigs") {
			t.Errorf("nobody is told: %s", w.log.String())
		}
	})
}

func TestUnseenSourceDoesNotStopTheTopicOfTheOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, kfake.SeedTopics(4, "detections"), kfake.SeedTopics(6, "secret"))
		w.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Metadata}, Topic: "secret", Err: kerr.TopicAuthorizationFailed, Count: -1})
		sources := []string{"secret"}
		writer := w.writer(func(c *Config) { c.Sources = func() []string { return sources } })
		mustSay(t, writer.Ready(seconds(t, 10)), dlq, "KAFKA_TOPICS", "secret")
		sources = append(sources, "detections")
		if err := writer.Ready(seconds(t, 10)); err != nil {
			t.Fatal(err)
		}
		if partitions, _ := w.created(); partitions != 4 {
			t.Errorf("%d partitions, want 4", partitions)
		}
	})
}

func TestClusterThatRefusesTheTopicSaysWhatToDo(t *testing.T) {
	for _, refusal := range []*kerr.Error{kerr.PolicyViolation, kerr.InvalidReplicationFactor, kerr.ClusterAuthorizationFailed} {
		t.Run(refusal.Message, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				w.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.CreateTopics}, Err: refusal, Count: -1})
				mustSay(t, w.writer().Ready(seconds(t, 10)), dlq, "DLQ_CREATE=false", refusal.Message)
			})
		})
	}
}
