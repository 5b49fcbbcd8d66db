package kafka

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
)

// Retention is when brokers remove records of a topic: the zero value is never.
type Retention struct {
	Time  time.Duration // after which a record may go, by its own timestamp (retention.ms)
	Bytes int64         // of a partition, above which the oldest go (retention.bytes)
}

// ReadRetention asks for that of topics; one that our user may not ask for (DescribeConfigs) is missing, and the error is
// of the last of these.
func ReadRetention(ctx context.Context, admin *kadm.Client, topics ...string) (map[string]Retention, error) {
	all := make(map[string]Retention)
	configs, err := admin.DescribeTopicConfigs(ctx, topics...)
	if err != nil {
		return all, fmt.Errorf("read the topics' configuration: %w", err)
	}
	for _, one := range configs {
		if one.Err != nil {
			err = fmt.Errorf("read the configuration of %s: %w", one.Name, one.Err)
			continue
		}
		all[one.Name] = retentionOf(one.Configs)
	}
	return all, err
}

// retentionOf reads what a topic says. One that is only compacted loses no record to its age.
func retentionOf(configs []kadm.Config) (r Retention) {
	const forever = 1 << 42 // milliseconds; more is no time.Duration
	deletes := true
	for _, c := range configs {
		n, err := strconv.ParseInt(c.MaybeValue(), 10, 64)
		switch {
		case c.Key == "cleanup.policy":
			deletes = strings.Contains(c.MaybeValue(), "delete")
		case c.Key == "retention.ms" && err == nil && n > 0 && n < forever:
			r.Time = time.Duration(n) * time.Millisecond
		case c.Key == "retention.bytes" && err == nil && n > 0:
			r.Bytes = n
		}
	}
	if !deletes {
		return Retention{}
	}
	return r
}
