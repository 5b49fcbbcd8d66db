package admin

import (
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"serbridge/bridge/secret"
)

// hostile is what somebody may name a topic, or a broker may say.
const hostile = `"><script>alert(1)</script><style>*{}</style>`

// member is a registry as that of a bridge: every figure that the page shows, with hostile labels.
func member() *prometheus.Registry {
	r := prometheus.NewRegistry()
	gauge := func(name string, v float64, labels ...string) {
		l := prometheus.Labels{}
		for i := 0; i < len(labels); i += 2 {
			l[labels[i]] = labels[i+1]
		}
		g := prometheus.NewGauge(prometheus.GaugeOpts{Name: "serbridge_" + name, Help: name, ConstLabels: l})
		g.Set(v)
		r.MustRegister(g)
	}
	gauge("documents_delivered_total", 1234, "topic", hostile, "format", "ocsf")
	gauge("dead_letters_total", 7, "topic", hostile, "reason", "invalid_json")
	gauge("attempts_total", 3, "certainty", "unknown")
	gauge("gate_closed", 1, "reason", "http_401")
	gauge("limited_by", 1, "by", "gate")
	gauge("limited_by", 0, "by", "rate")
	gauge("concurrency_limit", 8)
	gauge("in_flight", 2)
	gauge("exposure_documents", 17)
	gauge("rate_share", 12.5)
	gauge("token_expiry_timestamp_seconds", 1_700_000_000)
	gauge("turned_away_since_timestamp_seconds", 1_700_000_000, "topic", hostile)
	gauge("turned_away_ratio", 1, "topic", hostile)
	gauge("turned_away_before_ratio", 0.03, "topic", hostile)
	for _, p := range []string{"10", "2"} {
		at := []string{"topic", hostile, "partition", p}
		gauge("frontier_base", 5, at...)
		gauge("lag_records", 40, at...)
		gauge("backlog_records", 30, at...)
		gauge("records_unsettled", 20, at...)
		gauge("oldest_unsettled_age_seconds", 90, at...)
		gauge("retention_headroom_seconds", 86400, at...)
	}
	return r
}

// pageOf is the page's text, and its markup as a strict parser sees it.
func pageOf(t *testing.T, s *Server) (html string, elements map[string]int) {
	t.Helper()
	got := get(s, "/")
	if got.Code != http.StatusOK || got.Header().Get("Content-Type") != "text/html; charset=utf-8" {
		t.Fatalf("%d %q %s", got.Code, got.Header().Get("Content-Type"), got.Body)
	}
	html, elements = got.Body.String(), make(map[string]int)
	d := xml.NewDecoder(strings.NewReader(html))
	d.Strict, d.AutoClose, d.Entity = false, []string{"meta"}, xml.HTMLEntity
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			return html, elements
		}
		if err != nil {
			t.Fatal(err)
		}
		if e, ok := token.(xml.StartElement); ok {
			elements[e.Name.Local]++
			for _, a := range e.Attr {
				if strings.HasPrefix(a.Name.Local, "on") || a.Name.Local == "style" || a.Name.Local == "src" {
					t.Errorf("<%s %s=%q>: the page runs and loads nothing", e.Name.Local, a.Name.Local, a.Value)
				}
			}
		}
	}
}

