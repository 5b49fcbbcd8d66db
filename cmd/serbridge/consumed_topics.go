package main

import (
	"context"
	"maps"
	"regexp"
	"slices"

	"github.com/twmb/franz-go/pkg/kadm"
)

// listTopics asks for the topics that the group consumes, past the client's cache and with our rights. One that is named and
// may not be seen, or is not there, has its error.
func (s settings) listTopics(ctx context.Context, admin *kadm.Client) (kadm.TopicDetails, error) {
	pattern := s.Kafka.topicPattern()
	if pattern == "" {
		return listNamed(ctx, admin, s.Kafka.Topics)
	}
	matches := regexp.MustCompile(pattern)                    // the settings have compiled it
	all, err := admin.ListTopics(kadm.WithAuthorizedOps(ctx)) // but the broker's internal ones
	maps.DeleteFunc(all, func(name string, _ kadm.TopicDetail) bool {
		return !matches.MatchString(name) || slices.Contains(s.ownTopics(), name)
	})
	return all, err
}

// listNamed asks for one topic after the other: an answer that holds a refusal is refused as a whole.
func listNamed(ctx context.Context, admin *kadm.Client, topics []string) (kadm.TopicDetails, error) {
	all := make(kadm.TopicDetails)
	for _, topic := range topics {
		one, err := admin.ListTopics(kadm.WithAuthorizedOps(ctx), topic)
		switch {
		case isRefusal(err):
			all[topic] = kadm.TopicDetail{Topic: topic, Err: err}
		case err != nil:
			return nil, err
		default:
			maps.Copy(all, one)
		}
	}
	return all, nil
}
