package format

import (
	"sync"

	"serbridge/transform"
)

// detections are those of one record. Their memory goes from record to record, since no document keeps any of it.
type detections struct {
	all   []transform.Detection
	made  int // of the first upTo: those that would become a document or a reject
	upTo  int
	most  int // MAX_FANOUT
	spent int // steps that expressions took
	scope scope
}

// recordLimit bounds the steps of all detections of a record, of which the elements of a list may each look at the whole.
const recordLimit = 10 * costLimit

var pool = sync.Pool{New: func() any { return new(detections) }}

// next adds an empty detection.
func (ds *detections) next() *transform.Detection {
	if n := len(ds.all); n < cap(ds.all) {
		ds.all = ds.all[:n+1]
	} else {
		ds.all = append(ds.all, transform.Detection{})
	}
	return &ds.all[len(ds.all)-1]
}

// tooMany reports that the record will be refused, whatever else it holds: mapping the rest would be work that only its
// sender chose.
func (ds *detections) tooMany() bool {
	for ; ds.upTo < len(ds.all); ds.upTo++ {
		if ds.all[ds.upTo].Skip == "" {
			ds.made++
		}
	}
	return ds.made > ds.most
}

// release forgets the record, so that the pool keeps none alive, and what an unusual record has blown up.
func (ds *detections) release() {
	const usual = 16
	if cap(ds.all) > usual {
		return
	}
	for i := range ds.all {
		ds.all[i].Reset()
	}
	ds.scope.reset()
	*ds = detections{all: ds.all[:0], scope: ds.scope}
	pool.Put(ds)
}

// add maps one leaf of a record. A leaf that is not alone brings its own text along, so that each document holds the
// native record of its own detection.
func (ds *detections) add(l *leaf, in *transform.Input, oneOfSeveral bool) {
	before := len(ds.all)
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
	for i := before; oneOfSeveral && i < len(ds.all); i++ {
		if d := &ds.all[i]; d.Raw == "" && d.Skip == "" && d.Reject == nil {
			d.Raw = l.raw()
		}
	}
}
