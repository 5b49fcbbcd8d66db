package main

import (
	"serbridge/bridge/deadletter"
	"serbridge/bridge/stellar"
	"serbridge/transform"
)

// advice is what a reason means, and what to do about letters of it.
type advice struct{ means, do string }

const (
	mendSource    = "Mend it where the detection is made. What is of no use can be discarded."
	readBody      = "Read the API's words (http), and correct the field that they name at its source or in the settings."
	lookFirst     = "Look in Stellar Cyber whether it is there before it is sent again, or it may be stored twice."
	mendSettings  = "It was refused for itself while others were taken: correct what the sentence above names."
	readConnect   = "Read the detail, which is Kafka Connect's exception, and mend it at that connector."
	notOurs       = "Look at it with dlq show or a Kafka tool: something else writes to this topic, or the headers were damaged."
	startsFromAPI = "This is a fault of the way to the API, not of the record. It can be sent again as it is."
)

// reasonAdvice covers the closed set of reasons: the transform's, the API's answers, and our own.
var reasonAdvice = func() map[string]advice {
	table := map[string]advice{
		string(transform.InvalidJSON):      {"the value is not JSON, even after the repairs", mendSource},
		string(transform.TooDeep):          {"the record is nested deeper than MAX_DEPTH", "Raise MAX_DEPTH if such records are meant, or flatten them at the source."},
		string(transform.UnknownFormat):    {"no format recognises the record", "Check that the topic holds detections, and FORMATS; serbridge transform shows what a record becomes."},
		string(transform.MissingField):     {"a required field is not there, and no rule can fill it", "Add the field at the source, or, for event_source, set EVENT_SOURCE."},
		string(transform.InvalidField):     {"a required field has a type or value that cannot be read", mendSource},
		string(transform.TooManyDocuments): {"the record holds more detections than MAX_FANOUT", "Raise MAX_FANOUT, or send fewer detections in one record."},
		string(transform.DocumentTooLarge): {"the document is above MAX_DOCUMENT_BYTES, even with the vendor's fields alone", "Raise MAX_DOCUMENT_BYTES if the platform takes it, or shorten the fields at the source."},
		string(transform.InvalidText):      {"a line of CEF or LEEF, or a row of a log in columns, that cannot be taken apart", mendSource},
		string(transform.MappingCost):      {"an expression of the mapping looked at more of the record than it may", "The record holds lists of a size that no detection has: look at what its source writes."},
		string(transform.InvalidEncoding):  {"the value is compressed, Avro or Protobuf, and broken, or not of the schema that it names", mendSource},
		string(transform.ExpandsTooFar):    {"unpacked, the value would be over 100 times its size, or over 16 MiB", "Send fewer detections in one record. What is larger than that is hardly a detection."},
		string(transform.UnknownSchema):    {"the value names a schema that the registry has not, or no registry is set", "Set SCHEMA_REGISTRY_URL to the registry of whoever writes the topic, then redrive the letters."},

		deadletter.Ambiguous:        {"it was sent MAX_SENDS times, and no answer said whether it was stored", lookFirst},
		deadletter.RetriesExhausted: {"the API failed with it again and again, while it took others", "Ask the vendor what the API stumbles over (http), or simplify the detection at its source."},
		deadletter.ByHand:           {"an operator moved the record here; the detail says why", "The bridge may have sent it before. " + lookFirst},
		deadletter.OfConnect:        {"a Kafka Connect connector wrote this letter, which has no reason of serbridge", readConnect},
		deadletter.Unreadable:       {"this record is no dead letter, or its headers cannot be read", notOurs},

		stellar.ReasonInvalidEventStatus: {"", "Map the source's status to one of New, In Progress, Ignored, Closed, or set EVENT_STATUS."},
		stellar.ReasonMissingEventFields: {"", readBody},
		"http_400":                       {"", readBody},
		"http_422":                       {"", readBody},
		"http_413":                       {"", "Lower MAX_DOCUMENT_BYTES or RAW_BYTES, or shorten the fields at the source."},
		"http_403":                       {"", "If others pass, a firewall before the API most likely refuses a text in this document: ask for an exception, or set RAW_BYTES=0."},
		"http_4xx":                       {"", readBody},
	}
	for _, reason := range stellar.Reasons() {
		a := table[reason]
		a.means = stellar.Explain(reason)
		switch {
		case a.do != "":
		case len(reason) == len("http_400") && reason[:6] == "http_4":
			a.do = mendSettings
		default:
			a.do = startsFromAPI
		}
		table[reason] = a
	}
	return table
}()

// adviceFor is that of a reason; a letter of another build may have one that is unknown here.
func adviceFor(reason string) advice {
	if a, ok := reasonAdvice[reason]; ok {
		return a
	}
	return advice{"this build does not know the reason", "Read the detail, or ask the build that wrote the letter (bridge)."}
}
