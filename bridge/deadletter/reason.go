package deadletter

// Reasons of dead letters that neither the transform nor the API's answers give. Together with theirs they are the closed set.
const (
	Ambiguous        = "ambiguous"         // sent as often as allowed, and it may be stored
	RetriesExhausted = "retries_exhausted" // the API failed with it again and again, while it took others
	ByHand           = "by_hand"           // an operator moved the record here: serbridge dlq put
)

// Reasons returns these, so that a metric can start each at zero.
func Reasons() []string { return []string{Ambiguous, RetriesExhausted, ByHand} }

// What stands in for a reason where a record in the dead-letter topic has none of ours. Never written to a header.
const (
	OfConnect  = "kafka_connect" // a dead letter that Kafka Connect wrote
	Unreadable = "unreadable"    // no dead letter, or one of which the headers cannot be read
)
