package secret_test

import (
	"fmt"
	"log/slog"
	"os"

	"serbridge/bridge/secret"
)

func Example() {
	redactor := new(secret.Redactor)
	key := redactor.Watch(secret.Literal("hunter22"))

	log := slog.New(redactor.Handler(slog.NewTextHandler(os.Stdout, &slog.HandlerOptions{
		ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
			if a.Key == slog.TimeKey {
				return slog.Attr{}
			}
			return a
		},
	})))
	v, _ := key() // read at each use
	log.Info("calling", "url", "https://api.example.com/?key="+v)
	fmt.Println(redactor.Redact("the API echoed hunter22"))
	// Output:
	// level=INFO msg=calling url="https://api.example.com/?key=[redacted]"
	// the API echoed [redacted]
}
