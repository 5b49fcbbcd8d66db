package main

import (
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"

	"serbridge/bridge/stellar/stellartest"
)

// learn runs check --learn against a simulator of its own, in virtual time, and returns what it says and the simulator.
func learn(t *testing.T, v stellartest.Variant, args ...string) (result, *stellartest.Server) {
	t.Helper()
	vn := new(kfake.VirtualNetwork)
	ln, err := vn.Listen("tcp", "localhost:80")
	if err != nil {
		t.Fatal(err)
	}
	simulator := stellartest.New(stellartest.Config{APIKey: checkAPIKey, Variant: v})
	defer simulator.Close()
	simulator.Serve(ln)
	var stdout, stderr strings.Builder
	p := &program{stdout: &stdout, stderr: &stderr, environ: map[string]string{
		"KAFKA_BROKERS": "localhost:9092", "KAFKA_TOPICS": "detections", "STELLAR_URL": "http://localhost",
		"STELLAR_USER": stellartest.DefaultUser, "STELLAR_API_KEY": checkAPIKey,
	}}
	c := &check{program: p, learn: true, consent: true, timeout: 10 * time.Second, dial: vn.DialContext, json: true}
	if len(args) > 0 {
		c.preset = args[0]
	}
	got := result{code: exitCode(c.run(t.Context())), stdout: stdout.String(), stderr: stderr.String()}
	if strings.Contains(got.stdout+got.stderr, checkAPIKey) {
		t.Errorf("the API key is shown: %+v", got)
	}
	return got, simulator
}

// learning is what check --learn --json says.
type learning struct {
	Result   state             `json:"result"`
	Facts    facts             `json:"facts"`
	Settings map[string]string `json:"settings"`
	Preset   json.RawMessage   `json:"preset"`
}

func TestLearningAPlatformGivesThePresetThatIsIt(t *testing.T) {
	for name, c := range map[string]struct {
		platform stellartest.Variant
		settings map[string]string
	}{
		"as documented": {stellartest.Variant{RefreshDelay: time.Second}, map[string]string{"STELLAR_AUTH": "jwt", "ON_AMBIGUOUS": "probe"}},
		"hosted": {stellartest.Variant{RefreshDelay: 20 * time.Second, SaaSIndex: true, Errors: stellartest.Errors400JSON, Auth: stellartest.AuthNoBasic},
			map[string]string{"STELLAR_AUTH": "jwt", "ON_AMBIGUOUS": "probe", "PROBE_WAIT": "1m20s"}},
		"nested again": {stellartest.Variant{RefreshDelay: time.Second, CustomFields: stellartest.CustomNested, Errors: stellartest.Errors422},
			map[string]string{"STELLAR_AUTH": "jwt", "ON_AMBIGUOUS": "probe", "CUSTOM_FIELDS": "flat"}},
		"scoped key": {stellartest.Variant{Auth: stellartest.AuthScoped, Search: stellartest.SearchRefused}, map[string]string{"STELLAR_AUTH": "jwt-bearer"}},
		"says OK":    {stellartest.Variant{RefreshDelay: time.Second, Success: stellartest.SuccessOK, LenientStatus: true}, map[string]string{"STELLAR_AUTH": "jwt", "ON_AMBIGUOUS": "probe"}},
		"says little": {stellartest.Variant{RefreshDelay: time.Second, Success: stellartest.SuccessAccepted, Errors: stellartest.Errors200Text},
			map[string]string{"STELLAR_AUTH": "jwt", "ON_AMBIGUOUS": "probe", "STELLAR_SUCCESS": "status"}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				got, simulator := learn(t, c.platform)
				var said learning
				if err := json.Unmarshal([]byte(got.stdout), &said); err != nil || got.code != exitDone {
					t.Fatalf("%v: %+v", err, got)
				}
				preset, err := stellartest.ParseVariant(said.Preset)
				if err != nil {
					t.Fatal(err)
				}
				if late := preset.RefreshDelay - c.platform.RefreshDelay; late < 0 || late > learnPoll {
					t.Errorf("refresh delay %s, want %s", preset.RefreshDelay, c.platform.RefreshDelay)
				}
				preset.RefreshDelay = c.platform.RefreshDelay
				if preset != c.platform {
					t.Errorf("preset %+v, want %+v", preset, c.platform)
				}
				if !maps.Equal(said.Settings, c.settings) {
					t.Errorf("settings %v, want %v", said.Settings, c.settings)
				}
				documents := len(simulator.Documents())
				if want := 1; documents != want && (!c.platform.LenientStatus || documents != 2) {
					t.Errorf("%d documents were inserted", documents)
				}
				for _, d := range simulator.Documents() {
					if !strings.Contains(string(d.Body), `"event_status":"Closed"`) || !strings.Contains(string(d.Body), `"event_score":0`) {
						t.Errorf("not closed, or with a score: %s", d.Body)
					}
				}
			})
		})
	}
}

func TestLearningAWrongAddressWritesNoPreset(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		preset := filepath.Join(t.TempDir(), "preset.json")
		got, simulator := learn(t, stellartest.Variant{InsertPath: "/other"}, preset)
		if got.code != exitFailed || len(simulator.Documents()) != 0 {
			t.Errorf("%+v, %d documents", got, len(simulator.Documents()))
		}
		if _, err := os.Stat(preset); err == nil {
			t.Error("a preset was written of a platform that was not learned")
		}
	})
}

func TestSimulatorPlaysAPreset(t *testing.T) {
	want := stellartest.Variant{Success: stellartest.SuccessOK, RefreshDelay: 1500 * time.Millisecond, SaaSIndex: true}
	text, err := want.Text()
	if err != nil {
		t.Fatal(err)
	}
	if got, err := stellartest.ParseVariant(text); err != nil || got != want {
		t.Errorf("%s is read as %+v, %v", text, got, err)
	}
	file := filepath.Join(t.TempDir(), "preset.json")
	if err := os.WriteFile(file, []byte(`{"succes":"ok"}`), 0o644); err != nil {
		t.Fatal(err)
	}
	if got := runProgram(program{}, "simulator", "--preset", file); got.code != exitUsage || !strings.Contains(got.stderr, "succes") {
		t.Errorf("a misspelt preset: %+v", got)
	}
}
