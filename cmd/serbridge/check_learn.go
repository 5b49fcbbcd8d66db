package main

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"

	"serbridge/bridge/stellar"
	"serbridge/bridge/stellar/stellartest"
)

const (
	// learnWait is how long the platform may take to show the document in its search.
	learnWait = 3 * time.Minute
	// learnPoll is how often it is asked, and how exactly the delay is known.
	learnPoll = 250 * time.Millisecond
	// flatName is the key at the top of the document under which a copy of our fields stands.
	flatName = "serbridge_learn"
)

// lesson is one run of `serbridge check --learn`: what was found out, the settings that follow, and the same as a
// preset of the simulator.
type lesson struct {
	*check
	auth     stellar.Authorization
	key      string // delivery_key of our document
	settings map[string]string
	variant  stellartest.Variant
}

// learnPlatform inserts, with consent; the facts are what it learned.
func (c *check) learnPlatform(ctx context.Context) error {
	l := &lesson{check: c, key: "serbridge-learn-" + rand.Text(), settings: make(map[string]string)}
	c.facts = nil
	fmt.Fprintf(c.stderr, "inserting into %s: documents named %q, status Closed, score 0\n", c.settings.Stellar.host(), learnName)
	err := l.learn(ctx)
	c.facts.redact(c.red.Redact)
	if told := l.tell(); told != nil {
		return told
	}
	if err = cmp.Or(err, c.facts.err()); err != nil || c.preset == "" {
		return err
	}
	text, err := l.variant.Text()
	if err != nil {
		return err
	}
	if err := os.WriteFile(c.preset, text, 0o644); err != nil {
		return fmt.Errorf("write preset: %w", err)
	}
	return nil
}

// learn asks in the order in which the answers depend on each other.
func (l *lesson) learn(ctx context.Context) error {
	auth, err := l.learnAuth(ctx)
	if err != nil {
		return err
	}
	cfg := l.platformConfig()
	cfg.Auth = auth
	if l.platform, err = stellar.New(cfg); err != nil {
		return usageError{err}
	}
	defer l.platform.Close()
	var why stellar.Answer
	var ok bool
	if l.auth, why, ok = l.platform.Authorize(ctx); !ok {
		l.facts.fail("login", auth, stellar.Explain(why.Reason), "%v", why.Err)
		return nil
	}
	l.learnMistakes(ctx)
	stored, ok := l.learnSuccess(ctx)
	if ok {
		l.learnReading(ctx, stored)
	}
	return ctx.Err()
}

// learnAuth tries each kind once, and returns the one to go on with: that of the settings, if it works.
func (l *lesson) learnAuth(ctx context.Context) (string, error) {
	works := make(map[string]bool)
	for _, kind := range []string{stellar.AuthJWT, stellar.AuthJWTBearer, stellar.AuthBasic} {
		if kind != stellar.AuthJWTBearer && l.check.settings.Stellar.User == nil {
			continue
		}
		worked, says, err := l.tryAuth(ctx, kind)
		if err != nil {
			return "", usageError{err}
		}
		works[kind] = worked
		l.facts.ok("authentication", kind, "%s", says)
	}
	configured := l.check.settings.Stellar.Auth
	switch {
	case works[stellar.AuthJWT] && works[stellar.AuthBasic]:
	case works[stellar.AuthJWT]:
		l.variant.Auth = stellartest.AuthNoBasic
	case works[stellar.AuthJWTBearer]:
		l.variant.Auth = stellartest.AuthScoped
	}
	for _, kind := range []string{configured, stellar.AuthJWT, stellar.AuthJWTBearer, stellar.AuthBasic} {
		if works[kind] {
			l.settings["STELLAR_AUTH"] = kind
			return kind, nil
		}
	}
	l.facts.fail("authentication", "", "check STELLAR_URL, STELLAR_USER (case-sensitive) and STELLAR_API_KEY: serbridge check", "no kind works")
	return "", l.facts.err()
}

// tryAuth reports whether a kind of authentication works; without a token that shows at an insert that is refused.
func (l *lesson) tryAuth(ctx context.Context, kind string) (works bool, says string, err error) {
	cfg := l.platformConfig()
	cfg.Auth = kind
	client, err := stellar.New(cfg)
	if err != nil {
		return false, "", err
	}
	defer client.Close()
	auth, why, ok := client.Authorize(ctx)
	if ok && kind == stellar.AuthBasic {
		why = client.Insert(ctx, auth, []byte("{}"))
		ok = why.Status >= 200 && why.Status != http.StatusUnauthorized && why.Status != http.StatusForbidden
	}
	if !ok {
		return false, fmt.Sprintf("does not work: %s, HTTP %d", why.Reason, why.Status), nil
	}
	return true, "works", nil
}

