package main

import (
	"cmp"
	"errors"
	"log/slog"
	"math"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"serbridge/bridge/deadletter"
	"serbridge/bridge/kafka"
	"serbridge/bridge/registry"
	"serbridge/bridge/secret"
	"serbridge/transform"
	"serbridge/transform/format"
)

// settings is the one table of everything that can be set. Its tags are the source of the README's section, of
// `serbridge help settings` and of the checks:
//
//	env       name, and the default as go-envconfig reads it
//	required  must be set
//	shown     the default in words, where it is computed or nothing
//	values    the only values allowed, separated by |
//	min, max  the range of a number, size or duration
//	later     values, or * for all, that a later build will know: refused as not supported by this build
//	doc       what it does, for the operator; only what is true of this build
//	identity  a credential that is no secret by itself: never shown by us, but left in texts, since a user name such
//	          as serbridge stands in many
//
// A secret.Source can also be set as NAME_FILE. An empty variable is an unset one.
type settings struct {
	Kafka     kafkaSettings
	DLQ       deadLetterSettings
	Stellar   stellarSettings
	Delivery  deliverySettings
	Transform transformSettings
	Receipts  receiptSettings
	Registry  registrySettings
	Traces    traceSettings
	Process   processSettings
}

type kafkaSettings struct {
	Brokers        list          `env:"KAFKA_BROKERS" required:"true" doc:"Brokers to start from, comma-separated: host or host:port."`
	Topics         topicList     `env:"KAFKA_TOPICS" required:"true" doc:"Topics with detections, comma-separated; or one regular expression that starts with ^, alone. A pattern never matches the dead-letter topic, its handled topic or the receipts topic."`
	Group          string        `env:"KAFKA_GROUP,default=serbridge" doc:"Consumer group; replicas share it."`
	Start          startPosition `env:"KAFKA_START,default=earliest" doc:"Where a topic without any commit of the group starts: earliest, latest, a time (RFC 3339), or a span back from now such as -24h."`
	GroupProtocol  string        `env:"KAFKA_GROUP_PROTOCOL,default=classic" values:"classic|consumer" doc:"Group protocol; consumer is KIP-848 and wants brokers that have it."`
	SessionTimeout time.Duration `env:"KAFKA_SESSION_TIMEOUT,default=45s" min:"1s" max:"30m" doc:"A member that the brokers have not heard from for so long is taken for dead; it sends nothing from then on. With the consumer protocol the brokers decide."`
	ClientID       string        `env:"KAFKA_CLIENT_ID" shown:"the host's name" doc:"What this process calls itself to the brokers (client.id), for their quotas and logs, and in dead letters and receipts; on Kubernetes the host's name is the pod's."`
	Rack           string        `env:"KAFKA_RACK" shown:"none" doc:"Fetch from replicas in this rack where the brokers allow it (KIP-392)."`

	TLS         bool   `env:"KAFKA_TLS,default=false" doc:"Connect to the brokers with TLS."`
	TLSCAFile   string `env:"KAFKA_TLS_CA_FILE" shown:"the system's" doc:"Certificate authorities for the brokers (PEM); read again at each connection."`
	TLSCertFile string `env:"KAFKA_TLS_CERT_FILE" shown:"none" doc:"Client certificate (PEM); read again at each connection."`
	TLSKeyFile  string `env:"KAFKA_TLS_KEY_FILE" shown:"none" doc:"Key of the client certificate (PEM); read again at each connection."`

	SASLMechanism string        `env:"KAFKA_SASL_MECHANISM" shown:"none" values:"PLAIN|SCRAM-SHA-256|SCRAM-SHA-512|OAUTHBEARER|AWS_MSK_IAM" doc:"How to authenticate to the brokers."`
	SASLUsername  secret.Source `env:"KAFKA_SASL_USERNAME" identity:"true" doc:"User name for PLAIN and SCRAM."`
	SASLPassword  secret.Source `env:"KAFKA_SASL_PASSWORD" doc:"Password for PLAIN and SCRAM."`

	OAuthTokenURL     string        `env:"KAFKA_OAUTH_TOKEN_URL" shown:"none" doc:"OAUTHBEARER: token endpoint for client credentials; with http:// the client secret goes over the wire in plain text."`
	OAuthClientID     secret.Source `env:"KAFKA_OAUTH_CLIENT_ID" identity:"true" doc:"OAUTHBEARER: client id."`
	OAuthClientSecret secret.Source `env:"KAFKA_OAUTH_CLIENT_SECRET" doc:"OAUTHBEARER: client secret."`
	OAuthScopes       list          `env:"KAFKA_OAUTH_SCOPES" shown:"none" doc:"OAUTHBEARER: scopes to ask for, comma-separated."`
	AWSRegion         string        `env:"KAFKA_AWS_REGION" shown:"by host name" doc:"AWS_MSK_IAM: region of the brokers; their host name or the AWS environment, from which the credentials come, says it otherwise."`
}

