package format

import (
	"fmt"
	"reflect"
	"strconv"
	"strings"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/common/types/traits"
	"github.com/go-json-experiment/json/jsontext"

	"serbridge/transform"
)

// operand shows a value of a record to CEL. Objects stay where they are and are read member by member, so that an
// expression costs what it looks at, not what the record holds.
func operand(v transform.Value, fold bool) ref.Val {
	switch v.Kind() {
	case jsontext.KindString:
		text, _ := v.Text()
		return types.String(text)
	case jsontext.KindNumber:
		return numberOperand(v)
	case jsontext.KindTrue:
		return types.True
	case jsontext.KindFalse:
		return types.False
	case jsontext.KindBeginObject:
		return object{v, fold}
	case jsontext.KindBeginArray:
		elements := make([]ref.Val, v.Len())
		for i := range elements {
			elements[i] = operand(v.Index(i), fold)
		}
		return types.NewRefValList(types.DefaultTypeAdapter, elements)
	}
	return absent{}
}

// numberOperand is an integer of 64 bits, or a float. An expression that only looks a number up keeps its every digit,
// since that is no matter of CEL: see expression.
func numberOperand(v transform.Value) ref.Val {
	text, _ := v.Text()
	if n, err := strconv.ParseInt(text, 10, 64); err == nil {
		return types.Int(n)
	}
	f, _ := strconv.ParseFloat(text, 64)
	return types.Double(f)
}

// value is what an expression's result says as a value of a document.
func value(result ref.Val) transform.Value {
	switch r := result.(type) {
	case types.String:
		return transform.String(string(r))
	case types.Int:
		return transform.Number(strconv.FormatInt(int64(r), 10))
	case types.Uint:
		return transform.Number(strconv.FormatUint(uint64(r), 10))
	case types.Double:
		return transform.Number(strconv.FormatFloat(float64(r), 'f', -1, 64)) // absent for NaN and infinities
	case types.Bool:
		return transform.Bool(bool(r))
	case object:
		return r.v
	case traits.Lister:
		n, _ := r.Size().(types.Int)
		elements := make([]transform.Value, n)
		for i := range elements {
			elements[i] = value(r.Get(types.Int(i)))
		}
		return transform.Array(elements...)
	}
	return transform.Value{}
}

// absent is null, and whatever is not there. What is looked up in it is absent too, so that no expression has to ask
// for each step of a path.
type absent struct{}

func (absent) ConvertToNative(reflect.Type) (any, error) { return nil, nil }
func (absent) ConvertToType(t ref.Type) ref.Val {
	if t == types.StringType {
		return types.String("")
	}
	return types.NewErr("nothing converted to %s", t.TypeName())
}
func (absent) Equal(other ref.Val) ref.Val { return types.Bool(other.Type() == types.NullType) }
func (absent) Type() ref.Type              { return types.NullType }
func (absent) Value() any                  { return nil }
func (absent) Get(ref.Val) ref.Val         { return absent{} }
func (absent) IsSet(ref.Val) ref.Val       { return types.False }

// objectType names objects of a record in CEL's own messages.
var objectType = cel.ObjectType("object", traits.IndexerType, traits.FieldTesterType, traits.ContainerType, traits.SizerType, traits.IterableType)

// object is an object of a record.
type object struct {
	v    transform.Value
	fold bool
}

func (o object) ConvertToNative(t reflect.Type) (any, error) {
	return nil, fmt.Errorf("an object converted to %v", t)
}
func (o object) ConvertToType(t ref.Type) ref.Val {
	return types.NewErr("an object converted to %s", t.TypeName())
}
func (o object) Equal(other ref.Val) ref.Val {
	p, ok := other.(object)
	return types.Bool(ok && o.v.Canonical().JSON() == p.v.Canonical().JSON())
}
func (o object) Type() ref.Type { return objectType }
func (o object) Value() any     { return o.v }
func (o object) Get(name ref.Val) ref.Val {
	s, _ := name.(types.String)
	return operand(member(o.v, string(s), o.fold), o.fold)
}
func (o object) IsSet(name ref.Val) ref.Val {
	s, _ := name.(types.String)
	return types.Bool(!member(o.v, string(s), o.fold).IsAbsent())
}
func (o object) Contains(name ref.Val) ref.Val { return o.IsSet(name) }
func (o object) Size() ref.Val                 { return types.Int(o.v.Len()) }
func (o object) Iterator() traits.Iterator     { return &names{members: o.v.Members()} }

// names iterates over the names of an object, as CEL does over those of a map.
type names struct {
	members []transform.Member
	next    int
}

func (n *names) ConvertToNative(reflect.Type) (any, error) { return nil, nil }
func (n *names) ConvertToType(ref.Type) ref.Val            { return types.NewErr("an iterator is no value") }
func (n *names) Equal(ref.Val) ref.Val                     { return types.False }
func (n *names) Type() ref.Type                            { return types.IteratorType }
func (n *names) Value() any                                { return nil }
func (n *names) HasNext() ref.Val                          { return types.Bool(n.next < len(n.members)) }
func (n *names) Next() ref.Val {
	n.next++
	return types.String(strings.ToValidUTF8(n.members[n.next-1].Name, "\uFFFD"))
}
