package stellartest

// recent keeps the newest of a numbered series. Numbers start at 0 and are never given twice; the owner drops the
// oldest to hold its bound. The zero value is empty.
type recent[T any] struct {
	items []T
	head  int // index of the oldest kept item
	first int // its number
	next  int // number of the next item
}

func (r *recent[T]) len() int { return len(r.items) - r.head }

// add appends an item and returns its number.
func (r *recent[T]) add(v T) int {
	r.items = append(r.items, v)
	r.next++
	return r.next - 1
}

// at is the item of that number, or nil if it is dropped or not yet there. Valid until the next add or drop.
func (r *recent[T]) at(n int) *T {
	if n < r.first || n >= r.next {
		return nil
	}
	return &r.items[r.head+n-r.first]
}

// all are the kept items, oldest first. Valid until the next add or drop.
func (r *recent[T]) all() []T { return r.items[r.head:] }

// from are the kept items numbered n and above.
func (r *recent[T]) from(n int) []T {
	return r.all()[min(max(n-r.first, 0), r.len()):]
}

// drop forgets the oldest item. Moving the rest when half of the slice is dead keeps the cost of a drop constant on
// average and the memory within twice the bound.
func (r *recent[T]) drop() T {
	v := r.items[r.head]
	var zero T
	r.items[r.head] = zero
	r.head++
	r.first++
	if r.head > len(r.items)/2 {
		n := copy(r.items, r.items[r.head:])
		clear(r.items[n:])
		r.items, r.head = r.items[:n], 0
	}
	return v
}
