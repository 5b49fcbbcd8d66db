package stellar

import (
	"net/http"
	"testing"
	"testing/synctest"
	"time"
)

// The credentials must not go to whoever answers at the address before it is known to be the platform.
func TestReachSendsNoCredential(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var got http.Header
		p := &platform{read: func(w http.ResponseWriter, r *http.Request) {
			got = r.Header
			w.Header().Set("Date", time.Now().Add(time.Minute).UTC().Format(http.TimeFormat))
			w.WriteHeader(http.StatusUnauthorized)
		}}
		c := client(t, virtual(t, p))
		r, why, ok := c.Reach(t.Context())
		if !ok || got == nil || got["Authorization"] != nil {
			t.Errorf("reached %t (%v), headers %v", ok, why.Err, got)
		}
		if ahead := time.Until(r.Date); ahead < 58*time.Second || ahead > time.Minute {
			t.Errorf("the platform's clock is %s ahead", ahead)
		}
	})
}
