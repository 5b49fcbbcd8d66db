package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"testing/iotest"
)

// Records by hand: one of the index's own form, one that came out of the index, one of no format.
const (
	goodRecord    = `{"event_name":"Beacon","event_source":"lab","event_status":"New","timestamp":1767225600000}`
	storedRecord  = `{"event_name":"Beacon","event_source":"lab","write_by":"API"}`
	unknownRecord = `{"netflow":1}`
)

// documentLine is a printed document as far as the tests look into it.
type documentLine struct {
	Name   string `json:"event_name"`
	Custom struct {
		Ours struct {
			Kafka struct {
				Topic  string `json:"topic"`
				Offset int64  `json:"offset"`
			} `json:"kafka"`
		} `json:"serbridge"`
	} `json:"custom_ser_field"`
}

func documents(t *testing.T, stdout string) (all []documentLine) {
	t.Helper()
	for d := json.NewDecoder(strings.NewReader(stdout)); d.More(); {
		var l documentLine
		if err := d.Decode(&l); err != nil {
			t.Fatalf("%v in %q", err, stdout)
		}
		all = append(all, l)
	}
	return all
}

func TestTransformPrintsDocumentsAndRejects(t *testing.T) {
	in := goodRecord + "\r\n\n" + unknownRecord + "\n" + storedRecord + "\n" + goodRecord // without a last line end
	got := runProgram(program{stdin: strings.NewReader(in)}, "transform")
	docs := documents(t, got.stdout)
	if len(docs) != 2 || docs[0].Name != "Beacon" || docs[0].Custom.Ours.Kafka.Offset != 1 || docs[1].Custom.Ours.Kafka.Offset != 5 {
		t.Errorf("got documents %+v of %s", docs, got.stdout)
	}
	for _, want := range []string{"stdin:3: rejected: unknown_format", "4 records: 2 documents, 1 rejected, 1 skipped (already_stored 1)"} {
		if !strings.Contains(got.stderr, want) {
			t.Errorf("standard error lacks %q: %s", want, got.stderr)
		}
	}
	if got.code != exitFailed {
		t.Errorf("exit code %d with a reject, want %d", got.code, exitFailed)
	}
}

func TestTransformWithoutRejectIsDone(t *testing.T) {
	for _, in := range []string{"", "\n \n", goodRecord, goodRecord + "\n", storedRecord + "\n"} {
		if got := runProgram(program{stdin: strings.NewReader(in)}, "transform", "-"); got.code != exitDone {
			t.Errorf("%q: got %+v", in, got)
		}
	}
}

func TestTransformJSONIsOneObjectPerRecord(t *testing.T) {
	in := goodRecord + "\n" + unknownRecord + "\n" + storedRecord + "\n"
	got := runProgram(program{stdin: strings.NewReader(in)}, "transform", "--json")
	var all []outcome
	for d := json.NewDecoder(strings.NewReader(got.stdout)); d.More(); {
		var o outcome
		if err := d.Decode(&o); err != nil {
			t.Fatal(err)
		}
		all = append(all, o)
	}
	if len(all) != 3 || strings.Count(got.stdout, "\n") != 3 {
		t.Fatalf("got %s", got.stdout)
	}
	for i, o := range all {
		if o.File != stdinName || o.Line != int64(i+1) {
			t.Errorf("record %d is said to be of %s:%d", i+1, o.File, o.Line)
		}
	}
	if len(all[0].Documents) != 1 || all[0].Reject != nil || all[0].Skipped != "" {
		t.Errorf("good record: %+v", all[0])
	}
	if all[1].Reject == nil || all[1].Reject.Reason != "unknown_format" || all[1].Documents != nil {
		t.Errorf("unknown record: %+v", all[1])
	}
	if all[2].Skipped != "already_stored" || all[2].Reject != nil {
		t.Errorf("stored record: %+v", all[2])
	}
	if got.code != exitFailed {
		t.Errorf("exit code %d", got.code)
	}
}

