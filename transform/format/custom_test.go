package format

import (
	"strings"
	"testing"
	"testing/fstest"

	"serbridge/transform"
)

func dirOf(files map[string]string) fstest.MapFS {
	dir := make(fstest.MapFS)
	for name, content := range files {
		dir[name] = &fstest.MapFile{Data: []byte(content)}
	}
	return dir
}

const acme = `title: Acme alert
schema: acme.example
recognise: [{acme: !present , kind: alert}]
source: acme
fields: {event_name: r.name, orig_id: text(r.id)}
timestamp: r.at
severity: {from: r.prio, words: {p3: 21, p1: 99}}
cases:
  - {name: an alert, input: '{"acme":1,"kind":"alert","name":"N","id":7,"prio":"P1","at":1772600767}', want: {event_name: N, severity: 99, orig_id: "7"}}
`

func TestOwnMappingsAddReplaceAndExtend(t *testing.T) {
	dir := dirOf(map[string]string{
		"acme.yaml":  acme,
		"falco.yaml": "extends: falco\nsource: falco_lab\nseverity: {from: r.priority, words: {warning: 73}}\n",
	})
	cases, differences, err := RunCases(dir)
	if err != nil || cases != 1 || differences != nil {
		t.Fatalf("%d cases, %v, %v", cases, differences, err)
	}
	c, err := withCustom(dir)
	if err != nil {
		t.Fatal(err)
	}
	result := c.transform(input(falcoAlert, nil))
	if len(result.Parts) != 1 || result.Parts[0].Document == nil {
		t.Fatal(describe(result))
	}
	text, _ := result.Parts[0].Document.Encode()
	for _, want := range []string{`"event_source":"falco_lab"`, `"severity":73`, `"event_name":"LAB"`} {
		if !strings.Contains(string(text), want) {
			t.Errorf("%s lacks %s", text, want)
		}
	}
	if result.Parts[0].Document.Mapping() == builtIn().byName["falco"].hashed {
		t.Error("a changed mapping has the hash of the built-in one")
	}
}

// Two processes that share a run must find out that one of them has another mapping, whichever it is.
func TestFingerprintIsOfEveryMapping(t *testing.T) {
	t.Parallel()
	of := func(files map[string]string) string {
		c, err := withCustom(dirOf(files))
		if err != nil {
			t.Fatal(err)
		}
		return c.fingerprint()
	}
	once, again := of(map[string]string{"acme.yaml": acme}), of(map[string]string{"acme.yaml": acme})
	if builtIn().fingerprint() != Fingerprint() || once != again {
		t.Error("the same mappings have two fingerprints")
	}
	seen := map[string]string{Fingerprint(): "the built-in ones"}
	for name, files := range map[string]map[string]string{
		"added":    {"acme.yaml": acme},
		"mended":   {"acme.yaml": strings.Replace(acme, "p1: 99", "p1: 98", 1)},
		"extended": {"falco.yaml": "extends: falco\nsource: falco_lab\n"},
	} {
		if same := seen[of(files)]; same != "" {
			t.Errorf("%s and %s have one fingerprint", name, same)
		}
		seen[of(files)] = name
	}
}

func TestMistakesInMappingsSayWhere(t *testing.T) {
	for name, tc := range map[string]struct{ content, want string }{
		"expression":      {strings.Replace(acme, "r.name", "r.name +", 1), "x.yaml:5:"},
		"unknown name":    {strings.Replace(acme, "r.name", "q.name", 1), "x.yaml:5:22: fields event_name: undeclared reference to 'q'"},
		"unknown key":     {acme + "sevrity: x\n", "x.yaml:10:1: sevrity: unknown key"},
		"unknown field":   {strings.Replace(acme, "orig_id", "origid", 1), "x.yaml:5:30: fields origid: unknown field"},
		"severity":        {strings.Replace(acme, "p1: 99", "p1: 999", 1), `x.yaml:7:`},
		"no sign":         {strings.Replace(acme, "recognise: [{acme: !present , kind: alert}]\n", "", 1), "x.yaml: recognise: want"},
		"tag":             {strings.Replace(acme, "!present", "!there", 1), "x.yaml:3:20: recognise acme: want a value"},
		"extends nothing": {"extends: nothing\n", `x.yaml:1:10: extends: "nothing" is no built-in mapping`},
		"no YAML":         {"a: [", "x.yaml: yaml: line 1"},
		"skip reason":     {acme + "skip: [{when: r.a == 1, reason: because}]\n", "x.yaml:10:"},
		"empty":           {"", "x.yaml:1:1: mapping: want keys and values"},
	} {
		_, err := withCustom(dirOf(map[string]string{"x.yaml": tc.content}))
		if err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: got %v, want %s", name, err, tc.want)
		}
	}
}

func TestExplainSaysWhereEachValueComesFrom(t *testing.T) {
	in := input(`{"records":[`+falcoAlert+`,{"x":1}]}`, nil)
	all := Explain(in)
	if len(all) != 2 || !strings.HasPrefix(all[0].Mapping, "falco@") || len(all[0].Envelopes) != 1 || all[1].Outcome == "" {
		t.Fatalf("got %+v", all)
	}
	found := false
	for _, v := range all[0].Values {
		found = found || v == Explained{"fields", "event_name", "r.rule", "LAB"}
	}
	if !found {
		t.Errorf("got %+v", all[0].Values)
	}
}

func TestDraftIsAMappingThatWorks(t *testing.T) {
	const sample = `{"rule":"LAB it's odd","level":"high","ts":1772600767,"id":"x-1","src":"10.0.0.7","host":"lab-1"}`
	draft, err := Draft("acme", input(sample, nil))
	if err != nil {
		t.Fatal(err)
	}
	c, err := withCustom(dirOf(map[string]string{"acme.yaml": draft}))
	if err != nil {
		t.Fatalf("%v\n%s", err, draft)
	}
	if differences := c.check(c.byName["acme"]); differences != nil {
		t.Errorf("%v\n%s", differences, draft)
	}
	result := c.transform(transform.Input{Value: []byte(sample), Now: caseTime, Timestamp: caseTime})
	if len(result.Parts) != 1 || result.Parts[0].Document == nil || result.Format != "acme" {
		t.Fatalf("%s\n%s", describe(result), draft)
	}
	draft, err = Draft("acme", input(`{"alertTitle":"Door","what's up":{"in":"a\u0085\n: b"},"a//\n+r":"c","b-r":"d","when":"2026-11-01T03:04:05Z","level":"low"}`, nil))
	for _, want := range []string{`#   r.alertTitle: "Door"`, `#   r["what's up"]["in"]: `, `#   r["a//\n+r"]: `, `#   r["b-r"]: `, `#   r.when: `, "(fields.event_name, timestamp, identity: none yet)"} {
		if err != nil || !strings.Contains(draft, want) {
			t.Errorf("%v: no %s in\n%s", err, want, draft)
		}
	}
	if _, err := withCustom(dirOf(map[string]string{"acme.yaml": draft})); err != nil {
		t.Errorf("%v\n%s", err, draft)
	}
	if _, err := Draft("acme", input(`[1]`, nil)); err == nil {
		t.Error("a mapping was made of an array")
	}
}
