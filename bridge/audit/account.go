package audit

import (
	"cmp"
	"slices"
	"time"

	"serbridge/bridge/deadletter"
)

// Row is what became of the records of one topic and hour, by their own time.
type Row struct {
	Topic string    `json:"topic,omitempty"` // empty: of all
	Hour  time.Time `json:"hour,omitzero"`   // its start, in UTC; zero: unknown, or of all

	Produced     int64 `json:"produced"` // the sum of the next six
	Delivered    int64 `json:"delivered"`
	DeadLettered int64 `json:"dead_lettered"`
	Skipped      int64 `json:"skipped"`
	Pending      int64 `json:"pending"`           // the group has not settled them
	Lost         int64 `json:"lost_to_retention"` // gone, and nothing is written of them; markers of transactions may be among them
	Unexplained  int64 `json:"unexplained"`

	Gone int64 `json:"gone"` // of Delivered, DeadLettered and Skipped: the log has them no more, and receipts say so

	// Documents that were searched for.
	Searched   int64 `json:"searched"`
	Missing    int64 `json:"missing"`
	Different  int64 `json:"different"`
	Doubled    int64 `json:"doubled"`
	Uncompared int64 `json:"uncompared"` // another mapping made them, or would today
}

// Bad is how much of it an auditor has to ask about.
func (r Row) Bad() int64 { return r.Unexplained + r.Missing + r.Different + r.Doubled }

func (r *Row) add(o Row) {
	r.Produced += o.Produced
	r.Delivered += o.Delivered
	r.DeadLettered += o.DeadLettered
	r.Skipped += o.Skipped
	r.Pending += o.Pending
	r.Lost += o.Lost
	r.Unexplained += o.Unexplained
	r.Gone += o.Gone
	r.Searched += o.Searched
	r.Missing += o.Missing
	r.Different += o.Different
	r.Doubled += o.Doubled
	r.Uncompared += o.Uncompared
}

// Kind is what is wrong with records or a document: a closed set.
type Kind string

// The kinds.
const (
	NoReceipt  Kind = "no_receipt"         // settled, and neither a receipt nor a dead letter says how
	NoLetter   Kind = "no_dead_letter"     // a receipt says that it was dead-lettered, and there is no letter
	Incomplete Kind = "incomplete_receipt" // receipts of some of its parts are not there
	Lost       Kind = "lost_to_retention"  // gone before it was settled: a loss, and explained
	Missing    Kind = "missing"            // delivered, and the index does not have it
	Different  Kind = "different"          // and the index has it with other fields
	Doubled    Kind = "doubled"            // and the index has it more than once
)

// Finding is what is wrong with the offsets from First to Last of a partition.
type Finding struct {
	Kind      Kind   `json:"kind"`
	Topic     string `json:"topic"`
	Partition int32  `json:"partition"`
	First     int64  `json:"first"`
	Last      int64  `json:"last"`

	// Of a document.
	Part        int      `json:"part,omitempty"`
	DeliveryKey string   `json:"delivery_key,omitempty"`
	Index       string   `json:"index,omitempty"`
	ID          string   `json:"id,omitempty"`
	Copies      int      `json:"copies,omitempty"`
	Differs     []string `json:"differs,omitempty"`
}

// mostRows bounds the account: times that producers set may be of any hour.
const mostRows = 100_000

type rowKey struct {
	topic string
	hour  time.Time
}

// Account adds up what became of records.
type Account struct {
	rows map[rowKey]*Row
}

// row is that of a topic and hour.
func (a *Account) row(topic string, hour time.Time) *Row {
	if a.rows == nil {
		a.rows = make(map[rowKey]*Row)
	}
	key := rowKey{topic, hour}
	if a.rows[key] == nil && len(a.rows) >= mostRows {
		key.hour = time.Time{}
	}
	if a.rows[key] == nil {
		a.rows[key] = &Row{Topic: topic, Hour: key.hour}
	}
	return a.rows[key]
}

// Rows are by topic and hour.
func (a *Account) Rows() []Row {
	var all []Row
	for _, r := range a.rows {
		all = append(all, *r)
	}
	slices.SortFunc(all, func(a, b Row) int { return cmp.Or(cmp.Compare(a.Topic, b.Topic), a.Hour.Compare(b.Hour)) })
	return all
}

// Total is the sum of all rows.
func (a *Account) Total() (sum Row) {
	for _, r := range a.rows {
		sum.add(*r)
	}
	return sum
}

// findings passes what is found on, offsets in a row as one.
type findings struct {
	tell func(Finding) error
	open map[Kind]Finding
}

// offsets takes in that something is wrong with the offsets from first up to end.
func (f *findings) offsets(kind Kind, s deadletter.Source, end int64) error {
	if f.open == nil {
		f.open = make(map[Kind]Finding)
	}
	if o, is := f.open[kind]; is && o.Topic == s.Topic && o.Partition == s.Partition && o.Last+1 == s.Offset {
		o.Last = end - 1
		f.open[kind] = o
		return nil
	}
	if err := f.close(kind); err != nil {
		return err
	}
	f.open[kind] = Finding{Kind: kind, Topic: s.Topic, Partition: s.Partition, First: s.Offset, Last: end - 1}
	return nil
}

func (f *findings) close(kinds ...Kind) error {
	for _, kind := range kinds {
		if o, is := f.open[kind]; is {
			delete(f.open, kind)
			if err := f.tell(o); err != nil {
				return err
			}
		}
	}
	return nil
}

func (f *findings) closeAll() error { return f.close(NoReceipt, NoLetter, Incomplete, Lost) }
