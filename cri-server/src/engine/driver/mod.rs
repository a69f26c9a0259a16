//! The driver: one task that owns a pod and its containers.
//!
//! It takes requests one by one, decides by the state tables and [`judge`], writes the intent down, has [`acts`] carried
//! out in tasks of their own, and commits and publishes their outcomes. So it never waits for anything but its inbox:
//! a hung start holds up no stop.
//!
//! - One operation at a time on one object. A request that asks for what is being done joins it; another one waits,
//!   and ends a start that it makes pointless.
//! - An operation on the pod waits until its containers are at rest, and holds up theirs.
//! - An end is committed and published before anybody who waits for it is woken.
mod acts;
mod again;
mod command;
mod commit;
mod health;
mod judge;
mod lane;
mod member;
mod networks;
mod outcome;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Weak};

use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

pub(super) use command::{Command, Reply, Target, Verb};
pub(super) use member::Member;

use super::container::ContainerState;
use super::error::{EngineError, Result};
use super::model::{ContainerConfig, Id, Kind, PidMode};
use super::monitor::Process;
use super::pod::{Pod, PodEvent, PodState};
use super::records::Operation;
use super::registry::Registry;
use super::shared::Shared;
use judge::Verdict;
use lane::{Lane, Running};
use outcome::Outcome;

/// How requests reach a driver.
pub(super) type Inbox = mpsc::UnboundedSender<Command>;

/// The task that owns one pod.
pub(super) struct Driver {
    shared: Arc<Shared>,
    registry: Weak<Registry>,
    pod: Arc<Pod>,
    pause: Option<Arc<Process>>,
    members: BTreeMap<Id, Member>,
    lanes: BTreeMap<Target, Lane>,
    operations: JoinSet<Outcome>,
    /// What has changed since it was last recorded, because recording it failed.
    unrecorded: BTreeSet<Target>,
    inbox: mpsc::UnboundedReceiver<Command>,
    /// For the tasks that watch for ends.
    own: Inbox,
    /// Says that the daemon is about to end.
    closing: CancellationToken,
    gone: bool,
}

impl Driver {
    /// A driver for `pod` and its way in. It does nothing until [`Self::run`].
    pub(super) fn new(shared: Arc<Shared>, registry: &Arc<Registry>, pod: Pod) -> (Self, Inbox) {
        let (sender, inbox) = mpsc::unbounded_channel();
        let driver = Self {
            shared,
            closing: registry.closing(),
            registry: Arc::downgrade(registry),
            pod: Arc::new(pod),
            pause: None,
            members: BTreeMap::new(),
            lanes: BTreeMap::new(),
            operations: JoinSet::new(),
            unrecorded: BTreeSet::new(),
            inbox,
            own: sender.clone(),
            gone: false,
        };
        (driver, sender)
    }

    /// Serves the pod until it is removed, or until the daemon is about to end and nothing is under way.
    pub(super) async fn run(mut self) {
        let closing = self.closing.clone();
        while !(self.gone || closing.is_cancelled()) || !self.operations.is_empty() {
            tokio::select! {
                biased;
                Some(finished) = self.operations.join_next() => self.finish(finished),
                Some(command) = self.inbox.recv() => self.take(command),
                () = Self::record_is_due(!self.unrecorded.is_empty()) => self.record_again(),
                () = closing.cancelled(), if !closing.is_cancelled() => {}
            }
        }
    }

    /// Whether this is a container without a pod.
    pub(super) fn kind_is_one(&self) -> bool {
        self.pod.config.kind.is_one()
    }

    /// Whether the end of its program leaves something to do.
    pub(super) fn has_something_to_give_back(&self) -> bool {
        let removes_itself = matches!(self.pod.config.kind, Kind::One { auto_remove: true, .. });
        removes_itself || matches!(self.pod.state, PodState::Ready { .. })
    }

    /// Whether `is` is true of all its containers.
    pub(super) fn all_members(&self, is: impl Fn(&Member) -> bool) -> bool {
        self.members.values().all(is)
    }

    /// The pod's pause process runs.
    pub(super) fn set_pause(&mut self, process: Arc<Process>) {
        self.pause = Some(process);
    }

