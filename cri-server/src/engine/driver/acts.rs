//! From a decided operation to the task that carries it out.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use super::command::{Target, Verb};
use super::lane::Running;
use super::outcome::{Done, Outcome, PreparationFailure};
use super::{Driver, missing, networks};
use crate::engine::container::Container;
use crate::engine::container::ContainerEvent;
use crate::engine::error::{EngineError, Result, chain};
use crate::engine::model::{Id, PidMode};
use crate::engine::monitor::Process;
use crate::engine::pod::Pod;
use crate::engine::records::Operation;
use crate::engine::shared::Shared;
use crate::engine::steps;

/// A container that has to end, or to go, before its pod does.
type Doomed = (Arc<Container>, Option<Arc<Process>>);

/// What an operation's task runs.
type Act = Pin<Box<dyn Future<Output = Outcome> + Send>>;

impl Driver {
    /// The work of an operation whose intent is written down.
    pub(super) fn act(&self, target: &Target, running: &Running) -> Act {
        let target = target.clone();
        let done: Pin<Box<dyn Future<Output = Done> + Send>> = match &target {
            Target::Pod => self.pod_act(&running.verb),
            Target::Container(id) => self.container_act(id, running),
        };
        Box::pin(async move { Outcome { target, done: done.await } })
    }

    fn pod_act(&self, verb: &Verb) -> Pin<Box<dyn Future<Output = Done> + Send>> {
        let (shared, pod, pause) = (self.shared.clone(), self.pod.clone(), self.pause.clone());
        let doomed: Vec<Doomed> =
            self.members.values().map(|member| (member.container.clone(), member.process.clone())).collect();
        match verb {
            Verb::RunPod => Box::pin(async move { Done::PodUp(run_pod(&shared, &pod).await) }),
            Verb::Join(_) | Verb::Leave(_) => {
                let change = networks::change_of(&pod, verb);
                Box::pin(async move { Done::Rejoined(networks::carry_out(&shared, &pod, change).await) })
            }
            Verb::StopPod => {
                Box::pin(
                    async move { Done::PodStopped(stop_pod(&shared, &pod, pause.as_deref(), &doomed).await) },
                )
            }
            _ => Box::pin(async move { Done::PodRemoved(remove_pod(&shared, &pod, pause, &doomed).await) }),
        }
    }

    fn container_act(&self, id: &Id, running: &Running) -> Pin<Box<dyn Future<Output = Done> + Send>> {
        let Some(member) = self.members.get(id) else {
            let error = missing(id);
            return Box::pin(async move { Done::Removed(Err(error)) });
        };
        let (shared, pod) = (self.shared.clone(), self.pod.clone());
        let (container, process) = (member.container.clone(), member.process.clone());
        match &running.verb {
            Verb::Create => {
                let target = self.target_pid(&container.config.pid);
                Box::pin(async move { Done::Prepared(prepare(&shared, &pod, &container, target).await) })
            }
            Verb::Start => {
                let cancel = running.cancel.clone();
                Box::pin(
                    async move { Done::Started(steps::start_container(&shared, &container, cancel).await) },
                )
            }
            Verb::Stop { signal, .. } => {
                let (deadline, signal) =
                    (running.deadline.subscribe(), signal.unwrap_or(container.stop_signal));
                Box::pin(async move {
                    let Some(process) = process else { return Done::Stopped(Ok(())) };
                    Done::Stopped(steps::stop(&shared, &container, &process, signal, deadline).await)
                })
            }
            Verb::Pause => Box::pin(async move { Done::Paused(steps::pause(&shared, &container).await) }),
            Verb::Resume => Box::pin(async move { Done::Resumed(steps::resume(&shared, &container).await) }),
            Verb::Update(change) => {
                let change = change.clone();
                Box::pin(async move {
                    Done::Updated(steps::update_container(&shared, &container, process, &change).await)
                })
            }
            Verb::Checkpoint(order) => {
                let order = order.clone();
                Box::pin(async move {
                    let taken = steps::checkpoint_container(&shared, &pod, &container, process, order).await;
                    Done::Checkpointed(taken)
                })
            }
            _ => {
                Box::pin(async move { Done::Removed(remove_container(&shared, &(container, process)).await) })
            }
        }
    }

    /// The process whose process namespace a container wants to share.
    fn target_pid(&self, mode: &PidMode) -> Result<Option<i32>> {
        let PidMode::Target(id) = mode else { return Ok(None) };
        if self.kind_is_one() {
            return Ok(None);
        }
        let member = self.members.get(id).ok_or_else(|| missing(id))?;
        Ok(member.container.state.pid())
    }

