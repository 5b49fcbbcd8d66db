package main

import (
	"cmp"
	"fmt"
	"reflect"
	"slices"
	"strings"
)

// settingsTable renders the table of settings: "markdown" for the README, else text for a terminal.
func settingsTable(format string) string {
	write, heading := textRow, "\n%s\n"
	if format == "markdown" {
		write, heading = markdownRow, "\n### %s\n\n| name | default | |\n|---|---|---|\n"
	}
	var b strings.Builder
	section := ""
	for _, r := range rowsOf(reflect.TypeFor[settings]()) {
		if r.section != section {
			section = r.section
			fmt.Fprintf(&b, heading, sections[section])
		}
		write(&b, r)
	}
	return strings.TrimPrefix(b.String(), "\n")
}

func markdownRow(b *strings.Builder, r row) {
	names := "`" + strings.Join(r.names(), "`, `") + "`"
	preset := r.shownDefault()
	if r.shown == "" && r.preset != "" {
		preset = "`" + preset + "`"
	}
	if r.required {
		preset = "**" + preset + "**"
	}
	text := strings.NewReplacer("|", `\|`, "<", `\<`).Replace(r.text())
	fmt.Fprintf(b, "| %s | %s | %s |\n", names, strings.ReplaceAll(preset, "<", `\<`), text)
}

func textRow(b *strings.Builder, r row) {
	fmt.Fprintf(b, "  %s (%s)\n", strings.Join(r.names(), ", "), r.shownDefault())
	for _, line := range wrap(r.text(), 74) {
		b.WriteString("      " + line + "\n")
	}
}

func (r row) shownDefault() string {
	if r.required {
		return "required"
	}
	return cmp.Or(r.shown, r.preset, "none")
}

// text is the doc, what is allowed where the doc does not say it, and what this build cannot do yet.
func (r row) text() string {
	text := r.doc
	if r.isLater() {
		return text + " Not supported by this build: leave it unset."
	}
	if r.values != nil && !slices.ContainsFunc(r.values, func(v string) bool { return strings.Contains(r.doc, v+":") }) {
		text += " Values: " + strings.Join(r.values, ", ") + "."
	}
	if span := r.span(); span != "" {
		text += " Allowed: " + strings.TrimPrefix(span, "of ") + "."
	}
	if r.later != nil {
		text += " Not supported by this build: " + strings.Join(r.later, ", ") + "."
	}
	return text
}

// wrap breaks text into lines of at most width characters, a longer word excepted.
func wrap(text string, width int) (lines []string) {
	line := ""
	for _, word := range strings.Fields(text) {
		if line != "" && len(line)+1+len(word) > width {
			lines, line = append(lines, line), ""
		}
		line = strings.TrimPrefix(line+" "+word, " ")
	}
	return append(lines, line)
}
