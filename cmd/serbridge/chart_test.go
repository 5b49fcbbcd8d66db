package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const chartSchema = "../../helm/serbridge/values.schema.json"

// ofChart are the variables that the chart makes of values of its own; the rest are its `settings`.
var ofChart = []string{"KAFKA_BROKERS", "KAFKA_TOPICS", "KAFKA_GROUP", "KAFKA_TLS", "KAFKA_TLS_CA_FILE", "KAFKA_TLS_CERT_FILE", "KAFKA_TLS_KEY_FILE",
	"KAFKA_SASL_MECHANISM", "STELLAR_URL", "STELLAR_CA_FILE", "DRAIN_TIMEOUT", "MAPPING_DIR", "ADMIN_ADDR"}

// The chart's schema is this table once more: a setting that it does not know cannot be set, one that is wrong must be
// refused before it reaches a pod. UPDATE=1 writes the schema.
func TestChartSchemaIsTheTableOfSettings(t *testing.T) {
	text, err := os.ReadFile(chartSchema)
	if err != nil {
		t.Fatal(err)
	}
	var schema map[string]any
	if err := json.Unmarshal(text, &schema); err != nil {
		t.Fatal(err)
	}
	want := settingsSchema()
	properties := schema["properties"].(map[string]any)
	if reflect.DeepEqual(properties["settings"], want) {
		return
	}
	if os.Getenv("UPDATE") == "" {
		t.Fatalf("properties.settings of %s is not what the table says: UPDATE=1 go test -run ChartSchema ./cmd/serbridge", chartSchema)
	}
	properties["settings"] = want
	if text, err = json.MarshalIndent(schema, "", "  "); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(chartSchema, append(text, '\n'), 0o644); err != nil {
		t.Fatal(err)
	}
}

func settingsSchema() any {
	properties := make(map[string]any)
	for _, r := range rowsOf(reflect.TypeFor[settings]()) {
		if !r.isSecret() && !r.isLater() && !slices.Contains(ofChart, r.name) {
			properties[r.name] = r.schema()
		}
	}
	return normal(map[string]any{
		"type": "object", "additionalProperties": false, "properties": properties,
		"description": "Settings by the name of their variable.",
	})
}

// schema is one row in JSON schema, draft 7.
func (r row) schema() map[string]any {
	s := map[string]any{"description": r.text(), "type": "string"}
	switch kind := r.field.Type.Kind(); {
	case r.values != nil:
		s["enum"] = slices.DeleteFunc(slices.Clone(r.values), func(v string) bool { return slices.Contains(r.later, v) })
	case r.field.Type == durationType:
		s["pattern"] = `^([0-9]+(\.[0-9]+)?(ns|us|µs|ms|s|m|h))+$`
	case r.field.Type == sizeType:
		s["type"] = []string{"string", "integer"}
		s["pattern"] = `^[0-9]+ ?(B|Ki|KiB|Mi|MiB|Gi|GiB)?$`
	case strings.HasSuffix(r.name, "_URL"), strings.HasSuffix(r.name, "_ENDPOINT"):
		s["pattern"] = `^(https?://[^/@\s]+(/\S*)?)?$` // one with a password would be shown by helm get all
	case kind == reflect.Bool:
		s["type"] = "boolean"
	case kind == reflect.Int, kind == reflect.Float64:
		s["type"] = map[reflect.Kind]string{reflect.Int: "integer", reflect.Float64: "number"}[kind]
		for bound, name := range map[string]string{r.min: "minimum", r.max: "maximum"} {
			if n, err := strconv.ParseFloat(bound, 64); err == nil {
				s[name] = n
			}
		}
	case kind == reflect.Slice:
		s["type"], s["items"] = []string{"string", "array"}, map[string]any{"type": "string"}
	}
	return s
}

// normal is a value as it is after JSON.
func normal(v any) (out any) {
	text, err := json.Marshal(v)
	if err == nil {
		err = json.Unmarshal(text, &out)
	}
	if err != nil {
		panic(err)
	}
	return out
}

// An alert that no test of promtool (.ci/chart) has seen fire may be silent for ever.
func TestEveryAlertFiresInATest(t *testing.T) {
	const of = "../../helm/serbridge/files/rules/"
	rules, err := os.ReadFile(of + "serbridge.yaml")
	if err != nil {
		t.Fatal(err)
	}
	tests, err := os.ReadFile(of + "serbridge_test.yaml")
	if err != nil {
		t.Fatal(err)
	}
	fired := make(map[string]bool)
	for _, found := range firing.FindAllStringSubmatch(string(tests), -1) {
		fired[found[1]+found[2]] = true
	}
	alerts := ruleNames.FindAllStringSubmatch(string(rules), -1)
	for _, alert := range alerts {
		if !fired[alert[1]] {
			t.Errorf("no test expects %s to fire", alert[1])
		}
	}
	if len(alerts) == 0 {
		t.Error("no alerts were found")
	}
}

var ruleNames = regexp.MustCompile(`- alert: (\w+)`)

// firing is an alert that a test expects, in either form.
var firing = regexp.MustCompile(`labels: '{alertname="(\w+)"}'|alertname: (\w+)\n +exp_alerts:\n +- exp_labels`)

var metricNames = regexp.MustCompile(`serbridge_[a-z_]+`)

// An alert or a panel on a metric that nobody writes is silent for ever.
func TestAlertsAndDashboardUseMetricsThatAreThere(t *testing.T) {
	files, err := filepath.Glob("../../bridge/*.go")
	if err != nil || len(files) == 0 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	var source strings.Builder
	for _, file := range append(files, "service.go") {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		source.Write(text)
	}
	for _, file := range []string{"rules/serbridge.yaml", "dashboards/serbridge.json"} {
		text, err := os.ReadFile("../../helm/serbridge/files/" + file)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range metricNames.FindAllString(string(text), -1) {
			plain := strings.TrimSuffix(strings.TrimSuffix(name, "_bucket"), "_count")
			short := strings.TrimPrefix(plain, "serbridge_")
			if !strings.Contains(source.String(), `"`+short+`"`) && !strings.Contains(source.String(), `"`+plain+`"`) {
				t.Errorf("%s asks for %s, which is no metric of ours", file, name)
			}
		}
	}
}
