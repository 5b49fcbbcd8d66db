package format

import (
	"math"
	"strconv"
	"strings"

	"serbridge/transform"
)

// scale is how one native severity or status is read: by words, by bands of a number, or by a factor.
type scale struct {
	from  []*expression
	words []wordValue
	bands []band
	times float64 // a number's factor; 0: none
}

// wordValue is one row of a table of words. Severities stand in their native order, the least severe first.
type wordValue struct {
	word  string
	means transform.Value
}

// band is what numbers up to and including most are.
type band struct {
	most  float64
	means transform.Value
}

// commonSeverity reads what most formats mean: a word, or a number from 0 to 100.
func commonSeverity(word string) transform.Value {
	if n, known := transform.SeverityWord(word); known {
		return transform.Integer(n)
	}
	return transform.Number(word)
}

// commonStatus reads what most formats mean by a word.
func commonStatus(word string) transform.Value {
	if status, known := transform.EventStatus(word); known {
		return transform.String(status)
	}
	return transform.Value{}
}

// read returns the native value and what it means: absent when neither the scale nor the common table knows it, as they
// know no word that a source may come to use.
func (s *scale) read(of *scope, common func(word string) transform.Value) (native, meaning transform.Value, err error) {
	if native, err = firstOf(s.from, of); err != nil || native.IsBlank() {
		return transform.Value{}, transform.Value{}, err
	}
	word, scalar := native.Text()
	if !scalar {
		return native, transform.Value{}, nil
	}
	folded := strings.ToLower(strings.TrimSpace(word))
	for _, w := range s.words {
		if w.word == folded {
			return native, w.means, nil
		}
	}
	if n := s.number(folded); !n.IsAbsent() {
		return native, n, nil
	}
	return native, common(folded), nil
}

func (s *scale) number(word string) transform.Value {
	if s.bands == nil && s.times == 0 {
		return transform.Value{}
	}
	n, err := strconv.ParseFloat(word, 64)
	if err != nil || math.IsNaN(n) || math.IsInf(n, 0) {
		return transform.Value{}
	}
	for i, b := range s.bands {
		if n <= b.most || i == len(s.bands)-1 {
			return b.means
		}
	}
	return transform.Number(strconv.FormatFloat(n*s.times, 'f', 2, 64))
}

// readScales returns what the first scale says that has a meaning; without one, the first native value there is.
func readScales(scales []scale, of *scope, common func(word string) transform.Value) (native, meaning transform.Value, err error) {
	for i := range scales {
		n, m, err := scales[i].read(of, common)
		if err != nil {
			return native, meaning, err
		}
		if !m.IsAbsent() {
			return n, m, nil
		}
		if native.IsAbsent() {
			native = n
		}
	}
	return native, meaning, nil
}

// firstOf returns the first expression's value that says something.
func firstOf(all []*expression, s *scope) (transform.Value, error) {
	for _, x := range all {
		v, err := x.eval(s)
		if err != nil {
			return transform.Value{}, err
		}
		if !v.IsBlank() {
			return v, nil
		}
	}
	return transform.Value{}, nil
}

// textsOf returns all scalars that the expressions say, those in arrays one by one.
func textsOf(all []*expression, s *scope) (texts []string, err error) {
	for _, x := range all {
		v, err := x.eval(s)
		if err != nil {
			return nil, err
		}
		texts = appendTexts(texts, v)
	}
	return texts, nil
}

func appendTexts(texts []string, v transform.Value) []string {
	if s, ok := v.Text(); ok {
		if s = strings.TrimSpace(s); s != "" {
			texts = append(texts, s)
		}
		return texts
	}
	if v.IsArray() {
		for i := range v.Len() {
			texts = appendTexts(texts, v.Index(i))
		}
	}
	return texts
}