    /// The pod has this container.
    pub(super) fn insert(&mut self, member: Member) {
        self.members.insert(member.container.id.clone(), member);
    }

    fn take(&mut self, command: Command) {
        match command {
            Command::Do { target, verb, reply } => self.request(target, verb, reply),
            Command::Create { config, reply } => match self.admit(*config) {
                Ok(id) => self.request(Target::Container(id), Verb::Create, reply),
                Err(error) => answer(reply, Err(error)),
            },
            Command::Rename { name, reply } => {
                let noted = self.rename(&name);
                answer(reply, noted.map(|()| self.pod.id.clone()));
            }
            Command::Want { wanted, reply } => {
                let noted = self.want(wanted);
                answer(reply, noted.map(|()| self.pod.id.clone()));
            }
            Command::Policy { policy, reply } => {
                let noted = self.set_policy(policy);
                answer(reply, noted.map(|()| self.pod.id.clone()));
            }
            Command::Again { container, count } => self.start_again(&container, count),
            Command::Probe { container } => self.probe(&container),
            Command::Probed { container, result } => self.probed(&container, result),
            Command::Resize { change, reply } => {
                let outcome = self.resize(&change).map(|()| self.pod.id.clone());
                answer(reply, outcome);
            }
            Command::Ended { target, end } => self.ended(&target, &end),
        }
    }

    /// Takes a request up: joins it to what is being done, lets it wait, answers it, or begins it.
    fn request(&mut self, target: Target, verb: Verb, reply: Reply) {
        if self.closing.is_cancelled() {
            let what = "a request".to_owned();
            return answer(reply, Err(EngineError::Cancelled { what, why: "the daemon is being stopped" }));
        }
        let lane = self.lanes.entry(target.clone()).or_default();
        if let Some(running) = &mut lane.running {
            if judge::joins(&running.verb, &verb) {
                running.join(&verb, reply);
                return;
            }
            running.give_way_to(&verb);
            lane.waiting.push_back((verb, reply));
        } else if self.must_wait(&target) {
            self.supersede_members(&target, &verb);
            self.lanes.entry(target).or_default().waiting.push_back((verb, reply));
        } else {
            self.decide(target, verb, reply);
        }
    }

    /// The pod's operations and its containers' exclude one another.
    fn must_wait(&self, target: &Target) -> bool {
        match target {
            Target::Pod => self.lanes.values().any(|lane| lane.running.is_some()),
            Target::Container(_) => self.lanes.get(&Target::Pod).is_some_and(Lane::is_busy),
        }
    }

    fn supersede_members(&self, target: &Target, verb: &Verb) {
        if *target == Target::Pod {
            let running = self.lanes.values().filter_map(|lane| lane.running.as_ref());
            running.for_each(|running| running.give_way_to(verb));
        }
    }

    fn decide(&mut self, target: Target, verb: Verb, reply: Reply) {
        let verdict = match &target {
            Target::Pod => judge::pod(&self.pod, &verb),
            Target::Container(id) => match self.members.get(id) {
                Some(member) => judge::container(&self.pod, &member.container, &verb),
                None => Verdict::Refuse(Box::new(missing(id))),
            },
        };
        let verdict = match verdict {
            Verdict::Begin => self.check_companion(&target, &verb),
            settled => settled,
        };
        match verdict {
            Verdict::Begin => self.begin(target, verb, reply),
            Verdict::Done => answer(reply, Ok(self.id_of(&target))),
            Verdict::Refuse(error) => {
                self.forget_unborn(&target);
                answer(reply, Err(*error));
            }
        }
    }

    /// Refuses to start what was prepared to share the processes of a container that has ended since: the process id by
    /// which it would join them may be another's by now. A container without a pod looks for it at each start.
    fn check_companion(&self, target: &Target, verb: &Verb) -> Verdict {
        let (Target::Container(id), Verb::Start) = (target, verb) else { return Verdict::Begin };
        if self.kind_is_one() {
            return Verdict::Begin;
        }
        let member = self.members.get(id).map(|member| &member.container.config.pid);
        let Some(PidMode::Target(companion)) = member else { return Verdict::Begin };
        match self.members.get(companion).map(|member| &member.container.state) {
            Some(state) if state.pid().is_some() => Verdict::Begin,
            state => Verdict::Refuse(Box::new(EngineError::WrongState {
                action: "share the processes of",
                object: format!("container {companion}"),
                state: state.map_or("gone", ContainerState::name),
                remedy: "create another container that names one that runs",
            })),
        }
    }

