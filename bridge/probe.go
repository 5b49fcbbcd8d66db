package bridge

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"serbridge/bridge/frontier"
	"serbridge/bridge/pause"
	"serbridge/bridge/stellar"
	"serbridge/transform"
)

// With ON_AMBIGUOUS=probe a document that may be stored is searched for before
// it is sent again, and a crash leaves the next owner the same question for
// every record that the dead member may have sent: those below the ceiling that
// its last commit names. A member sends nothing at or above the ceiling of an
// acknowledged commit, so nothing else can be there.

const (
	// trustFor is how long a search that found a delivery is believed when it
	// finds none.
	trustFor = time.Hour
	// predecessors are how many offsets below the base are searched for where
	// this process has delivered nothing yet.
	predecessors = 10
	// leastAhead is how far above what was sent the ceiling is raised at least.
	leastAhead = 64
)

// prober knows whether a search that finds nothing may be believed: one that
// does not even find what was delivered says nothing about what was not.
type prober struct {
	mu      sync.Mutex
	trusted time.Time // until when
	sample  string    // delivery key of a delivery of this process
	at      time.Time // and its time
}

// delivered offers a delivery to be searched for later.
func (s *prober) delivered(key string, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.sample == "" || now.Sub(s.at) > trustFor {
		s.sample, s.at = key, now
	}
}

func (s *prober) found(now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.trusted, s.sample = now.Add(trustFor), ""
}

// ripe is the sample, once the index must show it.
func (s *prober) ripe(now time.Time, wait time.Duration) (key string, trusted bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if now.Before(s.trusted) {
		return "", true
	}
	if s.sample != "" && now.Sub(s.at) >= wait {
		return s.sample, false
	}
	return "", false
}

func (b *Bridge) probing() bool { return b.cfg.OnAmbiguous == "probe" }

// suspect notes since when the document may be stored: for one that a member
// before us may have sent that is the begin of our assignment at the latest.
func (b *Bridge) suspect(d *document) {
	if b.probing() && d.r.k.Offset < d.r.p.suspects {
		d.maySince = d.r.p.since
	}
}

// probe finds out whether the document is stored, once the index must show it.
// It ends when that is known, or the record is no longer ours: a search that is
// refused or cannot be trusted holds the document, and says so.
func (b *Bridge) probe(d *document) (stored bool, err error) {
	d.r.freeHand()
	wait := fullJitter(mostWait)
	for {
		stored, known := false, false
		err := d.r.wait(func(ctx context.Context) (err error) {
			if err := pause.For(ctx, time.Until(d.maySince.Add(b.cfg.ProbeWait))); err != nil {
				return err
			}
			stored, known, err = b.ask(ctx, d)
			return err
		})
		if err != nil || known {
			return stored, err
		}
		if err := d.r.wait(func(ctx context.Context) error { return pause.For(ctx, wait.NextBackOff()) }); err != nil {
			return false, err
		}
	}
}

// ask asks the index once. Its error is that ctx has ended.
func (b *Bridge) ask(ctx context.Context, d *document) (stored, known bool, err error) {
	found, err := b.query(ctx, d, stellar.ByDeliveryKey, d.doc.DeliveryKey())
	if err == nil {
		for _, s := range found {
			// Where a log was cut off another record may have stood here.
			if bytes.Contains(s.Source, []byte(d.doc.DedupKey())) {
				b.found(d, s)
				return true, true, nil
			}
		}
		known, err = b.believed(ctx, d)
	}
	switch {
	case ctx.Err() != nil:
		return false, false, context.Cause(ctx)
	case err != nil:
		b.metrics.probes.WithLabelValues("failed").Inc()
		b.troubles.begin("probe", fmt.Sprintf("documents that may be stored are held (ON_AMBIGUOUS=probe): %v", err))
		return false, false, nil
	case known:
		b.absent(d)
	}
	return false, known, nil
}

var errNotFoundEither = errors.New("the search does not find what was delivered either; see that this user may search, or set ON_AMBIGUOUS=retry")

// believed reports whether a search that found nothing may be believed: after
// it has found a delivery of this process, or of the member before it. Where
// there is none yet any document of the record's topic will do, this once: a
// bounded run may have nothing left to deliver.
func (b *Bridge) believed(ctx context.Context, d *document) (bool, error) {
	sample, trusted := b.prober.ripe(time.Now(), b.cfg.ProbeWait)
	if trusted {
		return true, nil
	}
	keys := []string{sample}
	if sample == "" {
		keys = b.keysBelow(d)
	}
	found, err := b.findsOne(ctx, d, keys)
	if found {
		b.prober.found(time.Now())
	}
	if err == nil && !found && sample == "" {
		found, err = b.findsOther(ctx, d)
	}
	if err == nil && !found {
		err = errNotFoundEither
	}
	return found, err
}

