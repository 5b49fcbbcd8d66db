package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"serbridge/bridge/deadletter"
	"serbridge/bridge/kafka"
)

const (
	// lettersEvery is how often --watch looks at the dead letters.
	lettersEvery = time.Minute
	// lettersNear is the part of its topic's retention at which a dead letter that nobody has handled is a failure.
	lettersNear = 0.8
)

// openLetters are the dead letters that nobody has handled.
type openLetters struct {
	at     time.Time // when they were looked at
	n      int64
	oldest deadletter.Oldest
	fault  string // why they are not known
}

// lookAtLetters looks at them, unless that was a short while ago.
func (s *status) lookAtLetters(ctx context.Context, now time.Time) {
	if !s.letters.at.IsZero() && now.Sub(s.letters.at) < lettersEvery {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	s.letters = openLetters{at: now}
	if err := s.readLetters(ctx); err != nil {
		s.letters.fault = kafka.Explain(err)
	}
}

func (s *status) readLetters(ctx context.Context) error {
	r, err := deadletter.OpenReader(ctx, s.options, s.settings.DLQ.Topic)
	if errors.Is(err, deadletter.ErrNoTopic) {
		return nil
	}
	if err != nil {
		return err
	}
	defer r.Close()
	if s.letters.n, _ = r.Open(); s.letters.n == 0 {
		return nil
	}
	if s.letters.oldest, err = r.Oldest(ctx); err != nil {
		return err
	}
	kept, _ := kafka.ReadRetention(ctx, s.admin, s.settings.DLQ.Topic) // a right may be missing: then it is not known
	s.letters.oldest.Retention = kept[s.settings.DLQ.Topic].Time
	return nil
}

// tell writes them into the standing.
func (l openLetters) tell(st *standing, now *groupReading) {
	if l.fault != "" {
		now.remark("dead letters are not known: %s", l.fault)
		return
	}
	st.DeadLetters = &l.n
	if !l.oldest.Open {
		return
	}
	at := l.oldest.Timestamp.UTC()
	st.OldestLetter = &at
	if keeps := l.oldest.Retention; keeps > 0 {
		left := (keeps - st.At.Sub(at)).Seconds()
		st.LetterRetentionIn, st.lettersNear = &left, left <= (1-lettersNear)*keeps.Seconds()
	}
}

// judgeLetters says whether somebody should look at them, and whether soon it is too late.
func (st *standing) judgeLetters() {
	switch n := st.DeadLetters; {
	case n == nil || *n == 0:
	case st.lettersNear && *st.LetterRetentionIn <= 0:
		st.fail(count(*n, "dead letter")+" that nobody has handled, and retention may remove the oldest now", doWithLetters)
	case st.lettersNear:
		left := days(time.Duration(*st.LetterRetentionIn * float64(time.Second)))
		st.fail(fmt.Sprintf("%s that nobody has handled, and retention may remove the oldest in %s", count(*n, "dead letter"), left), doWithLetters)
	default:
		st.warn(count(*n, "dead letter")+" that nobody has handled", "serbridge dlq ls")
	}
}

const doWithLetters = "serbridge dlq ls; then redrive or export them, or raise retention.ms of the dead-letter topic"
