package format

import (
	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/types"
	"github.com/go-json-experiment/json/jsontext"

	"serbridge/transform"
)

// macro makes a term of exists, all, map or filter over an array. CEL's parser has expanded it to a loop with an
// accumulator, by whose shape the macro is known again. Over anything but an array it is absent.
func (t *terms) macro(e ast.ComprehensionExpr) term {
	over := t.of(e.IterRange())
	if over == nil || e.HasIterVar2() || e.Result().Kind() != ast.IdentKind || e.Result().AsIdent() != e.AccuVar() || e.LoopStep().Kind() != ast.CallKind {
		return nil
	}
	inner := &terms{fold: t.fold, calls: t.calls, locals: append(t.locals[:len(t.locals):len(t.locals)], e.IterVar())}
	step, accu := e.LoopStep().AsCall(), e.AccuVar()
	init, _ := e.AccuInit(), step.Args()
	isBool := init.Kind() == ast.LiteralKind
	switch {
	case isBool && step.FunctionName() == operators.LogicalOr && init.AsLiteral() == types.False && isAccu(step.Args()[0], accu):
		return loop(over, nil, inner.of(step.Args()[1]), anyTrue)
	case isBool && step.FunctionName() == operators.LogicalAnd && init.AsLiteral() == types.True && isAccu(step.Args()[0], accu):
		return loop(over, nil, inner.of(step.Args()[1]), allTrue)
	case init.Kind() == ast.ListKind && step.FunctionName() == operators.Add:
		if element := appended(step, accu); element != nil {
			return loop(over, nil, inner.of(element), mapped)
		}
	case init.Kind() == ast.ListKind && step.FunctionName() == operators.Conditional && isAccu(step.Args()[2], accu):
		return inner.filter(over, step.Args()[0], step.Args()[1], accu)
	}
	return nil
}

func isAccu(e ast.Expr, accu string) bool { return e.Kind() == ast.IdentKind && e.AsIdent() == accu }

// appended returns x of accu + [x], or nil.
func appended(step ast.CallExpr, accu string) ast.Expr {
	if !isAccu(step.Args()[0], accu) || step.Args()[1].Kind() != ast.ListKind || step.Args()[1].AsList().Size() != 1 {
		return nil
	}
	return step.Args()[1].AsList().Elements()[0]
}

// filter is condition ? accu + [x] : accu, with x the element itself or, in a map of three arguments, made of it.
func (t *terms) filter(over term, condition, step ast.Expr, accu string) term {
	if step.Kind() != ast.CallKind || step.AsCall().FunctionName() != operators.Add {
		return nil
	}
	element := appended(step.AsCall(), accu)
	if element == nil {
		return nil
	}
	keep, made := t.of(condition), t.of(element)
	if keep == nil || made == nil {
		return nil
	}
	return loop(over, keep, made, mapped)
}

// loop evaluates body for each element of an array, or for those of which the condition holds, and hands the results to
// gather, which keeps none of their memory. A condition that is no boolean makes the whole absent, as in CEL.
func loop(over, condition, body term, gather func(results []transform.Value) transform.Value) term {
	if body == nil {
		return nil
	}
	return func(s *scope) transform.Value {
		array := over(s)
		if !array.IsArray() {
			return transform.Value{}
		}
		local, results := len(s.locals), len(s.stack)
		s.locals = append(s.locals, transform.Value{})
		known, read := true, s.cost
		for i := 0; i < array.Len() && known; i++ {
			if s.steps++; s.cost-read > recordLimit { // each element had something long read
				s.steps = max(s.steps, costLimit+1)
			}
			if s.steps > costLimit {
				break
			}
			s.locals[local] = array.Index(i)
			if condition != nil {
				holds := condition(s).Kind()
				known = holds == jsontext.KindTrue || holds == jsontext.KindFalse
				if holds != jsontext.KindTrue {
					continue
				}
			}
			v := body(s)
			s.stack = append(s.stack, v)
		}
		var gathered transform.Value
		if known {
			gathered = gather(s.stack[results:])
		}
		s.locals, s.stack = s.locals[:local], s.stack[:results]
		return gathered
	}
}

// anyTrue is exists: one true decides; without it, one that is no boolean leaves it open.
func anyTrue(results []transform.Value) transform.Value { return decided(results, jsontext.KindTrue) }

func allTrue(results []transform.Value) transform.Value { return decided(results, jsontext.KindFalse) }

func decided(results []transform.Value, deciding jsontext.Kind) transform.Value {
	known := true
	for _, r := range results {
		switch r.Kind() {
		case deciding:
			return r
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

func mapped(results []transform.Value) transform.Value { return transform.Array(results...) }
