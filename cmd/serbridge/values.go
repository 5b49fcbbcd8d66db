package main

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// wantError is what a decoder of ours says is allowed.
type wantError string

func (e wantError) Error() string { return string(e) }

// list is a comma-separated list: blanks, empty elements and repeats left out.
type list []string

// EnvDecode reads a list; it never fails.
func (l *list) EnvDecode(value string) error {
	for element := range strings.SplitSeq(value, ",") {
		if element = strings.TrimSpace(element); element != "" && !slices.Contains(*l, element) {
			*l = append(*l, element)
		}
	}
	return nil
}

// topicList is a list of topics, or one pattern, which may hold commas: ^edr\.[a-z]{2,5}$.
type topicList []string

// EnvDecode reads a topicList; whether the topics are legal is checked later, with the others.
func (l *topicList) EnvDecode(value string) error {
	if strings.HasPrefix(value, "^") {
		*l = topicList{value}
		return nil
	}
	return (*list)(l).EnvDecode(value)
}

// size is a number of bytes.
type size int64

var sizePattern = regexp.MustCompile(`^([0-9]+) ?(|B|Ki|KiB|Mi|MiB|Gi|GiB)$`)

// errSize has no words: the table adds the range to them.
var errSize = errors.New("no size")

// EnvDecode reads 4096, 512KiB, 32MiB or 1GiB. Decimal units (MB) are refused: half of all writers mean MiB by them.
func (s *size) EnvDecode(value string) error {
	m := sizePattern.FindStringSubmatch(value)
	if m == nil {
		return errSize
	}
	n, err := strconv.ParseInt(m[1], 10, 64)
	shift := map[byte]int{'K': 10, 'M': 20, 'G': 30}[(m[2] + "B")[0]]
	if err != nil || n > 1<<62>>shift {
		return errSize
	}
	*s = size(n << shift)
	return nil
}

// String is the size in the largest unit without a rest.
func (s size) String() string {
	for _, u := range []struct {
		shift int
		name  string
	}{{30, "GiB"}, {20, "MiB"}, {10, "KiB"}} {
		if s > 0 && s%(1<<u.shift) == 0 {
			return fmt.Sprintf("%d%s", int64(s>>u.shift), u.name)
		}
	}
	return strconv.FormatInt(int64(s), 10)
}

// startPosition is KAFKA_START: exactly one of its fields is set.
type startPosition struct {
	Earliest, Latest bool
	Time             time.Time     // from this time on
	Ago              time.Duration // positive: from so long before the start on
}

// EnvDecode reads the forms that the error lists.
func (s *startPosition) EnvDecode(value string) error {
	switch value {
	case "earliest":
		*s = startPosition{Earliest: true}
		return nil
	case "latest":
		*s = startPosition{Latest: true}
		return nil
	}
	if t, err := time.Parse(time.RFC3339, value); err == nil {
		if t.After(time.Now()) {
			return wantError("lies in the future: want a time that has passed, or latest")
		}
		*s = startPosition{Time: t}
		return nil
	}
	if d, err := time.ParseDuration(value); err == nil && d < 0 {
		*s = startPosition{Ago: -d}
		return nil
	}
	return wantError("want earliest, latest, a time such as 2026-01-31T08:00:00Z, or a span back from now such as -24h")
}

// String is the form that EnvDecode reads.
func (s startPosition) String() string {
	switch {
	case s.Earliest:
		return "earliest"
	case s.Latest:
		return "latest"
	case !s.Time.IsZero():
		return s.Time.Format(time.RFC3339)
	}
	return (-s.Ago).String()
}

// timeZone is a zone by its name in the IANA database, which is built in.
type timeZone struct{ *time.Location }

// EnvDecode refuses Local: what a document says must not depend on the machine.
func (z *timeZone) EnvDecode(value string) (err error) {
	if z.Location, err = time.LoadLocation(value); err != nil || value == "Local" {
		return wantError("want a name of the IANA time zone database, such as UTC or Europe/Berlin")
	}
	return nil
}

// name is empty where none is set, which is not the same as UTC.
func (z timeZone) name() string {
	if z.Location == nil {
		return ""
	}
	return z.String()
}

// The functions below return what is wrong with a value and what is allowed, or nothing.

const aloneFault = "a pattern (^…) stands alone: want topic names, or one pattern"

var (
	topicPattern     = regexp.MustCompile(`^[A-Za-z0-9._-]{1,249}$`)
	repeatPattern    = regexp.MustCompile(`\{[0-9]+,[0-9]*\}`)
	namespacePattern = regexp.MustCompile(`^[a-z0-9_]{1,64}$`)
)

// topicFault holds Kafka's rule for names.
func topicFault(topic string) string {
	if topic == "." || topic == ".." || !topicPattern.MatchString(topic) {
		return "want a legal topic name: 1 to 249 of letters, digits, '.', '_' and '-', or a pattern that starts with ^"
	}
	return ""
}

// patternFault takes a comma outside {m,n} for an attempt at a second topic, since no topic name holds one.
func patternFault(pattern string) string {
	if strings.Contains(repeatPattern.ReplaceAllString(pattern, ""), ",") {
		return aloneFault
	}
	if _, err := regexp.Compile(pattern); err != nil {
		return fmt.Sprintf("want a regular expression in Go's syntax: %v", err)
	}
	return ""
}

func brokerFault(broker string) string {
	const want = "want host or host:port, without scheme, user or path"
	host, port := broker, "9092"
	if strings.Contains(broker, ":") {
		var err error
		if host, port, err = net.SplitHostPort(broker); err != nil {
			return want
		}
	}
	if host == "" || strings.ContainsAny(host, "/@ \t") || !isPort(port, 1) {
		return want
	}
	return ""
}

func listenFault(addr string) string {
	if _, port, err := net.SplitHostPort(addr); err != nil || !isPort(port, 0) {
		return "want host:port or :port, with a port from 0 to 65535"
	}
	return ""
}

func isPort(port string, least uint64) bool {
	n, err := strconv.ParseUint(port, 10, 16)
	return err == nil && n >= least
}

// parseURL accepts http and https with a host. Its faults never quote the URL, which may hold a credential.
func parseURL(value string) (u *url.URL, fault string) {
	u, err := url.Parse(value)
	switch {
	case err != nil, u.Scheme != "https" && u.Scheme != "http", u.Hostname() == "":
		return nil, "want https:// and a host"
	case u.User != nil:
		return nil, "a URL with user information is refused: credentials have variables of their own"
	case u.Port() != "" && !isPort(u.Port(), 1):
		return nil, "want a port from 1 to 65535"
	}
	return u, ""
}

func pathFault(path string) string {
	u, err := url.Parse(path)
	if path != "" && (err != nil || u.Path != path || !strings.HasPrefix(path, "/")) {
		return "want a path that starts with /, without query"
	}
	return ""
}

// isLoopback tells whether a host cannot be another machine.
func isLoopback(host string) bool {
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.IsLoopback()
}
