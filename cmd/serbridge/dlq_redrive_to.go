package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/time/rate"

	"serbridge/bridge/backfill"
	"serbridge/bridge/deadletter"
)

// toTopic is the topic that records go to; empty: documents go to the platform.
func (r *redrive) toTopic() string {
	topic, _ := strings.CutPrefix(r.to, "topic=")
	if topic == r.to {
		return ""
	}
	return topic
}

// checkTo finds what is wrong with --to alone.
func (r *redrive) checkTo() error {
	topic, is := strings.CutPrefix(r.to, "topic=")
	switch {
	case r.to == toInsert:
		return nil
	case !is:
		return fmt.Errorf("--to wants %s or topic=NAME", toInsert)
	case topic == "" || strings.HasPrefix(topic, "^") || topicFault(topic) != "":
		return fmt.Errorf("--to: %q is no name of a topic", topic)
	case r.status != "":
		return errors.New("--event-status and --to topic=… exclude each other: whoever reads the topic says as what detections arrive")
	}
	return nil
}

// checkOwnTopic refuses topics in which a record would be no detection.
func (r *redrive) checkOwnTopic() error {
	if slices.Contains(r.settings.ownTopics(), r.toTopic()) {
		return fmt.Errorf("--to: %s is a topic of our own, not one of detections", r.toTopic())
	}
	return nil
}

// openTopic makes what produces to the topic of --to, if there is one.
func (r *redrive) openTopic(ctx context.Context) error {
	if r.toTopic() == "" {
		return nil
	}
	to, err := deadletter.NewForwarder(r.box.options, r.toTopic())
	if err != nil {
		return usageError{err}
	}
	r.job.Forward = &backfill.Forward{To: to}
	if n := r.settings.Delivery.RateLimit; n > 0 {
		r.job.Forward.Limit = rate.NewLimiter(rate.Limit(n), max(1, r.settings.Delivery.RateBurst))
	}
	ready, cancel := context.WithTimeout(ctx, writeWait)
	defer cancel()
	if err := to.Ready(ready); err != nil {
		to.Close()
		return r.box.fault("begin redrive", err)
	}
	return nil
}

func (r *redrive) closeTopic() {
	if r.job.Forward != nil {
		r.job.Forward.To.Close()
	}
}
