//! The operations on one object: the one under way and those that wait for it.

use std::collections::VecDeque;

use tokio::sync::watch;
use tokio::task;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::command::{Reply, Verb};
use super::judge;
use crate::engine::activity::{Activity, Measured};

/// One object's operations.
#[derive(Default)]
pub(super) struct Lane {
    /// The one under way.
    pub running: Option<Running>,
    /// Those that wait, in the order they came.
    pub waiting: VecDeque<(Verb, Reply)>,
}

/// An operation under way.
pub(super) struct Running {
    /// What.
    pub verb: Verb,
    /// Who waits for it.
    pub replies: Vec<Reply>,
    /// Ends it early where it can end early.
    pub cancel: CancellationToken,
    /// When a stop turns to killing; brought forward by a more impatient request.
    pub deadline: watch::Sender<Instant>,
    /// The task that carries it out.
    pub task: Option<task::Id>,
    /// Counts it.
    pub measured: Measured,
}

impl Lane {
    /// Whether anything is under way.
    pub(super) fn is_running(&self) -> bool {
        self.running.is_some()
    }

    /// Whether anything is under way or waits.
    pub(super) fn is_busy(&self) -> bool {
        self.running.is_some() || !self.waiting.is_empty()
    }
}

impl Running {
    /// An operation that begins now.
    pub(super) fn new(verb: Verb, reply: Reply, activity: &Activity) -> Self {
        let deadline = watch::Sender::new(deadline_of(&verb));
        let measured = activity.begin(verb.name());
        Self { verb, replies: vec![reply], cancel: CancellationToken::new(), deadline, task: None, measured }
    }

    /// The same, carried out by this task.
    pub(super) fn with_task(self, task: task::Id) -> Self {
        Self { task: Some(task), ..self }
    }

    /// Ends early, as far as it can, what `request` makes pointless.
    pub(crate) fn give_way_to(&self, request: &Verb) {
        if judge::supersedes(&self.verb, request) {
            self.cancel.cancel();
            self.deadline.send_replace(Instant::now());
        }
    }

    /// Lets one more caller wait for it.
    pub(super) fn join(&mut self, request: &Verb, reply: Reply) {
        let earlier = deadline_of(request);
        self.deadline.send_if_modified(|deadline| {
            let sooner = earlier < *deadline;
            *deadline = earlier.min(*deadline);
            sooner
        });
        self.replies.push(reply);
    }
}

fn deadline_of(verb: &Verb) -> Instant {
    /// Longest grace honoured: `Instant` has no room for the centuries that clients send for "for ever".
    const LONGEST: std::time::Duration = std::time::Duration::from_secs(10 * 365 * 24 * 3600);
    match verb {
        Verb::Stop { grace, .. } => Instant::now() + (*grace).min(LONGEST),
        _ => Instant::now(),
    }
}
