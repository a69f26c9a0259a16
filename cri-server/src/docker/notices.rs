//! What readers of `/events` are told besides what changes of containers: what was done to images, who was attached.
//!
//! The engine's events are what its commits changed. These change no container: the endpoint that did something notes it
//! here, with the time, and a reader of both gets them in order.

use serde_json::{Map, Value, json};
use tokio::sync::broadcast;

use crate::news::{News, Timed};

const NS_PER_SECOND: i64 = 1_000_000_000;

/// Attributes of an event's subject.
pub(super) type Attributes = Map<String, Value>;

/// An event as clients read it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Notice {
    /// When it happened, nanoseconds since the Unix epoch.
    pub at_ns: i64,
    /// The line.
    pub line: Value,
}

impl Notice {
    /// Of `action`, done to the thing of this `kind` and `id`.
    pub(super) fn new(kind: &str, action: &str, id: &str, attributes: Attributes, at_ns: i64) -> Self {
        let mut line = json!({
            "Type": kind, "Action": action, "scope": "local", "time": at_ns / NS_PER_SECOND, "timeNano": at_ns,
        });
        // What clients of the first versions read; newer kinds never had it.
        if kind == "container" || kind == "image" {
            line["status"] = json!(action);
            line["id"] = json!(id);
        }
        if kind == "container" {
            line["from"] = attributes.get("image").cloned().unwrap_or_default();
        }
        line["Actor"] = json!({"ID": id, "Attributes": attributes});
        Self { at_ns, line }
    }
}

impl Timed for Notice {
    fn at_ns(&self) -> i64 {
        self.at_ns
    }
}

/// All of them.
#[derive(Default)]
pub(super) struct Notices(News<Notice>);

impl Notices {
    /// Tells of something that has just happened.
    pub(super) fn add(&self, kind: &str, action: &str, id: &str, attributes: Attributes) {
        self.0.tell(|at_ns| Notice::new(kind, action, id, attributes, at_ns));
    }

    /// What is kept since `since_ns`, nothing if there is no such time, and everything from now on.
    pub(super) fn follow(&self, since_ns: Option<i64>) -> (Vec<Notice>, broadcast::Receiver<Notice>) {
        self.0.follow(since_ns)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_what_its_kind_has() {
        let attributes: Attributes = [("image".to_owned(), json!("busybox"))].into_iter().collect();
        let line = |kind| Notice::new(kind, "tag", "i", attributes.clone(), 5 * NS_PER_SECOND).line;
        let container = line("container");
        assert_eq!((&container["from"], &container["status"]), (&json!("busybox"), &json!("tag")));
        assert_eq!((&container["time"], &container["Actor"]["ID"]), (&json!(5), &json!("i")));
        let image = line("image");
        assert_eq!((&image["id"], image.get("from")), (&json!("i"), None));
        assert_eq!(line("network").get("status"), None);
    }
}
