package bridge

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
	"github.com/twmb/franz-go/pkg/kgo"
)

// unpacker unpacks fetched batches, for kgo, while what it has unpacked and
// nobody has let go of yet is within a bound. kgo unpacks a whole fetch at
// once, and a kilobyte can hold megabytes: a bound on the bytes of a fetch, or
// on each batch, is none on what it becomes.
//
// A batch beyond the bound is refused. kgo then keeps those of its partition
// that came before it, and fetches it again: nothing is skipped. One batch is
// unpacked at a time, and its size known only then, so the bound may be passed
// by one batch.
type unpacker struct {
	most int          // that one batch may unpack to
	kept int64        // that is kept of all
	held atomic.Int64 // of it: until the garbage collector has taken it

	mu     sync.Mutex
	inVain time.Time // the last sweep that made no room
	zstd   *zstd.Decoder
	lz4    *lz4.Reader
	snappy kgo.Decompressor
	buffer bytes.Buffer
}

// errNoRoomToUnpack is what kgo says of a partition whose first batch was
// refused.
var errNoRoomToUnpack = errors.New("no room to unpack a batch yet")

func newUnpacker(bufferBytes int) (*unpacker, error) {
	u := &unpacker{most: bufferBytes / unpackShare, kept: int64(bufferBytes / unpackedShare), lz4: lz4.NewReader(nil), snappy: kgo.DefaultDecompressor()}
	var err error
	u.zstd, err = zstd.NewReader(nil, zstd.WithDecoderLowmem(true), zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(uint64(u.most)))
	if err != nil {
		return nil, fmt.Errorf("make zstd decoder: %w", err)
	}
	return u, nil
}

// Decompress is kgo.Decompressor's.
func (u *unpacker) Decompress(packed []byte, codec kgo.CompressionCodecType) ([]byte, error) {
	if codec == kgo.CodecNone {
		return packed, nil
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.full() && !u.sweep() {
		return nil, errNoRoomToUnpack
	}
	unpacked, err := u.unpack(packed, codec)
	if err != nil {
		return nil, err
	}
	u.hold(unpacked)
	return unpacked, nil
}

func (u *unpacker) unpack(packed []byte, codec kgo.CompressionCodecType) ([]byte, error) {
	switch codec {
	case kgo.CodecZstd:
		unpacked, err := u.zstd.DecodeAll(packed, u.emptied().AvailableBuffer())
		if errors.Is(err, zstd.ErrDecoderSizeExceeded) {
			err = kgo.ErrMaxDecompress
		}
		if err != nil {
			return nil, err
		}
		u.buffer.Write(unpacked)
		return slices.Clone(unpacked), nil // the decoder goes on pointing to its own
	case kgo.CodecSnappy: // unpacks to 22 times at most, and says to how much
		if n, err := s2.DecodedLen(packed); err == nil && n > u.most {
			return nil, kgo.ErrMaxDecompress
		}
		unpacked, err := u.snappy.Decompress(packed, codec)
		if len(unpacked) > u.most {
			return nil, kgo.ErrMaxDecompress
		}
		return unpacked, err
	case kgo.CodecGzip:
		r, err := gzip.NewReader(bytes.NewReader(packed))
		if err != nil {
			return nil, err
		}
		return u.readAll(r)
	case kgo.CodecLz4:
		u.lz4.Reset(bytes.NewReader(packed))
		return u.readAll(u.lz4)
	}
	return nil, fmt.Errorf("unknown compression %d", codec)
}

func (u *unpacker) readAll(r io.Reader) ([]byte, error) {
	n, err := u.emptied().ReadFrom(io.LimitReader(r, int64(u.most)+1))
	switch {
	case err != nil:
		return nil, err
	case n > int64(u.most):
		return nil, kgo.ErrMaxDecompress
	}
	return slices.Clone(u.buffer.Bytes()), nil
}

// emptied is the buffer that batches are unpacked into.
func (u *unpacker) emptied() *bytes.Buffer {
	const usual = 1 << 20
	u.buffer.Reset()
	if u.buffer.Cap() > usual {
		u.buffer = bytes.Buffer{}
	}
	return &u.buffer
}

func (u *unpacker) full() bool { return u.held.Load() >= u.kept }

// sweep has the garbage collector look, which on its own comes only when memory
// is asked for, and reports whether that made room. Where it did not it is not
// asked again for a while: what kgo keeps until the next polls is no garbage.
func (u *unpacker) sweep() bool {
	if time.Since(u.inVain) < 100*time.Millisecond {
		return false
	}
	runtime.GC()
	for range 5 { // what it found is counted a moment later
		if !u.full() {
			return true
		}
		time.Sleep(time.Millisecond)
	}
	u.inVain = time.Now()
	return false
}

// fetchedRecord is about what kgo makes of a record beside its bytes.
const fetchedRecord = 200

// hold counts a batch, with the records that kgo makes of it, until nothing
// points into it any more.
func (u *unpacker) hold(batch []byte) {
	const least = 1 << 10 // smaller ones lie together in memory, and may never be let go one by one
	if len(batch) < least {
		return
	}
	n := int64(len(batch) + fetchedRecord*records(batch))
	u.held.Add(n)
	runtime.AddCleanup(&batch[0], func(n int64) { u.held.Add(-n) }, n)
}

// records counts the records of a batch, each behind its length. Of the old
// message format, where none of them is small, it counts too few.
func records(batch []byte) (n int) {
	for len(batch) > 0 {
		size, width := binary.Varint(batch)
		if width <= 0 || size < 0 || size > int64(len(batch)-width) {
			break
		}
		batch = batch[width+int(size):]
		n++
	}
	return n
}

// own copies what a record holds out of the batch it came in. Else one record
// that waits would keep all of its batch in memory, which nobody counts.
func own(k *kgo.Record) *kgo.Record {
	mine := *k
	mine.Key, mine.Value = bytes.Clone(k.Key), bytes.Clone(k.Value)
	mine.Headers = slices.Clone(k.Headers)
	for i := range mine.Headers {
		h := &mine.Headers[i]
		h.Key, h.Value = strings.Clone(h.Key), bytes.Clone(h.Value)
	}
	return &mine
}
