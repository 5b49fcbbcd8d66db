package format

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/go-json-experiment/json/jsontext"

	"serbridge/transform"
)

// eachCase runs a test with every case of every mapping.
func eachCase(t *testing.T, run func(t *testing.T, m *mapping, c mappingCase)) {
	for _, m := range builtIn().mappings {
		for _, c := range m.cases() {
			t.Run(m.name+"/"+c.name, func(t *testing.T) { run(t, m, c) })
		}
	}
}

// checkResult holds what is true of every result: one of skip, reject and parts; every document valid by the vendor's
// table, of unique names, the same at each encoding and for the same input.
func checkResult(t *testing.T, in transform.Input) transform.Result {
	t.Helper()
	settings := in.Settings
	if settings == nil {
		settings = new(transform.Settings)
	}
	strict := *settings
	strict.MaxDocumentBytes = 1 << 20
	result, again := Transform(in), Transform(in)
	if n := count(result.Skip != "", result.Reject != nil, result.Parts != nil); n != 1 {
		t.Fatalf("%d of skip, reject, parts: %+v", n, result)
	}
	for i, p := range result.Parts {
		if n := count(p.Skip != "", p.Reject != nil, p.Document != nil); n != 1 {
			t.Fatalf("%d of skip, reject, document: %+v", n, p)
		}
		if p.Document != nil {
			checkDocument(t, p.Document, again.Parts[i].Document, &strict)
			if p.Document.DedupKey() != again.Parts[i].Document.DedupKey() {
				t.Fatal("another dedup_key for the same input")
			}
		}
	}
	return result
}

// oddValues stand where a source never puts them.
var oddValues = []transform.Value{
	{}, transform.String(""), transform.String("N/A"), transform.String("whatever"), transform.String(strings.Repeat("ü\u0000", 5000)),
	transform.Number("-1"), transform.Number("1e400"), transform.Number("377077835340488700"), transform.Bool(true),
	transform.Array(), transform.Array(transform.Value{}, transform.Array(), transform.String("x")), transform.Object(),
	transform.Object(transform.Member{Name: "name", Value: transform.Object(transform.Member{Name: "a.b", Value: transform.Number("1")})}),
}

// One value of another type or meaning never costs the detection: the record is mapped, or is none of the format any
// more. So is a severity or status that nobody has heard of.
func TestAnOddValueNeverCostsTheDetection(t *testing.T) {
	eachCase(t, func(t *testing.T, m *mapping, c mappingCase) {
		in := caseInput(m, c)
		tree, reject := transform.Read(&in)
		if reject != nil {
			t.Skip("a text")
		}
		for _, odd := range oddValues {
			for _, changed := range replaced(tree.Root, odd) {
				in.Value = []byte(changed.JSON())
				result := checkResult(t, in)
				rejects := []*transform.Reject{result.Reject}
				for _, p := range result.Parts {
					rejects = append(rejects, p.Reject)
				}
				for _, r := range rejects {
					if r != nil && r.Reason != transform.UnknownFormat {
						t.Fatalf("%s %s of %s", r.Reason, r.Detail, in.Value)
					}
				}
			}
		}
	})
}

// replaced returns v once for every value in it, with that value replaced.
func replaced(v, by transform.Value) (all []transform.Value) {
	all = append(all, by)
	switch {
	case v.IsObject():
		for i, m := range v.Members() {
			for _, r := range replaced(m.Value, by) {
				members := slices.Clone(v.Members())
				members[i].Value = r
				all = append(all, transform.Object(members...))
			}
		}
	case v.IsArray():
		for i := range v.Len() {
			for _, r := range replaced(v.Index(i), by) {
				elements := make([]transform.Value, v.Len())
				for j := range elements {
					elements[j] = v.Index(j)
				}
				elements[i] = r
				all = append(all, transform.Array(elements...))
			}
		}
	}
	return all
}

