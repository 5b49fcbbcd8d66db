package format

import "serbridge/transform"

// aellaSERName is the format of the index's own document, as a source writes it that knows the vendor's table.
const aellaSERName = "aella_ser"

// aellaSER has no file: all of it is that every field stands under its own name.
var aellaSER = &mapping{name: aellaSERName, format: aellaSERName}

// isAellaSER asks for event_name, or for two of the other required fields: then the name is what is missing. Inside an
// envelope it takes two in any case, since there the sender did not write for this index alone.
func isAellaSER(record transform.Value, wrapped bool) bool {
	n := 0
	if !record.Get("event_name").IsAbsent() {
		if n++; !wrapped {
			return true
		}
	}
	for _, name := range []string{"timestamp", "event_status", "event_source"} {
		if !record.Get(name).IsAbsent() {
			n++
		}
	}
	return n >= 2
}

// aellaSERMapping is the name and hash of the mapping below. Its version rises with every change of what is mapped.
var aellaSERMapping = mappingName("aella_ser", "version 1")

func mapAellaSER(d *transform.Detection, record transform.Value) {
	if !record.Get("write_by").IsAbsent() {
		d.Skip = transform.AlreadyStored
		return
	}
	d.Format, d.Mapping = aellaSERName, aellaSERMapping
	d.Source, d.Destination = record.Get("srcip"), record.Get("dstip")
	d.Identity = identityOfAellaSER(d.Identity, record)
	for _, m := range record.Members() {
		if !d.Set(m.Name, m.Value) {
			d.Rest = append(d.Rest, m)
		}
	}
	liftAlertTime(d)
}

// liftAlertTime reads stellar.alert_time where the dotted name was written as an object. What else stands in it stays
// among the record's own fields.
func liftAlertTime(d *transform.Detection) {
	const dotted = "stellar.alert_time"
	if !d.Field(dotted).IsAbsent() {
		return
	}
	for i, m := range d.Rest {
		at := m.Value.Get("alert_time")
		if m.Name != "stellar" || at.IsAbsent() {
			continue
		}
		d.Set(dotted, at)
		d.Rest[i].Value = m.Value.Without("alert_time")
	}
}

// identityOfAellaSER: with an id of its own a detection is that id of that source, and an update is another time, status
// or score. Without one it is what the table says of the event.
func identityOfAellaSER(identity []transform.Value, record transform.Value) []transform.Value {
	names := []string{"event_source", "orig_id", "orig_index", "timestamp", "event_status", "severity", "event_score"}
	if record.Get("orig_id").IsBlank() {
		names = []string{
			"event_source", "event_name", "event_type", "timestamp", "start_bucket_time", "end_bucket_time", "orig_index",
			"detected_field", "detected_value", "detected_fields", "detected_values", "srcip", "dstip",
		}
	}
	for _, n := range names {
		identity = append(identity, record.Get(n))
	}
	return identity
}
