package main

import (
	"context"

	"serbridge/bridge/registry"
	"serbridge/transform"
)

// check makes the registry, which connects to nothing.
func (s *registrySettings) check() (found problems) {
	switch {
	case s.URL == "" && (s.Username != nil || s.Password != nil || s.CAFile != ""):
		found.say("SCHEMA_REGISTRY_URL", "", "required where SCHEMA_REGISTRY_USERNAME, _PASSWORD or _CA_FILE is set: want https:// and the host of the registry")
	case s.URL != "":
		u, why := parseURL(s.URL)
		if why == "" && (u.RawQuery != "" || u.ForceQuery || u.Fragment != "") {
			why = "want https:// and a host, and perhaps a path"
		}
		if why != "" {
			found.say("SCHEMA_REGISTRY_URL", s.URL, why)
			return found
		}
		s.opened = registry.New(registry.Config{
			URL: s.URL, Username: s.Username, Password: s.Password, CAFile: s.CAFile, UserAgent: "serbridge/" + buildVersion(),
		})
	}
	return found
}

// fetch reads a schema. Without a registry no record waits for one.
func (s registrySettings) fetch(ctx context.Context, id uint32) error { return s.opened.Fetch(ctx, id) }

// reading transforms a record by f, again once the schema that it waits for has been read. The error is that of a registry
// that does not answer: what the record holds is not known then.
func (s registrySettings) reading(ctx context.Context, f func() transform.Result) (transform.Result, error) {
	for {
		result := f()
		if result.Hold == nil {
			return result, nil
		}
		if err := s.fetch(ctx, result.Hold.SchemaID); err != nil {
			return result, err
		}
	}
}
