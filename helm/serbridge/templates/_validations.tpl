{{/* Every contradiction, all at once, each with what to do. */}}
{{- define "serbridge.validate" -}}
{{- $v := .Values -}}
{{- $bad := list -}}
{{- if not $v.kafka.brokers }}{{ $bad = append $bad "kafka.brokers: name at least one broker, such as --set 'kafka.brokers={kafka:9092}'" }}{{ end -}}
{{- if not $v.kafka.topics }}{{ $bad = append $bad "kafka.topics: name at least one topic, such as --set 'kafka.topics={detections}'" }}{{ end -}}
{{- if not $v.stellar.url }}{{ $bad = append $bad "stellar.url: https:// and the platform's host" }}{{ end -}}
{{- if not $v.stellar.existingSecret -}}
{{- $bad = append $bad (printf "stellar.existingSecret: the Secret with the API key; make it by: kubectl -n %s create secret generic stellar --from-file=user --from-file=api-key" .Release.Namespace) -}}
{{- end -}}
{{- $sasl := $v.kafka.sasl -}}
{{- if and (has $sasl.mechanism (list "PLAIN" "SCRAM-SHA-256" "SCRAM-SHA-512" "OAUTHBEARER")) (not $sasl.existingSecret) -}}
{{- $bad = append $bad (printf "kafka.sasl.existingSecret: needed for %s; make it by: kubectl -n %s create secret generic kafka --from-file=username --from-file=password" $sasl.mechanism .Release.Namespace) -}}
{{- end -}}
{{- if and $sasl.existingSecret (not (has $sasl.mechanism (list "PLAIN" "SCRAM-SHA-256" "SCRAM-SHA-512" "OAUTHBEARER"))) -}}
{{- $bad = append $bad "kafka.sasl.existingSecret: has no meaning without a kafka.sasl.mechanism that takes one" -}}
{{- end -}}
{{- if and (eq $sasl.mechanism "OAUTHBEARER") (not (index $v.settings "KAFKA_OAUTH_TOKEN_URL")) -}}
{{- $bad = append $bad "settings.KAFKA_OAUTH_TOKEN_URL: needed for OAUTHBEARER" -}}
{{- end -}}
{{- $tls := $v.kafka.tls -}}
{{- if and (not $tls.enabled) (or $tls.ca.existingSecret $tls.certificate.existingSecret (eq $sasl.mechanism "AWS_MSK_IAM")) -}}
{{- $bad = append $bad "kafka.tls.enabled: set it to true, since kafka.tls names certificates or AWS_MSK_IAM wants it" -}}
{{- end -}}
{{- /* Go's durations are added to a day only to be read. */ -}}
{{- $day := toDate "2006-01-02" "2000-01-01" -}}
{{- $request := sub ($day | dateModify (index $v.settings "STELLAR_TIMEOUT" | default "20s") | unixEpoch) ($day | unixEpoch) -}}
{{- if le (int64 $v.drainSeconds) $request -}}
{{- $bad = append $bad (printf "drainSeconds: more than settings.STELLAR_TIMEOUT (%d s), or that shorter: a request that outlasts the drain is sent twice" $request) -}}
{{- end -}}
{{- if and (or $v.schemaRegistry.existingSecret $v.schemaRegistry.ca.existingSecret) (not (index $v.settings "SCHEMA_REGISTRY_URL")) -}}
{{- $bad = append $bad "schemaRegistry: has no meaning without settings.SCHEMA_REGISTRY_URL" -}}
{{- end -}}
{{- if and $v.traces.existingSecret (not (index $v.settings "OTEL_EXPORTER_OTLP_ENDPOINT")) (not (index $v.settings "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")) -}}
{{- $bad = append $bad "traces.existingSecret: has no meaning without settings.OTEL_EXPORTER_OTLP_ENDPOINT" -}}
{{- end -}}
{{- $own := include "serbridge.ownSettings" . | fromJson -}}
{{- range $name, $_ := $v.settings -}}
{{- if hasKey $own $name }}{{ $bad = append $bad (printf "settings.%s: is made by the chart's own values" $name) }}{{ end -}}
{{- end -}}
{{- range $e := $v.extraEnv -}}
{{- if or (hasKey $own $e.name) (hasKey $v.settings $e.name) -}}
{{- $bad = append $bad (printf "extraEnv: %s is made by the chart's own values" $e.name) -}}
{{- end -}}
{{- $value := toString ($e.value | default "") -}}
{{- if and $value (or (regexMatch "(PASSWORD|SECRET|API_KEY|ACCESS_KEY|TOKEN|HEADERS)$" $e.name) (regexMatch "://[^/@]*@" $value)) -}}
{{- $bad = append $bad (printf "extraEnv: the value of %s would be shown by helm get all: take it from a Secret, by valueFrom" $e.name) -}}
{{- end -}}
{{- end -}}
{{- range $name := list "app.kubernetes.io/name" "app.kubernetes.io/instance" "app.kubernetes.io/component" -}}
{{- if or (hasKey $v.commonLabels $name) (hasKey $v.podLabels $name) -}}
{{- $bad = append $bad (printf "commonLabels, podLabels: %s is the chart's own, by which it selects its pods" $name) -}}
{{- end -}}
{{- end -}}
{{- if $v.keda.enabled -}}
{{- if lt (int $v.keda.maxReplicas) (int $v.keda.minReplicas) }}{{ $bad = append $bad "keda.maxReplicas: at least keda.minReplicas" }}{{ end -}}
{{- if not $v.keda.topic -}}
{{- if or (ne (len $v.kafka.topics) 1) (hasPrefix "^" (first $v.kafka.topics | default "")) -}}
{{- $bad = append $bad "keda.topic: name the topic whose lag counts, since kafka.topics is not one topic" -}}
{{- end -}}
{{- end -}}
{{- if and $sasl.username (not $v.keda.authenticationRef) -}}
{{- $bad = append $bad "kafka.sasl.username: KEDA takes the user name from the Secret only: put it there, or name a keda.authenticationRef" -}}
{{- end -}}
{{- if and (has $sasl.mechanism (list "OAUTHBEARER" "AWS_MSK_IAM")) (not $v.keda.authenticationRef) -}}
{{- $bad = append $bad (printf "keda.authenticationRef: name a TriggerAuthentication of your own for %s" $sasl.mechanism) -}}
{{- end -}}
{{- end -}}
{{- with $v.networkPolicy -}}
{{- if and .enabled (or (not .kafkaCIDRs) (not .stellarCIDRs)) -}}
{{- $bad = append $bad "networkPolicy: needs kafkaCIDRs and stellarCIDRs, or nothing could be reached" -}}
{{- end -}}
{{- end -}}
{{- range $job := concat $v.jobs $v.cronJobs -}}
{{- if gt (len $job.name) 20 }}{{ $bad = append $bad (printf "jobs: the name %s is longer than 20 letters" $job.name) }}{{ end -}}
{{- end -}}
{{- $seen := dict -}}
{{- range $job := $v.cronJobs -}}
{{- if hasKey $seen $job.name }}{{ $bad = append $bad (printf "cronJobs: the name %s is there twice" $job.name) }}{{ end -}}
{{- $_ := set $seen $job.name true -}}
{{- end -}}
{{- $seen = dict -}}
{{- range $job := $v.jobs -}}
{{- if hasKey $seen $job.name }}{{ $bad = append $bad (printf "jobs: the name %s is there twice" $job.name) }}{{ end -}}
{{- $_ := set $seen $job.name true -}}
{{- end -}}
{{- if $bad -}}
{{- fail (printf "\n\nserbridge cannot be installed with these values:\n  - %s\n" (join "\n  - " $bad)) -}}
{{- end -}}
{{- end }}
