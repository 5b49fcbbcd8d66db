{{- define "serbridge.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end }}

{{- define "serbridge.fullname" -}}
{{- $name := include "serbridge.name" . -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else if contains $name .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end }}

{{- define "serbridge.selector" -}}
app.kubernetes.io/name: {{ include "serbridge.name" . | quote }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
app.kubernetes.io/component: bridge
{{- end }}

{{- define "serbridge.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | quote }}
app.kubernetes.io/name: {{ include "serbridge.name" . | quote }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
app.kubernetes.io/version: {{ .Values.image.tag | default .Chart.AppVersion | trunc 63 | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service | quote }}
{{- include "serbridge.strings" .Values.commonLabels }}
{{- end }}

{{/* A map whose values are texts to Kubernetes, whatever they are to YAML. */}}
{{- define "serbridge.strings" -}}
{{- range $name, $value := . }}
{{ $name }}: {{ $value | toString | quote }}
{{- end }}
{{- end }}

{{- define "serbridge.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{- .Values.serviceAccount.name | default (include "serbridge.fullname" .) -}}
{{- else -}}
{{- .Values.serviceAccount.name | default "default" -}}
{{- end -}}
{{- end }}

{{- define "serbridge.image" -}}
{{- $name := .Values.image.repository -}}
{{- with .Values.image.registry }}{{ $name = printf "%s/%s" . $name }}{{ end -}}
{{- if .Values.image.digest -}}
{{- printf "%s@%s" $name .Values.image.digest -}}
{{- else -}}
{{- printf "%s:%s" $name (.Values.image.tag | default .Chart.AppVersion) -}}
{{- end -}}
{{- end }}

{{/* A setting as the text of a variable: Helm reads 1000000 as 1e+06. */}}
{{- define "serbridge.setting" -}}
{{- if kindIs "slice" . -}}
{{- join "," . -}}
{{- else if and (kindIs "float64" .) (eq (floor .) .) -}}
{{- int64 . -}}
{{- else -}}
{{- toString . -}}
{{- end -}}
{{- end }}

{{/* The variables that the chart makes of its own values: name to text. */}}
{{- define "serbridge.ownSettings" -}}
{{- $dir := "/run/serbridge/secrets" -}}
{{- $env := dict
  "KAFKA_BROKERS" (join "," .Values.kafka.brokers)
  "KAFKA_TOPICS" (join "," .Values.kafka.topics)
  "KAFKA_GROUP" .Values.kafka.group
  "STELLAR_URL" .Values.stellar.url
  "STELLAR_API_KEY_FILE" (printf "%s/stellar-api-key" $dir)
  "DRAIN_TIMEOUT" (printf "%ds" (int .Values.drainSeconds))
  "ADMIN_ADDR" ":9090" -}}
{{- if .Values.stellar.user -}}
{{- $_ := set $env "STELLAR_USER" .Values.stellar.user -}}
{{- else if include "serbridge.needsUser" . -}}
{{- $_ := set $env "STELLAR_USER_FILE" (printf "%s/stellar-user" $dir) -}}
{{- end -}}
{{- if .Values.stellar.ca.existingSecret }}{{ $_ := set $env "STELLAR_CA_FILE" (printf "%s/stellar-ca.crt" $dir) }}{{ end -}}
{{- if .Values.streams }}{{ $_ := set $env "STREAMS_FILE" "/run/serbridge/streams/streams.yaml" }}{{ end -}}
{{- if .Values.mappings }}{{ $_ := set $env "MAPPING_DIR" "/run/serbridge/mappings" }}{{ end -}}
{{- $tls := .Values.kafka.tls -}}
{{- if $tls.enabled -}}
{{- $_ := set $env "KAFKA_TLS" "true" -}}
{{- if $tls.ca.existingSecret }}{{ $_ := set $env "KAFKA_TLS_CA_FILE" (printf "%s/kafka-ca.crt" $dir) }}{{ end -}}
{{- if $tls.certificate.existingSecret -}}
{{- $_ := set $env "KAFKA_TLS_CERT_FILE" (printf "%s/kafka-tls.crt" $dir) -}}
{{- $_ := set $env "KAFKA_TLS_KEY_FILE" (printf "%s/kafka-tls.key" $dir) -}}
{{- end -}}
{{- end -}}
{{- $sasl := .Values.kafka.sasl -}}
{{- with $sasl.mechanism }}{{ $_ := set $env "KAFKA_SASL_MECHANISM" . }}{{ end -}}
{{- if has $sasl.mechanism (list "PLAIN" "SCRAM-SHA-256" "SCRAM-SHA-512") -}}
{{- $_ := set $env "KAFKA_SASL_PASSWORD_FILE" (printf "%s/kafka-password" $dir) -}}
{{- if $sasl.username -}}
{{- $_ := set $env "KAFKA_SASL_USERNAME" $sasl.username -}}
{{- else -}}
{{- $_ := set $env "KAFKA_SASL_USERNAME_FILE" (printf "%s/kafka-username" $dir) -}}
{{- end -}}
{{- else if eq $sasl.mechanism "OAUTHBEARER" -}}
{{- $_ := set $env "KAFKA_OAUTH_CLIENT_ID_FILE" (printf "%s/kafka-client-id" $dir) -}}
{{- $_ := set $env "KAFKA_OAUTH_CLIENT_SECRET_FILE" (printf "%s/kafka-client-secret" $dir) -}}
{{- end -}}
{{- if .Values.schemaRegistry.existingSecret -}}
{{- $_ := set $env "SCHEMA_REGISTRY_USERNAME_FILE" (printf "%s/registry-username" $dir) -}}
{{- $_ := set $env "SCHEMA_REGISTRY_PASSWORD_FILE" (printf "%s/registry-password" $dir) -}}
{{- end -}}
{{- if .Values.schemaRegistry.ca.existingSecret }}{{ $_ := set $env "SCHEMA_REGISTRY_CA_FILE" (printf "%s/registry-ca.crt" $dir) }}{{ end -}}
{{- if .Values.traces.existingSecret }}{{ $_ := set $env "OTEL_EXPORTER_OTLP_HEADERS_FILE" (printf "%s/traces-headers" $dir) }}{{ end -}}
{{- toJson $env -}}
{{- end }}

{{- define "serbridge.needsUser" -}}
{{- if ne (index .Values.settings "STELLAR_AUTH" | default "jwt") "jwt-bearer" }}yes{{ end -}}
{{- end }}

{{- define "serbridge.env" -}}
{{- $env := include "serbridge.ownSettings" . | fromJson -}}
{{- range $name, $value := .Values.settings -}}
{{- $_ := set $env $name (include "serbridge.setting" $value) -}}
{{- end -}}
{{- range $name := keys $env | sortAlpha }}
- name: {{ $name }}
  value: {{ index $env $name | quote }}
{{- end }}
{{- with .Values.extraEnv }}
{{ tpl (toYaml .) $ }}
{{- end }}
{{- end }}

{{/* Secrets as files, read again at each use: a rotated one needs no restart. Never by subPath, which is not updated. */}}
{{- define "serbridge.secretSources" -}}
{{- $stellar := list (dict "key" .Values.stellar.apiKeyKey "path" "stellar-api-key") -}}
{{- if and (include "serbridge.needsUser" .) (not .Values.stellar.user) -}}
{{- $stellar = append $stellar (dict "key" .Values.stellar.userKey "path" "stellar-user") -}}
{{- end -}}
{{- $sources := list (dict "secret" (dict "name" .Values.stellar.existingSecret "items" $stellar)) -}}
{{- with .Values.stellar.ca -}}
{{- if .existingSecret }}{{ $sources = append $sources (dict "secret" (dict "name" .existingSecret "items" (list (dict "key" .key "path" "stellar-ca.crt")))) }}{{ end -}}
{{- end -}}
{{- with .Values.kafka.sasl -}}
{{- $items := list -}}
{{- if has .mechanism (list "PLAIN" "SCRAM-SHA-256" "SCRAM-SHA-512") -}}
{{- $items = append $items (dict "key" .passwordKey "path" "kafka-password") -}}
{{- if not .username }}{{ $items = append $items (dict "key" .usernameKey "path" "kafka-username") }}{{ end -}}
{{- else if eq .mechanism "OAUTHBEARER" -}}
{{- $items = list (dict "key" .clientIdKey "path" "kafka-client-id") (dict "key" .clientSecretKey "path" "kafka-client-secret") -}}
{{- end -}}
{{- if $items }}{{ $sources = append $sources (dict "secret" (dict "name" .existingSecret "items" $items)) }}{{ end -}}
{{- end -}}
{{- if .Values.kafka.tls.enabled -}}
{{- with .Values.kafka.tls.ca -}}
{{- if .existingSecret }}{{ $sources = append $sources (dict "secret" (dict "name" .existingSecret "items" (list (dict "key" .key "path" "kafka-ca.crt")))) }}{{ end -}}
{{- end -}}
{{- with .Values.kafka.tls.certificate -}}
{{- if .existingSecret }}{{ $sources = append $sources (dict "secret" (dict "name" .existingSecret "items" (list (dict "key" .certKey "path" "kafka-tls.crt") (dict "key" .keyKey "path" "kafka-tls.key")))) }}{{ end -}}
{{- end -}}
{{- end -}}
{{- with .Values.schemaRegistry -}}
{{- if .existingSecret }}{{ $sources = append $sources (dict "secret" (dict "name" .existingSecret "items" (list (dict "key" .usernameKey "path" "registry-username") (dict "key" .passwordKey "path" "registry-password")))) }}{{ end -}}
{{- if .ca.existingSecret }}{{ $sources = append $sources (dict "secret" (dict "name" .ca.existingSecret "items" (list (dict "key" .ca.key "path" "registry-ca.crt")))) }}{{ end -}}
{{- end -}}
{{- with .Values.traces -}}
{{- if .existingSecret }}{{ $sources = append $sources (dict "secret" (dict "name" .existingSecret "items" (list (dict "key" .headersKey "path" "traces-headers")))) }}{{ end -}}
{{- end -}}
{{- toYaml $sources -}}
{{- end }}
