package audit

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"serbridge/bridge/backfill"
	"serbridge/bridge/deadletter"
	"serbridge/bridge/frontier"
	"serbridge/bridge/receipt"
)

const group, receiptsTopic, lettersTopic = "g", "g.receipts", "g.dlq"

// ledger is a broker on which something is written of records at random, and what must be found.
type ledger struct {
	t       *testing.T
	r       *rand.Rand
	cluster *kfake.Cluster
	options []kgo.Opt
	client  *kgo.Client
	admin   *kadm.Client
	want    Row
	wrong   map[Kind][]string
	begun   time.Time
}

func newLedger(t *testing.T, seed uint64) *ledger {
	t.Helper()
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(3, "a", "b"), kfake.SeedTopics(2, receiptsTopic, lettersTopic))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cluster.Close)
	l := &ledger{t: t, r: rand.New(rand.NewPCG(seed, 1)), cluster: cluster, options: []kgo.Opt{kgo.SeedBrokers(cluster.ListenAddrs()...)},
		wrong: make(map[Kind][]string), begun: time.Now().Add(-5 * time.Hour).Truncate(time.Millisecond)}
	if l.client, err = kgo.NewClient(append(l.options, kgo.RecordPartitioner(kgo.ManualPartitioner()))...); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.client.Close)
	l.admin = kadm.NewClient(l.client)
	return l
}

func (l *ledger) produce(ks ...*kgo.Record) {
	l.t.Helper()
	if err := l.client.ProduceSync(l.t.Context(), ks...).FirstErr(); err != nil {
		l.t.Fatal(err)
	}
}

// write writes what became of a record, pieces of it at a time.
func (l *ledger) write(s deadletter.Source, at time.Time, parts ...receipt.Part) {
	l.t.Helper()
	r := receipt.Receipt{Source: s, Time: at, Ended: time.Now(), Group: group, Of: len(parts)}
	if len(parts) == 0 {
		r.Skip = "tombstone"
	}
	const piece = 3
	for {
		r.Parts = parts[:min(piece, len(parts))]
		parts = parts[len(r.Parts):]
		l.writeReceipt(r)
		if len(parts) == 0 {
			return
		}
	}
}

func (l *ledger) writeReceipt(r receipt.Receipt) {
	l.t.Helper()
	value, err := r.Encode()
	if err != nil {
		l.t.Fatal(err)
	}
	l.produce(&kgo.Record{Topic: receiptsTopic, Partition: r.Source.Partition % 2, Key: []byte(r.Source.String()), Value: value, Timestamp: r.Ended})
}

// writeLetter writes one, every other time of a record that an earlier letter was made again by a redrive to its topic.
func (l *ledger) writeLetter(s deadletter.Source) {
	letter := deadletter.Letter{Topic: s.Topic, Partition: s.Partition, Offset: s.Offset, Part: -1, Reason: "invalid_json", FailedAt: time.Now()}
	if s.Offset%2 == 0 {
		letter.Headers = deadletter.Letter{Topic: "elsewhere", Offset: 17}.Forwarded(s.Topic, "r1").Headers
	}
	k := letter.Record(lettersTopic)
	k.Partition = s.Partition % 2
	l.produce(k)
}

func parts(n int, reason string) (all []receipt.Part) {
	for i := range n {
		all = append(all, receipt.Part{Part: i, Mapping: "m@1"})
	}
	all[n-1].Reason = reason
	return all
}

// record writes one, and what became of it; gone: retention will take it. It reports whether the group has settled it.
func (l *ledger) record(topic string, partition int32, offset int64, gone bool) (settled bool) {
	at := l.begun.Add(time.Duration(l.r.IntN(4*3600)) * time.Second)
	l.produce(&kgo.Record{Topic: topic, Partition: partition, Timestamp: at, Value: []byte("v")})
	s := deadletter.Source{Topic: topic, Partition: partition, Offset: offset}
	l.want.Produced++
	wrong := func(kind Kind) {
		l.want.Unexplained++
		l.wrong[kind] = append(l.wrong[kind], s.String())
	}
	what := l.r.IntN(9)
	if gone {
		what = l.r.IntN(4)
		l.want.Gone++
	}
	switch what {
	default:
		l.write(s, at, parts(1, "")...)
		l.want.Delivered++
	case 1:
		l.write(s, at, parts(1+l.r.IntN(8), "ambiguous")...)
		l.writeLetter(s)
		l.want.DeadLettered++
	case 2:
		l.write(s, at)
		l.want.Skipped++
	case 3: // repeated after a kill, and once by a replay
		l.write(s, at, parts(7, "")...)
		l.write(s, at, parts(7, "")...)
		l.writeReceipt(receipt.Receipt{Source: s, Time: at, Ended: time.Now(), Group: "g.backfill.r1", Parts: parts(1, "http_400"), Of: 1})
		l.want.Delivered++
	case 4: // under this offset another record stood once
		l.write(s, at.Add(-time.Minute), parts(1, "")...)
		wrong(NoReceipt)
	case 5:
		l.write(s, at, parts(1, "http_400")...)
		wrong(NoLetter)
	case 6:
		l.writeReceipt(receipt.Receipt{Source: s, Time: at, Ended: time.Now(), Group: group, Parts: parts(2, ""), Of: 4})
		wrong(Incomplete)
	case 7:
		l.writeLetter(s)
		l.want.DeadLettered++
	case 8:
		l.want.Pending++
		return false
	}
	return true
}

