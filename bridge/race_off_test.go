//go:build !race

package bridge_test

const racing = false