type deadLetterSettings struct {
	Topic  string `env:"DLQ_TOPIC" shown:"<KAFKA_GROUP>.dlq" doc:"Topic for dead letters; what became of them goes to <DLQ_TOPIC>.handled."`
	Create bool   `env:"DLQ_CREATE,default=true" doc:"Create the dead-letter topic, and its handled topic, if missing."`
}

type stellarSettings struct {
	URL       string        `env:"STELLAR_URL" required:"true" doc:"The platform: https:// and host, nothing else. http:// only to loopback or with STELLAR_ALLOW_HTTP."`
	AllowHTTP bool          `env:"STELLAR_ALLOW_HTTP,default=false" doc:"Allow http:// to other hosts than loopback: credentials and detections go over the wire in plain text."`
	Auth      string        `env:"STELLAR_AUTH,default=jwt" values:"jwt|jwt-bearer|basic" doc:"jwt: a token for user and API key; jwt-bearer: a token for a scoped API key (5.5 on); basic: no token, user and API key at each request (before 5.5)."`
	User      secret.Source `env:"STELLAR_USER" identity:"true" shown:"required unless jwt-bearer" doc:"E-mail of the API user, upper and lower case as in the user interface."`
	APIKey    secret.Source `env:"STELLAR_API_KEY" required:"true" doc:"API key of that user."`

	InsertPath         string        `env:"STELLAR_INSERT_PATH,default=/connect/api/v1/insert_ser" doc:"Path of insert_ser."`
	Success            string        `env:"STELLAR_SUCCESS,default=id" values:"id|status" doc:"What counts as stored: id: a 200 with an id in it, or the text OK; status: any complete 2xx that is no HTML page."`
	CAFile             string        `env:"STELLAR_CA_FILE" shown:"the system's" doc:"Certificate authorities for the platform (PEM); read again when the file changes."`
	InsecureSkipVerify bool          `env:"STELLAR_INSECURE_SKIP_VERIFY,default=false" doc:"Do not verify the platform's certificate: whoever sits between sees the API key."`
	Timeout            time.Duration `env:"STELLAR_TIMEOUT,default=20s" min:"100ms" max:"10m" doc:"Longest time for one request; shorter than DRAIN_TIMEOUT."`
}

type deliverySettings struct {
	DrainTimeout   time.Duration `env:"DRAIN_TIMEOUT,default=25s" min:"200ms" max:"15m" doc:"How long started records may finish when partitions or the pod go away. The group's rebalance timeout is 35 s more; a pod's grace period should be 15 s more."`
	RateLimit      float64       `env:"RATE_LIMIT,default=200" min:"0" doc:"Requests per second of the whole group, every attempt counted; 0: no limit."`
	RateBurst      int           `env:"RATE_BURST,default=5" min:"1" max:"100000" doc:"Requests of the group that may go at once; each member has at least 1."`
	RateShare      string        `env:"RATE_SHARE,default=backlog" values:"backlog|partitions" doc:"A member's part of the limit: backlog: by the backlog of its partitions, a tenth spread evenly, looked at every 10 s; partitions: as many parts as it owns of all partitions."`
	MaxInFlight    int           `env:"MAX_IN_FLIGHT,default=64" min:"1" max:"4096" doc:"Requests of one member at a time, at most."`
	BufferBytes    size          `env:"BUFFER_BYTES,default=32MiB" min:"4MiB" max:"64GiB" doc:"Bound on the records that one member holds, the Kafka client's buffers included."`
	CommitInterval time.Duration `env:"COMMIT_INTERVAL,default=250ms" min:"10ms" max:"1m" doc:"Longest time from settled to committed."`
	MaxRepeats     int           `env:"MAX_REPEATS,default=200" min:"0" max:"1000000" doc:"Documents that one killed member may send again, at most; 0: no bound."`
	MaxSends       int           `env:"MAX_SENDS,default=3" min:"1" max:"1000" doc:"Sends of one document that may have been stored, at most."`
	OnAmbiguous    string        `env:"ON_AMBIGUOUS,default=retry" values:"retry|probe|dead-letter" doc:"A document that may have been stored: retry: sent again, up to MAX_SENDS; probe: searched for first, and sent again only if it is not there; dead-letter: never sent again."`
	ProbeWait      time.Duration `env:"PROBE_WAIT,default=60s" min:"1s" max:"1h" doc:"How long a stored document may take until the platform's search finds it; for ON_AMBIGUOUS=probe."`
	OnRefused      string        `env:"ON_REFUSED,default=slim" values:"slim|dead-letter" doc:"A document that the API refuses while it takes others: slim: sent again with less beside it first; dead-letter: given up at once."`
	RejectBrake    int           `env:"REJECT_BRAKE,default=200" min:"0" max:"1000000" doc:"Records of one topic in a row that are refused here or not recognised before the topic is paused; 0: never."`
}

