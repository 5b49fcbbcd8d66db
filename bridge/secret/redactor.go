package secret

import (
	"encoding/base64"
	"encoding/json"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
)

// Redacted stands where a secret stood.
const Redacted = "[redacted]"

const (
	// shortest is the length in bytes under which a value is not redacted:
	// it would match ordinary words everywhere.
	shortest = 4
	// shortestPart is the same for a piece of base64 that may begin and end
	// within a longer one.
	shortestPart = 8
	// addedKept bounds the values of Add, watchedKept those of one Watch: the
	// current one, the previous one, which may still be on its way in an
	// error, and two more for rotations that follow closely.
	addedKept   = 256
	watchedKept = 4
)

// Redactor replaces secrets in texts by value, wherever they come from. The
// zero value knows none; a nil one redacts nothing. It is safe for concurrent
// use, and its memory is bounded by 256 values plus 4 for each Watch.
type Redactor struct {
	mu       sync.Mutex
	added    recent
	watched  []*recent
	replacer atomic.Pointer[strings.Replacer] // of all of them; nil when there is a new one
}

// recent holds the distinct values seen last, the latest at the end.
type recent []string

// Add remembers values that do not change; of more than 256 it forgets the
// oldest. For one that is rotated use Watch, which keeps apart what it sees.
// Values shorter than 4 bytes are ignored.
func (r *Redactor) Add(values ...string) {
	if r == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, v := range values {
		if r.added.see(v, addedKept) {
			r.replacer.Store(nil)
		}
	}
}

// Watch returns a Source that gives what s gives, remembering the last four
// distinct values. Call it once for each credential, not at each use.
func (r *Redactor) Watch(s Source) Source {
	if r == nil || s == nil {
		return s
	}
	seen := new(recent)
	r.mu.Lock()
	r.watched = append(r.watched, seen)
	r.mu.Unlock()
	return func() (string, error) {
		v, err := s()
		r.mu.Lock()
		defer r.mu.Unlock()
		if seen.see(v, watchedKept) {
			r.replacer.Store(nil)
		}
		return v, err
	}
}

// Redact returns s with every remembered value, and its URL-escaped,
// JSON-escaped and base64 forms, replaced by [redacted].
func (r *Redactor) Redact(s string) string {
	if r == nil || s == "" {
		return s
	}
	p := r.replacer.Load()
	if p == nil {
		p = r.build()
	}
	return p.Replace(s)
}

// see reports whether v is new, and makes it the latest.
func (q *recent) see(v string, keep int) bool {
	if len(v) < shortest {
		return false
	}
	if i := slices.Index(*q, v); i >= 0 {
		*q = append(slices.Delete(*q, i, i+1), v)
		return false
	}
	if len(*q) >= keep {
		*q = slices.Delete(*q, 0, 1)
	}
	*q = append(*q, v)
	return true
}

// build makes the replacer of what is known now.
func (r *Redactor) build() *strings.Replacer {
	r.mu.Lock()
	defer r.mu.Unlock()
	var all []string
	for _, v := range r.added {
		all = append(all, forms(v)...)
	}
	for _, q := range r.watched {
		for _, v := range *q {
			all = append(all, forms(v)...)
		}
	}
	// The longest first: of two secrets, one of which begins with the other,
	// the rest of the longer must not be left behind.
	slices.SortFunc(all, func(a, b string) int {
		if len(a) != len(b) {
			return len(b) - len(a)
		}
		return strings.Compare(a, b)
	})
	all = slices.Compact(all)
	pairs := make([]string, 0, 2*len(all))
	for _, f := range all {
		pairs = append(pairs, f, Redacted)
	}
	p := strings.NewReplacer(pairs...)
	r.replacer.Store(p)
	return p
}

// forms are the texts that betray v.
func forms(v string) []string {
	fs := []string{v, url.QueryEscape(v), url.PathEscape(v)}
	if u := url.UserPassword("", v).String(); len(u) > 1 {
		fs = append(fs, u[1:]) // as it is escaped before the @ of a URL
	}
	if j, err := json.Marshal(v); err == nil { // with <, > and & as \u00XX
		fs = append(fs, string(j[1:len(j)-1]))
	}
	plain := strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`, "\r", `\r`, "\t", `\t`)
	fs = append(fs, plain.Replace(v))
	for _, enc := range []*base64.Encoding{base64.StdEncoding, base64.URLEncoding} {
		fs = append(fs, enc.EncodeToString([]byte(v)), enc.WithPadding(base64.NoPadding).EncodeToString([]byte(v)))
		for before := range 3 {
			if p := within(enc, v, before); len(p) >= shortestPart {
				fs = append(fs, p)
			}
		}
	}
	return fs
}

// within returns what is always to be seen of v in the base64 of a longer
// text that has before (mod 3) bytes ahead of it, such as the user: of Basic
// credentials. The characters that v shares with its neighbours are left out.
func within(enc *base64.Encoding, v string, before int) string {
	e := enc.EncodeToString(append(make([]byte, before), v...))
	first := (before*8 + 5) / 6
	last := (before + len(v)) * 8 / 6
	return e[first:last]
}
