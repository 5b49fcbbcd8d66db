package stellar

import (
	"slices"
	"strconv"
)

// Reasons why an attempt was not a delivery. Together with http_<status> for
// the statuses that are told apart they are the closed set of Answer.Reason,
// for logs, metrics and dead letters alike.
const (
	ReasonCancelled            = "cancelled"
	ReasonTimeout              = "timeout"
	ReasonDNSFailed            = "dns_failed"
	ReasonDialFailed           = "dial_failed"
	ReasonTLSFailed            = "tls_failed"
	ReasonProxyFailed          = "proxy_failed"
	ReasonWriteFailed          = "write_failed"
	ReasonConnectionLost       = "connection_lost"
	ReasonAnswerCutOff         = "answer_cut_off"
	ReasonInvalidStatus        = "invalid_status"
	ReasonNoID                 = "no_id"
	ReasonRedirected           = "redirected"
	ReasonNotTheAPI            = "not_the_api"
	ReasonInvalidEventStatus   = "invalid_event_status"
	ReasonMissingEventFields   = "missing_event_fields"
	ReasonTokenRefused         = "token_refused"
	ReasonTokenUnavailable     = "token_unavailable"
	ReasonTokenUnreadable      = "token_unreadable"
	ReasonCredentialUnreadable = "credential_unreadable"
	ReasonCredentialInvalid    = "credential_invalid"
	ReasonSearchIncomplete     = "search_incomplete" // of a read only
)

// explanations says what each reason means and what to do about it.
var explanations = map[string]string{
	ReasonCancelled:            "the attempt was ended by us",
	ReasonTimeout:              "no answer within STELLAR_TIMEOUT: the platform or a proxy before it is slow or hangs",
	ReasonDNSFailed:            "the host of STELLAR_URL could not be resolved: check its name and the cluster's DNS",
	ReasonDialFailed:           "no connection to the host of STELLAR_URL: check the address, firewalls and network policies",
	ReasonTLSFailed:            "the TLS handshake failed: set STELLAR_CA_FILE to the authority that signed the platform's certificate, and check the host name",
	ReasonProxyFailed:          "the HTTP proxy refused or could not be reached: check HTTPS_PROXY and NO_PROXY",
	ReasonWriteFailed:          "the connection broke while the request was written",
	ReasonConnectionLost:       "the connection broke before an answer came",
	ReasonAnswerCutOff:         "the connection broke within the answer",
	ReasonInvalidStatus:        "the answer has a status that is no final answer of HTTP: something else listens there",
	ReasonNoID:                 "the API accepted the request but gave no _id: if this platform answers so, set STELLAR_SUCCESS=status",
	ReasonRedirected:           "the answer is a redirect, which is never followed: set STELLAR_URL to the address that serves the API",
	ReasonNotTheAPI:            "the answer is a web page: STELLAR_URL or STELLAR_INSERT_PATH leads to something else than the API",
	ReasonInvalidEventStatus:   "the API does not accept the event status",
	ReasonMissingEventFields:   "the API misses a required field",
	ReasonTokenRefused:         "the API does not accept the credentials: check STELLAR_USER (case-sensitive), STELLAR_API_KEY and STELLAR_AUTH; no token is asked for until they change or 5 minutes pass",
	ReasonTokenUnavailable:     "the token call failed",
	ReasonTokenUnreadable:      "the answer to the token call holds no token",
	ReasonCredentialUnreadable: "a credential could not be read: check the files of STELLAR_USER_FILE and STELLAR_API_KEY_FILE",
	ReasonCredentialInvalid:    "a credential cannot be sent: a user with a colon, or a key with blanks or line breaks within",
	ReasonSearchIncomplete:     "a part of the index did not answer the search",
	"http_400":                 "the API refuses the document",
	"http_401":                 "the API does not accept the authorization: check STELLAR_USER (case-sensitive), STELLAR_API_KEY and STELLAR_AUTH, and the rights of that user",
	"http_403":                 "the API forbids it: the user needs root scope and Super Admin, and a firewall before the API may refuse a document's text",
	"http_404":                 "the path does not exist: check STELLAR_URL and STELLAR_INSERT_PATH",
	"http_405":                 "the path takes no POST: check STELLAR_URL and STELLAR_INSERT_PATH",
	"http_406":                 "the API refuses to answer in JSON",
	"http_407":                 "the HTTP proxy wants credentials: check HTTP_PROXY",
	"http_408":                 "the API waited too long for the request",
	"http_409":                 "the API sees a conflict",
	"http_410":                 "the path is gone: check STELLAR_INSERT_PATH",
	"http_411":                 "the API wants a Content-Length, which was sent: a proxy removes it",
	"http_413":                 "the document is too large for the API: lower MAX_DOCUMENT_BYTES or RAW_BYTES",
	"http_414":                 "the API refuses the address as too long",
	"http_415":                 "the API refuses JSON",
	"http_421":                 "the server is not the one of STELLAR_URL",
	"http_422":                 "the API refuses the document",
	"http_429":                 "the API asks for fewer requests: lower RATE_LIMIT",
	"http_431":                 "the API refuses the headers as too large",
	"http_500":                 "the API failed",
	"http_501":                 "the API does not know the request",
	"http_502":                 "a proxy got no answer from the API",
	"http_503":                 "the API is overloaded or down",
	"http_504":                 "a proxy waited too long for the API",
	"http_507":                 "the API has no storage left",
	"http_4xx":                 "the API refuses the request",
	"http_5xx":                 "the API failed",
}

// Reasons returns every reason an Answer can have, sorted.
func Reasons() []string {
	all := make([]string, 0, len(explanations))
	for r := range explanations {
		all = append(all, r)
	}
	slices.Sort(all)
	return all
}

// Explain says in one sentence what a reason means and what to do, for logs
// and the status page. It returns an unknown reason as it is.
func Explain(reason string) string {
	if text, ok := explanations[reason]; ok {
		return text
	}
	return reason
}

// httpReason is the reason of a status from 400 to 599: a label of its own
// for those that are met in practice, so that the set stays small.
func httpReason(status int) string {
	if r := "http_" + strconv.Itoa(status); explanations[r] != "" {
		return r
	}
	if status < 500 {
		return "http_4xx"
	}
	return "http_5xx"
}
