package stellartest

import "time"

// Credentials that a [Config] without its own accepts.
const (
	DefaultUser   = "bridge@example.com"
	DefaultAPIKey = "simulator-key"
)

// Paths of the API, as the vendor's page gives them.
const (
	TokenPath  = "/connect/api/v1/access_token"
	InsertPath = "/connect/api/v1/insert_ser"
	DataPath   = "/connect/api/data/"
)

// DefaultTokenLifetime is how long a token lives, as the vendor's page says.
const DefaultTokenLifetime = 10 * time.Minute

// Config of a [Server]. The zero value is the documented platform without faults.
type Config struct {
	User, APIKey  string        // compared with case; empty: DefaultUser, DefaultAPIKey
	TokenLifetime time.Duration // 0: DefaultTokenLifetime
	Variant       Variant
	Faults        Faults
	Seed          uint64           // of the faults by rate and of the document ids
	Now           func() time.Time // nil: time.Now

	// StoreLimit is how many documents and how many requests are kept, the newest of each; 0: 20,000. A document that
	// is no longer kept cannot be read back. The counts stay exact.
	StoreLimit int
	// StoreBytes bounds the kept documents' bodies together; 0: 64 MiB.
	StoreBytes int
	// KeyLimit is how many distinct delivery keys have their copies counted, the newest; 0: a million (some 150 MB).
	KeyLimit int
}

