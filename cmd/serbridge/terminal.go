package main

import (
	"os"

	"golang.org/x/term"
)

// terminalSize is the columns and rows of the terminal on standard error: those of the oldest terminals where it does not say.
func (p *program) terminalSize() (columns, rows int) {
	if f, is := p.stderr.(*os.File); is {
		if columns, rows, err := term.GetSize(int(f.Fd())); err == nil && columns > 0 && rows > 0 {
			return columns, rows
		}
	}
	return 80, 24
}
