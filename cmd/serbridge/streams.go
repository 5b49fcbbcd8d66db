package main

import (
	"os"
	"regexp"
	"slices"
	"strings"

	"serbridge/transform"
	"serbridge/transform/format"
)

// streamsFile is STREAMS_FILE: its path, and once it was read, what it says.
type streamsFile struct {
	path    string
	content string
	streams *format.Streams // nil: nothing
}

// EnvDecode takes the path. The file is read by check, once MAPPING_DIR has said which formats there are.
func (f *streamsFile) EnvDecode(value string) error {
	f.path = value
	return nil
}

// check reads the file. It stands beside the settings, so that what is wrong in it is wrong like a malformed variable.
func (f *streamsFile) check() (found problems) {
	if f.path == "" {
		return nil
	}
	content, err := os.ReadFile(f.path)
	if err == nil {
		f.content = string(content)
		f.streams, err = format.ReadStreams(f.path, content)
	}
	if err != nil {
		for line := range strings.Lines(err.Error()) {
			found.say("STREAMS_FILE", "", strings.TrimSuffix(line, "\n"))
		}
	}
	return found
}

// byTopic returns what the package transform takes for the records of a topic; changes are made for all topics.
func (s settings) byTopic(changes ...func(*transform.Settings)) func(topic string) *transform.Settings {
	base := s.Transform.config()
	if s.Registry.opened != nil {
		base.Schemas = s.Registry.opened.Schema
	}
	for _, change := range changes {
		change(base)
	}
	return s.Transform.StreamsFile.streams.Over(base)
}

// strangers are the topics that STREAMS_FILE names and that are not consumed: one that is misspelt there keeps the settings
// of all others, and nobody would notice.
func (s settings) strangers() (names []string) {
	is := func(topic string) bool { return slices.Contains(s.Kafka.Topics, topic) }
	if p := s.Kafka.topicPattern(); p != "" {
		is = regexp.MustCompile(p).MatchString // which was checked
	}
	for _, t := range s.Transform.StreamsFile.streams.Topics() {
		if !is(t) {
			names = append(names, t)
		}
	}
	return names
}
