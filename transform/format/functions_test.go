package format

import (
	"fmt"
	"strings"
	"testing"

	"serbridge/transform"
)

// functionRecord is what the expressions below look at.
const functionRecord = `{"a":"x","n":7.50,"big":377077835340488700,"none":null,"blank":" ","list":["","p","q"],"nested":[["a",["b"]],"c"],
 "o":{"k":1,"d.e":{"f":2}},"text":"{\"held\":[1]}","raw":"1, a=\"1\", b=\"say \\\"hi\\\"\", a=\"2\", c=3","conf":"High","ips":["x","10.1.2.3"],"Odd":"Case"}`

// Each row is an expression and its value as JSON; null stands for nothing.
func TestFunctions(t *testing.T) {
	for source, want := range map[string]string{
		`first(r.none, r.blank, r.a)`:         `"x"`,
		`first(r.none, r.blank)`:              `null`,
		`one(r.list)`:                         `"p"`,
		`one(r.a)`:                            `"x"`,
		`list(r.none)`:                        `[]`,
		`list(r.a)`:                           `["x"]`,
		`flat(r.nested)`:                      `["a",["b"],"c"]`,
		`text(r.big)`:                         `"377077835340488700"`,
		`r.big`:                               `377077835340488700`,
		`r.n`:                                 `7.50`,
		`text(r.o)`:                           `"{\"d.e\":{\"f\":2},\"k\":1}"`,
		`lower(r.conf)`:                       `"high"`,
		`join(r.list, "-")`:                   `"p-q"`,
		`join([r.none, r.blank], "-")`:        `null`,
		`at(r, "o.d.e.f")`:                    `2`,
		`at(r, "o.d.x")`:                      `null`,
		`json(r.text).held[0]`:                `1`,
		`json(r.a)`:                           `null`,
		`pairs(r.o)[0]`:                       `["k",1]`,
		`quoted(r.raw)`:                       `{"a":["1","2"],"b":"say \"hi\""}`,
		`quoted(r.a)`:                         `null`,
		`extract("T1059.001 x", "T[0-9]{4}")`: `"T1059"`,
		`extract("a:b", "^(\\w+):")`:          `"a"`,
		`extract(r.a, "(")`:                   `null`,
		`confidence(r.conf)`:                  `75`,
		`confidence("42.5")`:                  `42.5`,
		`confidence("sure")`:                  `null`,
		`number("7")`:                         `7`,
		`number("007")`:                       `null`,
		`private("10.0.0.1")`:                 `true`,
		`private("198.51.100.1")`:             `false`,
		`private("0.0.0.0")`:                  `null`,
		`address(r.ips)`:                      `"10.1.2.3"`,
		`millis("2026-03-04T05:06:07.8901Z")`: `1772600767890`,
		`millis(1772600767)`:                  `1772600767000`,
		`millis("never")`:                     `null`,
		`digest([r.a]) == digest(["x"])`:      `true`,

		`epoch(1772600767, "s")`:                `"2026-03-04T05:06:07Z"`,
		`epoch("1772600767890", "ms")`:          `"2026-03-04T05:06:07.89Z"`,
		`epoch(133355377959700000, "filetime")`: `"2023-08-03T12:03:15.97Z"`,
		`epoch(1, "days")`:                      `null`,

		`zoned("Mar 04 2026 07:06:07.890 CEST", "")`:                           `"2026-03-04T05:06:07.89Z"`,
		`zoned("Mar 04 2026 07:06:07.890 CST", "")`:                            `null`, // three zones
		`zoned("Mar 04 2026 05:06:07", "UTC")`:                                 `"2026-03-04T05:06:07Z"`,
		`zoned("2026-03-04 07:06:07", "+02:00")`:                               `"2026-03-04T05:06:07Z"`,
		`zoned("Mar 04 2026 05:06:07", "Mars/Olympus")`:                        `null`,
		`timed("04/Mar/2026:05:06:07 +0000", "dd/MMM/yyyy:HH:mm:ss Z")`:        `"2026-03-04T05:06:07Z"`,
		`timed("Mar 04 2026 07:06:07.890 CEST", "MMM dd yyyy HH:mm:ss.SSS z")`: `"2026-03-04T05:06:07.89Z"`,
		`timed("2026-03-04 05:06:07", "yyyy-MM-dd HH:mm:ss")`:                  `"2026-03-04T05:06:07"`, // naked: the clock decides
		`timed("x", "qqq")`: `null`,

		// what is not there, or of another type, is never an error
		`r.none.b.c`:                                `null`,
		`r.a.b.c`:                                   `null`,
		`r.list[9]`:                                 `null`,
		`r.a[0]`:                                    `null`,
		`r.none == null && r.gone == null`:          `true`,
		`r.a < 3 ? "less" : "more"`:                 `null`,
		`r.list.exists(e, e == "q") ? "y" : "n"`:    `"y"`,
		`r.none.exists(e, e == "q")`:                `null`,
		`r.list.filter(e, e != "").map(e, e + "!")`: `["p!","q!"]`,
		`has(r.o.k) && !has(r.o.z)`:                 `true`,
		`"k" in r.o && !("z" in r.o)`:               `true`,
		`size(r.list)`:                              `3`,
	} {
		checkExpression(t, source, false, want)
	}
	checkExpression(t, `r.odd`, true, `"Case"`)
	checkExpression(t, `r.ODD`, true, `"Case"`)
	checkExpression(t, `r.odd`, false, `null`)
}

