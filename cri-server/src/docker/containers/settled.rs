//! A request as `inspect` tells it: with what the image and the engine add to what the client wrote. Pure.

use oci_spec::image::Config;
use serde_json::{Value, json};

/// What `/dev/shm` gets where nobody asks for a size, bytes.
const SHM_BYTES: u64 = 64 << 20;

/// The request `body`, completed from the image's settings.
pub(super) fn settled(mut body: Value, image: &Config) -> Value {
    if !body.is_object() {
        return body;
    }
    body["Env"] = json!(environment(&body["Env"], image.env().as_deref().unwrap_or_default()));
    for (key, of_image) in [
        ("User", json!(image.user().as_deref().unwrap_or_default())),
        ("WorkingDir", json!(image.working_dir().as_deref().unwrap_or_default())),
        ("StopSignal", json!(image.stop_signal())),
    ] {
        if is_unset(&body[key]) && !is_unset(&of_image) {
            body[key] = of_image;
        }
    }
    // An entrypoint of the client's own takes the image's command away.
    if is_unset(&body["Entrypoint"]) {
        body["Entrypoint"] = json!(image.entrypoint());
        if is_unset(&body["Cmd"]) {
            body["Cmd"] = json!(image.cmd());
        }
    }
    if is_unset(&body["Volumes"]) {
        body["Volumes"] = Value::Null;
    }
    expose(&mut body["ExposedPorts"], image.exposed_ports().as_deref().unwrap_or_default());
    if body["ExposedPorts"].is_null()
        && let Value::Object(fields) = &mut body
    {
        fields.remove("ExposedPorts");
    }
    // Where there is no check nothing is told of one.
    if let Value::Object(fields) = &mut body
        && fields.get("Healthcheck").is_some_and(Value::is_null)
    {
        fields.remove("Healthcheck");
    }
    let host = &mut body["HostConfig"];
    if host.is_null() {
        *host = json!({});
    }
    if host["ShmSize"].as_u64().is_none_or(|size| size == 0) {
        host["ShmSize"] = json!(SHM_BYTES);
    }
    if is_unset(&host["IpcMode"]) {
        host["IpcMode"] = json!("private");
    }
    body
}

/// Adds the image's ports to the client's.
fn expose(own: &mut Value, of_image: &[String]) {
    for port in of_image {
        let port = if port.contains('/') { port.clone() } else { format!("{port}/tcp") };
        if own.is_null() {
            *own = json!({});
        }
        if let Value::Object(ports) = own {
            ports.entry(port).or_insert_with(|| json!({}));
        }
    }
}

/// The client's variables, then the image's that it did not set.
fn environment(own: &Value, of_image: &[String]) -> Vec<String> {
    let own = own.as_array().map(Vec::as_slice).unwrap_or_default();
    // A variable without a value takes the image's away.
    let own: Vec<String> = own.iter().filter_map(|one| one.as_str().map(str::to_owned)).collect();
    let name = |variable: &str| variable.split('=').next().unwrap_or_default().to_owned();
    let set: Vec<String> = own.iter().map(|variable| name(variable)).collect();
    let added = of_image.iter().filter(|variable| !set.contains(&name(variable))).cloned();
    own.iter().filter(|variable| variable.contains('=')).cloned().chain(added).collect()
}

/// Null, or empty.
pub(super) fn is_unset(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image() -> Config {
        let text = json!({
            "Env": ["PATH=/bin", "A=0"], "Cmd": ["sh"], "WorkingDir": "/w", "Entrypoint": ["e"],
            "ExposedPorts": {"80/tcp": {}},
        });
        serde_json::from_value(text).unwrap()
    }

    #[test]
    fn what_the_client_left_out_comes_from_the_image() {
        let all = settled(json!({"Env": ["A=1"], "Volumes": {}}), &image());
        assert_eq!(all["Env"], json!(["A=1", "PATH=/bin"]));
        assert_eq!((&all["Cmd"], &all["Entrypoint"]), (&json!(["sh"]), &json!(["e"])));
        assert_eq!((&all["WorkingDir"], &all["Volumes"]), (&json!("/w"), &Value::Null));
        assert_eq!(all["ExposedPorts"], json!({"80/tcp": {}}));
        assert_eq!(settled(json!({"Healthcheck": null}), &Config::default()).get("Healthcheck"), None);
        assert_eq!(all["HostConfig"], json!({"ShmSize": 64 << 20, "IpcMode": "private"}));
    }

    #[test]
    fn what_the_client_wrote_stays() {
        let own = json!({
            "Env": ["A"], "Entrypoint": ["x"], "WorkingDir": "/o", "HostConfig": {"ShmSize": 1, "IpcMode": "host"},
        });
        let all = settled(own, &image());
        assert_eq!(all["Env"], json!(["PATH=/bin"]));
        assert_eq!((&all["Entrypoint"], &all["Cmd"]), (&json!(["x"]), &Value::Null));
        assert_eq!((&all["WorkingDir"], &all["HostConfig"]["IpcMode"]), (&json!("/o"), &json!("host")));
    }
}