    /// Writes down the intent of an operation on a container.
    pub(super) fn write_member_intent(&mut self, id: &Id, verb: &Verb) -> Result<()> {
        let member = self.members.get_mut(id).ok_or_else(|| missing(id))?;
        let before = member.container.clone();
        let operation = match verb {
            Verb::Create => Operation::Create,
            Verb::Start => {
                member.apply(ContainerEvent::Start)?;
                Operation::Start
            }
            Verb::Remove => Operation::Remove,
            // A stop that a dead daemon left open has no outcome to restore: the container runs or has ended. Whether it
            // is paused the freezer tells.
            _ => return Ok(()),
        };
        if let Err(error) = self.shared.records.begin_container(&member.container, operation) {
            member.container = before;
            return Err(EngineError::step("write down the intent", format!("container {id}"), &error));
        }
        self.unrecorded.remove(&Target::Container(id.clone()));
        Ok(())
    }
}

/// Prepares the container; a failure is undone.
async fn prepare(
    shared: &Arc<Shared>,
    pod: &Arc<Pod>,
    container: &Arc<Container>,
    target: Result<Option<i32>>,
) -> std::result::Result<steps::Prepared, Box<PreparationFailure>> {
    let prepared = match target {
        Ok(target) => steps::create_container(shared, pod, container, target).await,
        Err(error) => Err(error),
    };
    let error = match prepared {
        Ok(prepared) => return Ok(prepared),
        Err(error) => error,
    };
    let undone = steps::remove_container(shared, container, None).await;
    if let Err(left) = &undone {
        tracing::warn!(container = %container.id, error = %chain(left), "a failed preparation left something behind");
    }
    Err(Box::new(PreparationFailure { error, is_undone: undone.is_ok() }))
}

/// Runs the pod; a failure is undone.
async fn run_pod(shared: &Arc<Shared>, pod: &Arc<Pod>) -> Result<steps::PodUp> {
    let failure = match steps::run_pod(shared, pod).await {
        Ok(up) => return Ok(up),
        Err(failure) => *failure,
    };
    let undone = if pod.config.kind.is_one() {
        steps::stop_pod(shared, pod).await
    } else {
        steps::remove_pod(shared, pod, failure.pause).await
    };
    if let Err(left) = undone {
        tracing::warn!(pod = %pod.id, %left, "a failed pod left something behind; the next start tries again");
    }
    Err(failure.error)
}

/// Kills the pod's containers at a time, then stops the pod.
async fn stop_pod(
    shared: &Arc<Shared>,
    pod: &Arc<Pod>,
    pause: Option<&Process>,
    doomed: &[Doomed],
) -> Result<()> {
    kill_all(shared, doomed).await?;
    if let Some(pause) = pause {
        steps::kill(shared, pause, &format!("{}/{}", pod.cgroup, pod.id)).await?;
    }
    steps::stop_pod(shared, pod).await
}

async fn remove_pod(
    shared: &Arc<Shared>,
    pod: &Arc<Pod>,
    pause: Option<Arc<Process>>,
    doomed: &[Doomed],
) -> Result<()> {
    stop_pod(shared, pod, pause.as_deref(), doomed).await?;
    let mut outcome = Ok(());
    for (container, process) in doomed {
        outcome = outcome.and(steps::remove_container(shared, container, process.clone()).await);
    }
    outcome?;
    steps::remove_pod(shared, pod, pause).await
}

async fn kill_all(shared: &Arc<Shared>, doomed: &[Doomed]) -> Result<()> {
    let mut kills = tokio::task::JoinSet::new();
    for (container, process) in doomed {
        if let Some(process) = process.clone() {
            let (shared, container) = (shared.clone(), container.clone());
            kills.spawn(async move { steps::kill(&shared, &process, &container.cgroup).await });
        }
    }
    let mut outcome = Ok(());
    while let Some(killed) = kills.join_next().await {
        let killed = killed.unwrap_or_else(|error| Err(EngineError::step("kill", "a container", &error)));
        outcome = outcome.and(killed);
    }
    outcome
}

async fn remove_container(shared: &Arc<Shared>, (container, process): &Doomed) -> Result<()> {
    if let Some(process) = process {
        steps::kill(shared, process, &container.cgroup).await?;
    }
    steps::remove_container(shared, container, process.clone()).await
}
