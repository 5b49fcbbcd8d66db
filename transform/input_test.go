package transform

import (
	"strings"
	"testing"
)

func TestSettingsNameEveryProblemAtOnce(t *testing.T) {
	severity := 101
	s := &Settings{
		Namespace: "Acme.Corp", CustomFields: "nested", OnUnknown: "drop", EventStatus: "Cancelled", SeverityDefault: &severity,
		MaxDocumentBytes: -1, MaxFanout: -2, MaxDepth: 5000,
	}
	err := s.Validate()
	if err == nil {
		t.Fatal("accepted")
	}
	for _, want := range []string{
		`CUSTOM_NAMESPACE="Acme.Corp"`, `CUSTOM_FIELDS="nested"`, `ON_UNKNOWN="drop"`, `EVENT_STATUS="Cancelled"`, "SEVERITY_DEFAULT=101",
		"MAX_DOCUMENT_BYTES=-1", "MAX_FANOUT=-2", "MAX_DEPTH=5000",
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not named in: %v", want, err)
		}
	}
}

func TestSettingsThatAreFine(t *testing.T) {
	zero := 0
	for _, s := range []*Settings{
		nil, {}, {Namespace: "acme_2", CustomFields: "flat", OnUnknown: "dead-letter", EventStatus: "in progress", SeverityDefault: &zero, MaxDepth: 1000, RawBytes: -1},
	} {
		if err := s.Validate(); err != nil {
			t.Errorf("%+v: %v", s, err)
		}
	}
}

// A namespace of such a name would be taken for the field.
func TestNamespaceIsNoFieldOfTheIndex(t *testing.T) {
	for _, name := range []string{"severity", "custom_ser_field", "tenantid", "stellar", "write_time"} {
		if err := (&Settings{Namespace: name}).Validate(); err == nil {
			t.Errorf("%s was accepted", name)
		}
	}
}
