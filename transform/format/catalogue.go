package format

import (
	"cmp"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"sync"

	"serbridge/transform"
)

//go:embed *.yaml
var files embed.FS

// catalogue is a set of mappings, ready to recognise.
type catalogue struct {
	mappings []*mapping // in the order in which they are tried
	byName   map[string]*mapping
	ours     signs // of detections
	strange  signs // of what the same sources send beside them
	formats  []string
}

// builtIn are the mappings in this package's own files. That they can be read is held by a test; to panic here is to
// stop at the start, before the first record.
var builtIn = sync.OnceValue(func() *catalogue {
	c, err := load(files)
	if err != nil {
		panic(err)
	}
	return c
})

// genericName is the mapping by common names, which recognises nothing and is asked last, with ON_UNKNOWN=generic.
const genericName = "generic"

// load reads all mapping files of the directories, all problems of all files at once. A file stands in for one of its
// name in a directory before.
func load(dirs ...fs.FS) (*catalogue, error) {
	content, err := readFiles(dirs)
	if err != nil {
		return nil, err
	}
	c := &catalogue{byName: make(map[string]*mapping)}
	var problems []error
	for _, name := range slices.Sorted(maps.Keys(content)) {
		m, err := parseMapping(name, content[name])
		if err != nil {
			problems = append(problems, err)
			continue
		}
		c.mappings = append(c.mappings, m)
	}
	if problems != nil {
		return nil, errors.Join(problems...)
	}
	c.sort()
	return c, nil
}

func readFiles(dirs []fs.FS) (map[string][]byte, error) {
	content := make(map[string][]byte)
	for _, dir := range dirs {
		if _, err := fs.Stat(dir, "."); err != nil { // Glob would find nothing, and say nothing
			return nil, fmt.Errorf("list mappings: %w", err)
		}
		names, err := fs.Glob(dir, "*.yaml")
		if err != nil {
			return nil, fmt.Errorf("list mappings: %w", err)
		}
		for _, name := range names {
			if content[name], err = fs.ReadFile(dir, name); err != nil {
				return nil, fmt.Errorf("read mapping: %w", err)
			}
		}
	}
	return content, nil
}

// sort puts the mappings into their order and indexes their signs.
func (c *catalogue) sort() {
	slices.SortStableFunc(c.mappings, func(a, b *mapping) int {
		return cmp.Or(cmp.Compare(a.order, b.order), strings.Compare(a.name, b.name))
	})
	for rank, m := range c.mappings {
		c.byName[m.name] = m
		if m.name != genericName && !slices.Contains(c.formats, m.format) {
			c.formats = append(c.formats, m.format)
		}
		for _, s := range m.signs {
			c.ours.add(rank, s)
		}
		for _, s := range m.strange {
			c.strange.add(rank, s)
		}
	}
}

// recognise returns the mapping of a leaf, or nil. One that is switched off is noted in the leaf: its records are no
// strangers.
func (c *catalogue) recognise(l *leaf, settings *transform.Settings) *mapping {
	record := l.record
	if enabled(aellaSERName, settings) && isAellaSER(record, len(l.outer) > 0) {
		return aellaSER
	}
	rank, ok := c.ours.find(record, func(rank int) bool {
		m := c.mappings[rank]
		switch {
		case m.off && !named(m.format, settings):
			l.isOff = l.isOff || enabled(m.format, settings) && m.fits(record)
			return false
		default:
			return enabled(m.format, settings)
		}
	})
	if ok {
		return c.mappings[rank]
	}
	return nil
}

// judge says what a record is that no format in FORMATS recognises.
func (c *catalogue) judge(l *leaf, settings *transform.Settings) {
	if l.reject != nil {
		return
	}
	_, isStrange := c.strange.find(l.record, func(rank int) bool { return enabled(c.mappings[rank].format, settings) })
	forced := c.forced(settings)
	switch {
	case l.isOff:
		l.skip = transform.FormatOff
	case isStrange:
		l.skip = transform.NotADetection
	case forced != nil && l.record.IsObject():
		l.mapping = forced
	case settings != nil && settings.OnUnknown == genericName && l.record.IsObject():
		l.mapping = c.byName[genericName]
	default:
		l.reject = &transform.Reject{Reason: transform.UnknownFormat, Detail: l.unknown()}
	}
}

// forced is the mapping that FORMATS asks for when it names one format alone: then a record is read as that format also
// where what it is usually recognised by is missing. A format in several dialects cannot be forced.
func (c *catalogue) forced(settings *transform.Settings) *mapping {
	if settings == nil || len(settings.Formats) != 1 {
		return nil
	}
	var only *mapping
	for _, m := range c.mappings {
		if m.format != settings.Formats[0] || m.name == genericName {
			continue
		}
		if only != nil {
			return nil
		}
		only = m
	}
	return only
}

func enabled(name string, settings *transform.Settings) bool {
	if settings == nil || len(settings.Formats) == 0 {
		return true
	}
	return slices.Contains(settings.Formats, auto) || slices.Contains(settings.Formats, name)
}

func named(name string, settings *transform.Settings) bool {
	return settings != nil && slices.Contains(settings.Formats, name)
}
