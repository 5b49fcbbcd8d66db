package deadletter

// fatePage is the fates of as many offsets in a row, two in a byte: 2 KiB.
const fatePage = 4096

// fates is what became of many letters: half a byte for each offset, in pages that exist only where one was handled. So a
// million handled letters take half a megabyte, where a map of marks would take hundreds.
type fates map[int32]map[int64]*[fatePage / 2]byte

func (f fates) set(p Place, fate Fate) {
	number, at := p.Offset/fatePage, p.Offset%fatePage
	page := f[p.Partition][number]
	if page == nil {
		if fate == Open {
			return
		}
		if f[p.Partition] == nil {
			f[p.Partition] = make(map[int64]*[fatePage / 2]byte)
		}
		page = new([fatePage / 2]byte)
		f[p.Partition][number] = page
	}
	shift := at % 2 * 4
	page[at/2] = page[at/2]&^(0xf<<shift) | byte(fate)<<shift
}

func (f fates) of(p Place) Fate {
	page := f[p.Partition][p.Offset/fatePage]
	if page == nil {
		return Open
	}
	at := p.Offset % fatePage
	return Fate(page[at/2] >> (at % 2 * 4) & 0xf)
}
