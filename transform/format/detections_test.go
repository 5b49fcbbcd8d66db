package format

import (
	"testing"

	"serbridge/transform"
)

// What waits in a pool must keep no record alive, whatever its last leaf was.
func TestReleasedScopeKeepsNothingOfTheRecord(t *testing.T) {
	var s scope
	s.see(transform.Value{}, transform.Value{}, nil, false, 2)
	s.said[1] = said{transform.String("of the first leaf"), true}
	s.see(transform.Value{}, transform.Value{}, nil, false, 1)
	s.reset()
	for _, kept := range s.said[:cap(s.said)] {
		if kept.known {
			t.Errorf("kept %s", kept.value.JSON())
		}
	}
}
