package kafka

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"serbridge/bridge/secret"
)

var someone = secret.Literal("someone")

func TestContradictionsNameTheirSetting(t *testing.T) {
	brokers := []string{"a:9092"}
	oauth := Config{Brokers: brokers, SASLMechanism: OAuthBearer, OAuthTokenURL: "https://idp/token", OAuthClientID: someone, OAuthClientSecret: someone}
	for _, test := range []struct {
		name   string
		cfg    Config
		change func(*Config)
		names  []string // of each error, in order
	}{
		{name: "plain text", cfg: Config{Brokers: []string{"a", "b:9092", "[::1]:9092", "10.0.0.1:1"}}},
		{name: "TLS, system authorities", cfg: Config{Brokers: brokers, TLS: true}},
		{name: "files that are not there are no contradiction", cfg: Config{Brokers: brokers, TLS: true, CAFile: "/none", CertFile: "/none", KeyFile: "/none"}},
		{name: "no brokers", names: []string{"KAFKA_BROKERS"}},
		{
			name:  "malformed brokers",
			cfg:   Config{Brokers: []string{"", "https://a:9092", "a:http", "a:0", "a:70000", "::::", "u@a:1"}},
			names: slices.Repeat([]string{"KAFKA_BROKERS"}, 7),
		},
		{name: "certificate without key", cfg: Config{Brokers: brokers, TLS: true, CertFile: "c"}, names: []string{"KAFKA_TLS_KEY_FILE"}},
		{name: "key without certificate", cfg: Config{Brokers: brokers, TLS: true, KeyFile: "k"}, names: []string{"KAFKA_TLS_CERT_FILE"}},
		{name: "authority without TLS", cfg: Config{Brokers: brokers, CAFile: "ca"}, names: []string{"KAFKA_TLS"}},
		{name: "unknown mechanism", cfg: Config{Brokers: brokers, SASLMechanism: "plain"}, names: []string{"KAFKA_SASL_MECHANISM"}},
		{name: "PLAIN", cfg: Config{Brokers: brokers, SASLMechanism: Plain, Username: someone, Password: someone}},
		{name: "PLAIN without user", cfg: Config{Brokers: brokers, SASLMechanism: Plain, Password: someone}, names: []string{"KAFKA_SASL_USERNAME"}},
		{name: "SCRAM without anything", cfg: Config{Brokers: brokers, SASLMechanism: ScramSHA512}, names: []string{"KAFKA_SASL_USERNAME", "KAFKA_SASL_PASSWORD"}},
		{name: "user without mechanism", cfg: Config{Brokers: brokers, Username: someone}, names: []string{"KAFKA_SASL_MECHANISM"}},
		{name: "OAUTHBEARER", cfg: oauth},
		{
			name: "OAUTHBEARER without anything", cfg: Config{Brokers: brokers, SASLMechanism: OAuthBearer},
			names: []string{"KAFKA_OAUTH_TOKEN_URL", "KAFKA_OAUTH_CLIENT_ID", "KAFKA_OAUTH_CLIENT_SECRET"},
		},
		{name: "OAUTHBEARER with a password", cfg: oauth, change: func(c *Config) { c.Password = someone }, names: []string{"KAFKA_SASL_PASSWORD"}},
		{name: "token URL without scheme", cfg: oauth, change: func(c *Config) { c.OAuthTokenURL = "idp/token" }, names: []string{"KAFKA_OAUTH_TOKEN_URL"}},
		{name: "token URL with a password", cfg: oauth, change: func(c *Config) { c.OAuthTokenURL = "https://u:p4ss@idp/token" }, names: []string{"KAFKA_OAUTH_TOKEN_URL"}},
		{name: "MSK", cfg: Config{Brokers: brokers, TLS: true, SASLMechanism: MSKIAM, AWSRegion: "eu-west-1"}},
		{name: "MSK without TLS", cfg: Config{Brokers: brokers, SASLMechanism: MSKIAM}, names: []string{"KAFKA_TLS"}},
		{name: "region without MSK", cfg: Config{Brokers: brokers, AWSRegion: "eu-west-1"}, names: []string{"KAFKA_SASL_MECHANISM"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			if test.change != nil {
				test.change(&test.cfg)
			}
			var names []string
			for _, err := range test.cfg.Validate() {
				var s *SettingError
				if !errors.As(err, &s) || !strings.HasPrefix(err.Error(), s.Setting+": ") || strings.Contains(err.Error(), "p4ss") {
					t.Errorf("error %q", err)
					continue
				}
				names = append(names, s.Setting)
			}
			if !slices.Equal(names, test.names) {
				t.Errorf("Validate names %v, want %v", names, test.names)
			}
			if _, err := test.cfg.Options(); (err != nil) != (test.names != nil) {
				t.Errorf("Options: %v", err)
			}
		})
	}
}
