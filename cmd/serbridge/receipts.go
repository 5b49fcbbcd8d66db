package main

import (
	"context"
	"net/url"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kgo"

	"serbridge/bridge"
	"serbridge/bridge/receipt"
)

// ownTopics are those that no pattern must match.
func (s settings) ownTopics() []string {
	own := []string{s.DLQ.Topic, s.DLQ.handledTopic()}
	if s.Receipts.Topic != "" {
		own = append(own, s.Receipts.Topic)
	}
	return own
}

// host is the platform's, as a receipt names it.
func (s stellarSettings) host() string {
	u, err := url.Parse(s.URL)
	if err != nil {
		return ""
	}
	return u.Host
}

func (v *service) receiptConfig(options []kgo.Opt) receipt.Config {
	s := v.settings
	return receipt.Config{
		Options: options, Topic: s.Receipts.Topic, Retention: s.Receipts.Retention, Sources: s.Kafka.named, Hold: s.Delivery.DrainTimeout,
		Host: s.Stellar.host(), User: s.Stellar.User, Group: s.Kafka.Group, Run: newRunID(), Instance: s.Kafka.instance(), Bridge: buildVersion(),
		Trouble: v.receiptTrouble, Redact: v.redactor.Redact, Logger: v.log,
	}
}

// receiptTrouble says on /readyz that receipts are not written.
func (v *service) receiptTrouble(why string) {
	if why == "" {
		v.health.Ready("receipts")
		return
	}
	v.health.NotReady("receipts", why)
}

// takeReceipt writes a receipt of each outcome, but for a record that was not asked for.
func (v *service) takeReceipt(ctx context.Context, o bridge.Outcome) error {
	if o.Reading.Skip != "" {
		return nil
	}
	return v.receipts.Take(ctx, receipt.Of(o, time.Now()))
}

func (v *service) countReceipts() {
	w := v.receipts
	for _, c := range []struct {
		name, help string
		of         func(receipt.Stats) int64
	}{
		{"written", "Receipts that the receipts topic has acknowledged.", func(s receipt.Stats) int64 { return s.Written }},
		{"lost", "Receipts that are in no topic, because RECEIPTS_TOPIC did not take them for longer than DRAIN_TIMEOUT.", func(s receipt.Stats) int64 { return s.Lost }},
	} {
		v.registry.MustRegister(prometheus.NewCounterFunc(
			prometheus.CounterOpts{Name: "serbridge_receipts_" + c.name + "_total", Help: c.help},
			func() float64 { return float64(c.of(w.Stats())) }))
	}
	v.registry.MustRegister(prometheus.NewGaugeFunc(
		prometheus.GaugeOpts{Name: "serbridge_receipts_waiting", Help: "Receipts that the receipts topic has not acknowledged yet."},
		func() float64 { return float64(w.Stats().Waiting) }))
}
