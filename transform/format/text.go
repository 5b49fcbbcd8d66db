package format

import (
	"regexp"
	"slices"
	"strings"

	"serbridge/transform"
)

// maxPrefix bounds what may stand before CEF, LEEF or JSON in a line: a syslog header.
const maxPrefix = 512

// plainText reads lines of CEF or LEEF, JSON behind a syslog header, or a Zeek log with its header.
func plainText(s string, settings *transform.Settings) ([]leaf, bool) {
	if strings.HasPrefix(s, "#separator") || strings.HasPrefix(s, "#fields") || strings.HasPrefix(s, "#path") {
		return zeekLog(s)
	}
	if start, _ := recordStart(s); start < 0 {
		return nil, false
	}
	var all []leaf
	for line := range strings.Lines(s) {
		if line = strings.TrimSpace(line); line != "" {
			all = append(all, textLine(line, settings))
		}
	}
	for i := range all {
		if all[i].reject == nil {
			return all, true
		}
	}
	return nil, false
}

var notRead = &transform.Reject{Reason: transform.InvalidJSON, Detail: "a line that is neither JSON nor CEF nor LEEF"}

// textLine reads one line.
func textLine(line string, settings *transform.Settings) leaf {
	start, kind := recordStart(line)
	if start < 0 {
		return leaf{text: line, reject: notRead}
	}
	l := leaf{text: line}
	if header := syslogHeader(line[:start]); !header.IsAbsent() {
		l.outer = []transform.Value{transform.Object(transform.Member{Name: "syslog", Value: header})}
	}
	switch body := line[start:]; kind {
	case 'C':
		l.record, l.reject = parseCEF(body)
	case 'L':
		l.record, l.reject = parseLEEF(body)
	default:
		var tree transform.Tree
		tree, l.reject = transform.Read(&transform.Input{Value: []byte(body), Settings: settings})
		l.record, l.repairs = tree.Root, tree.Repairs
		if l.reject != nil {
			l.reject = notRead
		}
	}
	return l
}

var syslogStart = regexp.MustCompile(`^(?:<\d{1,3}>|[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d |\d{4}-\d\d-\d\dT\S+ )`)

// textStart returns where mark and a digit stand, at the start or behind a blank or colon; -1: nowhere.
func textStart(head, mark string) int {
	for from := 0; ; {
		at := strings.Index(head[from:], mark)
		if at < 0 {
			return -1
		}
		at += from
		from = at + len(mark)
		isStart := at == 0 || strings.IndexByte(" \t\n\f\r:", head[at-1]) >= 0
		if isStart && from < len(head) && '0' <= head[from] && head[from] <= '9' {
			return at
		}
	}
}

// recordStart finds where the record starts behind a syslog header, and its kind: C, L or { for JSON. start is -1 when
// there is none.
func recordStart(line string) (start int, kind byte) {
	head := line[:min(len(line), maxPrefix)]
	if end := strings.IndexByte(head, '\n'); end >= 0 {
		head = head[:end]
	}
	cef, leef := textStart(head, "CEF:"), textStart(head, "LEEF:")
	if cef >= 0 && (leef < 0 || cef < leef) {
		return cef, 'C'
	}
	if leef >= 0 {
		return leef, 'L'
	}
	if !syslogStart.MatchString(head) {
		return -1, 0
	}
	if at := strings.IndexByte(head, '{'); at >= 0 {
		return at, '{'
	}
	return -1, 0
}

var (
	// newHeader is RFC 5424's: <PRI>VERSION TIMESTAMP HOST …
	newHeader = regexp.MustCompile(`^(?:<\d{1,3}>)?(?:\d )?(\d{4}-\d\d-\d\dT\S+) (\S+)`)
	// oldHeader is RFC 3164's, whose time has neither year nor zone and is of no use.
	oldHeader = regexp.MustCompile(`^(?:<\d{1,3}>)?[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d (\S+)`)
)

// syslogHeader reads host and, where it is a whole one, time of a header.
func syslogHeader(head string) transform.Value {
	if found := newHeader.FindStringSubmatch(head); found != nil {
		return transform.Object(transform.Member{Name: "timestamp", Value: transform.String(found[1])},
			transform.Member{Name: "host", Value: transform.String(found[2])})
	}
	if found := oldHeader.FindStringSubmatch(head); found != nil {
		return transform.Object(transform.Member{Name: "host", Value: transform.String(found[1])})
	}
	return transform.Value{}
}

// fieldsOf builds an object whose names may come again: the last stands.
type fieldsOf struct {
	members []transform.Member
	byName  map[string]int // of many members
}

// index returns where the member of that name is; -1: there is none.
func (f *fieldsOf) index(name string) int {
	if f.byName == nil {
		return slices.IndexFunc(f.members, func(m transform.Member) bool { return m.Name == name })
	}
	if i, ok := f.byName[name]; ok {
		return i
	}
	return -1
}

func (f *fieldsOf) set(name string, v transform.Value) {
	name = strings.ToValidUTF8(name, "\uFFFD") // or two names were one in JSON
	if i := f.index(name); i >= 0 {
		f.members[i].Value = v
		return
	}
	f.members = append(f.members, transform.Member{Name: name, Value: v})
	switch n := len(f.members); {
	case f.byName != nil:
		f.byName[name] = n - 1
	case n > fewNames:
		f.byName = make(map[string]int, 2*n)
		for i := range f.members {
			f.byName[f.members[i].Name] = i
		}
	}
}

func (f *fieldsOf) value() transform.Value { return transform.Object(f.members...) }

// maxTextFields bounds the fields of one line.
const maxTextFields = 2000
