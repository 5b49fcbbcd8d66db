package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

const (
	askTimeout = 3 * time.Second // for one answer: a member that hangs is one that does not answer
	mostAnswer = 4 << 20         // bytes
)

// State is what a member says of itself at its admin address.
type State struct {
	Ready      bool         `json:"ready"`
	Reasons    []Reason     `json:"reasons"`     // why not
	TurnedAway []TurnedAway `json:"turned_away"` // topics of which far more is skipped or dead-lettered than before
	Exposure   *float64     `json:"exposure"`    // documents that a crash of it would repeat; nil: not known
}

// TurnedAway is a topic of which the part that is skipped or dead-lettered, 0 to 1, has jumped.
type TurnedAway struct {
	Topic  string    `json:"topic"`
	Ratio  float64   `json:"ratio"`
	Before float64   `json:"before"`
	Since  time.Time `json:"since"`
}

// asker follows no redirect and goes by no proxy: what is asked is the member itself.
var asker = &http.Client{
	Transport:     &http.Transport{DisableKeepAlives: true},
	Timeout:       askTimeout,
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
}

// Ask asks a member at host:port how it is. What it answers is a stranger's word until it is shown.
func Ask(ctx context.Context, address string) (State, error) {
	s := State{Reasons: []Reason{}, TurnedAway: []TurnedAway{}}
	err := errors.Join(ask(ctx, "http://"+address+"/readyz", s.readReadiness), ask(ctx, "http://"+address+"/metrics", s.readMetrics))
	if err != nil {
		s.Ready = false
	}
	return s, err
}

func ask(ctx context.Context, url string, read func(io.Reader) error) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	req.Header.Set("Accept", "application/json, text/plain;q=0.5")
	resp, err := asker.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK && resp.StatusCode != http.StatusServiceUnavailable {
		return fmt.Errorf("%s answers HTTP %d", url, resp.StatusCode)
	}
	if err := read(io.LimitReader(resp.Body, mostAnswer)); err != nil {
		return fmt.Errorf("%s is not the admin address of a serbridge: %w", url, err)
	}
	return nil
}

func (s *State) readReadiness(r io.Reader) error {
	var said readiness
	err := json.NewDecoder(r).Decode(&said)
	s.Ready, s.Reasons = said.Ready, append(s.Reasons, said.Reasons...)
	return err
}

func (s *State) readMetrics(r io.Reader) error {
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(r)
	if err != nil {
		return err
	}
	f := make(figures)
	for _, family := range families {
		f.add(family)
	}
	if held, there := f.one("exposure_documents"); there {
		s.Exposure = &held
	}
	s.TurnedAway = append(s.TurnedAway, f.turnedAway()...)
	return nil
}
