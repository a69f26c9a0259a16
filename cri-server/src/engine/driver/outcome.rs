//! What becomes of an operation: the state it leads to is committed, published, and told to whoever waits.

use std::sync::Arc;

use tokio::sync::oneshot;
use tokio::task::{Id as TaskId, JoinError};

use super::command::{Command, Target, Verb};
use super::networks::Places;
use super::{Driver, Member, answer, judge};
use crate::engine::container::{ContainerEvent, ContainerState};
use crate::engine::error::{EngineError, Result, chain};
use crate::engine::model::{Id, Kind, PodResources, Resources};
use crate::engine::monitor::{Connection, End, Process, watch_end};
use crate::engine::pod::{Pod, PodEvent, PodState};
use crate::engine::steps::{PodUp, Prepared, StartFailure, Started, exit_of};
use crate::engine::view::View;

/// An operation that has ended.
pub(super) struct Outcome {
    /// What it was about.
    pub target: Target,
    /// What came of it.
    pub done: Done,
}

/// What came of an operation.
pub(super) enum Done {
    /// The pod was to be made.
    PodUp(Result<PodUp>),
    /// The pod was to be stopped.
    PodStopped(Result<()>),
    /// The pod was to be removed.
    PodRemoved(Result<()>),
    /// The group's places in networks were to be changed.
    Rejoined(Result<Places>),
    /// A container was to be prepared.
    Prepared(std::result::Result<Prepared, Box<PreparationFailure>>),
    /// A container was to be started.
    Started(std::result::Result<Started, Box<StartFailure>>),
    /// A container was to be stopped.
    Stopped(Result<()>),
    /// A container was to stand still.
    Paused(Result<()>),
    /// A container was to go on.
    Resumed(Result<()>),
    /// A container was to be removed.
    Removed(Result<()>),
    /// A container's limits were to be changed.
    Updated(Result<Resources>),
    /// A checkpoint of a container was to be taken.
    Checkpointed(Result<()>),
}

/// A container that could not be prepared.
pub(super) struct PreparationFailure {
    /// What the caller is told.
    pub error: EngineError,
    /// Whether nothing of it is left.
    pub is_undone: bool,
}

impl Driver {
    /// Takes note of an ended operation.
    pub(super) fn finish(&mut self, finished: std::result::Result<Outcome, JoinError>) {
        let (target, result) = match finished {
            Ok(Outcome { target, done }) => {
                let result = self.settle(&target, done);
                (Some(target), result)
            }
            Err(error) => (
                self.target_of(error.id()),
                Err(EngineError::step("carry out an operation", "the engine", &error)),
            ),
        };
        let Some(target) = target else { return };
        let running = self.lanes.get_mut(&target).and_then(|lane| lane.running.take());
        running.iter().for_each(|running| running.measured.end(result.is_ok()));
        let id = self.id_of(&target);
        let did = |verb: fn(&Verb) -> bool| running.as_ref().is_some_and(|running| verb(&running.verb));
        let failed_start = result.is_err() && did(|verb| matches!(verb, Verb::Start));
        let failed = failed_start || (result.is_err() && did(|verb| matches!(verb, Verb::RunPod)));
        for reply in running.into_iter().flat_map(|running| running.replies) {
            answer(reply, result.clone().map(|()| id.clone()));
        }
        if failed_start {
            self.rest();
        }
        if failed {
            self.give_up();
        }
        self.resume();
    }

    fn target_of(&self, task: TaskId) -> Option<Target> {
        let is_it =
            |lane: &super::Lane| lane.running.as_ref().is_some_and(|running| running.task == Some(task));
        self.lanes.iter().find(|(_, lane)| is_it(lane)).map(|(target, _)| target.clone())
    }

    fn settle(&mut self, target: &Target, done: Done) -> Result<()> {
        match (target, done) {
            (_, Done::PodUp(Ok(up))) => self.pod_is_up(up),
            (_, Done::PodUp(Err(error))) if self.pod.config.kind.is_one() => {
                self.pod_is_down().and(Err(error))
            }
            (_, Done::PodUp(Err(error))) => self.pod_is_gone().and(Err(error)),
            (_, Done::PodStopped(stopped)) => stopped.and_then(|()| self.pod_is_down()),
            (_, Done::Rejoined(rejoined)) => rejoined.and_then(|places| self.is_rejoined(places)),
            (_, Done::PodRemoved(removed)) => removed.and_then(|()| self.pod_is_gone()),
            (Target::Container(id), Done::Prepared(Ok(prepared))) => self.container_is_ready(id, prepared),
            (Target::Container(id), Done::Prepared(Err(failure))) => self.container_is_not(id, *failure),
            (Target::Container(id), Done::Started(started)) => self.container_is_started(id, started),
            (Target::Container(_), Done::Stopped(done) | Done::Checkpointed(done)) => done,
            (Target::Container(id), Done::Paused(paused)) => {
                paused.and_then(|()| self.container_stands(id, ContainerEvent::Paused))
            }
            (Target::Container(id), Done::Resumed(resumed)) => {
                resumed.and_then(|()| self.container_stands(id, ContainerEvent::Resumed))
            }
            (Target::Container(id), Done::Removed(removed)) => {
                removed.and_then(|()| self.container_is_gone(id))
            }
            (Target::Container(id), Done::Updated(updated)) => {
                updated.and_then(|resources| self.container_is_updated(id, resources))
            }
            (Target::Pod, _) => unreachable!("a container's outcome has a container's target"),
        }
    }

