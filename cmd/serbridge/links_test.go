package main

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

const (
	chartReadme = "../../helm/serbridge/README.md"
	chartRules  = "../../helm/serbridge/files/rules/serbridge.yaml"
)

var (
	headingLine = regexp.MustCompile(`(?m)^(#{1,6}) +(.+?) *$`)
	codeBlock   = regexp.MustCompile("(?ms)^```.*?^```$")
	inAnchor    = regexp.MustCompile(`[^\p{L}\p{N} _-]`)
	linkTarget  = regexp.MustCompile(`\]\(([^)\s]+)\)`)
)

func readText(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return codeBlock.ReplaceAllString(string(text), "")
}

// anchorOf is what a heading is linked by, as GitHub makes it.
func anchorOf(heading string) string {
	return strings.ReplaceAll(strings.ToLower(inAnchor.ReplaceAllString(heading, "")), " ", "-")
}

// anchors are those of a document's headings of a depth; 0: of all.
func anchors(text string, depth int) (all []string) {
	for _, h := range headingLine.FindAllStringSubmatch(text, -1) {
		if depth == 0 || len(h[1]) == depth {
			all = append(all, anchorOf(h[2]))
		}
	}
	return all
}

// alertNames are the chart's alerts; the template links each to its name in small letters, which a test of the chart holds.
func alertNames(t *testing.T) (names []string) {
	t.Helper()
	var rules struct {
		Groups []struct {
			Rules []struct{ Alert string }
		}
	}
	if err := yaml.Unmarshal([]byte(readText(t, chartRules)), &rules); err != nil {
		t.Fatal(err)
	}
	for _, g := range rules.Groups {
		for _, r := range g.Rules {
			names = append(names, r.Alert)
		}
	}
	return names
}

// TestAlertsLinkToTheirRunbook: who is woken follows the link of the alert, and must not land on the top of a long page. No
// runbook is left of an alert that is gone.
func TestAlertsLinkToTheirRunbook(t *testing.T) {
	for _, readme := range []string{chartReadme, chartReadme + ".gotmpl"} {
		_, runbooks, found := strings.Cut(readText(t, readme), "\n## Alerts\n")
		if !found {
			t.Fatalf("%s has no section Alerts", readme)
		}
		there, names := anchors(runbooks, 3), alertNames(t)
		if len(names) < 10 {
			t.Fatalf("%d alerts in %s", len(names), chartRules)
		}
		for _, name := range names {
			if !slices.Contains(there, strings.ToLower(name)) {
				t.Errorf("%s has no section %s, to which the alert of that name links", readme, name)
			}
		}
		for _, anchor := range there {
			if !slices.ContainsFunc(names, func(name string) bool { return strings.ToLower(name) == anchor }) {
				t.Errorf("%s has a section %s, and there is no such alert", readme, anchor)
			}
		}
	}
}

// TestReadmeLinksLeadSomewhere: a heading that is renamed takes its links with it.
func TestReadmeLinksLeadSomewhere(t *testing.T) {
	seen := 0
	for _, readme := range []string{"../../README.md", chartReadme} {
		for _, link := range linkTarget.FindAllStringSubmatch(readText(t, readme), -1) {
			path, anchor, _ := strings.Cut(link[1], "#")
			if strings.Contains(path, ":") { // elsewhere
				continue
			}
			seen++
			file := readme
			if path != "" {
				file = filepath.Join(filepath.Dir(readme), path)
			}
			if _, err := os.Stat(file); err != nil {
				t.Errorf("%s links to %s: %v", readme, link[1], err)
			} else if anchor != "" && !slices.Contains(anchors(readText(t, file), 0), anchor) {
				t.Errorf("%s links to %s: no such heading", readme, link[1])
			}
		}
	}
	if seen == 0 {
		t.Error("no link was found in README.md")
	}
}
