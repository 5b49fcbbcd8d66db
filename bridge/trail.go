package bridge

import (
	"context"
	"errors"
	"net/url"
	"strconv"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"

	"serbridge/bridge/stellar"
	"serbridge/transform"
)

// Attributes of ours, beside those of the semantic conventions.
const (
	attrFormat    = attribute.Key("serbridge.format")
	attrDocuments = attribute.Key("serbridge.documents")
	attrSkip      = attribute.Key("serbridge.skip")
	attrPart      = attribute.Key("serbridge.part")
	attrVerdict   = attribute.Key("serbridge.verdict")
	attrCertainty = attribute.Key("serbridge.certainty")
	attrSettled   = attribute.Key("serbridge.settled")
	attrSearch    = attribute.Key("serbridge.search")
	attrFound     = attribute.Key("serbridge.found")
)

// mostTraced is how many documents of a record have spans of their own: more in
// one trace are more than a collector takes or anybody reads.
const mostTraced = 128

// tracing is what all trails share; nil without a tracer.
type tracing struct {
	tracer trace.Tracer
	group  string
	client string
	insert []attribute.KeyValue // of every attempt
	search []attribute.KeyValue // of every search
}

func newTracing(cfg *Config) *tracing {
	if cfg.Tracer == nil {
		return nil
	}
	endpoint := cfg.Stellar.Endpoint()
	server := ofServer(endpoint)
	return &tracing{tracer: cfg.Tracer, group: cfg.Group, client: cfg.Instance,
		insert: append([]attribute.KeyValue{semconv.HTTPRequestMethodPost, semconv.URLFull(endpoint.String())}, server...),
		search: append([]attribute.KeyValue{semconv.HTTPRequestMethodGet}, server...)}
}

func ofServer(u *url.URL) []attribute.KeyValue {
	port, err := strconv.Atoi(u.Port())
	if err != nil {
		port = map[string]int{"https": 443, "http": 80}[u.Scheme]
	}
	return []attribute.KeyValue{semconv.ServerAddress(u.Hostname()), semconv.ServerPort(port), semconv.NetworkProtocolVersion("1.1")}
}

// trail is the spans of a record, or of one document of a fan-out: they are
// children of its own span. Most are made once what they tell is over, so a
// trail that is nil, without tracing or for a record that is not sampled, costs
// nothing.
//
// Spans hold names, counts, reasons and coordinates; no key, value or header,
// nor what an error or an answer says.
type trail struct {
	*tracing
	span     trace.Span
	whole    trace.Span        // of the record
	producer trace.SpanContext // of the record; invalid: it named none
}

// parent reads the producer's context, and of the headers nothing else: a trace
// state is text of the producer's, which belongs in no span.
type parent []kgo.RecordHeader

func (p parent) Get(key string) string {
	for _, h := range p {
		if h.Key == key && key == "traceparent" {
			return string(h.Value)
		}
	}
	return ""
}

func (p parent) Set(string, string) {}
func (p parent) Keys() []string     { return []string{"traceparent"} }

// follow begins the trail of a record, from when it was received.
func (t *tracing) follow(r *record) *trail {
	if t == nil {
		return nil
	}
	ctx := propagation.TraceContext{}.Extract(context.Background(), parent(r.k.Headers))
	_, span := t.tracer.Start(ctx, "consume "+r.k.Topic, trace.WithTimestamp(r.at), trace.WithSpanKind(trace.SpanKindConsumer),
		trace.WithAttributes(append(t.messaging(r.k.Topic, semconv.MessagingOperationTypeProcess, "consume"),
			semconv.MessagingDestinationPartitionID(strconv.Itoa(int(r.k.Partition))), semconv.MessagingKafkaOffset(int(r.k.Offset)),
			semconv.MessagingConsumerGroupName(t.group), semconv.MessagingMessageBodySize(len(r.k.Value)))...))
	if !span.IsRecording() {
		return nil
	}
	return &trail{tracing: t, span: span, whole: span, producer: trace.SpanContextFromContext(ctx)}
}

func (t *tracing) messaging(topic string, operation attribute.KeyValue, name string) []attribute.KeyValue {
	return []attribute.KeyValue{semconv.MessagingSystemKafka, semconv.MessagingDestinationName(topic), operation,
		semconv.MessagingOperationName(name), semconv.MessagingClientID(t.client)}
}

// now is when something that will have a span begins.
func (t *trail) now() (begun time.Time) {
	if t != nil {
		begun = time.Now()
	}
	return begun
}

