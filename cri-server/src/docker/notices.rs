//! What readers of `/events` are told besides what changes of containers: what was done to images, who was attached.
//!
//! The engine's events are what its commits changed. These change no container: the endpoint that did something notes it
//! here, with the time, and a reader of both gets them in order.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde_json::{Map, Value, json};
use tokio::sync::broadcast;

use super::wire::now_ns;

/// How many are kept for who asks for those of the past, as in dockerd.
const KEPT: usize = 256;

/// How many a reader may lag behind: a prune of a full store.
const BUFFER: usize = 1024;

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

/// All of them.
pub(super) struct Notices {
    /// The last ones, the oldest first.
    past: Mutex<VecDeque<Notice>>,
    sender: broadcast::Sender<Notice>,
}

impl Default for Notices {
    fn default() -> Self {
        Self { past: Mutex::default(), sender: broadcast::Sender::new(BUFFER) }
    }
}

impl Notices {
    /// Tells of something that has just happened.
    pub(super) fn add(&self, kind: &str, action: &str, id: &str, attributes: Attributes) {
        // The time is taken behind the lock: the order of the times is that of the notices.
        let mut past = self.lock();
        let notice = Notice::new(kind, action, id, attributes, now_ns());
        if past.len() == KEPT {
            past.pop_front();
        }
        past.push_back(notice.clone());
        if self.sender.send(notice).is_err() {
            tracing::trace!("nobody reads events");
        }
    }

    /// What is kept since `since_ns`, nothing if there is no such time, and everything from now on.
    pub(super) fn follow(&self, since_ns: Option<i64>) -> (Vec<Notice>, broadcast::Receiver<Notice>) {
        let past = self.lock();
        let kept = past.iter().filter(|notice| since_ns.is_some_and(|since| notice.at_ns >= since));
        (kept.cloned().collect(), self.sender.subscribe())
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Notice>> {
        self.past.lock().unwrap_or_else(PoisonError::into_inner)
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

    #[test]
    fn the_past_is_told_to_who_asks_and_has_an_end() {
        let notices = Notices::default();
        for number in 0..KEPT + 2 {
            notices.add("image", "tag", &number.to_string(), Attributes::new());
        }
        let (past, mut coming) = notices.follow(Some(0));
        assert_eq!((past.len(), &past[0].line["id"]), (KEPT, &json!("2")));
        assert!(notices.follow(None).0.is_empty());
        notices.add("image", "delete", "x", Attributes::new());
        assert_eq!(coming.try_recv().unwrap().line["Action"], "delete");
        assert!(coming.try_recv().is_err());
    }
}
