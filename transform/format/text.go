package format

import (
	"regexp"
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

var (
	textStart   = regexp.MustCompile(`(?:^|[\s:])(?:(CEF:\d)|(LEEF:\d))`)
	syslogStart = regexp.MustCompile(`^(?:<\d{1,3}>|[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d |\d{4}-\d\d-\d\dT\S+ )`)
)

// recordStart finds where the record starts behind a syslog header, and its kind: C, L or { for JSON. start is -1 when
// there is none.
func recordStart(line string) (start int, kind byte) {
	head := line[:min(len(line), maxPrefix)]
	if end := strings.IndexByte(head, '\n'); end >= 0 {
		head = head[:end]
	}
	if at := textStart.FindStringSubmatchIndex(head); at != nil {
		if at[2] >= 0 {
			return at[2], 'C'
		}
		return at[4], 'L'
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
	at      map[string]int
}

func (f *fieldsOf) set(name string, v transform.Value) {
	if f.at == nil {
		f.at = make(map[string]int)
	}
	if i, again := f.at[name]; again {
		f.members[i].Value = v
		return
	}
	f.at[name] = len(f.members)
	f.members = append(f.members, transform.Member{Name: name, Value: v})
}

func (f *fieldsOf) value() transform.Value { return transform.Object(f.members...) }

// maxTextFields bounds the fields of one line.
const maxTextFields = 2000
