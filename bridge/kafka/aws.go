package kafka

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"serbridge/bridge/secret"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/twmb/franz-go/pkg/sasl"
	mskiam "github.com/twmb/franz-go/pkg/sasl/aws"
)

// iam is the AWS_MSK_IAM mechanism with AWS's default credential chain: environment, shared files, web identity, container, host.
type iam struct {
	region   string
	redactor *secret.Redactor

	mu    sync.Mutex
	chain aws.CredentialsProvider // caches until near expiry; nil until AWS's settings could be read
}

// Name implements [sasl.Mechanism].
func (m *iam) Name() string { return MSKIAM }

// Authenticate implements [sasl.Mechanism].
func (m *iam) Authenticate(ctx context.Context, addr string) (sasl.Session, []byte, error) {
	c, err := m.credentials(ctx)
	if err != nil {
		return nil, nil, &SettingError{varMechanism, fmt.Errorf("no AWS credentials (service account, AWS_* variables, instance role): %w", err)}
	}
	if m.region == "" {
		return m.byHostName(ctx, c, addr)
	}
	first, err := challenge(ctx, c, addr, m.region)
	return iamSession{}, first, err
}

func (m *iam) credentials(ctx context.Context) (aws.Credentials, error) {
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	chain, err := m.load(ctx)
	if err != nil {
		return aws.Credentials{}, err
	}
	c, err := chain.Retrieve(ctx)
	if err == nil {
		m.redactor.Add(c.SecretAccessKey, c.SessionToken)
	}
	return c, err
}

func (m *iam) load(ctx context.Context) (aws.CredentialsProvider, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.chain == nil {
		c, err := config.LoadDefaultConfig(ctx, config.WithDefaultRegion(m.region))
		if err != nil {
			return nil, err
		}
		m.chain = c.Credentials
	}
	return m.chain, nil
}

// byHostName leaves the region to the library: from the broker's name, else from AWS_REGION.
func (m *iam) byHostName(ctx context.Context, c aws.Credentials, addr string) (sasl.Session, []byte, error) {
	login := mskiam.Auth{AccessKey: c.AccessKeyID, SecretKey: c.SecretAccessKey, SessionToken: c.SessionToken, UserAgent: userAgent}
	session, first, err := login.AsManagedStreamingIAMMechanism().Authenticate(ctx, addr)
	if err != nil {
		return nil, nil, &SettingError{varAWSRegion, err}
	}
	return session, first, nil
}

const (
	userAgent   = "serbridge"
	emptySHA256 = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
)

// challenge is a presigned request for kafka-cluster:Connect as a JSON object, as github.com/aws/aws-msk-iam-auth defines it.
// The library builds the same but takes no region, which a broker behind a private name needs.
func challenge(ctx context.Context, c aws.Credentials, addr, region string) ([]byte, error) {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, fmt.Errorf("read broker address: %w", err)
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+host+"/?Action=kafka-cluster%3AConnect&X-Amz-Expires=300", nil)
	if err != nil {
		return nil, fmt.Errorf("build the AWS request: %w", err)
	}
	signed, _, err := v4.NewSigner().PresignHTTP(ctx, c, r, emptySHA256, "kafka-cluster", region, time.Now())
	if err != nil {
		return nil, fmt.Errorf("sign the AWS request: %w", err)
	}
	u, err := url.Parse(signed)
	if err != nil {
		return nil, fmt.Errorf("read the signed AWS request: %w", err)
	}
	fields := map[string]string{"host": host, "version": "2020_10_22", "user-agent": userAgent}
	for name, values := range u.Query() {
		fields[strings.ToLower(name)] = values[0]
	}
	return json.Marshal(fields)
}

type iamSession struct{}

// Challenge implements [sasl.Session]; the broker answers with its request id.
func (iamSession) Challenge(answer []byte) (bool, []byte, error) {
	if len(answer) == 0 {
		return false, nil, fmt.Errorf("the broker refuses the AWS identity: check its policy (kafka-cluster:Connect) and %s", varAWSRegion)
	}
	return true, nil, nil
}
