package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/sethvargo/go-envconfig"

	"serbridge/bridge/secret"
)

// row is one line of the table: a field of settings with what its tags say.
type row struct {
	section  string // field of settings that holds it
	name     string
	preset   string // default as it is read; empty: none
	shown    string // default in words, if it is not preset
	values   []string
	later    []string // values of later builds; "*": all
	min, max string
	doc      string
	required bool
	field    reflect.StructField
	index    []int
}

var (
	sourceType   = reflect.TypeFor[secret.Source]()
	durationType = reflect.TypeFor[time.Duration]()
	sizeType     = reflect.TypeFor[size]()
)

// fileSuffix makes the name of the file of a credential.
const fileSuffix = "_FILE"

func (r row) isSecret() bool { return r.field.Type == sourceType }
func (r row) isLater() bool  { return slices.Contains(r.later, "*") }

// names are the variables of this row.
func (r row) names() []string {
	if r.isSecret() {
		return []string{r.name, r.name + fileSuffix}
	}
	return []string{r.name}
}

// rowsOf lists the rows of a struct of sections, in the order of the source.
func rowsOf(target reflect.Type) []row {
	var rows []row
	for s := range target.NumField() {
		section := target.Field(s)
		for f := range section.Type.NumField() {
			field := section.Type.Field(f)
			if !field.IsExported() { // made of settings, and none itself
				continue
			}
			name, preset, _ := strings.Cut(field.Tag.Get("env"), ",default=")
			rows = append(rows, row{
				section: section.Name, name: name, preset: preset, field: field, index: []int{s, f},
				shown: field.Tag.Get("shown"), doc: field.Tag.Get("doc"), required: field.Tag.Get("required") == "true",
				values: split(field.Tag.Get("values")), later: split(field.Tag.Get("later")),
				min: field.Tag.Get("min"), max: field.Tag.Get("max"),
			})
		}
	}
	return rows
}

func split(tag string) []string {
	if tag == "" {
		return nil
	}
	return strings.Split(tag, "|")
}

// load reads the sections of target, a pointer to a struct of them, and finds every problem that one variable alone
// can have. red (which may be nil) remembers every credential.
func load(environ map[string]string, red *secret.Redactor, target any) problems {
	v := reflect.ValueOf(target).Elem()
	rows := rowsOf(v.Type())
	rememberAll(environ, red)
	var found problems
	for _, r := range rows {
		field := v.FieldByIndex(r.index)
		if r.isSecret() {
			source, fault := r.credential(environ, red)
			field.Set(reflect.ValueOf(source))
			found.add(fault...)
			continue
		}
		found.add(r.decode(environ, field)...)
	}
	found.add(nearMisses(environ, rows)...)
	return found
}

// rememberAll tells red the credentials of every section: one that was pasted into a variable of this section is one as
// well where its own is not read.
func rememberAll(environ map[string]string, red *secret.Redactor) {
	for _, r := range rowsOf(reflect.TypeFor[settings]()) {
		if r.isSecret() && r.field.Tag.Get("identity") != "true" {
			red.Add(environ[r.name])
		}
	}
}

// decode reads one variable into its field; a field whose variable has a problem stays zero.
func (r row) decode(environ map[string]string, field reflect.Value) (found problems) {
	value := strings.TrimSpace(environ[r.name])
	switch {
	case value == "" && r.required:
		found.sayf(r.name, "", "required: %s", r.doc)
	case value == "":
		if r.preset == "" {
			return nil
		}
		if _, err := r.parse(r.preset, field); err != nil {
			panic(fmt.Sprintf("default of %s: %v", r.name, err)) // a fault of the table, met by every test
		}
	case r.isLater(), slices.Contains(r.later, value):
		found.sayf(r.name, value, "not supported by this build%s", r.allowed())
	case r.values != nil && !slices.Contains(r.values, value):
		found.say(r.name, value, r.want())
	default:
		if parsed, err := r.parse(value, field); err != nil || !r.inRange(parsed) {
			field.SetZero()
			found.say(r.name, value, r.fault(err))
		} else if r.required && parsed.Kind() == reflect.Slice && parsed.Len() == 0 {
			found.sayf(r.name, value, "an empty list; required: %s", r.doc)
		}
	}
	return found
}

// parse sets field to a value by means of go-envconfig. Each variable is read alone, since envconfig ends at the
// first problem and we want all.
func (r row) parse(value string, field reflect.Value) (reflect.Value, error) {
	tag := reflect.StructTag(fmt.Sprintf("env:%q", r.name))
	one := reflect.New(reflect.StructOf([]reflect.StructField{{Name: r.field.Name, Type: r.field.Type, Tag: tag}}))
	err := envconfig.ProcessWith(context.Background(), &envconfig.Config{
		Target: one.Interface(), Lookuper: envconfig.MapLookuper(map[string]string{r.name: value}),
	})
	if err == nil {
		field.Set(one.Elem().Field(0))
	}
	return field, err
}

// fault says what is allowed; err is of a type of ours whose decoder says so itself, or need not be read.
func (r row) fault(err error) string {
	var want wantError
	if errors.As(err, &want) {
		return string(want)
	}
	return r.want()
}