func (t *trail) child(name string, begun time.Time, options ...trace.SpanStartOption) trace.Span {
	ctx := trace.ContextWithSpan(context.Background(), t.span)
	_, span := t.tracer.Start(ctx, name, append(options, trace.WithTimestamp(begun))...)
	return span
}

// transformed tells what the record is.
func (t *trail) transformed(begun time.Time, result transform.Result) {
	if t == nil {
		return
	}
	documents := 0
	for _, part := range result.Parts {
		if part.Document != nil {
			documents++
		}
	}
	span := t.child("transform", begun, trace.WithAttributes(attrDocuments.Int(documents)))
	if result.Format != "" {
		span.SetAttributes(attrFormat.String(result.Format))
	}
	switch {
	case result.Skip != "":
		span.SetAttributes(attrSkip.String(string(result.Skip)))
	case result.Reject != nil:
		fail(span, string(result.Reject.Reason))
	}
	span.End()
}

// part begins the trail of one of several documents. It names the producer's
// span, as the one that was made of it does through the record's.
func (t *trail) part(i int) *trail {
	if t == nil || i >= mostTraced {
		return nil
	}
	options := []trace.SpanStartOption{trace.WithAttributes(attrPart.Int(i))}
	if t.producer.IsValid() {
		options = append(options, trace.WithLinks(trace.Link{SpanContext: t.producer}))
	}
	return &trail{tracing: t.tracing, span: t.child("deliver", time.Now(), options...), whole: t.span, producer: t.producer}
}

// attempted tells of one POST. It did not take the context along: a trace of
// ours means nothing to a third party, which would learn of it all the same.
func (t *trail) attempted(begun time.Time, before int, a stellar.Answer) {
	if t == nil {
		return
	}
	span := t.child("POST", begun, trace.WithSpanKind(trace.SpanKindClient), trace.WithAttributes(t.insert...),
		trace.WithAttributes(attrVerdict.String(a.Verdict.String())))
	if before > 0 {
		span.SetAttributes(semconv.HTTPRequestResendCount(before))
	}
	if a.Status > 0 {
		span.SetAttributes(semconv.HTTPResponseStatusCode(a.Status))
	}
	if a.Verdict != stellar.Delivered {
		span.SetAttributes(attrCertainty.String(string(a.Certainty)))
		fail(span, a.Reason)
	}
	span.End()
}

// searched tells of one search for what may be stored. Its address is left out:
// it names what was searched for.
func (t *trail) searched(begun time.Time, by stellar.Field, found int, err error) {
	if t == nil {
		return
	}
	span := t.child("GET", begun, trace.WithSpanKind(trace.SpanKindClient), trace.WithAttributes(t.search...),
		trace.WithAttributes(attrSearch.String(string(by)), attrFound.Int(found)))
	if e, ok := errors.AsType[*stellar.ReadError](err); ok {
		if e.Status > 0 {
			span.SetAttributes(semconv.HTTPResponseStatusCode(e.Status))
		}
		fail(span, e.Reason)
	}
	span.End()
}

// lettered tells of a dead letter that was acknowledged, and that the record or
// document has failed.
func (t *trail) lettered(begun time.Time, topic, reason string) {
	if t == nil {
		return
	}
	span := t.child("send "+topic, begun, trace.WithSpanKind(trace.SpanKindProducer),
		trace.WithAttributes(t.messaging(topic, semconv.MessagingOperationTypeSend, "send")...))
	span.End()
	fail(t.span, reason)
	fail(t.whole, reason)
}

// settled tells that the record is settled.
func (t *trail) settled(begun time.Time, topic string) {
	if t == nil {
		return
	}
	span := t.child("settle "+topic, begun, trace.WithSpanKind(trace.SpanKindClient),
		trace.WithAttributes(t.messaging(topic, semconv.MessagingOperationTypeSettle, "settle")...),
		trace.WithAttributes(semconv.MessagingConsumerGroupName(t.group)))
	span.End()
	t.span.SetAttributes(attrSettled.Bool(true))
}

// end ends the trail. A record's that is not settled is the next owner's.
func (t *trail) end() {
	if t != nil {
		t.span.End()
	}
}

// fail marks a span by a reason of the closed set; nothing else would be safe
// to show.
func fail(span trace.Span, reason string) {
	span.SetAttributes(semconv.ErrorTypeKey.String(reason))
	span.SetStatus(codes.Error, reason)
}
