package transform

// Detection is what a format's mapping reads in a record: native values, not yet judged. Documents makes documents of
// them, by the same rules for every format.
type Detection struct {
	Format  string // name and dialect
	Mapping string // name@hash of the mapping

	Skip   SkipReason // not empty: the record shows by its content that this is no detection
	Reject *Reject    // not nil: this part of the record is none that a mapping could read

	// Own are members for the namespace, under the names that it keeps for formats: description, host, sample and so on.
	Own []Member
	// Rest are the record's own fields that no rule of the mapping reads. Their names differ.
	Rest []Member
	// Detected are the observables. None: those of the fields detected_fields and detected_values.
	Detected []Observable
	// Source and Destination are the addresses of a connection, for lateral when the source does not state it.
	Source, Destination Value
	// Identity is what makes the detection the same when its source sends it again, and another when its source has
	// updated it. Never a Kafka coordinate, or a replayed topic looks new. Empty: the record's bytes.
	Identity []Value

	// Times are when the event took place, as the source says it in one place after the other; the first that can be read
	// stands. Empty: the field timestamp alone.
	Times []Value
	// Severity and Status are what the native ones mean by the format's own tables. Absent: by the common tables.
	Severity, Status Value
	// Judged says that Severity is all there is to know: without it, the native one is on a scale that nobody knows.
	Judged bool
	// Raw is the native record of this detection. Empty: the whole record, as it came.
	Raw string
	// Identified says that Identity tells the detection also where the source states no time.
	Identified bool

	native [fieldCount]Value
}

// Reset empties the detection for the next record, and keeps its memory: a document keeps nothing of the detection that
// it was made of.
func (d *Detection) Reset() {
	clear(d.Own)
	clear(d.Rest)
	clear(d.Identity)
	clear(d.Times)
	clear(d.Detected)
	*d = Detection{Own: d.Own[:0], Rest: d.Rest[:0], Identity: d.Identity[:0], Times: d.Times[:0], Detected: d.Detected[:0]}
}

// Observable is a value by which others would know what was detected, and the field that the record has it in.
type Observable struct{ Name, Value string }

// Set gives the detection the native value of a field of the vendor's table. It returns false, and does nothing, when
// name is none of them.
func (d *Detection) Set(name string, v Value) bool {
	f, ok := fieldByName[name]
	if ok {
		d.native[f] = v
	}
	return ok
}

// Field returns the native value of a field of the vendor's table.
func (d *Detection) Field(name string) Value {
	if f, ok := fieldByName[name]; ok {
		return d.native[f]
	}
	return Value{}
}
