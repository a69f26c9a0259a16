//! What is told of containers in `/events` besides the changes of their states: signals, stops, commands, clients.

use serde_json::json;

use super::describe;
use crate::docker::Door;
use crate::engine::One;

/// `action` is being done to the container, with these details.
pub(super) fn done(door: &Door, one: &One, action: &str, details: &[(&str, String)]) {
    let mut attributes = describe::attributes(&one.group);
    attributes.extend(details.iter().map(|(key, value)| ((*key).to_owned(), json!(value))));
    door.notices.add("container", action, one.container.id.as_str(), attributes);
}

/// It is being sent this signal. Told before it is: its end comes after it.
pub(super) fn signalled(door: &Door, one: &One, signal: i32) {
    done(door, one, "kill", &[("signal", signal.to_string())]);
}