    fn pod_is_up(&mut self, up: PodUp) -> Result<()> {
        let pause_pid = up.running.as_ref().map(|running| running.process.pid());
        let state = self.next_pod_state(PodEvent::Created { pause_pid })?;
        self.change_pod(|pod| {
            pod.state = state;
            pod.addresses = up.connected.addresses;
            pod.joined = up.connected.joined;
            pod.ports = up.connected.ports;
        });
        let recorded = self.commit_pod();
        if let Some(running) = up.running {
            self.pause = Some(running.process.clone());
            self.watch(Target::Pod, running.process, Some(running.connection));
        }
        recorded
    }

    fn pod_is_down(&mut self) -> Result<()> {
        let state = self.next_pod_state(PodEvent::Stopped)?;
        self.change_pod(|pod| {
            pod.state = state;
            pod.joined.clear();
        });
        self.commit_pod()
    }

    /// The pod is forgotten: by the records, by readers, by name, and at last by this task.
    fn pod_is_gone(&mut self) -> Result<()> {
        self.shared
            .records
            .forget_pod(&self.pod.id)
            .map_err(|error| EngineError::step("forget", format!("pod {}", self.pod.id), &error))?;
        let pod = self.pod.id.clone();
        self.shared.board.publish(&pod, |view| {
            view.pods.remove(&pod);
            let View { pods: _, containers, processes } = view;
            processes.retain(|id, _| containers.get(id).is_some_and(|container| container.pod != pod));
            containers.retain(|_, container| container.pod != pod);
        });
        if let Some(registry) = self.registry.upgrade() {
            registry.forget(&self.pod.id, &self.pod.config.name);
        }
        for (id, member) in &self.members {
            self.shared.waiting.removed(id, last_code(member));
        }
        self.gone = true;
        Ok(())
    }

    pub(super) fn next_pod_state(&self, event: PodEvent) -> Result<PodState> {
        let object = || format!("pod {}", self.pod.id);
        self.pod.state.next(event).map_err(|error| EngineError::step("change the state", object(), &error))
    }

    /// Takes note of what the pod is said to need from now on, whatever is under way.
    pub(super) fn resize(&mut self, change: &PodResources) -> Result<()> {
        judge::resize(&self.pod)?;
        let mut pod = Pod::clone(&self.pod);
        pod.resized = pod.resized.changed_by(change);
        self.shared
            .records
            .note_pod(&pod)
            .map_err(|error| EngineError::step("note the resources", format!("pod {}", pod.id), &error))?;
        self.pod = Arc::new(pod);
        self.publish_pod();
        Ok(())
    }

    fn container_is_ready(&mut self, id: &Id, prepared: Prepared) -> Result<()> {
        self.change(id, |member| {
            Arc::make_mut(&mut member.container).identity = prepared.identity;
            member.apply(ContainerEvent::Prepared)
        })
    }

    /// A failed preparation is undone by now; what resists is on record, for the next start to remove.
    fn container_is_not(&mut self, id: &Id, failure: PreparationFailure) -> Result<()> {
        let PreparationFailure { error, is_undone } = failure;
        let forgotten = if is_undone { self.container_is_gone(id) } else { Ok(()) };
        self.members.remove(id);
        if let Err(left) = forgotten {
            tracing::warn!(container = %id, error = %chain(&left), "a failed preparation could not be forgotten");
        }
        Err(error)
    }

    fn container_is_started(
        &mut self,
        id: &Id,
        started: std::result::Result<Started, Box<StartFailure>>,
    ) -> Result<()> {
        match started {
            Ok(Started { running, started_at_ns }) => {
                let process = running.process.clone();
                let recorded = self.change(id, |member| {
                    let pid = process.pid();
                    member.process = Some(process.clone());
                    member.is_up();
                    member.begin_probing();
                    member.apply(ContainerEvent::Started { pid, started_at_ns })
                });
                self.watch(Target::Container(id.clone()), running.process, Some(running.connection));
                self.schedule_probe(id);
                recorded
            }
            Err(failure) => {
                let StartFailure { error, exit } = *failure;
                let code = exit.code;
                let recorded = self.change(id, |member| member.apply(ContainerEvent::Ended(exit)));
                self.shared.waiting.ended(id, code);
                if let Err(unrecorded) = recorded {
                    tracing::error!(container = %id, error = %chain(&unrecorded), "a failed start could not be recorded");
                }
                Err(error)
            }
        }
    }

