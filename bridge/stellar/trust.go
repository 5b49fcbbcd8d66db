package stellar

import (
	"crypto/x509"
	"fmt"
	"log/slog"
	"os"
	"sync"
)

// trust holds the connections that trust what the CA file says now. When the
// file changes, new ones take the place of the old, which end after their last
// answer.
type trust struct {
	file  string
	build func(*x509.CertPool) *connections
	log   *slog.Logger

	mu     sync.Mutex
	now    *connections
	info   os.FileInfo // of the file read last, good or not; nil: none
	broken bool        // what was read last cannot be used
}

// connections returns those of now. While a changed file cannot be used, a
// rotation that is under way for instance, the previous ones stay.
func (t *trust) connections() (*connections, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.file == "" {
		if t.now == nil {
			t.now = t.build(nil)
		}
		return t.now, nil
	}
	info, err := os.Stat(t.file)
	if err == nil && t.now != nil && !t.broken && same(info, t.info) {
		return t.now, nil
	}
	var roots *x509.CertPool
	if err == nil {
		roots, err = readRoots(t.file)
	}
	if err != nil {
		return t.previous(err)
	}
	if t.now != nil {
		t.log.Info("STELLAR_CA_FILE has changed and was read again")
		t.now.close()
	}
	t.now, t.info, t.broken = t.build(roots), info, false
	return t.now, nil
}

func (t *trust) previous(err error) (*connections, error) {
	if t.now == nil {
		return nil, fmt.Errorf("read STELLAR_CA_FILE: %w", err)
	}
	if !t.broken {
		t.broken = true
		t.log.Warn("STELLAR_CA_FILE has changed and cannot be used; what it held before stays trusted", "error", err)
	}
	return t.now, nil
}

func same(a, b os.FileInfo) bool {
	return b != nil && os.SameFile(a, b) && a.ModTime().Equal(b.ModTime()) && a.Size() == b.Size()
}

// readRoots returns the system's roots and those in the file.
func readRoots(file string) (*x509.CertPool, error) {
	pem, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read STELLAR_CA_FILE: %w", err)
	}
	roots, err := x509.SystemCertPool()
	if err != nil {
		roots = x509.NewCertPool()
	}
	if !roots.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("read STELLAR_CA_FILE: %s holds no PEM certificate", file)
	}
	return roots, nil
}

func (t *trust) close() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.now != nil {
		t.now.close()
	}
}
