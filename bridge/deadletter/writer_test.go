package deadletter

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"serbridge/bridge/secret"

	"github.com/klauspost/compress/zstd"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/sasl/plain"
)

const dlq = "serbridge.dlq"

// world is a broker on a virtual network; it lives in one synctest bubble.
type world struct {
	t   *testing.T
	net *kfake.VirtualNetwork
	*kfake.Cluster
	log bytes.Buffer
}

func newWorld(t *testing.T, opts ...kfake.Opt) *world {
	w := &world{t: t, net: new(kfake.VirtualNetwork)}
	w.start(opts...)
	return w
}

func (w *world) start(opts ...kfake.Opt) {
	w.t.Helper()
	c, err := kfake.NewCluster(append([]kfake.Opt{kfake.NumBrokers(1), kfake.Ports(9092), kfake.ListenFn(w.net.Listen)}, opts...)...)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(c.Close)
	w.Cluster = c
}

func (w *world) options() []kgo.Opt {
	return []kgo.Opt{kgo.SeedBrokers("localhost:9092"), kgo.Dialer(w.net.DialContext)}
}

// writer is closed at the end of the test.
func (w *world) writer(change ...func(*Config)) *Writer {
	w.t.Helper()
	cfg := Config{Options: w.options(), Topic: dlq, Create: true, Logger: slog.New(slog.NewTextHandler(&w.log, nil))}
	for _, c := range change {
		c(&cfg)
	}
	writer, err := NewWriter(cfg)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(writer.Close)
	return writer
}

// client is for looking at the broker and changing it.
func (w *world) client(opts ...kgo.Opt) *kgo.Client {
	w.t.Helper()
	cl, err := kgo.NewClient(append(w.options(), opts...)...)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(cl.Close)
	return cl
}

// letters are the first n records of the topic, in any order of partitions.
func (w *world) letters(n int) []*kgo.Record {
	w.t.Helper()
	cl := w.client(kgo.WithDecompressor(zstdOutside{}), kgo.ConsumeTopics(dlq), kgo.ConsumeStartOffset(kgo.NewOffset().AtStart()), kgo.FetchMaxWait(100*time.Millisecond))
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	var rs []*kgo.Record
	for len(rs) < n && ctx.Err() == nil {
		rs = append(rs, cl.PollFetches(ctx).Records()...)
	}
	if len(rs) != n {
		w.t.Fatalf("%d dead letters in %s, want %d", len(rs), dlq, n)
	}
	return rs
}

// zstdOutside has a decoder that is no part of a bubble. The client's own ones are closed by finalizers, which then panic:
// "close of synctest channel from outside bubble".
type zstdOutside struct{}

var zstdDecoder, _ = zstd.NewReader(nil)

func (zstdOutside) Decompress(b []byte, codec kgo.CompressionCodecType) ([]byte, error) {
	if codec == kgo.CodecZstd {
		return zstdDecoder.DecodeAll(b, nil)
	}
	return b, nil
}

func (w *world) createTopic(name string, partitions int32, configs map[string]*string) {
	w.t.Helper()
	if _, err := kadm.NewClient(w.client()).CreateTopic(context.Background(), partitions, 1, configs, name); err != nil {
		w.t.Fatal(err)
	}
}

func seconds(t *testing.T, n int) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), time.Duration(n)*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func mustSay(t *testing.T, err error, words ...string) {
	t.Helper()
	if err == nil {
		t.Fatal("no error: the offset would be settled")
	}
	for _, word := range words {
		if !strings.Contains(err.Error(), word) {
			t.Errorf("error %q does not say %q", err, word)
		}
	}
}

func TestLetterIsTheSourcesRecordInItsPartition(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, kfake.SeedTopics(3, dlq))
		acks := w.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Observe: true, Count: -1, When: func(r kmsg.Request) bool {
			return r.(*kmsg.ProduceRequest).Acks == -1
		}})
		l := sample() // of partition 7
		if err := w.writer().Write(seconds(t, 10), l); err != nil {
			t.Fatal(err)
		}
		r := w.letters(1)[0]
		if r.Partition != 7%3 || string(r.Key) != "k" || !bytes.Equal(r.Value, l.Value) || !r.Timestamp.Equal(l.Timestamp) {
			t.Errorf("wrote %+v", r)
		}
		back, err := Parse(r)
		if err != nil || !sameHeaders(back.Headers, l.Headers) {
			t.Errorf("headers came back as %v, %v", back.Headers, err)
		}
		if acks.Hits() != 1 {
			t.Errorf("%d produce requests with acks=all, want 1", acks.Hits())
		}
	})
}

