package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"serbridge/bridge/secret"
)

func tracesOf(t *testing.T, environ map[string]string, log *slog.Logger, red *secret.Redactor) *traces {
	t.Helper()
	var s struct{ Traces traceSettings }
	found := load(environ, red, &s)
	found.addNew(s.Traces.check()...)
	if err := found.err(red); err != nil {
		t.Fatal(err)
	}
	all, err := newTraces(s.Traces, log, red)
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// Without a word of OTEL_* nothing is traced and nobody is called.
func TestTracesAreOffUntilTheyAreAskedFor(t *testing.T) {
	for name, c := range map[string]struct {
		environ map[string]string
		on      bool
	}{
		"nothing set":      {nil, false},
		"a service name":   {map[string]string{"OTEL_SERVICE_NAME": "x"}, false},
		"an endpoint":      {map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"}, true},
		"one of traces":    {map[string]string{"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://127.0.0.1:1/v1/traces"}, true},
		"the exporter":     {map[string]string{"OTEL_TRACES_EXPORTER": "otlp"}, true},
		"no exporter":      {map[string]string{"OTEL_TRACES_EXPORTER": "none", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"}, false},
		"SDK disabled":     {map[string]string{"OTEL_SDK_DISABLED": "true", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"}, false},
		"SDK not disabled": {map[string]string{"OTEL_SDK_DISABLED": "false", "OTEL_TRACES_EXPORTER": "otlp"}, true},
	} {
		all := tracesOf(t, c.environ, slog.New(slog.DiscardHandler), new(secret.Redactor))
		if on := all.tracer() != nil; on != c.on {
			t.Errorf("%s: on is %v", name, on)
		}
		stopped(t, all)
	}
}

func stopped(t *testing.T, all *traces) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	return all.stop(ctx)
}

// What a collector of another kind would never get must not be found out by looking for it there.
func TestTraceSettingsThatCannotWorkStopTheStart(t *testing.T) {
	for name, value := range map[string]string{
		"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc", "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "http/json", "OTEL_TRACES_EXPORTER": "zipkin",
		"OTEL_EXPORTER_OTLP_ENDPOINT": "collector:4317", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://me:secret-word@collector:4318", "OTEL_SDK_DISABLED": "perhaps",
	} {
		environ := map[string]string{"KAFKA_BROKERS": "b:9092", "KAFKA_TOPICS": "t", "STELLAR_URL": "https://s.example.com",
			"STELLAR_USER": "u", "STELLAR_API_KEY": "key-of-the-api", name: value}
		_, err := loadSettings(environ, new(secret.Redactor))
		if err == nil || !strings.Contains(err.Error(), name) || strings.Contains(err.Error(), "secret-word") {
			t.Errorf("%s=%s: %v", name, value, err)
		}
	}
}

// The collector gets the spans that were still held at the stop, with its credentials, and no others of ours.
func TestTracesReachTheCollectorAtTheStop(t *testing.T) {
	type arrival struct {
		path, key string
		spans     []*tracepb.Span
	}
	arrived := make(chan arrival, 1)
	collector := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		var data tracepb.TracesData
		if err := proto.Unmarshal(body, &data); err != nil {
			t.Error(err)
		}
		arrived <- arrival{r.URL.Path, r.Header.Get("X-Key"), data.ResourceSpans[0].ScopeSpans[0].Spans}
	}))
	defer collector.Close()
	red := new(secret.Redactor)
	red.Add("key-of-the-api")
	all := tracesOf(t, map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": collector.URL, "OTEL_EXPORTER_OTLP_HEADERS": "x-key=key%20of-the-collector"},
		slog.New(slog.DiscardHandler), red)
	_, span := all.tracer().Start(t.Context(), "x key-of-the-api", trace.WithAttributes(attribute.String("url.full", "http://key-of-the-api/")))
	span.SetStatus(codes.Error, "key-of-the-api")
	span.End()
	if err := stopped(t, all); err != nil {
		t.Fatal(err)
	}
	a := <-arrived
	if a.path != "/v1/traces" || a.key != "key of-the-collector" || len(a.spans) != 1 {
		t.Errorf("arrived at %s with key %q: %v", a.path, a.key, a.spans)
	}
	if text := a.spans[0].String(); strings.Contains(text, "key-of-the-api") || !strings.Contains(text, secret.Redacted) {
		t.Errorf("the span is %s", text)
	}
	if got := red.Redact("sent key of-the-collector"); strings.Contains(got, "collector") {
		t.Errorf("the redactor does not know the header: %q", got)
	}
}

// A collector's credential that was rotated must not cost a restart, and the new one is as secret as the old. A file that is
// being replaced costs no spans.
func TestRotatedHeadersOfTheCollectorNeedNoRestart(t *testing.T) {
	keys := make(chan string, 10)
	collector := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { keys <- r.Header.Get("X-Key") }))
	defer collector.Close()
	file := filepath.Join(t.TempDir(), "headers")
	write := func(text string) {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("x-key=first-of-the-collector")
	red := new(secret.Redactor)
	all := tracesOf(t, map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": collector.URL, "OTEL_EXPORTER_OTLP_HEADERS_FILE": file}, slog.New(slog.DiscardHandler), red)
	defer stopped(t, all)
	sends := func(want string) {
		t.Helper()
		_, span := all.tracer().Start(t.Context(), "x")
		span.End()
		if err := all.provider.ForceFlush(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := <-keys; got != want {
			t.Errorf("the collector got %q, want %q", got, want)
		}
	}
	sends("first-of-the-collector")
	write("x-key=second-of-the-collector")
	sends("second-of-the-collector")
	write("")
	sends("second-of-the-collector")
	if got := red.Redact("sent second-of-the-collector"); strings.Contains(got, "second") {
		t.Errorf("the redactor does not know the header: %q", got)
	}
}

// A collector that hangs must hold up neither a delivery, however many spans wait for it, nor a stop beyond its bound.
func TestHangingCollectorHoldsUpNothing(t *testing.T) {
	release := make(chan struct{})
	collector := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-release }))
	defer collector.Close()
	defer close(release)
	all := tracesOf(t, map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": collector.URL}, slog.New(slog.DiscardHandler), new(secret.Redactor))
	v := &service{traces: all, log: slog.New(slog.DiscardHandler)}
	ended := make(chan struct{})
	go func() {
		for range 10_000 { // five times what is kept for it
			_, span := all.tracer().Start(t.Context(), "x")
			span.End()
		}
		v.stopTraces()
		close(ended)
	}()
	select {
	case <-ended:
	case <-time.After(10 * stopTraces):
		t.Error("it waits for the collector")
	}
}

// An outage of the collector is one line, with a count, and not one for each batch; and no credential is in it.
func TestCollectorAwayIsSaidSeldom(t *testing.T) {
	var text bytes.Buffer
	red := new(secret.Redactor)
	red.Add("key-of-the-collector")
	sayOTel(slog.New(red.Handler(slog.NewTextHandler(&text, nil))))
	for range 100 {
		otel.Handle(errors.New("401 for key-of-the-collector"))
	}
	if n := strings.Count(text.String(), "\n"); n != 1 || strings.Contains(text.String(), "key-of-the-collector") {
		t.Errorf("%d lines: %s", n, text.String())
	}
}
