package bridge

import "runtime/debug"

const (
	// rarely: by default the heap is swept whenever it has doubled, which for
	// one of ten megabytes is after every few hundred records, and was a tenth
	// of all processor time.
	rarely = 400 // percent that the heap may grow
	// beside is what a member holds beside records.
	beside = 6 << 20
)

// TuneHeap has the garbage collector come rarely while there is little to
// collect, and bounds what that costs in memory: at BufferBytes and a little
// it comes as often as it must. It is of the whole process, so it is for the
// main function to call, unless the operator has set GOGC or GOMEMLIMIT.
func TuneHeap(bufferBytes int) {
	debug.SetGCPercent(rarely)
	debug.SetMemoryLimit(int64(bufferBytes) + beside)
}
