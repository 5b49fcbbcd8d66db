package stellartest

import (
	"fmt"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// ParseVariant reads a Variant in the form that POST /simulator/variant takes: one JSON object, durations as "1m30s". A
// name that is none of its members is an error.
func ParseVariant(text []byte) (Variant, error) {
	var v Variant
	if err := json.Unmarshal(text, &v, durations); err != nil {
		return Variant{}, fmt.Errorf("read a preset of the simulator: %w", err)
	}
	return v, nil
}

// Text is the form that ParseVariant reads, over several lines.
func (v Variant) Text() ([]byte, error) {
	text, err := json.Marshal(v, durations, jsontext.Multiline(true))
	if err != nil {
		return nil, fmt.Errorf("write a preset of the simulator: %w", err)
	}
	return append(text, '\n'), nil
}
