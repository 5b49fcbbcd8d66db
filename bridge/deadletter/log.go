package deadletter

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// Bounds on what a read holds, whatever the topic's size: one fetch on its way and one being read, of one partition. A fetch
// is counted compressed and unpacked whole; letters of one fault are alike, and a hundred times smaller when compressed.
const (
	fetchBytes  = 256 << 10
	unpackBytes = 2 * maxRecordBytes // one batch; a letter of the largest size that is written, and headers
	pollRecords = 1000
)

const (
	askWait    = 30 * time.Second // how long one question to the brokers may take
	quietWait  = time.Second      // without a record before the broker is asked whether there are any more
	silentWait = time.Minute      // and before a read gives up
)

// ErrNoTopic is returned by [OpenLog] for a topic that does not exist, or that our user may not see.
var ErrNoTopic = errors.New("the topic does not exist")

// Span is a part of a partition: from Start to the offset before End.
type Span struct {
	Partition  int32
	Start, End int64
}

// Log is a topic as it was when it was opened: what is written later is not read. Nothing is committed, and no group joined.
type Log struct {
	Topic    string
	ID       [16]byte // zero where brokers give none
	Replicas int      // of its partitions, at most
	Spans    []Span   // of every partition, ascending; End is the last stable offset

	options []kgo.Opt
	dials   *dials
	client  *kgo.Client
	admin   *kadm.Client
}

// OpenLog looks where the topic starts and ends. The caller has to Close it.
func OpenLog(ctx context.Context, options []kgo.Opt, topic string) (*Log, error) {
	l := &Log{Topic: topic, dials: new(dials)}
	l.options = append(options[:len(options):len(options)], kgo.WithHooks(l.dials), kgo.MetadataMinAge(250*time.Millisecond))
	client, err := kgo.NewClient(l.options...)
	if err != nil {
		return nil, fmt.Errorf("configure the Kafka client for %s: %w", topic, err)
	}
	l.client, l.admin = client, kadm.NewClient(client)
	if err := l.look(ctx); err != nil {
		client.Close()
		return nil, fmt.Errorf("look up topic %s: %w", topic, err)
	}
	return l, nil
}

// Close ends the log's connections.
func (l *Log) Close() { l.client.Close() }

func (l *Log) look(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, askWait)
	defer cancel()
	topics, err := l.admin.ListTopics(kadm.WithAuthorizedOps(ctx), l.Topic) // past the client's cache, as for the writer
	if err != nil {
		return l.dials.inTime(ctx, err)
	}
	switch t := topics[l.Topic]; {
	case isUnknownTopic(t.Err):
		return ErrNoTopic
	case t.Err != nil:
		return t.Err
	default:
		l.ID, l.Replicas = t.ID, t.Partitions.NumReplicas()
	}
	starts, err := l.admin.ListStartOffsets(ctx, l.Topic)
	if err != nil {
		return l.dials.inTime(ctx, err)
	}
	ends, err := l.admin.ListCommittedOffsets(ctx, l.Topic)
	if err != nil {
		return l.dials.inTime(ctx, err)
	}
	return l.span(topics[l.Topic].Partitions, starts[l.Topic], ends[l.Topic])
}

// span refuses a partition whose bounds are unknown: to leave it out in silence would be to lose its letters from sight.
func (l *Log) span(ids kadm.PartitionDetails, starts, ends map[int32]kadm.ListedOffset) error {
	for id := range ids {
		start, end := starts[id], ends[id]
		if err := cmp.Or(start.Err, end.Err); err != nil {
			return fmt.Errorf("list offsets of partition %d: %w", id, err)
		}
		l.Spans = append(l.Spans, Span{id, start.Offset, max(start.Offset, end.Offset)})
	}
	slices.SortFunc(l.Spans, func(a, b Span) int { return int(a.Partition) - int(b.Partition) })
	return nil
}

// Span is that of a partition; false if the topic has no such partition.
func (l *Log) Span(partition int32) (Span, bool) {
	for _, s := range l.Spans {
		if s.Partition == partition {
			return s, true
		}
	}
	return Span{}, false
}

