package format

import (
	"regexp"
	"slices"
	"strconv"
	"strings"

	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/parser"
	"github.com/go-json-experiment/json/jsontext"

	"serbridge/transform"
)

// term evaluates an expression that the library has parsed and checked. What is an error in CEL is absent.
type term func(*scope) transform.Value

// calls are the different calls of our functions in the expressions of a mapping, numbered. Mappings look at one thing for
// several fields; what a call says of a record, it says each time.
type calls map[string]int

// place returns the number of a call, or -1 for one that is made each time.
func (c calls) place(e ast.Expr) int {
	text, err := parser.Unparse(e, ast.NewSourceInfo(nil))
	if c == nil || err != nil { // a macro is in it, which cannot be written without the source
		return -1
	}
	if _, known := c[text]; !known {
		c[text] = len(c)
	}
	return c[text]
}

// terms makes a term of an expression. Each of its methods returns nil for what it does not know; then the library
// evaluates the whole expression.
type terms struct {
	fold   bool
	calls  calls
	locals []string // names that macros around have bound, by their place in scope.locals
}

func (t *terms) of(e ast.Expr) term {
	made := t.make(e)
	if made == nil || e.Kind() != ast.CallKind || t.locals != nil {
		return made
	}
	if _, ours := functions[e.AsCall().FunctionName()]; !ours {
		return made
	}
	place := t.calls.place(e)
	return func(s *scope) transform.Value {
		if place < 0 || place >= len(s.said) {
			return made(s)
		}
		if !s.said[place].known {
			s.said[place] = said{made(s), true}
		}
		return s.said[place].value
	}
}

func (t *terms) make(e ast.Expr) term {
	switch e.Kind() {
	case ast.IdentKind:
		return t.name(e.AsIdent())
	case ast.LiteralKind:
		v := value(e.AsLiteral())
		return func(*scope) transform.Value { return v }
	case ast.SelectKind:
		return t.selection(e.AsSelect())
	case ast.ListKind:
		return t.list(e.AsList().Elements())
	case ast.CallKind:
		return t.call(e.AsCall())
	case ast.ComprehensionKind:
		return t.macro(e.AsComprehension())
	}
	return nil
}

// all returns the terms of several expressions, or nil.
func (t *terms) all(exprs []ast.Expr) []term {
	list := make([]term, len(exprs))
	for i, e := range exprs {
		if list[i] = t.of(e); list[i] == nil {
			return nil
		}
	}
	return list
}

func (t *terms) name(name string) term {
	if i := slices.Index(t.locals, name); i >= 0 {
		return func(s *scope) transform.Value { return s.locals[i] }
	}
	return variables[name]
}

// selection is a.b.c, as one term: most expressions are no more than that.
func (t *terms) selection(e ast.SelectExpr) term {
	if e.IsTestOnly() {
		of, name, fold := t.of(e.Operand()), e.FieldName(), t.fold
		if of == nil {
			return nil
		}
		return func(s *scope) transform.Value { return transform.Bool(!member(of(s), name, fold).IsAbsent()) }
	}
	path := []string{e.FieldName()}
	operand := e.Operand()
	for operand.Kind() == ast.SelectKind && !operand.AsSelect().IsTestOnly() {
		path = append(path, operand.AsSelect().FieldName())
		operand = operand.AsSelect().Operand()
	}
	slices.Reverse(path)
	of, fold := t.of(operand), t.fold
	if of == nil {
		return nil
	}
	return func(s *scope) transform.Value {
		v := of(s)
		for _, name := range path {
			v = member(v, name, fold)
		}
		return v
	}
}

func (t *terms) list(elements []ast.Expr) term {
	terms := t.all(elements)
	if terms == nil {
		return nil
	}
	return func(s *scope) transform.Value {
		at := len(s.stack)
		for _, x := range terms {
			v := x(s)
			s.stack = append(s.stack, v)
		}
		array := transform.Array(s.stack[at:]...)
		s.stack = s.stack[:at]
		return array
	}
}

