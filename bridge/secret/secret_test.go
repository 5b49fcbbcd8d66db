package secret

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// key has characters that every escaping treats differently.
const key = `2iRp/BAy+QY&Efv"7<7 R2\Qt`

func TestFileIsReadAtEachUse(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key")
	source := File(path)
	for _, v := range []struct{ content, want string }{
		{"first\n", "first"},
		{"second\r\n", "second"},
		{" third ", " third "},
		{"two\nlines\n\n", "two\nlines"},
	} {
		if err := os.WriteFile(path, []byte(v.content), 0o600); err != nil {
			t.Fatal(err)
		}
		if got, err := source(); got != v.want || err != nil {
			t.Errorf("content %q: got %q, %v; want %q", v.content, got, err, v.want)
		}
	}
}

func TestFileErrorNamesTheFileAndNothingOfIt(t *testing.T) {
	dir := t.TempDir()
	empty, large := filepath.Join(dir, "empty"), filepath.Join(dir, "large")
	if err := errors.Join(
		os.WriteFile(empty, []byte("\n"), 0o600),
		os.WriteFile(large, bytes.Repeat([]byte("hunter22"), maxFile), 0o600),
	); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{empty, large, filepath.Join(dir, "missing")} {
		v, err := File(path)()
		if v != "" || err == nil || !strings.Contains(err.Error(), path) || strings.Contains(err.Error(), "hunter22") {
			t.Errorf("%s: got %q, %v; want an error that names the file alone", path, v, err)
		}
	}
}

func TestRedactLeavesNoFormOfASecret(t *testing.T) {
	var r Redactor
	r.Add(key)
	quoted, _ := json.Marshal(key)
	var raw bytes.Buffer
	enc := json.NewEncoder(&raw)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(key); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"plain":             "key is " + key + ".",
		"twice":             key + key,
		"query":             "?key=" + url.QueryEscape(key),
		"path":              "/keys/" + url.PathEscape(key) + "/x",
		"user information":  (&url.URL{Scheme: "https", User: url.UserPassword("me", key), Host: "h"}).String(),
		"JSON":              string(quoted),
		"JSON without HTML": raw.String(),
		"base64":            base64.StdEncoding.EncodeToString([]byte(key)),
		"base64 of URLs":    base64.RawURLEncoding.EncodeToString([]byte(key)),
		"quoted by Go":      fmt.Sprintf("%q", key),
	} {
		got := r.Redact(text)
		if !strings.Contains(got, Redacted) || strings.Contains(got, "2iRp") || strings.Contains(got, "MmlScC") {
			t.Errorf("%s: %q became %q", name, text, got)
		}
	}
	if got := r.Redact("nothing to hide"); got != "nothing to hide" {
		t.Errorf("an innocent text became %q", got)
	}
}

// Basic credentials hold the key behind a user of any length.
func TestRedactFindsTheKeyWithinBasicCredentials(t *testing.T) {
	var r Redactor
	r.Add(key)
	for n := range 12 {
		user := strings.Repeat("u", n) + ":"
		for _, after := range []string{"", "x", "xy"} {
			text := base64.StdEncoding.EncodeToString([]byte(user + key + after))
			got := r.Redact("Authorization: Basic " + text)
			hidden := len(text) - len(strings.TrimPrefix(strings.ReplaceAll(got, Redacted, ""), "Authorization: Basic "))
			if hidden < len(key)*8/6-2 {
				t.Errorf("user of %d bytes, %q after: got %q", n, after, got)
			}
		}
	}
}

func TestLongerSecretIsRedactedWhole(t *testing.T) {
	var r Redactor
	r.Add("pass", "password-2")
	if got := r.Redact("password-2, pass"); got != Redacted+", "+Redacted {
		t.Errorf("got %q", got)
	}
}

func TestShortValuesAreNotRedacted(t *testing.T) {
	var r Redactor
	r.Add("", "abc")
	if got := r.Redact("abc"); got != "abc" {
		t.Errorf("got %q", got)
	}
}

