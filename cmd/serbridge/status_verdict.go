package main

import (
	"fmt"
	"slices"
	"time"
)

func (st *standing) fail(says, do string) {
	st.Findings = append(st.Findings, finding{stateFailed, says, do})
}
func (st *standing) warn(says, do string) {
	st.Findings = append(st.Findings, finding{stateWarning, says, do})
}

// judge finds what is wrong, and says the worst of it in one line. Only what the readings show is said.
func (st *standing) judge() {
	st.judgePods() // first: a member knows why, Kafka only that
	st.judgeGroup()
	for _, p := range st.Partitions {
		st.judgePartition(p)
	}
	st.judgeLetters()
	slices.SortStableFunc(st.Findings, func(a, b finding) int { return rank(a.State) - rank(b.State) })
	st.State = stateOK
	st.Verdict = st.pace()
	if len(st.Findings) > 0 {
		st.State = st.Findings[0].State
		st.Verdict += ": " + st.Findings[0].Says
	}
}

func rank(s state) int {
	if s == stateFailed {
		return 0
	}
	return 1
}

// pace is how fast the group settles, and what waits.
func (st *standing) pace() string {
	if st.Backlog == 0 {
		return "nothing waits"
	}
	text := fmt.Sprintf("%.4g/s settled, %d wait", st.Settled, st.Backlog)
	if at := st.oldest(); at != nil {
		text += ", the oldest since " + st.clock(*at)
	}
	return text
}

// oldest is when the oldest unsettled record was produced.
func (st *standing) oldest() (oldest *time.Time) {
	for _, p := range st.Partitions {
		if p.Oldest != nil && (oldest == nil || p.Oldest.Before(*oldest)) {
			oldest = p.Oldest
		}
	}
	return oldest
}

// clock is a time as one reads it at night: with its day only where that is another one.
func (st *standing) clock(t time.Time) string {
	if t, now := t.Local(), st.At.Local(); t.YearDay() != now.YearDay() || t.Year() != now.Year() {
		return t.Format("2 Jan 15:04")
	}
	return t.Local().Format("15:04")
}

// enough documents must the rate have let through before none at all means something.
const enough = 10

// standstill is how long something must have waited before nothing settled in a short window is a failure:
// one record between two attempts is younger than that.
const standstill = time.Minute

// judgeGroup says why nothing is settled at all.
func (st *standing) judgeGroup() {
	waits := st.waitsFor(time.Duration(st.Seconds * float64(time.Second))) // what was there before the first reading
	switch {
	case !st.Group.unknown && st.Group.Members == 0 && st.Backlog > 0:
		st.fail("the group has no members", "see why the pods do not run: kubectl get pods")
	case !st.Group.unknown && st.Group.Members == 0:
		st.warn("the group has no members", "start the bridge, unless it is stopped on purpose")
	case !st.Group.unknown && st.Settled == 0 && waits && st.Group.State != "Stable":
		st.fail("the group is in state "+st.Group.State+", so nobody is delivering", "members join and leave: see whether pods restart")
	case st.Settled == 0 && waits && st.RateLimit > 0 && st.RateLimit*st.Seconds < enough:
		st.warn(fmt.Sprintf("nothing was settled in %.3g s, at a RATE_LIMIT of %g", st.Seconds, st.RateLimit), "look for longer, with --over")
	case st.Settled == 0 && waits && !st.waitsFor(standstill):
		st.warn(fmt.Sprintf("nothing was settled in %.3g s, of records younger than %v", st.Seconds, standstill), "look for longer, with --over")
	case st.Settled == 0 && waits:
		st.fail(fmt.Sprintf("nothing was settled in %.3g s", st.Seconds), "/readyz and the log of each pod say why")
	}
}

// waitsFor says whether something that is not held has waited longer than that. What is of unknown age may have.
func (st *standing) waitsFor(d time.Duration) bool {
	return slices.ContainsFunc(st.Partitions, func(p partitionStanding) bool {
		return p.Backlog > 0 && !p.Held && (p.Oldest == nil || st.At.Sub(*p.Oldest) > d)
	})
}

// judgePartition says what is wrong with one of them.
func (st *standing) judgePartition(p partitionStanding) {
	switch {
	case p.fault != "":
		st.fail(p.String()+" cannot be looked up: "+p.fault, "see that its brokers answer")
	case p.beyond:
		st.fail(p.String()+": the commit lies beyond the end of the log", "the topic was replaced or cut off: reset the group's offset of it")
	case p.Held:
		st.fail(p.String()+" is paused by the reject brake", "serbridge dlq ls shows what was refused; mend the mapping")
	case p.Lost > 0:
		st.fail(fmt.Sprintf("%s: retention removed %s before delivery", p, count(p.Lost, "offset")), "raise retention.ms of the topic")
	case p.RetentionIn != nil && (*p.RetentionIn <= 0 || st.Settled > 0 && float64(st.Backlog)/st.Settled > *p.RetentionIn):
		st.fail(p.String()+": retention may remove what waits before it is delivered", "raise retention.ms of the topic, or RATE_LIMIT if the platform bears it")
	case st.Group.State == "Stable" && p.Member == "":
		st.warn(p.String()+" has no owner", "see whether the members have the same KAFKA_TOPICS")
	case p.Ignored != "":
		st.warn(p.String()+": the commit's metadata is "+p.Ignored, "see whether another application commits in this group")
	}
}