const learnName = "serbridge check --learn"

// document is what is inserted: closed, without a score, our fields once in custom_ser_field and once at the top.
func (l *lesson) document(status string) []byte {
	ours := map[string]any{"delivery_key": l.key, "purpose": "inserted by serbridge check --learn; may be deleted"}
	text, err := json.Marshal(map[string]any{
		"event_name": learnName, "event_source": "serbridge", "event_status": status, "timestamp": time.Now().UnixMilli(),
		"event_score": 0, "severity": 0, "fidelity": 0, "threat_score": 0,
		"custom_ser_field": map[string]any{l.check.settings.Transform.CustomNamespace: ours}, flatName: ours,
	})
	if err != nil {
		panic(err) // texts and numbers only
	}
	return text
}

// learnMistakes sends the two that the vendor documents.
func (l *lesson) learnMistakes(ctx context.Context) {
	missing := l.platform.Insert(ctx, l.auth, []byte("{}"))
	l.facts.ok("missing fields", "", "%s", answered(missing))
	l.variant.Errors = errorForm(missing)
	wrong := l.platform.Insert(ctx, l.auth, l.document("closed"))
	if wrong.Verdict == stellar.Delivered || wrong.Reason == stellar.ReasonNoID && !wrong.Documented {
		l.variant.LenientStatus = true
		l.key = "serbridge-learn-" + rand.Text() // the next one must be told from it
		l.facts.warn("wrong status", "", "nothing: the bridge writes the documented words", "\"closed\" is taken for Closed, so a second document was stored")
		return
	}
	l.facts.ok("wrong status", "", "%s", answered(wrong))
}

// answered is a status and the beginning of the text.
func answered(a stellar.Answer) string {
	if a.Status == 0 {
		return a.Reason
	}
	return strings.TrimRight(fmt.Sprintf("HTTP %d %.200s", a.Status, a.Body), " ")
}

// errorForm finds the simulator's form that is nearest.
func errorForm(a stellar.Answer) stellartest.ErrorForm {
	isJSON := strings.HasPrefix(a.Body, "{")
	switch {
	case a.Status == http.StatusOK && isJSON:
		return stellartest.Errors200JSON
	case a.Status == http.StatusOK:
		return stellartest.Errors200Text
	case a.Status == http.StatusUnprocessableEntity:
		return stellartest.Errors422
	case a.Status >= http.StatusInternalServerError:
		return stellartest.Errors500Text
	case isJSON:
		return stellartest.Errors400JSON
	}
	return stellartest.Errors400Text
}

// learnSuccess inserts the document, and reports whether it may be stored.
func (l *lesson) learnSuccess(ctx context.Context) (stellar.Answer, bool) {
	a := l.platform.Insert(ctx, l.auth, l.document("Closed"))
	switch {
	case a.Verdict == stellar.Delivered && a.ID != "":
		l.facts.ok("success", "", "HTTP %d with index and _id", a.Status)
		l.variant.SaaSIndex = strings.HasPrefix(a.Index, "stellar-index-")
	case a.Verdict == stellar.Delivered:
		l.facts.ok("success", "", "HTTP %d, the text OK without _id", a.Status)
		l.variant.Success = stellartest.SuccessOK
	case a.Reason == stellar.ReasonNoID:
		l.facts.warn("success", "", "set STELLAR_SUCCESS=status, once the document is seen in the index", "%s, without the documented _id", answered(a))
		l.settings["STELLAR_SUCCESS"] = stellar.SuccessStatus
		l.variant.Success = successForm(a)
	default:
		l.facts.fail("success", "", cmp.Or(stellar.Explain(a.Reason), "see serbridge check --post-empty"), "the document was not stored: %s", answered(a))
		return a, false
	}
	return a, true
}

// successForm finds the simulator's form that is nearest.
func successForm(a stellar.Answer) stellartest.SuccessForm {
	switch {
	case a.Status == http.StatusCreated:
		return stellartest.SuccessCreated
	case a.Status == http.StatusAccepted:
		return stellartest.SuccessAccepted
	case strings.Contains(a.Body, "_id"):
		return stellartest.SuccessBlankID
	case strings.HasPrefix(a.Body, "{"):
		return stellartest.SuccessObject
	}
	return stellartest.SuccessEmpty
}

