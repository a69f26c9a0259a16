//! Containers without a pod: groups of one, known by a name of their own.
//!
//! ```text
//!  create ──▶ group (a row), container prepared       nothing of it runs, nothing of it is mounted
//!  start  ──▶ network, /dev/shm, files ─▶ program     the same steps as a pod's, without a pause
//!  end    ──▶ network given back, or all removed      by the group's driver
//! ```

use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use cleat_image::ChangeKind;
use cleat_sys::cgroup::Cgroup;
use nix::sys::signal::Signal;
use oci_spec::runtime::Spec;
use tokio::sync::oneshot;

use super::Engine;
use super::attach::attach_session;
use super::container::{Container, ContainerState};
use super::driver::{Command, Reply, Target, Verb};
use super::error::{EngineError, Result};
use super::model::{ContainerConfig, Id, Kind, Mode, Place, PlaceIn, PodConfig, PodName, RestartPolicy};
use super::pod::Pod;
use super::restart::Wanted;
use super::session::{Session, Streams};
use super::waiting::Early;

/// What all groups of one have for the Kubernetes namespace, which no pod can have: it is no DNS label.
const NAMESPACE: &str = "/";

/// A container without a pod, at one moment.
#[derive(Clone, Debug)]
pub(crate) struct One {
    /// Its group.
    pub group: Arc<Pod>,
    /// The container.
    pub container: Arc<Container>,
}

impl One {
    /// Its name.
    pub(crate) fn name(&self) -> &str {
        &self.group.config.name.name
    }
}

/// What an early or late client gets its streams from.
pub(crate) enum Attachment {
    /// The program runs.
    Now(Session),
    /// It does not: the session comes when it is about to be executed.
    Later(oneshot::Receiver<Result<Session>>),
}

impl Engine {
    /// Prepares a container called `name`, which nobody else may have. `group` and `config` need no names.
    pub(crate) async fn create_one(
        &self,
        name: &str,
        auto_remove: bool,
        group: PodConfig,
        config: ContainerConfig,
    ) -> Result<Id> {
        let id = Id::random().map_err(|error| EngineError::step("make an id", "a container", &error))?;
        let hostname = match group.namespaces.uts {
            Mode::Node => self.shared.host.hostname.clone(),
            Mode::Pod if group.hostname.is_empty() => id.short().to_owned(),
            Mode::Pod => group.hostname.clone(),
        };
        let group = PodConfig {
            name: PodName { name: name.to_owned(), namespace: NAMESPACE.to_owned(), ..PodName::default() },
            kind: Kind::One { container: id, auto_remove },
            hostname,
            ..group
        };
        let config = ContainerConfig { name: name.to_owned(), takes_volumes_along: auto_remove, ..config };
        let mounted = config.clone();
        let claim = self.shared.blocking(move |shared| shared.volumes.claim(&mounted)).await?;
        let (mounted, created) = (config.clone(), self.create_group(group, config).await);
        drop(claim);
        if created.is_err() {
            self.shared.blocking(move |shared| shared.remove_anonymous(&mounted, None)).await?;
        }
        created
    }

    async fn create_group(&self, group: PodConfig, config: ContainerConfig) -> Result<Id> {
        let group = self.registry.add_one(&self.shared, group)?;
        let command = |reply| Command::Create { config: Box::new(config), reply };
        let created = self.registry.command(&group, command).await;
        let created = created.unwrap_or_else(|| Err(super::gone("container", &group)));
        if created.is_err() {
            self.remove_pod(&group).await?;
        }
        created
    }

    /// All of them, by id.
    pub(crate) fn ones(&self) -> Vec<One> {
        let view = self.view();
        let one = |container: &Arc<Container>| {
            let group = view.pods.get(&container.pod).filter(|group| group.config.kind.is_one())?;
            Some(One { group: group.clone(), container: container.clone() })
        };
        view.containers.values().filter_map(one).collect()
    }