func (t *terms) call(e ast.CallExpr) term {
	if e.IsMemberFunction() {
		return t.method(e)
	}
	args := t.all(e.Args())
	if args == nil {
		return nil
	}
	if f, ours := functions[e.FunctionName()]; ours {
		return t.ourFunction(f, args)
	}
	switch e.FunctionName() {
	case operators.Conditional:
		return conditional(args)
	case operators.LogicalAnd:
		return logical(args, jsontext.KindFalse)
	case operators.LogicalOr:
		return logical(args, jsontext.KindTrue)
	case operators.LogicalNot:
		return not(args[0])
	case operators.Equals:
		return func(s *scope) transform.Value { return transform.Bool(s.equal(args[0](s), args[1](s))) }
	case operators.NotEquals:
		return func(s *scope) transform.Value { return transform.Bool(!s.equal(args[0](s), args[1](s))) }
	case operators.Less, operators.LessEquals, operators.Greater, operators.GreaterEquals:
		return comparison(e.FunctionName(), args)
	case operators.In:
		return membership(args)
	case operators.Index:
		return t.index(e.Args()[1], args[0])
	case "size":
		return size(args[0])
	}
	return nil
}

func (t *terms) ourFunction(f function, args []term) term {
	fold := t.fold
	return func(s *scope) transform.Value {
		at := len(s.stack)
		for _, a := range args {
			v := a(s) // which uses the stack above at, and leaves it as it was
			s.cost += f.weight(v)
			s.stack = append(s.stack, v)
		}
		result := f.call(fold, s.stack[at:]...)
		s.stack = s.stack[:at]
		return result
	}
}

// weight is how many steps it takes to read a text, or to go through a list.
func weight(v transform.Value) int {
	if v.Kind() == jsontext.KindString {
		text, _ := v.Text()
		return len(text) / 32
	}
	return v.Len()
}

// wholeWeight is the weight of all that stands in a value.
func wholeWeight(v transform.Value) int {
	steps := weight(v)
	for i := range v.Len() {
		if v.IsArray() {
			steps += wholeWeight(v.Index(i))
		} else {
			steps += wholeWeight(v.Members()[i].Value)
		}
	}
	return steps
}

func conditional(args []term) term {
	return func(s *scope) transform.Value {
		switch args[0](s).Kind() {
		case jsontext.KindTrue:
			return args[1](s)
		case jsontext.KindFalse:
			return args[2](s)
		}
		return transform.Value{}
	}
}

// logical is && or ||. The deciding value decides on either side, whatever the other says; else both must be booleans.
func logical(args []term, deciding jsontext.Kind) term {
	return func(s *scope) transform.Value {
		known := true
		for _, a := range args {
			switch v := a(s); v.Kind() {
			case deciding:
				return v
			case jsontext.KindTrue, jsontext.KindFalse:
			default:
				known = false
			}
		}
		if !known {
			return transform.Value{}
		}
		return transform.Bool(deciding == jsontext.KindFalse)
	}
}

func not(arg term) term {
	return func(s *scope) transform.Value {
		switch arg(s).Kind() {
		case jsontext.KindTrue:
			return transform.Bool(false)
		case jsontext.KindFalse:
			return transform.Bool(true)
		}
		return transform.Value{}
	}
}

// equal is equal, at its cost: a macro may compare the same long values for each of many elements.
func (s *scope) equal(a, b transform.Value) bool {
	if a.Kind() != b.Kind() {
		return false
	}
	s.cost += wholeWeight(a)
	return equal(a, b)
}

// equal compares as CEL does: numbers by value, values of two types never.
func equal(a, b transform.Value) bool {
	if a.Kind() != b.Kind() {
		return false
	}
	switch a.Kind() {
	case jsontext.KindNumber:
		n, ok := order(a, b)
		return ok && n == 0
	case jsontext.KindBeginArray:
		if a.Len() != b.Len() {
			return false
		}
		for i := range a.Len() {
			if !equal(a.Index(i), b.Index(i)) {
				return false
			}
		}
		return true
	case jsontext.KindBeginObject:
		return a.Canonical().JSON() == b.Canonical().JSON()
	}
	s, _ := a.Text()
	t, _ := b.Text()
	return s == t
}

// order compares two numbers or two texts.
func order(a, b transform.Value) (n int, ok bool) {
	s, _ := a.Text()
	t, _ := b.Text()
	switch {
	case a.Kind() != b.Kind():
		return 0, false
	case a.Kind() == jsontext.KindString:
		return strings.Compare(s, t), true
	case a.Kind() != jsontext.KindNumber:
		return 0, false
	case s == t:
		return 0, true
	}
	i, err := strconv.ParseInt(s, 10, 64)
	j, err2 := strconv.ParseInt(t, 10, 64)
	if err == nil && err2 == nil {
		return compareNumbers(i, j), true
	}
	x, _ := strconv.ParseFloat(s, 64)
	y, _ := strconv.ParseFloat(t, 64)
	return compareNumbers(x, y), true
}

