//! Recording what has become of the pod and its containers, and showing it to readers.
//!
//! What has happened is shown even where it cannot be recorded, on a full disk for example: a container that has ended is
//! not told of as running. The record is tried again until it succeeds; a daemon that dies before that finds out by looking
//! at the host, as after every end without one.

use std::time::Duration;

use super::command::Target;
use super::lane::Lane;
use super::{Driver, Member, missing};
use crate::engine::error::{EngineError, Result, chain};
use crate::engine::model::Id;

/// How long until a record that failed is tried again: no event tells of a disk that has room.
const RECORD_AGAIN: Duration = Duration::from_secs(2);

impl Driver {
    /// Records the pod's state as an operation's outcome, and shows it.
    pub(super) fn commit_pod(&mut self) -> Result<()> {
        let recorded = self.record(&Target::Pod);
        self.publish_pod();
        recorded
    }

    /// Shows the pod as it is.
    pub(super) fn publish_pod(&self) {
        let pod = self.pod.clone();
        self.shared.board.publish(&self.pod.id, |view| {
            view.pods.insert(pod.id.clone(), pod);
        });
    }

    /// Changes a container, records that as an operation's outcome, and shows it.
    pub(super) fn change(&mut self, id: &Id, change: impl FnOnce(&mut Member) -> Result<()>) -> Result<()> {
        change(self.members.get_mut(id).ok_or_else(|| missing(id))?)?;
        let recorded = self.record(&Target::Container(id.clone()));
        if let Some(member) = self.members.get(id) {
            self.shared.board.publish(&self.pod.id, |view| member.publish(view));
        }
        recorded
    }

    fn record(&mut self, target: &Target) -> Result<()> {
        let (recorded, object) = match target {
            Target::Pod => (self.shared.records.commit_pod(&self.pod), format!("pod {}", self.pod.id)),
            Target::Container(id) => match self.members.get(id) {
                Some(member) => {
                    (self.shared.records.commit_container(&member.container), format!("container {id}"))
                }
                None => (Ok(()), String::new()),
            },
        };
        match recorded {
            Ok(()) => self.unrecorded.remove(target),
            Err(_) => self.unrecorded.insert(target.clone()),
        };
        recorded.map_err(|error| EngineError::step("commit", object, &error))
    }

    /// Comes back when a record that failed is to be tried again; never when there is none.
    pub(super) async fn record_is_due(anything_unrecorded: bool) {
        if anything_unrecorded {
            tokio::time::sleep(RECORD_AGAIN).await;
        } else {
            std::future::pending().await
        }
    }

    /// Tries the records again that failed. Not of what an operation is under way on: that would be taken for its outcome,
    /// which is recorded soon enough.
    pub(super) fn record_again(&mut self) {
        let runs = |target: &Target| self.lanes.get(target).is_some_and(Lane::is_running);
        let due: Vec<Target> = self.unrecorded.iter().filter(|target| !runs(target)).cloned().collect();
        for target in due {
            match self.record(&target) {
                Ok(()) => tracing::info!(pod = %self.pod.id, ?target, "what could not be recorded now is"),
                Err(error) => {
                    tracing::warn!(error = %chain(&error), "what happened can still not be recorded")
                }
            }
        }
    }
}
