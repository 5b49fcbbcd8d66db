package stellar

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	json "github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// Stored is a document as the index holds it.
type Stored struct {
	Index, ID string // opaque
	// Source is the document as JSON, with what the platform added.
	Source []byte
}

// ErrNotFound says that the index holds no such document.
var ErrNotFound = errors.New("no such document")

// ReadError says why a document could not be read back: nothing is known of
// whether it is stored. Where inserting works, reading may be forbidden (401,
// 403): search is not open to scoped keys.
type ReadError struct {
	Reason     string        // one of Reasons
	Status     int           // 0: no answer began
	RetryAfter time.Duration // as in Answer
	Again      bool          // as in Answer
	err        error
}

// Error says what was done and what happened.
func (e *ReadError) Error() string { return e.err.Error() }

// Unwrap returns the cause.
func (e *ReadError) Unwrap() error { return errors.Unwrap(e.err) }

const (
	// maxRead bounds the answer to a read: ten documents of the largest size.
	maxRead = 16 << 20
	// searchedIndexes is the pattern that clients in the field search.
	searchedIndexes = "aella-ser-*"
)

// Field is what documents can be searched by.
type Field string

// The fields.
const (
	ByDeliveryKey Field = "delivery_key"
	ByDedupKey    Field = "dedup_key"
	ByOrigID      Field = "orig_id"
	ByID          Field = "_id"
	ByTopic       Field = "kafka.topic" // that their records came from: ten of them, any
)

// Find searches for the documents that carry deliveryKey. None found proves
// nothing shortly after an insert: the index shows a document only after some
// seconds. More than one are repeats; at most ten are returned.
func (c *Client) Find(ctx context.Context, auth Authorization, deliveryKey string) ([]Stored, error) {
	return c.Search(ctx, auth, ByDeliveryKey, deliveryKey)
}

// Search is Find by any Field.
func (c *Client) Search(ctx context.Context, auth Authorization, by Field, value string) ([]Stored, error) {
	path := string(by)
	if by == ByDeliveryKey || by == ByDedupKey || by == ByTopic {
		path = "custom_ser_field." + c.cfg.Namespace + "." + path
	}
	q := url.Values{"q": {path + ":" + quote(value)}}
	var answer struct {
		TimedOut bool `json:"timed_out"`
		Shards   struct {
			Failed int `json:"failed"`
		} `json:"_shards"`
		Hits *struct {
			Hits []hit `json:"hits"`
		} `json:"hits"`
	}
	if err := c.read(ctx, auth, dataPath+searchedIndexes+"/_search?"+q.Encode(), &answer); err != nil {
		return nil, err
	}
	if answer.Hits == nil {
		return nil, c.readError(Answer{Reason: ReasonNotTheAPI, Status: http.StatusOK}, errors.New("the answer has no hits"))
	}
	var found []Stored
	for _, h := range answer.Hits.Hits {
		// An index that splits the key into words finds others as well. To
		// take one of them for ours would lose ours.
		if h.has(c.cfg.Namespace, by, value) {
			found = append(found, Stored{Index: h.Index, ID: h.ID, Source: h.Source})
		}
	}
	if len(found) == 0 && (answer.TimedOut || answer.Shards.Failed > 0) {
		return nil, c.readError(Answer{Reason: ReasonSearchIncomplete, Status: http.StatusOK}, errors.New("it timed out, or shards failed"))
	}
	return found, nil
}

// Get reads the document that an Answer named. The error is ErrNotFound when
// the index says that it has none.
func (c *Client) Get(ctx context.Context, auth Authorization, index, id string) (Stored, error) {
	var h hit
	err := c.read(ctx, auth, dataPath+url.PathEscape(index)+"/amsg/"+url.PathEscape(id), &h)
	if err != nil {
		return Stored{}, err
	}
	if !h.Found {
		return Stored{}, fmt.Errorf("read back document: %w", ErrNotFound)
	}
	return Stored{Index: h.Index, ID: h.ID, Source: h.Source}, nil
}

// hit is a document in the answer to a search or a GET.
type hit struct {
	Index  string         `json:"_index"`
	ID     string         `json:"_id"`
	Found  bool           `json:"found"`
	Source jsontext.Value `json:"_source"`
}

// Ours is what a stored document says of where it came from.
type Ours struct {
	DeliveryKey string `json:"delivery_key"`
	DedupKey    string `json:"dedup_key"`
	Mapping     string `json:"mapping"`
	Degraded    bool   `json:"degraded"`
	Kafka       struct {
		Topic     string `json:"topic"`
		Partition int32  `json:"partition"`
		Offset    int64  `json:"offset"`
	} `json:"kafka"`
}

// Ours reads what we added to a document under this client's namespace; empty
// if we did not.
func (c *Client) Ours(s Stored) Ours { return ours(s.Source, c.cfg.Namespace) }

func ours(source []byte, namespace string) (o Ours) {
	var document struct {
		Custom map[string]jsontext.Value `json:"custom_ser_field"`
	}
	if json.Unmarshal(source, &document, lenient) != nil || json.Unmarshal(document.Custom[namespace], &o, lenient) != nil {
		return Ours{}
	}
	return o
}

// has reports whether the document carries the value itself.
func (h hit) has(namespace string, by Field, value string) bool {
	switch by {
	case ByID:
		return h.ID == value
	case ByOrigID:
		var document struct {
			OrigID string `json:"orig_id"`
		}
		return json.Unmarshal(h.Source, &document, lenient) == nil && document.OrigID == value
	case ByDedupKey:
		return ours(h.Source, namespace).DedupKey == value
	case ByTopic:
		return ours(h.Source, namespace).Kafka.Topic == value
	}
	return ours(h.Source, namespace).DeliveryKey == value
}

// quote makes v a phrase of the query language, so that nothing in it acts.
func quote(v string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(v) + `"`
}

// read GETs target into v. A 404 whose body says found:false is the index's
// own answer and no error.
func (c *Client) read(ctx context.Context, auth Authorization, target string, v any) error {
	o := c.exchange(ctx, maxRead, request{head: head{method: http.MethodGet, target: target, authorization: auth.header}})
	if o.failure == "" && (o.status == http.StatusOK || o.status == http.StatusNotFound && says(o.body, "found")) {
		c.tokens.accepted(auth)
		if err := json.Unmarshal(trim(o.body), v, lenient); err != nil {
			// Its text may quote the document.
			return c.readError(Answer{Reason: ReasonNotTheAPI, Status: o.status}, errors.New("the answer is not the JSON of a search"))
		}
		return nil
	}
	a := judge(o, SuccessID, time.Now())
	err := c.readError(a, o.err)
	if a.Status == http.StatusUnauthorized {
		err.Again = c.tokens.refused(auth)
	}
	return err
}

func (c *Client) readError(a Answer, err error) *ReadError {
	if err == nil {
		err = fmt.Errorf("HTTP %d", a.Status)
	}
	return &ReadError{
		Reason: a.Reason, Status: a.Status, RetryAfter: a.RetryAfter,
		err: fmt.Errorf("read back document: %s: %w", Explain(a.Reason), c.clean(err)),
	}
}

// says reports whether body is a JSON object with the name.
func says(body []byte, name string) bool {
	var o map[string]jsontext.Value
	if json.Unmarshal(trim(body), &o, lenient) != nil {
		return false
	}
	_, ok := o[name]
	return ok
}
