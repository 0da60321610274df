{{/* The template of a server's pod, for the StatefulSet and the Deployment. */}}
{{- define "moorage.pod" -}}
metadata:
  labels:
    {{- include "moorage.labels" (list . "server") | nindent 4 }}
    {{- with .Values.podLabels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  annotations:
    # A changed setting starts new pods.
    checksum/settings: {{ include "moorage.settings" . | sha256sum }}
    {{- with .Values.podAnnotations }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
spec:
  {{- include "moorage.podDefaults" . | nindent 2 }}
  serviceAccountName: {{ include "moorage.serviceAccount" . }}
  terminationGracePeriodSeconds: {{ include "moorage.graceS" . }}
  {{- with .Values.affinity }}
  affinity: {{ toYaml . | nindent 4 }}
  {{- end }}
  {{- if include "moorage.replicated" . }}
  topologySpreadConstraints:
    {{- if .Values.topologySpreadConstraints }}
    {{- toYaml .Values.topologySpreadConstraints | nindent 4 }}
    {{- else }}
    {{- range list "kubernetes.io/hostname" "topology.kubernetes.io/zone" }}
    - maxSkew: 1
      topologyKey: {{ . }}
      whenUnsatisfiable: ScheduleAnyway
      labelSelector:
        matchLabels: {{ include "moorage.selector" $ | nindent 10 }}
    {{- end }}
    {{- end }}
  {{- end }}
  containers:
    - name: moorage
      image: {{ include "moorage.image" . }}
      imagePullPolicy: {{ .Values.image.pullPolicy }}
      args: [serve]
      securityContext: {{ toYaml .Values.securityContext | nindent 8 }}
      envFrom:
        - configMapRef:
            name: {{ include "moorage.fullname" . }}
      {{- $variables := include "moorage.secretVariables" . | trim }}
      {{- if or $variables .Values.extraEnv }}
      env:
        {{- with $variables }}
        {{- . | nindent 8 }}
        {{- end }}
        {{- with .Values.extraEnv }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      {{- end }}
      ports:
        - {name: http, containerPort: 8080}
        - {name: metrics, containerPort: {{ .Values.metrics.port }}}
      # Health is asked on the listener of metrics: it is plain HTTP, whether or not TLS ends here.
      startupProbe:
        httpGet: {path: /healthz, port: metrics}
        {{- toYaml .Values.probes.startup | nindent 8 }}
      livenessProbe:
        httpGet: {path: /healthz, port: metrics}
        {{- toYaml .Values.probes.liveness | nindent 8 }}
      readinessProbe:
        httpGet: {path: /readyz, port: metrics}
        {{- toYaml .Values.probes.readiness | nindent 8 }}
      resources: {{ toYaml .Values.resources | nindent 8 }}
      volumeMounts:
        - {name: data, mountPath: /data}
        - {name: tmp, mountPath: /tmp}
        {{- if .Values.tls.existingSecret }}
        - {name: tls, mountPath: /etc/moorage/tls, readOnly: true}
        {{- end }}
        {{- if .Values.tls.clientCaSecret }}
        - {name: client-ca, mountPath: /etc/moorage/client-ca, readOnly: true}
        {{- end }}
        {{- with .Values.extraVolumeMounts }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
  volumes:
    - name: tmp
      emptyDir: {sizeLimit: 2Gi}
    {{- if include "moorage.replicated" . }}
    - name: data
      {{- if .Values.cache.storageClassName }}
      ephemeral:
        volumeClaimTemplate:
          spec:
            accessModes: [ReadWriteOnce]
            storageClassName: {{ .Values.cache.storageClassName }}
            resources:
              requests:
                storage: {{ .Values.cache.sizeGiB }}Gi
      {{- else }}
      emptyDir:
        sizeLimit: {{ .Values.cache.sizeGiB }}Gi
      {{- end }}
    {{- end }}
    {{- with .Values.tls.existingSecret }}
    - name: tls
      secret: {secretName: {{ . }}, defaultMode: 0400}
    {{- end }}
    {{- with .Values.tls.clientCaSecret }}
    - name: client-ca
      secret: {secretName: {{ . }}, defaultMode: 0400}
    {{- end }}
    {{- with .Values.extraVolumes }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
{{- end -}}