    /// Writes the intent down and has it carried out.
    fn begin(&mut self, target: Target, verb: Verb, reply: Reply) {
        if let Err(error) = self.write_intent(&target, &verb) {
            self.forget_unborn(&target);
            return answer(reply, Err(error));
        }
        let running = Running::new(verb, reply, &self.shared.activity);
        let act = self.act(&target, &running);
        let task = self.operations.spawn(act);
        let lane = self.lanes.entry(target).or_default();
        lane.running = Some(running.with_task(task.id()));
    }

    /// What cannot be written down has not begun: the object stays what it was.
    fn write_intent(&mut self, target: &Target, verb: &Verb) -> Result<()> {
        let (operation, pod) = match (target, verb) {
            (Target::Pod, Verb::RunPod) => (Operation::RunPod, self.pod.clone()),
            (Target::Pod, Verb::StopPod) => (Operation::StopPod, self.pod.clone()),
            (Target::Pod, Verb::RemovePod) => {
                let state = self.next_pod_state(PodEvent::Remove)?;
                (Operation::RemovePod, Arc::new(Pod { state, ..Pod::clone(&self.pod) }))
            }
            (Target::Container(id), verb) => return self.write_member_intent(id, verb),
            (Target::Pod, _) => return Ok(()),
        };
        self.shared.records.begin_pod(&pod, operation).map_err(|error| {
            EngineError::step("write down the intent", format!("pod {}", self.pod.id), &error)
        })?;
        self.pod = pod;
        self.unrecorded.remove(target);
        Ok(())
    }

    /// A container the pod is to have: the one with this name, or a new one.
    fn admit(&mut self, config: ContainerConfig) -> Result<Id> {
        let same = |member: &&Member| {
            let known = &member.container.config;
            known.name == config.name && known.attempt == config.attempt
        };
        if let Some(member) = self.members.values().find(same) {
            let id = member.container.id.clone();
            if member.container.config == config {
                return Ok(id);
            }
            let name = format!("{} (attempt {})", config.name, config.attempt);
            return Err(EngineError::Exists { kind: "container", name, id });
        }
        let member = Member::new(&self.shared, &self.pod, config)?;
        let id = member.container.id.clone();
        self.members.insert(id.clone(), member);
        Ok(id)
    }

    fn id_of(&self, target: &Target) -> Id {
        match target {
            Target::Pod => self.pod.id.clone(),
            Target::Container(id) => id.clone(),
        }
    }

    /// Applies `change` to the pod's record in memory.
    fn change_pod(&mut self, change: impl FnOnce(&mut Pod)) {
        change(Arc::make_mut(&mut self.pod));
    }

    /// After an operation: what waited for it is taken up.
    fn resume(&mut self) {
        let targets: Vec<Target> = self.lanes.keys().cloned().collect();
        for target in targets {
            while let Some(lane) = self.lanes.get_mut(&target)
                && lane.running.is_none()
                && let Some((verb, reply)) = lane.waiting.pop_front()
            {
                if self.must_wait(&target) {
                    self.lanes.entry(target.clone()).or_default().waiting.push_front((verb, reply));
                    break;
                }
                self.request(target.clone(), verb, reply);
            }
        }
        self.lanes.retain(|_, lane| lane.is_busy());
    }
}

/// Tells the caller, if it still waits.
fn answer(reply: Reply, outcome: Result<Id>) {
    if reply.send(outcome).is_err() {
        tracing::debug!("a caller went away before its request was done");
    }
}

fn missing(id: &Id) -> EngineError {
    EngineError::NotFound { kind: "container", name: id.to_string(), list: "ps -a" }
}

fn missing_process(id: &Id) -> EngineError {
    EngineError::WrongState {
        action: "pause or resume",
        object: format!("container {id}"),
        state: "exited",
        remedy: "it ended meanwhile",
    }
}
