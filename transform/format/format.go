package format

import (
	"bytes"
	"fmt"
	"slices"
	"strings"

	"serbridge/transform"
	"serbridge/transform/codec"
)

// Names returns the names of all formats, as FORMATS takes them, in the order in which they are tried.
func Names() []string { return append([]string{aellaSERName}, inUse().formats...) }

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

// Transform turns a record into documents, a Skip or a Reject, or holds it: decode, read, take envelopes off, recognise, map, build. What
// concerns the only detection of a record is said of the record. It never panics, whatever the bytes.
func Transform(in transform.Input) transform.Result { return inUse().transform(in) }

func (c *catalogue) transform(in transform.Input) transform.Result {
	if in.Value == nil {
		return transform.Result{Skip: transform.Tombstone}
	}
	text, hold, reject := codec.Decode(&in)
	if hold != nil || reject != nil {
		return transform.Result{Hold: hold, Reject: reject}
	}
	in.Value = text
	roots, tree, reject := read(&in)
	if reject != nil {
		return transform.Result{Reject: reject}
	}
	defer tree.Release()
	o := openers.Get().(*opener)
	defer o.release()
	o.formats, o.settings = c, in.Settings
	for _, root := range roots {
		if !o.open(root) {
			break
		}
	}
	tree.Repairs = allRepairs(tree.Repairs, o.leaves)
	result := transform.Result{Repairs: tree.Repairs}
	if len(o.leaves) == 0 {
		result.Skip = transform.NoDetections
		return result
	}
	result.Format = formatOf(o.leaves)
	found := pool.Get().(*detections)
	defer found.release()
	found.most = in.Settings.Fanout()
	for i := 0; i < len(o.leaves) && !found.tooMany(); i++ {
		found.add(&o.leaves[i], &in, len(o.leaves) > 1)
	}
	result.Parts, result.Reject = transform.Documents(&in, tree, found.all)
	if only := result.Parts; len(only) == 1 && only[0].Document == nil {
		result.Parts, result.Skip, result.Reject = nil, only[0].Skip, only[0].Reject
	}
	return result
}

// read reads a record as one JSON value, as JSON lines, or as one of the text formats.
func read(in *transform.Input) ([]leaf, transform.Tree, *transform.Reject) {
	trimmed := bytes.TrimLeft(in.Value, "\uFEFF \t\r\n")
	isJSON := len(trimmed) > 0 && (trimmed[0] == '{' || trimmed[0] == '[')
	if !isJSON && len(trimmed) > 0 {
		text := string(trimmed)
		if leaves, ok := plainText(text, in.Settings); ok {
			return leaves, transform.Tree{Text: text, Repairs: markRepaired(in.Value, text)}, nil
		}
	}
	tree, reject := transform.Read(in)
	if reject == nil {
		return []leaf{{record: tree.Root}}, tree, nil
	}
	if reject.Reason == transform.InvalidJSON && isJSON {
		text := string(trimmed)
		if leaves, ok := jsonLines(text, in.Settings); ok {
			return leaves, transform.Tree{Text: text, Repairs: markRepaired(in.Value, text)}, nil
		}
	}
	return nil, transform.Tree{}, reject
}

// markRepaired reports the byte-order mark that stood before text in value.
func markRepaired(value []byte, text string) []transform.Repair {
	if strings.Contains(string(value[:len(value)-len(text)]), "\uFEFF") {
		return []transform.Repair{transform.RepairedBOM}
	}
	return nil
}

// allRepairs adds the repairs of texts inside the record to its own.
func allRepairs(own []transform.Repair, leaves []leaf) []transform.Repair {
	for i := range leaves {
		for _, r := range leaves[i].repairs {
			if !slices.Contains(own, r) {
				own = append(own[:len(own):len(own)], r)
			}
		}
	}
	return own
}

// formatOf is the format of a record's leaves; the first that is known, should they differ.
func formatOf(leaves []leaf) string {
	for i := range leaves {
		if m := leaves[i].mapping; m != nil {
			return m.format
		}
	}
	return ""
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
	names.Grow(5 * quoted)
	for i := 0; i < len(members) && names.Len() < 4*quoted; i++ {
		names.WriteString(members[i].Name)
		names.WriteByte(' ')
	}
	return "no format in FORMATS fits a record with the keys " + transform.Quote(strings.TrimSpace(names.String()), quoted)
}