    /// The one with this id, name, or unique start of an id.
    pub(crate) fn one(&self, name: &str) -> Result<One> {
        let mut all = self.ones();
        let missing = || EngineError::NotFound { kind: "container", name: name.to_owned(), list: "ps -a" };
        if name.is_empty() {
            return Err(missing());
        }
        let exact = all.iter().position(|one| one.container.id.as_str() == name || one.name() == name);
        if let Some(at) = exact {
            return Ok(all.swap_remove(at));
        }
        let mut fitting = all.into_iter().filter(|one| one.container.id.as_str().starts_with(name));
        match (fitting.next(), fitting.next()) {
            (Some(one), None) => Ok(one),
            (None, _) => Err(missing()),
            _ => Err(EngineError::Ambiguous { kind: "container", prefix: name.to_owned() }),
        }
    }

    /// Starts it, the first time or again. One that removes itself does so too where not even its network could be made:
    /// its program has no end that would be followed up.
    pub(crate) async fn start_one(&self, one: &One) -> Result<()> {
        let gone = || Err(super::gone("container", &one.container.id));
        self.want(one, Wanted::Up).await?;
        let up = self.registry.ask(&one.group.id, Target::Pod, Verb::RunPod).await;
        if let Err(error) = up.unwrap_or_else(gone) {
            if matches!(one.group.config.kind, Kind::One { auto_remove: true, .. }) {
                self.remove_pod(&one.group.id).await?;
            }
            return Err(error);
        }
        let target = Target::Container(one.container.id.clone());
        self.registry.ask(&one.group.id, target, Verb::Start).await.unwrap_or_else(gone).map(drop)
    }

    /// Removes it, killing it first; `with_volumes` also those of its volumes that nobody has named.
    pub(crate) async fn remove_one(&self, one: &One, with_volumes: bool) -> Result<()> {
        self.remove_pod(&one.group.id).await?;
        if !with_volumes {
            return Ok(());
        }
        let container = one.container.clone();
        self.shared.blocking(move |shared| shared.remove_anonymous(&container.config, None)).await
    }

    /// Notes that its user wants it to run, or not to; without a policy, now or before, nothing depends on it.
    async fn want(&self, one: &One, wanted: Wanted) -> Result<()> {
        let restarts = &one.container.restarts;
        if restarts.policy == RestartPolicy::No && restarts.count == 0 {
            return Ok(());
        }
        self.note(one, |reply| Command::Want { wanted, reply }).await
    }

    /// Has it started again by itself by `policy` from now on.
    pub(crate) async fn set_restart_policy(&self, one: &One, policy: RestartPolicy) -> Result<()> {
        self.note(one, |reply| Command::Policy { policy, reply }).await
    }

    async fn note(&self, one: &One, command: impl FnOnce(Reply) -> Command) -> Result<()> {
        let noted = self.registry.command(&one.group.id, command).await;
        noted.unwrap_or_else(|| Err(super::gone("container", &one.container.id))).map(drop)
    }

    /// Asks it to end, by `signal` in place of its own, and kills it after `grace`. One that does not run is fine, and
    /// is not started again.
    pub(crate) async fn stop_one(&self, one: &One, grace: Duration, signal: Option<i32>) -> Result<()> {
        self.want(one, Wanted::Down).await?;
        self.ask_container(&one.container.id, Verb::Stop { grace, signal }).await
    }

    /// Gives it a place in a network: now, if it runs, and whenever it runs.
    pub(crate) async fn connect_one(&self, one: &One, place: Place) -> Result<()> {
        self.change_places(one, Verb::Join(place)).await
    }

    /// Takes its place in a network away.
    pub(crate) async fn disconnect_one(&self, one: &One, network: PlaceIn) -> Result<()> {
        self.change_places(one, Verb::Leave(network)).await
    }

    async fn change_places(&self, one: &One, verb: Verb) -> Result<()> {
        let changed = self.registry.ask(&one.group.id, Target::Pod, verb).await;
        changed.unwrap_or_else(|| Err(super::gone("container", &one.container.id))).map(drop)
    }

    /// Makes its processes stand still.
    pub(crate) async fn pause_one(&self, one: &One) -> Result<()> {
        self.ask_container(&one.container.id, Verb::Pause).await
    }

    /// Lets its processes go on.
    pub(crate) async fn resume_one(&self, one: &One) -> Result<()> {
        self.ask_container(&one.container.id, Verb::Resume).await
    }

    /// Calls it `name`, which nobody else may have.
    pub(crate) async fn rename_one(&self, one: &One, name: &str) -> Result<()> {
        self.note(one, |reply| Command::Rename { name: name.to_owned(), reply }).await
    }

