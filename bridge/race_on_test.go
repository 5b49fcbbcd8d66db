//go:build race

package bridge_test

// racing is that the race detector, which takes eight times as long, is on: it needs every path once, not every row of
// every table.
const racing = true
