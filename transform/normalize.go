package transform

import (
	"net/netip"
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"
)

// statuses maps a folded word to one of the four that the API takes. Its own check is case-sensitive, so nothing else
// ever leaves.
var statuses = func() map[string]string {
	table := make(map[string]string)
	for status, words := range map[string]string{
		"New":         "new open active unassigned unknown",
		"In Progress": "inprogress acknowledged pending assigned triaged investigating",
		"Ignored":     "suppressed dismissed ignored falsepositive benign informationalexpectedactivity muted",
		"Closed":      "closed resolved remediated fixed archived deleted",
	} {
		for word := range strings.FieldsSeq(words) {
			table[word] = status
		}
	}
	return table
}()

// Statuses returns the four words that event_status may be.
func Statuses() []string { return []string{"New", "In Progress", "Ignored", "Closed"} }

// eventStatus returns the status that a word means.
func eventStatus(word string) (status string, known bool) {
	folded := strings.Map(func(r rune) rune {
		if r == '_' || r == '-' || unicode.IsSpace(r) {
			return -1
		}
		return unicode.ToLower(r)
	}, word)
	status, known = statuses[folded]
	return status, known
}

// EventStatus returns the status that a word means by the table of all formats.
func EventStatus(word string) (status string, known bool) { return eventStatus(word) }

// SeverityWord returns the severity that a word means by the table of all formats.
func SeverityWord(word string) (severity int64, known bool) { return severityWord(word) }

// severities are the words that mean the same in most formats; a format with other words maps them itself. The values
// fall one each into Stellar Cyber's bands of the score.
var severities = map[string]int64{
	"info": 10, "informational": 10, "information": 10,
	"low": 21, "medium": 47, "high": 73, "critical": 99,
}

func severityWord(word string) (severity int64, known bool) {
	severity, known = severities[strings.ToLower(strings.TrimSpace(word))]
	return severity, known
}

// clampScore rounds half away from zero, then clamps to 0-100. clamped reports the latter.
func clampScore(d decimal) (score int64, clamped bool) {
	n, _ := d.rounded()
	score = min(max(n, 0), 100)
	return score, score != n
}

// cleanText makes a word or a title fit for display: control characters become blanks, the ends are trimmed.
func cleanText(s string) string {
	if !isPrintable(s) {
		s = strings.Map(func(r rune) rune {
			if unicode.IsControl(r) {
				return ' '
			}
			return r
		}, s)
	}
	return strings.TrimSpace(s)
}

// isPrintable reports whether s is printable ASCII, as most texts are.
func isPrintable(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}

// category returns one of the vendor's three words. What the source says stands when it is one of them; else the
// evidence decides: an identity first, then endpoints and nothing else.
func category(stated string, names, values []string) string {
	switch word := strings.ToLower(strings.TrimSpace(stated)); word {
	case "killchain", "network", "uba":
		return word
	}
	if len(names) > 0 && namesIdentity(names[0]) {
		return "uba"
	}
	if len(values) == 0 {
		return "killchain"
	}
	for _, v := range values {
		if _, err := netip.ParseAddr(v); err != nil {
			return "killchain"
		}
	}
	return "network"
}

// identityWords are what the last part of a field's name holds when its value is a person or an account.
var identityWords = map[string]bool{
	"user": true, "username": true, "user_name": true, "userid": true, "user_id": true, "account": true,
	"account_name": true, "login": true, "logon": true, "identity": true, "principal": true,
}

func namesIdentity(field string) bool {
	parts := strings.Split(strings.ToLower(field), ".")
	last := parts[len(parts)-1]
	if len(parts) > 1 && (last == "name" || last == "id" || last == "email") {
		last = parts[len(parts)-2]
	}
	return identityWords[last]
}

// lateral reports whether a connection runs between two private addresses. It is not decidable when one of them is
// no address, or 0.0.0.0 or ::, which stand for "none".
func lateral(source, destination string) (between, decidable bool) {
	s, ok := parseAddr(source)
	if !ok {
		return false, false
	}
	d, ok := parseAddr(destination)
	if !ok {
		return false, false
	}
	return isPrivate(s) && isPrivate(d), true
}

func parseAddr(text string) (netip.Addr, bool) {
	if text == "" { // as most often: an error would be made for it
		return netip.Addr{}, false
	}
	a, err := netip.ParseAddr(strings.TrimSpace(text))
	a = a.Unmap()
	return a, err == nil && !a.IsUnspecified()
}

// isPrivate covers RFC 1918, unique local, link-local and loopback. Carrier-grade NAT counts as public.
func isPrivate(a netip.Addr) bool {
	return a.IsPrivate() || a.IsLinkLocalUnicast() || a.IsLoopback()
}

// IsAddress reports whether text is an IP address that stands for a host; 0.0.0.0 and :: stand for none. private says
// that it is one of a private network.
func IsAddress(text string) (private, ok bool) {
	a, ok := parseAddr(text)
	return ok && isPrivate(a), ok
}

// templateHole is a field that a source meant to fill in and did not, such as %proc.pname.
var templateHole = regexp.MustCompile(`^%[a-z0-9_]+(\.[a-z0-9_\[\]]+)+$`)

// IsPlaceholder reports whether a value stands for "none": "-", "N/A" or a template that was not filled in.
func IsPlaceholder(value string) bool { return isPlaceholder(value) }

// isPlaceholder reports whether a detected value stands for "none".
func isPlaceholder(value string) bool {
	switch value {
	case "", "-", "(empty)", "<NA>", "N/A":
		return true
	}
	return value[0] == '%' && templateHole.MatchString(value)
}

// Cut cuts s to at most limit bytes of valid UTF-8, with a mark at the cut.
func Cut(s string, limit int) string {
	cut, _ := cutText(s, limit)
	return cut
}

// cutText cuts s to at most limit bytes on a rune boundary, with a mark at the cut. The result is valid UTF-8.
func cutText(s string, limit int) (cut string, wasCut bool) {
	const mark = "…"
	long := len(s) > limit
	s = validUTF8(s[:min(len(s), limit)]) // U+FFFD may be longer than what it stands for
	if !long && len(s) <= limit {
		return s, false
	}
	if limit < len(mark) {
		return "", true
	}
	end := min(limit-len(mark), len(s))
	for end > 0 && end < len(s) && !utf8.RuneStart(s[end]) {
		end--
	}
	return s[:end] + mark, true
}
