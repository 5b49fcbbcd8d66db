// Package format recognises the detection format of a record, takes off what the detection is wrapped in, maps it, and
// has the package transform make documents of what the mapping read.
//
// # A record's way
//
// Transform decodes what the text of the record is under (package codec) and reads it (JSON, lines of JSON, CEF, LEEF, a Zeek
// log in columns; a syslog header may stand before each), then asks of each value: does a format recognise it? Else, is it an envelope? Then the same is asked of what the
// envelope holds, to a depth of 16 envelopes and MAX_FANOUT parts. Else, is it another kind of record of a source that
// also sends detections? Then it is a Skip. Else it is an unknown format: a Reject, or mapped by common names with
// ON_UNKNOWN=generic. One record so becomes any number of parts, each a document, a Skip or a Reject of its own.
//
// The index's own format, aella_ser, is in Go, since its mapping is that every field stands under its own name. All others
// are data: one YAML file here for each.
//
// # How to add a format
//
// Write a file NAME.yaml in this directory; no Go is needed, and the tests find it:
//
//	title: Acme EDR alert
//	schema: docs.acme.example/alerts       # where the vendor describes it
//	recognise: [{acme_version: !present , kind: alert}]
//	source: acme_edr                       # event_source
//	fields: {event_name: r.rule.title, orig_id: r.id}
//	timestamp: r.created
//	severity: {from: r.prio, words: {p3: 21, p2: 47, p1: 99}}
//	detected: {file.sha256: r.file.sha256}
//	identity: [r.id, millis(r.updated)]
//	cases: [{name: an alert, input: '{"kind":"alert",…}', want: {event_name: x, severity: 99}}]
//
// # The file
//
// Every key is optional but title, schema, cases, and recognise or something that forces the format.
//
//   - format: the name in FORMATS, when several files are dialects of one; without it the file's name
//   - order: files with a lower one recognise first (100); off: true maps only what FORMATS names
//   - recognise: alternatives, each a set of paths and what must stand there: a value, a list of values, !present, !absent,
//     !text, !number, !object, !list, !prefix X, !suffix X, !contains X. The first must be one that something fits.
//     They are looked up by key, for recognising must cost little. ignore: the same for records that are no detections
//   - fold: true compares names without case; dotted: true reads flat dotted keys like nested objects
//   - expand: an expression for a list; each element is a detection, named r, and the record is then parent
//   - skip: when and reason, for what only its content shows to be no detection
//   - fields: event_name, event_type, event_source, event_category, event_score, fidelity, threat_score, lateral, orig_id,
//     orig_index, start_bucket_time, end_bucket_time, actual, typical
//   - timestamp: the first that can be read and lies in the plausible window stands; else Kafka's
//   - severity, status: an expression, whose words and numbers are those of all formats; or from with words, bands (of a
//     number: the last of each band and what it is) or times (a factor); or a list of these. A word that is not known is
//     never an error: severity is then defaulted, status is New, and the native one is kept
//   - detected, pairs: the observables, by name; pairs is a list of [name, value]
//   - own: text for the namespace, such as description, url, host, user, src_ip, dst_ip, account, region, action
//   - tactics, techniques: words and ids of MITRE ATT&CK in any form; only real ones go on, with the kill-chain stage
//   - from, to: the ends of a connection, for lateral
//   - identity: what makes a detection the same when its source sends it again, and another when it was updated
//   - cases: records and the document, skip, reject or parts that they become; null is for what must not be there
//
// Where an expression may stand, a list of them may: the first that says something counts.
//
// # Expressions
//
// They are CEL (cel.dev), checked when they are compiled; an error names file, line, column and field. r is the record,
// parent what it was expanded out of, outer the facts of the envelopes around it, the nearest first. What is not there
// is null, and so is whatever is looked up in it. An expression that cannot be evaluated, such as a text that is less
// than a number, says nothing, so that no odd value costs a detection. Only one that looks at very much of a record made
// for it is refused (mapping_cost), and so are the last elements of a list that together do.
//
// Beside CEL's own functions and macros there are, all for any value:
//
//	first(a, b, …)        the first that says something
//	one(x)                the first element of a list that says something; anything else as it is
//	list(x)               a list as it is, nothing as an empty one, anything else as a list of one
//	flat(x)               the elements of the lists in a list
//	text(x), lower(x)     a scalar as text; lower also trims
//	number(x)             a number, also out of a text
//	join(list, sep)       the scalars of a list as one text
//	at(x, "a.b.c")        a path, over nested objects and dotted keys alike
//	json(text)            what a text holds as JSON
//	pairs(x)              the members of an object as [name, value]
//	quoted(text)          name="value" pairs in a text as an object
//	extract(text, "re")   the first group of a regular expression (RE2), or all it matches
//	digest(x)             a hash, for records without an id
//	millis(time)          a time in any unit or layout, as milliseconds
//	epoch(n, unit)        a number of s, ms, us, ns or filetime as a time
//	zoned(text, zone)     a time with a zone's abbreviation behind it, or in the zone named
//	timed(text, pattern)  a time by a pattern in Java's letters
//	private(ip)           whether an address is private; null when it is none
//	address(x)            the first text of a list that is an address
//	confidence(x)         a number, or low, medium, high as 25, 50, 75
//
// A filter in a STREAMS_FILE (ReadStreams) is such an expression too, asked of each detection as its mapping would read it.
// A Filter is an expression of the same kind on records and their documents, of which a replay takes what it means. Its
// record is the value as it came, in its envelopes, which the filter of a stream never sees: hence two names.
//
// # Not obvious
//
//   - Expressions are checked by the CEL library and mostly not evaluated by it, but as terms compiled from its syntax
//     tree, several times as fast. A test evaluates every expression of every file over every case both ways.
//   - Numbers are text until somebody compares them: ids beyond 2^53 stay exact.
//   - All of the namespace is text but lists and flags, for all formats together: the index takes the type of a key from
//     the first document that has it and refuses others.
//   - testdata/golden.txt holds what every case becomes, with the hash of its mapping and its dedup_key. A change of it is a
//     decision (go test -run Golden -update).
package format
