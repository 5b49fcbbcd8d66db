package transform

import (
	"strings"
	"testing"
	"unicode/utf8"
)

func TestEventStatusFolds(t *testing.T) {
	for status, words := range map[string][]string{
		"New":         {"new", "NEW", " Open ", "Active", "UnAssigned", "unknown"},
		"In Progress": {"in progress", "In_Progress", "IN-PROGRESS", "inProgress", "acknowledged", "Pending", "assigned", "triaged", "Investigating"},
		"Ignored":     {"suppressed", "Dismissed", "IGNORED", "False Positive", "false_positive", "benign", "informational-expected_activity", "muted"},
		"Closed":      {"closed", "Resolved", "remediated", "FIXED", "archived", "deleted"},
	} {
		for _, w := range words {
			if got, known := eventStatus(w); !known || got != status {
				t.Errorf("%q: got %q %v, want %q", w, got, known, status)
			}
		}
	}
	for _, w := range []string{"", "Cancelled", "Warning", "stable", "NOTIFIED", "true_positive", "closed."} {
		if got, known := eventStatus(w); known {
			t.Errorf("%q: got %q, want unknown", w, got)
		}
	}
}

func TestSeverityWords(t *testing.T) {
	for word, want := range map[string]int64{"info": 10, "Informational ": 10, "INFORMATION": 10, "low": 21, "Medium": 47, " high": 73, "CRITICAL": 99} {
		if got, known := severityWord(word); !known || got != want {
			t.Errorf("%q: got %d %v, want %d", word, got, known, want)
		}
	}
	for _, word := range []string{"", "unknown", "severe", "5/10"} {
		if got, known := severityWord(word); known {
			t.Errorf("%q: got %d, want unknown", word, got)
		}
	}
}

func TestLateral(t *testing.T) {
	for _, tc := range []struct {
		source, destination string
		between, decidable  bool
	}{
		{"10.0.0.1", "192.168.1.1", true, true},
		{"172.31.255.255", "172.16.0.0", true, true},
		{"127.0.0.1", "169.254.1.1", true, true},
		{"::1", "fe80::1%eth0", true, true},
		{"fd00::1", "::ffff:10.0.0.1", true, true},
		{"10.0.0.1", "8.8.8.8", false, true},
		{"8.8.8.8", "10.0.0.1", false, true},
		{"2001:4860::1", "8.8.8.8", false, true},
		{"172.32.0.1", "10.0.0.1", false, true},
		{"100.64.0.1", "10.0.0.1", false, true},
		{" 10.0.0.1 ", "10.0.0.2", true, true},
		{"0.0.0.0", "10.0.0.1", false, false},
		{"10.0.0.1", "::", false, false},
		{"::ffff:0.0.0.0", "10.0.0.1", false, false},
		{"", "10.0.0.1", false, false},
		{"10.0.0.1", "", false, false},
		{"10.0.0.1", "host-7", false, false},
		{"10.0.0.1:443", "10.0.0.2", false, false},
		{"010.0.0.1", "10.0.0.2", false, false},
	} {
		if between, decidable := lateral(tc.source, tc.destination); between != tc.between || decidable != tc.decidable {
			t.Errorf("%s to %s: got %v %v, want %v %v", tc.source, tc.destination, between, decidable, tc.between, tc.decidable)
		}
	}
}

func TestCategory(t *testing.T) {
	for _, tc := range []struct {
		stated, want  string
		names, values []string
	}{
		{"network", "network", nil, nil},
		{" UBA ", "uba", nil, nil},
		{"Killchain", "killchain", []string{"user"}, []string{"bob"}},
		{"", "killchain", nil, nil},
		{"malware", "killchain", nil, nil},
		{"", "uba", []string{"user.name"}, []string{"bob"}},
		{"", "uba", []string{"Account"}, []string{"bob"}},
		{"", "killchain", []string{"file.name", "user"}, []string{"a.exe", "bob"}},
		{"", "network", []string{"srcip", "dstip"}, []string{"10.0.0.1", "2001:db8::1"}},
		{"", "killchain", []string{"srcip", "hash"}, []string{"10.0.0.1", "aa"}},
	} {
		if got := category(tc.stated, tc.names, tc.values); got != tc.want {
			t.Errorf("%q %v: got %s, want %s", tc.stated, tc.names, got, tc.want)
		}
	}
}

func TestPlaceholdersAreNoEvidence(t *testing.T) {
	for _, v := range []string{"", "-", "(empty)", "<NA>", "N/A", "%proc.pname", "%fd.name", "%proc.aname[2]"} {
		if !isPlaceholder(v) {
			t.Errorf("%q passed", v)
		}
	}
	for _, v := range []string{"0", "--", "%TEMP%.exe", "%20", "100%", "% off", "a%b.c", "n/a b"} {
		if isPlaceholder(v) {
			t.Errorf("%q was taken for none", v)
		}
	}
}

func TestCutTextStaysTextWithinItsLimit(t *testing.T) {
	texts := []string{"", "a", "äöü€😀", strings.Repeat("😀", 9), "\xff\xff\xff\xff\xffabc", strings.Repeat("a\xff", 9), "abc\xf0\x9f"}
	for _, s := range texts {
		for limit := 1; limit <= len(s)+6; limit++ {
			got, cut := cutText(s, limit)
			if len(got) > limit || !utf8.ValidString(got) {
				t.Errorf("%q at %d: %q", s, limit, got)
			}
			if whole := strings.ToValidUTF8(s, "\uFFFD"); !cut && got != whole || cut && len(s) <= limit && len(whole) <= limit {
				t.Errorf("%q at %d: %q, cut %v", s, limit, got, cut)
			}
			if cut && limit >= 3 && !strings.HasSuffix(got, "…") {
				t.Errorf("%q at %d: %q has no mark", s, limit, got)
			}
		}
	}
}