type transformSettings struct {
	Formats          list        `env:"FORMATS,default=auto" doc:"Formats to recognise, comma-separated; auto: all."`
	MappingDir       string      `env:"MAPPING_DIR" shown:"none" doc:"Directory with mapping files of one's own (NAME.yaml), which add formats, or replace or extend built-in ones: serbridge formats."`
	StreamsFile      streamsFile `env:"STREAMS_FILE" shown:"none" doc:"YAML file with other values for single topics, or a pattern of them: formats, event_source, event_status, severity_default, time_zone, on_unknown, and a filter."`
	EventSource      string      `env:"EVENT_SOURCE" shown:"by format" doc:"event_source where a detection names none."`
	EventStatus      string      `env:"EVENT_STATUS,default=New" values:"New|In Progress|Ignored|Closed" doc:"event_status where a detection has none."`
	SeverityDefault  int         `env:"SEVERITY_DEFAULT,default=47" min:"0" max:"100" doc:"severity where a detection has none that is known."`
	TimeZone         timeZone    `env:"TIME_ZONE" shown:"UTC" doc:"Zone of times that name none, such as Europe/Berlin. Unset, a document whose time was taken for UTC says so (time_assumed_utc)."`
	OnUnknown        string      `env:"ON_UNKNOWN,default=dead-letter" values:"dead-letter|generic" doc:"A record in no known format: a dead letter, or mapped by the names that tools tend to use."`
	CustomNamespace  string      `env:"CUSTOM_NAMESPACE,default=serbridge" doc:"Our object under custom_ser_field: lower-case letters, digits and _, at most 64."`
	CustomFields     string      `env:"CUSTOM_FIELDS,default=object" values:"object|flat" doc:"object: sent as custom_ser_field; flat: at the top, for platforms that nest an explicit object again."`
	RawBytes         size        `env:"RAW_BYTES,default=4096" min:"0" max:"1MiB" doc:"How much of the original record goes along as raw_json; 0: none. Elasticsearch refuses terms above 32766 bytes unless the platform's mapping says otherwise."`
	MaxDocumentBytes size        `env:"MAX_DOCUMENT_BYTES,default=1MiB" min:"4KiB" max:"64MiB" doc:"Largest document; a larger one is sent with less beside it, else becomes a dead letter."`
	MaxFanout        int         `env:"MAX_FANOUT,default=1000" min:"1" max:"100000" doc:"Documents of one record, at most."`
	MaxDepth         int         `env:"MAX_DEPTH,default=64" min:"4" max:"1000" doc:"Nesting of a record, at most."`
}

type registrySettings struct {
	URL      string        `env:"SCHEMA_REGISTRY_URL" shown:"none" doc:"Schema registry of the topics whose values are framed for one (Avro, Protobuf, JSON Schema): https:// or http://, host and perhaps a path; with http:// the password goes over the wire in plain text."`
	Username secret.Source `env:"SCHEMA_REGISTRY_USERNAME" identity:"true" doc:"User name for the registry."`
	Password secret.Source `env:"SCHEMA_REGISTRY_PASSWORD" doc:"Password for the registry."`
	CAFile   string        `env:"SCHEMA_REGISTRY_CA_FILE" shown:"the system's" doc:"Certificate authorities for the registry (PEM); read again for each schema."`

	opened *registry.Registry // nil: there is none
}

