package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"serbridge/bridge/kafka"
)

// checkGroup says who is in the group, and whether we may be and commit.
func (c *check) checkGroup(ctx context.Context) {
	asking, cancel := c.ask(ctx)
	defer cancel()
	name := c.settings.Kafka.Group
	if err := c.mayCommit(asking); err != nil {
		c.facts.fail("group rights", name, "grant our Kafka user Read and Describe on the group "+name, "%s", kafka.Explain(err))
		return
	}
	c.facts.ok("group rights", name, "may join and commit")
	group, err := readMembership(asking, c.admin, name)
	members, kind := len(group.members), group.kind
	const other = "take another KAFKA_GROUP, or end the other application"
	switch {
	case err != nil:
		c.facts.warn("group", name, "grant our Kafka user Describe on the group "+name, "%s", kafka.Explain(err))
	case kind == "":
		c.facts.ok("group", name, "has no members")
	case kind != c.settings.Kafka.GroupProtocol && members > 0:
		c.facts.fail("group", name, other+"; or correct KAFKA_GROUP_PROTOCOL", "has %d members of the kind %s, ours would be %s", members, kind, c.settings.Kafka.GroupProtocol)
	default:
		c.facts.ok("group", name, "has %d members", members)
	}
	c.found.members = members
}

// mayCommit asks with a heartbeat of a member that does not exist: it needs the right that a commit needs, and the
// broker looks at rights first.
func (c *check) mayCommit(ctx context.Context) error {
	req := kmsg.NewPtrHeartbeatRequest()
	req.Group, req.MemberID, req.Generation = c.settings.Kafka.Group, "serbridge-check", -1
	resp, err := req.RequestWith(ctx, c.kafka)
	if err != nil {
		return fmt.Errorf("find the group's coordinator: %w", err)
	}
	if err := kerr.ErrorForCode(resp.ErrorCode); errors.Is(err, kerr.GroupAuthorizationFailed) || errors.Is(err, kerr.InvalidGroupID) {
		return err
	}
	return nil // that this member is unknown, it knew
}

// checkOwnTopics looks at the topics that we write.
func (c *check) checkOwnTopics(ctx context.Context) {
	c.checkOwnTopic(ctx, "dead-letter topic", c.settings.DLQ.Topic, c.settings.DLQ.Create)
	if topic := c.settings.Receipts.Topic; topic != "" {
		c.checkOwnTopic(ctx, "receipts topic", topic, true)
	}
}

func (c *check) checkOwnTopic(ctx context.Context, name, topic string, create bool) {
	ctx, cancel := c.ask(ctx)
	defer cancel()
	listed, err := c.admin.ListTopics(kadm.WithAuthorizedOps(ctx), topic)
	switch {
	case isRefusal(err):
		c.facts.fail(name, topic, "grant our Kafka user Write and Describe on it, and Create where it is to be created", "%s", kafka.Explain(err))
		return
	case err != nil:
		c.facts.fail(name, topic, "see that the brokers answer", "%s", kafka.Explain(err))
		return
	}
	switch t := listed[topic]; {
	case t.Err == nil:
		c.facts.ok(name, topic, "%d partitions, %d replicas", len(t.Partitions), t.Partitions.NumReplicas())
		c.checkRights(name+" rights", topic, t.AuthorizedOperations, kadm.OpWrite, kadm.OpDescribe)
	case !errors.Is(t.Err, kerr.UnknownTopicOrPartition):
		c.facts.fail(name, topic, "grant our Kafka user Write and Describe on it", "%s", kafka.Explain(t.Err))
	case !create:
		c.facts.fail(name, topic, "create it, or set DLQ_CREATE=true", "does not exist, and DLQ_CREATE is false")
	default:
		c.checkCreation(ctx, name, topic)
	}
}

// checkCreation has the broker judge a creation that it does not carry out.
func (c *check) checkCreation(ctx context.Context, name, topic string) {
	partitions, replicas := int32(1), int16(-1)
	for _, source := range c.found.topics {
		partitions = max(partitions, int32(len(source.Partitions)))
		replicas = max(replicas, int16(source.Partitions.NumReplicas()))
	}
	if replicas == 0 {
		replicas = -1
	}
	answers, err := c.admin.ValidateCreateTopics(ctx, partitions, replicas, nil, topic)
	if err == nil {
		err = answers[topic].Err
	}
	if err != nil {
		c.facts.fail(name, topic, "create it by hand, or grant our Kafka user Create on it", "does not exist, and cannot be created: %s", kafka.Explain(err))
		return
	}
	c.facts.ok(name, topic, "does not exist yet, and may be created with %d partitions", partitions)
}