// TestPageShowsTheStateAndNothingHostile: what a topic is named or a broker says is text, never markup; a secret in it never shows.
func TestPageShowsTheStateAndNothingHostile(t *testing.T) {
	const key = "s3cr3t-api-key-0123456789"
	var red secret.Redactor
	red.Add(key)
	var health Health
	health.NotReady("gate", "gate closed: the key "+key+" is refused "+hostile)
	var journal Journal
	for i := range 30 {
		journal.Failed(Event{At: time.Now(), Reason: "http_401", Topic: hostile, Partition: 3, Offset: int64(i)})
		journal.Rejected(Event{At: time.Now(), Reason: "invalid_json", Topic: "t", Partition: 1, Offset: int64(100 + i)})
	}
	s := New(Config{Gatherer: member(), Health: &health, Journal: &journal, Redactor: &red})
	html, elements := pageOf(t, s)
	if strings.Contains(html, key) {
		t.Error("the page shows a secret")
	}
	for _, want := range []string{
		"1234", "17 at most", "closed: http_401", "2 of 8", "12.5/s", "22:13:20 UTC", "100 % skipped or dead-lettered since 22:13:20 UTC, was 3 %",
		"not ready since", "<td>2m</td>", "<td>24h0m</td>", "t/1 offset 129, t/1 offset 128, t/1 offset 127", "/3 offset 29",
	} {
		if !strings.Contains(html, want) {
			t.Errorf("the page does not say %q", want)
		}
	}
	if strings.Index(html, "/2</th>") > strings.Index(html, "/10</th>") {
		t.Error("partition 10 comes before 2")
	}
	want := map[string]int{"html": 1, "title": 4, "style": 1, "main": 1, "header": 1, "footer": 1, "h1": 1, "svg": 3, "desc": 3, "script": 0, "link": 0, "img": 0, "form": 0, "iframe": 0}
	for name, n := range want {
		if elements[name] != n {
			t.Errorf("%d <%s>, want %d", elements[name], name, n)
		}
	}
	if n := strings.Count(html, `<th scope="`); n != elements["th"] {
		t.Errorf("%d of %d table headers say of what", n, elements["th"])
	}
}

// TestPageOfANewMemberSaysSo: nothing is known yet, and the page is none the less whole.
func TestPageOfANewMemberSaysSo(t *testing.T) {
	html, elements := pageOf(t, New(Config{}))
	if elements["svg"] != 3 || !strings.Contains(html, "none yet") || !strings.Contains(html, "0/s delivered; ready") {
		t.Errorf("%v\n%s", elements, html)
	}
}

// TestHistoryIsOneHour: a page that grows with the days would end the process.
func TestHistoryIsOneHour(t *testing.T) {
	var h history
	begin := time.Unix(1_700_000_000, 0)
	for i := range 3 * samples {
		h.add(sample{at: begin.Add(time.Duration(i) * sampleEvery), delivered: float64(150 * i)})
	}
	all := h.all()
	if len(all) != samples || !all[0].at.Equal(begin.Add(2*samples*sampleEvery)) {
		t.Fatalf("%d samples from %s on", len(all), all[0].at)
	}
	c := charts(all)[0]
	if !strings.HasPrefix(c.Lines[0].Points, "5.0,24.0 ") || !strings.HasSuffix(c.Lines[0].Points, " 600.0,24.0") || c.Top != "10" {
		t.Errorf("top %s, %.40s…", c.Top, c.Lines[0].Points)
	}
}

// TestServerRemembersWhileItServes: the samples are taken by a goroutine that Shutdown waits for.
func TestServerRemembersWhileItServes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New(Config{Addr: "127.0.0.1:0", Gatherer: member()})
		done := make(chan struct{})
		life, stop := context.WithCancel(t.Context())
		go func() { s.remember(life); close(done) }()
		time.Sleep(10*sampleEvery + time.Second)
		stop()
		<-done
		if n := len(s.history.all()); n != 10 {
			t.Errorf("%d samples in 151 s, want 10", n)
		}
	})
}

// TestJournalIsBounded: a source that fails for ever, in ever new words, must not fill the memory.
func TestJournalIsBounded(t *testing.T) {
	var j Journal
	for i := range 1000 {
		e := Event{Reason: fmt.Sprintf("reason_%d", i), Offset: int64(i)}
		j.Failed(e)
		j.Rejected(e)
	}
	if fs := j.Failures(); len(fs) != mostFailures || fs[0].Offset != 999 {
		t.Errorf("%d failures, the first %+v", len(fs), fs[0])
	}
	rs := j.Rejects()
	if len(rs) != mostReasons+1 || rs[0].Reason != "other" || rs[0].Count != 950 || len(rs[0].Last) != mostPlaces || rs[0].Last[0].Offset != 999 {
		t.Errorf("%d reasons, first %+v", len(rs), rs[0])
	}
	if !slices.IsSortedFunc(rs, func(a, b Rejects) int { return b.Count - a.Count }) {
		t.Error("not sorted by count")
	}
}
