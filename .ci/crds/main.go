// Crds decodes the custom resources in rendered manifests strictly into the types of their own projects: an unknown
// field or a wrong type is an error. A module of its own, made by .ci/chart, since these types are no part of serbridge.
package main

import (
	"fmt"
	"os"
	"strings"

	keda "github.com/kedacore/keda/v2/apis/keda/v1alpha1"
	monitoring "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	"sigs.k8s.io/yaml"
)

func typeOf(kind string) any {
	switch kind {
	case "PodMonitor":
		return new(monitoring.PodMonitor)
	case "ServiceMonitor":
		return new(monitoring.ServiceMonitor)
	case "PrometheusRule":
		return new(monitoring.PrometheusRule)
	case "ScaledObject":
		return new(keda.ScaledObject)
	case "TriggerAuthentication":
		return new(keda.TriggerAuthentication)
	}
	return nil
}

func main() {
	decoded := 0
	for _, file := range os.Args[1:] {
		text, err := os.ReadFile(file)
		if err != nil {
			fail(file, err)
		}
		for _, document := range strings.Split(string(text), "\n---\n") {
			var head struct {
				Kind string `json:"kind"`
			}
			if err := yaml.Unmarshal([]byte(document), &head); err != nil {
				fail(file, err)
			}
			into := typeOf(head.Kind)
			if into == nil {
				continue
			}
			if err := yaml.UnmarshalStrict([]byte(document), into); err != nil {
				fail(file+": "+head.Kind, err)
			}
			decoded++
		}
	}
	fmt.Printf("crds: %d custom resources decoded\n", decoded)
	if decoded == 0 {
		fail("all files", fmt.Errorf("none was found"))
	}
}

func fail(what string, err error) {
	fmt.Fprintf(os.Stderr, "crds: %s: %v\n", what, err)
	os.Exit(1)
}
