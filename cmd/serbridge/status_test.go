package main

import (
	"context"
	"encoding/json"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"serbridge/bridge/admin"
	"serbridge/bridge/frontier"
)

func (w *deliveredWorld) status(want int) (st standing) {
	w.t.Helper()
	got := w.command("status --json --over 200ms")
	if err := json.Unmarshal([]byte(got.stdout), &st); err != nil || got.code != want {
		w.t.Fatalf("code %d, want %d: %v, %s%s", got.code, want, err, got.stdout, got.stderr)
	}
	return st
}

func (w *deliveredWorld) commit(partition int32, at int64, metadata string) {
	w.t.Helper()
	var o kadm.Offsets
	o.Add(kadm.Offset{Topic: "t", Partition: partition, At: at, LeaderEpoch: -1, Metadata: metadata})
	if _, err := w.admin.CommitOffsets(w.t.Context(), "live", o); err != nil {
		w.t.Fatal(err)
	}
}

const goodDetection = `{"event_name":"e","event_source":"s"}`

// A group whose pods are gone still says what waits, since when, and that nobody delivers it.
func TestStatusOfAStoppedGroupSaysWhatWaits(t *testing.T) {
	t.Parallel()
	w := newDeliveredWorld(t, 20)
	for _, name := range []string{"STELLAR_URL", "STELLAR_USER", "STELLAR_API_KEY"} {
		delete(w.environ, name)
	}
	if st := w.status(exitDone); st.Backlog != 0 || *st.DeadLetters != 2 || !strings.Contains(st.Verdict, "nothing waits") || st.State != stateWarning {
		t.Errorf("all delivered: %+v", st)
	}
	w.produceAt(0, []byte(goodDetection), time.Now().Add(-3*time.Hour))
	st := w.status(exitFailed)
	if st.Backlog != 1 || st.State != stateFailed || !strings.Contains(st.Verdict, "1 wait") || !strings.Contains(st.Verdict, "no members") {
		t.Errorf("%+v", st)
	}
	if p := st.Partitions[0]; *p.Base != 10 || p.Oldest == nil || st.At.Sub(*p.Oldest).Round(time.Minute) != 3*time.Hour || p.RetentionIn == nil {
		t.Errorf("%+v", p)
	}
}

// What is settled above a stuck record is lag to Kafka, and no work.
func TestStatusLeavesOutWhatIsSettledAboveTheBase(t *testing.T) {
	t.Parallel()
	w := newDeliveredWorld(t, 0)
	for range 6 {
		w.produceAt(0, []byte(goodDetection), time.Now())
	}
	f := frontier.New(frontier.Config{Group: "live", Topic: "t", Base: 1, Epoch: -1})
	for offset := int64(1); offset < 6; offset++ {
		f.Add(offset, 0, 1, time.Now())
	}
	f.Settle(3, 1)
	f.Settle(5, 1)
	f.SetHeld(true)
	commit, _ := f.Snapshot()
	w.commit(0, commit.Base, commit.Metadata)
	w.commit(1, 0, "somebody else's\x1b[2J")
	st := w.status(exitFailed)
	if p := st.Partitions[0]; !p.Held || *p.Base != 1 || p.SettledAbove != 2 || p.Backlog != 3 {
		t.Errorf("%+v", p)
	}
	if p := st.Partitions[1]; p.Ignored != "foreign" {
		t.Errorf("%+v", p)
	}
}

// What retention took, and a commit that the log does not reach, are losses that nobody else says while no pod runs.
func TestStatusSaysWhatRetentionTook(t *testing.T) {
	t.Parallel()
	w := newDeliveredWorld(t, 0)
	for range 4 {
		w.produceAt(0, []byte(goodDetection), time.Now())
	}
	w.commit(0, 1, "")
	w.commit(1, 99, "")
	if _, err := w.admin.DeleteRecords(t.Context(), kadm.Offsets{"t": {0: {Topic: "t", Partition: 0, At: 3}}}); err != nil {
		t.Fatal(err)
	}
	st := w.status(exitFailed)
	if p := st.Partitions[0]; p.Lost != 2 || p.Backlog != 1 {
		t.Errorf("%+v", p)
	}
	var says strings.Builder
	for _, f := range st.Findings {
		says.WriteString(f.Says + "\n")
	}
	for _, want := range []string{"retention removed 2 offsets", "t/1: the commit lies beyond the end"} {
		if !strings.Contains(says.String(), want) {
			t.Errorf("no %q in %s", want, says.String())
		}
	}
}

