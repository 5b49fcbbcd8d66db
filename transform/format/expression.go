package format

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/interpreter"

	"serbridge/transform"
)

// expression is one CEL expression of a mapping, checked and compiled: to a term, where its parts are those that terms
// know, else to a program of the CEL library. Terms are several times as fast, which decides what a record costs, and keep
// every digit of a number that is only handed on. A test holds that both say the same.
type expression struct {
	source  string
	direct  term
	program cel.Program
}

// costLimit bounds the steps of one expression in the library, and of all of one detection's terms: some ten thousand
// elements looked at, a few milliseconds.
const costLimit = 100_000

// errCost says that expressions did more than they may, which only a record made for it brings about.
var errCost = errors.New("cost limit")

// scope is what an expression can name: r, the record; parent, what r was taken out of; outer, the facts of the
// envelopes around it.
type scope struct {
	r, parent transform.Value
	leaf      *leaf
	fold      bool

	stack  []transform.Value // arguments of the calls that are being evaluated
	whole  canonical         // parent, where several elements have it in their identity
	said   []said            // what the calls of the mapping have said, by their place in calls
	locals []transform.Value // of the macros that are being evaluated
	steps  int               // elements that macros and memberships have looked at
	cost   int               // steps that count for the record alone: of what functions read, and of the library's programs
}

// said is what a call said of the record, once it was made.
type said struct {
	value transform.Value
	known bool
}

// canonical is the canonical form of a value, made once, and how many steps it takes to hash.
type canonical struct {
	value transform.Value
	cost  int
}

func (c *canonical) of(v transform.Value) transform.Value {
	if c.value.IsAbsent() {
		c.value = v.Canonical()
		c.cost = len(c.value.JSON()) / 256
	}
	return c.value
}

// see makes the scope that of another record or element for a mapping of so many calls, and keeps its memory.
func (s *scope) see(r, parent transform.Value, l *leaf, fold bool, calls int) {
	known := slices.Grow(s.said[:0], calls)[:calls]
	clear(known)
	*s = scope{r: r, parent: parent, leaf: l, fold: fold, whole: s.whole, stack: s.stack[:0], locals: s.locals[:0], said: known}
}

// reset forgets the record, and what an unusual one has blown up.
func (s *scope) reset() {
	const usual = 64
	if cap(s.stack) > usual || cap(s.locals) > usual {
		*s = scope{}
		return
	}
	clear(s.stack[:cap(s.stack)])
	clear(s.locals[:cap(s.locals)])
	clear(s.said[:cap(s.said)]) // a leaf before the last may have had more calls
	s.whole = canonical{}
	s.see(transform.Value{}, transform.Value{}, nil, false, 0)
}

// variables are the names that a mapping may use.
var variables = map[string]func(*scope) transform.Value{
	"r":      func(s *scope) transform.Value { return s.r },
	"parent": func(s *scope) transform.Value { return s.parent },
	"outer":  func(s *scope) transform.Value { return s.leaf.facts() },
}

// ResolveName makes a scope the activation of a CEL program.
func (s *scope) ResolveName(name string) (any, bool) {
	read, ok := variables[name]
	if !ok {
		return nil, false
	}
	return operand(read(s), s.fold), true
}

// Parent makes a scope the activation of a CEL program.
func (s *scope) Parent() cel.Activation { return nil }

// eval returns what the expression says of a record. Whatever cannot be evaluated, such as a comparison of a text with
// a number, is absent: no odd value of one field may cost a detection. The only error is errCost.
func (x *expression) eval(s *scope) (transform.Value, error) {
	if x.direct != nil {
		v := x.direct(s)
		if s.steps > costLimit {
			return transform.Value{}, errCost
		}
		return v, nil
	}
	result, details, err := x.program.Eval(s)
	if cost := details.ActualCost(); cost != nil {
		s.cost += int(*cost)
	}
	if err != nil {
		if isTooCostly(err) {
			return transform.Value{}, errCost
		}
		return transform.Value{}, nil
	}
	return value(result), nil
}

// isTooCostly reports whether a program ended at costLimit; the library has no value for it.
func isTooCostly(err error) bool {
	return err != nil && strings.Contains(err.Error(), "cost limit exceeded")
}

