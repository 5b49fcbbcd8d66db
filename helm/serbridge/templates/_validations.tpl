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
{{- if and (le (int $v.drainSeconds) 20) (not (index $v.settings "STELLAR_TIMEOUT")) -}}
{{- $bad = append $bad "drainSeconds: more than 20, or a shorter settings.STELLAR_TIMEOUT: a request that outlasts the drain is sent twice" -}}
{{- end -}}
{{- if and (or $v.schemaRegistry.existingSecret $v.schemaRegistry.ca.existingSecret) (not (index $v.settings "SCHEMA_REGISTRY_URL")) -}}
{{- $bad = append $bad "schemaRegistry: has no meaning without settings.SCHEMA_REGISTRY_URL" -}}
{{- end -}}
{{- if and $v.traces.existingSecret (not (index $v.settings "OTEL_EXPORTER_OTLP_ENDPOINT")) (not (index $v.settings "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")) -}}
{{- $bad = append $bad "traces.existingSecret: has no meaning without settings.OTEL_EXPORTER_OTLP_ENDPOINT" -}}
{{- end -}}
{{- $own := include "serbridge.ownSettings" . | fromJson -}}
{{- range $e := $v.extraEnv -}}
{{- if or (hasKey $own $e.name) (hasKey $v.settings $e.name) -}}
{{- $bad = append $bad (printf "extraEnv: %s is made by the chart's own values" $e.name) -}}
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
{{- if $bad -}}
{{- fail (printf "\n\nserbridge cannot be installed with these values:\n  - %s\n" (join "\n  - " $bad)) -}}
{{- end -}}
{{- end }}
