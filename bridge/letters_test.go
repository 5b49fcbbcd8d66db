package bridge_test

import "serbridge/bridge/deadletter"

// noTopic is DLQ_CREATE=false.
func noTopic(c *deadletter.Config) { c.Create = false }
