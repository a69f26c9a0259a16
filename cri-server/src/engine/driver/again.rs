//! Containers without a pod that are started again by themselves, and what else is noted beside their operations: whether
//! their user wants them to run, their policy, their name.
//!
//! What is to happen [`restart`] decides; here it is recorded, and a timer sends the driver word when it is due.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

use super::command::{Command, Target, Verb};
use super::{Driver, Member, missing};
use crate::engine::container::{ContainerState, Exit};
use crate::engine::error::{EngineError, Result};
use crate::engine::model::{Id, PodName, RestartPolicy};
use crate::engine::restart::{self, Wanted};
use crate::engine::view::View;
use crate::time::now_ns;

impl Driver {
    /// The group of one and its container are called `name` from now on, for readers and after a restart. The name is taken
    /// before that is recorded: nobody else gets it meanwhile.
    pub(super) fn rename(&mut self, name: &str) -> Result<()> {
        let Some(registry) = self.registry.upgrade() else { return Err(missing(&self.pod.id)) };
        let old = self.pod.config.name.clone();
        let new = registry.take_name(&self.pod, name)?;
        self.set_name(&new);
        let noted = self.note(|_| {});
        if noted.is_err() {
            self.set_name(&old);
        }
        registry.forget_name(&self.pod.id, if noted.is_ok() { &old } else { &new });
        noted
    }

    fn set_name(&mut self, name: &PodName) {
        self.change_pod(|pod| pod.config.name = name.clone());
        for member in self.members.values_mut() {
            Arc::make_mut(&mut member.container).config.name.clone_from(&name.name);
        }
    }

    /// Its user has started or stopped it.
    pub(super) fn want(&mut self, wanted: Wanted) -> Result<()> {
        self.note(|member| restart::want(&mut Arc::make_mut(&mut member.container).restarts, wanted))
    }

    /// It has another policy. One that runs was started by its user, whatever was noted of it under the policy before.
    pub(super) fn set_policy(&mut self, policy: RestartPolicy) -> Result<()> {
        self.note(|member| {
            let container = Arc::make_mut(&mut member.container);
            if container.state.pid().is_some() {
                container.restarts.wanted = Wanted::Up;
            }
            container.restarts.policy = policy;
        })
    }

    /// It is due, unless something has happened to it since.
    pub(super) fn start_again(&mut self, id: &Id, count: u32) {
        let is_due = |member: &Member| {
            let restarts = &member.container.restarts;
            restarts.due_at_ns.is_some() && restarts.count == count
        };
        if !self.members.get(id).is_some_and(is_due) {
            return;
        }
        // Nobody waits for either: what comes of them is seen in the states.
        for (target, verb) in [(Target::Pod, Verb::RunPod), (Target::Container(id.clone()), Verb::Start)] {
            let (reply, _) = oneshot::channel();
            self.request(target, verb, reply);
        }
    }

    /// Has the driver told when the container is due, if it is to be started again.
    pub(in crate::engine) fn schedule(&self, id: &Id) {
        let Some(member) = self.members.get(id) else { return };
        let restarts = &member.container.restarts;
        let Some(due_at_ns) = restarts.due_at_ns else { return };
        let left = Duration::from_nanos(u64::try_from(due_at_ns - now_ns()).unwrap_or_default());
        let command = Command::Again { container: id.clone(), count: restarts.count };
        let (own, closing) = (self.own.clone(), self.closing.clone());
        tokio::spawn(async move {
            tokio::select! {
                () = closing.cancelled() => {}
                () = tokio::time::sleep(left) => {
                    if own.send(command).is_err() {
                        tracing::debug!("a container was due after it was gone");
                    }
                }
            }
        });
    }

    /// What could not be started again is not tried again.
    pub(super) fn give_up(&mut self) {
        if !self.members.values().any(|member| member.container.restarts.due_at_ns.is_some()) {
            return;
        }
        if let Err(error) = self.note(Member::is_up) {
            tracing::error!(pod = %self.pod.id, %error, "a container that cannot be started again could not be noted");
        }
    }

    /// Changes what is noted of the group and its containers, beside whatever is under way, records and publishes it.
    fn note(&mut self, change: impl Fn(&mut Member)) -> Result<()> {
        self.members.values_mut().for_each(change);
        let containers: Vec<_> = self.members.values().map(|member| &*member.container).collect();
        self.shared
            .records
            .note(&self.pod, &containers)
            .map_err(|error| EngineError::step("note", format!("pod {}", self.pod.id), &error))?;
        let (pod, members) = (&self.pod, &self.members);
        self.shared.board.publish(&pod.id, |view: &mut View| {
            view.pods.insert(pod.id.clone(), pod.clone());
            members.values().for_each(|member| member.publish(view));
        });
        Ok(())
    }
}

impl Member {
    /// Has it started again, if its policy says so after this end.
    pub(in crate::engine) fn start_again_after(&mut self, exit: &Exit) {
        let container = Arc::make_mut(&mut self.container);
        if let Some(restarts) = restart::after_end(&container.restarts, exit) {
            container.restarts = restarts;
        }
    }

    /// The same for an end of before the daemon's start.
    pub(in crate::engine) fn start_again_at_boot(&mut self) {
        let ContainerState::Exited(exit) = self.container.state.clone() else { return };
        let container = Arc::make_mut(&mut self.container);
        if let Some(restarts) = restart::at_boot(&container.restarts, &exit, now_ns()) {
            container.restarts = restarts;
        }
    }

    /// It waits for no start any more.
    pub(super) fn is_up(&mut self) {
        if self.container.restarts.due_at_ns.is_some() {
            Arc::make_mut(&mut self.container).restarts.due_at_ns = None;
        }
    }
}