type receiptSettings struct {
	Topic     string        `env:"RECEIPTS_TOPIC" shown:"none" doc:"Topic for receipts: what became of each record, for trace and audit; created if missing. Unset: none are written."`
	Retention time.Duration `env:"RECEIPTS_RETENTION,default=2160h" min:"1h" max:"87600h" doc:"How long a receipts topic that is created keeps receipts: the period to be audited."`
}

// traceSettings are those of OpenTelemetry's that we judge; its libraries read the others (README, Traces).
type traceSettings struct {
	Endpoint       string        `env:"OTEL_EXPORTER_OTLP_ENDPOINT" shown:"none" doc:"Collector that takes traces by OTLP over HTTP: http:// or https://, host and port, such as http://collector:4318. Unset, with the next two: no traces."`
	TracesEndpoint string        `env:"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT" shown:"none" doc:"The same with its whole path, used as it is."`
	Exporter       string        `env:"OTEL_TRACES_EXPORTER" shown:"otlp once an endpoint is set" values:"otlp|none" doc:"otlp alone: to http://localhost:4318; none: no traces."`
	Protocol       string        `env:"OTEL_EXPORTER_OTLP_PROTOCOL" shown:"http/protobuf" values:"http/protobuf" doc:"Protocol of the collector; gRPC is not spoken: a collector takes HTTP on port 4318."`
	TracesProtocol string        `env:"OTEL_EXPORTER_OTLP_TRACES_PROTOCOL" shown:"http/protobuf" values:"http/protobuf" doc:"The same for traces alone."`
	Headers        secret.Source `env:"OTEL_EXPORTER_OTLP_HEADERS" doc:"Headers for the collector, name=value and comma-separated: its credentials."`
	Disabled       bool          `env:"OTEL_SDK_DISABLED,default=false" doc:"No traces, whatever else is set."`
}

type processSettings struct {
	AdminAddr string `env:"ADMIN_ADDR,default=:9090" doc:"Address for the page, /livez, /readyz and /metrics: host:port, or :port for all interfaces."`
	LogLevel  string `env:"LOG_LEVEL,default=info" values:"debug|info|warn|error" doc:"Least level that is logged."`
	LogFormat string `env:"LOG_FORMAT" shown:"json; text on a terminal" values:"json|text" doc:"Form of the log, which goes to standard error."`
}

// sections are the headings of the table, by the field of settings.
var sections = map[string]string{
	"Kafka": "Kafka", "DLQ": "Dead letters", "Stellar": "Stellar Cyber", "Delivery": "Delivery",
	"Transform": "Transform", "Receipts": "Receipts", "Registry": "Schema registry", "Traces": "Traces", "Process": "Process",
}

// handledTopic says what became of the dead letters in DLQ_TOPIC.
func (s deadLetterSettings) handledTopic() string { return deadletter.HandledTopic(s.Topic) }

// topicPattern is the pattern that KAFKA_TOPICS is, or empty.
func (s kafkaSettings) topicPattern() string {
	if len(s.Topics) == 1 && strings.HasPrefix(s.Topics[0], "^") {
		return s.Topics[0]
	}
	return ""
}

// slogLevel is LOG_LEVEL; info when it was refused.
func (s processSettings) slogLevel() slog.Level {
	var level slog.Level
	if err := level.UnmarshalText([]byte(s.LogLevel)); err != nil {
		return slog.LevelInfo
	}
	return level
}

// loadSettings reads everything that `run` needs; red remembers every credential. The error is a problems with all
// that is wrong, or nil.
func loadSettings(environ map[string]string, red *secret.Redactor) (settings, error) {
	var s settings
	found := load(environ, red, &s)
	s.DLQ.complete(s.Kafka)
	found.addNew(s.Kafka.check()...)
	found.addNew(s.DLQ.check(s.Kafka)...)
	found.addNew(s.Stellar.check()...)
	found.addNew(s.Delivery.check()...)
	found.addNew(s.Transform.check()...)
	found.addNew(s.Receipts.check(s.Kafka, s.DLQ)...)
	found.addNew(s.Registry.check()...)
	found.addNew(s.Traces.check()...)
	found.addNew(s.Process.check()...)
	found.addNew(s.contradictions()...)
	return s, found.err(red)
}

