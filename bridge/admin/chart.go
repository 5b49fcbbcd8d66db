package admin

import (
	"fmt"
	"strings"
	"time"
)

// The drawing area of a chart, in units of its view box.
const (
	chartWidth  = 600
	chartBottom = 110
	chartTop    = 24 // below the words
)

// chart is a drawing of the last hour, with the same said in words for who cannot see it.
type chart struct {
	ID, Title, Says, Top string
	Lines                []line
}

type line struct{ Name, Points string }

// curve is a figure over time: values[i] is of past[i+1] for a rate, which needs two samples.
type curve struct {
	name string
	of   func(before, now sample) float64
}

func charts(past []sample) []chart {
	rate := func(of func(sample) float64) func(a, b sample) float64 {
		return func(a, b sample) float64 { return perSecond(of(b)-of(a), b.at.Sub(a.at)) }
	}
	return []chart{
		draw("throughput", "Documents per second", past,
			curve{"delivered", rate(func(s sample) float64 { return s.delivered })},
			curve{"rejected", rate(func(s sample) float64 { return s.rejected })},
			curve{"of unknown end", rate(func(s sample) float64 { return s.unknown })}),
		draw("backlog", "Records that wait", past,
			curve{"real backlog", func(_, now sample) float64 { return now.backlog }}),
		draw("oldest", "Age of the oldest unsettled record, seconds", past,
			curve{"age", func(_, now sample) float64 { return now.oldest }}),
	}
}

// perSecond is never negative: a counter goes down only when a process begins anew, which has its own history.
func perSecond(n float64, d time.Duration) float64 { return max(0, n/max(d.Seconds(), 1e-3)) }

// lastRate is of the last two samples at least ten seconds apart.
func lastRate(past []sample, of func(sample) float64) float64 {
	now := past[len(past)-1]
	for i := len(past) - 2; i >= 0; i-- {
		if d := now.at.Sub(past[i].at); d >= 10*time.Second || i == 0 {
			return perSecond(of(now)-of(past[i]), d)
		}
	}
	return 0
}

// draw draws curves from the right edge, now, to the left, an hour ago.
func draw(id, title string, past []sample, curves ...curve) chart {
	c := chart{ID: id, Title: title}
	values, top := make([][]float64, len(curves)), 0.0
	for i, one := range curves {
		for k := 1; k < len(past); k++ {
			v := one.of(past[k-1], past[k])
			values[i], top = append(values[i], v), max(top, v)
		}
	}
	c.Top = short(top)
	var says []string
	for i, one := range curves {
		c.Lines = append(c.Lines, line{one.name, points(past, values[i], top)})
		if n := len(values[i]); n > 0 {
			says = append(says, fmt.Sprintf("%s now %s", one.name, short(values[i][n-1])))
		}
	}
	c.Says = fmt.Sprintf("The last hour. Highest: %s. %s.", c.Top, strings.Join(says, ", "))
	return c
}

func points(past []sample, values []float64, top float64) string {
	var s strings.Builder
	for k, v := range values {
		ago := past[len(past)-1].at.Sub(past[k+1].at)
		x := chartWidth * (1 - min(1, ago.Seconds()/(samples*sampleEvery).Seconds()))
		y := chartBottom - (chartBottom-chartTop)*v/max(top, 1e-9)
		fmt.Fprintf(&s, "%.1f,%.1f ", x, y)
	}
	return strings.TrimSpace(s.String())
}