// Members are seen by either protocol, and one that settles nothing is called what it is.
func TestStatusOfAGroupThatStandsStill(t *testing.T) {
	t.Parallel()
	for _, protocol := range []string{"classic", "consumer"} {
		w := newDeliveredWorld(t, 0)
		w.produceAt(0, []byte(goodDetection), time.Now().Add(-time.Hour))
		opts := []kgo.Opt{kgo.SeedBrokers(w.cluster.ListenAddrs()...), kgo.ClientID("pod-a"), kgo.ConsumerGroup("live"), kgo.ConsumeTopics("t"), kgo.DisableAutoCommit()}
		if protocol == "consumer" {
			opts = append(opts, kgo.ServerSideBalancer())
		}
		member, err := kgo.NewClient(opts...)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.cluster.WaitGroupStable(t.Context(), "live", 1); err != nil {
			t.Fatal(err)
		}
		st := w.status(exitFailed)
		member.Close()
		if st.Group.Members != 1 || st.Group.Protocol != protocol || protocol == "classic" && st.Partitions[0].Member != "pod-a" || !strings.Contains(st.Verdict, "nothing was settled") {
			t.Errorf("%s: %+v", protocol, st)
		}
	}
}

// A right that is missing makes a remark, not a failure; without the commits nothing is known, and that is said.
func TestStatusWithoutRights(t *testing.T) {
	t.Parallel()
	p := newPlace(t, without("detections", kmsg.ACLOperationDescribeConfigs), "detections")
	p.begin()
	got := runProgram(program{environ: p.environ}, "status", "--over", "200ms")
	if got.code != exitDone || !strings.Contains(got.stdout, "nothing waits") {
		t.Errorf("%+v", got)
	}
	p = newPlace(t, without("g", 0), "detections")
	p.begin()
	got = runProgram(program{environ: p.environ}, "status", "--over", "200ms")
	if got.code != exitFailed || !strings.HasPrefix(got.stdout, "cannot tell: ") {
		t.Errorf("%+v", got)
	}
	if got := runProgram(program{environ: p.environ}, "status", "--over", "0s"); got.code != exitUsage {
		t.Errorf("%+v", got)
	}
}

// Somebody would be woken for a rate that the operator chose.
func TestStatusAtALowRateIsNoStandstill(t *testing.T) {
	for rate, want := range map[float64]state{0: stateFailed, 0.5: stateWarning, 2: stateFailed} {
		long := time.Now().Add(-time.Hour)
		st := &standing{At: time.Now(), Seconds: 5, RateLimit: rate, Group: groupStanding{Members: 1, State: "Stable"}, Backlog: 1,
			Partitions: []partitionStanding{{Topic: "t", Member: "pod", Backlog: 1, Oldest: &long}}}
		if st.judge(); st.State != want {
			t.Errorf("RATE_LIMIT=%v: %s, %+v", rate, st.State, st.Findings)
		}
	}
}

// Kafka says that nothing is delivered; why, and since when, only the member knows.
func TestStatusSaysWhyAPodDoesNotDeliver(t *testing.T) {
	t.Parallel()
	w := newDeliveredWorld(t, 0)
	w.produceAt(0, []byte(goodDetection), time.Now().Add(-time.Hour))
	registry, health := prometheus.NewRegistry(), new(admin.Health)
	gauge := func(name string, value float64, labels prometheus.Labels) {
		g := prometheus.NewGauge(prometheus.GaugeOpts{Name: name, ConstLabels: labels})
		g.Set(value)
		registry.MustRegister(g)
	}
	gauge("serbridge_exposure_documents", 7, nil)
	gauge("serbridge_turned_away_since_timestamp_seconds", 1e9, prometheus.Labels{"topic": "t"})
	gauge("serbridge_turned_away_ratio", 1, prometheus.Labels{"topic": "t"})
	gauge("serbridge_turned_away_before_ratio", 0.03, prometheus.Labels{"topic": "t"})
	pod := admin.New(admin.Config{Addr: "127.0.0.1:0", Health: health, Gatherer: registry})
	if err := pod.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = pod.Shutdown(context.Background()) })
	health.NotReady("gate", "gate closed: 401 from the platform")
	w.produceAt(1, []byte("x"), time.Now().Add(-time.Hour))
	got := w.command("status --over 200ms --pods 127.0.0.1:1," + pod.Addr())
	for _, want := range []string{"1 of 2 pods: gate closed: 401 from the platform", "100 % of t skipped or dead-lettered since", "was 3 %", "pod 127.0.0.1:1 does not answer", "\n" + pod.Addr() + "  no     "} {
		if !strings.Contains(got.stdout, want) {
			t.Errorf("no %q in %s", want, got.stdout)
		}
	}
	if first, _, _ := strings.Cut(got.stdout, "\n"); got.code != exitFailed || !strings.HasPrefix(first, "0/s settled") || !strings.Contains(first, "gate closed") {
		t.Errorf("code %d, %s", got.code, first)
	}
	health.Ready("gate")
	st := standing{}
	got = w.command("status --json --over 200ms --pods " + pod.Addr())
	if err := json.Unmarshal([]byte(got.stdout), &st); err != nil || len(st.Pods) != 1 || !st.Pods[0].Ready || *st.Pods[0].Exposure != 7 {
		t.Errorf("%v, %s", err, got.stdout)
	}
}

