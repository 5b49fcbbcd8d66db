package transform

import "testing"

// Stored documents are searched for by these keys, so they must not change from release to release. A failure here means:
// keep the rule, or name it anew and say so in the release notes.
func TestKeysAreStable(t *testing.T) {
	in := &Input{ClusterID: "cluster-1", Topic: "detections", Partition: 3, Offset: 9007199254740993, ReplayID: "r1"}
	if got, want := DeliveryKey(in, 2), "39674e0fca775ff6c331f08aeeb11809aadb395a120efd9c7a8de2385679ec37"; got != want {
		t.Errorf("delivery key %s, want %s", got, want)
	}
	b := builder{d: &Detection{Format: "aella_ser", Identity: []Value{String("acme"), number("7"), {}}}}
	if got, want := b.identity(nil, 0).sum(), "f423abd59b68859cfaa8d7b02d2402a9472dc7eb87d4dabd60116f7f105fa9ec"; got != want {
		t.Errorf("dedup key %s, want %s", got, want)
	}
	b = builder{d: &Detection{Format: "aella_ser"}, tree: Tree{Text: `{"a":1}`}}
	if got, want := b.identity(nil, 1).sum(), "53a1776ad05394af1881998958cf1a1101b76dacaaf3d2b29efee16240750d35"; got != want {
		t.Errorf("dedup key of a record %s, want %s", got, want)
	}
}

func TestDeliveryKeyTellsDeliveriesApart(t *testing.T) {
	base := Input{ClusterID: "c", Topic: "t", Partition: 1, Offset: 11}
	seen := map[string]string{DeliveryKey(&base, 0): "base", DeliveryKey(&base, 1): "part"}
	for name, change := range map[string]func(*Input){
		"cluster": func(in *Input) { in.ClusterID = "d" }, "topic": func(in *Input) { in.Topic = "u" },
		"partition": func(in *Input) { in.Partition = 2 }, "offset": func(in *Input) { in.Offset = 12 },
		"replay": func(in *Input) { in.ReplayID = "r" }, "text moved over": func(in *Input) { in.ClusterID, in.Topic = "ct", "" },
		"digits moved over": func(in *Input) { in.Partition, in.Offset = 11, 1 },
	} {
		in := base
		change(&in)
		key := DeliveryKey(&in, 0)
		if other, taken := seen[key]; taken {
			t.Errorf("%s and %s have one key", name, other)
		}
		seen[key] = name
	}
}

func TestHashedPartsDoNotRunTogether(t *testing.T) {
	if keyText(nil).add("ab").add("c").sum() == keyText(nil).add("a").add("bc").sum() {
		t.Error("ab,c and a,bc have one key")
	}
	if keyText(nil).addValue(number("1")).sum() == keyText(nil).addValue(String("1")).sum() {
		t.Error(`1 and "1" have one key`)
	}
}
