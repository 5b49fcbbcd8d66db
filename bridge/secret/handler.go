package secret

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
)

// Handler returns a slog.Handler that hands h only redacted records: message
// and attributes, those in groups, in errors and in values of any other type
// included. Attributes given by Logger.With are redacted when they are given.
func (r *Redactor) Handler(h slog.Handler) slog.Handler {
	if r == nil {
		return h
	}
	return redacting{Handler: h, r: r}
}

type redacting struct {
	slog.Handler
	r *Redactor
}

func (h redacting) Handle(ctx context.Context, rec slog.Record) error {
	clean := slog.NewRecord(rec.Time, rec.Level, h.r.Redact(rec.Message), rec.PC)
	rec.Attrs(func(a slog.Attr) bool {
		clean.AddAttrs(h.r.attr(a))
		return true
	})
	return h.Handler.Handle(ctx, clean)
}

func (h redacting) WithAttrs(attrs []slog.Attr) slog.Handler {
	return redacting{Handler: h.Handler.WithAttrs(h.r.attrs(attrs)), r: h.r}
}

func (h redacting) WithGroup(name string) slog.Handler {
	return redacting{Handler: h.Handler.WithGroup(name), r: h.r}
}

func (r *Redactor) attrs(attrs []slog.Attr) []slog.Attr {
	clean := make([]slog.Attr, len(attrs))
	for i, a := range attrs {
		clean[i] = r.attr(a)
	}
	return clean
}

func (r *Redactor) attr(a slog.Attr) slog.Attr {
	v := a.Value.Resolve()
	switch v.Kind() {
	case slog.KindString:
		v = slog.StringValue(r.Redact(v.String()))
	case slog.KindGroup:
		v = slog.GroupValue(r.attrs(v.Group())...)
	case slog.KindAny:
		v = r.anyValue(v)
	}
	return slog.Attr{Key: a.Key, Value: v}
}

// anyValue keeps a value as it is unless a handler, which prints it as text
// or as JSON, would show a secret; then its redacted text takes its place.
func (r *Redactor) anyValue(v slog.Value) slog.Value {
	x := v.Any()
	if err, ok := x.(error); ok {
		return slog.StringValue(r.Redact(fmt.Sprint(err))) // Sprint survives an Error that panics
	}
	if b, ok := x.([]byte); ok { // a handler prints it as text, Sprint as numbers
		if clean := r.Redact(string(b)); clean != string(b) {
			return slog.StringValue(clean)
		}
		return v
	}
	text := fmt.Sprintf("%+v", x)
	if clean := r.Redact(text); clean != text {
		return slog.StringValue(clean)
	}
	if j, err := json.Marshal(x); err == nil {
		if clean := r.Redact(string(j)); clean != string(j) {
			return slog.StringValue(clean)
		}
	}
	return v
}
