package format

import (
	"crypto/sha256"
	"encoding/hex"
)

// mappingName returns a mapping's name and the first 8 digits of the hash of its content: it tells which mapping made a
// stored document, also after the mapping was changed under the same name.
func mappingName(name, content string) string {
	sum := sha256.Sum256([]byte(content))
	return name + "@" + hex.EncodeToString(sum[:4])
}
