package main

import (
	"context"
	"errors"
	"strings"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"

	"serbridge/bridge/backfill"
)

// membership is who is in a consumer group, by either protocol. The zero value is a group that does not exist.
type membership struct {
	kind    string // classic, consumer (KIP-848), or what another application calls its own
	state   string // as the broker names it
	members []groupMember
}

// groupMember is one of a group. What it calls itself is its own word.
type groupMember struct {
	name string // the client id: with serbridge the host name, on Kubernetes that of the pod
	host string // from where the broker sees it
	owns []backfill.Place
}

// readMembership asks for the group's members. That there is no such group is no error.
func readMembership(ctx context.Context, admin *kadm.Client, name string) (membership, error) {
	classic, err := admin.DescribeGroups(ctx, name)
	if err != nil {
		return membership{}, err
	}
	old := classic[name]
	if errors.Is(old.Err, kerr.GroupAuthorizationFailed) {
		return membership{}, old.Err
	}
	is := old.Err == nil && old.State != "" && old.State != "Dead"
	if is && len(old.Members) > 0 {
		return classicMembership(old), nil
	}
	// A broker may answer for a group of KIP-848 as for a classic one without members.
	modern, err := admin.DescribeConsumerGroups(ctx, name)
	if err == nil && modern[name].Err == nil && modern[name].State != "" && modern[name].State != "Dead" {
		return modernMembership(modern[name]), nil
	}
	if is {
		return classicMembership(old), nil
	}
	return membership{}, nil // no such group, and perhaps a broker without KIP-848
}

func classicMembership(g kadm.DescribedGroup) membership {
	m := membership{kind: "classic", state: g.State}
	if g.ProtocolType != "" && g.ProtocolType != "consumer" {
		m.kind = g.ProtocolType
	}
	for _, one := range g.Members {
		member := groupMember{name: one.ClientID, host: strings.TrimPrefix(one.ClientHost, "/")}
		if assigned, ok := one.Assigned.AsConsumer(); ok {
			for _, t := range assigned.Topics {
				for _, id := range t.Partitions {
					member.owns = append(member.owns, backfill.Place{Topic: t.Topic, Partition: id})
				}
			}
		}
		m.members = append(m.members, member)
	}
	return m
}

func modernMembership(g kadm.DescribedConsumerGroup) membership {
	m := membership{kind: "consumer", state: g.State}
	for _, one := range g.Members {
		member := groupMember{name: one.ClientID, host: strings.TrimPrefix(one.ClientHost, "/")}
		one.Assignment.Each(func(topic string, id int32) {
			member.owns = append(member.owns, backfill.Place{Topic: topic, Partition: id})
		})
		m.members = append(m.members, member)
	}
	return m
}
