package main

import (
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// The arrows of the house: a package may import those of its row, and nothing
// else of ours. Programs may import all.
var arrows = map[string][]string{
	"transform":                  {},
	"transform/codec":            {"transform"},
	"transform/format":           {"transform", "transform/codec"},
	"bridge/secret":              {},
	"bridge/turns":               {},
	"bridge/pause":               {},
	"bridge/frontier":            {"bridge/turns"},
	"bridge/admin":               {"bridge/pause", "bridge/secret"},
	"bridge/kafka":               {"bridge/secret"},
	"bridge/deadletter":          {"bridge/kafka", "bridge/secret"},
	"bridge/byhand":              {"bridge/deadletter", "bridge/frontier"},
	"bridge/registry":            {"bridge/secret", "transform", "transform/codec"},
	"bridge/receipt":             {"bridge", "bridge/deadletter", "bridge/kafka", "bridge/pause"},
	"bridge/stellar":             {"bridge/secret"},
	"bridge/stellar/stellartest": {},
	"bridge": {"bridge/admin", "bridge/deadletter", "bridge/frontier", "bridge/kafka", "bridge/pause", "bridge/stellar", "bridge/turns",
		"transform", "transform/codec", "transform/format"},
	"bridge/audit":    {"bridge/backfill", "bridge/deadletter", "bridge/pause", "bridge/receipt", "bridge/stellar", "transform", "transform/format"},
	"bridge/backfill": {"bridge", "bridge/deadletter", "bridge/frontier", "bridge/pause", "bridge/receipt", "transform"},
}

func TestImportsPointOneWay(t *testing.T) {
	out, err := exec.Command("go", "list", "-f", `{{.ImportPath}}{{range .Imports}} {{.}}{{end}}`, "serbridge/...").Output()
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(out)) {
		names := strings.Fields(line)
		name := strings.TrimPrefix(names[0], "serbridge/")
		if strings.HasPrefix(name, "cmd/") || strings.HasPrefix(name, "bridge/chaos") { // programs
			continue
		}
		allowed, known := arrows[name]
		if !known {
			t.Errorf("package %s has no row here: say what it may import", name)
			continue
		}
		for _, imported := range names[1:] {
			ours, is := strings.CutPrefix(imported, "serbridge/")
			if is && !slices.Contains(allowed, ours) {
				t.Errorf("%s imports %s, which is against the arrows", name, ours)
			}
		}
	}
}
