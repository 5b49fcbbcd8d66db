// Package audit finds out what has become of records, from what is written down of them: topics, commits, receipts, dead
// letters, and the index. It sends nothing but searches, commits nothing and joins no group.
package audit
