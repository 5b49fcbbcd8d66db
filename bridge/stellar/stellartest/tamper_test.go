package stellartest

import (
	"strings"
	"testing"
)

// What is removed, altered or doubled behind the API's back is so in the index, and the ledger's counts are not touched.
func TestTamperedIndex(t *testing.T) {
	p := overTCP(t, Config{Variant: Variant{RefreshDelay: -1}})
	a, b, c := p.insert(document("a")).id(), p.insert(document("b")).id(), p.insert(document("c")).id()
	for _, path := range []string{"remove?id=" + a, "repeat?id=" + c} {
		if got := p.do("POST", "/simulator/"+path, ""); got.status != 204 {
			t.Fatalf("%s: %+v", path, got)
		}
	}
	if got := p.do("POST", "/simulator/alter?id="+b, `{"event_name":"other"}`); got.status != 204 {
		t.Fatalf("alter: %+v", got)
	}
	for _, path := range []string{"remove?id=" + a, "remove?id=nosuch", "repeat", "alter?id=" + a} {
		if got := p.do("POST", "/simulator/"+path, "{}"); got.status != 404 && got.status != 400 {
			t.Errorf("%s: %+v", path, got)
		}
	}
	const key = "q=custom_ser_field.serbridge.delivery_key:"
	for query, want := range map[string]int{key + "a": 0, key + "b": 1, key + "c": 2, "q=event_name:other": 1, "": 3} {
		if total, _, answer := p.search(query); total != want {
			t.Errorf("%s finds %d, want %d: %s", query, total, want, answer.body)
		}
	}
	if got := p.do("GET", DataPath+"aella-ser-x/amsg/"+a, ""); got.status != 404 || !strings.Contains(got.body, `"found":false`) {
		t.Errorf("removed: %+v", got)
	}
	if l := p.Ledger(); l.Documents != 3 || l.Repeats != 0 {
		t.Errorf("%+v", l)
	}
}
