package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/go-logr/logr"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"

	"serbridge/bridge/secret"
)

// traces sends spans to a collector. A nil one is off.
type traces struct{ provider *sdktrace.TracerProvider }

// on tells whether spans are wanted: without a word of OTEL_* there are none.
func (s traceSettings) on() bool {
	return !s.Disabled && s.Exporter != "none" && (s.Exporter != "" || s.Endpoint != "" || s.TracesEndpoint != "")
}

// newTraces connects to nothing yet. Where the collector cannot be reached the
// spans are dropped, and that is said now and then: it delays no delivery.
func newTraces(s traceSettings, log *slog.Logger, red *secret.Redactor) (*traces, error) {
	if !s.on() {
		return nil, nil
	}
	exporter, err := newExporter(s, red)
	if err != nil {
		return nil, fmt.Errorf("make exporter of traces: %w", err)
	}
	if err := exporter.renew(context.Background()); err != nil { // a file that is not there yet must not keep detections from being delivered
		log.Warn("traces are sent without their credentials", "error", err)
	}
	sayOTel(log)
	return newTracesTo(exporter, red), nil
}

func newTracesTo(exporter sdktrace.SpanExporter, red *secret.Redactor) *traces {
	about, _ := resource.New(context.Background(), // an error is told to the handler, and what is known is there
		resource.WithTelemetrySDK(),
		resource.WithAttributes(semconv.ServiceName("serbridge"), semconv.ServiceVersion(buildVersion()), semconv.ServiceInstanceID(instance())),
		resource.WithFromEnv())
	return &traces{sdktrace.NewTracerProvider(sdktrace.WithBatcher(cleanExporter{exporter, red}), sdktrace.WithResource(about))}
}

// freshExporter reads the collector's headers before each batch, so that a credential which was rotated needs no restart.
// The library has one batch under way at a time.
type freshExporter struct {
	sdktrace.SpanExporter // with the headers as they were read last
	settings              traceSettings
	red                   *secret.Redactor
	headers               string
}

// newExporter has no headers yet.
func newExporter(s traceSettings, red *secret.Redactor) (*freshExporter, error) {
	exporter, err := otlptracehttp.New(context.Background(), s.options()...)
	return &freshExporter{SpanExporter: exporter, settings: s, red: red}, err
}

// ExportSpans is sdktrace.SpanExporter's. Where the headers cannot be read, it tries with the last ones.
func (e *freshExporter) ExportSpans(ctx context.Context, spans []sdktrace.ReadOnlySpan) error {
	if err := e.renew(ctx); err != nil {
		otel.Handle(err)
	}
	return e.SpanExporter.ExportSpans(ctx, spans)
}

// renew takes in headers that are others than before.
func (e *freshExporter) renew(ctx context.Context) error {
	if e.settings.Headers == nil {
		return nil
	}
	text, err := e.settings.Headers()
	if err != nil {
		return fmt.Errorf("read OTEL_EXPORTER_OTLP_HEADERS: %w", err)
	}
	if text == e.headers {
		return nil
	}
	headers, ok := otlpHeaders(text)
	if !ok {
		return errors.New("read OTEL_EXPORTER_OTLP_HEADERS: want name=value pairs, comma-separated, values URL-escaped")
	}
	for _, value := range headers {
		e.red.Add(append(strings.Fields(value), value)...)
	}
	next, err := otlptracehttp.New(ctx, append(e.settings.options(), otlptracehttp.WithHeaders(headers))...)
	if err != nil {
		return fmt.Errorf("make exporter of traces: %w", err)
	}
	_ = e.Shutdown(ctx) // holds nothing back
	e.SpanExporter, e.headers = next, text
	return nil
}

// options are the settings that the library would read from the process's environment itself; the others it does read there.
func (s traceSettings) options() (options []otlptracehttp.Option) {
	if to := s.url(); to != "" {
		options = append(options, otlptracehttp.WithEndpointURL(to))
	}
	return options
}

// url is where spans go; empty: the library's default, on this machine.
func (s traceSettings) url() string {
	if s.TracesEndpoint != "" {
		return s.TracesEndpoint
	}
	if s.Endpoint == "" {
		return ""
	}
	return strings.TrimRight(s.Endpoint, "/") + "/v1/traces"
}

// otlpHeaders are pairs as OpenTelemetry writes them in a variable.
func otlpHeaders(text string) (headers map[string]string, ok bool) {
	headers = make(map[string]string)
	for pair := range strings.SplitSeq(text, ",") {
		name, value, found := strings.Cut(pair, "=")
		value, err := url.PathUnescape(strings.TrimSpace(value))
		if name = strings.TrimSpace(name); !found || name == "" || err != nil {
			return nil, false
		}
		headers[name] = value
	}
	return headers, true
}

// tracer is nil when traces are off.
func (t *traces) tracer() trace.Tracer {
	if t == nil {
		return nil
	}
	return t.provider.Tracer("serbridge", trace.WithInstrumentationVersion(buildVersion()))
}

// stop sends what is left, for as long as ctx lasts.
func (t *traces) stop(ctx context.Context) error {
	if t == nil {
		return nil
	}
	return t.provider.Shutdown(ctx)
}

// otelEvery is how often a collector that is away is spoken of.
const otelEvery = 5 * time.Minute

// sayOTel has the libraries, which speak for the whole process and would write
// to standard error, write to our log: without a credential, and seldom.
func sayOTel(log *slog.Logger) {
	otel.SetLogger(logr.FromSlogHandler(slog.DiscardHandler))
	otel.SetErrorHandler(&seldom{every: otelEvery, say: func(err error, held int) {
		log.Warn("traces are lost, deliveries are not concerned; see OTEL_EXPORTER_OTLP_ENDPOINT", "error", err, "repeated", held)
	}})
}

// seldom passes one error on and holds the next ones back for a while.
type seldom struct {
	every time.Duration
	say   func(err error, held int)

	mu   sync.Mutex
	last time.Time
	held int
}

// Handle is otel.ErrorHandler's.
func (s *seldom) Handle(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if now := time.Now(); s.last.IsZero() || now.Sub(s.last) >= s.every {
		s.say(err, s.held)
		s.last, s.held = now, 0
		return
	}
	s.held++
}

// cleanExporter takes credentials out of spans, which should hold none: the
// last door before they leave.
type cleanExporter struct {
	sdktrace.SpanExporter
	red *secret.Redactor
}

// ExportSpans is sdktrace.SpanExporter's.
func (e cleanExporter) ExportSpans(ctx context.Context, spans []sdktrace.ReadOnlySpan) error {
	clean := make([]sdktrace.ReadOnlySpan, len(spans))
	for i, s := range spans {
		clean[i] = cleanSpan{s, e.red}
	}
	return e.SpanExporter.ExportSpans(ctx, clean)
}

// cleanSpan is a span without what the redactor knows.
type cleanSpan struct {
	sdktrace.ReadOnlySpan
	red *secret.Redactor
}

func (s cleanSpan) Name() string { return s.red.Redact(s.ReadOnlySpan.Name()) }

func (s cleanSpan) Status() sdktrace.Status {
	status := s.ReadOnlySpan.Status()
	status.Description = s.red.Redact(status.Description)
	return status
}

func (s cleanSpan) Attributes() []attribute.KeyValue {
	all := slices.Clone(s.ReadOnlySpan.Attributes())
	for i, a := range all {
		if a.Value.Type() == attribute.STRING {
			all[i].Value = attribute.StringValue(s.red.Redact(a.Value.AsString()))
		}
	}
	return all
}
