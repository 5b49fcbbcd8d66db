package format

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"sync/atomic"

	"serbridge/transform"
)

// custom are the built-in mappings with those of an installation; nil: the built-in ones alone.
var custom atomic.Pointer[catalogue]

func inUse() *catalogue {
	if c := custom.Load(); c != nil {
		return c
	}
	return builtIn()
}

// Use adds the mapping files of a directory to the built-in ones, for the whole process: one of a built-in's name stands
// in for it, one that extends a built-in takes from it what it does not say itself. It is called once, before the first
// record, and reads the directory then. The error names every problem of every file, with line, column and field; then
// nothing has changed.
func Use(dir fs.FS) error {
	c, err := withCustom(dir)
	if err != nil {
		return err
	}
	custom.Store(c)
	return nil
}

// withCustom is the built-in mappings with those of dir, whose expressions are compiled at once: a mistake is to show
// at the start, and not with the first record of its format.
func withCustom(dir fs.FS) (*catalogue, error) {
	c, err := load(files, dir)
	if err != nil {
		return nil, err
	}
	var problems []error
	for _, m := range c.mappings {
		if !isFileOf(dir, m.name) {
			continue
		}
		if m.format == aellaSERName || m.name == aellaSERName {
			problems = append(problems, fmt.Errorf("%s.yaml: %s is no mapping that a file could change", m.name, aellaSERName))
		}
		if len(m.signs) == 0 && m.name != genericName {
			problems = append(problems, fmt.Errorf("%s.yaml: recognise: want how a record of this format is known", m.name))
		}
		if _, err := m.rules(); err != nil {
			problems = append(problems, err)
		}
	}
	return c, errors.Join(problems...)
}

func isFileOf(dir fs.FS, name string) bool {
	_, err := fs.Stat(dir, name+".yaml")
	return err == nil
}

// Mapping is one mapping file, for a person to look at.
type Mapping struct {
	Name, Format, Title, Schema string
	Off                         bool   // mapped only when FORMATS names its format
	Hash                        string // name@hash, as documents carry it
	Source                      string // the file
	Cases                       int
}

// Mappings returns all that are in use, in the order in which they are tried.
func Mappings() []Mapping {
	c := inUse()
	all := make([]Mapping, len(c.mappings))
	for i, m := range c.mappings {
		all[i] = Mapping{m.name, m.format, m.title, m.schema, m.off, m.hashed, string(m.source), len(m.cases())}
	}
	return all
}

// Fingerprint tells the mappings in use from others, that of aella-ser's own fields included.
func Fingerprint() string { return inUse().fingerprint() }

func (c *catalogue) fingerprint() string {
	names := []string{aellaSERMapping}
	for _, m := range c.mappings {
		names = append(names, m.hashed)
	}
	return strings.Join(names, " ")
}

// RunCases runs the cases of all mappings, or with dir those of its files, and returns how many there are and what differs
// from what they want, one line each. The error is that of files that cannot be read or compiled.
func RunCases(dir fs.FS) (cases int, differences []string, err error) {
	c := builtIn()
	if dir != nil {
		if c, err = withCustom(dir); err != nil {
			return 0, nil, err
		}
	}
	for _, m := range c.mappings {
		if dir == nil || isFileOf(dir, m.name) {
			cases += len(m.cases())
			differences = append(differences, c.check(m)...)
		}
	}
	return cases, differences, nil
}

// String names a mapping with what it is.
func (m Mapping) String() string {
	return strings.Join(slices.DeleteFunc([]string{m.Name, m.Title}, func(s string) bool { return s == "" }), ": ")
}

// Against returns Transform as it would be with the mapping files of dir beside the built-in ones, in place of those that
// are in use: for a comparison. The error is that of Use.
func Against(dir fs.FS) (func(transform.Input) transform.Result, error) {
	c, err := withCustom(dir)
	if err != nil {
		return nil, err
	}
	return c.transform, nil
}
