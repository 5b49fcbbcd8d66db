package main

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/gzip"
	"github.com/twmb/avro"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sr"
	"github.com/twmb/franz-go/pkg/sr/srfake"

	"serbridge/bridge/audit"
)

const avroDetection = `{"type":"record","name":"Detection","fields":[{"name":"event_name","type":"string"},{"name":"event_source","type":"string"},
	{"name":"severity","type":["null","int"]},{"name":"timestamp","type":{"type":"long","logicalType":"timestamp-millis"}}]}`

// framedWorld is a replayWorld whose topic holds one detection in Avro under a frame, and the registry that describes it.
func framedWorld(t *testing.T) (*replayWorld, *srfake.Registry) {
	t.Helper()
	registry := srfake.New(srfake.WithAuth("Basic dTpoaWRkZW4tcGFzc3dvcmQ=")) // u:hidden-password
	t.Cleanup(registry.Close)
	registry.SeedSchema("t-value", 1, 41, sr.Schema{Schema: avroDetection})
	w := newReplayWorld(t, 0, recently)
	client, err := kgo.NewClient(kgo.SeedBrokers(w.cluster.ListenAddrs()...), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	if err := client.ProduceSync(t.Context(), &kgo.Record{Topic: "t", Value: framed(t, "in avro")}).FirstErr(); err != nil {
		t.Fatal(err)
	}
	w.environ["SCHEMA_REGISTRY_URL"], w.environ["SCHEMA_REGISTRY_USERNAME"] = registry.URL(), "u"
	w.environ["SCHEMA_REGISTRY_PASSWORD"] = "hidden-password"
	return w, registry
}

// framed is a detection in Avro under its frame.
func framed(t *testing.T, name string) []byte {
	t.Helper()
	payload, err := avro.MustParse(avroDetection).Encode(map[string]any{"event_name": name, "event_source": "s", "severity": 80, "timestamp": int64(1772600767890)})
	if err != nil {
		t.Fatal(err)
	}
	return append(binary.BigEndian.AppendUint32([]byte{0}, 41), payload...)
}

// An audit and a trace make of a framed record what the bridge made of it: else every document of it would be found different.
func TestFramedDetectionsAreReadBack(t *testing.T) {
	t.Parallel()
	plain, _ := framedWorld(t)
	w := deliveredIn(t, plain)
	for i := range 40 {
		w.produceAt(int32(i%2), framed(t, fmt.Sprintf("in avro %d", i)), time.Now())
	}
	w.produceAt(1, []byte{0, 0, 0, 0, 41, 1}, time.Now()) // not of its schema
	w.live()
	want := audit.Row{Produced: 42, Delivered: 41, DeadLettered: 1, Searched: 41}
	if clean := w.audit("--from earliest --read-back all --rate 10000"); clean.code != exitDone || len(clean.findings) != 0 || clean.total != want {
		t.Fatalf("before: %+v", clean)
	}
	traced := w.trace("t:1:7")
	if len(traced.Documents) != 1 || w.api.Alter(traced.Documents[0].ID, []byte(`{"event_name":"another"}`)) != nil {
		t.Fatalf("%+v", traced)
	}
	changed := w.audit("--from earliest --read-back all --rate 10000")
	if got := changed.places(audit.Different); changed.code != exitFailed || len(changed.findings) != 1 || !slices.Equal(got, []string{"t:1:7"}) {
		t.Errorf("after: %+v", changed.findings)
	}
	delete(w.environ, "SCHEMA_REGISTRY_URL")
	delete(w.environ, "SCHEMA_REGISTRY_USERNAME")
	delete(w.environ, "SCHEMA_REGISTRY_PASSWORD")
	if got := w.audit("--from earliest --read-back 1/1 --rate 10000"); len(got.findings) > 0 || got.total.Uncompared != 41 {
		t.Errorf("without a registry nothing can be compared, which is to be said: %+v", got)
	}
}

func TestFramedDetectionsAreDeliveredLookedIntoAndExported(t *testing.T) {
	w, _ := framedWorld(t)
	out := filepath.Join(t.TempDir(), "documents")
	if got := w.replay("t --from earliest --include-unsettled --output " + out); got.code != exitDone || !strings.Contains(got.stdout, "aella_ser") {
		t.Errorf("export: %+v", got)
	}
	got := w.replay("t --from earliest --include-unsettled --json")
	if ledger := lastLine(t, got.stdout, "ledger"); got.code != exitDone || ledger["delivered"] != 1.0 {
		t.Errorf("replay: %+v", got)
	}
	r := report(t, runProgram(program{environ: w.environ}, "transform", "--topic", "t", "--json"))
	if r.Documents != 1 || r.Formats["aella_ser"] != 1 {
		t.Errorf("report: %+v", r)
	}
}

// A registry that is away is no property of the records: a report that counted them as refused would be wrong.
func TestRegistryThatIsAwayFailsALookAndSaysWhatToDo(t *testing.T) {
	w, registry := framedWorld(t)
	registry.Intercept(func(rw http.ResponseWriter, _ *http.Request) bool {
		rw.WriteHeader(http.StatusServiceUnavailable)
		return true
	})
	w.environ["KAFKA_TOPICS"] = "t"
	for _, line := range []string{"replay t --from earliest --include-unsettled --dry-run", "transform --topic t", "trace t:0:0"} {
		got := runProgram(program{environ: w.environ}, strings.Fields(line)...)
		if got.code != exitFailed || !strings.Contains(got.stderr, "read schema 41 from the registry: HTTP 503") {
			t.Errorf("%s: got %+v", line, got)
		}
	}
}

func TestRegistrysPasswordIsSaidToNobody(t *testing.T) {
	w, _ := framedWorld(t)
	w.environ["SCHEMA_REGISTRY_PASSWORD"] = "another-hidden-password"
	got := runProgram(program{environ: w.environ}, "transform", "--topic", "t")
	if got.code != exitFailed || !strings.Contains(got.stderr, "check SCHEMA_REGISTRY_USERNAME") || strings.Contains(got.stdout+got.stderr, "hidden-password") {
		t.Errorf("got %+v", got)
	}
	delete(w.environ, "SCHEMA_REGISTRY_URL")
	delete(w.environ, "SCHEMA_REGISTRY_USERNAME")
	delete(w.environ, "SCHEMA_REGISTRY_PASSWORD")
	r := report(t, runProgram(program{environ: w.environ}, "transform", "--topic", "t", "--json"))
	if r.Rejected["unknown_schema"] != 1 || !strings.Contains(r.Examples["unknown_schema"], "SCHEMA_REGISTRY_URL is not set") {
		t.Errorf("without a registry: %+v", r)
	}
}

func TestCompressedFileIsTransformed(t *testing.T) {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	w.Write([]byte(goodRecord)) //nolint:errcheck // into memory
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	got := runProgram(program{}, "transform", "--whole-file", write(t, "r.gz", b.String()))
	if docs := documents(t, got.stdout); got.code != exitDone || len(docs) != 1 {
		t.Errorf("got %+v", got)
	}
}
