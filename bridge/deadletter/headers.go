package deadletter

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// schema is the version of our headers. headerSchema opens the block of them: what stands before it is the source's, whatever
// it is called, which is how a source's own "dlq.topic" survives.
const (
	schema       = "1"
	headerSchema = "dlq.schema"

	headerTopic         = "dlq.topic"
	headerPartition     = "dlq.partition"
	headerOffset        = "dlq.offset"
	headerPart          = "dlq.part" // absent: the whole record
	headerReason        = "dlq.reason"
	headerField         = "dlq.field"
	headerDetail        = "dlq.detail"
	headerCertainty     = "dlq.certainty"
	headerAttempts      = "dlq.attempts"
	headerHTTPStatus    = "dlq.http.status"
	headerHTTPBody      = "dlq.http.body"
	headerFirstFailedAt = "dlq.first_failed_at"
	headerFailedAt      = "dlq.failed_at"
	headerDeliveryKey   = "dlq.delivery_key"
	headerMapping       = "dlq.mapping"
	headerBridge        = "dlq.bridge"
	headerInstance      = "dlq.instance"
	headerRedrives      = "dlq.redrives"
	headerRun           = "dlq.run"
	headerLeftOut       = "dlq.left_out" // only on a letter that was too large
)

// Kafka Connect's names (org.apache.kafka.connect.runtime.errors.DeadLetterQueueReporter).
const (
	connectPrefix    = "__connect.errors."
	connectTopic     = connectPrefix + "topic"
	connectPartition = connectPrefix + "partition"
	connectOffset    = connectPrefix + "offset"
	connectName      = connectPrefix + "connector.name"
	connectTask      = connectPrefix + "task.id"
	connectStage     = connectPrefix + "stage"
	connectClass     = connectPrefix + "class.name"
	connectException = connectPrefix + "exception.class.name"
	connectMessage   = connectPrefix + "exception.message"
)

// Bounds in bytes, so that a letter is never much larger than its source.
const (
	maxDetail = 512
	maxBody   = 1024
	maxText   = 256 // every other text of ours; a Kafka topic name has at most 249
)

var ownNames = []string{
	headerSchema, headerTopic, headerPartition, headerOffset, headerPart, headerReason, headerField, headerDetail, headerCertainty,
	headerAttempts, headerHTTPStatus, headerHTTPBody, headerFirstFailedAt, headerFailedAt, headerDeliveryKey, headerMapping,
	headerBridge, headerInstance, headerRedrives, headerRun, headerLeftOut,
	connectTopic, connectPartition, connectOffset, connectName, connectTask, connectStage, connectClass, connectException,
	connectMessage,
}

// headers collects them; an empty text and a zero time are left out.
type headers []kgo.RecordHeader

func (h *headers) text(key, value string, limit int) {
	if value != "" {
		*h = append(*h, kgo.RecordHeader{Key: key, Value: []byte(cut(value, limit))})
	}
}

func (h *headers) number(key string, value int64) {
	*h = append(*h, kgo.RecordHeader{Key: key, Value: strconv.AppendInt(nil, value, 10)})
}

func (h *headers) time(key string, value time.Time) {
	if !value.IsZero() {
		h.text(key, value.UTC().Format(time.RFC3339Nano), maxText)
	}
}

// own are our headers, headerSchema first.
func (l Letter) own() []kgo.RecordHeader {
	var h headers
	h.text(headerSchema, schema, maxText)
	h.text(headerTopic, l.Topic, maxText)
	h.number(headerPartition, int64(l.Partition))
	h.number(headerOffset, l.Offset)
	if l.Part >= 0 {
		h.number(headerPart, int64(l.Part))
	}
	h.text(headerReason, l.Reason, maxText)
	h.text(headerField, l.Field, maxText)
	h.text(headerDetail, l.Detail, maxDetail)
	h.text(headerCertainty, l.Certainty, maxText)
	h.number(headerAttempts, int64(l.Attempts))
	if l.HTTPStatus != 0 {
		h.number(headerHTTPStatus, int64(l.HTTPStatus))
	}
	h.text(headerHTTPBody, l.HTTPBody, maxBody)
	h.time(headerFirstFailedAt, l.FirstFailedAt)
	h.time(headerFailedAt, l.FailedAt)
	h.text(headerDeliveryKey, l.DeliveryKey, maxText)
	h.text(headerMapping, l.Mapping, maxText)
	h.text(headerBridge, l.Bridge, maxText)
	h.text(headerInstance, l.Instance, maxText)
	h.number(headerRedrives, int64(l.Redrives))
	h.text(headerRun, l.Run, maxText)
	h.text(headerLeftOut, l.LeftOut, maxText)
	return h
}

// connect are the same facts under Kafka Connect's names.
func (l Letter) connect() []kgo.RecordHeader {
	stage := l.Stage
	if stage == "" {
		stage = StagePut
	}
	var h headers
	h.text(connectTopic, l.Topic, maxText)
	h.number(connectPartition, int64(l.Partition))
	h.number(connectOffset, l.Offset)
	h.text(connectName, l.Group, maxText)
	h.text(connectTask, l.Instance, maxText)
	h.text(connectStage, stage, maxText)
	h.text(connectClass, "serbridge", maxText)
	h.text(connectException, l.Reason, maxText)
	h.text(connectMessage, l.Detail, maxDetail)
	return h
}

