package stellartest_test

import (
	"fmt"
	"io"
	"net/http"
	"strings"

	"serbridge/bridge/stellar/stellartest"
)

// A platform whose first answer gets lost after it stored the document: the client sends again, and the ledger can
// tell why there are two copies.
func Example() {
	api := stellartest.New(stellartest.Config{})
	running, err := api.Start("127.0.0.1:0")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer api.Close()
	api.Script(stellartest.Sequence(stellartest.CutAfterStoring()))

	const document = `{"event_name":"demo test","timestamp":1619583462308,"event_status":"New","event_source":"ActZero",
		"custom_ser_field":{"actzero":{"delivery_key":"k1"}}}`
	for range 2 {
		req, _ := http.NewRequest("POST", running.URL()+stellartest.InsertPath, io.NopCloser(strings.NewReader(document)))
		req.Header.Set("Content-Type", "application/json")
		req.SetBasicAuth(stellartest.DefaultUser, stellartest.DefaultAPIKey)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			fmt.Println("no answer")
			continue
		}
		fmt.Println(resp.StatusCode)
		resp.Body.Close()
	}
	fmt.Println("copies", api.Copies()["k1"], "unknown to the client", api.Unknowns()["k1"], "unexplained", api.Ledger().Unexplained)
	// Output:
	// no answer
	// 200
	// copies 2 unknown to the client 1 unexplained 0
}
