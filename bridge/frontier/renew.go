package frontier

// Dirty reports whether a commit would say something new.
func (f *Frontier) Dirty() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return !f.fenced && f.version != f.committed
}

// Settled returns what the frontier knows, to seed the one that takes its
// place when the log was cut off under it while the partition stays ours.
func (f *Frontier) Settled() (base int64, settled Map) {
	f.mu.Lock()
	defer f.mu.Unlock()
	m := f.fields
	m.settled = f.settled.clone()
	epoch := f.epochOf(f.highest())
	m.Epoch = &epoch
	return f.base, m
}
