package main

import (
	"context"
	"net/url"
)

// checkRegistry asks the schema registry, if there is one: while it cannot be read, every record that is framed for it is held.
func (c *check) checkRegistry(ctx context.Context) {
	registry := c.settings.Registry.opened
	if registry == nil {
		return
	}
	ctx, cancel := c.ask(ctx)
	defer cancel()
	host := ""
	if u, err := url.Parse(c.settings.Registry.URL); err == nil {
		host = u.Host
	}
	switch subjects, err := registry.Reach(ctx); {
	case err != nil:
		c.facts.fail("schema registry", host, "see that it runs and takes these credentials; until then records that name a schema are held, others are not", "%v", err)
	case subjects == 0:
		c.facts.warn("schema registry", host, "give this user the right to read the subjects of KAFKA_TOPICS, or register their schemas", "it answers, and shows no subject")
	default:
		c.facts.ok("schema registry", host, "takes the credentials, shows %d subjects", subjects)
	}
}
