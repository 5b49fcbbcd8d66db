package main

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"serbridge/bridge"
	"serbridge/bridge/backfill"
	"serbridge/transform"
)

// replayScan reads a plan's range and transforms it, without a group.
type replayScan struct {
	*replay
	plan     backfill.Plan
	settings func(topic string) *transform.Settings
	cluster  string
	write    func(document []byte) error // nil: the documents are only counted
	found    findings
}

// findings are what a range was found to hold.
type findings struct {
	Records   int            `json:"records"`
	Bytes     int64          `json:"bytes"` // of keys and values
	First     time.Time      `json:"first,omitzero"`
	Last      time.Time      `json:"last,omitzero"`
	Formats   map[string]int `json:"formats"`
	Documents int            `json:"documents"`
	Rejected  map[string]int `json:"rejected"`
	Skipped   map[string]int `json:"skipped"`
}

// scan reads the range. The cluster's id is hashed into the documents' delivery keys.
func (r *replay) scan(ctx context.Context, plan backfill.Plan, write func([]byte) error) (findings, error) {
	s := &replayScan{replay: r, plan: plan, settings: r.transformSettings(), write: write,
		found: newFindings()}
	meta, err := r.admin.BrokerMetadata(ctx)
	if err != nil {
		return s.found, fmt.Errorf("read the cluster's id: %w", err)
	}
	s.cluster = meta.Cluster
	options, err := r.kafkaOptions()
	if err != nil {
		return s.found, err
	}
	reading := backfill.Scan{Kafka: options, BufferBytes: int(r.settings.Delivery.BufferBytes)}
	err = reading.Each(ctx, plan, func(k *kgo.Record) error {
		r.show.scanned(reading.Done(), plan)
		return s.record(ctx, k)
	})
	r.show.endBar()
	return s.found, err
}

func (s *replayScan) record(ctx context.Context, k *kgo.Record) error {
	reading := s.reading(s.plan, k)
	if reading.Skip != "" { // read, and none of the run's: bytes and times are not of it
		s.found.Records++
		s.found.Skipped[string(reading.Skip)]++
		return nil
	}
	s.found.record(k)
	in := reading.Input
	in.Now, in.ClusterID, in.Settings = time.Now(), s.cluster, s.settings(in.Topic)
	result, err := s.replay.settings.Registry.reading(ctx, func() transform.Result { return reading.Transform(in) })
	if err != nil {
		return err
	}
	return s.found.result(result, s.document)
}

func newFindings() findings {
	return findings{Formats: make(map[string]int), Rejected: make(map[string]int), Skipped: make(map[string]int)}
}

// record counts what a record is before it is transformed.
func (f *findings) record(k *kgo.Record) {
	f.Records++
	f.Bytes += int64(len(k.Key) + len(k.Value))
	if f.First.IsZero() || k.Timestamp.Before(f.First) {
		f.First = k.Timestamp
	}
	if k.Timestamp.After(f.Last) {
		f.Last = k.Timestamp
	}
}

// result counts what it became; each is called with the documents.
func (f *findings) result(result transform.Result, each func(*transform.Document) error) error {
	if result.Format != "" {
		f.Formats[result.Format]++
	}
	parts := result.Parts
	if len(parts) == 0 {
		parts = []transform.Part{{Skip: result.Skip, Reject: result.Reject}}
	}
	for _, part := range parts {
		switch {
		case part.Skip == bridge.NotWanted:
		case part.Skip != "":
			f.Skipped[string(part.Skip)]++
		case part.Reject != nil:
			f.Rejected[string(part.Reject.Reason)]++
		default:
			f.Documents++
			if err := each(part.Document); err != nil {
				return err
			}
		}
	}
	return nil
}

func (s *replayScan) document(d *transform.Document) error {
	if s.write == nil {
		return nil
	}
	text, err := d.Encode()
	if err != nil {
		return err
	}
	return s.write(text)
}

// rehearse is --dry-run.
func (r *replay) rehearse(ctx context.Context, plan backfill.Plan) error {
	found, err := r.scan(ctx, plan, nil)
	if err != nil {
		return fmt.Errorf("rehearse replay: %w", err)
	}
	r.sayFindings(found, r.settings.Delivery.RateLimit)
	return nil
}

// export is --output to a file or to standard output.
func (r *replay) export(ctx context.Context, plan backfill.Plan) error {
	if r.output != "-" {
		return r.exportFile(ctx, plan)
	}
	return r.exportTo(ctx, plan, r.stdout)
}

func (r *replay) exportTo(ctx context.Context, plan backfill.Plan, out io.Writer) error {
	w := bufio.NewWriterSize(out, 64<<10)
	found, err := r.scan(ctx, plan, func(document []byte) error {
		if r.output == "-" && r.stdoutIsTerminal {
			document = []byte(escape(string(document)))
		}
		w.Write(document) //nolint:errcheck // the buffer keeps its error for the next call
		return w.WriteByte('\n')
	})
	if err = cmp.Or(err, w.Flush()); err != nil {
		return fmt.Errorf("write documents: %w", err)
	}
	r.sayFindings(found, 0)
	return nil
}

// exportFile writes beside the file and puts it in its place at the end: half of a range never stands under the name of
// all of it.
func (r *replay) exportFile(ctx context.Context, plan backfill.Plan) (err error) {
	f, err := os.CreateTemp(filepath.Dir(r.output), "."+filepath.Base(r.output)+".*")
	if err != nil {
		return fmt.Errorf("write documents: %w", err)
	}
	defer func() {
		if err != nil {
			f.Close()
			os.Remove(f.Name())
		}
	}()
	if err := r.exportTo(ctx, plan, f); err != nil {
		return err
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("write documents: %w", err)
	}
	if err := os.Rename(f.Name(), r.output); err != nil {
		return fmt.Errorf("put the documents in their place: %w", err)
	}
	return nil
}