func (c Config) withDefaults() Config {
	def := func(p *int, v int) {
		if *p == 0 {
			*p = v
		}
	}
	def(&c.StoreLimit, 20_000)
	def(&c.StoreBytes, 64<<20)
	def(&c.KeyLimit, 1_000_000)
	if c.User == "" {
		c.User = DefaultUser
	}
	if c.APIKey == "" {
		c.APIKey = DefaultAPIKey
	}
	if c.TokenLifetime == 0 {
		c.TokenLifetime = DefaultTokenLifetime
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	return c
}

// Variant is what the vendor's page leaves open, as this installation decides it. Each zero value is the page's own
// statement or, where it makes none, the likeliest reading.
type Variant struct {
	Errors       ErrorForm   `json:"errors,omitzero"`
	Success      SuccessForm `json:"success,omitzero"`
	CustomFields CustomForm  `json:"custom_fields,omitzero"`
	Token        TokenForm   `json:"token,omitzero"`
	Auth         AuthForm    `json:"auth,omitzero"`

	LenientStatus bool `json:"lenient_status,omitzero"` // event_status in any case, stored in canonical spelling
	KeepTenant    bool `json:"keep_tenant,omitzero"`    // tenantid as sent, instead of "" and moved under custom_ser_field
	SaaSIndex     bool `json:"saas_index,omitzero"`     // index names of the hosted platform, documents under _doc
	Merge         bool `json:"merge,omitzero"`          // a second copy (same delivery key, else same body) answers with the first one's _id
	Firewall      bool `json:"firewall,omitzero"`       // a firewall in front answers 403 HTML to attack strings anywhere in the body
	ScopedInsert  bool `json:"scoped_insert_refused,omitzero"`

	// Mappings makes the dynamic fields under custom_ser_field behave as in Elasticsearch: the first document types
	// a field, a later one that differs is refused with 400 and error.root_cause, and so is the 1,001st field.
	Mappings bool `json:"mappings,omitzero"`

	Search       SearchForm    `json:"search,omitzero"`
	RefreshDelay time.Duration `json:"refresh_delay,omitzero"` // until _search sees a document; 0: one second, negative: none

	MaxBodyBytes int           `json:"max_body_bytes,omitzero"` // 0: none
	OverLimit    OverLimitForm `json:"over_limit,omitzero"`

	RateLimit     float64       `json:"rate_limit,omitzero"` // inserts a second (burst: one second's worth); 0: none
	RateLimitForm RateLimitForm `json:"rate_limit_form,omitzero"`

	// InsertPath is where inserts are served; "": as documented. With another one the documented path answers 404.
	InsertPath string `json:"insert_path,omitzero"`
}

// ErrorForm is how the two documented refusals are answered; the page gives their texts only.
type ErrorForm string

const (
	Errors400Text ErrorForm = ""         // 400, text/plain
	Errors400JSON ErrorForm = "json"     // 400, {"error":"…"}
	Errors422     ErrorForm = "422"      // 422, text/plain
	Errors200Text ErrorForm = "200"      // 200, text/plain
	Errors200JSON ErrorForm = "200_json" // 200, {"error":"…"}
	Errors500Text ErrorForm = "500"      // 500, text/plain
)

// SuccessForm is how a stored document is answered. Only the first three say so in the documented way.
type SuccessForm string

const (
	SuccessID       SuccessForm = ""         // 200, {"index":"…","_id":"…"}
	SuccessOK       SuccessForm = "ok"       // 200, OK
	SuccessOK200    SuccessForm = "ok_200"   // 200, OK 200
	SuccessEmpty    SuccessForm = "empty"    // 200, no body
	SuccessObject   SuccessForm = "object"   // 200, {}
	SuccessBlankID  SuccessForm = "blank_id" // 200, {"_id":""}
	SuccessCreated  SuccessForm = "created"  // 201, {"index":"…","_id":"…"}
	SuccessAccepted SuccessForm = "accepted" // 202, no body
	SuccessHTML     SuccessForm = "html"     // 200, a login page, and nothing is stored
)

// CustomForm is what becomes of an explicit custom_ser_field. Unknown keys are moved under it either way.
type CustomForm string

const (
	CustomMerged CustomForm = ""       // its members stand beside the moved keys
	CustomNested CustomForm = "nested" // it is moved too: custom_ser_field.custom_ser_field
)

// TokenForm is the answer of the token call.
type TokenForm string

const (
	TokenExp       TokenForm = ""           // {"access_token":"…","exp":epoch seconds}
	TokenExpiresIn TokenForm = "expires_in" // {"access_token":"…","expires_in":seconds}
	TokenData      TokenForm = "data"       // {"data":{"access_token":"…","exp":epoch seconds}}
	TokenClaim     TokenForm = "claim"      // {"access_token":"…"}, the expiry in the token's payload only
	TokenOpaque    TokenForm = "opaque"     // {"access_token":"…"}, no expiry anywhere
	TokenExpired   TokenForm = "expired"    // exp a minute ago, in answer and payload, though the token is accepted (a wrong clock)
)

// AuthForm is which of the authentications the installation takes.
type AuthForm string

const (
	AuthAll     AuthForm = ""         // Basic everywhere; token by Basic or by Bearer key
	AuthNoBasic AuthForm = "no_basic" // from 5.5: Basic at the token call only
	AuthScoped  AuthForm = "scoped"   // token by Bearer key only, no Basic anywhere
)

// SearchForm is who may read back.
type SearchForm string

const (
	SearchAll       SearchForm = ""        // everybody
	SearchNotScoped SearchForm = "legacy"  // 403 for tokens of a Bearer key
	SearchRefused   SearchForm = "refused" // 403 for everybody
)

// OverLimitForm is what happens to a body above MaxBodyBytes.
type OverLimitForm string

const (
	OverLimit413 OverLimitForm = ""    // 413, HTML
	OverLimit400 OverLimitForm = "400" // 400, text
	OverLimitCut OverLimitForm = "cut" // the connection is closed before the body was read
)

// RateLimitForm is what an insert above RateLimit is answered.
type RateLimitForm string

const (
	RateLimit429       RateLimitForm = ""       // 429, Retry-After in seconds
	RateLimit429Date   RateLimitForm = "date"   // 429, Retry-After as a date
	RateLimit429Silent RateLimitForm = "silent" // 429, no Retry-After
	RateLimit503       RateLimitForm = "503"    // 503, Retry-After in seconds
	RateLimit503Silent RateLimitForm = "503_silent"
)
