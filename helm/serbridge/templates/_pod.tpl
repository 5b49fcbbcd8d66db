{{/*
The pod of the Deployment, of Jobs and of the test: (dict "root" $ "component" "bridge" "args" (list …) "restart" "" "probes" true).
*/}}
{{- define "serbridge.pod" -}}
{{- $root := .root -}}
{{- $v := $root.Values -}}
metadata:
  labels:
    app.kubernetes.io/name: {{ include "serbridge.name" $root | quote }}
    app.kubernetes.io/instance: {{ $root.Release.Name | quote }}
    app.kubernetes.io/component: {{ .component }}
    {{- with $v.commonLabels }}{{ include "serbridge.strings" . | trim | nindent 4 }}{{ end }}
    {{- with $v.podLabels }}{{ include "serbridge.strings" . | trim | nindent 4 }}{{ end }}
  annotations:
    checksum/config: {{ list $v.mappings $v.streams | toJson | sha256sum }}
    {{- with $v.podAnnotations }}{{ include "serbridge.strings" . | trim | nindent 4 }}{{ end }}
spec:
  {{- with .restart }}
  restartPolicy: {{ . }}
  {{- end }}
  serviceAccountName: {{ include "serbridge.serviceAccount" $root | quote }}
  automountServiceAccountToken: {{ $v.automountServiceAccountToken }}
  # Services named kafka or stellar would stand among the settings.
  enableServiceLinks: false
  terminationGracePeriodSeconds: {{ add $v.drainSeconds 15 }}
  securityContext:
    {{- toYaml $v.podSecurityContext | nindent 4 }}
  {{- with $v.imagePullSecrets }}
  imagePullSecrets:
    {{- range . }}
    - name: {{ . | quote }}
    {{- end }}
  {{- end }}
  {{- with $v.priorityClassName }}
  priorityClassName: {{ . | quote }}
  {{- end }}
  {{- range $name := list "nodeSelector" "tolerations" "affinity" "hostAliases" "dnsConfig" }}
  {{- with index $v $name }}
  {{ $name }}:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- end }}
  {{- if eq .component "bridge" }}
  topologySpreadConstraints:
    {{- if kindIs "invalid" $v.topologySpreadConstraints }}
    {{- range $key := list "topology.kubernetes.io/zone" "kubernetes.io/hostname" }}
    - topologyKey: {{ $key }}
      maxSkew: 1
      whenUnsatisfiable: ScheduleAnyway
      matchLabelKeys: [pod-template-hash]
      labelSelector:
        matchLabels:
          {{- include "serbridge.selector" $root | nindent 10 }}
    {{- end }}
    {{- else }}
    {{- toYaml $v.topologySpreadConstraints | nindent 4 }}
    {{- end }}
  {{- end }}
  {{- with $v.extraInitContainers }}
  initContainers:
    {{- tpl (toYaml .) $root | nindent 4 }}
  {{- end }}
  containers:
    - name: serbridge
      image: {{ include "serbridge.image" $root | quote }}
      imagePullPolicy: {{ $v.image.pullPolicy }}
      args:
        {{- range .args }}
        - {{ . | toString | quote }}
        {{- end }}
      env:
        {{- if .runID }}
        - name: RUN_ID
          valueFrom:
            fieldRef:
              fieldPath: metadata.labels['batch.kubernetes.io/job-name']
        {{- end }}
        {{- include "serbridge.env" $root | trim | nindent 8 }}
      {{- with $v.extraEnvFrom }}
      envFrom:
        {{- tpl (toYaml .) $root | nindent 8 }}
      {{- end }}
      securityContext:
        {{- toYaml $v.securityContext | nindent 8 }}
      resources:
        {{- toYaml $v.resources | nindent 8 }}
      {{- if .probes }}
      ports:
        - name: admin
          containerPort: 9090
      startupProbe:
        httpGet: {path: /livez, port: admin}
        {{- toYaml $v.probes.startup | nindent 8 }}
      livenessProbe:
        httpGet: {path: /livez, port: admin}
        {{- toYaml $v.probes.liveness | nindent 8 }}
      readinessProbe:
        httpGet: {path: /readyz, port: admin}
        {{- toYaml $v.probes.readiness | nindent 8 }}
      {{- end }}
      volumeMounts:
        - name: secrets
          mountPath: /run/serbridge/secrets
          readOnly: true
        - name: tmp
          mountPath: /tmp
        {{- if $v.mappings }}
        - name: mappings
          mountPath: /run/serbridge/mappings
          readOnly: true
        {{- end }}
        {{- if $v.streams }}
        - name: streams
          mountPath: /run/serbridge/streams
          readOnly: true
        {{- end }}
        {{- with $v.extraVolumeMounts }}
        {{- tpl (toYaml .) $root | nindent 8 }}
        {{- end }}
    {{- if .probes }}
    {{- with $v.extraContainers }}
    {{- tpl (toYaml .) $root | nindent 4 }}
    {{- end }}
    {{- end }}
  volumes:
    - name: secrets
      projected:
        defaultMode: 0440
        sources:
          {{- include "serbridge.secretSources" $root | nindent 10 }}
    - name: tmp
      emptyDir:
        sizeLimit: 64Mi
    {{- if $v.mappings }}
    - name: mappings
      configMap:
        name: {{ include "serbridge.fullname" $root }}-mappings
    {{- end }}
    {{- if $v.streams }}
    - name: streams
      configMap:
        name: {{ include "serbridge.fullname" $root }}-streams
    {{- end }}
    {{- with $v.extraVolumes }}
    {{- tpl (toYaml .) $root | nindent 4 }}
    {{- end }}
{{- end }}