func compareNumbers[T int64 | float64](a, b T) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

func comparison(operator string, args []term) term {
	holds := map[string]func(int) bool{
		operators.Less: func(n int) bool { return n < 0 }, operators.LessEquals: func(n int) bool { return n <= 0 },
		operators.Greater: func(n int) bool { return n > 0 }, operators.GreaterEquals: func(n int) bool { return n >= 0 },
	}[operator]
	return func(s *scope) transform.Value {
		a, b := args[0](s), args[1](s)
		s.cost += min(weight(a), weight(b))
		n, ok := order(a, b)
		if !ok {
			return transform.Value{}
		}
		return transform.Bool(holds(n))
	}
}

// membership is in: of an element in an array, of a name in an object.
func membership(args []term) term {
	return func(s *scope) transform.Value {
		one, in := args[0](s), args[1](s)
		switch {
		case in.IsArray():
			for i := range in.Len() {
				if s.steps++; s.steps > costLimit {
					break
				}
				if s.equal(one, in.Index(i)) {
					return transform.Bool(true)
				}
			}
			return transform.Bool(false)
		case in.IsObject():
			name, _ := one.Text()
			return transform.Bool(!member(in, name, s.fold).IsAbsent())
		}
		return transform.Value{}
	}
}

// index is a["name"] or a[0].
func (t *terms) index(at ast.Expr, of term) term {
	fold := t.fold
	if at.Kind() == ast.LiteralKind {
		switch at := at.AsLiteral().(type) {
		case types.String:
			return func(s *scope) transform.Value { return member(of(s), string(at), fold) }
		case types.Int:
			return func(s *scope) transform.Value { return of(s).Index(int(at)) }
		}
		return nil
	}
	name := t.of(at)
	return func(s *scope) transform.Value {
		v, at := of(s), name(s)
		text, _ := at.Text()
		if i, err := strconv.Atoi(text); at.Kind() == jsontext.KindNumber && err == nil {
			return v.Index(i)
		}
		if at.Kind() == jsontext.KindString {
			return member(v, text, fold)
		}
		return transform.Value{}
	}
}

func size(arg term) term {
	return func(s *scope) transform.Value {
		switch v := arg(s); v.Kind() {
		case jsontext.KindBeginArray, jsontext.KindBeginObject:
			return transform.Integer(int64(v.Len()))
		case jsontext.KindString:
			text, _ := v.Text()
			return transform.Integer(int64(len([]rune(text))))
		}
		return transform.Value{}
	}
}

// method is a function that a text has: startsWith, endsWith, contains, or matches with a constant pattern.
func (t *terms) method(e ast.CallExpr) term {
	if e.FunctionName() == "size" && len(e.Args()) == 0 {
		if of := t.of(e.Target()); of != nil {
			return size(of)
		}
		return nil
	}
	of := t.of(e.Target())
	if of == nil || len(e.Args()) != 1 || e.Args()[0].Kind() != ast.LiteralKind && e.FunctionName() == "matches" {
		return nil
	}
	arg := t.of(e.Args()[0])
	holds := textMethods[e.FunctionName()]
	if e.FunctionName() == "matches" {
		pattern, _ := e.Args()[0].AsLiteral().(types.String)
		re, err := regexp.Compile(string(pattern))
		if err != nil {
			return nil
		}
		holds = func(s, _ string) bool { return re.MatchString(s) }
	}
	if arg == nil || holds == nil {
		return nil
	}
	return func(s *scope) transform.Value {
		text, other := of(s), arg(s)
		if text.Kind() != jsontext.KindString || other.Kind() != jsontext.KindString {
			return transform.Value{}
		}
		x, _ := text.Text()
		y, _ := other.Text()
		s.cost += weight(text)
		return transform.Bool(holds(x, y))
	}
}

var textMethods = map[string]func(s, t string) bool{
	"startsWith": strings.HasPrefix, "endsWith": strings.HasSuffix, "contains": strings.Contains,
}