// OffsetsAt returns of each partition the offset of the first record whose time is at or after t, as the brokers' index
// knows it; the end of the span where there is none. Times need not ascend: records behind it may be older.
func (l *Log) OffsetsAt(ctx context.Context, t time.Time) (map[int32]int64, error) {
	ctx, cancel := context.WithTimeout(ctx, askWait)
	defer cancel()
	listed, err := l.admin.ListOffsetsAfterMilli(ctx, t.UnixMilli(), l.Topic)
	if err != nil {
		return nil, fmt.Errorf("list offsets of %s by time: %w", l.Topic, l.dials.inTime(ctx, err))
	}
	at := make(map[int32]int64, len(l.Spans))
	for _, s := range l.Spans {
		o, ok := listed.Lookup(l.Topic, s.Partition)
		if !ok || o.Err != nil {
			return nil, fmt.Errorf("list offsets of %s/%d by time: %w", l.Topic, s.Partition, cmp.Or(o.Err, errUnlisted))
		}
		at[s.Partition] = min(max(o.Offset, s.Start), s.End)
	}
	return at, nil
}

var errUnlisted = errors.New("the broker's answer leaves the partition out")

// Offsets is how many there are in all spans: an upper bound of the records.
func (l *Log) Offsets() (n int64) {
	for _, s := range l.Spans {
		n += s.End - s.Start
	}
	return n
}

// Read calls f with every record of the span in order, and returns when the last has been read, or with the error of f.
// Transaction markers are among them ([kgo.RecordAttrs.IsControl]); what a transaction aborted, compaction removed or
// retention took meanwhile is not. It holds one fetch in memory, not the topic.
func (l *Log) Read(ctx context.Context, s Span, f func(*kgo.Record) error) error {
	if s.Start >= s.End {
		return nil
	}
	client, err := kgo.NewClient(append(l.options[:len(l.options):len(l.options)], l.readOptions(s)...)...)
	if err != nil {
		return fmt.Errorf("configure the Kafka client for %s: %w", l.Topic, err)
	}
	defer client.Close()
	r := &run{Log: l, Span: s, next: s.Start, f: f, client: client, last: time.Now()}
	for r.next < s.End {
		if err := r.poll(ctx); err != nil {
			return fmt.Errorf("read %s/%d from offset %d on: %w", l.Topic, s.Partition, r.next, err)
		}
	}
	return nil
}

func (l *Log) readOptions(s Span) []kgo.Opt {
	return []kgo.Opt{
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{l.Topic: {s.Partition: kgo.NewOffset().At(s.Start)}}),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), // retention has passed us; run.take leaves out what it has seen
		kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.KeepControlRecords(),
		kgo.FetchMaxBytes(fetchBytes),
		kgo.FetchMaxPartitionBytes(fetchBytes),
		kgo.MaxConcurrentFetches(1),
		kgo.FetchMaxWait(250 * time.Millisecond),
		kgo.MaxDecompressBatchBytes(unpackBytes),
		kgo.DisableClientMetrics(),
	}
}

// run is one Read.
type run struct {
	*Log
	Span
	next   int64
	f      func(*kgo.Record) error
	client *kgo.Client
	last   time.Time // when a record came, or the read began
}

func (r *run) poll(ctx context.Context) error {
	polling, cancel := context.WithTimeout(ctx, quietWait)
	defer cancel()
	fetches := r.client.PollRecords(polling, pollRecords)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	for _, e := range fetches.Errors() {
		var loss *kgo.ErrDataLoss // says that it went on where both logs agree
		if polling.Err() == nil && !errors.As(e.Err, &loss) {
			return e.Err
		}
	}
	seen := false
	for record := range fetches.RecordsAll() {
		seen = true
		if err := r.take(record); err != nil {
			return err
		}
	}
	if seen {
		r.last = time.Now()
		return nil
	}
	return r.quiet(ctx)
}

