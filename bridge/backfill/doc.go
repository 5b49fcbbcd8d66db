// Package backfill plans bounded runs of the bridge over what topics hold already, and knows how far a run is.
//
// The one idea: a run is a consumer group, and all that it is stands in the group's commits. Where it begins and ends is
// resolved once (Resolve) and kept there (Run.Seed) while the group is empty; the members read it back (Run.Read), like the
// one that takes the run up again after all of them were killed. So there is no other state than Kafka's, several processes
// share one run, and a run that is complete says so.
//
//	group                        a commit of it says of a partition
//	<live>.backfill.<id>         where the run is, what is settled above, where it ends, of which time on nothing is its
//	<letters>.redrive.<id>       the same of a redrive, which reads a dead-letter topic
//	<either>.plan                where it began, and what the live group had settled then
//
// Three things are left out of a range: what the live group had not settled when the run began, since that is delivered
// by it; what is later than the run's end in time, which is a property of each record, since timestamps do not ascend in a
// log; and what an open transaction has not committed.
//
// What receipts say is there already can be left out of a replay, document by document (Delivered).
//
// A redrive knows more of each record than its offset: what has become of a dead letter stands in the handled topic, and is
// acknowledged there before the offset counts as settled (Redrive). Two redrives at a time might send a letter twice, so
// there is one (Alone).
//
// A plan, its ranges and what a record is to it are pure. Package bridge does the delivering: Plan.Reading, Ledger.Ended
// and Yield.Begin are what its Config takes.
package backfill