func write(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestUnreadableFileHidesNoOther: the files after it are transformed, the exit code still says that not all was done.
func TestUnreadableFileHidesNoOther(t *testing.T) {
	first, last := write(t, "first", goodRecord), write(t, "last", goodRecord)
	missing, directory := filepath.Join(t.TempDir(), "missing\x1b[2J"), t.TempDir()
	got := runProgram(program{}, "transform", first, missing, directory, last)
	docs := documents(t, got.stdout)
	if len(docs) != 2 || docs[0].Custom.Ours.Kafka.Topic != first || docs[1].Custom.Ours.Kafka.Topic != last {
		t.Errorf("got documents %+v", docs)
	}
	if !strings.Contains(got.stderr, "missing") || !strings.Contains(got.stderr, directory) || strings.Contains(got.stderr, "\x1b") {
		t.Errorf("got %q", got.stderr)
	}
	if got.code != exitFailed {
		t.Errorf("exit code %d, want %d", got.code, exitFailed)
	}
}

func TestReadErrorIsNoEnd(t *testing.T) {
	in := io.MultiReader(strings.NewReader(goodRecord+"\n"+goodRecord[:20]), iotest.ErrReader(errors.New("disk on fire")))
	got := runProgram(program{stdin: in}, "transform")
	if got.code != exitFailed || !strings.Contains(got.stderr, "stdin, line 2: disk on fire") || len(documents(t, got.stdout)) != 1 {
		t.Errorf("got %+v", got)
	}
}

func TestWholeFileIsOneRecord(t *testing.T) {
	path := write(t, "pretty.json", "{\n  \"event_name\": \"Beacon\",\n  \"event_source\": \"lab\"\n}\n")
	got := runProgram(program{}, "transform", "--whole-file", path)
	if docs := documents(t, got.stdout); got.code != exitDone || len(docs) != 1 || docs[0].Name != "Beacon" {
		t.Errorf("got %+v", got)
	}
}

// TestLongLineIsARecord: detections with a screenshot in them are longer than a line scanner's 64 KiB.
func TestLongLineIsARecord(t *testing.T) {
	long := `{"event_name":"Beacon","event_source":"lab","note":"` + strings.Repeat("x", 700_000) + `"}`
	got := runProgram(program{stdin: strings.NewReader(long + "\n" + goodRecord + "\n")}, "transform")
	if got.code != exitDone || len(documents(t, got.stdout)) != 2 {
		t.Errorf("code %d, %d bytes of output, %s", got.code, len(got.stdout), got.stderr)
	}
}

// endlessLine is a line of n bytes that nobody has to hold.
func endlessLine(n int64) io.Reader { return io.LimitReader(xs{}, n) }

type xs struct{}

var manyXs = bytes.Repeat([]byte("x"), 64<<10)

func (xs) Read(p []byte) (int, error) { return copy(p, manyXs), nil }

func TestTooLongLineIsRejectedAndReadPast(t *testing.T) {
	for _, args := range [][]string{{"transform"}, {"transform", "--whole-file"}} {
		in := io.MultiReader(endlessLine(maxRecordBytes+1), strings.NewReader("\n"+goodRecord+"\n"))
		got := runProgram(program{stdin: in}, args...)
		if got.code != exitFailed || !strings.Contains(got.stderr, "stdin:1: rejected: record_too_large: longer than 64MiB") {
			t.Errorf("%v: code %d, %s", args, got.code, got.stderr)
		}
		if docs := documents(t, got.stdout); len(args) == 1 && (len(docs) != 1 || docs[0].Custom.Ours.Kafka.Offset != 2) {
			t.Errorf("%v: the record after it is lost: %+v", args, docs)
		}
	}
}

// TestDocumentsComeAsRecordsCome: a person types a record and sees its document, a pipe that stays open holds nothing.
func TestDocumentsComeAsRecordsCome(t *testing.T) {
	inReader, in := io.Pipe()
	out, outWriter := io.Pipe()
	done := make(chan result, 1)
	go func() {
		got := runProgram(program{stdin: inReader, stdout: outWriter}, "transform")
		outWriter.Close()
		done <- got
	}()
	answers := bufio.NewScanner(out)
	for i := range 3 {
		if _, err := io.WriteString(in, goodRecord+"\n"); err != nil {
			t.Fatal(err)
		}
		if !answers.Scan() || len(documents(t, answers.Text())) != 1 {
			t.Fatalf("record %d: got %q", i+1, answers.Text())
		}
	}
	in.Close()
	if got := <-done; got.code != exitDone {
		t.Errorf("got %+v", got)
	}
}

// brokenPipe fails from the first write on.
type brokenPipe struct{}

func (brokenPipe) Write([]byte) (int, error) { return 0, errors.New("broken pipe") }

func TestBrokenOutputEndsTheRun(t *testing.T) {
	for _, args := range [][]string{{"transform", "-", "-"}, {"transform", "--json", "-", "-"}} {
		got := runProgram(program{stdin: io.MultiReader(strings.NewReader(goodRecord+"\n"), endless{}), stdout: brokenPipe{}}, args...)
		if got.code != exitFailed || strings.Count(got.stderr, "write documents to standard output: broken pipe") != 1 {
			t.Errorf("%v: got %+v", args, got)
		}
	}
}

// endless repeats the good record for ever.
type endless struct{}

func (endless) Read(p []byte) (int, error) { return copy(p, goodRecord+"\n"), nil }

// TestTerminalIsNotObedient: what a record holds never reaches a terminal as a command; a file gets it untouched.
func TestTerminalIsNotObedient(t *testing.T) {
	hostile := `{"event_name":"` + "a\u202eb" + `","event_source":"lab"}` + "\n" + `{"` + "\u009b2J" + `":1}` + "\nnot json \x1b[2J\n"
	for _, args := range [][]string{{"transform"}, {"transform", "--json"}} {
		file := runProgram(program{stdin: strings.NewReader(hostile)}, args...)
		if !strings.Contains(file.stdout, "a\u202eb") {
			t.Errorf("%v: a file gets other documents: %q", args, file.stdout)
		}
		terminal := runProgram(program{stdin: strings.NewReader(hostile), stdoutIsTerminal: true}, args...)
		for _, text := range []string{terminal.stdout, terminal.stderr, file.stderr} {
			if strings.ContainsAny(text, "\x1b\u009b\u202e") {
				t.Errorf("%v: %q", args, text)
			}
		}
		var doc struct {
			Name string `json:"event_name"`
		}
		first, _, _ := strings.Cut(terminal.stdout, "\n")
		if args[len(args)-1] != "--json" {
			if err := json.Unmarshal([]byte(first), &doc); err != nil || doc.Name != "a\u202eb" {
				t.Errorf("%v: escaped document reads as %q, %v", args, doc.Name, err)
			}
		}
	}
}

// TestRejectIsEscapedWhateverItsDetail does not rely on the package transform to have escaped what it quotes.
func TestRejectIsEscapedWhateverItsDetail(t *testing.T) {
	var stderr bytes.Buffer
	tr := transformer{program: &program{stderr: &stderr}, out: bufio.NewWriter(io.Discard)}
	part := 2
	if err := tr.print(outcome{File: "f\x1b", Line: 1, PartRejects: []rejection{{Part: &part, Reason: "r", Field: "f\x1b", Detail: "\x1b[2J"}}}); err != nil {
		t.Fatal(err)
	}
	if got, want := stderr.String(), `f\u001b:1: part 2: rejected: r f\u001b: \u001b[2J`+"\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// TestTooLongLineIsNotHeld: a file of one endless line fills no memory.
func TestTooLongLineIsNotHeld(t *testing.T) {
	var before, after runtime.MemStats
	r := bufio.NewReader(endlessLine(64 << 20))
	runtime.ReadMemStats(&before)
	if _, tooLong, err := readLine(r, 1<<10); !tooLong || err != io.EOF {
		t.Errorf("too long %t, %v", tooLong, err)
	}
	runtime.ReadMemStats(&after)
	if got := after.TotalAlloc - before.TotalAlloc; got > 4<<20 {
		t.Errorf("%d bytes allocated for a line of which nothing is kept", got)
	}
}

func TestTransformUsesSettings(t *testing.T) {
	environ := map[string]string{"EVENT_SOURCE": "from-the-environment", "KAFKA_START": "nonsense"}
	got := runProgram(program{environ: environ, stdin: strings.NewReader(`{"event_name":"A","event_status":"New"}`)}, "transform")
	if got.code != exitDone || !strings.Contains(got.stdout, `"event_source":"from-the-environment"`) {
		t.Errorf("got %+v", got)
	}
}

// FuzzReadLine: the lines are those of strings.Split, whatever the reader's buffer; too long is said of exactly those
// that are longer than the limit, and of these nothing is kept.
func FuzzReadLine(f *testing.F) {
	f.Add("a\nbb\r\n\nccc", 2)
	f.Add("000000000000000\r", 78)
	f.Add(strings.Repeat("x", 40)+"\n"+strings.Repeat("y", 15)+"\r\n", 20)
	f.Fuzz(func(t *testing.T, text string, limit int) {
		limit = 1 + int(uint(limit)%64)
		r := bufio.NewReaderSize(strings.NewReader(text), 16)
		for i, want := range strings.Split(text, "\n") {
			want = strings.TrimSuffix(want, "\r")
			line, tooLong, err := readLine(r, limit)
			if tooLong != (len(want) > limit) || tooLong && len(line) > 0 || !tooLong && string(line) != want {
				t.Fatalf("line %d: got %q, too long %t; want %q of at most %d", i, line, tooLong, want, limit)
			}
			if last := i == strings.Count(text, "\n"); (err == io.EOF) != last || err != nil && err != io.EOF {
				t.Fatalf("line %d: got %v, last line %t", i, err, last)
			}
		}
	})
}

// Example_transform shows what became of a record that came out of the index.
func Example_transform() {
	var stderr bytes.Buffer
	run([]string{"transform", "--json"}, &program{
		environ: map[string]string{"RAW_BYTES": "0"},
		stdin:   strings.NewReader(storedRecord + "\n"),
		stdout:  os.Stdout, stderr: &stderr,
	})
	// Output:
	// {"file":"stdin","line":1,"format":"aella_ser","skipped":"already_stored"}
}