// split separates the source's headers from the blocks of ours among them, oldest first. A block begins at headerSchema and
// counts only if its coordinates can be read; a damaged or foreign one stays with the source's. Headers that others appended
// to a block are the source's too (a tracer's, say).
func split(hs []kgo.RecordHeader) (originals []kgo.RecordHeader, blocks []Letter) {
	for len(hs) > 0 {
		end := 1 + slices.IndexFunc(hs[1:], func(h kgo.RecordHeader) bool { return h.Key == headerSchema })
		if end == 0 {
			end = len(hs)
		}
		l, err := parseOwn(hs[:end])
		if err == nil {
			blocks = append(blocks, l)
		}
		for _, h := range hs[:end] {
			if err != nil || !slices.Contains(ownNames, h.Key) {
				originals = append(originals, h)
			}
		}
		hs = hs[end:]
	}
	return originals, blocks
}

// damage says what is wrong with the last block of ours, nil if there is none.
func damage(hs []kgo.RecordHeader) error {
	for i := len(hs) - 1; i >= 0; i-- {
		if hs[i].Key == headerSchema {
			_, err := parseOwn(hs[i:])
			return err
		}
	}
	return nil
}

// fields reads headers by name; of a repeated one the last counts, as for Kafka's own lastHeader.
type fields map[string]string

func read(hs []kgo.RecordHeader) fields {
	f := make(fields, len(hs))
	for _, h := range hs {
		f[h.Key] = string(h.Value)
	}
	return f
}

// number is 0 when the header is missing or not a number from 0 to 2^31-1.
func (f fields) number(key string) int {
	n, _ := strconv.ParseUint(f[key], 10, 31)
	return int(n)
}

func (f fields) time(key string) time.Time {
	t, _ := time.Parse(time.RFC3339Nano, f[key])
	return t
}

// coordinates are the identity: without them a letter belongs to no record.
func (f fields) coordinates(topic, partition, offset string) (Letter, error) {
	if f[topic] == "" {
		return Letter{}, fmt.Errorf("read header %s: missing", topic)
	}
	p, err := strconv.ParseUint(f[partition], 10, 31)
	if err != nil {
		return Letter{}, fmt.Errorf("read header %s: not a partition number", partition)
	}
	o, err := strconv.ParseUint(f[offset], 10, 63)
	if err != nil {
		return Letter{}, fmt.Errorf("read header %s: not an offset", offset)
	}
	return Letter{Topic: f[topic], Partition: int32(p), Offset: int64(o), Part: -1}, nil
}

func parseOwn(hs []kgo.RecordHeader) (Letter, error) {
	if hs[0].Key != headerSchema {
		return Letter{}, fmt.Errorf("read header %s: missing", headerSchema)
	}
	if string(hs[0].Value) != schema {
		return Letter{}, fmt.Errorf("read header %s: this build knows version %s only, the letter was written by another", headerSchema, schema)
	}
	f := read(hs)
	l, err := f.coordinates(headerTopic, headerPartition, headerOffset)
	if err != nil {
		return Letter{}, err
	}
	if _, ok := f[headerPart]; ok {
		l.Part = f.number(headerPart)
	}
	l.Reason, l.Field, l.Detail, l.Certainty = f[headerReason], f[headerField], f[headerDetail], f[headerCertainty]
	l.Attempts, l.HTTPStatus, l.HTTPBody = f.number(headerAttempts), f.number(headerHTTPStatus), f[headerHTTPBody]
	l.FirstFailedAt, l.FailedAt = f.time(headerFirstFailedAt), f.time(headerFailedAt)
	l.DeliveryKey, l.Mapping, l.Bridge, l.Instance = f[headerDeliveryKey], f[headerMapping], f[headerBridge], f[headerInstance]
	l.Redrives, l.Run, l.LeftOut = f.number(headerRedrives), f[headerRun], f[headerLeftOut]
	l.Group, l.Stage = f[connectName], f[connectStage]
	return l, nil
}

// parseConnect reads a letter that Kafka Connect wrote. Its headers come after the source's, so all others are the source's.
func parseConnect(hs []kgo.RecordHeader) (Letter, error) {
	f := read(hs)
	l, err := f.coordinates(connectTopic, connectPartition, connectOffset)
	if err != nil {
		return Letter{}, err
	}
	l.Group, l.Instance, l.Stage = f[connectName], f[connectTask], f[connectStage]
	l.Detail = strings.TrimPrefix(f[connectException]+": "+f[connectMessage], ": ") // no Reason: theirs is not of our closed set
	for _, h := range hs {
		if !strings.HasPrefix(h.Key, connectPrefix) {
			l.Headers = append(l.Headers, h)
		}
	}
	return l, nil
}
