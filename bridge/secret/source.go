// Package secret reads credentials and keeps them out of what others see.
//
// It promises two things. A credential in a file is read again at each use,
// so that its rotation needs no restart. And a value that a Redactor was told
// of, or that passed through a Source it watches, is replaced by [redacted]
// in every text it is given, whether the value stands there as it is, escaped
// or in base64.
package secret

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
)

// Source returns a credential. It is called at each use and never caches, so
// that the answer is the credential of now.
type Source func() (string, error)

// Literal is the Source of a value that does not change.
func Literal(v string) Source {
	return func() (string, error) { return v, nil }
}

// maxFile bounds a credential file: a path that names a log or a device by
// mistake must not fill the memory.
const maxFile = 64 << 10

// File is the Source of what stands in the file at path, without the newlines
// at its end. An empty file is an error: it is one that is being written, and
// an attempt with no key at all may lock the account. Errors name the file,
// never its content.
func File(path string) Source {
	return func() (string, error) {
		f, err := os.Open(path)
		if err != nil {
			return "", fmt.Errorf("read credential: %w", err)
		}
		defer f.Close()
		b, err := io.ReadAll(io.LimitReader(f, maxFile+1))
		if err != nil {
			return "", fmt.Errorf("read credential: %w", err)
		}
		if len(b) > maxFile {
			return "", fmt.Errorf("read credential: %s is larger than %d bytes", path, maxFile)
		}
		v := strings.TrimRight(string(b), "\r\n")
		if v == "" {
			return "", fmt.Errorf("read credential: %s: %w", path, errEmpty)
		}
		return v, nil
	}
}

var errEmpty = errors.New("the file is empty")
