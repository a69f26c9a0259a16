//! What a start finds: the reconciler. A first start, a restart and a cold boot run this same code.
//!
//! 1. Everything on record is read, and each pod and container is looked at: does its monitor live, did it leave an
//!    exit record, is it gone? One that lives and does not answer is no reason to end what it watches.
//! 2. Operations that the journal says were open are undone (a creation) or finished (a removal, a stop). A container
//!    whose start was open has ended: its program may have begun, and must not run twice.
//! 3. Each pod gets its driver. What could not be undone or finished, since a network plugin fails for example, is kept and
//!    shown as ended: whoever removes it has it tried again, and so does the next start.
//! 4. What is on disk without a record is removed, and network plugins are told which pods there are (CNI GC).

use std::collections::BTreeMap;
use std::sync::Arc;

use super::container::{Container, ContainerEvent, ContainerState};
use super::driver::{Driver, Member, Target};
use super::error::{EngineError, Result, chain};
use super::model::Id;
use super::monitor::{Connection, End, Process, reach, recorded_end};
use super::pod::{Pod, PodEvent, PodState};
use super::records::{Everything, Operation};
use super::registry::Registry;
use super::shared::{Shared, entries};
use super::{steps, user_networks};

/// A process that still runs, and the connection that will tell of its end, unless its monitor takes none now.
type Alive = (Arc<Process>, Option<Connection>);

/// Brings records and host together, and starts the drivers.
pub(super) async fn recover(shared: &Arc<Shared>, registry: &Arc<Registry>) -> Result<()> {
    let everything =
        shared.records.load().map_err(|error| EngineError::step("read the records", "the engine", &error))?;
    let Everything { pods, containers, open } = everything;
    let mut by_pod: BTreeMap<Id, Vec<Container>> = BTreeMap::new();
    for container in containers {
        by_pod.entry(container.pod.clone()).or_default().push(container);
    }
    let (found_pods, found_containers) = (pods.len(), by_pod.values().map(Vec::len).sum::<usize>());
    restore_networks(shared, &pods)?;
    for pod in pods {
        let members = by_pod.remove(&pod.id).unwrap_or_default();
        let operation = open.get(pod.id.as_str()).copied();
        Case { shared, registry, open: &open }.recover_pod(pod, members, operation).await;
    }
    sweep(shared).await?;
    if found_pods > 0 {
        collect_attachments(shared, registry);
    }
    tracing::info!(pods = found_pods, containers = found_containers, open = open.len(), "recovered");
    Ok(())
}

/// In the background: a plugin may take long after a boot, and nothing waits for it but pods that are attached by it. Not at
/// the very first start, when another runtime's pods may be on the network still.
fn collect_attachments(shared: &Arc<Shared>, registry: &Registry) {
    let shared = shared.clone();
    registry.spawn(async move {
        if let Err(error) = steps::collect_attachments(&shared).await {
            tracing::warn!(error = %chain(&error), "the next start tries again");
        }
    });
}

/// Tells every network of the pods that are on it, before it is asked for anything else: what it has in the kernel
/// is made from what it knows.
fn restore_networks(shared: &Shared, pods: &[Pod]) -> Result<()> {
    user_networks::restore(shared)?;
    for pod in pods {
        if let Err(error) = steps::take_over(shared, &pod.id) {
            tracing::error!(pod = %pod.id, error = %chain(&error), "the pod's host ports could not be taken over");
        }
    }
    Ok(())
}

/// What is needed to recover a pod.
struct Case<'a> {
    shared: &'a Arc<Shared>,
    registry: &'a Arc<Registry>,
    open: &'a BTreeMap<String, Operation>,
}

