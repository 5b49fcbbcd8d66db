package main

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"serbridge/bridge/pause"
)

// freeAddr is a loopback address that nobody listens on.
func freeAddr() (string, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return ln.Addr().String(), ln.Close()
}

// exposure is what the member says that a crash now could repeat.
func (m *member) exposure(ctx context.Context) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+m.admin+"/metrics", nil)
	if err != nil {
		return 0, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, fmt.Errorf("read metrics of %s: %w", m.name, err)
	}
	defer resp.Body.Close()
	lines := bufio.NewScanner(resp.Body)
	for lines.Scan() {
		if value, is := strings.CutPrefix(lines.Text(), "serbridge_exposure_documents "); is {
			f, err := strconv.ParseFloat(value, 64)
			return int(f), err
		}
	}
	return 0, fmt.Errorf("%s exports no serbridge_exposure_documents", m.name)
}

// still waits until the metric has not changed for longer than a commit takes.
func (m *member) still(ctx context.Context) error {
	last := -1
	for end := time.Now().Add(settleWait); time.Now().Before(end); {
		n, err := m.exposure(ctx)
		if err == nil && n == last && n > 0 {
			return nil
		}
		last = n
		if err := pause.For(ctx, time.Second); err != nil {
			return err
		}
	}
	return fmt.Errorf("the exposure of %s never stood still", m.name)
}
