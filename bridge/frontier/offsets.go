package frontier

import (
	"iter"
	"math/bits"
	"slices"
	"sort"
)

const (
	pageShift = 12 // 4,096 offsets, 512 bytes
	pageWords = 1 << (pageShift - 6)
)

// page is the bits of the 4,096 offsets from number<<pageShift on.
type page struct {
	number int64
	words  [pageWords]uint64
}

// offsets is a set of offsets: bits in pages, ascending by number. A page exists only where a bit is or was set, so a
// compacted gap of ten million offsets costs nothing, and a million offsets in a row cost 128 KiB.
type offsets struct {
	pages []*page
}

// find returns where the page is or would be. Pages are mostly adjacent, so the first guess is mostly right.
func (s *offsets) find(number int64) (int, bool) {
	if len(s.pages) == 0 {
		return 0, false
	}
	if i := number - s.pages[0].number; i >= 0 && i < int64(len(s.pages)) && s.pages[i].number == number {
		return int(i), true
	}
	i := sort.Search(len(s.pages), func(i int) bool { return s.pages[i].number >= number })
	return i, i < len(s.pages) && s.pages[i].number == number
}

func (s *offsets) page(number int64) *page {
	i, ok := s.find(number)
	if !ok {
		s.pages = slices.Insert(s.pages, i, &page{number: number})
	}
	return s.pages[i]
}

func (s *offsets) has(offset int64) bool {
	return s.word(offset>>6)>>(offset&63)&1 == 1
}

// word returns the 64 bits of the offsets from index*64 on.
func (s *offsets) word(index int64) uint64 {
	i, ok := s.find(index >> (pageShift - 6))
	if !ok {
		return 0
	}
	return s.pages[i].words[index&(pageWords-1)]
}

func (s *offsets) add(offset int64) {
	s.page(offset >> pageShift).words[offset>>6&(pageWords-1)] |= 1 << (offset & 63)
}

// addRange adds first to end-1, a word at a time.
func (s *offsets) addRange(first, end int64) {
	for first < end {
		stop := min(end, first>>6<<6+64)
		s.page(first >> pageShift).words[first>>6&(pageWords-1)] |= span(first, stop)
		first = stop
	}
}

// removeRange removes first to end-1 and reports whether one of them was in the set. It walks the pages that exist,
// whatever the width.
func (s *offsets) removeRange(first, end int64) (changed bool) {
	if first >= end {
		return false
	}
	i, _ := s.find(first >> pageShift)
	to, found := s.find((end - 1) >> pageShift)
	if found {
		to++
	}
	for _, p := range s.pages[i:to] {
		changed = p.clear(first, end) || changed
	}
	empty := func(p *page) bool { return p.words == [pageWords]uint64{} }
	kept := slices.DeleteFunc(s.pages[i:to:to], empty)
	if len(kept) < to-i {
		s.pages = slices.Delete(s.pages, i+len(kept), to)
	}
	return changed
}

func (p *page) clear(first, end int64) (changed bool) {
	start := p.number << pageShift
	for i := range p.words {
		from := start + int64(i)*64
		mask := span(max(first, from), min(end, from+64))
		changed = changed || p.words[i]&mask != 0
		p.words[i] &^= mask
	}
	return changed
}

// removePagesBelow forgets whole pages; bits of the offset's own page stay, so callers read from the offset on.
func (s *offsets) removePagesBelow(offset int64) {
	if len(s.pages) == 0 || s.pages[0].number >= offset>>pageShift {
		return
	}
	i, _ := s.find(offset >> pageShift)
	s.pages = slices.Delete(s.pages, 0, i)
}

// top returns the highest offset of the set, if it is at or above from.
func (s *offsets) top(from int64) (int64, bool) {
	for _, p := range slices.Backward(s.pages) {
		for i := pageWords - 1; i >= 0; i-- {
			if w := p.words[i]; w != 0 {
				top := p.number<<pageShift + int64(i)*64 + 63 - int64(bits.LeadingZeros64(w))
				return top, top >= from
			}
		}
	}
	return 0, false
}

// runs yields each run of neighbours at or above from, as its first offset and the one after its last.
func (s *offsets) runs(from int64) iter.Seq2[int64, int64] {
	return func(yield func(first, end int64) bool) {
		var first, end int64 // the run being read; none while they are equal
		for start, w := range s.wordsFrom(from) {
			for w != 0 {
				zeros := bits.TrailingZeros64(w)
				ones := bits.TrailingZeros64(^(w >> zeros))
				a := start + int64(zeros)
				switch {
				case first == end:
					first = a
				case a != end:
					if !yield(first, end) {
						return
					}
					first = a
				}
				end = a + int64(ones)
				w &= ^uint64(0) << (zeros + ones)
			}
		}
		if first < end {
			yield(first, end)
		}
	}
}

// count returns how many offsets at or above from are in the set.
func (s *offsets) count(from int64) int {
	n := 0
	for _, w := range s.wordsFrom(from) {
		n += bits.OnesCount64(w)
	}
	return n
}

// wordsFrom yields each word that is not zero, with its first offset; bits below from are left out.
func (s *offsets) wordsFrom(from int64) iter.Seq2[int64, uint64] {
	return func(yield func(start int64, w uint64) bool) {
		i, _ := s.find(from >> pageShift)
		for _, p := range s.pages[i:] {
			for j, w := range p.words {
				if w == 0 {
					continue
				}
				start := p.number<<pageShift + int64(j)*64
				if start < from {
					w &^= span(start, min(from, start+64))
				}
				if w != 0 && !yield(start, w) {
					return
				}
			}
		}
	}
}

func (s *offsets) clone() offsets {
	c := offsets{pages: make([]*page, len(s.pages))}
	for i, p := range s.pages {
		q := *p
		c.pages[i] = &q
	}
	return c
}

// span is the bits of first to end-1, which lie in one word; none when first >= end.
func span(first, end int64) uint64 {
	if first >= end {
		return 0
	}
	return ^uint64(0) >> (64 - (end - first)) << (first & 63)
}
