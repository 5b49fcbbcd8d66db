package format

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"serbridge/transform"
)

// Every expression of every file compiles, and every file has cases that hold.
func TestMappingsDoWhatTheirCasesSay(t *testing.T) {
	for _, m := range builtIn().mappings {
		t.Run(m.name, func(t *testing.T) {
			if _, err := m.rules(); err != nil {
				t.Fatal(err)
			}
			if len(m.cases()) == 0 || m.title == "" || m.schema == "" {
				t.Error("a mapping has a title, a schema and cases")
			}
			for _, difference := range builtIn().check(m) {
				t.Error(difference)
			}
		})
	}
}

// Samples of third parties never enter the repository. Where they lie beside it, SERBRIDGE_SAMPLES names the directory,
// whose expected.tsv says what becomes of each.
func TestSamples(t *testing.T) {
	dir := os.Getenv("SERBRIDGE_SAMPLES")
	if dir == "" {
		t.Skip("SERBRIDGE_SAMPLES is not set")
	}
	table, err := os.ReadFile(filepath.Join(dir, "expected.tsv"))
	if err != nil {
		t.Fatal(err)
	}
	matched, rows := 0, strings.Split(strings.TrimSpace(string(table)), "\n")[1:]
	for _, row := range rows {
		columns := append(strings.Split(row, "\t"), "", "", "")
		ok := t.Run(columns[0], func(t *testing.T) { checkSample(t, filepath.Join(dir, columns[0]), columns[1], columns[2]) })
		if ok {
			matched++
		}
	}
	t.Logf("%d of %d rows match", matched, len(rows))
}

func checkSample(t *testing.T, file, kind, ms string) {
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC) // some samples lie in 2026
	result := Transform(transform.Input{Value: content, Topic: "t", Timestamp: now, Now: now})
	switch {
	case kind == "skip":
		if result.Skip == "" {
			t.Errorf("want a skip, got %s", describe(result))
		}
		return
	case kind == "invalid":
		if result.Reject == nil {
			t.Errorf("want a reject, got %s", describe(result))
		}
		return
	case len(result.Parts) != 1 || result.Parts[0].Document == nil:
		t.Fatalf("want a document, got %s", describe(result))
	}
	encoded, err := result.Parts[0].Document.Bare().Encode()
	if err != nil {
		t.Fatal(err)
	}
	tree, _ := transform.Read(&transform.Input{Value: encoded})
	if ms == "" {
		ms = strconv.FormatInt(now.UnixMilli(), 10)
	}
	if got, _ := tree.Root.Get("timestamp").Text(); got != ms {
		t.Errorf("timestamp: want %s, got %s", ms, got)
	}
}
