//! Probing containers that have a health check.
//!
//! One task a container, none without a check: it waits until the next probe is due, or is that probe. What a probe said
//! is noted beside whatever is under way, recorded and shown like a change of state; readers wait for none of it. Whatever
//! ends the probing (a pause, an end, a removal) drops the task, and the monitor kills the probe that was its.

use std::sync::Arc;

use tokio::task::JoinHandle;
use tokio_util::task::AbortOnDropHandle;

use super::command::Command;
use super::{Driver, Member};
use crate::engine::container::{Container, ContainerState};
use crate::engine::error::chain;
use crate::engine::exec;
use crate::engine::health::{Health, ProbeEnd, ProbeResult};
use crate::engine::model::{HealthCheck, Id};
use crate::time::now_ns;

impl Driver {
    /// Has the driver told when the container's next probe is due, if it runs and has a check.
    pub(in crate::engine) fn schedule_probe(&mut self, id: &Id) {
        let Some(member) = self.members.get_mut(id) else { return };
        let Some((check, run_started_at_ns)) = member.check() else { return };
        let Some(health) = &member.container.health else { return };
        let delay = health.delay(check, run_started_at_ns, now_ns());
        let (own, command) = (self.own.clone(), Command::Probe { container: id.clone() });
        member.keep(tokio::spawn(async move {
            tokio::time::sleep(delay).await;
            if own.send(command).is_err() {
                tracing::debug!("a probe was due after its container was gone");
            }
        }));
    }

    /// Probes the container, unless it has stopped since that was due.
    pub(super) fn probe(&mut self, id: &Id) {
        let Some(member) = self.members.get_mut(id) else { return };
        let (Some((check, _)), Some(process)) = (member.check(), member.process.clone()) else { return };
        let (check, probe) = match Id::random() {
            Ok(probe) => (check.clone(), probe),
            Err(error) => {
                tracing::warn!(container = %id, %error, "a probe has no id; the next one is tried");
                return self.schedule_probe(id);
            }
        };
        if let Some(health) = &mut Arc::make_mut(&mut member.container).health {
            health.probe = Some(probe.clone());
        }
        let (shared, container, own) = (self.shared.clone(), member.container.clone(), self.own.clone());
        member.keep(tokio::spawn(async move {
            let started_at_ns = now_ns();
            let (end, output) = exec::probe(&shared, &container, &process, &check).await;
            let result = ProbeResult { id: probe, started_at_ns, ended_at_ns: now_ns(), end, output };
            if own.send(Command::Probed { container: container.id.clone(), result }).is_err() {
                tracing::debug!("a probe ended after its container was gone");
            }
        }));
        self.show_health(id);
    }

    /// Takes note of what a probe said. One that is no longer wanted is ignored.
    pub(super) fn probed(&mut self, id: &Id, result: ProbeResult) {
        if let ProbeEnd::Failed(reason) = &result.end {
            tracing::warn!(container = %id, reason, "a container could not be probed");
        }
        let Some(member) = self.members.get_mut(id) else { return };
        if !member.note(result) {
            return;
        }
        // It is shown whether it is recorded or not: the next probe's result is recorded with it.
        if let Err(error) = self.shared.records.note(&self.pod, &[&member.container]) {
            tracing::warn!(container = %id, error = %chain(&error), "what a probe said could not be recorded");
        }
        self.show_health(id);
        self.schedule_probe(id);
    }

    fn show_health(&self, id: &Id) {
        if let Some(member) = self.members.get(id) {
            self.shared.board.publish(&self.pod.id, |view| member.publish(view));
        }
    }
}

impl Member {
    /// What it is probed by while it runs, and since when it does.
    fn check(&self) -> Option<(&HealthCheck, i64)> {
        match self.container.state {
            ContainerState::Running { started_at_ns, .. } => {
                self.container.config.health.as_ref().map(|check| (check, started_at_ns))
            }
            _ => None,
        }
    }

    fn keep(&mut self, task: JoinHandle<()>) {
        self.probing = Some(AbortOnDropHandle::new(task));
    }

    /// Whether `result` is that of the probe under way.
    fn note(&mut self, result: ProbeResult) -> bool {
        let Some((check, run_started_at_ns)) = self.check().map(|(check, at)| (check.clone(), at)) else {
            return false;
        };
        let under_way = |health: &Health| health.probe.as_ref() == Some(&result.id);
        if !self.container.health.as_ref().is_some_and(under_way) {
            return false;
        }
        if let Some(health) = &mut Arc::make_mut(&mut self.container).health {
            health.note(&check, run_started_at_ns, result);
        }
        true
    }

    /// Its health is looked at from now on: it was started, or found running by a new daemon.
    pub(in crate::engine) fn begin_probing(&mut self) {
        if self.container.config.health.is_some() {
            let container = Arc::make_mut(&mut self.container);
            container.health = Some(Health::begin(container.health.take()));
        }
    }

    /// It is not probed from now on.
    pub(in crate::engine) fn end_probing(&mut self) {
        self.probing = None;
        if self.container.health.is_some() {
            let container: &mut Container = Arc::make_mut(&mut self.container);
            container.health.iter_mut().for_each(Health::halt);
        }
    }
}