// findsOne reports whether the search finds a document by any of the keys.
func (b *Bridge) findsOne(ctx context.Context, d *document, keys []string) (bool, error) {
	for _, key := range keys {
		found, err := b.query(ctx, d, stellar.ByDeliveryKey, key)
		if len(found) > 0 || err != nil {
			return err == nil, err
		}
	}
	return false, nil
}

// findsOther reports whether it finds any document of the topic by its key.
func (b *Bridge) findsOther(ctx context.Context, d *document) (bool, error) {
	others, err := b.query(ctx, d, stellar.ByTopic, d.r.reading.Input.Topic)
	if err != nil {
		return false, err
	}
	var keys []string
	for _, s := range others {
		keys = append(keys, b.cfg.Stellar.Ours(s).DeliveryKey)
	}
	return b.findsOne(ctx, d, keys)
}

// keysBelow are the delivery keys of the offsets just below the base, which are
// settled and most of them delivered.
func (b *Bridge) keysBelow(d *document) (keys []string) {
	base := d.r.p.frontier().Base()
	in := d.r.reading.Input
	in.ClusterID = b.cluster
	for at := base - 1; at >= max(0, base-predecessors); at-- {
		in.Offset = at
		keys = append(keys, transform.DeliveryKey(&in, 0))
	}
	return keys
}

// query searches for a value of a field, when the group, a slot and the rate permit
// it: a search is a request like any other.
func (b *Bridge) query(ctx context.Context, d *document, by stellar.Field, value string) ([]stellar.Stored, error) {
	if err := b.heard.await(ctx); err != nil {
		return nil, err
	}
	slot, err := b.slots.acquire(ctx, d.r.p.topic)
	if err != nil {
		return nil, err
	}
	defer b.slots.giveBack(slot)
	auth, refused, ok := b.cfg.Stellar.Authorize(ctx)
	if !ok {
		return nil, errors.New(explain(refused))
	}
	if err := b.tokens.await(ctx); err != nil {
		return nil, err
	}
	b.tokens.next()
	begun := d.trail.now()
	found, err := b.cfg.Stellar.Search(ctx, auth, by, value)
	d.trail.searched(begun, by, len(found), err)
	return found, err
}

// found settles that the document is stored.
func (b *Bridge) found(d *document, s stellar.Stored) {
	b.metrics.probes.WithLabelValues("found").Inc()
	b.metrics.delivered(d, time.Now())
	b.prober.found(time.Now())
	b.troubles.end("probe")
	d.r.known(d, true)
	d.r.note(d.part, PartOutcome{Delivered: true, Answer: stellar.Answer{Index: s.Index, ID: s.ID}, Document: d.doc, Attempts: d.attempts})
}

// absent settles that it is not.
func (b *Bridge) absent(d *document) {
	b.metrics.probes.WithLabelValues("absent").Inc()
	b.troubles.end("probe")
	d.r.known(d, false)
	d.maySince = time.Time{}
}

// known takes in what a probe has found out.
func (r *record) known(d *document, stored bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if d.sends > 0 {
		r.unknown--
	}
	if stored {
		r.delivered++
	}
	d.sends = 0
}

// ahead is how far above what was sent the ceiling is raised: as far as can be
// sent before a commit is due, twice.
func (b *Bridge) ahead() int64 { return int64(max(leastAhead, 2*b.cfg.MaxRepeats)) }

// awaitCeiling waits until an acknowledged commit says that this record may have
// been sent.
func (b *Bridge) awaitCeiling(ctx context.Context, r *record) error {
	if !b.probing() {
		return nil
	}
	for {
		f, raised := r.p.frontier(), r.p.nextCommit()
		if f.Ceiling() > r.k.Offset {
			return nil
		}
		f.SetCeiling(r.k.Offset + 1 + b.ahead())
		signal(b.due)
		select {
		case <-raised:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// raise has the next commit name a higher ceiling, well before it is reached.
func (b *Bridge) raise(p *partition, f *frontier.Frontier) {
	if sent := p.highestSent(); b.probing() && sent >= 0 && f.Ceiling() < sent+1+b.ahead()/2 {
		f.SetCeiling(sent + 1 + b.ahead())
	}
}

// lower has the last commit of a partition that is handed over say that there
// is nothing to search for: all that was sent is settled.
func (b *Bridge) lower(p *partition) {
	f := p.frontier()
	if b.probing() && f != nil && p.isIdle() && f.Base() >= p.suspects {
		f.DropCeiling()
	}
}
