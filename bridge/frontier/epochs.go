package frontier

import "slices"

// epochs is the leader epoch of each received offset: where each one starts. Leaders change rarely, so it is short.
type epochs []epochStart

type epochStart struct {
	offset int64
	epoch  int32
}

// newEpochs says what is known before the first record: the epoch of the commit, which is that of the record below
// the committed base.
func newEpochs(base int64, epoch int32) epochs {
	return epochs{{base - 1, epoch}}
}

// note records the epoch of the next received offset.
func (e *epochs) note(offset int64, epoch int32) {
	if (*e)[len(*e)-1].epoch != epoch {
		*e = append(*e, epochStart{offset, epoch})
	}
}

// at returns the epoch of the highest received offset at or below this one, -1 if that is unknown.
func (e epochs) at(offset int64) int32 {
	for _, s := range slices.Backward(e) {
		if s.offset <= offset {
			return s.epoch
		}
	}
	return -1
}

// forget takes out what is known of the offset and all above.
func (e *epochs) forget(offset int64) {
	for len(*e) > 0 && (*e)[len(*e)-1].offset >= offset {
		*e = (*e)[:len(*e)-1]
	}
	if len(*e) == 0 {
		*e = newEpochs(offset, -1)
	}
}

// removeBelow forgets epochs that end below the offset.
func (e *epochs) removeBelow(offset int64) {
	n := 0
	for n+1 < len(*e) && (*e)[n+1].offset <= offset {
		n++
	}
	*e = slices.Delete(*e, 0, n)
}