func checkExpression(t *testing.T, source string, fold bool, want string) {
	t.Helper()
	tree, reject := transform.Read(&transform.Input{Value: []byte(functionRecord)})
	if reject != nil {
		t.Fatal(reject.Detail)
	}
	x, issues := compile(source, fold, nil)
	if issues != nil {
		t.Fatalf("%s: %v", source, issues.Err())
	}
	got, err := x.eval(&scope{r: tree.Root, leaf: new(leaf), fold: fold})
	if err != nil || got.JSON() != want && !(want == "null" && got.IsBlank()) {
		t.Errorf("%s: got %s %v, want %s", source, got.JSON(), err, want)
	}
}

func TestDottedKeysAreReadLikeNestedObjects(t *testing.T) {
	for in, want := range map[string]string{
		`{"a.b":1,"a":{"c":2}}`:         `{"a":{"b":1,"c":2}}`,
		`{"a":{"c":2},"a.b":1}`:         `{"a":{"c":2,"b":1}}`,
		`{"a":{"b.c":1},"a.b":{"d":2}}`: `{"a":{"b":{"c":1,"d":2}}}`,
		`{"a":1,"a.b":2}`:               `{"a":1}`, // what was there first stands
		`{"a.b":2,"a":1}`:               `{"a":{"b":2}}`,
		`{".a":1,"b.":2}`:               `{".a":1,"b.":2}`,
		`{"l":[{"x.y":1}],"s":"a.b"}`:   `{"l":[{"x":{"y":1}}],"s":"a.b"}`,
	} {
		tree, reject := transform.Read(&transform.Input{Value: []byte(in)})
		if reject != nil {
			t.Fatal(reject.Detail)
		}
		if got := nested(tree.Root).JSON(); got != want {
			t.Errorf("%s: got %s, want %s", in, got, want)
		}
	}
}

func TestIDsOfTechniquesAreWords(t *testing.T) {
	for in, want := range map[string]string{
		"T1059": "T1059", "attack.t1059.001": "t1059.001", "Regsvr32 (T1218.010), T1003": "T1218.010 T1003", "T1059.T1021.002": "T1059 T1021.002",
		"T1059.001x": "T1059", "T1059.0012": "T1059", "T1059.": "T1059", "T1059.00": "T1059", "T10591": "", "T105": "", "xT1059": "", "_T1059": "", "T1059_": "", "T1059a": "",
		"üT1059ü": "T1059", "TT1059": "", "T": "", "": "",
	} {
		if got := strings.Join(techniqueIDs(in), " "); got != want {
			t.Errorf("%q: got %q, want %q", in, got, want)
		}
	}
}

func TestOnlyRealTacticsAndTechniquesGoOn(t *testing.T) {
	for _, tc := range []struct {
		tactics, techniques []string
		want                string
	}{
		{[]string{"Malware"}, []string{"PUP"}, `[] [] `},
		{[]string{"N/A", "TA0002"}, []string{"User Execution", "N/A"}, `[Execution] [User Execution] Persistent Foothold`},
		{[]string{"mitre_credential_access", "container"}, []string{"T1555"}, `[Credential Access] [T1555] Initial Attempts`},
		{[]string{"attack.t1059.001", "attack.lateral-movement"}, []string{"attack.t1021.002"}, `[Lateral Movement] [T1021.002] Propagation`},
		{[]string{"DefenseEvasion"}, []string{"Regsvr32 (T1218.010)", "Regsvr32 (T1218.010)"}, `[Defense Evasion] [T1218.010] Persistent Foothold`},
		{[]string{"Recon", "Impact"}, nil, `[Reconnaissance Impact] [] Initial Attempts`},
	} {
		a := readAttack(tc.tactics, tc.techniques)
		if got := fmt.Sprintf("%v %v %s", a.tactics, a.techniques, a.stage); got != tc.want {
			t.Errorf("%v %v: got %s, want %s", tc.tactics, tc.techniques, got, tc.want)
		}
	}
}
