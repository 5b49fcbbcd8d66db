package main

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf16"
)

// escape replaces what a terminal could take for a command, or show as something else than it is, by \uXXXX: control
// characters, direction marks, characters without width. What a record holds is hostile, and so are file names. Inside
// a JSON text, whose strings alone can hold such characters, the result is the same JSON.
func escape(s string) string { return escapeExcept(s, "") }

// escapeLines is escape for a text of several lines of ours.
func escapeLines(s string) string { return escapeExcept(s, "\n") }

func escapeExcept(s, kept string) string {
	plain := func(r rune) bool { return unicode.IsPrint(r) || strings.ContainsRune(kept, r) }
	if strings.IndexFunc(s, func(r rune) bool { return !plain(r) }) < 0 {
		return s
	}
	var b strings.Builder
	for _, r := range s {
		switch {
		case plain(r):
			b.WriteRune(r)
		case r > 0xffff:
			high, low := utf16.EncodeRune(r)
			fmt.Fprintf(&b, `\u%04x\u%04x`, high, low)
		default:
			fmt.Fprintf(&b, `\u%04x`, r)
		}
	}
	return b.String()
}
