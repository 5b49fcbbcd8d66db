package frontier

import (
	"sort"
	"time"
)

// record is what is kept of a received record until it is settled.
type record struct {
	offset int64
	at     time.Time
	bytes  int
	closed bool
}

// received is the open records (received, not settled) in the order of their offsets. Closed ones are swept out once
// they are the majority: closing costs one binary search, and memory follows what is open, not what lies between.
type received struct {
	records []record // the first one, if any, is open
	closed  int
	bytes   int // of the open ones
}

func (r *received) len() int { return len(r.records) - r.closed }

// oldest returns the open record with the lowest offset.
func (r *received) oldest() (record, bool) {
	if len(r.records) == 0 {
		return record{}, false
	}
	return r.records[0], true
}

// open appends a record whose offset is above all others.
func (r *received) open(offset int64, at time.Time, bytes int) {
	r.records = append(r.records, record{offset: offset, at: at, bytes: bytes})
	r.bytes += bytes
}

// close reports false if the offset is not open.
func (r *received) close(offset int64) bool {
	i := r.search(offset)
	if i == len(r.records) || r.records[i].offset != offset || r.records[i].closed {
		return false
	}
	r.records[i].closed = true
	r.closed++
	r.bytes -= r.records[i].bytes
	r.sweep(i)
	return true
}

// sweep takes out closed records: those in front at once, since the first record must be an open one (it is the
// base), all others when they outnumber the open.
func (r *received) sweep(i int) {
	if i == 0 {
		front := 0
		for front < len(r.records) && r.records[front].closed {
			front++
		}
		r.records = r.records[front:]
		r.closed -= front
	}
	if r.closed <= 64 || r.closed*2 < len(r.records) {
		return
	}
	open := r.records[:0]
	for _, rec := range r.records {
		if !rec.closed {
			open = append(open, rec)
		}
	}
	r.records, r.closed = open, 0
}

// forget takes out the records at and above the offset.
func (r *received) forget(offset int64) {
	i := r.search(offset)
	for _, rec := range r.records[i:] {
		if rec.closed {
			r.closed--
		} else {
			r.bytes -= rec.bytes
		}
	}
	r.records = r.records[:i]
}

func (r *received) search(offset int64) int {
	return sort.Search(len(r.records), func(i int) bool { return r.records[i].offset >= offset })
}
