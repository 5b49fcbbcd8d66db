// Package stellar speaks the Stellar Cyber API: it gets a token, inserts a
// document with insert_ser, and reads documents back.
//
// It promises that one Insert is at most one POST, and that its Answer says
// honestly what became of the document. insert_ser has no idempotency key, so
// neither Go nor this package ever repeats a POST; whether to send again is
// the caller's decision, who must know whether the first may have been
// stored. No error, answer or log line carries a credential, and none but
// Answer.Body what the API wrote.
//
// How far the request got is judged first, then the answer; the first row
// that fits wins. "Gate" is Answer.Effect.
//
//	attempt or answer                                     verdict      certainty  gate
//	token call, DNS, dial, TLS, proxy failed;             unavailable  not_sent   counts
//	  request not fully written
//	written, then timeout, reset, EOF, or an answer       unknown      unknown    counts
//	  cut off in its body
//	200, JSON with a non-empty _id, or OK, or OK 200      delivered               opens
//	502, 504                                              unknown      unknown    counts; Retry-After: closes
//	429, or another non-2xx with Retry-After              unavailable  refused    closes
//	any status with a documented refusal in its body      refused      refused    counts
//	2xx with HTML; 3xx                                    unavailable  refused    closes
//	any other 2xx, Config.Success "status"                delivered               opens
//	any other 2xx                                         unknown      unknown    counts
//	401                                                   unavailable  refused    renew once, then closes
//	404, 405                                              unavailable  refused    closes
//	any other 4xx                                         refused      refused    counts
//	500, 503, any other 5xx                               unavailable  refused    counts
//
// The edges of that table:
//
//   - Cancelled by the caller: not_sent before the request was written,
//     unknown afterwards; reason "cancelled", and the gate learns nothing.
//   - An answer counts even if the server did not read the request to its
//     end (an early 413); cut off, it is not_sent then.
//   - 101, and a status outside 200 to 599, are no final answer: unknown.
//   - A 401 with Retry-After closes the gate, and drops the token as well.
//   - A body without an end (more than 1 MiB) is judged by its beginning.
package stellar