// loadReadingSettings reads what is needed to read topics and transform what they hold, and to send nothing.
func loadReadingSettings(environ map[string]string, red *secret.Redactor) (settings, error) {
	var s struct {
		Kafka     kafkaSettings
		DLQ       deadLetterSettings
		Delivery  deliverySettings
		Transform transformSettings
		Receipts  receiptSettings
		Registry  registrySettings
		Process   processSettings
	}
	found := load(environ, red, &s)
	s.DLQ.complete(s.Kafka)
	found.addNew(s.Kafka.check()...)
	found.addNew(s.DLQ.check(s.Kafka)...)
	found.addNew(s.Delivery.check()...)
	found.addNew(s.Transform.check()...)
	found.addNew(s.Receipts.check(s.Kafka, s.DLQ)...)
	found.addNew(s.Registry.check()...)
	return settings{Kafka: s.Kafka, DLQ: s.DLQ, Delivery: s.Delivery, Transform: s.Transform, Receipts: s.Receipts, Registry: s.Registry, Process: s.Process},
		found.err(red)
}

// lettersSettings is the part that the commands for dead letters need: Kafka as for `run`, and nothing of the platform.
type lettersSettings struct {
	Kafka    kafkaSettings
	DLQ      deadLetterSettings
	Receipts receiptSettings
}

// loadLettersSettings reads that part; a missing or malformed STELLAR_ variable is none of its business.
func loadLettersSettings(environ map[string]string, red *secret.Redactor) (lettersSettings, error) {
	var s lettersSettings
	found := load(environ, red, &s)
	s.DLQ.complete(s.Kafka)
	found.addNew(s.Kafka.check()...)
	found.addNew(s.DLQ.check(s.Kafka)...)
	found.addNew(s.Receipts.check(s.Kafka, s.DLQ)...)
	return s, found.err(red)
}

// loadStatusSettings reads what is needed to look at the group: of the platform, of mappings and of the process nothing, so
// that it also works where their files are not.
func loadStatusSettings(environ map[string]string, red *secret.Redactor) (settings, error) {
	var s struct {
		Kafka    kafkaSettings
		DLQ      deadLetterSettings
		Delivery deliverySettings
		Receipts receiptSettings
	}
	found := load(environ, red, &s)
	s.DLQ.complete(s.Kafka)
	found.addNew(s.Kafka.check()...)
	found.addNew(s.DLQ.check(s.Kafka)...)
	found.addNew(s.Delivery.check()...)
	found.addNew(s.Receipts.check(s.Kafka, s.DLQ)...)
	return settings{Kafka: s.Kafka, DLQ: s.DLQ, Delivery: s.Delivery, Receipts: s.Receipts}, found.err(red)
}

// complete fills in what follows from other settings.
func (s *deadLetterSettings) complete(source kafkaSettings) {
	if s.Topic == "" {
		s.Topic = source.Group + ".dlq"
	}
}

// loadTransformSettings reads the part that a transform needs; a malformed KAFKA_ or STELLAR_ variable is none of
// its business.
func loadTransformSettings(environ map[string]string) (settings, error) {
	var s struct {
		Transform transformSettings
		Registry  registrySettings
	}
	red := new(secret.Redactor)
	found := load(environ, red, &s)
	found.addNew(s.Transform.check()...)
	found.addNew(s.Registry.check()...)
	return settings{Transform: s.Transform, Registry: s.Registry}, found.err(red)
}

// maxClientID is what the Kafka client takes, whose own error names no setting.
const maxClientID = 256

func (s kafkaSettings) check() (found problems) {
	for _, b := range s.Brokers {
		if why := brokerFault(b); why != "" {
			found.say("KAFKA_BROKERS", b, why)
		}
	}
	if len(s.ClientID) > maxClientID {
		found.sayf("KAFKA_CLIENT_ID", "", "has %d bytes, want at most %d", len(s.ClientID), maxClientID)
	}
	found.add(s.checkTopics()...)
	for _, err := range s.config(nil).Validate() {
		fault := new(kafka.SettingError)
		if errors.As(err, &fault) && fault.Setting != "KAFKA_BROKERS" { // judged above, where no user information is quoted
			found.say(fault.Setting, "", fault.Err.Error())
		}
	}
	return found
}

