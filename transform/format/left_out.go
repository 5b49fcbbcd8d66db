package format

import (
	"sync"

	"github.com/go-json-experiment/json/jsontext"

	"serbridge/transform"
)

// filterKey names a compiled filter: what it says, and whether the names of members are compared without case.
type filterKey struct {
	source string
	fold   bool
}

// filters are the compiled ones; there are as many as the configuration has.
var filters sync.Map // filterKey → *expression

// filterOf compiles a filter at its first record. One that cannot be compiled, which ReadStreams refuses, leaves nothing out.
func filterOf(key filterKey) *expression {
	if x, ok := filters.Load(key); ok {
		return x.(*expression)
	}
	x, _ := compile(key.source, key.fold, nil)
	filters.Store(key, x)
	return x
}

// leavesOut reports whether the topic's filter says false of a record. What it says nothing of is kept, so that no odd value
// costs a detection. The only error is errCost.
func leavesOut(settings *transform.Settings, s *scope) (bool, error) {
	if settings == nil || settings.Filter == "" {
		return false, nil
	}
	x := filterOf(filterKey{settings.Filter, s.fold})
	if x == nil {
		return false, nil
	}
	v, err := x.eval(s)
	return v.Kind() == jsontext.KindFalse, err
}

// filter leaves out what no mapping reads: the index's own format, and records of no known one. Those of a mapping are
// judged element by element. What could not be read at all stays the reject that it is.
func (l *leaf) filter(settings *transform.Settings) {
	isUnknown := l.reject != nil && l.reject.Reason == transform.UnknownFormat
	if l.skip != "" || l.mapping != aellaSER && !isUnknown {
		return
	}
	isLeftOut, err := leavesOut(settings, &scope{r: l.record, leaf: l})
	switch {
	case err != nil:
		l.reject = &transform.Reject{Reason: transform.MappingCost, Detail: "the topic's filter looked at more of the record than it may"}
	case isLeftOut:
		l.skip, l.reject = transform.Filtered, nil
	}
}
