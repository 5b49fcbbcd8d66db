package format

import (
	"strings"

	"serbridge/transform"
)

// tactic is one of MITRE ATT&CK's, with the stage of Stellar Cyber's kill chain that it belongs to.
type tactic struct{ id, name, stage string }

// tactics are those of ATT&CK for Enterprise.
var tactics = []tactic{
	{"TA0043", "Reconnaissance", "Initial Attempts"},
	{"TA0042", "Resource Development", "Initial Attempts"},
	{"TA0001", "Initial Access", "Initial Attempts"},
	{"TA0002", "Execution", "Persistent Foothold"},
	{"TA0003", "Persistence", "Persistent Foothold"},
	{"TA0004", "Privilege Escalation", "Propagation"},
	{"TA0005", "Defense Evasion", "Persistent Foothold"},
	{"TA0006", "Credential Access", "Initial Attempts"},
	{"TA0007", "Discovery", "Exploration"},
	{"TA0008", "Lateral Movement", "Propagation"},
	{"TA0009", "Collection", "Exploration"},
	{"TA0010", "Exfiltration", "Exfiltration & Impact"},
	{"TA0011", "Command and Control", "Persistent Foothold"},
	{"TA0040", "Impact", "Exfiltration & Impact"},
}

// tacticByWord finds a tactic by its id or by its name, folded: CredentialAccess, mitre_credential_access and
// attack.credential-access are one.
var tacticByWord = func() map[string]*tactic {
	table := make(map[string]*tactic)
	for i := range tactics {
		t := &tactics[i]
		table[strings.ToLower(t.id)], table[string(foldTactic(nil, t.name))] = t, t
	}
	table["recon"] = table["reconnaissance"]
	table["commandcontrol"] = table["commandandcontrol"]
	table["defenceevasion"] = table["defenseevasion"]
	return table
}()

// tacticOf returns the tactic that a word means, or nil.
func tacticOf(word string) *tactic {
	var memory [64]byte
	return tacticByWord[string(foldTactic(memory[:0], word))]
}

// foldTactic appends the letters and digits of a word.
func foldTactic(to []byte, word string) []byte {
	word = strings.ToLower(strings.TrimSpace(word))
	word = strings.TrimPrefix(strings.TrimPrefix(word, "mitre_"), "attack.")
	for i := range len(word) {
		if c := word[i]; c >= 'a' && c <= 'z' || c >= '0' && c <= '9' {
			to = append(to, c)
		}
	}
	return to
}

// techniqueIDs finds the words T1234 and T1234.567, in letters of either size.
func techniqueIDs(s string) (ids []string) {
	for at := 0; at < len(s) && len(ids) < maxAttack; at++ {
		if s[at] != 'T' && s[at] != 't' || at > 0 && isWordByte(s[at-1]) {
			continue
		}
		end := at + len("T1234")
		if sub := end + len(".567"); areDigits(s, end+1, sub) && s[end] == '.' && (sub == len(s) || !isWordByte(s[sub])) {
			end = sub
		}
		if areDigits(s, at+1, at+len("T1234")) && (end == len(s) || !isWordByte(s[end])) {
			ids = append(ids, s[at:end])
			at = end - 1
		}
	}
	return ids
}

func areDigits(s string, from, to int) bool {
	if to > len(s) {
		return false
	}
	for i := from; i < to; i++ {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return true
}

func isWordByte(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '_'
}

// attack is what a detection says of ATT&CK: only what is real, for sources also write "Malware" or "N/A" there.
type attack struct {
	tactics, techniques []string
	stage               string
}

// maxAttack bounds each list.
const maxAttack = 32

// readAttack reads words for tactics and techniques. A word may hold the id of a technique anywhere, as in
// "Regsvr32 (T1218.010)"; the name of one without an id counts only beside a tactic that is one.
func readAttack(tacticWords, techniqueWords []string) (a attack) {
	for _, word := range tacticWords {
		t := tacticOf(word)
		if t == nil {
			continue
		}
		if a.stage == "" {
			a.stage = t.stage
		}
		a.tactics = appendNew(a.tactics, t.name)
	}
	for _, word := range techniqueWords {
		ids := techniqueIDs(word)
		for _, id := range ids {
			a.techniques = appendNew(a.techniques, strings.ToUpper(id))
		}
		word = strings.TrimSpace(word)
		isTag := strings.ContainsAny(word, "_.") || tacticOf(word) != nil
		if ids == nil && a.tactics != nil && !isTag && !transform.IsPlaceholder(word) {
			a.techniques = appendNew(a.techniques, transform.Cut(word, 128))
		}
	}
	return a
}

func appendNew(list []string, word string) []string {
	if len(list) == maxAttack {
		return list
	}
	for _, w := range list {
		if w == word {
			return list
		}
	}
	return append(list, word)
}