// learnReading reads the document back: what became of our fields, whether and when a search finds it.
func (l *lesson) learnReading(ctx context.Context, a stellar.Answer) {
	begun := time.Now()
	if a.ID != "" {
		stored, err := l.platform.Get(ctx, l.auth, a.Index, a.ID)
		if err != nil {
			l.facts.warn("read back", "", "nothing: the search is asked too", "by index and _id: %v", err)
		} else {
			l.facts.ok("read back", "", "by index and _id")
			l.learnNesting(stored)
		}
	}
	namespace, err := l.searchByKey(ctx, begun)
	switch refused := (*stellar.ReadError)(nil); {
	case errors.As(err, &refused):
		l.variant.Search = stellartest.SearchRefused
		l.facts.warn("search", "", "leave ON_AMBIGUOUS=retry; audit cannot read back", "%v", err)
	case err != nil:
		l.facts.warn("search", "", "leave ON_AMBIGUOUS=retry, and look at the index for the document", "%v", err)
	default:
		took := time.Since(begun).Round(10 * time.Millisecond)
		l.facts.ok("search", "", "finds delivery_key under custom_ser_field.%s after %s", namespace, took)
		l.variant.RefreshDelay = cmp.Or(took, -1)
		l.settings["ON_AMBIGUOUS"] = "probe"
		if wait := 4 * took.Round(time.Second); wait > time.Minute {
			l.settings["PROBE_WAIT"] = wait.String()
		}
	}
}

// learnNesting looks where our fields ended up.
func (l *lesson) learnNesting(stored stellar.Stored) {
	var document struct {
		Custom map[string]json.RawMessage `json:"custom_ser_field"`
	}
	_ = json.Unmarshal(stored.Source, &document) // what is no document has no fields
	switch {
	case document.Custom[l.check.settings.Transform.CustomNamespace] != nil:
		l.facts.ok("custom fields", "", "custom_ser_field is taken as it is sent")
	case document.Custom["custom_ser_field"] != nil:
		l.facts.warn("custom fields", "", "set CUSTOM_FIELDS=flat", "custom_ser_field is nested again, as custom_ser_field.custom_ser_field")
		l.settings["CUSTOM_FIELDS"] = "flat"
		l.variant.CustomFields = stellartest.CustomNested
	default:
		l.facts.warn("custom fields", "", "look at the document in the index", "our fields are not in the stored document")
	}
}

// searchByKey searches until the document is found, under either of the places where its key may stand.
func (l *lesson) searchByKey(ctx context.Context, begun time.Time) (namespace string, err error) {
	ctx, cancel := context.WithDeadline(ctx, begun.Add(learnWait))
	defer cancel()
	cfg := l.platformConfig()
	cfg.Auth, cfg.Namespace = l.settings["STELLAR_AUTH"], flatName
	flat, err := stellar.New(cfg)
	if err != nil {
		return "", err
	}
	defer flat.Close()
	tick := time.NewTicker(learnPoll)
	defer tick.Stop()
	for {
		if found, err := l.platform.Find(ctx, l.auth, l.key); err != nil || len(found) > 0 {
			return l.check.settings.Transform.CustomNamespace, err
		}
		if found, err := flat.Find(ctx, l.auth, l.key); err != nil || len(found) > 0 {
			return flatName, err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return "", fmt.Errorf("the document is not found by its delivery_key within %s", learnWait)
		}
	}
}

// tell writes what was learned, the settings to paste and the preset.
func (l *lesson) tell() error {
	text, err := l.variant.Text()
	if err != nil {
		return err
	}
	if l.json {
		return writeJSONLine(l.stdout, struct {
			Result   state             `json:"result"`
			Facts    facts             `json:"facts"`
			Settings map[string]string `json:"settings"`
			Preset   json.RawMessage   `json:"preset"`
		}{l.facts.result(), l.facts, l.settings, text}, l.stdoutIsTerminal)
	}
	if err := l.facts.print(l.stdout); err != nil {
		return err
	}
	fmt.Fprintln(l.stdout, "\nSettings for this platform:")
	for _, name := range slices.Sorted(maps.Keys(l.settings)) {
		fmt.Fprintf(l.stdout, "export %s=%s\n", name, l.settings[name])
	}
	_, err = fmt.Fprintf(l.stdout, "\nPreset of the simulator (--preset FILE writes it, serbridge simulator --preset FILE takes it):\n%s", text)
	return err
}