// Sources, and everything between them and us, write members in any order.
func TestOrderOfKeysChangesNothing(t *testing.T) {
	eachCase(t, func(t *testing.T, m *mapping, c mappingCase) {
		in := caseInput(m, c)
		tree, reject := transform.Read(&in)
		if reject != nil {
			t.Skip("a text")
		}
		want := withoutRaw(t, Transform(in))
		in.Value = []byte(reversed(tree.Root).JSON())
		if got := withoutRaw(t, Transform(in)); !slices.Equal(got, want) {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	})
}

func reversed(v transform.Value) transform.Value {
	switch {
	case v.IsObject():
		members := make([]transform.Member, 0, v.Len())
		for _, m := range slices.Backward(v.Members()) {
			members = append(members, transform.Member{Name: m.Name, Value: reversed(m.Value)})
		}
		return transform.Object(members...)
	case v.IsArray():
		elements := make([]transform.Value, v.Len())
		for i := range elements {
			elements[i] = reversed(v.Index(i))
		}
		return transform.Array(elements...)
	}
	return v
}

// withoutRaw returns what became of each part of a record, each as text and without the native record.
func withoutRaw(t *testing.T, result transform.Result) (all []string) {
	t.Helper()
	if result.Reject != nil {
		return []string{"reject " + string(result.Reject.Reason)} // its detail quotes the record
	}
	if result.Parts == nil {
		return []string{describe(result)}
	}
	for _, p := range result.Parts {
		if p.Document == nil {
			all = append(all, describe(transform.Result{Skip: p.Skip, Reject: p.Reject}))
			continue
		}
		encoded, err := p.Document.Encode()
		if err != nil {
			t.Fatal(err)
		}
		tree, reject := transform.Read(&transform.Input{Value: encoded})
		if reject != nil {
			t.Fatal(reject.Detail)
		}
		custom := tree.Root.Get("custom_ser_field").Get("serbridge").Without("raw_json")
		vendors := tree.Root.Without("custom_ser_field")
		all = append(all, vendors.JSON()+" "+custom.JSON())
	}
	return all
}

// A more severe native value never gives a less severe document.
func TestSeveritiesAreMonotone(t *testing.T) {
	for _, m := range builtIn().mappings {
		r, err := m.rules()
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range r.severity {
			var words, bands []string
			for _, w := range s.words {
				words = append(words, w.means.JSON())
			}
			for _, b := range s.bands {
				bands = append(bands, b.means.JSON())
			}
			if !isMonotone(words) || !isMonotone(bands) {
				t.Errorf("%s: words %v, bands %v", m.name, s.words, s.bands)
			}
		}
	}
}

// isMonotone reports whether the values rise throughout or fall throughout; unknown ones, which are empty, left out.
func isMonotone(values []string) bool {
	rises, falls := true, true
	last := -1
	for _, v := range values {
		var n int
		if _, err := fmt.Sscan(v, &n); err != nil {
			continue
		}
		if last >= 0 {
			rises, falls = rises && n >= last, falls && n <= last
		}
		last = n
	}
	return rises || falls
}

func TestZeekNoticeMapsAlikeInBothForms(t *testing.T) {
	const inJSON = `{"_path":"notice","_write_ts":"2026-03-04T05:06:08Z","ts":"2026-03-04T05:06:07.890123Z","uid":"CLab7","id.orig_h":"10.0.0.7","id.orig_p":39611,
	 "id.resp_h":"10.0.0.8","id.resp_p":443,"proto":"tcp","note":"LabTLS::Odd","msg":"LAB \\, odd certificate","sub":"CN=lab\\, Inc","src":"10.0.0.7","dst":"10.0.0.8","p":443,
	 "actions":["Notice::ACTION_LOG","Notice::ACTION_ALARM"],"email_dest":[],"suppress_for":3600}`
	const inColumns = "#separator \\x09\n#set_separator\t,\n#empty_field\t(empty)\n#unset_field\t-\n#path\tnotice\n" +
		"#fields\tts\tuid\tid.orig_h\tid.orig_p\tid.resp_h\tid.resp_p\tfuid\tproto\tnote\tmsg\tsub\tsrc\tdst\tp\tactions\temail_dest\tsuppress_for\n" +
		"#types\ttime\tstring\taddr\tport\taddr\tport\tstring\tenum\tenum\tstring\tstring\taddr\taddr\tport\tset[enum]\tset[string]\tinterval\n" +
		"1772600767.890123\tCLab7\t10.0.0.7\t39611\t10.0.0.8\t443\t-\ttcp\tLabTLS::Odd\tLAB \\\\, odd certificate\tCN=lab\\\\, Inc\t10.0.0.7\t10.0.0.8\t443\tNotice::ACTION_LOG,Notice::ACTION_ALARM\t(empty)\t3600.000000\n"
	a, b := withoutRaw(t, Transform(input(inJSON, nil))), withoutRaw(t, Transform(input(inColumns, nil)))
	if len(a) != 1 || !slices.Equal(a, b) {
		t.Errorf("JSON    %s\ncolumns %s", a, b)
	}
}

var update = flag.Bool("update", false, "write the golden file anew")

// The golden file holds the document of every case, with its dedup_key and the hash of its mapping. Stored documents are
// found by these keys, and dashboards are built on these values: whoever changes them does so on purpose, with -update.
func TestGoldenDocuments(t *testing.T) {
	var got bytes.Buffer
	for _, m := range builtIn().mappings {
		for _, c := range m.cases() {
			for i, line := range withoutRaw(t, Transform(caseInput(m, c))) {
				fmt.Fprintf(&got, "%s | %s | %d | %s\n", m.hashed, c.name, i, line)
			}
		}
	}
	file := filepath.Join("testdata", "golden.txt")
	if *update {
		if err := os.WriteFile(file, got.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	gotLines, wantLines := strings.Split(got.String(), "\n"), strings.Split(string(want), "\n")
	for i := range max(len(gotLines), len(wantLines)) {
		var g, w string
		if i < len(gotLines) {
			g = gotLines[i]
		}
		if i < len(wantLines) {
			w = wantLines[i]
		}
		if g != w {
			t.Fatalf("testdata/golden.txt:%d:\ngot  %s\nwant %s", i+1, g, w)
		}
	}
}

// FuzzFormats: whatever the bytes, no panic, and every document is valid.
func FuzzFormats(f *testing.F) {
	for _, m := range builtIn().mappings {
		for _, c := range m.cases() {
			f.Add([]byte(c.input))
		}
	}
	for _, seed := range []string{`{"message":"{\"message\":\"CEF:0|\"}"}`, "[[[[[]]]]]", `{"detail-type":1,"detail":{"records":[{},{}]}}`, "<1>Jan  1 00:00:00 h {", "{}\n{}\n{", `{"Type":"Notification","MessageId":"1","Message":"[1]"}`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, value []byte) {
		in := input(string(value), &transform.Settings{Formats: []string{auto, "trivy"}, OnUnknown: genericName, MaxFanout: 50, RawBytes: 300})
		checkResult(t, in)
	})
}

func fuzzText(f *testing.F, seeds []string, parse func(s string) (transform.Value, *transform.Reject)) {
	for _, s := range seeds {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		v, reject := parse(s)
		if reject == nil && !jsontext.Value(v.JSON()).IsValid() {
			t.Fatalf("no strict JSON: %s", v.JSON())
		}
	})
}

func FuzzCEF(f *testing.F) {
	fuzzText(f, []string{`CEF:0|a|b|c|d|e|5|src=1 dst=2 msg=a\=b cs1Label=x cs1=y`, `CEF:0|a\|b|\\|||||=`, "CEF:"}, parseCEF)
}

func FuzzLEEF(f *testing.F) {
	fuzzText(f, []string{"LEEF:1.0|a|b|c|d|k=v\tl=w", "LEEF:2.0|a|b|c|d|x5E|k=v^l=w", "LEEF:2.0|a|b|c|d||", "LEEF:1.0|||||\x92=\t\xc8=00"}, parseLEEF)
}

func FuzzSyslog(f *testing.F) {
	fuzzText(f, []string{"<134>1 2026-03-04T05:06:07Z h a - - {\"a\":1}", "Mar  4 05:06:07 h CEF:0|"}, func(s string) (transform.Value, *transform.Reject) {
		l := textLine(s, nil)
		return l.record, l.reject
	})
}

func FuzzZeekLog(f *testing.F) {
	fuzzText(f, []string{"#separator \\x09\n#path\tnotice\n#fields\ta\tb\n#types\ttime\tset[enum]\n1.5\tx,y\n", "#separator \\x2c\n#fields,a\n-\n", "#fields\t\xd7\t\x86\n\t0"}, func(s string) (transform.Value, *transform.Reject) {
		rows, _ := zeekLog(s)
		var all []transform.Value
		for _, r := range rows {
			all = append(all, r.record)
		}
		return transform.Array(all...), nil
	})
}

func FuzzJavaTime(f *testing.F) {
	f.Add("Mar 04 2026 07:06:07.890 CEST", "MMM dd yyyy HH:mm:ss.SSS z")
	f.Add("2026", "''yyyy'")
	f.Fuzz(func(t *testing.T, s, pattern string) {
		timed(false, transform.String(s), transform.String(pattern))
		zoned(false, transform.String(s), transform.String(pattern))
		epoch(false, transform.String(s), transform.String("ns"))
	})
}

// One catalogue serves all workers, and memory goes from record to record: none may see another's, nor a document that is
// sent again when others have long been made.
func TestFormatsAreSafeForConcurrentUse(t *testing.T) {
	type one struct {
		in   transform.Input
		want []string
	}
	var all []one
	for _, m := range builtIn().mappings {
		for _, c := range m.cases() {
			in := caseInput(m, c)
			all = append(all, one{in, withoutRaw(t, Transform(in))})
		}
	}
	var group sync.WaitGroup
	for w := range 4 {
		group.Go(func() {
			var made []transform.Result
			for i := range 4 * len(all) {
				made = append(made, Transform(all[(i*(w+1)+w)%len(all)].in))
				if i -= 8 * w; i < 0 {
					continue
				}
				if got, want := withoutRaw(t, made[i]), all[(i*(w+1)+w)%len(all)].want; !slices.Equal(got, want) {
					t.Errorf("got %s, want %s", got, want)
					return
				}
			}
		})
	}
	group.Wait()
}

// The README's table of formats is what people choose by.
func TestReadmeListsEveryFormat(t *testing.T) {
	readme, err := os.ReadFile(filepath.Join("..", "..", "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range Names() {
		if !strings.Contains(string(readme), "`"+name+"`") {
			t.Errorf("%s is not in the README", name)
		}
	}
}