// take passes a record on, once: after a reset it may come again, or lie beyond the end.
func (r *run) take(record *kgo.Record) error {
	if record.Offset < r.next || record.Offset >= r.End {
		r.next = max(r.next, min(record.Offset, r.End))
		return nil
	}
	if err := r.f(record); err != nil {
		return err
	}
	r.next = record.Offset + 1
	return nil
}

// quiet finds out whether there is anything to wait for: the last offsets of a log may be gaps, which no poll returns.
func (r *run) quiet(ctx context.Context) error {
	next, more, err := r.ask(ctx)
	switch {
	case err == nil && !more:
		r.next = r.End
		return nil
	case err == nil:
		r.next = next
	case errors.Is(err, kerr.OffsetOutOfRange):
		return r.passed(ctx, err)
	}
	if time.Since(r.last) < silentWait {
		return nil
	}
	if err == nil {
		err = errors.New("no record came for a minute, though the broker has some")
	}
	return r.dials.inTime(ctx, err)
}

// passed goes on behind what retention took. A log that now ends before us was cut off, and what it held is gone.
func (r *run) passed(ctx context.Context, cause error) error {
	ctx, cancel := context.WithTimeout(ctx, askWait)
	defer cancel()
	starts, err := r.admin.ListStartOffsets(ctx, r.Topic)
	if err != nil {
		return err
	}
	start, ok := starts.Lookup(r.Topic, r.Partition)
	if !ok || start.Err != nil || start.Offset <= r.next {
		return fmt.Errorf("the log was cut off while it was read: %w", cause)
	}
	r.next = start.Offset
	return nil
}

// ask fetches once past the client: more is false if nothing at all stands between the position and the end of the log.
func (r *run) ask(ctx context.Context) (next int64, more bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, askWait)
	defer cancel()
	topics, err := r.admin.ListTopics(ctx, r.Topic)
	if err != nil {
		return r.next, false, err
	}
	leader := topics[r.Topic].Partitions[r.Partition].Leader
	resp, err := r.client.Broker(int(leader)).RetriableRequest(ctx, r.question())
	if err != nil {
		return r.next, false, err
	}
	fetched := resp.(*kmsg.FetchResponse)
	if err := kerr.ErrorForCode(fetched.ErrorCode); err != nil {
		return r.next, false, err
	}
	if len(fetched.Topics) != 1 || len(fetched.Topics[0].Partitions) != 1 {
		return r.next, false, errors.New("the broker's answer leaves the partition out")
	}
	p := fetched.Topics[0].Partitions[0]
	if err := kerr.ErrorForCode(p.ErrorCode); err != nil {
		return r.next, false, err
	}
	next, more = pastEmpty(p.RecordBatches, r.next)
	return next, more && next < r.End, nil
}

func (r *run) question() *kmsg.FetchRequest {
	p := kmsg.NewFetchRequestTopicPartition()
	p.Partition, p.FetchOffset, p.PartitionMaxBytes = r.Partition, r.next, 1<<10 // one batch comes whole
	t := kmsg.NewFetchRequestTopic()
	t.Topic, t.TopicID, t.Partitions = r.Topic, r.ID, append(t.Partitions, p)
	req := kmsg.NewPtrFetchRequest()
	req.MaxBytes, req.IsolationLevel, req.Topics = 1<<10, 1, append(req.Topics, t)
	return req
}

// pastEmpty skips batches that compaction has emptied, from which no poll returns. more means that something else follows.
func pastEmpty(batches []byte, from int64) (next int64, more bool) {
	const header, lastDelta, count, magic = 61, 23, 57, 16 // of a record batch
	for next = from; len(batches) > 0; {
		if len(batches) < header || batches[magic] != 2 {
			return next, true
		}
		size := 12 + int(int32(binary.BigEndian.Uint32(batches[8:])))
		if size < header || binary.BigEndian.Uint32(batches[count:]) > 0 {
			return next, true
		}
		next = max(next, int64(binary.BigEndian.Uint64(batches))+int64(int32(binary.BigEndian.Uint32(batches[lastDelta:])))+1)
		batches = batches[min(size, len(batches)):]
		more = true // ask again from behind it
	}
	return next, more
}
