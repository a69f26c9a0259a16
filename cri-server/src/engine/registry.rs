//! Which pods there are, and who drives them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::driver::{Command, Driver, Inbox, Reply, Target, Verb};
use super::error::{EngineError, Result};
use super::model::{Id, Kind, PodConfig, PodName, PodResources};
use super::pod::{Pod, PodState};
use super::shared::Shared;
use crate::time::now_ns;

/// All drivers, by pod id, and the pods' names.
#[derive(Default)]
pub(super) struct Registry {
    inner: Mutex<Inner>,
    closing: CancellationToken,
}

#[derive(Default)]
struct Inner {
    inboxes: HashMap<Id, Inbox>,
    names: HashMap<PodName, (Id, PodConfig)>,
    tasks: tokio::task::JoinSet<()>,
}

impl Registry {
    /// Has a driver serve a pod.
    pub(super) fn adopt(&self, (driver, inbox): (Driver, Inbox), pod: &Pod) {
        self.lock().adopt(driver, inbox, pod);
    }

    /// Has `task` done beside the drivers' work; waited for with them.
    pub(super) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.lock().tasks.spawn(task);
    }

    /// What tells the drivers that the daemon is about to end.
    pub(super) fn closing(&self) -> CancellationToken {
        self.closing.clone()
    }

    /// Makes a pod, or joins the making of the one that has this name and configuration.
    pub(super) async fn run_pod(self: &Arc<Self>, shared: &Arc<Shared>, config: PodConfig) -> Result<Id> {
        let (reply, outcome) = oneshot::channel();
        let inbox = self.inbox_for(shared, config)?;
        submit(&inbox, Target::Pod, Verb::RunPod, reply);
        wait(outcome).await.unwrap_or_else(|| Err(ended("the pod was removed while it was being made")))
    }

    /// Makes a group of one that holds nothing yet; its container is prepared next.
    pub(super) fn add_one(self: &Arc<Self>, shared: &Arc<Shared>, config: PodConfig) -> Result<Id> {
        let mut inner = self.lock();
        inner.check_free(&config.name)?;
        let mut pod = new_pod(shared, config)?;
        pod.state = PodState::NotReady;
        pod.config.log_directory = Some(shared.paths.pod(&pod.id).logs());
        let id = pod.id.clone();
        let failed = |error| EngineError::step("write down", format!("group {id}"), &error);
        shared.records.commit_pod(&pod).map_err(failed)?;
        let (driver, inbox) = Driver::new(shared.clone(), self, pod.clone());
        inner.adopt(driver, inbox, &pod);
        let published = Arc::new(pod);
        shared.board.publish(&id, |view| {
            view.pods.insert(published.id.clone(), published.clone());
        });
        Ok(id)
    }

    /// Takes a further name for a group of one; asked for by its driver, which gives back the one that it no longer has.
    pub(super) fn take_name(&self, group: &Pod, name: &str) -> Result<PodName> {
        let name = PodName { name: name.to_owned(), ..group.config.name.clone() };
        let mut inner = self.lock();
        inner.check_free(&name)?;
        inner.names.insert(name.clone(), (group.id.clone(), group.config.clone()));
        Ok(name)
    }

    /// `name` is not the pod's any more.
    pub(super) fn forget_name(&self, id: &Id, name: &PodName) {
        let mut inner = self.lock();
        if inner.names.get(name).is_some_and(|(known, _)| known == id) {
            inner.names.remove(name);
        }
    }

    /// The way to the driver of the pod with this name; a new one's when there is none. One lock from the look to the
    /// entry: two requests for one name mean one pod.
    fn inbox_for(self: &Arc<Self>, shared: &Arc<Shared>, config: PodConfig) -> Result<Inbox> {
        let mut inner = self.lock();
        if let Some((id, present)) = inner.names.get(&config.name)
            && let Some(inbox) = inner.inboxes.get(id)
        {
            if *present == config {
                return Ok(inbox.clone());
            }
            let name =
                format!("{}/{} (attempt {})", config.name.namespace, config.name.name, config.name.attempt);
            return Err(EngineError::Exists { kind: "pod", name, id: id.clone() });
        }
        let pod = new_pod(shared, config)?;
        let (driver, inbox) = Driver::new(shared.clone(), self, pod.clone());
        inner.adopt(driver, inbox.clone(), &pod);
        Ok(inbox)
    }

    /// Asks a pod's driver for something; `None` when there is no such pod (any more).
    pub(super) async fn ask(&self, pod: &Id, target: Target, verb: Verb) -> Option<Result<Id>> {
        let (reply, outcome) = oneshot::channel();
        submit(&self.inbox(pod)?, target, verb, reply);
        wait(outcome).await
    }

    /// Sends a driver a command that answers to the receiver returned; `None` when there is no such pod.
    pub(super) async fn command(
        &self,
        pod: &Id,
        command: impl FnOnce(Reply) -> Command,
    ) -> Option<Result<Id>> {
        let (reply, outcome) = oneshot::channel();
        if self.inbox(pod)?.send(command(reply)).is_err() {
            return None;
        }
        wait(outcome).await
    }

    /// A pod is gone.
    pub(super) fn forget(&self, id: &Id, name: &PodName) {
        self.lock().inboxes.remove(id);
        self.forget_name(id, name);
    }

    /// Takes no more requests and waits until every driver has finished what is under way.
    pub(super) async fn drain(&self) {
        self.closing.cancel();
        let mut tasks = std::mem::take(&mut self.lock().tasks);
        while tasks.join_next().await.is_some() {}
    }

    fn inbox(&self, id: &Id) -> Option<Inbox> {
        self.lock().inboxes.get(id).cloned()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        while inner.tasks.try_join_next().is_some() {}
        inner
    }
}