// environments are those of mappings that regard case, and of those that do not.
var environments = [2]func() *cel.Env{
	sync.OnceValue(func() *cel.Env { return newEnvironment(false) }),
	sync.OnceValue(func() *cel.Env { return newEnvironment(true) }),
}

func environment(fold bool) *cel.Env {
	if fold {
		return environments[1]()
	}
	return environments[0]()
}

func newEnvironment(fold bool) *cel.Env {
	return environmentWith(slices.Collect(maps.Keys(variables)), fold)
}

func environmentWith(names []string, fold bool) *cel.Env {
	options := []cel.EnvOption{cel.CrossTypeNumericComparisons(true), cel.ParserExpressionSizeLimit(4096)}
	for _, name := range names {
		options = append(options, cel.Variable(name, cel.DynType))
	}
	for name, f := range functions {
		options = append(options, f.declaration(name, fold))
	}
	env, err := cel.NewEnv(options...)
	if err != nil {
		panic(err) // the declarations above are constant; a test holds them
	}
	return env
}

// compile checks and compiles one expression, whose calls are made once for all expressions with these calls; nil: each
// for itself. The error of the library names line and column in source.
func compile(source string, fold bool, calls calls) (*expression, *cel.Issues) {
	checked, issues := environment(fold).Compile(source)
	if issues != nil && issues.Err() != nil {
		return nil, issues
	}
	x := &expression{source: source}
	if x.direct = (&terms{fold: fold, calls: calls}).of(checked.NativeRep().Expr()); x.direct != nil {
		return x, nil
	}
	program, err := interpreted(checked, fold)
	if err != nil {
		return nil, new(cel.Issues)
	}
	x.program = program
	return x, nil
}

// interpreted returns the library's own program for an expression.
func interpreted(checked *cel.Ast, fold bool) (cel.Program, error) {
	return programOf(environment(fold), checked)
}

func programOf(env *cel.Env, checked *cel.Ast) (cel.Program, error) {
	return env.Program(checked, cel.EvalOptions(cel.OptOptimize), cel.CostLimit(costLimit), cel.CustomDecoratorV2(forgiving))
}

// forgiving makes a look-up of what is not there null, as a term does; CEL itself makes it an error.
func forgiving(i interpreter.InterpretableV2) (interpreter.InterpretableV2, error) {
	switch i := i.(type) {
	case forgivingAttribute:
		return i, nil
	case interpreter.InterpretableAttribute:
		return forgivingAttribute{i}, nil
	}
	return i, nil
}

type forgivingAttribute struct {
	interpreter.InterpretableAttribute
}

// Exec evaluates the look-up.
func (a forgivingAttribute) Exec(frame *interpreter.ExecutionFrame) ref.Val {
	switch result := a.InterpretableAttribute.Exec(frame).(type) {
	case absent:
		return types.NullValue // which alone CEL's == compares with null
	case *types.Err:
		if says := result.Error(); strings.Contains(says, "no such key") || strings.Contains(says, "index out of bounds") {
			return types.NullValue
		}
		return result
	default:
		return result
	}
}

// Eval evaluates the look-up.
func (a forgivingAttribute) Eval(vars interpreter.Activation) ref.Val {
	return interpreter.EvalActivation(vars, a.Exec)
}

// function is one of ours that expressions may call. All take and return any value, never fail, and keep no arguments.
type function struct {
	least, most int // arguments
	call        func(fold bool, args ...transform.Value) transform.Value
	weight      func(arg transform.Value) int // steps that it takes to read an argument
}

func (f function) declaration(name string, fold bool) cel.EnvOption {
	var overloads []cel.FunctionOpt
	for n := f.least; n <= f.most; n++ {
		args := make([]*cel.Type, n)
		for i := range args {
			args[i] = cel.DynType
		}
		overloads = append(overloads, cel.Overload(fmt.Sprintf("%s_%d", name, n), args, cel.DynType))
	}
	call := func(args ...ref.Val) ref.Val {
		values := make([]transform.Value, len(args))
		for i, a := range args {
			values[i] = value(a)
		}
		if result := f.call(fold, values...); !result.IsAbsent() {
			return operand(result, fold)
		}
		return types.NullValue
	}
	return cel.Function(name, append(overloads, cel.SingletonFunctionBinding(call))...)
}