impl Case<'_> {
    async fn recover_pod(&self, mut pod: Pod, members: Vec<Container>, open: Option<Operation>) {
        let is_one = pod.config.kind.is_one();
        // A group of one that was being made ready for a start is none again; one without its container is nothing.
        let unfinished = open == Some(Operation::RemovePod)
            || (open == Some(Operation::RunPod) && !is_one)
            || (is_one && members.is_empty());
        if unfinished || matches!(pod.state, PodState::Creating | PodState::Removing) {
            let removed = self.finish_removal(&Arc::new(pod.clone()), &members).await;
            if let Err(error) = removed {
                tell_unfinished(&error);
                pod.state = PodState::Removing;
                self.keep(pod, members);
            }
            return;
        }
        let (pod, pause) = match self.look_at_pod(pod.clone(), open).await {
            Ok((pod, pause)) => {
                self.record_pod(&pod);
                (pod, pause)
            }
            Err(error) => {
                tell_unfinished(&error);
                // Not recorded: what was open stays open.
                (Pod { state: PodState::NotReady, ..pod }, None)
            }
        };
        let (mut driver, inbox) = Driver::new(self.shared.clone(), self.registry, pod.clone());
        if let Some((process, connection)) = pause {
            driver.adopt_pause(process, connection);
        }
        for container in members {
            self.recover_container(&mut driver, container).await;
        }
        self.publish_pod(&pod);
        if driver.has_ended_alone() {
            driver.rest();
        } else {
            self.reopen_names(&pod).await;
        }
        self.registry.adopt((driver, inbox), &pod);
    }

    /// The name server of a pod that runs ended with the daemon before.
    async fn reopen_names(&self, pod: &Pod) {
        if pod.joined.is_empty() {
            return;
        }
        let served = pod.clone();
        if let Err(error) = self.shared.blocking(move |shared| steps::open_names(shared, &served)).await {
            tracing::error!(pod = %pod.id, error = %chain(&error), "the container finds no names");
        }
    }

    /// Shows a pod that could not be removed, and its containers as ended: for its removal to be asked for again.
    fn keep(&self, pod: Pod, members: Vec<Container>) {
        if pod.config.kind.is_one() && members.is_empty() {
            // Nobody could ask for it, and it would hold its name: the next start's to remove.
            return;
        }
        let (mut driver, inbox) = Driver::new(self.shared.clone(), self.registry, pod.clone());
        for container in members {
            self.keep_container(&mut driver, container);
        }
        self.publish_pod(&pod);
        self.registry.adopt((driver, inbox), &pod);
    }

    fn keep_container(&self, driver: &mut Driver, mut container: Container) {
        if !matches!(container.state, ContainerState::Exited(_)) {
            let end = recorded_end(&self.shared.paths.container(&container.id).state);
            let started_at_ns = container.state.started_at_ns().unwrap_or_default();
            container.state = ContainerState::Exited(steps::exit_of(&end, started_at_ns));
        }
        let member = Member::of(container);
        self.show(driver, member, None);
    }

    async fn finish_removal(&self, pod: &Arc<Pod>, members: &[Container]) -> Result<()> {
        tracing::info!(pod = %pod.id, "undoing a pod that was being made or removed");
        for container in members {
            steps::remove_container(self.shared, &Arc::new(container.clone()), None).await?;
        }
        steps::remove_pod(self.shared, pod, None).await?;
        self.shared
            .records
            .forget_pod(&pod.id)
            .map_err(|error| EngineError::step("forget", format!("pod {}", pod.id), &error))
    }

    /// The pod in its true state, and its pause process if that runs.
    async fn look_at_pod(&self, mut pod: Pod, open: Option<Operation>) -> Result<(Pod, Option<Alive>)> {
        let pause_pid = match pod.state {
            PodState::Ready { pause_pid: Some(pid) } => pid,
            PodState::Ready { pause_pid: None } if open.is_none() => {
                pod.joined = steps::still_joined(self.shared, &pod)?;
                return Ok((pod, None));
            }
            PodState::NotReady if open.is_none() => return Ok((pod, None)),
            _ => 0,
        };
        if pause_pid != 0
            && open != Some(Operation::StopPod)
            && let Ok(alive) = reach(pause_pid, &self.shared.paths.pod(&pod.id).state).await
        {
            return Ok((pod, Some(alive)));
        }
        steps::stop_pod(self.shared, &Arc::new(pod.clone())).await?;
        pod.state = pod
            .state
            .next(PodEvent::Stopped)
            .map_err(|error| EngineError::step("change the state", format!("pod {}", pod.id), &error))?;
        pod.joined.clear();
        Ok((pod, None))
    }

    fn record_pod(&self, pod: &Pod) {
        if let Err(error) = self.shared.records.commit_pod(pod) {
            tracing::error!(pod = %pod.id, error = %chain(&error), "a pod's state could not be recorded");
        }
    }

    fn publish_pod(&self, pod: &Pod) {
        let pod = Arc::new(pod.clone());
        self.shared.board.publish(&pod.id.clone(), |view| {
            view.pods.insert(pod.id.clone(), pod);
        });
    }

    async fn recover_container(&self, driver: &mut Driver, container: Container) {
        let open = self.open.get(container.id.as_str()).copied();
        let unfinished = matches!(open, Some(Operation::Create | Operation::Remove));
        let recovered = if unfinished || container.state == ContainerState::Creating {
            self.forget_container(&container).await
        } else {
            self.take_over(driver, container.clone()).await
        };
        if let Err(error) = recovered {
            tell_unfinished(&error);
            self.keep_container(driver, container);
        }
    }

    async fn forget_container(&self, container: &Container) -> Result<()> {
        tracing::info!(container = %container.id, "undoing a container that was being made or removed");
        steps::remove_container(self.shared, &Arc::new(container.clone()), None).await?;
        self.shared
            .records
            .forget_container(&container.id)
            .map_err(|error| EngineError::step("forget", format!("container {}", container.id), &error))
    }

    async fn take_over(&self, driver: &mut Driver, container: Container) -> Result<()> {
        let (mut member, connection) = self.look_at_container(container).await?;
        member.start_again_at_boot();
        match member.container.state {
            ContainerState::Running { .. } => member.begin_probing(),
            _ => member.end_probing(),
        }
        let id = member.container.id.clone();
        if let Err(error) = self.shared.records.commit_container(&member.container) {
            tracing::error!(container = %id, error = %chain(&error), "a container's state could not be recorded");
        }
        self.show(driver, member, connection);
        driver.schedule(&id);
        driver.schedule_probe(&id);
        Ok(())
    }

    fn show(&self, driver: &mut Driver, member: Member, connection: Option<Connection>) {
        self.shared.board.publish(&member.container.pod, |view| member.publish(view));
        driver.adopt_member(member, connection);
    }

    /// The container in its true state, and the connection that will tell of its end if it runs and its monitor answers.
    async fn look_at_container(&self, container: Container) -> Result<(Member, Option<Connection>)> {
        let mut member = Member::of(container);
        let state = member.container.state.clone();
        match state {
            ContainerState::Running { pid, started_at_ns }
            | ContainerState::Paused { pid, started_at_ns } => {
                let state_dir = self.shared.paths.container(&member.container.id).state;
                if let Ok((process, connection)) = reach(pid, &state_dir).await {
                    member.process = Some(process);
                    self.look_at_freezer(&mut member).await?;
                    return Ok((member, connection));
                }
                self.end(&mut member, started_at_ns).await?;
            }
            // Without an outcome nobody was told that it succeeded, so it is undone; a program that had begun counts as
            // ended, since it must not run twice.
            ContainerState::Starting => self.end(&mut member, 0).await?,
            _ => {}
        }
        Ok((member, None))
    }

    /// A pause, or its end, may have been carried out without having been recorded.
    async fn look_at_freezer(&self, member: &mut Member) -> Result<()> {
        let paused = steps::is_paused(self.shared, &member.container).await?;
        match (&member.container.state, paused) {
            (ContainerState::Running { .. }, true) => member.apply(ContainerEvent::Paused),
            (ContainerState::Paused { .. }, false) => member.apply(ContainerEvent::Resumed),
            _ => Ok(()),
        }
    }

    /// Ends a container that has ended or must. Its monitor may be about to write down how, so that is looked at when the
    /// monitor is gone.
    /// `started_at_ns` is 0 where only the record can tell.
    async fn end(&self, member: &mut Member, started_at_ns: i64) -> Result<()> {
        let container = member.container.clone();
        let end = self.shared.blocking(move |shared| end_blocking(shared, &container)).await?;
        let started_at_ns = match &end {
            End::Recorded(record) if started_at_ns == 0 => record.started_at_ns,
            End::Recorded(_) | End::Lost | End::Untold => started_at_ns,
        };
        member.apply(ContainerEvent::Ended(steps::exit_of(&end, started_at_ns)))
    }
}