    /// Sends it a signal, which ends a pause. One that is to end it is a stop.
    pub(crate) async fn signal_one(&self, one: &One, signal: i32) -> Result<()> {
        let (container, process) = self.running(&one.container.id, "send a signal to")?;
        if signal == Signal::SIGKILL as i32 || signal == container.stop_signal {
            self.want(one, Wanted::Down).await?;
        }
        let object = || format!("container {}", container.id);
        process.signal(signal).map_err(|error| EngineError::step("send a signal", object(), &error))?;
        match container.state {
            ContainerState::Paused { .. } => match self.resume_one(one).await {
                // A killed one may end while it stands still (cgroup v2).
                Err(EngineError::WrongState { .. }) => Ok(()),
                resumed => resumed,
            },
            _ => Ok(()),
        }
    }

    /// Attaches a client, which may come before the program.
    pub(crate) async fn attach_one(
        &self,
        one: &One,
        streams: Streams,
        stall_limit: Option<Duration>,
    ) -> Result<Attachment> {
        let id = &one.container.id;
        if one.container.state.pid().is_some() {
            return self.attach(id, streams, stall_limit).await.map(Attachment::Now);
        }
        let (reply, session) = oneshot::channel();
        let early = Early { streams, stall_limit, reply };
        if let Some((_, process)) = self.shared.waiting.client(id, early) {
            let container = &one.container;
            let session = attach_session(&self.shared, container, &process, streams, stall_limit).await;
            return session.map(Attachment::Now);
        }
        self.tell_if_gone(one);
        Ok(Attachment::Later(session))
    }

    /// Gets the exit code of its next end.
    pub(crate) fn next_end(&self, one: &One) -> oneshot::Receiver<i32> {
        let end = self.shared.waiting.next_end(&one.container.id);
        self.tell_if_gone(one);
        end
    }

    /// Gets the exit code of its last end when it is removed.
    pub(crate) fn removal(&self, one: &One) -> oneshot::Receiver<i32> {
        let removal = self.shared.waiting.removal(&one.container.id);
        self.tell_if_gone(one);
        removal
    }

    /// Looked at after the wait has begun: nobody waits for what was removed in between.
    fn tell_if_gone(&self, one: &One) {
        if !self.view().containers.contains_key(&one.container.id) {
            let code = match &one.container.state {
                ContainerState::Exited(exit) => exit.code,
                _ => 0,
            };
            self.shared.waiting.removed(&one.container.id, code);
        }
    }

    /// Its processes, in the daemon's pid namespace.
    pub(crate) async fn processes_of(&self, one: &One) -> Result<Vec<i32>> {
        let (container, _) = self.running(&one.container.id, "list the processes of")?;
        self.shared
            .blocking(move |shared| {
                let listed =
                    Cgroup::open(&shared.cgroups, &container.cgroup).and_then(|found| found.processes());
                listed.map_err(|error| {
                    EngineError::step("list the processes", format!("container {}", container.id), &error)
                })
            })
            .await
    }

    /// What its program has changed of the image: paths, absolute inside, in order. Mount points that its client has not
    /// asked for are none of its changes.
    pub(crate) async fn changes_of(&self, one: &One) -> Result<Vec<(Vec<u8>, ChangeKind)>> {
        let container = one.container.clone();
        self.shared
            .blocking(move |shared| {
                let object = || format!("container {}", container.id);
                let path = shared.paths.container(&container.id).config();
                let specification = Spec::load(&path)
                    .map_err(|error| EngineError::step("read the specification", path.display(), &error))?;
                let asked =
                    |path: &Path| container.config.mounts.iter().any(|mount| mount.destination == path);
                let ours = specification.mounts().iter().flatten().map(oci_spec::runtime::Mount::destination);
                let hidden =
                    ours.filter(|path| !asked(path)).map(|path| path.as_os_str().as_bytes().to_vec());
                let changes = shared.snapshots.changes(container.id.as_str(), &hidden.collect());
                changes.map_err(|error| EngineError::step("read the changes of", object(), &error))
            })
            .await
    }

    /// Sets the size of its terminal.
    pub(crate) async fn resize_one(&self, one: &One, size: super::TerminalSize) -> Result<()> {
        let (_, process) = self.running(&one.container.id, "resize the terminal of")?;
        super::Resizer::Container(process).resize(size).await
    }
}