impl Inner {
    /// Refuses a name of a group of one that another one has.
    fn check_free(&self, name: &PodName) -> Result<()> {
        let Some((id, present)) = self.names.get(name) else { return Ok(()) };
        let id = match &present.kind {
            Kind::One { container, .. } => container.clone(),
            Kind::Pod => id.clone(),
        };
        Err(EngineError::Exists { kind: "container", name: name.name.clone(), id })
    }

    fn adopt(&mut self, driver: Driver, inbox: Inbox, pod: &Pod) {
        self.names.insert(pod.config.name.clone(), (pod.id.clone(), pod.config.clone()));
        self.inboxes.insert(pod.id.clone(), inbox);
        self.tasks.spawn(driver.run());
    }
}

/// A pod that is to be made.
fn new_pod(shared: &Shared, config: PodConfig) -> Result<Pod> {
    let id = Id::random().map_err(|error| EngineError::step("make an id", "a pod", &error))?;
    let driver = shared.settings.cgroup_driver;
    let parent = config.cgroup_parent.as_deref();
    let cgroup =
        driver.of_pod(parent, &shared.settings.cgroup_parent, &id).ok_or_else(|| EngineError::Invalid {
            what: format!("cgroup parent {:?}", parent.unwrap_or_default()),
            why: format!(
                "the cgroup driver here is {}; let the kubelet's `cgroupDriver` agree with `cgroup.driver`",
                driver.name()
            ),
        })?;
    shared.settings.runtime(&config.runtime_handler)?;
    Ok(Pod {
        id,
        config,
        resized: PodResources::default(),
        created_at_ns: now_ns(),
        cgroup,
        addresses: Vec::new(),
        joined: Vec::new(),
        ports: Vec::new(),
        state: PodState::Creating,
    })
}

fn submit(inbox: &Inbox, target: Target, verb: Verb, reply: Reply) {
    // A driver that has ended drops the reply with the command: the caller sees that as "no such pod".
    if inbox.send(Command::Do { target, verb, reply }).is_err() {
        tracing::debug!("a request came after its pod was gone");
    }
}

async fn wait(outcome: oneshot::Receiver<Result<Id>>) -> Option<Result<Id>> {
    outcome.await.ok()
}

fn ended(why: &'static str) -> EngineError {
    EngineError::Cancelled { what: "the creation of a pod".to_owned(), why }
}
