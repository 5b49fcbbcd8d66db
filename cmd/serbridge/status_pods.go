package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"serbridge/bridge/admin"
)

const (
	podTimeout   = 3 * time.Second // for one answer: a pod that hangs is one that does not answer
	mostOfAPod   = 4 << 20         // bytes of an answer
	podsAtATime  = 8
	mostPodNames = 256
)

// podStanding is what one member says of itself.
type podStanding struct {
	Address    string         `json:"address"`
	Ready      bool           `json:"ready"`
	Reasons    []admin.Reason `json:"reasons"`     // why not
	TurnedAway []turnedAway   `json:"turned_away"` // topics far more of which is skipped or dead-lettered than before
	Exposure   *float64       `json:"exposure"`    // documents that a crash of it would repeat; null: not known
	Fault      string         `json:"fault,omitempty"`
}

// turnedAway is a topic of which the ratio of what was skipped or dead-lettered has jumped.
type turnedAway struct {
	Topic  string    `json:"topic"`
	Ratio  float64   `json:"ratio"`
	Before float64   `json:"before"`
	Since  time.Time `json:"since"`
}

// readPods asks every member at its admin address. A name stands for all the addresses that it has, as a headless service's does.
func (s *status) readPods(ctx context.Context, now *groupReading) []podStanding {
	var addresses []string
	for _, pod := range s.pods {
		found, err := podAddresses(ctx, pod)
		if err != nil {
			now.remark("the pods of %s are not known: %v", pod, err)
		}
		addresses = append(addresses, found...)
	}
	addresses = sortedOnce(addresses)
	if len(addresses) > mostPodNames {
		now.remark("only the first %d of %d pods are asked", mostPodNames, len(addresses))
		addresses = addresses[:mostPodNames]
	}
	pods := make([]podStanding, len(addresses))
	turns := make(chan struct{}, podsAtATime)
	var all sync.WaitGroup
	for i, address := range addresses {
		all.Go(func() {
			turns <- struct{}{}
			defer func() { <-turns }()
			pods[i] = readPod(ctx, address)
		})
	}
	all.Wait()
	return pods
}

func podAddresses(ctx context.Context, pod string) (addresses []string, err error) {
	host, port, err := net.SplitHostPort(pod)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, podTimeout)
	defer cancel()
	found, err := net.DefaultResolver.LookupHost(ctx, host)
	for _, ip := range found {
		addresses = append(addresses, net.JoinHostPort(ip, port))
	}
	return addresses, err
}

// podClient follows no redirect and goes by no proxy: what is asked is the pod itself.
var podClient = &http.Client{
	Transport:     &http.Transport{DisableKeepAlives: true},
	Timeout:       podTimeout,
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
}

func readPod(ctx context.Context, address string) podStanding {
	p := podStanding{Address: address, Reasons: []admin.Reason{}, TurnedAway: []turnedAway{}}
	err := errors.Join(
		askPod(ctx, "http://"+address+"/readyz", func(r io.Reader) error { return json.NewDecoder(r).Decode(&p) }),
		askPod(ctx, "http://"+address+"/metrics", p.readMetrics))
	if err != nil {
		p.Fault, p.Ready = err.Error(), false
	}
	p.Address = address // whatever the answer says
	return p
}

func askPod(ctx context.Context, url string, read func(io.Reader) error) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	req.Header.Set("Accept", "application/json, text/plain;q=0.5")
	resp, err := podClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK && resp.StatusCode != http.StatusServiceUnavailable {
		return fmt.Errorf("%s answers HTTP %d", url, resp.StatusCode)
	}
	if err := read(io.LimitReader(resp.Body, mostOfAPod)); err != nil {
		return fmt.Errorf("%s is not the admin address of a serbridge: %w", url, err)
	}
	return nil
}

// readMetrics takes what the verdict needs from the member's metrics.
func (p *podStanding) readMetrics(r io.Reader) error {
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(r)
	if err != nil {
		return err
	}
	if held := families["serbridge_exposure_documents"].GetMetric(); len(held) > 0 {
		p.Exposure = new(gaugeOf(held, ""))
	}
	for _, m := range families["serbridge_turned_away_since_timestamp_seconds"].GetMetric() {
		topic := topicOf(m)
		p.TurnedAway = append(p.TurnedAway, turnedAway{
			Topic: topic, Since: time.Unix(int64(m.GetGauge().GetValue()), 0).UTC(),
			Ratio:  gaugeOf(families["serbridge_turned_away_ratio"].GetMetric(), topic),
			Before: gaugeOf(families["serbridge_turned_away_before_ratio"].GetMetric(), topic),
		})
	}
	return nil
}

func topicOf(m *dto.Metric) string {
	for _, l := range m.GetLabel() {
		if l.GetName() == "topic" {
			return l.GetValue()
		}
	}
	return ""
}

// gaugeOf is the gauge of that topic, 0 if there is none.
func gaugeOf(metrics []*dto.Metric, topic string) float64 {
	for _, m := range metrics {
		if topicOf(m) == topic {
			return m.GetGauge().GetValue()
		}
	}
	return 0
}

// judgePods says why members do not deliver: each reason once, since it was first one, and of how many.
func (st *standing) judgePods() {
	var texts []string
	since, of := make(map[string]time.Time), make(map[string]int)
	for _, p := range st.Pods {
		if p.Fault != "" {
			st.warn("pod "+p.Address+" does not answer: "+p.Fault, "see whether it runs, and its log")
		}
		for _, r := range p.Reasons {
			if of[r.Text]++; of[r.Text] == 1 {
				texts = append(texts, r.Text)
			}
			if first, ok := since[r.Text]; !ok || r.Since.Before(first) {
				since[r.Text] = r.Since
			}
		}
		for _, t := range p.TurnedAway {
			st.warn(fmt.Sprintf("%.0f %% of %s skipped or dead-lettered since %s, was %.0f %%", 100*t.Ratio, t.Topic, st.clock(t.Since), 100*t.Before),
				"see what the topic holds: serbridge transform --topic "+t.Topic+" --last 20")
		}
	}
	for _, text := range texts {
		st.fail(fmt.Sprintf("since %s, %d of %s: %s", st.clock(since[text]), of[text], count(len(st.Pods), "pod"), text), "the page at its admin address says more")
	}
}
