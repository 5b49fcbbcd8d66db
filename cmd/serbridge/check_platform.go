package main

import (
	"context"
	"crypto/rand"
	"errors"
	"net/http"
	"time"

	"serbridge/bridge/stellar"
)

// maxSkew is how far the platform's clock and ours may be apart without a word: tokens and times of events suffer.
const maxSkew = 30 * time.Second

// checkPlatform looks at the way to the platform, and reports whether there is one.
func (c *check) checkPlatform(ctx context.Context) bool {
	ctx, cancel := c.ask(ctx)
	defer cancel()
	host := c.settings.Stellar.host()
	r, why, ok := c.platform.Reach(ctx)
	if !ok {
		c.facts.fail(reachFact(why.Reason), host, stellar.Explain(why.Reason), "%v", why.Err)
		return false
	}
	c.facts.ok("stellar connection", host, "answers after %s", r.Took.Round(time.Millisecond))
	switch {
	case c.settings.Stellar.InsecureSkipVerify:
		c.facts.warn("stellar tls", host, "set STELLAR_CA_FILE, and unset STELLAR_INSECURE_SKIP_VERIFY", "the certificate is not verified: whoever stands between reads the API key")
	case r.Certificate != nil:
		c.checkCertificate("stellar tls", host, r.Certificate)
	default:
		c.facts.warn("stellar tls", host, "use https:// but for tests", "none: credentials and detections go over the wire in plain text")
	}
	c.checkClock(r)
	return true
}

// reachFact names the fact that a failure is about.
func reachFact(reason string) string {
	switch reason {
	case stellar.ReasonDNSFailed:
		return "stellar dns"
	case stellar.ReasonTLSFailed:
		return "stellar tls"
	}
	return "stellar connection"
}

func (c *check) checkClock(r stellar.Reached) {
	if r.Date.IsZero() {
		return
	}
	skew := time.Since(r.Date) - r.Took/2
	if skew.Abs() > maxSkew {
		c.facts.warn("clock", "", "set the clocks by NTP: tokens are taken for expired, and times of events are refused or misplaced",
			"ours and the platform's are %s apart", skew.Abs().Round(time.Second))
		return
	}
	c.facts.ok("clock", "", "ours and the platform's agree within %s", maxSkew)
}

// checkToken logs in, and asks with the token what only a user with rights may.
func (c *check) checkToken(ctx context.Context) {
	ctx, cancel := c.ask(ctx)
	defer cancel()
	auth, why, ok := c.platform.Authorize(ctx)
	if !ok {
		c.facts.fail("stellar login", "", stellar.Explain(why.Reason), "%v", why.Err)
		return
	}
	const hint = "; whether it may insert is asked with --post-empty"
	says := "as " + c.who() + ": "
	if until, has := c.platform.TokenExpiry(); has {
		says += "a token until " + until.UTC().Format(time.RFC3339)
	} else {
		says += "without a token, so nothing was asked yet"
	}
	if !c.postEmpty {
		says += hint
	}
	c.facts.ok("stellar login", "", "%s", says)
	if c.postEmpty {
		c.checkInsert(ctx, auth)
	}
	c.checkSearch(ctx, auth)
}

// who is the user as the settings name it; no secret.
func (c *check) who() string {
	if c.settings.Stellar.Auth == stellar.AuthJWTBearer {
		return "the owner of the scoped API key"
	}
	user, err := c.settings.Stellar.User()
	if err != nil {
		return "an unknown user"
	}
	return user
}

// checkInsert sends what the API is documented to refuse, after it has judged the rights.
func (c *check) checkInsert(ctx context.Context, auth stellar.Authorization) {
	switch a := c.platform.Insert(ctx, auth, []byte("{}")); {
	case a.Verdict == stellar.Refused && a.Documented:
		c.facts.ok("stellar insert", "", "may insert: {} was refused for its missing fields, HTTP %d", a.Status)
	case a.Verdict == stellar.Delivered, a.Reason == stellar.ReasonNoID:
		c.facts.warn("stellar insert", "", "see the index for a document without fields, and delete it", "{} was taken, HTTP %d: this platform does not refuse missing fields", a.Status)
	case a.Status == http.StatusBadRequest, a.Status == http.StatusUnprocessableEntity:
		c.facts.ok("stellar insert", "", "may insert: {} was refused with HTTP %d, though not in the documented words", a.Status)
	default:
		c.facts.fail("stellar insert", "", stellar.Explain(a.Reason), "%v", a.Err)
	}
}

// checkSearch looks for a key that no document has.
func (c *check) checkSearch(ctx context.Context, auth stellar.Authorization) {
	_, err := c.platform.Find(ctx, auth, "serbridge-check-"+rand.Text())
	switch refused := (*stellar.ReadError)(nil); {
	case err == nil:
		c.facts.ok("stellar search", "", "can be searched, for ON_AMBIGUOUS=probe and audit")
	case errors.As(err, &refused) && refused.Status == http.StatusUnauthorized && c.settings.Stellar.Auth == stellar.AuthBasic:
		c.facts.fail("stellar login", "", "check STELLAR_USER and STELLAR_API_KEY; from 5.5 on STELLAR_AUTH=basic is refused: take jwt", "%v", err)
	case c.settings.Delivery.OnAmbiguous == "probe":
		c.facts.fail("stellar search", "", "give the user the right to search (legacy root key), or set ON_AMBIGUOUS=retry", "%v", err)
	default:
		c.facts.warn("stellar search", "", "nothing, unless ON_AMBIGUOUS=probe or audit are wanted: they need the legacy root key", "%v", err)
	}
}
