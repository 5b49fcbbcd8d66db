package transform

import (
	"strings"
	"testing"
	"unicode/utf8"
)

func readText(t *testing.T, text string) (Tree, *Reject) {
	t.Helper()
	return Read(&Input{Value: []byte(text)})
}

func asJSON(v Value) string { return string(v.appendTo(nil)) }

func TestRepairsKeepWhatEveryOtherReaderReads(t *testing.T) {
	for _, tc := range []struct {
		name, in, want string
		repairs        []Repair
	}{
		{"as it is", `{"a":[1,"x",true,null,{}]}`, `{"a":[1,"x",true,null,{}]}`, nil},
		{"blanks around", " \r\n\t{} \n", `{}`, nil},
		{"byte-order mark", "\uFEFF {}", `{}`, []Repair{RepairedBOM}},
		{"byte-order mark after a blank", " \uFEFF{}", `{}`, []Repair{RepairedBOM}},
		{"last of a repeated key stands, nothing is merged", `{"a":{"b":1},"z":0,"a":{"c":2}}`, `{"a":{"c":2},"z":0}`, []Repair{RepairedDuplicateKey}},
		{"repeated key of another type", `{"a":{"b":1},"a":7}`, `{"a":7}`, []Repair{RepairedDuplicateKey}},
		{"repeated key in depth", `[{"a":1,"a":2,"a":3}]`, `[{"a":3}]`, []Repair{RepairedDuplicateKey}},
		{"repeated key under two spellings", `{"a":1,"\u0061":2}`, `{"a":2}`, []Repair{RepairedDuplicateKey}},
		{"keys of other case differ", `{"Id":1,"id":2}`, `{"Id":1,"id":2}`, nil},
		{"invalid bytes", "{\"a\":\"x\xff\xfey\"}", `{"a":"x` + "\uFFFD\uFFFD" + `y"}`, []Repair{RepairedUTF8}},
		{"invalid bytes in a name", "{\"a\xff\":1}", `{"a` + "\uFFFD" + `":1}`, []Repair{RepairedUTF8}},
		{"lone surrogate", `{"a":"x\ud800y"}`, `{"a":"x` + "\uFFFD" + `y"}`, []Repair{RepairedUTF8}},
		{"surrogate pair", `{"a":"\ud83d\ude00"}`, `{"a":"😀"}`, nil},
		{"escapes", `{"a":"\"\\\/\n\u00e9"}`, `{"a":"\"\\/\né"}`, nil},
		{"NaN and its kin", `{"a":NaN,"b":[-Infinity, Infinity ,+Infinity,-NaN]}`, `{"a":null,"b":[null,null,null,null]}`, []Repair{RepairedNaN}},
		{"NaN in a string stays", `{"a":"NaN, \"NaN\" Infinity","b":NaN}`, `{"a":"NaN, \"NaN\" Infinity","b":null}`, []Repair{RepairedNaN}},
		{"all at once", "\uFEFF{\"a\":NaN,\"a\":\"\xff\"}", `{"a":"` + "\uFFFD" + `"}`, []Repair{RepairedDuplicateKey, RepairedUTF8, RepairedNaN, RepairedBOM}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			tree, reject := readText(t, tc.in)
			if reject != nil {
				t.Fatalf("rejected: %s", reject.Detail)
			}
			if got := asJSON(tree.Root); got != tc.want {
				t.Errorf("got %s, want %s", got, tc.want)
			}
			if got, want := joined(tree.Repairs), joined(tc.repairs); got != want {
				t.Errorf("repairs %q, want %q", got, want)
			}
		})
	}
}

func joined(repairs []Repair) string {
	var names []string
	for _, r := range repairs {
		names = append(names, string(r))
	}
	return strings.Join(names, " ")
}

func TestNumbersKeepEveryDigit(t *testing.T) {
	const text = `[9007199254740993,377077835340488700,1715108059341081180,12345678901234567890123456789,1652272159.1549653,1e400,-0,0.10]`
	tree, reject := readText(t, text)
	if reject != nil {
		t.Fatal(reject.Detail)
	}
	if got := asJSON(tree.Root); got != text {
		t.Errorf("got  %s\nwant %s", got, text)
	}
}

func TestRepeatedKeysOfALargeObject(t *testing.T) {
	var in strings.Builder
	in.WriteString(`{"k0":-1`)
	for i := range 3 * fewMembers {
		in.WriteString(`,"k` + strings.Repeat("i", i%(fewMembers+10)) + `":` + strings.Repeat("1", i+1))
	}
	in.WriteString("}")
	tree, reject := readText(t, in.String())
	if reject != nil {
		t.Fatal(reject.Detail)
	}
	if n := len(tree.Root.Members()); n != fewMembers+11 {
		t.Errorf("%d members, want %d", n, fewMembers+11)
	}
	if hasRepeat(tree.Root.Members()) {
		t.Error("a name stands twice")
	}
	last := 3*fewMembers - 1
	name := "k" + strings.Repeat("i", last%(fewMembers+10))
	if got, _ := tree.Root.Get(name).Text(); got != strings.Repeat("1", last+1) {
		t.Errorf("the last value of %s does not stand: %s", name, got)
	}
}