fn tell_unfinished(error: &EngineError) {
    tracing::error!(error = %chain(error), "what an earlier daemon left cannot be finished now; it is kept to be removed later");
}

fn end_blocking(shared: &Shared, container: &Container) -> Result<End> {
    steps::kill_cgroup(shared, &container.cgroup)?;
    let state_dir = shared.paths.container(&container.id).state;
    steps::await_monitor(None, &state_dir).map_err(|error| {
        EngineError::step("wait for the monitor", format!("container {}", container.id), &error)
    })?;
    Ok(recorded_end(&state_dir))
}

impl Driver {
    /// Whether it has a container without a pod whose end nobody has followed up.
    fn has_ended_alone(&self) -> bool {
        let ended = |member: &Member| matches!(member.container.state, ContainerState::Exited(_));
        let is_one = self.kind_is_one();
        is_one && self.has_something_to_give_back() && self.all_members(ended)
    }

    /// Takes over a pause process that outlived the daemon that started it.
    fn adopt_pause(&mut self, process: Arc<Process>, connection: Option<Connection>) {
        self.set_pause(process.clone());
        self.watch(Target::Pod, process, connection);
    }

    /// Takes over a container, with its running program if there is one.
    fn adopt_member(&mut self, member: Member, connection: Option<Connection>) {
        let id = member.container.id.clone();
        let process = member.process.clone();
        self.insert(member);
        if let Some(process) = process {
            self.watch(Target::Container(id), process, connection);
        }
    }
}

