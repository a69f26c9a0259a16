//! What verbose statuses show besides: one JSON object under the key `info`, with the names containerd and CRI-O made
//! known to those who read `crictl inspect` with a template.

use std::collections::HashMap;

use serde_json::{Value, json};

use super::config_json;
use crate::engine::container::Container;
use crate::engine::model::PodResources;
use crate::engine::pod::Pod;
use crate::engine::{EngineError, chain};

/// The runtime of pods that ask for no other.
const DEFAULT_RUNTIME: &str = "cleat-runtime";

/// What `crictl inspect` shows of a container. A runtime specification that is gone must not hide the rest, so its
/// place says why.
pub(in crate::cri) fn container(
    container: &Container,
    runtime_handler: &str,
    spec: Result<String, EngineError>,
) -> HashMap<String, String> {
    one(json!({
        "sandboxID": container.pod.as_str(),
        "pid": container.state.pid().unwrap_or_default(),
        "runtimeType": runtime_type(runtime_handler),
        "privileged": container.config.security.privileged,
        "cgroup": container.cgroup,
        "config": config_json::container(&container.config),
        "runtimeSpec": runtime_spec(spec),
    }))
}

/// What `crictl inspectp` shows of a pod.
pub(in crate::cri) fn pod(pod: &Pod, spec: Result<String, EngineError>) -> HashMap<String, String> {
    let PodResources { overhead, resources } = pod.resources();
    one(json!({
        "pid": pod.pause_pid().unwrap_or_default(),
        "processStatus": if pod.pause_pid().is_some() { "running" } else { "stopped" },
        // The pause process is part of Cleat; it comes from no image.
        "image": "",
        "runtimeHandler": pod.config.runtime_handler,
        "runtimeType": runtime_type(&pod.config.runtime_handler),
        "cgroup": pod.cgroup,
        // As they are now; the configuration is what the pod was made from.
        "overhead": overhead.as_ref().map(config_json::limits),
        "resources": resources.as_ref().map(config_json::limits),
        "config": config_json::pod(&pod.config),
        "runtimeSpec": runtime_spec(spec),
    }))
}

fn one(info: Value) -> HashMap<String, String> {
    [("info".to_owned(), info.to_string())].into()
}

fn runtime_type(handler: &str) -> &str {
    if handler.is_empty() { DEFAULT_RUNTIME } else { handler }
}

fn runtime_spec(spec: Result<String, EngineError>) -> Value {
    match spec {
        Ok(text) => {
            serde_json::from_str(&text).unwrap_or_else(|error| json!({ "unreadable": error.to_string() }))
        }
        Err(error) => json!({ "unreadable": chain(&error) }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cri::translate::samples;
    use crate::engine::pod::PodState;

    fn parsed(info: &HashMap<String, String>) -> Value {
        serde_json::from_str(&info["info"]).unwrap()
    }

    #[test]
    fn a_container() {
        let info = parsed(&container(&samples::container(), "", Ok(r#"{"ociVersion":"1.2.0"}"#.into())));
        assert_eq!((&info["pid"], &info["sandboxID"]), (&json!(9), &json!("a".repeat(64))));
        assert_eq!((&info["privileged"], &info["runtimeType"]), (&json!(false), &json!("cleat-runtime")));
        assert_eq!(info["runtimeSpec"]["ociVersion"], "1.2.0");
        assert_eq!(info["config"]["metadata"]["name"], "app");
    }

    #[test]
    fn a_pod() {
        let pod = samples::pod();
        let info = parsed(&super::pod(&pod, Ok("{}".into())));
        assert_eq!((&info["pid"], &info["processStatus"]), (&json!(7), &json!("running")));
        assert_eq!(
            (&info["runtimeType"], &info["config"]["metadata"]["uid"]),
            (&json!("runc"), &json!("u-1"))
        );
        let stopped = Pod { state: PodState::NotReady, ..pod };
        assert_eq!(parsed(&super::pod(&stopped, Ok("{}".into())))["processStatus"], "stopped");
    }

    #[test]
    fn a_lost_specification_hides_nothing_else() {
        let lost = EngineError::NotFound { kind: "pod", name: "x".into(), list: "pods" };
        for spec in [Err(lost), Ok("{".to_owned())] {
            let info = parsed(&pod(&samples::pod(), spec));
            assert!(info["runtimeSpec"]["unreadable"].is_string(), "{info}");
            assert_eq!(info["pid"], 7);
        }
    }
}
