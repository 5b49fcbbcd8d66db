// Package bridge brings the detections of Kafka topics into Stellar Cyber's
// aella-ser index: once, quickly, without flooding it, and with nothing lost.
// Read this first.
//
// # What is promised
//
//  1. Nothing is lost. An offset is committed only when its record is settled:
//     every document of it got its 200, or the record, or the one bad document
//     of it, was acknowledged by the dead-letter topic, or it is no detection.
//  2. Repeats are bounded. After kill -9 nothing is sent again that the last
//     acknowledged commit covers, and at most MaxRepeats documents are. After a
//     drain none is, if every record that had started finishes and the commit
//     is acknowledged within the drain timeout. Without a crash a document
//     whose fate is unknown is sent at most MaxSends times.
//  3. An outage is not a reject. A record goes to the dead-letter topic for a
//     fault of its own, shown by comparison with others, or for MaxSends
//     unknown outcomes; never for a fault of the API, the network or ours.
//  4. The rate is the group's, every attempt counted.
//  5. Memory is bounded by BufferBytes, whatever the lag.
//
// # One record's life
//
//	poll        receives as many records as there is room for; each is
//	            registered with its partition's frontier, then queued
//	dispatch    takes them in turn, topic by topic and partition by partition, a
//	            goroutine each
//	deliver     transforms the record into documents, each delivered for itself;
//	            while the schema that it names cannot be read, it waits
//	attempt     room in the exposure, then the gate's leave, a slot, the
//	            authorization, a token of the rate; one last look; one POST
//	weigh       the answer's verdict: delivered; tried again after a backoff;
//	            slimmed; given up as a dead letter
//	settle      the offset may be passed; its room stays held until a commit
//	            covers it
//	commit      one atomic snapshot of each changed frontier: the first offset
//	            not settled, and what is settled above it as metadata
//
// There is no order between records, and no batch: a slow one delays nobody.
// Wherever records of several topics wait for one thing they are served topic
// by topic in turn (package turns), and none takes all there is: a topic whose
// every document fails, and waits in backoff or at the gate, delays no other.
//
// # Whose fault
//
// The verdict of a single attempt is package stellar's. What follows from it:
//
//	delivered     settles the document; opens the gate if it was the canary's
//	refused       its own fault after 3 times, each after a delivery of another,
//	              while nobody recovers from failing so: slimmed, then a dead
//	              letter; until then it is everybody's, and the document waits
//	5xx           the same after 8 times over at least 2 minutes
//	unavailable   never the document's fault
//	unknown       may be stored: sent again up to MaxSends, then a dead letter
//
// # Not obvious
//
//   - A partition that is lost and comes back is a new partition, with a new
//     frontier. Records hold a pointer to the one they were received under, so
//     a late answer can never move the new owner's offset. The broker would
//     let it: it accepts commits of members that own nothing.
//   - Room is taken before the first attempt and comes back with the commit
//     that covers the record, not with its 200. So while commits fail, delivery
//     stops at the bound.
//   - What may be stored and may not be sent again keeps its room until another
//     document is delivered, which needs room. Where such documents hold all of
//     it, too few to be an outage, the gate closes as for one, and its canaries
//     make place: so every MaxRepeats is live, 1 too, only slower.
//   - begin and drain hold the same lock: a record has either started, and the
//     drain waits for it, or it has not, and is left to the next owner.
//   - What is queued of a held partition goes back to Kafka by SetOffsets, and
//     only between a poll and AllowRebalance: elsewhere a rebalance could come
//     between, and under cooperative balancing what is given up and not
//     rewound is never fetched again.
//
// # Files
//
//	bridge.go               configuration, parts, run
//	consume.go queue.go     poll, bounds, holding a partition
//	assign.go partition.go  assignment, drain, fence
//	start.go                where a fresh topic begins
//	deliver.go record.go    a record and its documents
//	attempt.go              one POST and all it needs
//	gate.go slots.go rate.go heard.go    who may go, and when
//	fault.go brake.go       whose fault; topics that are none
//	commit.go               snapshots to the broker
//	watch.go trouble.go metrics.go trail.go    what is seen from outside
package bridge
