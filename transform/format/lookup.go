package format

import (
	"slices"
	"strings"

	"serbridge/transform"
)

// member returns a member of an object, with fold without regard to case.
func member(v transform.Value, name string, fold bool) transform.Value {
	if !fold {
		return v.Get(name)
	}
	if exact := v.Get(name); !exact.IsAbsent() {
		return exact
	}
	for _, m := range v.Members() {
		if len(m.Name) == len(name) && strings.EqualFold(m.Name, name) {
			return m.Value
		}
	}
	return transform.Value{}
}

// lookup follows a path such as kibana.alert.uuid, whether its parts are nested objects, one flat key or anything
// between: one document may hold all of these.
func lookup(v transform.Value, path string, fold bool) transform.Value {
	if found := member(v, path, fold); !found.IsAbsent() {
		return found
	}
	for i := 0; i < len(path); i++ {
		if path[i] != '.' {
			continue
		}
		inner := member(v, path[:i], fold)
		if inner.IsObject() {
			if found := lookup(inner, path[i+1:], fold); !found.IsAbsent() {
				return found
			}
		}
	}
	return transform.Value{}
}

// nested returns v with every flat dotted key as nested objects, so that one expression reads both ways of writing. A
// nested object and a dotted key of one name are merged; what was there first stands.
func nested(v transform.Value) transform.Value {
	if v.IsArray() {
		elements := make([]transform.Value, v.Len())
		for i := range elements {
			elements[i] = nested(v.Index(i))
		}
		return transform.Array(elements...)
	}
	if !v.IsObject() || !needsNesting(v) {
		return v
	}
	root := new(branch)
	for _, m := range v.Members() {
		at, name := root, m.Name
		for {
			first, rest, dotted := strings.Cut(name, ".")
			if !dotted || first == "" || rest == "" {
				break
			}
			at, name = at.child(first), rest
		}
		at.put(name, nested(m.Value))
	}
	return root.value()
}

func needsNesting(v transform.Value) bool {
	for _, m := range v.Members() {
		if strings.Contains(m.Name, ".") || (m.Value.IsObject() || m.Value.IsArray()) && needsNesting(m.Value) {
			return true
		}
	}
	if v.IsArray() {
		for i := range v.Len() {
			if e := v.Index(i); (e.IsObject() || e.IsArray()) && needsNesting(e) {
				return true
			}
		}
	}
	return false
}

// branch is an object that grows: leaves and branches in the order in which they came.
type branch struct {
	names  []string
	leaf   []transform.Value
	inner  []*branch
	byName map[string]int // of a branch with many names
}

// fewNames is how many names are compared one by one before a map is the faster way.
const fewNames = 24

func (b *branch) at(name string) (i int, isNew bool) {
	if b.byName == nil {
		i = slices.Index(b.names, name)
		if i >= 0 {
			return i, false
		}
	} else if i, ok := b.byName[name]; ok {
		return i, false
	}
	i = len(b.names)
	if i == fewNames {
		b.byName = make(map[string]int, 2*fewNames)
		for j, n := range b.names {
			b.byName[n] = j
		}
	}
	if b.byName != nil {
		b.byName[name] = i
	}
	b.names, b.leaf, b.inner = append(b.names, name), append(b.leaf, transform.Value{}), append(b.inner, nil)
	return i, true
}

// child returns the branch of that name. A leaf that stands there already keeps standing, and the branch is lost.
func (b *branch) child(name string) *branch {
	i, isNew := b.at(name)
	if b.inner[i] == nil {
		b.inner[i] = new(branch)
		if object := b.leaf[i]; !isNew && object.IsObject() {
			for _, m := range object.Members() {
				b.inner[i].put(m.Name, m.Value)
			}
			b.leaf[i] = transform.Value{}
		}
	}
	return b.inner[i]
}

func (b *branch) put(name string, v transform.Value) {
	i, isNew := b.at(name)
	switch {
	case isNew:
		b.leaf[i] = v
	case b.inner[i] != nil && v.IsObject():
		for _, m := range v.Members() {
			b.inner[i].put(m.Name, m.Value)
		}
	case b.inner[i] == nil && b.leaf[i].IsObject() && v.IsObject():
		inner := b.child(name)
		for _, m := range v.Members() {
			inner.put(m.Name, m.Value)
		}
	case b.leaf[i].IsAbsent() && b.inner[i] == nil:
		b.leaf[i] = v
	}
}

func (b *branch) value() transform.Value {
	members := make([]transform.Member, len(b.names))
	for i, name := range b.names {
		members[i] = transform.Member{Name: name, Value: b.leaf[i]}
		if b.inner[i] != nil && b.leaf[i].IsAbsent() {
			members[i].Value = b.inner[i].value()
		}
	}
	return transform.Object(members...)
}
