package bridge_test

import (
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"serbridge/bridge"
	"serbridge/bridge/stellar/stellartest"
)

const (
	producerTrace = "0af7651916cd43dd8448eb211c80319c"
	producerSpan  = "b7ad6b7169203331"
	traceparent   = "00-" + producerTrace + "-" + producerSpan + "-01"
)

// traced delivers one record, and is what was traced of it.
type traced struct {
	*testing.T
	w     *world
	spans tracetest.SpanStubs
}

func trace1(t *testing.T, value string, api stellartest.Config, script func(stellartest.Request) stellartest.Fault, headers ...kgo.RecordHeader) traced {
	t.Helper()
	return traceWith(t, value, api, func(w *world) { w.api.Script(script) }, func(*bridge.Config) {}, headers...)
}

// traceWith is trace1 with a world and a member that are prepared.
func traceWith(t *testing.T, value string, api stellartest.Config, prepare func(*world), configure func(*bridge.Config), headers ...kgo.RecordHeader) traced {
	t.Helper()
	w := newWorld(t, worldConfig{partitions: 1, api: api})
	prepare(w)
	kept := tracetest.NewInMemoryExporter()
	provider := sdktrace.NewTracerProvider(sdktrace.WithSyncer(kept))
	w.produceRecords(&kgo.Record{Topic: topic, Key: []byte("secret-key"), Value: []byte(value), Headers: headers})
	w.start(func(c *bridge.Config) { c.Tracer = provider.Tracer("test"); configure(c) })
	w.settled(time.Hour)
	synctest.Wait()
	return traced{t, w, kept.GetSpans()}
}

// named are the spans of a name, the oldest first.
func (t traced) named(name string) (all tracetest.SpanStubs) {
	for _, s := range t.spans {
		if s.Name == name {
			all = append(all, s)
		}
	}
	slices.SortStableFunc(all, func(a, b tracetest.SpanStub) int { return a.StartTime.Compare(b.StartTime) })
	return all
}

// one is the only span of a name.
func (t traced) one(name string) tracetest.SpanStub {
	t.Helper()
	all := t.named(name)
	if len(all) != 1 {
		t.Fatalf("%d spans %q of %v", len(all), name, t.spans)
	}
	return all[0]
}

// under is that each span is a child of the parent.
func (t traced) under(parent tracetest.SpanStub, spans ...tracetest.SpanStub) {
	t.Helper()
	for _, s := range spans {
		if s.Parent.SpanID() != parent.SpanContext.SpanID() || s.SpanContext.TraceID() != parent.SpanContext.TraceID() {
			t.Errorf("%q is no child of %q", s.Name, parent.Name)
		}
	}
}

// has is that a span has attributes, given as key and value in turn.
func (t traced) has(s tracetest.SpanStub, want ...string) {
	t.Helper()
	set := attribute.NewSet(s.Attributes...)
	for i := 0; i < len(want); i += 2 {
		if v, _ := set.Value(attribute.Key(want[i])); v.String() != want[i+1] {
			t.Errorf("%q: %s is %q, want %q", s.Name, want[i], v.String(), want[i+1])
		}
	}
}

// A record without its spans, or with spans under another trace, is lost to whoever looks for it.
func TestTraceLeadsFromTheProducerToTheAnswer(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		tr := trace1(t, string(detection(1)), stellartest.Config{}, nil,
			kgo.RecordHeader{Key: "traceparent", Value: []byte(traceparent)}, kgo.RecordHeader{Key: "tracestate", Value: []byte("vendor=mark-of-the-header")})
		root := tr.one("consume " + topic)
		if root.Parent.TraceID().String() != producerTrace || root.Parent.SpanID().String() != producerSpan || root.SpanKind != trace.SpanKindConsumer {
			t.Errorf("the record's span is under %v, kind %v", root.Parent, root.SpanKind)
		}
		tr.has(root, "messaging.system", "kafka", "messaging.operation.type", "process", "messaging.destination.name", topic,
			"messaging.destination.partition.id", "0", "messaging.kafka.offset", "0", "messaging.consumer.group.name", group, "serbridge.settled", "true")
		post := tr.one("POST")
		tr.under(root, tr.one("transform"), post, tr.one("settle "+topic))
		tr.has(post, "http.request.method", "POST", "http.response.status_code", "200", "server.address", "localhost", "server.port", "80",
			"url.full", "http://localhost:80/connect/api/v1/insert_ser", "serbridge.verdict", "delivered")
		if len(tr.spans) != 4 {
			t.Errorf("%d spans, want 4", len(tr.spans))
		}
		tr.holdsNothingOf("secret-key", "detection 1", "id-1", "mark-of-the-header")
	})
}

// holdsNothingOf is that no span holds any of the words.
func (t traced) holdsNothingOf(words ...string) {
	t.Helper()
	for _, s := range t.spans {
		text := s.Name + s.Status.Description + s.SpanContext.TraceState().String()
		for _, a := range s.Attributes {
			text += " " + a.Value.String()
		}
		for _, word := range words {
			if strings.Contains(text, word) {
				t.Errorf("span %q holds %q", s.Name, word)
			}
		}
		if len(s.Events) > 0 {
			t.Errorf("span %q has events, which may hold the text of an error", s.Name)
		}
	}
}