    /// Its processes stand still, or no longer. One that has ended meanwhile has no such state.
    fn container_stands(&mut self, id: &Id, event: ContainerEvent) -> Result<()> {
        let runs = self.members.get(id).is_some_and(|member| member.container.state.pid().is_some());
        if !runs {
            return Err(super::missing_process(id));
        }
        let stood = self.change(id, |member| {
            if event == ContainerEvent::Paused {
                member.end_probing();
            }
            member.apply(event)
        });
        self.schedule_probe(id);
        stood
    }

    fn container_is_updated(&mut self, id: &Id, resources: Resources) -> Result<()> {
        self.change(id, |member| {
            Arc::make_mut(&mut member.container).resources = resources;
            Ok(())
        })
    }

    fn container_is_gone(&mut self, id: &Id) -> Result<()> {
        self.shared
            .records
            .forget_container(id)
            .map_err(|error| EngineError::step("forget", format!("container {id}"), &error))?;
        let member = self.members.remove(id);
        self.unrecorded.remove(&Target::Container(id.clone()));
        self.shared.board.publish(&self.pod.id, |view| {
            view.containers.remove(id);
            view.processes.remove(id);
        });
        self.shared.waiting.removed(id, member.as_ref().map_or(0, last_code));
        Ok(())
    }

    /// A container that was never prepared and will not be: its request was refused.
    pub(super) fn forget_unborn(&mut self, target: &Target) {
        if let Target::Container(id) = target
            && self.members.get(id).is_some_and(|member| member.container.state == ContainerState::Creating)
            && self.lanes.get(target).is_none_or(|lane| lane.running.is_none())
        {
            self.members.remove(id);
        }
    }

    /// Has somebody wait for the end of `process`, of which `connection` will tell.
    pub(crate) fn watch(&self, target: Target, process: Arc<Process>, connection: Option<Connection>) {
        let own = self.own.clone();
        tokio::spawn(async move {
            let end = watch_end(process, connection).await;
            if own.send(Command::Ended { target, end }).is_err() {
                tracing::debug!("an end was seen after its pod was gone");
            }
        });
    }

    /// A process has ended: commit it, publish it, then wake who waits for it.
    pub(super) fn ended(&mut self, target: &Target, end: &End) {
        let (settled, process) = match target {
            Target::Pod => (self.pause_ended(), self.pause.clone()),
            Target::Container(id) => (
                self.container_ended(id, end),
                self.members.get(id).and_then(|member| member.process.clone()),
            ),
        };
        if let Err(error) = settled {
            tracing::error!(?target, error = %chain(&error), "an end could not be recorded");
        }
        if let Some(process) = process {
            process.announce_end();
        }
        if matches!(target, Target::Container(_)) {
            self.rest();
        }
    }

    fn pause_ended(&mut self) -> Result<()> {
        if matches!(self.pod.state, PodState::Ready { .. }) {
            let state = self.next_pod_state(PodEvent::Stopped)?;
            self.change_pod(|pod| pod.state = state);
            self.commit_pod()?;
        }
        Ok(())
    }

    fn container_ended(&mut self, id: &Id, end: &End) -> Result<()> {
        let started = self.members.get(id).map(|member| member.container.state.clone());
        let Some(started_at_ns) = started.and_then(|state| state.started_at_ns()) else { return Ok(()) };
        if *end == End::Lost {
            self.kill_leftovers(id);
        }
        let exit = exit_of(end, started_at_ns);
        let code = exit.code;
        let recorded = self.change(id, |member| {
            member.start_again_after(&exit);
            member.end_probing();
            member.apply(ContainerEvent::Ended(exit))
        });
        self.shared.waiting.ended(id, code);
        self.schedule(id);
        recorded
    }

    /// A group of one whose program has ended gives its network back, or goes as a whole.
    pub(in crate::engine) fn rest(&mut self) {
        let verb = match self.pod.config.kind {
            Kind::Pod => return,
            Kind::One { auto_remove: true, .. } => Verb::RemovePod,
            Kind::One { auto_remove: false, .. } => Verb::StopPod,
        };
        // Nobody waits for it.
        let (reply, _) = oneshot::channel();
        self.request(Target::Pod, verb, reply);
    }

    /// Without a monitor nobody reads the container's output or reaps it: what still runs of it is ended.
    fn kill_leftovers(&self, id: &Id) {
        let Some(member) = self.members.get(id) else { return };
        let (shared, cgroup) = (self.shared.clone(), member.container.cgroup.clone());
        tokio::task::spawn_blocking(move || {
            if let Err(error) = crate::engine::steps::kill_cgroup(&shared, &cgroup) {
                tracing::warn!(cgroup, error = %chain(&error), "processes without a monitor could not be killed");
            }
        });
    }
}

/// The exit code of a container's last run.
fn last_code(member: &Member) -> i32 {
    match &member.container.state {
        ContainerState::Exited(exit) => exit.code,
        _ => 0,
    }
}