// config is what the package kafka takes.
func (s kafkaSettings) config(red *secret.Redactor) kafka.Config {
	return kafka.Config{
		Brokers: s.Brokers, TLS: s.TLS, CAFile: s.TLSCAFile, CertFile: s.TLSCertFile, KeyFile: s.TLSKeyFile,
		SASLMechanism: s.SASLMechanism, Username: s.SASLUsername, Password: s.SASLPassword,
		OAuthTokenURL: s.OAuthTokenURL, OAuthClientID: s.OAuthClientID, OAuthClientSecret: s.OAuthClientSecret,
		OAuthScopes: s.OAuthScopes, AWSRegion: s.AWSRegion, Redactor: red,
	}
}

// options are those of every Kafka client of ours.
func (s kafkaSettings) options(log *slog.Logger, red *secret.Redactor) ([]kgo.Opt, error) {
	c := s.config(red)
	c.ClientID = s.instance()
	options, err := c.Options()
	if err != nil {
		return nil, err
	}
	return append(options, kgo.WithLogger(newKafkaLogger(log))), nil
}

// instance names this process.
func (s kafkaSettings) instance() string { return cmp.Or(s.ClientID, instance()) }

// named are the topics by name; a pattern's are not known here.
func (s kafkaSettings) named() []string {
	if s.topicPattern() != "" {
		return nil
	}
	return s.Topics
}

func (s kafkaSettings) checkTopics() (found problems) {
	for _, t := range s.Topics {
		why := topicFault(t)
		if strings.HasPrefix(t, "^") {
			why = patternFault(t)
			if len(s.Topics) > 1 {
				why = aloneFault
			}
		}
		if why != "" {
			found.say("KAFKA_TOPICS", t, why)
		}
	}
	return found
}

func (s deadLetterSettings) check(source kafkaSettings) (found problems) {
	if why := topicFault(s.handledTopic()); why != "" { // which is the longer name of the two
		if s.Topic == source.Group+".dlq" {
			found.say("KAFKA_GROUP", source.Group, "no legal topic names can be made of it for dead letters: want another one, or DLQ_TOPIC set")
		} else {
			found.sayf("DLQ_TOPIC", s.Topic, "with .handled after it: %s", why)
		}
	}
	for _, own := range []string{s.Topic, s.handledTopic()} {
		if slices.Contains(source.Topics, own) {
			found.say("KAFKA_TOPICS", own, "our own dead-letter or handled topic cannot be a source: its records would go round for ever (dead letters are sent again by a redrive)")
		}
	}
	return found
}

func (s receiptSettings) check(source kafkaSettings, letters deadLetterSettings) (found problems) {
	if s.Topic == "" {
		return nil
	}
	if why := topicFault(s.Topic); why != "" {
		found.say("RECEIPTS_TOPIC", s.Topic, why)
	}
	if s.Topic == letters.Topic || s.Topic == letters.handledTopic() {
		found.say("RECEIPTS_TOPIC", s.Topic, "the dead-letter or handled topic cannot hold receipts: want a topic of its own")
	}
	if slices.Contains(source.Topics, s.Topic) {
		found.say("KAFKA_TOPICS", s.Topic, "our own receipts topic cannot be a source: each receipt would become another one, for ever")
	}
	return found
}

func (s stellarSettings) check() (found problems) {
	if s.URL != "" {
		u, why := parseURL(s.URL)
		switch {
		case why != "":
			found.say("STELLAR_URL", s.URL, why)
		case !isOrigin(u):
			found.say("STELLAR_URL", s.URL, "want scheme and host only, such as https://stellar.example.com (the path is STELLAR_INSERT_PATH)")
		case u.Scheme == "http" && !isLoopback(u.Hostname()) && !s.AllowHTTP:
			found.say("STELLAR_URL", s.URL, "http:// is allowed to loopback only, since credentials go over it: want https://, or STELLAR_ALLOW_HTTP=true")
		}
	}
	if s.User == nil && (s.Auth == "jwt" || s.Auth == "basic") {
		found.sayf("STELLAR_USER", "", "required with STELLAR_AUTH=%s: set it or STELLAR_USER_FILE", s.Auth)
	}
	if why := pathFault(s.InsertPath); why != "" {
		found.say("STELLAR_INSERT_PATH", s.InsertPath, why)
	}
	if s.CAFile != "" && s.InsecureSkipVerify {
		found.say("STELLAR_CA_FILE", s.CAFile, "contradicts STELLAR_INSECURE_SKIP_VERIFY=true, with which no authority is asked: want one of them")
	}
	return found
}

