package format

import (
	"sync"

	"serbridge/transform"
)

// detections are those of one record. Their memory goes from record to record, since no document keeps any of it.
type detections []transform.Detection

var pool = sync.Pool{New: func() any { return new(detections) }}

// next adds an empty detection.
func (ds *detections) next() *transform.Detection {
	if n := len(*ds); n < cap(*ds) {
		*ds = (*ds)[:n+1]
	} else {
		*ds = append(*ds, transform.Detection{})
	}
	return &(*ds)[len(*ds)-1]
}

// release forgets the record, so that the pool keeps none alive, and what an unusual record has blown up.
func (ds *detections) release() {
	const usual = 16
	if cap(*ds) > usual {
		return
	}
	for i := range *ds {
		(*ds)[i].Reset()
	}
	*ds = (*ds)[:0]
	pool.Put(ds)
}

// add maps one leaf of a record. A leaf that is not alone brings its own text along, so that each document holds the
// native record of its own detection.
func (ds *detections) add(l *leaf, in *transform.Input, oneOfSeveral bool) {
	before := len(*ds)
	l.filter(in.Settings)
	switch {
	case l.skip != "" || l.reject != nil:
		d := ds.next()
		d.Skip, d.Reject = l.skip, l.reject
	case l.mapping == aellaSER:
		mapAellaSER(ds.next(), l.record)
	default:
		l.mapping.mapLeaf(ds, l, in)
	}
	for i := before; oneOfSeveral && i < len(*ds); i++ {
		if d := &(*ds)[i]; d.Raw == "" && d.Skip == "" && d.Reject == nil {
			d.Raw = l.raw()
		}
	}
}
