// Package audit finds out what has become of records, from what is written down of them: topics, commits, receipts, dead
// letters, and the index. It sends nothing but searches, commits nothing and joins no group.
//
// The promise of Run: each offset of the ranges is accounted for once, by the hour of its record, and what no rule explains
// is told. What is written is read before what it is written of, a window of offsets at a time: eight bytes are kept of an
// offset of which anything is written, so memory does not grow with the range. Where another record stands under an offset
// than the one that a receipt is of, as after a topic was made anew, the receipt counts for nothing.
//
//	notes.go     what is written of the offsets of one window
//	walk.go      the offsets in order: records, gaps, what is gone
//	account.go   the sums by topic and hour, and the findings
//	readback.go  the documents of delivered records, searched for and compared
//	compare.go   what of a stored document is not as it was sent
//	index.go     one search, repeated while that may help
package audit
