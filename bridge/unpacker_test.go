package bridge

import (
	"bytes"
	"runtime/debug"
	"testing"

	"github.com/klauspost/compress/zstd"
	"github.com/twmb/franz-go/pkg/kgo"
)

// What nobody points to any more must not hold up fetches until the garbage collector comes by itself: with a large heap
// that is seldom, and each refusal costs the partition a fetch.
func TestBatchesLetGoOfDoNotStallFetches(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	const buffer = 4 << 20
	u, err := newUnpacker(buffer)
	if err != nil {
		t.Fatal(err)
	}
	packer, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	packed := packer.EncodeAll(bytes.Repeat([]byte("x"), buffer/unpackShare/2), nil)
	for i := range 4 {
		batch, err := u.Decompress(packed, kgo.CodecZstd)
		if err != nil {
			t.Fatalf("batch %d: %v", i, err)
		}
		if len(batch) != buffer/unpackShare/2 {
			t.Fatalf("batch %d: %d bytes", i, len(batch))
		}
	}
}
