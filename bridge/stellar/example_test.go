package stellar_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"

	"serbridge/bridge/secret"
	"serbridge/bridge/stellar"
)

func Example() {
	platform := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/connect/api/v1/access_token" {
			fmt.Fprint(w, `{"access_token":"a-token","exp":4102444800}`)
			return
		}
		fmt.Fprint(w, `{"index":"aella-ser-2021.04.28-","_id":"ZbWyFnkB"}`)
	}))
	defer platform.Close()

	redactor := new(secret.Redactor)
	c, err := stellar.New(stellar.Config{
		URL:      platform.URL,
		User:     secret.Literal("api@example.com"),
		APIKey:   redactor.Watch(secret.Literal("not-a-real-key")),
		Redactor: redactor,
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer c.Close()

	ctx := context.Background()
	auth, answer, ok := c.Authorize(ctx)
	if ok {
		answer = c.Insert(ctx, auth, []byte(`{"event_name":"Beacon","timestamp":1772366400000,"event_status":"New","event_source":"demo"}`))
	}
	switch answer.Verdict {
	case stellar.Delivered:
		fmt.Println("delivered as", answer.ID)
	case stellar.Unknown:
		fmt.Println("may be stored:", answer.Reason)
	default:
		fmt.Println(answer.Err)
	}
	// Output: delivered as ZbWyFnkB
}
