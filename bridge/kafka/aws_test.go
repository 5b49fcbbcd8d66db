package kafka

import (
	"context"
	"encoding/json"
	"maps"
	"strings"
	"testing"
	"testing/synctest"

	"serbridge/bridge/secret"
)

// fields is the challenge that is sent to addr.
func challengeOf(t *testing.T, m *iam, addr string) map[string]string {
	t.Helper()
	_, first, err := m.Authenticate(context.Background(), addr)
	if err != nil {
		t.Fatal(err)
	}
	var fields map[string]string
	if err := json.Unmarshal(first, &fields); err != nil {
		t.Fatal(err)
	}
	return fields
}

// Two implementations of the same signature must agree: the library's, which takes the region from the host name, and ours.
func TestOurSignatureIsTheLibrarys(t *testing.T) {
	t.Setenv("AWS_ACCESS_KEY_ID", "AKID")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "r1ght/+=")
	for _, token := range []string{"", "session+/= t0ken"} {
		t.Setenv("AWS_SESSION_TOKEN", token)
		synctest.Test(t, func(t *testing.T) { // one instant
			addr := "b-1.demo.abc.c2.kafka.eu-west-1.amazonaws.com:9098"
			byName := challengeOf(t, new(iam), addr)
			bySetting := challengeOf(t, &iam{region: "eu-west-1"}, addr)
			if !maps.Equal(byName, bySetting) {
				t.Errorf("the library signs\n%v, we\n%v", byName, bySetting)
			}
		})
	}
}

func TestRegionOfAPrivateNameIsTheSetting(t *testing.T) {
	t.Setenv("AWS_ACCESS_KEY_ID", "AKID")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "r1ght")
	t.Setenv("AWS_REGION", "")
	t.Setenv("AWS_DEFAULT_REGION", "")
	_, _, err := new(iam).Authenticate(context.Background(), "kafka.internal:9098")
	explained(t, err, "KAFKA_AWS_REGION", "kafka.internal")

	redactor := new(secret.Redactor)
	fields := challengeOf(t, &iam{region: "eu-west-1", redactor: redactor}, "kafka.internal:9098")
	if !strings.Contains(fields["x-amz-credential"], "/eu-west-1/kafka-cluster/") || fields["host"] != "kafka.internal" {
		t.Errorf("signed %v", fields)
	}
	if redactor.Redact("r1ght") == "r1ght" {
		t.Error("the redactor does not know the secret key")
	}
}

func TestMissingAWSCredentialsAreExplained(t *testing.T) {
	t.Setenv("AWS_ACCESS_KEY_ID", "")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "")
	t.Setenv("AWS_EC2_METADATA_DISABLED", "true")
	t.Setenv("AWS_CONFIG_FILE", t.TempDir()+"/none")
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", t.TempDir()+"/none")
	_, _, err := new(iam).Authenticate(context.Background(), "b.kafka.eu-west-1.amazonaws.com:9098")
	explained(t, err, "KAFKA_SASL_MECHANISM", "AWS credentials")
}

func TestRefusedAWSIdentityIsExplained(t *testing.T) {
	_, _, err := iamSession{}.Challenge(nil)
	explained(t, err, "kafka-cluster:Connect", "KAFKA_AWS_REGION")
	if done, _, err := (iamSession{}).Challenge([]byte(`{"request-id":"1"}`)); !done || err != nil {
		t.Errorf("an accepted identity: %v, %v", done, err)
	}
}