// A dead letter that nobody looks at is lost without a word once retention takes it.
func TestStatusSaysThatRetentionSoonTakesDeadLetters(t *testing.T) {
	t.Parallel()
	w := newDeliveredWorld(t, 0)
	w.produceAt(0, []byte("no json"), time.Now().Add(-2*time.Hour))
	w.live()
	keep := func(topic, name, value string) {
		t.Helper()
		if _, err := w.admin.AlterTopicConfigs(t.Context(), []kadm.AlterConfig{{Name: name, Value: &value}}, topic); err != nil {
			t.Fatal(err)
		}
	}
	keep("live.dlq", "retention.ms", "10000000") // of which two hours are 72 %
	if st := w.status(exitDone); len(st.Findings) != 2 || st.Findings[1].Says != "1 dead letter that nobody has handled" ||
		st.OldestLetter == nil || st.At.Sub(*st.OldestLetter).Round(time.Minute) != 2*time.Hour {
		t.Errorf("early: %+v", st)
	}
	keep("live.dlq", "retention.ms", "8700000") // 83 %
	if st := w.status(exitFailed); !strings.Contains(st.Verdict, "retention may remove the oldest in 24 min") {
		t.Errorf("near: %+v", st)
	}
	keep("t", "retention.bytes", "1000000")
	if got := w.command("dlq park --reason invalid_json --because seen"); got.code != exitDone {
		t.Fatalf("%+v", got)
	}
	st := w.status(exitDone)
	if *st.DeadLetters != 0 || st.OldestLetter != nil || len(st.Findings) != 1 {
		t.Errorf("handled: %+v", st)
	}
	if len(st.Remarks) != 1 || !strings.Contains(st.Remarks[0], "t has retention.bytes") {
		t.Errorf("remarks %q", st.Remarks)
	}
}

// A look every few seconds must not read each time all that was ever handled.
func TestStatusWatchesDeadLettersSeldom(t *testing.T) {
	t.Parallel()
	w := newDeliveredWorld(t, 10)
	s := &status{timeout: 10 * time.Second, admin: w.admin}
	var err error
	if s.settings, err = loadStatusSettings(w.environ, nil); err != nil {
		t.Fatal(err)
	}
	if s.options, err = s.settings.Kafka.options(slog.New(slog.DiscardHandler), nil); err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	s.lookAtLetters(t.Context(), now)
	if got := w.command("dlq park --reason invalid_json --because seen"); got.code != exitDone || s.letters.n != 1 {
		t.Fatalf("%d letters, %+v", s.letters.n, got)
	}
	if s.lookAtLetters(t.Context(), now.Add(lettersEvery-time.Second)); s.letters.n != 1 {
		t.Error("they were looked at again at once")
	}
	if s.lookAtLetters(t.Context(), now.Add(lettersEvery)); s.letters.n != 0 {
		t.Error("they were not looked at again")
	}
}

// A record between two attempts would wake somebody, each time that one looks for a few seconds.
func TestStatusOfAYoungRecordIsNoStandstill(t *testing.T) {
	now := time.Now()
	for age, want := range map[time.Duration]state{2 * time.Second: stateOK, 30 * time.Second: stateWarning, 2 * time.Minute: stateFailed} {
		at := now.Add(-age)
		st := &standing{At: now, Seconds: 5, RateLimit: 200, Group: groupStanding{Members: 1, State: "Stable"}, Backlog: 1,
			Partitions: []partitionStanding{{Topic: "t", Member: "pod", Backlog: 1, Oldest: &at}}}
		if st.judge(); st.State != want {
			t.Errorf("%v old: %s, %+v", age, st.State, st.Findings)
		}
	}
}

func TestStatusSaysThatAGroupHasNoState(t *testing.T) {
	for want, group := range map[string]groupStanding{"group g, 0 members, no state known; ": {Name: "g"},
		"group g, 2 members, classic Stable; ": {Name: "g", Protocol: "classic", State: "Stable", Members: 2}} {
		if text := (&standing{Group: group}).text(); !strings.Contains(text, want) {
			t.Errorf("no %q in %s", want, text)
		}
	}
}

func TestStatusLinesAreSafe(t *testing.T) {
	st := &standing{Verdict: "a\x1b[2J\nb", Group: groupStanding{Name: "g"}, Partitions: []partitionStanding{{Topic: "t", Member: "pod\x1b[2J"}}, Remarks: []string{"c\r"}}
	if text := st.text(); strings.ContainsAny(text, "\x1b\r") {
		t.Errorf("%q", text)
	}
}
