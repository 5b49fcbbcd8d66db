package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"serbridge/bridge/backfill"
	"serbridge/bridge/pause"
	"serbridge/transform/format"
)

// pin is a flag or a setting that has to be the same in every process of a run, and after a resumption: it rules what is
// delivered, and a run of which one half was filtered by another condition is neither's.
type pin struct {
	flag    string // empty: the arguments, or a setting
	begun   bool   // it rules only how a run begins: who joins without it means what stands
	setting string
	of      func(settings) any
}

// settingPins are of the settings that rule what becomes of a record, and where it goes. A new one goes to the end of
// the pins of a run: see backfill.Asked.
var settingPins = []pin{
	{setting: "the mappings (MAPPING_DIR, or those of this build)", of: func(settings) any { return format.Fingerprint() }},
	{setting: "STREAMS_FILE", of: func(s settings) any { return s.Transform.StreamsFile.content }},
	{setting: "FORMATS", of: func(s settings) any { return s.Transform.Formats }},
	{setting: "EVENT_SOURCE", of: func(s settings) any { return s.Transform.EventSource }},
	{setting: "EVENT_STATUS", of: func(s settings) any { return s.Transform.EventStatus }},
	{setting: "SEVERITY_DEFAULT", of: func(s settings) any { return s.Transform.SeverityDefault }},
	{setting: "TIME_ZONE", of: func(s settings) any { return s.Transform.TimeZone.name() }},
	{setting: "ON_UNKNOWN", of: func(s settings) any { return s.Transform.OnUnknown }},
	{setting: "CUSTOM_NAMESPACE", of: func(s settings) any { return s.Transform.CustomNamespace }},
	{setting: "CUSTOM_FIELDS", of: func(s settings) any { return s.Transform.CustomFields }},
	{setting: "RAW_BYTES", of: func(s settings) any { return s.Transform.RawBytes }},
	{setting: "MAX_DOCUMENT_BYTES", of: func(s settings) any { return s.Transform.MaxDocumentBytes }},
	{setting: "MAX_FANOUT", of: func(s settings) any { return s.Transform.MaxFanout }},
	{setting: "MAX_DEPTH", of: func(s settings) any { return s.Transform.MaxDepth }},
	{setting: "SCHEMA_REGISTRY_URL", of: func(s settings) any { return s.Registry.URL }},
	{setting: "STELLAR_URL", of: func(s settings) any { return s.Stellar.URL }},
	{setting: "STELLAR_USER", of: func(s settings) any { return userOf(s.Stellar) }},
	{setting: "DLQ_TOPIC", of: func(s settings) any { return s.DLQ.Topic }},
}

// userOf is empty where there is none, or none that can be read now.
func userOf(s stellarSettings) string {
	if s.User == nil {
		return ""
	}
	user, _ := s.User()
	return user
}

// value is what this process has of it.
func (r *boundedRun) value(p pin) string {
	switch {
	case p.of != nil:
		return fmt.Sprint(p.of(r.settings))
	case p.flag == "":
		return strings.Join(r.words, " ")
	}
	return r.flags.Lookup(p.flag).Value.String()
}

// asked is what this process asks for.
func (r *boundedRun) asked() (a backfill.Asked) {
	for _, p := range r.pins {
		a.Add(r.value(p))
	}
	return a
}

var errOtherwise = errors.New("run was begun otherwise")

// agree refuses to take part in a run that was begun with other flags or settings and is not complete.
func (r *boundedRun) agree(p backfill.Plan) error {
	if p.Complete() {
		return nil
	}
	var other []string
	hint := ""
	for _, i := range r.asked().Differ(p.Asked) {
		switch pin := r.pins[i]; {
		case pin.of != nil:
			other = append(other, pin.setting)
			hint = ". If something was mended and what is left is meant to be as it is by now: --" + newSettingsFlag + ", once no other process takes part"
		case pin.flag == "":
			other = append(other, "the letters that are named")
		case !pin.begun || r.flags.Changed(pin.flag):
			other = append(other, "--"+pin.flag)
		}
	}
	if len(other) == 0 {
		return nil
	}
	return usageError{fmt.Errorf("take part in run %s: %w: it has another value of %s. Every process of a run, and whoever goes on with it, wants "+
		"the same: give what began it, or begin another run (another --run-id)%s", r.run.ID, errOtherwise, strings.Join(other, ", "), hint)}
}

// goOn takes part in a run that has begun. With --new-settings what is left of it is as this process has it.
func (r *boundedRun) goOn(ctx context.Context, p *backfill.Plan) (*backfill.Plan, error) {
	asked := p.Asked
	for i, pin := range r.pins {
		if r.newSettings && pin.of != nil {
			asked = asked.With(i, r.value(pin))
		}
	}
	if slices.Equal(asked, p.Asked) || p.Complete() {
		return p, r.agree(*p)
	}
	p.Asked = asked
	if err := r.agree(*p); err != nil {
		return nil, err
	}
	switch err := r.run.Ask(ctx, asked); {
	case errors.Is(err, backfill.ErrTakesPart):
		return nil, fmt.Errorf("change run %s: %w: end them first (SIGTERM); one that was killed counts until its session ends (KAFKA_SESSION_TIMEOUT, %s)",
			r.run.ID, err, r.settings.Kafka.SessionTimeout)
	case err != nil:
		return nil, r.explain(ctx, err)
	}
	return p, nil
}

// agreement lets a process begin records only once it is known that the run is what it was asked for. It looks when the
// run has members: from then on Kafka takes bounds from nobody else.
type agreement struct {
	run *boundedRun

	mu     sync.Mutex
	agreed bool
}

const agreeAgain = time.Second

// begin waits until that is known, or ends the run. A broker that does not answer holds it.
func (a *agreement) begin(ctx context.Context, plan backfill.Plan, stop context.CancelCauseFunc) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	for !a.agreed {
		look, cancel := context.WithTimeout(ctx, planWithin)
		now, err := a.run.run.Progress(look, plan)
		cancel()
		if err == nil {
			if err := a.run.agree(now); err != nil {
				stop(err)
				<-ctx.Done()
				return context.Cause(ctx)
			}
			a.agreed = true
			return nil
		}
		if err := pause.For(ctx, agreeAgain); err != nil {
			return err
		}
	}
	return nil
}