func TestMissingKeyAndValueStayMissing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, kfake.SeedTopics(1, dlq))
		writer := w.writer()
		for _, l := range []Letter{{Topic: "t", Offset: 0}, {Topic: "t", Offset: 1, Key: []byte{}, Value: []byte{}}} {
			if err := writer.Write(seconds(t, 10), l); err != nil {
				t.Fatal(err)
			}
		}
		rs := w.letters(2)
		if rs[0].Key != nil || rs[0].Value != nil || rs[1].Key == nil || rs[1].Value == nil {
			t.Errorf("null and empty were mixed up: %q %q %q %q", rs[0].Key, rs[0].Value, rs[1].Key, rs[1].Value)
		}
	})
}

func TestNoSecretInHeaders(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, kfake.SeedTopics(1, dlq))
		redactor := new(secret.Redactor)
		redactor.Add("s3cr3t-key")
		writer := w.writer(func(c *Config) { c.Redactor = redactor })
		if err := writer.Write(seconds(t, 10), Letter{Topic: "t", Detail: "sent s3cr3t-key", HTTPBody: "bad key s3cr3t-key"}); err != nil {
			t.Fatal(err)
		}
		if s := fmt.Sprintf("%s", w.letters(1)[0].Headers); strings.Contains(s, "s3cr3t") {
			t.Errorf("headers hold a secret: %s", s)
		}
	})
}

func TestTopicWithoutCreateHoldsOffset(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, kfake.SeedTopics(1, "detections"))
		writer := w.writer(func(c *Config) { c.Create = false })
		mustSay(t, writer.Ready(seconds(t, 10)), dlq, "DLQ_CREATE")
		mustSay(t, writer.Write(seconds(t, 10), sample()), dlq, "DLQ_CREATE", "detections/7 offset 42")
		w.createTopic(dlq, 1, nil)
		if err := writer.Ready(seconds(t, 10)); err != nil {
			t.Error(err)
		}
		if err := writer.Write(seconds(t, 10), sample()); err != nil {
			t.Error(err)
		}
		w.letters(1)
	})
}

func TestDeletedTopicIsCreatedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, kfake.SeedTopics(2, "detections"))
		writer := w.writer(func(c *Config) { c.Sources = func() []string { return []string{"detections"} } })
		for n := range 3 {
			if err := writer.Write(seconds(t, 30), sample()); err != nil {
				t.Fatalf("write %d: %v", n, err)
			}
			w.letters(1)
			w.DeleteTopic(dlq)
		}
	})
}

func TestRefusedLetterHoldsOffset(t *testing.T) {
	topic := func(op kmsg.ACLOperation) kfake.ACL {
		return kfake.ACL{Resource: kmsg.ACLResourceTypeTopic, Name: dlq, Pattern: kmsg.ACLResourcePatternTypeLiteral, Operation: op, Allow: true}
	}
	for _, test := range []struct {
		name   string
		exists bool
		rights []kfake.ACL
		says   []string
	}{
		{"no right at all", true, nil, []string{dlq, "grant", "Write"}},
		{"may see, not write", true, []kfake.ACL{topic(kmsg.ACLOperationDescribe)}, []string{dlq, "grant", "Write"}},
		{"may write, not create", false, []kfake.ACL{topic(kmsg.ACLOperationWrite)}, []string{dlq, "grant", "Create", "DLQ_CREATE"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				opts := []kfake.Opt{kfake.EnableSASL(), kfake.EnableACLs(), kfake.Superuser("PLAIN", "admin", "a"), kfake.User("PLAIN", "bridge", "b", test.rights...)}
				if test.exists {
					opts = append(opts, kfake.SeedTopics(1, dlq))
				}
				w := newWorld(t, opts...)
				writer := w.writer(func(c *Config) {
					c.Options = append(c.Options, kgo.SASL(plain.Auth{User: "bridge", Pass: "b"}.AsMechanism()))
				})
				begun := time.Now()
				mustSay(t, writer.Write(seconds(t, 60), sample()), test.says...)
				if took := time.Since(begun); took > 10*time.Second {
					t.Errorf("the refusal took %v", took)
				}
			})
		})
	}
}

