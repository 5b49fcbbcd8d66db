package format

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"strings"
	"sync"

	"go.yaml.in/yaml/v3"

	"serbridge/transform"
)

// mapping is one file: how a format, or one dialect of it, is recognised and read.
type mapping struct {
	name   string // of the file, without .yaml
	format string // as FORMATS names it
	title  string
	schema string // where the vendor describes it
	order  int    // formats with a lower one are tried first
	off    bool   // recognised, but mapped only when FORMATS names it
	fold   bool   // names of members are compared without regard to case
	dotted bool   // flat dotted keys are read like nested objects

	signs   []sign // the record is of this format
	strange []sign // it is of this source, and no detection
	rules   func() (*rules, error)
	hashed  string // name@hash
	source  []byte // the file
}

// fits reports whether a record bears one of the mapping's signs.
func (m *mapping) fits(record transform.Value) bool {
	return slices.ContainsFunc(m.signs, func(s sign) bool { return s.fits(record) })
}

// rules are a mapping's expressions. They are compiled when the first record of the format comes, since compiling all
// would cost each start a good part of a second.
type rules struct {
	source     string // event_source for a record that names none, and an installation that sets none
	expand     *expression
	skips      []skipRule
	fields     []fieldRule
	times      []*expression
	severity   []scale
	status     []scale
	detected   []fieldRule
	pairs      []*expression
	own        []fieldRule
	tactics    []*expression
	techniques []*expression
	from, to   []*expression
	identity   []*expression
	calls      int // in all of them
}

// skipRule says that a record for which when is true is no detection.
type skipRule struct {
	when   *expression
	reason transform.SkipReason
}

// fieldRule is a name and where its value comes from: the first expression that says something.
type fieldRule struct {
	name string
	from []*expression
}

// mappingCase is a record and what becomes of it, written in the mapping's own file.
type mappingCase struct {
	name, input string
	want        *yaml.Node
	line        int
}

// mappingName returns a mapping's name and the first 8 digits of the hash of its content: it tells which mapping made a
// stored document, also after the mapping was changed under the same name.
func mappingName(name, content string) string {
	sum := sha256.Sum256([]byte(content))
	return name + "@" + hex.EncodeToString(sum[:4])
}

// defaultOrder is that of a file without one.
const defaultOrder = 100

// parseMapping reads a file, all but its expressions. The hash leaves out the cases, which map nothing. What is kept is the
// file: its syntax tree takes many times the memory, and is made again where it is wanted.
func parseMapping(file string, content []byte) (*mapping, error) {
	m := &mapping{name: strings.TrimSuffix(file, ".yaml"), order: defaultOrder, source: content}
	d := &decoder{file: file}
	root, base := d.parse(content)
	d.header(m, root)
	d.cases(nodeAt(root, "cases"))
	if err := d.err(); err != nil {
		return nil, err
	}
	mapped, _, _ := strings.Cut(string(content), "\ncases:\n")
	m.hashed = mappingName(m.name, mapped+base)
	m.format = cmp.Or(m.format, m.name)
	m.rules = sync.OnceValues(func() (*rules, error) {
		d := &decoder{file: file, fold: m.fold}
		root, _ := d.parse(content)
		r := d.rules(root)
		return r, d.err()
	})
	return m, nil
}

// cases are those of the file.
func (m *mapping) cases() []mappingCase {
	d := &decoder{file: m.name + ".yaml"}
	root, _ := d.parse(m.source)
	return d.cases(nodeAt(root, "cases"))
}
