package admin

import (
	"fmt"

	g "maragu.dev/gomponents"
	h "maragu.dev/gomponents/html"
)

// markup is the page as HTML. Not html/template: it calls methods by name, so the linker would keep every exported method
// of the whole program, a fifth of the binary. Text and the values of attributes are escaped as they are written.
func markup(v view) g.Node {
	verdict, title := "good", "ready"
	if len(v.Troubles) > 0 {
		verdict, title = "bad", "not ready"
	}
	return h.Doctype(h.HTML(h.Lang("en"),
		h.Head(
			h.Meta(h.Charset("utf-8")),
			h.Meta(h.Name("viewport"), h.Content("width=device-width, initial-scale=1")),
			h.Meta(g.Attr("http-equiv", "refresh"), h.Content("15")),
			h.TitleEl(g.Text(title+" · serbridge")),
			h.StyleEl(g.Raw(pageCSS)), // ours, and named in the policy by its hash
		),
		h.Body(
			h.Header(h.H1(g.Text("serbridge")), h.P(h.ID("verdict"), h.Class(verdict), g.Text(v.Verdict))),
			h.Main(
				g.If(len(v.Troubles) > 0, section("troubles", "Not ready, because", list("troubles", v.Troubles, trouble))),
				g.If(len(v.Jumps) > 0, section("jumps", "Turned away", list("jumps", v.Jumps, g.Text))),
				section("now", "Now", h.Dl(h.ID("now"), g.Map(v.Figures, named))),
				section("hour", "The last hour", g.Map(v.Charts, drawing)),
				section("partitions", "Partitions of this member", partitionTable(v)),
				section("rejects", "Dead letters by reason, since the start", rejectTable(v.Rejects)),
				section("failures", "Last attempts that did not deliver", failureTable(v.Failures)),
			),
			h.Footer(h.P(g.Text("As of "+v.At+", refreshed every 15 seconds. "), link("/readyz"), g.Text(" "), link("/livez"), g.Text(" "), link("/metrics"))),
		),
	))
}

func section(id, title string, content g.Node) g.Node {
	return h.Section(labelledBy("h-"+id), h.H2(h.ID("h-"+id), g.Text(title)), content)
}

func labelledBy(ids string) g.Node { return h.Aria("labelledby", ids) }

func link(to string) g.Node { return h.A(h.Href(to), g.Text(to)) }

func list[T any](id string, all []T, content func(T) g.Node) g.Node {
	return h.Ul(h.ID(id), g.Map(all, func(one T) g.Node { return h.Li(content(one)) }))
}

func trouble(t troubleRow) g.Node {
	return g.Group{g.Text(t.Text + " "), h.Small(g.Text("since " + t.Since))}
}

func named(f namedFigure) g.Node { return h.Div(h.Dt(g.Text(f.Name)), h.Dd(g.Text(f.Value))) }

// table is wider than a phone, so it scrolls by itself, also by the keyboard. The first cell of a row says what the row is about.
func table(id string, columns []string, rows [][]string) g.Node {
	if len(rows) == 0 {
		return h.P(g.Text("none"))
	}
	return h.Div(h.Class("wide"), h.Role("region"), labelledBy("h-"+id), h.TabIndex("0"),
		h.Table(h.ID(id),
			h.THead(h.Tr(g.Map(columns, func(name string) g.Node { return h.Th(h.Scope("col"), g.Text(name)) }))),
			h.TBody(g.Map(rows, row))))
}

func row(cells []string) g.Node {
	return h.Tr(h.Th(h.Scope("row"), g.Text(cells[0])), g.Map(cells[1:], func(cell string) g.Node { return h.Td(g.Text(cell)) }))
}

func partitionTable(v view) g.Node {
	if len(v.Partitions) == 0 {
		return h.P(g.Text("none yet"))
	}
	rows := make([][]string, len(v.Partitions))
	for i, p := range v.Partitions {
		rows[i] = []string{p.Name, p.Lag, p.Backlog, p.Unsettled, p.Oldest, p.Headroom}
	}
	return g.Group{
		table("partitions", []string{"partition", "lag", "real backlog", "unsettled", "oldest", "to retention"}, rows),
		g.If(v.More > 0, h.P(g.Textf("and %d more, see /metrics", v.More))),
	}
}

func rejectTable(all []rejectRow) g.Node {
	rows := make([][]string, len(all))
	for i, r := range all {
		rows[i] = []string{r.Reason, fmt.Sprint(r.Count), r.Last}
	}
	return table("rejects", []string{"reason", "count", "last"}, rows)
}

func failureTable(all []failureRow) g.Node {
	rows := make([][]string, len(all))
	for i, f := range all {
		rows[i] = []string{f.At, f.Reason, f.Place}
	}
	return table("failures", []string{"when", "reason", "record"}, rows)
}

func drawing(c chart) g.Node {
	svg := func(name string, content ...g.Node) g.Node { return g.El(name, content...) }
	lines, keys := make(g.Group, len(c.Lines)), make(g.Group, 0, 2*len(c.Lines))
	for i, l := range c.Lines {
		lines[i] = svg("polyline", h.Class(fmt.Sprint("l", i)), g.Attr("points", l.Points))
		keys = append(keys, g.If(i > 0, g.Text(", ")), h.Span(h.Class(fmt.Sprint("key k", i)), g.Text(l.Name)))
	}
	return h.Figure(
		h.FigCaption(g.Text(c.Title+": "), keys),
		svg("svg", g.Attr("viewBox", "0 0 600 120"), h.Role("img"), labelledBy(c.ID+"-t "+c.ID+"-d"),
			svg("title", h.ID(c.ID+"-t"), g.Text(c.Title)),
			svg("desc", h.ID(c.ID+"-d"), g.Text(c.Says)),
			svg("line", h.Class("axis"), g.Attr("x1", "0"), g.Attr("y1", "110"), g.Attr("x2", "600"), g.Attr("y2", "110")),
			svg("text", g.Attr("x", "2"), g.Attr("y", "18"), g.Text(c.Top)),
			lines))
}
