package transform

import (
	"strings"
	"testing"

	"github.com/go-json-experiment/json/jsontext"
)

// What is quoted here and not by the library is most of a document.
func TestQuotesAsTheLibraryDoes(t *testing.T) {
	for _, s := range []string{
		"", "plain", `"`, `\`, `{"a":"b\\c\"d"}`, "tab\tand \"quote\"", "\"ü\"", "</script>", "\x7f", "\u2028", "nul\x00", strings.Repeat(`"\`, 100), "broken\xff\"",
	} {
		want, _ := jsontext.AppendQuote([]byte("x"), s)
		if got := appendQuoted([]byte("x"), s); string(got) != string(want) {
			t.Errorf("%q is quoted as %s, not as %s", s, got, want)
		}
	}
}

// A value is a pointer, a length and a kind; what it was made of comes back, and nothing else can be had of it.
func TestValueIsWhatItWasMadeOf(t *testing.T) {
	members := []Member{{"a", String("x")}, {"b", number("1")}}
	for _, tc := range []struct {
		v       Value
		text    string
		members int
	}{
		{Value{}, "", 0}, {String(""), "", 0}, {String("text"), "text", 0}, {number("12"), "12", 0}, {boolean(true), "", 0},
		{Object(), "", 0}, {Object(members...), "", 2}, {Array(), "", 0}, {Array(String("x"), Value{}, Object()), "", 3},
	} {
		if got := tc.v.text(); got != tc.text {
			t.Errorf("%s: text %q", tc.v.JSON(), got)
		}
		if got := len(tc.v.members()); got != tc.members || tc.v.Len() != tc.members {
			t.Errorf("%s: %d members, length %d", tc.v.JSON(), got, tc.v.Len())
		}
	}
}