// A right that is granted later must let the letter through: one refused must not stay in the client's memory unanswered,
// nor the refusal be remembered for ever.
func TestLetterIsWrittenOnceTheRightIsGranted(t *testing.T) {
	for _, key := range []kmsg.Key{kmsg.InitProducerID, kmsg.Produce} {
		t.Run(key.Name(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				w.createTopic(dlq, 1, nil)
				refusal := kfake.Fault{Keys: []kmsg.Key{key}, Err: kerr.ClusterAuthorizationFailed, Count: -1}
				if key == kmsg.Produce {
					refusal.Topic, refusal.Err = dlq, kerr.TopicAuthorizationFailed
				} else {
					refusal.TopLevel = true
				}
				granted := w.Fault(refusal)
				writer := w.writer()
				for range 3 {
					mustSay(t, writer.Write(seconds(t, 60), sample()), "grant")
				}
				granted.Remove()
				if err := writer.Write(seconds(t, 60), sample()); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// A fate that could not be written for want of a right must be written once it is granted, by the same process.
func TestMarkIsWrittenOnceTheRightIsGranted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, kfake.SeedTopics(1, dlq, HandledTopic(dlq)))
		granted := w.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.InitProducerID}, Err: kerr.ClusterAuthorizationFailed, TopLevel: true, Count: -1})
		marks := w.marks()
		for range 3 {
			mustSay(t, marks.Write(seconds(t, 60), sampleMark()), "grant")
		}
		granted.Remove()
		if err := marks.Write(seconds(t, 60), sampleMark()); err != nil {
			t.Error(err)
		}
	})
}

// A broker that takes the request and says nothing: the most common way in which shutdowns hang.
func TestHungBrokerNeverBlocksShutdown(t *testing.T) {
	for _, key := range []kmsg.Key{kmsg.Produce, kmsg.Metadata, kmsg.InitProducerID, kmsg.CreateTopics, kmsg.ApiVersions} {
		t.Run(key.Name(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				if key != kmsg.CreateTopics {
					w.createTopic(dlq, 2, nil)
				}
				w.ControlKey(key.Int16(), func(kmsg.Request) (kmsg.Response, error, bool) {
					w.KeepControl()
					return nil, nil, true
				})
				writer := w.writer()
				begun := time.Now()
				var all sync.WaitGroup
				for n := range 20 { // of both partitions; all but two wait for their turn
					all.Go(func() {
						l := sample()
						l.Partition = int32(n)
						mustSay(t, writer.Write(seconds(t, 2), l), "deadline exceeded")
					})
				}
				all.Wait()
				if took := time.Since(begun); took != 2*time.Second {
					t.Errorf("Write returned after %v, its context after 2s", took)
				}
				if n := writer.writes.Client().BufferedProduceRecords(); n > 2 {
					t.Errorf("%d records are held in memory for two partitions", n)
				}
				begun = time.Now()
				writer.Close()
				if took := time.Since(begun); took > time.Second {
					t.Errorf("Close took %v", took)
				}
				mustSay(t, writer.Write(seconds(t, 60), sample()), "closed")
			})
		})
	}
}

func TestHungBrokerThatRecoversTakesTheNextWrite(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, kfake.SeedTopics(1, dlq))
		w.ControlKey(int16(kmsg.Produce), func(kmsg.Request) (kmsg.Response, error, bool) { return nil, nil, true }) // once
		writer := w.writer()
		mustSay(t, writer.Write(seconds(t, 2), sample()), "no acknowledgement")
		if err := writer.Write(seconds(t, 60), sample()); err != nil {
			t.Error(err)
		}
		w.letters(1)
	})
}

// Written by the broker, the answer lost: the letter must not be counted as written, and the next write may be its second copy.
func TestLostAcknowledgementIsNotSettled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, kfake.SeedTopics(1, dlq))
		fault := w.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Err: kerr.NotEnoughReplicasAfterAppend, Count: -1})
		writer := w.writer()
		mustSay(t, writer.Write(seconds(t, 5), sample()), "deadline exceeded")
		fault.Remove()
		if err := writer.Write(seconds(t, 60), sample()); err != nil {
			t.Error(err)
		}
	})
}

func TestCloseEndsWritesUnderWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, kfake.SeedTopics(1, dlq))
		w.ControlKey(int16(kmsg.Produce), func(kmsg.Request) (kmsg.Response, error, bool) {
			w.KeepControl()
			return nil, nil, true
		})
		writer := w.writer()
		done := make(chan error, 2)
		for range 2 { // the second waits for its turn
			go func() { done <- writer.Write(context.Background(), sample()) }()
		}
		synctest.Wait()
		writer.Close()
		for range 2 {
			mustSay(t, <-done, "closed")
		}
	})
}

func TestBrokerDownAtStartHeals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &world{t: t, net: new(kfake.VirtualNetwork)}
		writer := w.writer()
		mustSay(t, writer.Ready(seconds(t, 3)), dlq)
		mustSay(t, writer.Write(seconds(t, 3), sample()), dlq, "dial")
		w.start()
		if err := writer.Write(seconds(t, 60), sample()); err != nil {
			t.Error(err)
		}
		w.letters(1)
	})
}

// noise does not compress, nor do two of different lengths together.
func noise(n int) []byte {
	b := make([]byte, 0, n+sha256.Size)
	for sum := sha256.Sum256([]byte{byte(n), byte(n >> 8)}); len(b) < n; sum = sha256.Sum256(sum[:]) {
		b = append(b, sum[:]...)
	}
	return b[:n]
}

