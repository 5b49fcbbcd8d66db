// Package stellartest is the Stellar Cyber API made small: an HTTP server that takes, stores and gives back events as the
// vendor's page says, plays every way in which real installations may differ from it, and misbehaves on demand.
//
// It promises three things. Without a [Variant] and without a [Fault] it behaves as the page documents. A fault does
// exactly what it says: a document is stored, or it is not, whatever the client is told. And the ledger is true: every
// request and every stored document is counted, each copy that the client could not know of is marked, so that a test
// can tell a repeat with a reason from one without.
//
// # What it plays
//
// POST /connect/api/v1/access_token (Basic user and key, or Bearer key), POST /connect/api/v1/insert_ser, GET
// /connect/api/data/{index}/amsg/{id} and GET /connect/api/data/{index}/_search?q=…, with Basic or a token.
//
// # Faults
//
// By script ([Server.Script]: a function of the request), or by rate ([Faults]: probabilities and latency, drawn from
// the seed, the document's delivery key and its attempt number, so that a run repeats whatever its interleaving).
//
// # Driving it from outside
//
// All under /simulator/, without authentication: serve it on loopback only. Durations are strings such as "250ms".
//
//	GET  /simulator/                       this list
//	GET  /simulator/ledger                 counts, and the delivery keys stored more than once, as JSON
//	GET  /simulator/documents?after=N      stored documents after number N, one JSON object per line
//	GET  /simulator/requests?after=N       requests after number N, one JSON object per line
//	GET  /simulator/faults                 the names that rates and scripts understand
//	POST /simulator/faults                 faults by rate: {"rates":{"bad_gateway":0.01},"latency":{"median":"20ms","p99":"200ms"},
//	                                       "retry_after":"1s","token_rates":{"unavailable":0.1},"max_unknown_per_document":2}; {} ends them
//	POST /simulator/script                 the next inserts in order: [{"fault":"rate_limited","retry_after":"2s","times":3},
//	                                       {"times":10},{"status":418,"body":"teapot","store":true}]; times -1: until replaced; [] ends it;
//	                                       ?for=arrivals, tokens or reads: those instead of inserts
//	POST /simulator/variant                how this installation differs: {"success":"ok","lenient_status":true}; {} is the page
//	POST /simulator/revoke-tokens          every token issued so far answers 401
//	POST /simulator/reset                  empties the ledger and the index
//	POST /simulator/remove?id=ID           takes a document out of the index
//	POST /simulator/alter?id=ID            lays the members of the object that is sent over those of a document
//	POST /simulator/repeat?id=ID           stores a copy of a document
package stellartest