// partition writes n records and commits; the first few are gone then, and some of these are lost.
func (l *ledger) partition(topic string, partition int32, n int64) {
	l.t.Helper()
	f := frontier.New(frontier.Config{Group: group, Topic: topic, Partition: partition, Epoch: -1})
	gone := n / 8
	for offset := range n {
		settled := false
		if offset < gone && offset > 0 && l.r.IntN(3) == 0 { // the first one that is written of is where it begins
			l.produce(&kgo.Record{Topic: topic, Partition: partition, Timestamp: l.begun, Value: []byte("v")})
			l.want.Produced++
			l.want.Lost++
			l.wrong[Lost] = append(l.wrong[Lost], deadletter.Source{Topic: topic, Partition: partition, Offset: offset}.String())
		} else {
			settled = l.record(topic, partition, offset, offset < gone)
		}
		f.Add(offset, -1, 0, time.Time{})
		if settled {
			f.Settle(offset, 0)
		}
	}
	s, _ := f.Snapshot()
	commit := kadm.Offset{Topic: topic, Partition: partition, At: s.Base, LeaderEpoch: -1, Metadata: s.Metadata}
	if err := l.admin.CommitAllOffsets(l.t.Context(), group, kadm.Offsets{topic: {partition: commit}}); err != nil {
		l.t.Fatal(err)
	}
	if _, err := l.admin.DeleteRecords(l.t.Context(), kadm.Offsets{topic: {partition: {Topic: topic, Partition: partition, At: gone}}}); err != nil {
		l.t.Fatal(err)
	}
}

// audit runs one with windows of so many offsets.
func (l *ledger) audit(windowOffsets int64) (*Account, map[Kind][]string) {
	l.t.Helper()
	ctx := context.Background()
	wrong := make(map[Kind][]string)
	cfg := Config{Options: l.options, Group: group, Starts: make(map[backfill.Place]int64), windowOffsets: windowOffsets}
	cfg.Tell = func(f Finding) error {
		for o := f.First; o <= f.Last; o++ {
			wrong[f.Kind] = append(wrong[f.Kind], deadletter.Source{Topic: f.Topic, Partition: f.Partition, Offset: o}.String())
		}
		return nil
	}
	must := func(err error) {
		if err != nil {
			l.t.Fatal(err)
		}
	}
	var err error
	cfg.Plan, err = backfill.Resolve(ctx, l.admin, backfill.Request{Topics: []string{"a", "b"}})
	must(err)
	starts, err := l.admin.ListStartOffsets(ctx, "a", "b")
	must(err)
	starts.Each(func(o kadm.ListedOffset) {
		cfg.Starts[backfill.Place{Topic: o.Topic, Partition: o.Partition}] = o.Offset
	})
	cfg.Commits, err = backfill.CommitsOf(ctx, l.admin, group)
	must(err)
	cfg.Receipts, err = receipt.OpenReader(ctx, l.options, receiptsTopic, time.Time{})
	must(err)
	defer cfg.Receipts.Close()
	cfg.Letters, err = deadletter.OpenReader(ctx, l.options, lettersTopic)
	must(err)
	defer cfg.Letters.Close()
	account, err := Run(ctx, cfg)
	must(err)
	return account, wrong
}

// Whatever is written of records, each offset is accounted for once, and what no rule explains is named; however many of
// them are looked at together.
func TestEachOffsetIsAccountedForOnce(t *testing.T) {
	for seed := range uint64(4) {
		l := newLedger(t, seed)
		for _, topic := range []string{"a", "b"} {
			for p := range int32(3) {
				l.partition(topic, p, int64(20+l.r.IntN(60)))
			}
		}
		for _, window := range []int64{1 << 20, 100, 17} {
			account, wrong := l.audit(window)
			if got := account.Total(); got != l.want {
				t.Errorf("seed %d, window %d: %+v\nwant %+v", seed, window, got, l.want)
			}
			for _, kind := range []Kind{NoReceipt, NoLetter, Incomplete, Lost, Missing, Different, Doubled} {
				if slices.Sort(wrong[kind]); !sameSet(wrong[kind], l.wrong[kind]) {
					t.Errorf("seed %d, window %d, %s: %v\nwant %v", seed, window, kind, wrong[kind], l.wrong[kind])
				}
			}
			sum := Row{}
			for _, r := range account.Rows() {
				sum.add(r)
			}
			if sum.Produced != sum.Delivered+sum.DeadLettered+sum.Skipped+sum.Pending+sum.Lost+sum.Unexplained {
				t.Errorf("the sum is wrong: %+v", sum)
			}
		}
	}
}

func sameSet(a, b []string) bool {
	a, b = slices.Clone(a), slices.Clone(b)
	slices.Sort(a)
	slices.Sort(b)
	return fmt.Sprint(a) == fmt.Sprint(b)
}