func (s deliverySettings) check() (found problems) {
	if math.IsNaN(s.RateLimit) || math.IsInf(s.RateLimit, 0) {
		found.say("RATE_LIMIT", "", "want a number of requests per second, or 0 for no limit")
	}
	return found
}

// useMappings takes in the mappings of the installation, before FORMATS is judged by what there is.
func (s transformSettings) useMappings() (found problems) {
	if s.MappingDir == "" {
		return nil
	}
	if err := format.Use(os.DirFS(s.MappingDir)); err != nil {
		found.say("MAPPING_DIR", s.MappingDir, err.Error())
	}
	return found
}

func (s *transformSettings) check() (found problems) {
	if s.CustomNamespace != "" && !namespacePattern.MatchString(s.CustomNamespace) {
		found.say("CUSTOM_NAMESPACE", s.CustomNamespace, "want lower-case letters, digits and _, at most 64")
	}
	found.add(s.useMappings()...)
	found.add(s.StreamsFile.check()...)
	for _, name := range s.Formats {
		if name != "auto" && !slices.Contains(format.Names(), name) {
			found.say("FORMATS", name, "want auto, or some of "+strings.Join(format.Names(), ", "))
		}
	}
	if s.MaxDocumentBytes > 0 && s.RawBytes > s.MaxDocumentBytes {
		found.sayf("RAW_BYTES", s.RawBytes.String(), "larger than MAX_DOCUMENT_BYTES (%s), so no document could hold it", s.MaxDocumentBytes)
	}
	return found
}

// config is what the package transform takes.
func (s transformSettings) config() *transform.Settings {
	raw := int(s.RawBytes)
	if raw == 0 {
		raw = -1 // off here, but 0 is the default there
	}
	return &transform.Settings{
		Formats: s.Formats, EventSource: s.EventSource, EventStatus: s.EventStatus,
		SeverityDefault: &s.SeverityDefault, TimeZone: s.TimeZone.Location, OnUnknown: s.OnUnknown,
		Namespace: s.CustomNamespace, CustomFields: s.CustomFields, RawBytes: raw,
		MaxDocumentBytes: int(s.MaxDocumentBytes), MaxFanout: s.MaxFanout, MaxDepth: s.MaxDepth,
	}
}

// zone is that in which days begin.
func (s transformSettings) zone() *time.Location {
	if z := s.TimeZone.Location; z != nil {
		return z
	}
	return time.UTC
}

func (s traceSettings) check() (found problems) {
	for _, e := range []struct{ name, value string }{
		{"OTEL_EXPORTER_OTLP_ENDPOINT", s.Endpoint}, {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", s.TracesEndpoint},
	} {
		if _, why := parseURL(e.value); e.value != "" && why != "" {
			found.sayf(e.name, e.value, "%s; http:// is allowed too, credentials go into OTEL_EXPORTER_OTLP_HEADERS", why)
		}
	}
	return found
}

func (s processSettings) check() (found problems) {
	if why := listenFault(s.AdminAddr); why != "" {
		found.say("ADMIN_ADDR", s.AdminAddr, why)
	}
	return found
}

// contradictions are the rules between sections. A value that was refused is zero here and contradicts nothing.
func (s settings) contradictions() (found problems) {
	if st, dr := s.Stellar.Timeout, s.Delivery.DrainTimeout; st > 0 && dr > 0 && st >= dr {
		found.sayf("STELLAR_TIMEOUT", st.String(), "want less than DRAIN_TIMEOUT (%s): a request that may outlast the drain is abandoned, and its document sent twice", dr)
	}
	if d, b := s.Transform.MaxDocumentBytes, s.Delivery.BufferBytes; d > 0 && b > 0 && d > b {
		found.sayf("MAX_DOCUMENT_BYTES", d.String(), "want at most BUFFER_BYTES (%s)", b)
	}
	return found
}

// isOrigin tells whether a URL is scheme and host and nothing else; one slash is forgiven.
func isOrigin(u *url.URL) bool {
	return (u.Path == "" || u.Path == "/") && u.RawQuery == "" && !u.ForceQuery && u.Fragment == ""
}