/// Removes what no record names: a power cut may have taken the last rows.
async fn sweep(shared: &Arc<Shared>) -> Result<()> {
    shared.blocking(sweep_blocking).await
}

/// Removes what an object that no record names has left.
type Sweep = fn(&Shared, &Id) -> Result<()>;

fn sweep_blocking(shared: &Shared) -> Result<()> {
    let view = shared.board.view();
    let snapshots = cleat_image::Snapshotter::list(&shared.snapshots)
        .map_err(|error| EngineError::step("list the writable layers", "the image store", &error))?;
    let containers = [shared.paths.containers(), shared.paths.containers_state()];
    let pods = [shared.paths.pods(), shared.paths.pods_state()];
    let orphans = |folders: &[std::path::PathBuf]| -> Result<Vec<Id>> {
        let mut names = Vec::new();
        for folder in folders {
            names.extend(
                entries(folder)
                    .map_err(|error| EngineError::step("list the folder", folder.display(), &error))?,
            );
        }
        Ok(names.into_iter().filter_map(|name| Id::try_from(name).ok()).collect())
    };
    let known = |id: &Id| view.containers.contains_key(id) || view.pods.contains_key(id);
    let mut lost = orphans(&containers)?;
    lost.extend(snapshots.into_iter().filter_map(|key| Id::try_from(key).ok()));
    let lost_containers = lost.into_iter().map(|id| (id, steps::sweep_container as Sweep));
    let lost_pods = orphans(&pods)?.into_iter().map(|id| (id, steps::sweep_pod as Sweep));
    for (id, sweep) in lost_containers.chain(lost_pods).filter(|(id, _)| !known(id)) {
        if let Err(error) = sweep(shared, &id) {
            tracing::warn!(error = %chain(&error), "what no record names cannot be removed; the next start tries again");
        }
    }
    Ok(())
}
