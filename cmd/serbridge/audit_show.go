package main

import (
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"serbridge/bridge/audit"
)

// findingWords say what a finding means, and what to do.
var findingWords = map[audit.Kind]string{
	audit.NoReceipt:  "settled, and neither a receipt nor a dead letter says how (receipts were lost or began later, or KAFKA_START left it out)",
	audit.NoLetter:   "dead-lettered by its receipt, and the dead-letter topic has no letter of it",
	audit.Incomplete: "receipts of some of its documents are not there",
	audit.Lost:       "gone from the log before anything was written of it: lost to retention (markers of transactions may be among these)",
	audit.Missing:    "delivered, and Stellar Cyber does not have it",
	audit.Different:  "Stellar Cyber has it, and not as it was sent",
	audit.Doubled:    "Stellar Cyber has it more than once",
}

// sayFinding is told of each as it is found.
func (a *auditor) sayFinding(f audit.Finding) error {
	if a.json {
		return writeJSONLine(a.stdout, struct {
			Type string `json:"type"`
			audit.Finding
		}{"finding", f}, a.stdoutIsTerminal)
	}
	words := findingWords[f.Kind]
	if f.DeliveryKey != "" {
		words += fmt.Sprintf("; part %d, delivery_key %s", f.Part, f.DeliveryKey)
	}
	if f.ID != "" {
		words += ", " + strings.TrimSpace(f.Index+" "+f.ID)
	}
	if f.Copies > 1 {
		words += fmt.Sprintf(", %d copies", f.Copies)
	}
	if len(f.Differs) > 0 {
		words += ", in " + strings.Join(f.Differs, ", ")
	}
	_, err := fmt.Fprintf(a.stdout, "%s: %s: %s\n", escape(f.Where()), f.Kind, escape(words))
	return err
}

// sayAccount prints the rows and their sum.
func (a *auditor) sayAccount(account *audit.Account) error {
	rows, total := account.Rows(), account.Total()
	if a.json {
		for _, r := range rows {
			if err := writeJSONLine(a.stdout, typedRow{"row", r}, a.stdoutIsTerminal); err != nil {
				return err
			}
		}
		return writeJSONLine(a.stdout, typedRow{"total", total}, a.stdoutIsTerminal)
	}
	w := tabwriter.NewWriter(a.stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprint(w, "hour\tproduced\tdelivered\tdead-lettered\tskipped\tpending\tlost\tunexplained\t")
	if a.every > 0 {
		fmt.Fprint(w, "searched\tmissing\tdifferent\tdoubled\tnot compared\t")
	}
	fmt.Fprintln(w, "  topic")
	for _, r := range rows {
		a.row(w, hourText(r.Hour), r)
	}
	a.row(w, "total", total)
	if err := w.Flush(); err != nil {
		return fmt.Errorf("write the account to standard output: %w", err)
	}
	if total.Gone > 0 {
		fmt.Fprintf(a.stdout, "%s of these are gone from the log, and known by their receipts\n", count(total.Gone, "record"))
	}
	return nil
}

type typedRow struct {
	Type string `json:"type"`
	audit.Row
}

func hourText(t time.Time) string {
	if t.IsZero() {
		return "unknown"
	}
	return t.Format("2006-01-02T15Z")
}

func (a *auditor) row(w *tabwriter.Writer, hour string, r audit.Row) {
	fmt.Fprintf(w, "%s\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t", hour, r.Produced, r.Delivered, r.DeadLettered, r.Skipped, r.Pending, r.Lost, r.Unexplained)
	if a.every > 0 {
		fmt.Fprintf(w, "%d\t%d\t%d\t%d\t%d\t", r.Searched, r.Missing, r.Different, r.Doubled, r.Uncompared)
	}
	fmt.Fprintf(w, "  %s\n", escape(r.Topic))
}