func TestTooLargeIsNeverDropped(t *testing.T) {
	for _, test := range []struct {
		name         string
		value        []byte
		headers      int
		leftOut      string
		keepsHeaders bool
	}{
		{"fits", noise(10_000), 100, "", true},
		{"fits once compressed", make([]byte, 5_000_000), 100, "", true}, // the client's default would refuse 1 MB
		{"headers are too much", noise(19_000), 5_000, LeftOutHeaders, false},
		{"value is too much", noise(30_000), 100, LeftOutValue, false},
		{"beyond the client's limit", make([]byte, maxRecordBytes), 100, LeftOutValue, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				w.createTopic(dlq, 1, map[string]*string{"max.message.bytes": kadm.StringPtr("20480")})
				var pointers []Letter
				writer := w.writer(func(c *Config) { c.OnPointer = func(l Letter) { pointers = append(pointers, l) } })
				l := sample()
				l.Value, l.Headers = test.value, []kgo.RecordHeader{{Key: "h", Value: noise(test.headers)}}
				if err := writer.Write(seconds(t, 60), l); err != nil {
					t.Fatal(err)
				}
				back, err := Parse(w.letters(1)[0])
				if err != nil {
					t.Fatal(err)
				}
				if back.LeftOut != test.leftOut || back.Topic != "detections" || back.Offset != 42 || string(back.Key) != "k" || !back.Timestamp.Equal(l.Timestamp) {
					back.Value, back.Headers = nil, nil
					t.Errorf("wrote %+v", back)
				}
				if keeps := len(back.Headers) == 1; keeps != test.keepsHeaders {
					t.Errorf("headers kept: %v, want %v", keeps, test.keepsHeaders)
				}
				if keeps := bytes.Equal(back.Value, l.Value); keeps != (test.leftOut != LeftOutValue) {
					t.Errorf("value kept: %v", keeps)
				}
				if alerted := len(pointers) == 1 && pointers[0].Offset == 42; alerted != (test.leftOut == LeftOutValue) {
					t.Errorf("alerts: %d", len(pointers))
				}
				if logged := strings.Contains(w.log.String(), "too large"); logged != (test.leftOut != "") {
					t.Errorf("log: %s", w.log.String())
				}
			})
		})
	}
}

func TestTopicTooSmallForAnythingHoldsOffset(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.createTopic(dlq, 1, map[string]*string{"max.message.bytes": kadm.StringPtr("100")})
		mustSay(t, w.writer().Write(seconds(t, 60), sample()), dlq, "max.message.bytes")
	})
}

func TestTooLargeForASegmentIsNeverDropped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, kfake.SeedTopics(1, dlq))
		w.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Err: kerr.RecordListTooLarge, Count: 2})
		if err := w.writer().Write(seconds(t, 60), sample()); err != nil {
			t.Fatal(err)
		}
		if got := header(w.letters(1)[0], headerLeftOut); got != LeftOutValue {
			t.Errorf("left out: %q", got)
		}
	})
}

// Letters that fit one by one must not be refused because they were sent in one batch.
func TestNeighboursDoNotCostTheValue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.createTopic(dlq, 2, map[string]*string{"max.message.bytes": kadm.StringPtr("20480")})
		writer := w.writer()
		var all sync.WaitGroup
		for n := range 40 {
			all.Go(func() {
				l := Letter{Topic: "t", Partition: int32(n % 4), Offset: int64(n), Value: noise(15_000)}
				if err := writer.Write(seconds(t, 60), l); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		for _, r := range w.letters(40) {
			if len(r.Value) != 15_000 {
				t.Errorf("a letter lost its value: %s", r.Headers)
			}
		}
	})
}

// A topic with message.timestamp.*.max.ms would refuse a record for ever, and with it hold its partition.
func TestRefusedTimestampIsNotHeldForEver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, kfake.SeedTopics(1, dlq))
		w.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Err: kerr.InvalidTimestamp, Count: 1})
		if err := w.writer().Write(seconds(t, 60), sample()); err != nil {
			t.Fatal(err)
		}
		r := w.letters(1)[0]
		if !strings.Contains(header(r, headerDetail), "2023-11-14T22:13:20.123Z") || time.Since(r.Timestamp) > time.Minute {
			t.Errorf("timestamp %v, detail %q", r.Timestamp, header(r, headerDetail))
		}
	})
}

func TestWriterNeedsATopic(t *testing.T) {
	_, err := NewWriter(Config{})
	mustSay(t, err, "DLQ_TOPIC")
	if _, err := NewWriter(Config{Topic: dlq, Options: []kgo.Opt{kgo.SeedBrokers("localhost:port")}}); err == nil || errors.Unwrap(err) == nil {
		t.Errorf("NewWriter with nonsense: %v", err)
	}
}
