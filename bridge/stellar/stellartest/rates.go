package stellartest

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"time"
)

// Faults by rate. The zero value is none. What hits a document depends on the seed, its delivery key and how often it
// was tried, not on the order of requests, so a run repeats.
type Faults struct {
	Seed    uint64  `json:"seed,omitzero"` // 0: that of the Config
	Latency Latency `json:"latency,omitzero"`

	// Rates is the probability of each named fault ([FaultNames]) per insert; together at most 1. Only
	// cut_before_reading, decided before the document is known, follows the order of requests and no bound.
	Rates map[string]float64 `json:"rates,omitzero"`
	// TokenRates is the same for the token call.
	TokenRates map[string]float64 `json:"token_rates,omitzero"`

	// RetryAfter goes on rate_limited and unavailable, in turns as seconds and as a date; 0: none.
	RetryAfter time.Duration `json:"retry_after,omitzero"`
	// MaxUnknownPerDocument bounds how often one delivery key is hit by a fault that leaves its fate unknown to the
	// client; a further one is left out and the platform behaves. 0: no bound.
	MaxUnknownPerDocument int `json:"max_unknown_per_document,omitzero"`
}

// Latency of every API answer, log-normal: half are faster than Median, one in a hundred is slower than P99. A part of
// it, drawn evenly, passes before the document is stored, the rest after it.
type Latency struct {
	Median time.Duration `json:"median,omitzero"` // 0: no latency
	P99    time.Duration `json:"p99,omitzero"`    // not above Median: always Median
	Max    time.Duration `json:"max,omitzero"`    // 0: ten times P99
}

// DemoFaults is a bad day on which nothing may be lost: answers of 20 to 200 ms, a few percent of 5xx, rare short 429,
// tokens that end early, cut connections. A document is left unknown at most twice, so that three sends suffice.
func DemoFaults(seed uint64) Faults {
	return Faults{
		Seed:    seed,
		Latency: Latency{Median: 20 * time.Millisecond, P99: 200 * time.Millisecond},
		Rates: map[string]float64{
			"server_error": 0.01, "unavailable": 0.0006, "rate_limited": 0.0006, "revoked": 0.002,
			"bad_gateway": 0.004, "bad_gateway_stored": 0.002, "gateway_timeout": 0.002,
			"cut_before_storing": 0.006, "cut_after_storing": 0.004, "cut_body": 0.003,
		},
		TokenRates:            map[string]float64{"unavailable": 0.1},
		RetryAfter:            time.Second,
		MaxUnknownPerDocument: 2,
	}
}

// Validate says what is wrong, all of it at once.
func (f Faults) Validate() error {
	errs := []error{validRates("rates", f.Rates), validRates("token_rates", f.TokenRates)}
	for name, d := range map[string]time.Duration{"latency.median": f.Latency.Median, "latency.p99": f.Latency.P99,
		"latency.max": f.Latency.Max, "retry_after": f.RetryAfter, "max_unknown_per_document": time.Duration(f.MaxUnknownPerDocument)} {
		if d < 0 {
			errs = append(errs, fmt.Errorf("%s is negative", name))
		}
	}
	return errors.Join(errs...)
}

func validRates(field string, rates map[string]float64) error {
	var errs []error
	sum := 0.0
	for name, p := range rates {
		if _, ok := presets[name]; !ok {
			errs = append(errs, fmt.Errorf("%s: no fault is named %q; see FaultNames", field, name))
		}
		if !(p >= 0 && p <= 1) {
			errs = append(errs, fmt.Errorf("%s: %s is %v, not a probability from 0 to 1", field, name, p))
		}
		sum += p
	}
	if sum > 1+1e-9 {
		errs = append(errs, fmt.Errorf("%s: the probabilities sum to %v, more than 1", field, sum))
	}
	return errors.Join(errs...)
}

// dice are Faults made ready to be drawn from: immutable, shared by all requests.
type dice struct {
	Faults
	arrivals, inserts, tokens []chance
}

// chance is one named fault and the upper end of its part of [0, 1).
type chance struct {
	fault Fault
	below float64
}

func newDice(f Faults, seed uint64) *dice {
	if f.Seed == 0 {
		f.Seed = seed
	}
	arrivals := map[string]float64{"cut_before_reading": f.Rates["cut_before_reading"]}
	inserts := maps.Clone(f.Rates)
	delete(inserts, "cut_before_reading")
	return &dice{Faults: f, arrivals: chances(arrivals), inserts: chances(inserts), tokens: chances(f.TokenRates)}
}

// chances lays the rates side by side, sorted by name: the same seed must draw the same.
func chances(rates map[string]float64) []chance {
	var cs []chance
	sum := 0.0
	for _, name := range slices.Sorted(maps.Keys(rates)) {
		if rates[name] > 0 {
			sum += rates[name]
			cs = append(cs, chance{presets[name], sum})
		}
	}
	return cs
}

// idle says that no draw can do anything.
func (d *dice) idle() bool {
	return len(d.arrivals) == 0 && len(d.inserts) == 0 && len(d.tokens) == 0 && d.Latency.Median == 0
}

// draw decides about one attempt. key and attempt identify it.
func (d *dice) draw(cs []chance, key string, attempt int, now time.Time) Fault {
	if d.idle() {
		return Fault{}
	}
	rng := rand.New(rand.NewPCG(d.Seed, mix(key, uint64(attempt))))
	f := d.pick(cs, rng.Float64())
	if d.RetryAfter > 0 && (f.Name == "rate_limited" || f.Name == "unavailable") {
		if attempt%2 == 0 {
			f = f.RetryAt(now.Add(d.RetryAfter))
		} else {
			f = f.RetryAfter(d.RetryAfter)
		}
	}
	f.Delay, f.AnswerDelay = d.Latency.draw(rng)
	return f
}

func (d *dice) pick(cs []chance, p float64) Fault {
	i := slices.IndexFunc(cs, func(c chance) bool { return p < c.below })
	if i < 0 {
		return Fault{}
	}
	return cs[i].fault
}

// mix hashes what identifies an attempt: FNV-1a, because a seeded run must repeat in another process.
func mix(key string, n uint64) uint64 {
	const prime = 1099511628211
	h := uint64(14695981039346656037)
	for i := range len(key) {
		h = (h ^ uint64(key[i])) * prime
	}
	return (h ^ n) * prime
}

const z99 = 2.3263478740408408 // the 99th percentile of the standard normal distribution

func (l Latency) draw(rng *rand.Rand) (before, after time.Duration) {
	if l.Median <= 0 {
		return 0, 0
	}
	d := float64(l.Median)
	if l.P99 > l.Median {
		d *= math.Exp(rng.NormFloat64() * math.Log(float64(l.P99)/float64(l.Median)) / z99)
	}
	most := l.Max
	if most == 0 {
		most = 10 * max(l.P99, l.Median)
	}
	total := min(time.Duration(d), most)
	before = time.Duration(rng.Float64() * float64(total))
	return before, total - before
}
