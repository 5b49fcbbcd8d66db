package codec

import (
	"bytes"
	"io"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

// compressions are known by how their values begin, as no text does.
var compressions = []struct {
	magic  []byte
	unpack func(value []byte, most int) ([]byte, error)
}{
	{[]byte{0x1f, 0x8b, 0x08}, gunzip},
	{[]byte{0x28, 0xb5, 0x2f, 0xfd}, unzstd},
}

func compressionOf(value []byte) func([]byte, int) ([]byte, error) {
	for _, c := range compressions {
		if bytes.HasPrefix(value, c.magic) {
			return c.unpack
		}
	}
	return nil
}

func gunzip(value []byte, most int) ([]byte, error) {
	r, err := gzip.NewReader(bytes.NewReader(value))
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return readMost(r, most)
}

// unzstd bounds the window too, which the value itself would choose.
func unzstd(value []byte, most int) ([]byte, error) {
	r, err := zstd.NewReader(bytes.NewReader(value), zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(mostAllowed))
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return readMost(r, most)
}

// readMost reads to the end, and not beyond what is allowed.
func readMost(r io.Reader, most int) ([]byte, error) {
	plain, err := io.ReadAll(io.LimitReader(r, int64(most)+1))
	if err != nil {
		return nil, err
	}
	if len(plain) > most {
		return nil, errTooFar
	}
	return plain, nil
}
