//! Static pods, as JSON.

use cleat_tests_cri::{BUSYBOX, HTTPD};
use serde_json::{Value, json};

/// A pod of these containers.
pub(crate) fn pod(name: &str, containers: Value) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "default", "labels": {"app": name}},
        "spec": {"terminationGracePeriodSeconds": 20, "containers": containers},
    })
}

/// A container that runs `script`.
pub(crate) fn script(name: &str, script: &str) -> Value {
    json!({"name": name, "image": BUSYBOX, "command": ["sh", "-c", script]})
}

/// A container that runs until it is asked to end, after `first`.
pub(crate) fn sleeper(name: &str, first: &str) -> Value {
    script(name, &format!("trap 'echo ending; exit 0' TERM; {first}; while true; do sleep 0.1; done"))
}

/// A container with an HTTP server on port 80.
pub(crate) fn httpd(name: &str) -> Value {
    json!({"name": name, "image": HTTPD})
}

/// `container` with more in it.
pub(crate) fn with(mut container: Value, key: &str, value: Value) -> Value {
    container[key] = value;
    container
}