// inRange compares with the tags min and max.
func (r row) inRange(v reflect.Value) bool {
	n, ok := number(v)
	if !ok {
		return true
	}
	for _, bound := range []struct {
		tag  string
		sign float64
	}{{r.min, 1}, {r.max, -1}} {
		if bound.tag == "" {
			continue
		}
		limit := reflect.New(v.Type()).Elem()
		if _, err := r.parse(bound.tag, limit); err != nil {
			panic(fmt.Sprintf("bound of %s: %v", r.name, err)) // a fault of the table, met by every test
		}
		if l, _ := number(limit); !(bound.sign*n >= bound.sign*l) { // so that NaN is out of every range
			return false
		}
	}
	return true
}

func number(v reflect.Value) (float64, bool) {
	switch {
	case v.CanInt():
		return float64(v.Int()), true
	case v.CanFloat():
		return v.Float(), true
	}
	return 0, false
}

// want says what is allowed, in words, for a type that has no words of its own.
func (r row) want() string {
	switch {
	case r.values != nil:
		return "want " + orList(r.values)
	case r.field.Type == durationType:
		return "want a duration " + r.span() + ", such as " + r.preset
	case r.field.Type == sizeType:
		return "want a number of bytes, KiB, MiB or GiB " + r.span() + ", such as " + r.preset
	case r.field.Type.Kind() == reflect.Int:
		return "want a whole number " + r.span()
	case r.field.Type.Kind() == reflect.Float64:
		return "want a number " + r.span()
	case r.field.Type.Kind() == reflect.Bool:
		return "want true or false"
	}
	return ""
}

// allowed is what a value of a later build can be replaced by.
func (r row) allowed() string {
	if r.isLater() {
		return ": leave it unset"
	}
	return ": " + r.want()
}

// span is the range of a number; empty without one.
func (r row) span() string {
	switch {
	case r.min != "" && r.max != "":
		return "from " + r.min + " to " + r.max
	case r.min != "":
		return "of at least " + r.min
	}
	return ""
}

func orList(values []string) string {
	if len(values) == 1 {
		return values[0]
	}
	last := len(values) - 1
	return strings.Join(values[:last], ", ") + " or " + values[last]
}

// credential makes the source of a secret, from its variable or the file that its other variable names. The file is
// not opened here: one that is not there yet heals, and must not end `run`.
func (r row) credential(environ map[string]string, red *secret.Redactor) (source secret.Source, found problems) {
	value, path := environ[r.name], strings.TrimSpace(environ[r.name+fileSuffix])
	if r.field.Tag.Get("identity") == "true" {
		red = nil
	}
	switch {
	case value == "" && path == "":
		if r.required {
			found.sayf(r.name, "", "required: set it or %s%s: %s", r.name, fileSuffix, r.doc)
		}
		return nil, found
	case r.isLater():
		found.sayf(r.name, "", "not supported by this build: leave it and %s%s unset", r.name, fileSuffix)
		return nil, found
	case value != "" && path != "":
		found.sayf(r.name, "", "set beside %s%s: want one of the two", r.name, fileSuffix)
	case strings.ContainsFunc(value, unicode.IsControl):
		found.say(r.name, "", "holds a line break or another control character")
	}
	if value == "" {
		return red.Watch(secret.File(path)), found
	}
	return red.Watch(secret.Literal(value)), found
}

// nearMisses finds variables that are almost one of ours: a misspelt setting is a setting that is not there, and
// its default may be what nobody wants. Others are not ours to judge.
func nearMisses(environ map[string]string, rows []row) (found problems) {
	ours := ourNames()
	for _, name := range slices.Sorted(maps.Keys(environ)) {
		if ours[name] {
			continue
		}
		best, nearest := 3, ""
		for _, r := range rows {
			for _, known := range r.names() {
				if d := distance(name, known); d < best && d <= tolerance(known) {
					best, nearest = d, known
				}
			}
		}
		if nearest != "" {
			found.sayf(strings.Trim(strconv.Quote(name), `"`), "", "no setting of serbridge: did you mean %s?", nearest)
		}
	}
	return found
}

// ourNames are the variables of all sections, whichever are being read.
func ourNames() map[string]bool {
	names := make(map[string]bool)
	for _, r := range rowsOf(reflect.TypeFor[settings]()) {
		for _, name := range r.names() {
			names[name] = true
		}
	}
	return names
}

// tolerance is how many edits away a name is still taken for ours: short names have too many neighbours.
func tolerance(name string) int {
	if len(name) >= 9 {
		return 2
	}
	return 1
}

// distance counts the letters to insert, delete or replace between two names; names whose lengths alone differ by
// more than any tolerance are simply far.
func distance(a, b string) int {
	if len(a)-len(b) > 2 || len(b)-len(a) > 2 {
		return 3
	}
	last := make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := range len(a) {
		diagonal := last[0]
		last[0] = i + 1
		for j := range len(b) {
			replace := diagonal
			if a[i] != b[j] {
				replace++
			}
			diagonal = last[j+1]
			last[j+1] = min(replace, last[j]+1, diagonal+1)
		}
	}
	return last[len(b)]
}
