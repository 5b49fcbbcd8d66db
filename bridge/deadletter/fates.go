package deadletter

import "sync"

// fatePage is the fates of as many offsets in a row, two in a byte: 2 KiB.
const fatePage = 4096

// fates is what became of many letters: half a byte for each offset, in pages that exist only where one was handled. So a
// million handled letters take half a megabyte, where a map of marks would take hundreds.
// The zero value has none; it is safe for concurrent use.
type fates struct {
	mu    sync.Mutex
	pages map[fateNumber]*[fatePage / 2]byte
}

// fateNumber is a page's.
type fateNumber struct {
	partition int32
	number    int64
}

func numberOf(p Place) fateNumber { return fateNumber{p.Partition, p.Offset / fatePage} }

func (f *fates) set(p Place, fate Fate) {
	f.mu.Lock()
	defer f.mu.Unlock()
	page := f.pages[numberOf(p)]
	if page == nil {
		if fate == Open {
			return
		}
		if f.pages == nil {
			f.pages = make(map[fateNumber]*[fatePage / 2]byte)
		}
		page = new([fatePage / 2]byte)
		f.pages[numberOf(p)] = page
	}
	at := p.Offset % fatePage
	shift := at % 2 * 4
	page[at/2] = page[at/2]&^(0xf<<shift) | byte(fate)<<shift
}

func (f *fates) of(p Place) Fate {
	f.mu.Lock()
	defer f.mu.Unlock()
	page := f.pages[numberOf(p)]
	if page == nil {
		return Open
	}
	at := p.Offset % fatePage
	return Fate(page[at/2] >> (at % 2 * 4) & 0xf)
}
