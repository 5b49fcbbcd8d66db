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
	members := v.Members()
	for i := range members {
		if m := &members[i]; len(m.Name) == len(name) && strings.EqualFold(m.Name, name) {
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
	root := &branch{twigs: make([]twig, 0, min(v.Len(), fewNames))}
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

// branch is an object that grows, with its members in the order in which they came.
type branch struct {
	twigs  []twig
	byName map[string]int // of a branch with many members
}

// twig is a member of a branch: a leaf, or a branch of its own once a dotted key has grown one.
type twig struct {
	name  string
	leaf  transform.Value
	inner *branch
}

// fewNames is how many names are compared one by one before a map is the faster way.
const fewNames = 32

// at returns the twig of that name, which it adds when there is none. It stays valid until the next call.
func (b *branch) at(name string) (t *twig, isNew bool) {
	if i := b.index(name); i >= 0 {
		return &b.twigs[i], false
	}
	b.twigs = append(b.twigs, twig{name: name})
	switch n := len(b.twigs); {
	case b.byName != nil:
		b.byName[name] = n - 1
	case n > fewNames:
		b.byName = make(map[string]int, 2*n)
		for i := range b.twigs {
			b.byName[b.twigs[i].name] = i
		}
	}
	return &b.twigs[len(b.twigs)-1], true
}

func (b *branch) index(name string) int {
	if b.byName != nil {
		if i, ok := b.byName[name]; ok {
			return i
		}
		return -1
	}
	return slices.IndexFunc(b.twigs, func(t twig) bool { return t.name == name })
}

// child returns the branch of that name. A leaf that stands there already keeps standing, and the branch is lost.
func (b *branch) child(name string) *branch {
	t, _ := b.at(name)
	if t.inner != nil {
		return t.inner
	}
	inner := new(branch)
	t.inner = inner
	if object := t.leaf; object.IsObject() {
		t.leaf = transform.Value{}
		for _, m := range object.Members() {
			inner.put(m.Name, m.Value)
		}
	}
	return inner
}

func (b *branch) put(name string, v transform.Value) {
	t, isNew := b.at(name)
	switch {
	case isNew, t.inner == nil && t.leaf.IsAbsent():
		t.leaf = v
	case v.IsObject() && (t.inner != nil || t.leaf.IsObject()):
		inner := b.child(name)
		for _, m := range v.Members() {
			inner.put(m.Name, m.Value)
		}
	}
}

func (b *branch) value() transform.Value {
	members := make([]transform.Member, len(b.twigs))
	for i := range b.twigs {
		t := &b.twigs[i]
		members[i] = transform.Member{Name: t.name, Value: t.leaf}
		if t.inner != nil && t.leaf.IsAbsent() {
			members[i].Value = t.inner.value()
		}
	}
	return transform.Object(members...)
}
