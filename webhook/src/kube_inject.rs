//! Injection offline: workloads in YAML files, as the webhook would change their pods.
