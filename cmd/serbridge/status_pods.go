package main

import (
	"context"
	"fmt"
	"net"
	"time"

	"golang.org/x/sync/errgroup"

	"serbridge/bridge/admin"
)

const (
	lookupWait   = 3 * time.Second // for the addresses of a name
	podsAtATime  = 8
	mostPodNames = 256
)

// podStanding is what one member says of itself.
type podStanding struct {
	Address string `json:"address"`
	admin.State
	Fault string `json:"fault,omitempty"`
}

// readPods asks every member at its admin address. A name stands for all the addresses that it has, as a headless service's does.
func (s *status) readPods(ctx context.Context, now *groupReading) []podStanding {
	var addresses []string
	for _, pod := range s.pods {
		found, err := podAddresses(ctx, pod)
		if err != nil {
			now.remark("the pods of %s are not known: %v", pod, err)
		}
		addresses = append(addresses, found...)
	}
	addresses = sortedOnce(addresses)
	if len(addresses) > mostPodNames {
		now.remark("only the first %d of %d pods are asked", mostPodNames, len(addresses))
		addresses = addresses[:mostPodNames]
	}
	pods := make([]podStanding, len(addresses))
	var all errgroup.Group
	all.SetLimit(podsAtATime)
	for i, address := range addresses {
		all.Go(func() (err error) {
			pods[i].Address = address
			if pods[i].State, err = admin.Ask(ctx, address); err != nil {
				pods[i].Fault = err.Error()
			}
			return nil
		})
	}
	_ = all.Wait() // what failed is the pod's
	return pods
}

func podAddresses(ctx context.Context, pod string) (addresses []string, err error) {
	host, port, err := net.SplitHostPort(pod)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, lookupWait)
	defer cancel()
	found, err := net.DefaultResolver.LookupHost(ctx, host)
	for _, ip := range found {
		addresses = append(addresses, net.JoinHostPort(ip, port))
	}
	return addresses, err
}

// judgePods says why members do not deliver: each reason once, since it was first one, and of how many.
func (st *standing) judgePods() {
	var texts []string
	since, of := make(map[string]time.Time), make(map[string]int)
	for _, p := range st.Pods {
		if p.Fault != "" {
			st.warn("pod "+p.Address+" does not answer: "+p.Fault, "see whether it runs, and its log")
		}
		for _, r := range p.Reasons {
			if of[r.Text]++; of[r.Text] == 1 {
				texts = append(texts, r.Text)
			}
			if of[r.Text] == 1 || r.Since.Before(since[r.Text]) {
				since[r.Text] = r.Since
			}
		}
		for _, t := range p.TurnedAway {
			st.warn(fmt.Sprintf("%.0f %% of %s skipped or dead-lettered since %s, was %.0f %%", 100*t.Ratio, t.Topic, st.clock(t.Since), 100*t.Before),
				"see what the topic holds: serbridge transform --topic "+t.Topic+" --last 20")
		}
	}
	for _, text := range texts {
		st.fail(fmt.Sprintf("since %s, %d of %s: %s", st.clock(since[text]), of[text], count(len(st.Pods), "pod"), text), "the page at its admin address says more")
	}
}