// A retry that hides behind the last attempt is not found.
func TestTraceShowsEachAttempt(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		tries := 0
		tr := trace1(t, string(detection(1)), stellartest.Config{}, func(stellartest.Request) stellartest.Fault {
			if tries++; tries < 3 {
				return stellartest.Fault{Status: 503}
			}
			return stellartest.Fault{}
		})
		posts := tr.named("POST")
		if len(posts) != 3 {
			t.Fatalf("%d attempts are traced, want 3", len(posts))
		}
		tr.under(tr.one("consume "+topic), posts...)
		for i, s := range posts[:2] {
			tr.has(s, "http.response.status_code", "503", "error.type", "http_503", "serbridge.verdict", "unavailable", "serbridge.certainty", "refused")
			if s.Status.Code != codes.Error {
				t.Errorf("attempt %d is no error", i)
			}
		}
		tr.has(posts[1], "http.request.resend_count", "1")
		tr.has(posts[2], "http.request.resend_count", "2", "http.response.status_code", "200")
	})
}

// A document that waits for a search looks idle, unless the search is seen, and one that was refused too.
func TestTraceShowsEachSearch(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		tr := traceWith(t, string(detection(1)), refreshed, func(w *world) {
			w.api.Script(stellartest.Sequence(stellartest.CutAfterStoring()))
			w.api.ScriptReads(stellartest.Sequence(stellartest.Forbidden()))
		}, probing)
		searches := tr.named("GET")
		if len(searches) != 2 {
			t.Fatalf("%d searches are traced, want 2", len(searches))
		}
		tr.under(tr.one("consume "+topic), append(searches, tr.one("POST"))...)
		tr.has(searches[0], "http.request.method", "GET", "server.address", "localhost", "http.response.status_code", "403", "error.type", "http_403", "serbridge.found", "0")
		tr.has(searches[1], "serbridge.search", "delivery_key", "serbridge.found", "1", "error.type", "")
		if searches[0].Status.Code != codes.Error || searches[1].Status.Code != codes.Unset {
			t.Errorf("%v, %v", searches[0].Status, searches[1].Status)
		}
		tr.holdsNothingOf("secret-key", "detection 1", "id-1", tr.w.api.Documents()[0].DeliveryKey)
	})
}

// Documents of one record that cannot be told apart, or found from the producer, are not traced.
func TestTraceOfAFanOutLinksEachDocumentToTheProducer(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		tr := trace1(t, string(bundle(0, 5)), stellartest.Config{}, nil, kgo.RecordHeader{Key: "traceparent", Value: []byte(traceparent)})
		root, posts := tr.one("consume "+topic), tr.named("POST")
		documents := tr.named("deliver")
		if len(documents) != 5 || len(posts) != 5 {
			t.Fatalf("%d documents, %d attempts", len(documents), len(posts))
		}
		tr.under(root, documents...)
		for _, d := range documents {
			if len(d.Links) != 1 || d.Links[0].SpanContext.SpanID().String() != producerSpan || d.Links[0].SpanContext.TraceID().String() != producerTrace {
				t.Errorf("links %v", d.Links)
			}
			i := slices.IndexFunc(posts, func(p tracetest.SpanStub) bool { return p.Parent.SpanID() == d.SpanContext.SpanID() })
			if i < 0 {
				t.Errorf("no attempt under %v", d.Attributes)
			}
		}
	})
}

// A dead letter without the producer's context begins a trace that nobody can join to the first.
func TestDeadLetterKeepsTheTraceAndItsSpanSaysWhy(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		tr := trace1(t, "not JSON, mark-of-the-value", stellartest.Config{}, nil, kgo.RecordHeader{Key: "traceparent", Value: []byte(traceparent)})
		letters := tr.w.letters()
		if len(letters) != 1 || !slices.ContainsFunc(letters[0].Headers, func(h kgo.RecordHeader) bool {
			return h.Key == "traceparent" && string(h.Value) == traceparent
		}) {
			t.Errorf("the letter lost the producer's context: %v", letters)
		}
		root := tr.one("consume " + topic)
		if root.Status.Code != codes.Error {
			t.Error("the record's span is no error")
		}
		tr.has(root, "error.type", "invalid_json", "serbridge.settled", "true")
		letter := tr.one("send " + group + ".dlq")
		tr.under(root, letter)
		tr.has(letter, "messaging.destination.name", group+".dlq", "messaging.operation.type", "send")
		tr.has(tr.one("transform"), "error.type", "invalid_json")
		tr.holdsNothingOf("mark-of-the-value", "secret-key")
	})
}

// What a sampler leaves out must leave nothing behind.
func TestUnsampledRecordIsNotTraced(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		tr := trace1(t, string(detection(1)), stellartest.Config{}, nil,
			kgo.RecordHeader{Key: "traceparent", Value: []byte(strings.TrimSuffix(traceparent, "01") + "00")})
		if len(tr.spans) != 0 {
			t.Errorf("%d spans", len(tr.spans))
		}
	})
}
