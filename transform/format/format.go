// Package format recognises the detection format of a record, maps it, and has the package transform make documents of
// what the mapping read.
package format

import (
	"fmt"
	"slices"
	"strings"
	"sync"

	"serbridge/transform"
)

// format is one detection format. What is true of every format (times, words, ranges, keys) is in transform.
type format struct {
	name string
	// recognise reports whether a record is of this format, by what no other format has.
	recognise func(record transform.Value) bool
	// mapRecord reads the detections of a record, at least one, or says why the record holds none.
	mapRecord func(into *detections, record transform.Value) transform.SkipReason
}

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

// formats are tried in this order; the first that recognises a record has it.
var formats = []format{aellaSER}

// Names returns the names of all formats, as FORMATS takes them, in the order in which they are tried.
func Names() []string {
	names := make([]string, len(formats))
	for i, f := range formats {
		names[i] = f.name
	}
	return names
}

// auto in FORMATS stands for every format.
const auto = "auto"

// Check returns an error for entries of FORMATS that are neither a format nor "auto".
func Check(names []string) error {
	var unknown []string
	for _, n := range names {
		if n != auto && !slices.Contains(Names(), n) {
			unknown = append(unknown, n)
		}
	}
	if unknown == nil {
		return nil
	}
	return fmt.Errorf("FORMATS=%q: unknown; allowed are %s and %s", strings.Join(unknown, ","), auto, strings.Join(Names(), ", "))
}

// Transform turns a record into documents, a Skip or a Reject: recognise, map, build. What concerns the only detection
// of a record is said of the record. It never panics, whatever the bytes.
func Transform(in transform.Input) transform.Result {
	if in.Value == nil {
		return transform.Result{Skip: transform.Tombstone}
	}
	tree, reject := transform.Read(&in)
	if reject != nil {
		return transform.Result{Reject: reject}
	}
	defer tree.Release()
	result := transform.Result{Repairs: tree.Repairs}
	f, reject := recognise(tree.Root, in.Settings)
	if reject != nil {
		result.Reject = reject
		return result
	}
	result.Format = f.name
	found := pool.Get().(*detections)
	defer found.release()
	if result.Skip = f.mapRecord(found, tree.Root); result.Skip != "" {
		return result
	}
	result.Parts, result.Reject = transform.Documents(&in, tree, *found)
	if only := result.Parts; len(only) == 1 && only[0].Document == nil {
		result.Parts, result.Skip, result.Reject = nil, only[0].Skip, only[0].Reject
	}
	return result
}

func recognise(record transform.Value, settings *transform.Settings) (format, *transform.Reject) {
	for _, f := range formats {
		if enabled(f.name, settings) && f.recognise(record) {
			return f, nil
		}
	}
	return format{}, &transform.Reject{Reason: transform.UnknownFormat, Detail: unknown(record)}
}

func enabled(name string, settings *transform.Settings) bool {
	if settings == nil || len(settings.Formats) == 0 {
		return true
	}
	return slices.Contains(settings.Formats, auto) || slices.Contains(settings.Formats, name)
}

// unknown says what the record looks like, so that a person can tell a wrong topic from a changed source.
func unknown(record transform.Value) string {
	if !record.IsObject() {
		return "the record is no JSON object but " + record.TypeName()
	}
	members := record.Members()
	if len(members) == 0 {
		return "the record is an empty JSON object"
	}
	const quoted = 64
	var names strings.Builder
	for i := 0; i < len(members) && names.Len() < 4*quoted; i++ {
		names.WriteString(members[i].Name + " ")
	}
	return "no format in FORMATS fits a record with the keys " + transform.Quote(strings.TrimSpace(names.String()), quoted)
}
