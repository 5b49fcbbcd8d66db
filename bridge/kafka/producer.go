package kafka

import (
	"context"
	"errors"
	"sync"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// Producer keeps a client to write with, and replaces it when its producer id is refused. It is safe for concurrent use.
type Producer struct {
	options []kgo.Opt

	mu       sync.Mutex
	client   *kgo.Client
	closed   bool
	replaced sync.WaitGroup // clients that are being closed
}

// NewProducer returns a producer. It does not connect. The caller has to Close it.
func NewProducer(options ...kgo.Opt) (*Producer, error) {
	client, err := kgo.NewClient(options...)
	if err != nil {
		return nil, err
	}
	return &Producer{options: options, client: client}, nil
}

// Client is the client of now.
func (p *Producer) Client() *kgo.Client {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.client
}

// Admin administers through the client of now.
func (p *Producer) Admin() *kadm.Client { return kadm.NewClient(p.Client()) }

// Identify gets the client its producer id. A broker that refuses it, for want of any right to write, is remembered by the
// client for ever, and a record given to it meanwhile may never be answered: so it is asked before, and a client that was
// refused is replaced, for the right may be granted later. What it still holds fails with [kgo.ErrClientClosed]. The error is
// the refusal; every other failure is left to the produce itself.
func (p *Producer) Identify(ctx context.Context, client *kgo.Client) error {
	_, _, err := client.ProducerID(ctx)
	var refusal *kerr.Error
	if !errors.As(err, &refusal) || refusal.Retriable {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.client == client && !p.closed {
		anew, failed := kgo.NewClient(p.options...)
		if failed != nil {
			return err
		}
		p.client = anew
		p.replaced.Go(client.Close) // not here: what it still holds is answered, and who waits for that may want mu
	}
	return err
}

// Close ends the client. It waits for nothing that a broker has to do.
func (p *Producer) Close() {
	p.mu.Lock()
	p.closed = true
	client := p.client
	p.mu.Unlock()
	client.Close()
	p.replaced.Wait()
}
