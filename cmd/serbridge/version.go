package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// version is stamped by a release: go build -ldflags "-X main.version=v1.2.3". Else the module's is used.
var version string

// build says which build this is.
type build struct {
	Version  string `json:"version"`
	Commit   string `json:"commit,omitempty"`
	Time     string `json:"time,omitempty"`     // of the commit
	Modified bool   `json:"modified,omitempty"` // built from a work tree that differs from the commit
	Go       string `json:"go"`
	Platform string `json:"platform"`
}

// thisBuild reads what the linker and the Go tool left in the binary.
func thisBuild() build {
	info, _ := debug.ReadBuildInfo()
	return describeBuild(version, info)
}

// describeBuild takes no information (nil) for a build that the Go tool did not make.
func describeBuild(stamped string, info *debug.BuildInfo) build {
	b := build{Version: stamped, Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH}
	if info != nil {
		b.Version = cmp.Or(stamped, info.Main.Version)
		for _, s := range info.Settings {
			switch s.Key {
			case "vcs.revision":
				b.Commit = s.Value
			case "vcs.time":
				b.Time = s.Value
			case "vcs.modified":
				b.Modified = s.Value == "true"
			}
		}
	}
	b.Version = cmp.Or(b.Version, "(devel)")
	return b
}

// String is one line for a person.
func (b build) String() string {
	s := "serbridge " + b.Version
	if b.Commit != "" {
		s += ", commit " + b.Commit
	}
	if b.Modified {
		s += " (modified)"
	}
	return fmt.Sprintf("%s, %s, %s", s, b.Go, b.Platform)
}

func newVersionCommand(p *program) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "version",
		Short: "Which build this is",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			if asJSON {
				return json.NewEncoder(p.stdout).Encode(thisBuild())
			}
			_, err := fmt.Fprintln(p.stdout, thisBuild())
			return err
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "one JSON object")
	return cmd
}

// buildVersion is the version alone, for user agents, metrics and dead letters.
func buildVersion() string { return thisBuild().Version }
