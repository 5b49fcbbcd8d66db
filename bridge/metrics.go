package bridge

import (
	"errors"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kerr"

	"serbridge/bridge/deadletter"
	"serbridge/bridge/frontier"
	"serbridge/bridge/stellar"
	"serbridge/transform"
)

// metrics are what the bridge counts. Series of one partition are made when
// they are read, from the partitions owned then, so that none outlives its
// assignment.
type metrics struct {
	b *Bridge

	received        *prometheus.CounterVec // by topic
	docs            *prometheus.CounterVec // delivered, by topic and format
	skips           *prometheus.CounterVec // by topic and reason
	letters         *prometheus.CounterVec // by topic and reason
	attempts        *prometheus.CounterVec // by verdict, certainty and reason
	probes          *prometheus.CounterVec // by result
	seconds         prometheus.Histogram   // of an attempt
	latency         prometheus.Histogram   // record timestamp to 200
	late            prometheus.Counter
	restored        prometheus.Counter
	mapsIgnored     *prometheus.CounterVec // by cause
	lostToRetention *prometheus.CounterVec // by topic
	commits         *prometheus.CounterVec // by result
	commitFailures  *prometheus.CounterVec // by code
	commitSeconds   prometheus.Histogram
	drains          prometheus.Histogram
	abandoned       prometheus.Counter
	lastDelivered   *prometheus.GaugeVec // by topic and format

	lastCommit atomic.Int64 // unix nanoseconds
	mixes      mixes
}

func counterVec(name, help string, labels ...string) *prometheus.CounterVec {
	return prometheus.NewCounterVec(prometheus.CounterOpts{Name: "serbridge_" + name, Help: help}, labels)
}

func histogram(name, help string, buckets []float64) prometheus.Histogram {
	return prometheus.NewHistogram(prometheus.HistogramOpts{Name: "serbridge_" + name, Help: help, Buckets: buckets})
}

func newMetrics(b *Bridge) *metrics {
	fast := prometheus.ExponentialBuckets(0.001, 2, 16)
	return &metrics{
		b:               b,
		received:        counterVec("records_received_total", "Records received, without those that an earlier owner had settled.", "topic"),
		docs:            counterVec("documents_delivered_total", "Documents that got their 200.", "topic", "format"),
		skips:           counterVec("skipped_total", "Records, or parts of them, that are no detection.", "topic", "reason"),
		letters:         counterVec("dead_letters_total", "Dead letters acknowledged by all replicas.", "topic", "reason"),
		attempts:        counterVec("attempts_total", "Attempts to insert, by what came of them; certainty says whether the document may have been stored.", "verdict", "certainty", "reason"),
		probes:          counterVec("probes_total", "Searches for documents that may be stored (ON_AMBIGUOUS=probe), by what they found.", "result"),
		seconds:         histogram("attempt_seconds", "Duration of one POST.", fast),
		latency:         histogram("delivery_seconds", "From the record's Kafka timestamp to its 200.", prometheus.ExponentialBuckets(0.01, 3, 14)),
		late:            prometheus.NewCounter(prometheus.CounterOpts{Name: "serbridge_late_answers_total", Help: "Records finished after their partition had been fenced; the next owner sends them again."}),
		restored:        prometheus.NewCounter(prometheus.CounterOpts{Name: "serbridge_records_restored_total", Help: "Records received that the commit metadata says are settled; not sent again."}),
		mapsIgnored:     counterVec("commit_metadata_ignored_total", "Commit metadata that was not ours or damaged.", "cause"),
		lostToRetention: counterVec("lost_to_retention_total", "Offsets that retention removed before they were read.", "topic"),
		commits:         counterVec("commits_total", "Offset commits by result.", "result"),
		commitFailures:  counterVec("commit_failures_total", "Partitions whose offset a commit left as it was, by the broker's error; none: no answer.", "code"),
		commitSeconds:   histogram("commit_seconds", "Duration of one commit.", fast),
		drains:          histogram("drain_seconds", "Duration of the drain when partitions are handed over.", prometheus.ExponentialBuckets(0.01, 2.5, 10)),
		abandoned:       prometheus.NewCounter(prometheus.CounterOpts{Name: "serbridge_abandoned_total", Help: "Records that a drain left unfinished for the next owner."}),
		lastDelivered:   prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "serbridge_last_delivered_timestamp_seconds", Help: "When a document was last delivered."}, []string{"topic", "format"}),
	}
}

