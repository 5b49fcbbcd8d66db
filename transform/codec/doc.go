// Package codec reads what stands under the JSON of a record: compression (gzip, zstd), Avro's object container, and values
// framed for a schema registry, in Avro, Protobuf or JSON Schema. All of it becomes JSON text, which the package format reads
// as if it had come so.
//
// It is pure: the schema of a framed value comes out of a function in the settings. Where that has not been read yet, the
// record is held, which is a transform's fourth outcome: whoever transforms it reads the schema and transforms it again.
//
// # What is bounded
//
// What a value expands to is at most 100 times its size (or 16 KiB, if that is more) and 16 MiB, whatever it is wrapped in. What
// would be more is refused (expands_too_far), and not unpacked further than to there. The bridge takes as much of its
// BUFFER_BYTES for such a record (Expansion), for what it says of itself cannot be believed.
package codec