func TestInvalidJSONSaysWhere(t *testing.T) {
	for _, tc := range []struct{ name, in, detail string }{
		{"empty", "", "empty or blank"},
		{"blank", " \t\r\n", "empty or blank"},
		{"only a mark", "\uFEFF", "empty or blank"},
		{"cut off", `{"a":"b"`, "ends early at byte 8"},
		{"cut off in a string", `{"a":"b`, "ends early at byte 7"},
		{"trailing data", `{"a":1} {"b":2}`, `at byte 8: data after the end of the JSON value: "{\"b\":2}"`},
		{"trailing data behind a mark", "\uFEFF{}x", "at byte 5: data after"},
		{"trailing word", `{} NaN`, "at byte 3: data after"},
		{"position behind a NaN", `{"a":NaN,"b":NaN,"c":x}`, "at byte 21: "},
		{"a word that only starts like NaN", `{"a":NaNny}`, "at byte 5: "},
		{"number as a name", `{1:2}`, "at byte 1: "},
		{"array as a name", `{[1]:2}`, "at byte 1: "},
		{"null as a name", `{null:2}`, "at byte 1: "},
		{"comma at the end", `{"a":1,}`, "at byte 6: "},
		{"wrong bracket", `[1}`, "at byte 2: "},
		{"no value", `{"a":}`, "at byte 5: "},
		{"control character in a string", "{\"a\":\"\x01\"}", "at byte 6: "},
		{"invalid bytes outside strings", "{\"a\":\xff}", "at byte 5: "},
		{"leading zero", `{"a":007}`, "at byte 6: "},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, reject := readText(t, tc.in)
			if reject == nil || reject.Reason != InvalidJSON {
				t.Fatalf("got %v, want invalid_json", reject)
			}
			if !strings.Contains(reject.Detail, tc.detail) {
				t.Errorf("detail %q does not say %q", reject.Detail, tc.detail)
			}
		})
	}
}

// A dead letter's header must not carry the record again, nor bytes that are no text.
func TestDetailQuotesLittle(t *testing.T) {
	secret := strings.Repeat("é\xffs", 5000)
	for _, in := range []string{`{"a":` + secret, `{"` + secret + `":1}x` + secret, secret, `{"a":"` + secret + "\x01"} {
		_, reject := readText(t, in)
		if reject == nil {
			t.Fatalf("read %.20q", in)
		}
		if n := strings.Count(reject.Detail, "é") + strings.Count(reject.Detail, "s"); n > maxQuoted || len(reject.Detail) > 400 {
			t.Errorf("detail quotes too much: %q", reject.Detail)
		}
		if !utf8.ValidString(reject.Detail) {
			t.Errorf("detail is no text: %q", reject.Detail)
		}
		if strings.Contains(reject.Error(), "é") {
			t.Errorf("the error, which is logged, quotes the record: %s", reject.Error())
		}
	}
}

func TestDepthIsCountedAndBounded(t *testing.T) {
	nested := func(n int) string {
		return strings.Repeat(`{"a":[`, n/2) + strings.Repeat("[", n%2) + strings.Repeat("]", n%2) + strings.Repeat("]}", n/2)
	}
	for _, tc := range []struct {
		name  string
		in    string
		depth int
		ok    bool
	}{
		{"at the default", nested(64), 0, true},
		{"above the default", nested(65), 0, false},
		{"at a limit", nested(3), 3, true},
		{"above a limit", nested(4), 3, false},
		{"far above", strings.Repeat("[", 1<<20), 0, false},
		{"beside each other is not deep", `[` + strings.Repeat(`[],`, 500) + `[]]`, 2, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, reject := Read(&Input{Value: []byte(tc.in), Settings: &Settings{MaxDepth: tc.depth}})
			if ok := reject == nil; ok != tc.ok {
				t.Fatalf("reject %v, want ok %v", reject, tc.ok)
			}
			if reject != nil && (reject.Reason != TooDeep || !strings.Contains(reject.Detail, "MAX_DEPTH")) {
				t.Errorf("reject %v %q, want too_deep that names MAX_DEPTH", reject, reject.Detail)
			}
		})
	}
}

// The pooled reader must not carry anything from one record into the next.
func TestReadersForget(t *testing.T) {
	for range 3 {
		if _, reject := readText(t, `{"a":[{"b":NaN},{"b":1,"b":2}],"c":"\ud800"`); reject == nil {
			t.Fatal("read half an object")
		}
		tree, reject := readText(t, `{"x":1}`)
		if reject != nil || asJSON(tree.Root) != `{"x":1}` || tree.Repairs != nil {
			t.Fatalf("got %s %v %v", asJSON(tree.Root), tree.Repairs, reject)
		}
	}
}