func (m *metrics) register(r prometheus.Registerer) error {
	for _, c := range []prometheus.Collector{m.received, m.docs, m.skips, m.letters, m.attempts, m.probes, m.seconds, m.latency, m.late,
		m.restored, m.mapsIgnored, m.lostToRetention, m.commits, m.commitFailures, m.commitSeconds, m.drains, m.abandoned, m.lastDelivered, m} {
		if err := r.Register(c); err != nil {
			return err
		}
	}
	if m.b.pattern == nil { // else they are known when they are assigned
		for _, topic := range m.b.cfg.Topics {
			m.expect(topic)
		}
	}
	for _, result := range []string{"found", "absent", "failed"} {
		m.probes.WithLabelValues(result)
	}
	for _, cause := range frontier.Causes() {
		m.mapsIgnored.WithLabelValues(string(cause))
	}
	return nil
}

// expect makes the counters of a topic: one that is not there cannot raise an alarm.
func (m *metrics) expect(topic string) {
	m.received.WithLabelValues(topic)
	m.lostToRetention.WithLabelValues(topic)
	for _, reason := range transform.Reasons() {
		m.letters.WithLabelValues(topic, string(reason))
	}
	for _, reason := range deadletter.Reasons() {
		m.letters.WithLabelValues(topic, reason)
	}
	for _, reason := range transform.SkipReasons() {
		m.skips.WithLabelValues(topic, string(reason))
	}
}

func (m *metrics) skip(r *record, reason transform.SkipReason) {
	m.skips.WithLabelValues(r.k.Topic, string(reason)).Inc()
	m.mixes.count(r.p.topic, mix{away: 1})
}

func (m *metrics) mapIgnored(err error) {
	cause := "other"
	if e, ok := errors.AsType[*frontier.MapError](err); ok {
		cause = string(e.Cause)
	}
	m.mapsIgnored.WithLabelValues(cause).Inc()
}

func (m *metrics) delivered(d *document, now time.Time) {
	topic, format := d.r.k.Topic, d.doc.Format()
	m.docs.WithLabelValues(topic, format).Inc()
	m.mixes.count(d.topic, mix{delivered: 1})
	m.lastDelivered.WithLabelValues(topic, format).Set(float64(now.UnixMilli()) / 1000)
	m.latency.Observe(max(0, now.Sub(d.r.k.Timestamp).Seconds()))
}

func (m *metrics) deadLettered(r *record, reason string) {
	m.letters.WithLabelValues(r.k.Topic, reason).Inc()
	m.mixes.count(r.p.topic, mix{away: 1})
}

func (m *metrics) attempt(a stellar.Answer) {
	m.attempts.WithLabelValues(a.Verdict.String(), string(a.Certainty), a.Reason).Inc()
}

func (m *metrics) committed(refused refusals, took time.Duration) {
	for _, err := range refused {
		code := "none"
		if e, ok := errors.AsType[*kerr.Error](err); ok {
			code = e.Message
		}
		m.commitFailures.WithLabelValues(code).Inc()
	}
	result := "failed"
	if len(refused) == 0 {
		result = "ok"
		m.lastCommit.Store(time.Now().UnixNano())
	}
	m.commits.WithLabelValues(result).Inc()
	m.commitSeconds.Observe(took.Seconds())
}

func (m *metrics) drained(took time.Duration, abandoned int) {
	m.drains.Observe(took.Seconds())
	m.abandoned.Add(float64(abandoned))
}

var (
	exposureDesc  = desc("exposure_documents", "Room held under MAX_REPEATS: documents that a crash now could repeat, and those about to be sent.")
	waitingDesc   = desc("exposure_waiting", "Records that wait for room under MAX_REPEATS.")
	queuedDesc    = desc("records_in_memory", "Records received and not ended.")
	bytesDesc     = desc("records_in_memory_bytes", "Bytes of these, and of what compressed and framed ones may expand to.")
	gateDesc      = desc("gate_closed", "1 while the gate is closed, by reason.", "reason")
	limitDesc     = desc("concurrency_limit", "Attempts that may be on the wire.")
	flightDesc    = desc("in_flight", "Attempts on the wire.")
	shareDesc     = desc("rate_share", "This member's part of RATE_LIMIT, requests per second.")
	tokenDesc     = desc("token_expiry_timestamp_seconds", "When the access token expires.")
	commitAgeDesc = desc("commit_age_seconds", "Since the last acknowledged commit.")
	limitedDesc   = desc("limited_by", "1 at what keeps delivery from going faster now, 0 at the others.", "by")
	retentionDesc = desc("retention_seconds", "How long the topic keeps records (retention.ms); none where it is unlimited or may not be read.", "topic")
	headroomDesc  = desc("retention_headroom_seconds", "Until retention may remove the first record received and not settled, at the earliest; retention.bytes is not counted.", "topic", "partition")
	oldestDesc    = desc("oldest_unsettled_age_seconds", "Age of the oldest record received and not settled.", "topic", "partition")
	openDesc      = desc("records_unsettled", "Records received and not settled.", "topic", "partition")
	aboveDesc     = desc("settled_above_frontier", "Records settled above the first that is not: lag to Kafka, but no work.", "topic", "partition")
	baseDesc      = desc("frontier_base", "First offset that is not settled.", "topic", "partition")
	lagDesc       = desc("lag_records", "From the first offset that is not settled to the end of the log: lag as Kafka counts it.", "topic", "partition")
	backlogDesc   = desc("backlog_records", "Of these, without what is settled above: what is left to do.", "topic", "partition")
	progressDesc  = desc("last_settled_timestamp_seconds", "When a record of the partition was last settled.", "topic", "partition")
	runsDesc      = desc("commit_metadata_runs", "Runs in which the records settled above lie; few make short metadata, however wide.", "topic", "partition")
	mapDesc       = desc("commit_metadata_characters", "Length of the last commit's metadata.", "topic", "partition")
)

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("serbridge_"+name, help, labels, nil)
}

