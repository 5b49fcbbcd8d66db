package main

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// checkRate says what the limit of the group leaves to each replica.
func (c *check) checkRate() {
	rate, replicas := c.settings.Delivery.RateLimit, c.replicas
	if replicas == 0 {
		replicas = max(1, c.found.members)
	}
	idle := replicas - c.found.partitions
	switch {
	case rate == 0:
		c.facts.warn("rate", "", "set RATE_LIMIT to what the platform bears", "no limit: the platform gets whatever Kafka holds")
	case c.found.partitions > 0 && idle > 0:
		c.facts.warn("rate", "", "run at most as many replicas as there are partitions", "%g a second for %d replicas, but there are only %d partitions: %d replicas idle",
			rate, replicas, c.found.partitions, idle)
	default:
		c.facts.ok("rate", "", "%g a second for the group, %.4g for each of %d replicas on the average", rate, rate/float64(replicas), replicas)
	}
}

// Memory of a member beside records: the program and what it keeps, and one batch more while it is unpacked.
const (
	memoryOfProgram = 48 << 20
	memoryOfBatch   = 8 << 20
)

// checkMemory compares what a member may hold with what the kernel lets it.
func (c *check) checkMemory() {
	buffer := int64(c.settings.Delivery.BufferBytes)
	needs := size(memoryOfProgram + memoryOfBatch + buffer + buffer/16*int64(max(1, c.found.brokers)))
	limit, limited := memoryLimit(c.cgroup)
	sum := mib(needs) + ": BUFFER_BYTES " + c.settings.Delivery.BufferBytes.String() + ", a sixteenth of it for each broker, the program and a batch"
	switch {
	case !limited:
		c.facts.ok("memory", "", "needs up to %s; no limit is set here", sum)
	case int64(needs) > limit:
		c.facts.warn("memory", "", "raise the memory limit to "+mib(needs)+", or lower BUFFER_BYTES", "needs up to %s; the limit is %s", sum, mib(size(limit)))
	default:
		c.facts.ok("memory", "", "needs up to %s; the limit is %s", sum, mib(size(limit)))
	}
}

func mib(n size) string { return strconv.FormatInt(int64(n+1<<20-1)>>20, 10) + " MiB" }

// memoryLimit reads the limit of our control group, version 2 or 1; false without one.
func memoryLimit(root string) (int64, bool) {
	for _, file := range []string{"memory.max", "memory/memory.limit_in_bytes"} {
		text, err := os.ReadFile(filepath.Join(root, file))
		if err != nil {
			continue
		}
		n, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64)
		return n, err == nil && n < 1<<50 // version 1 says none by a giant number
	}
	return 0, false
}
