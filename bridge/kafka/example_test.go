package kafka_test

import (
	"fmt"

	"serbridge/bridge/kafka"

	"github.com/twmb/franz-go/pkg/kerr"
)

func ExampleConfig_Validate() {
	c := kafka.Config{Brokers: []string{"kafka:9093"}, TLS: true, CertFile: "/tls/tls.crt", SASLMechanism: "SCRAM"}
	for _, err := range c.Validate() {
		fmt.Println(err)
	}
	// Output:
	// KAFKA_TLS_KEY_FILE: is required with KAFKA_TLS_CERT_FILE
	// KAFKA_SASL_MECHANISM: "SCRAM" is not one of PLAIN, SCRAM-SHA-256, SCRAM-SHA-512, OAUTHBEARER, AWS_MSK_IAM
}

func ExampleExplain() {
	fmt.Println(kafka.Explain(fmt.Errorf("poll: %w", kerr.GroupAuthorizationFailed)))
	// Output:
	// our Kafka user lacks a right on the consumer group: grant Describe and Read on the group KAFKA_GROUP (poll: GROUP_AUTHORIZATION_FAILED: Not authorized to access group: Group authorization failed.)
}