// Describe is prometheus.Collector's: the series differ from read to read.
func (m *metrics) Describe(c chan<- *prometheus.Desc) { c <- exposureDesc }

// Collect is prometheus.Collector's: it reads the state as it is now.
func (m *metrics) Collect(c chan<- prometheus.Metric) {
	b := m.b
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		c <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	gauge(exposureDesc, float64(b.exposure.Held()))
	gauge(waitingDesc, float64(b.exposure.Waiting()))
	records, bytes := b.queue.state()
	gauge(queuedDesc, float64(records))
	gauge(bytesDesc, float64(bytes))
	if closed, reason, _ := b.gate.state(); closed {
		gauge(gateDesc, 1, reason)
	} else {
		gauge(gateDesc, 0, "")
	}
	limit, inUse := b.slots.state()
	gauge(limitDesc, float64(limit))
	gauge(flightDesc, float64(inUse))
	if share, limited := b.tokens.rate(); limited {
		gauge(shareDesc, share)
	}
	if at, ok := b.cfg.Stellar.TokenExpiry(); ok {
		gauge(tokenDesc, float64(at.Unix()))
	}
	if at := m.lastCommit.Load(); at > 0 {
		gauge(commitAgeDesc, time.Since(time.Unix(0, at)).Seconds())
	}
	by := b.limitedBy()
	for _, l := range limits {
		gauge(limitedDesc, oneIf(l == by), string(l))
	}
	m.collectRetention(gauge)
	b.lettersAge.collect(gauge)
	m.mixes.collect(gauge)
	for _, p := range b.owned() {
		collectPartition(p, gauge)
		if retention, limited := b.retentionOf(p.topic); limited {
			collectHeadroom(p, retention, gauge)
		}
	}
}

func (m *metrics) collectRetention(gauge func(*prometheus.Desc, float64, ...string)) {
	m.b.mu.Lock()
	of := m.b.retention.of // replaced, never changed
	m.b.mu.Unlock()
	for topic, kept := range of {
		if kept.Time > 0 {
			gauge(retentionDesc, kept.Time.Seconds(), topic)
		}
	}
}

func collectHeadroom(p *partition, retention time.Duration, gauge func(*prometheus.Desc, float64, ...string)) {
	f := p.frontier()
	if f == nil {
		return
	}
	s := f.Stats()
	if left, known := p.headroom(s.Base, s.Open > 0, retention); known {
		gauge(headroomDesc, left.Seconds(), p.topic, strconv.Itoa(int(p.id)))
	}
}

func oneIf(yes bool) float64 {
	if yes {
		return 1
	}
	return 0
}

func collectPartition(p *partition, gauge func(*prometheus.Desc, float64, ...string)) {
	f := p.frontier()
	if f == nil {
		return
	}
	s, id := f.Stats(), strconv.Itoa(int(p.id))
	age := 0.0
	if !s.OldestOpen.IsZero() {
		age = time.Since(s.OldestOpen).Seconds()
	}
	gauge(oldestDesc, age, p.topic, id)
	gauge(openDesc, float64(s.Open), p.topic, id)
	gauge(aboveDesc, float64(s.SettledAbove), p.topic, id)
	gauge(baseDesc, float64(s.Base), p.topic, id)
	gauge(mapDesc, float64(s.MapCharacters), p.topic, id)
	gauge(runsDesc, float64(s.Runs), p.topic, id)
	if end := p.logEnd.Load(); end > 0 {
		lag := max(0, end-s.Base)
		gauge(lagDesc, float64(lag), p.topic, id)
		gauge(backlogDesc, float64(max(0, lag-int64(s.SettledAbove))), p.topic, id)
	}
	if at := p.lastSettled.Load(); at > 0 {
		gauge(progressDesc, float64(at/1e6)/1000, p.topic, id)
	}
}
