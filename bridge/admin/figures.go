package admin

import (
	"fmt"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
)

// figures are the metrics at one moment, by name without the prefix of ours.
type figures map[string][]figure

type figure struct {
	labels map[string]string
	value  float64
}

const ours = "serbridge_"

// read gathers our own metrics. Gatherer nil has none.
func read(g prometheus.Gatherer) (figures, error) {
	all := make(figures)
	if g == nil {
		return all, nil
	}
	families, err := g.Gather()
	if err != nil {
		return all, fmt.Errorf("read metrics: %w", err)
	}
	for _, one := range families {
		all.add(one)
	}
	return all, nil
}

// add leaves out what is not ours.
func (f figures) add(family *dto.MetricFamily) {
	name, is := strings.CutPrefix(family.GetName(), ours)
	if !is {
		return
	}
	for _, m := range family.GetMetric() {
		f[name] = append(f[name], figureOf(m))
	}
}

func figureOf(m *dto.Metric) figure {
	labels := make(map[string]string, len(m.GetLabel()))
	for _, l := range m.GetLabel() {
		labels[l.GetName()] = l.GetValue()
	}
	return figure{labels, m.GetCounter().GetValue() + m.GetGauge().GetValue()}
}

// sum is over the series that have the label's value, or all with none.
func (f figures) sum(name string, label ...string) (total float64) {
	for _, one := range f[name] {
		if len(label) < 2 || one.labels[label[0]] == label[1] {
			total += one.value
		}
	}
	return total
}

// one is a metric without labels.
func (f figures) one(name string) (value float64, there bool) {
	if len(f[name]) == 0 {
		return 0, false
	}
	return f[name][0].value, true
}

func (f figures) most(name string) (most float64) {
	for _, one := range f[name] {
		most = max(most, one.value)
	}
	return most
}

// turnedAway are the topics most of which is turned away since a while.
func (f figures) turnedAway() (all []TurnedAway) {
	for _, since := range f["turned_away_since_timestamp_seconds"] {
		topic := since.labels["topic"]
		all = append(all, TurnedAway{
			Topic: topic, Since: time.Unix(int64(since.value), 0).UTC(),
			Ratio: f.sum("turned_away_ratio", "topic", topic), Before: f.sum("turned_away_before_ratio", "topic", topic),
		})
	}
	return all
}
