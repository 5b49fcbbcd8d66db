// Schemas turns Kubernetes' swagger.json into strict, self-contained JSON schemas, one file for each kind, named as
// kubeconform asks for them: go run ./.ci/schemas swagger.json OUTDIR
package main

import (
	"encoding/json"
	"log"
	"os"
	"path/filepath"
	"strings"
)

// schema is a JSON schema node, or a map of them.
type schema = map[string]any

const prefix = "#/definitions/"

// strict closes every object that lists its properties, as the API server's strict field validation does.
func strict(s schema) schema {
	if s["format"] == "int-or-string" {
		return anyOf("string", "integer")
	}
	for _, key := range []string{"items", "additionalProperties"} {
		if sub, ok := s[key].(schema); ok {
			s[key] = strict(sub)
		}
	}
	properties, ok := s["properties"].(schema)
	if !ok {
		return s
	}
	for name, sub := range properties {
		properties[name] = strict(sub.(schema))
	}
	if s["additionalProperties"] == nil && s["x-kubernetes-preserve-unknown-fields"] != true {
		s["additionalProperties"] = false
	}
	return s
}

func anyOf(types ...string) schema {
	return schema{"type": types}
}

// reach adds to out every definition that node refers to.
func reach(node any, all, out schema) {
	switch n := node.(type) {
	case schema:
		if ref, ok := n["$ref"].(string); ok {
			name := strings.TrimPrefix(ref, prefix)
			if out[name] == nil {
				out[name] = all[name]
				reach(all[name], all, out)
			}
		}
		for _, sub := range n {
			reach(sub, all, out)
		}
	case []any:
		for _, sub := range n {
			reach(sub, all, out)
		}
	}
}

// file is the schema of one kind: its definition with apiVersion and kind fixed, and what it refers to.
func file(def, all schema, apiVersion, kind string) schema {
	needed := schema{}
	reach(def, all, needed)
	properties := schema{}
	if have, ok := def["properties"].(schema); ok {
		for name, sub := range have {
			properties[name] = sub
		}
	}
	properties["apiVersion"] = schema{"const": apiVersion}
	properties["kind"] = schema{"const": kind}
	out := schema{}
	for key, value := range def {
		out[key] = value
	}
	out["$schema"] = "http://json-schema.org/draft-07/schema#"
	out["properties"] = properties
	out["definitions"] = needed
	return out
}

func main() {
	log.SetFlags(0)
	b, err := os.ReadFile(os.Args[1])
	if err != nil {
		log.Fatal(err)
	}
	var swagger struct{ Definitions schema }
	if err := json.Unmarshal(b, &swagger); err != nil {
		log.Fatal(err)
	}
	all := swagger.Definitions
	for name, def := range all {
		all[name] = strict(def.(schema))
	}
	all["io.k8s.apimachinery.pkg.api.resource.Quantity"] = anyOf("string", "number")
	for _, def := range all {
		def := def.(schema)
		gvks, _ := def["x-kubernetes-group-version-kind"].([]any)
		for _, g := range gvks {
			gvk := g.(schema)
			group, version, kind := gvk["group"].(string), gvk["version"].(string), gvk["kind"].(string)
			apiVersion, suffix := version, version
			if group != "" {
				apiVersion = group + "/" + version
				suffix = strings.SplitN(group, ".", 2)[0] + "-" + version
			}
			j, err := json.Marshal(file(def, all, apiVersion, kind))
			if err != nil {
				log.Fatal(err)
			}
			path := filepath.Join(os.Args[2], strings.ToLower(kind)+"-"+suffix+".json")
			if err := os.WriteFile(path, j, 0o644); err != nil {
				log.Fatal(err)
			}
		}
	}
}