func TestRotationNeitherForgetsTheOthersNorGrows(t *testing.T) {
	var r Redactor
	r.Add("never-changes")
	value := ""
	token := r.Watch(func() (string, error) { return value, nil })
	for i := range 1000 {
		value = fmt.Sprintf("token-%04d", i)
		if got, _ := token(); got != value {
			t.Fatalf("the source gave %q", got)
		}
	}
	got := r.Redact("never-changes token-0999 token-0998 token-0996 token-0500")
	if want := strings.Repeat(Redacted+" ", 4) + "token-0500"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	for i := range 1000 {
		r.Add(fmt.Sprintf("added-%04d", i))
	}
	if len(r.added) != addedKept || len(*r.watched[0]) != watchedKept {
		t.Errorf("%d added and %d watched values are kept", len(r.added), len(*r.watched[0]))
	}
}

func TestNilRedactorRedactsNothing(t *testing.T) {
	var r *Redactor
	r.Add(key)
	if got := r.Redact(key); got != key {
		t.Errorf("got %q", got)
	}
	if got, err := r.Watch(Literal(key))(); got != key || err != nil {
		t.Errorf("got %q, %v", got, err)
	}
	if h := slog.DiscardHandler; r.Handler(h) != h {
		t.Error("the handler is not handed through")
	}
}

type account struct {
	Name string
	Key  *string
}

type lazy struct{ v string }

func (l lazy) LogValue() slog.Value { return slog.StringValue(l.v) }

func TestLogsHoldNoSecret(t *testing.T) {
	const k = "2iRpBAyQYEfv77R2"
	var r Redactor
	r.Add(k)
	hidden := k
	handlers := map[string]func(*bytes.Buffer) slog.Handler{
		"text": func(b *bytes.Buffer) slog.Handler { return slog.NewTextHandler(b, nil) },
		"json": func(b *bytes.Buffer) slog.Handler { return slog.NewJSONHandler(b, nil) },
	}
	for name, handler := range handlers {
		var b bytes.Buffer
		log := slog.New(r.Handler(handler(&b)))
		log.With("with", k).WithGroup("g").With("in", k).Info("message "+k,
			"string", "x"+k, "error", fmt.Errorf("call: %w", errors.New(k)), "bytes", []byte(k),
			slog.Group("group", "deep", k), "struct", account{Key: &hidden}, "slice", []string{k},
			"lazy", lazy{k}, "base64", base64.StdEncoding.EncodeToString([]byte(k)))
		log.Info("kept", "n", 42, "names", []string{"a", "b"}, "account", account{Name: "me"})
		if out := b.String(); strings.Contains(out, k) || strings.Contains(out, base64.StdEncoding.EncodeToString([]byte(k))) {
			t.Errorf("%s: %s", name, out)
		} else if !strings.Contains(out, "42") || !strings.Contains(out, "a") {
			t.Errorf("%s: innocent values were lost: %s", name, out)
		}
	}
}

func TestRedactorIsSafeForConcurrentUse(t *testing.T) {
	var r Redactor
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			source := r.Watch(Literal(fmt.Sprintf("secret-%d", i)))
			for range 50 {
				_, _ = source()
				r.Add(fmt.Sprintf("added-%d", i))
				if got := r.Redact(fmt.Sprintf("secret-%d", i)); got != Redacted {
					t.Errorf("got %q", got)
				}
			}
		})
	}
	wg.Wait()
}

// FuzzRedact: whatever the secret and the text around it, neither the secret
// nor its base64 is left, unless the replacement itself spells it.
func FuzzRedact(f *testing.F) {
	f.Add("hunter22", "password=", "&x")
	f.Add(key, "\xff", "")
	f.Add("\x00\x01\x02\x03", "a", "b")
	f.Fuzz(func(t *testing.T, value, before, after string) {
		if len(value) < shortest || strings.Contains(before+Redacted+after, value) || strings.Contains(Redacted, value) {
			return
		}
		var r Redactor
		r.Add(value)
		if got := r.Redact(before + "\n" + value + "\n" + after); strings.Contains(got, value) && !overlaps(before+"\n", value, "\n"+after) {
			t.Errorf("%q is left in %q", value, got)
		}
	})
}

// overlaps reports whether the replacement and its surroundings spell value.
func overlaps(before, value, after string) bool {
	return strings.Contains(before+Redacted+after, value) || strings.Contains(strings.ReplaceAll(before+value+after, value, Redacted), value)
}
