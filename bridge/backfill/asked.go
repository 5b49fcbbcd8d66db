package backfill

import (
	"crypto/sha256"
	"slices"
)

// Asked is what a run was asked for, a few bytes for each thing: enough to tell that another process asks for something
// else, and what that is, not what the first one asked for.
type Asked []byte

const askedBytes = 4 // of each thing

// Add appends what a thing is. The things of one kind of run keep their order for ever; a new one goes to the end.
func (a *Asked) Add(value string) {
	sum := sha256.Sum256([]byte(value))
	*a = append(*a, sum[:askedBytes]...)
}

// With returns what is asked for with another thing of this number. It is nothing else where what is kept ends before.
func (a Asked) With(number int, value string) Asked {
	if len(a) < number*askedBytes {
		return a
	}
	a = slices.Clone(a)
	rest := slices.Clone(a[min(len(a), (number+1)*askedBytes):])
	a = a[:number*askedBytes]
	a.Add(value)
	return append(a, rest...)
}

// Differ are the numbers of the things, from 0 on, that are something else here and there. What one of the two does not
// have is not compared.
func (a Asked) Differ(b Asked) (numbers []int) {
	for i := 0; (i+1)*askedBytes <= min(len(a), len(b)); i++ {
		if !slices.Equal(a[i*askedBytes:(i+1)*askedBytes], b[i*askedBytes:(i+1)*askedBytes]) {
			numbers = append(numbers, i)
		}
	}
	return numbers
}
