//! What happened to pods and containers, told in the order in which it was committed.
//!
//! Events are not sent by whoever changes something: they are what differs between the pictures before and after a
//! commit ([`super::view::Board`]), so that no change can be forgotten. Who subscribes is told everything from then on,
//! or that he was too slow: the buffer is bounded, and nobody's slowness costs anybody else.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::sync::broadcast;
use tokio_stream::Stream;
use tokio_stream::wrappers::BroadcastStream;
use tokio_stream::wrappers::errors::BroadcastStreamRecvError;

use super::container::{Container, ContainerState};
use super::health::Health;
use super::model::{Id, Joined, Kind};
use super::pod::{Pod, PodState};
use super::view::View;
use crate::time::now_ns;

/// How many events of containers without a pod are kept for who asks for those of the past, as dockerd does.
const KEPT: usize = 256;

/// How many events a subscriber may lag behind: a full node starting and ending all its containers.
const BUFFER: usize = 1024;

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EventKind {
    /// It exists.
    Created,
    /// Its program, or the pod's pause process, runs.
    Started,
    /// It has ended, or could not be started.
    Stopped,
    /// It is gone.
    Deleted,
    /// Its processes stand still.
    Paused,
    /// They go on.
    Resumed,
    /// It has another name.
    Renamed,
    /// A container without a pod has got a place in a network.
    Joined,
    /// It has it no longer.
    Left,
    /// A probe of its health has begun.
    ProbeBegan,
    /// A probe of its health is over.
    ProbeEnded,
    /// Its probes have made it something else: healthy, or not.
    HealthChanged,
}

/// Something that happened to a pod or container.
#[derive(Debug)]
pub(crate) struct Event {
    /// One more than that of the event before; begins anew with each daemon.
    pub sequence: u64,
    /// When it was committed, nanoseconds since the Unix epoch.
    pub at_ns: i64,
    /// What happened.
    pub kind: EventKind,
    /// The pod or container it happened to.
    pub subject: Id,
    /// The pod as it was right after it; of a removed pod, as it was last.
    pub pod: Arc<Pod>,
    /// The pod's containers right after it.
    pub containers: Vec<Arc<Container>>,
    /// The place in a network that came or went.
    pub place: Option<Joined>,
}

/// Numbers events and hands them to the subscribers.
pub(super) struct Announcer {
    sequence: u64,
    sender: broadcast::Sender<Arc<Event>>,
    /// The last events of containers without a pod, the oldest first.
    past: VecDeque<Arc<Event>>,
}

impl Default for Announcer {
    fn default() -> Self {
        Self { sequence: 0, sender: broadcast::Sender::new(BUFFER), past: VecDeque::new() }
    }
}

impl Announcer {
    /// Everything from now on.
    pub(super) fn subscribe(&self) -> Subscription {
        Subscription(BroadcastStream::new(self.sender.subscribe()))
    }

    /// What is kept of containers without a pod since `since_ns`, and everything from now on.
    pub(super) fn subscribe_since(&self, since_ns: i64) -> (Vec<Arc<Event>>, Subscription) {
        let past = self.past.iter().filter(|event| event.at_ns >= since_ns).cloned().collect();
        (past, self.subscribe())
    }

    /// Tells what a commit that concerned `pod` and its containers changed.
    pub(super) fn announce(&mut self, pod: &Id, before: &View, after: &View) {
        let Some(shown) = after.pods.get(pod).or_else(|| before.pods.get(pod)) else { return };
        let lives = changes(pod, before, after).into_iter().map(|(subject, kind)| (subject, kind, None));
        let places = place_changes(before.pods.get(pod), after.pods.get(pod));
        for (subject, kind, place) in lives.chain(places) {
            self.sequence += 1;
            let is_kept = matches!(&shown.config.kind, Kind::One { container, .. } if subject == *container);
            // Nobody listens: the number is taken nevertheless.
            if self.sender.receiver_count() == 0 && !is_kept {
                continue;
            }
            let event = Arc::new(Event {
                sequence: self.sequence,
                at_ns: now_ns(),
                kind,
                subject,
                pod: shown.clone(),
                containers: after.containers_of(pod).cloned().collect(),
                place,
            });
            if is_kept {
                if self.past.len() == KEPT {
                    self.past.pop_front();
                }
                self.past.push_back(event.clone());
            }
            if self.sender.send(event).is_err() {
                tracing::trace!("nobody listens");
            }
        }
    }
}

/// A subscriber's end: a stream that ends with the daemon. After [`Missed`] it goes on with what is left.
pub(crate) struct Subscription(BroadcastStream<Arc<Event>>);

/// A subscriber was too slow; this many events are lost to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0} events came faster than they were read and are lost; list the pods and containers, then subscribe again"
)]
pub(crate) struct Missed(pub(crate) u64);

impl Stream for Subscription {
    type Item = Result<Arc<Event>, Missed>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let next = Pin::new(&mut self.0).poll_next(context);
        next.map_err(|BroadcastStreamRecvError::Lagged(count)| Missed(count))
    }
}

/// How far something that readers see has come in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Absent,
    Made,
    Running,
    Paused,
    Ended,
}

/// What happened to `pod` and to each of its containers between two pictures, containers' ends before the pod's, its
/// beginning before theirs.
fn changes(pod: &Id, before: &View, after: &View) -> Vec<(Id, EventKind)> {
    let of_pod = between(pod_phase(before.pods.get(pod)), pod_phase(after.pods.get(pod)));
    let told = |id: &Id, kinds: &'static [EventKind]| {
        let id = id.clone();
        kinds.iter().map(move |kind| (id.clone(), *kind))
    };
    let gone = before.containers_of(pod).filter(|container| !after.containers.contains_key(&container.id));
    let ids = gone.chain(after.containers_of(pod)).map(|container| &container.id);
    let of_containers =
        ids.flat_map(|id| told(id, of_container(before.containers.get(id), after.containers.get(id))));
    let begins = of_pod.first() == Some(&EventKind::Created);
    let (first, last) = if begins { (of_pod, [].as_slice()) } else { ([].as_slice(), of_pod) };
    told(pod, first).chain(of_containers).chain(told(pod, last)).collect()
}

/// The places in networks that a container without a pod has lost or got.
fn place_changes(
    before: Option<&Arc<Pod>>,
    after: Option<&Arc<Pod>>,
) -> Vec<(Id, EventKind, Option<Joined>)> {
    let Some(Kind::One { container, .. }) = after.or(before).map(|group| &group.config.kind) else {
        return Vec::new();
    };
    fn places(group: Option<&Arc<Pod>>) -> &[Joined] {
        group.map_or(&[], |group| &group.joined)
    }
    let (old, new) = (places(before), places(after));
    let without = |all: &[Joined], others: &[Joined], kind| {
        let only = all.iter().filter(|place| others.iter().all(|other| other.endpoint != place.endpoint));
        only.map(|place| (container.clone(), kind, Some(place.clone()))).collect::<Vec<_>>()
    };
    [without(old, new, EventKind::Left), without(new, old, EventKind::Joined)].concat()
}

fn of_container(before: Option<&Arc<Container>>, after: Option<&Arc<Container>>) -> &'static [EventKind] {
    match (before, after) {
        (Some(old), Some(new)) if old.config.name != new.config.name => &[EventKind::Renamed],
        // Whatever else changes a container's health is told as itself: a start, a pause, an end.
        (Some(old), Some(new)) if phase(before) == Phase::Running && phase(after) == Phase::Running => {
            of_health(old.health.as_ref(), new.health.as_ref())
        }
        _ => between(phase(before), phase(after)),
    }
}

/// What happened to the health of a container that went on running.
fn of_health(before: Option<&Health>, after: Option<&Health>) -> &'static [EventKind] {
    let (Some(before), Some(after)) = (before, after) else { return &[] };
    match (&before.probe, &after.probe) {
        (None, Some(_)) => &[EventKind::ProbeBegan],
        (Some(_), None) if before.status == after.status => &[EventKind::ProbeEnded],
        (Some(_), None) => &[EventKind::ProbeEnded, EventKind::HealthChanged],
        _ => &[],
    }
}

fn pod_phase(pod: Option<&Arc<Pod>>) -> Phase {
    match pod.map(|pod| &pod.state) {
        None => Phase::Absent,
        Some(PodState::Creating) => Phase::Made,
        Some(PodState::Ready { .. }) => Phase::Running,
        Some(PodState::NotReady | PodState::Removing) => Phase::Ended,
    }
}

fn phase(container: Option<&Arc<Container>>) -> Phase {
    match container.map(|container| &container.state) {
        None => Phase::Absent,
        Some(ContainerState::Creating | ContainerState::Created | ContainerState::Starting) => Phase::Made,
        Some(ContainerState::Running { .. }) => Phase::Running,
        Some(ContainerState::Paused { .. }) => Phase::Paused,
        Some(ContainerState::Exited(_)) => Phase::Ended,
    }
}

/// What has to have happened between two phases. Nothing goes back but a container that is started again.
fn between(before: Phase, after: Phase) -> &'static [EventKind] {
    use EventKind::{Created, Deleted, Started, Stopped};
    use Phase::{Absent, Ended, Made, Paused, Running};
    match (before, after) {
        (Absent, Made) => &[Created],
        (Absent, Running) => &[Created, Started],
        (Absent, Paused) => &[Created, Started, EventKind::Paused],
        (Absent, Ended) => &[Created, Stopped],
        (Made | Ended, Running) => &[Started],
        (Made | Ended, Paused) => &[Started, EventKind::Paused],
        (Running, Paused) => &[EventKind::Paused],
        (Paused, Running) => &[EventKind::Resumed],
        (Made | Running | Paused, Ended) => &[Stopped],
        (Running | Paused, Absent) => &[Stopped, Deleted],
        (Made | Ended, Absent) => &[Deleted],
        (Running | Paused | Ended, Made)
        | (Absent, Absent)
        | (Made, Made)
        | (Running, Running)
        | (Paused, Paused)
        | (Ended, Ended) => &[],
    }
}

#[cfg(test)]
mod tests {
    use tokio_stream::StreamExt;

    use super::*;

    fn pod(id: &Id, state: PodState) -> Arc<Pod> {
        Arc::new(crate::engine::pod::sample(id, state))
    }

    fn picture(pods: &[Arc<Pod>]) -> View {
        let pods = pods.iter().map(|pod| (pod.id.clone(), pod.clone())).collect();
        View { pods, ..View::default() }
    }

    #[test]
    fn every_way_through_life_is_told_whole() {
        use EventKind::{Created, Deleted, Paused, Resumed, Started, Stopped};
        use Phase::{Absent, Ended, Made, Running};
        for (way, told) in [
            (&[Absent, Made, Running, Ended, Absent][..], &[Created, Started, Stopped, Deleted][..]),
            (&[Absent, Running, Absent], &[Created, Started, Stopped, Deleted]),
            (&[Absent, Made, Made, Ended, Absent], &[Created, Stopped, Deleted]),
            (&[Absent, Made, Absent], &[Created, Deleted]),
            (&[Running, Phase::Paused, Running, Phase::Paused, Ended], &[Paused, Resumed, Paused, Stopped]),
        ] {
            let steps = way.windows(2).flat_map(|pair| between(pair[0], pair[1]));
            assert_eq!(steps.copied().collect::<Vec<_>>(), told, "{way:?}");
        }
    }

    #[test]
    fn probes_are_told_while_the_container_runs() {
        use crate::engine::health::{HealthStatus, ProbeEnd, tests::result};
        use EventKind::{HealthChanged, ProbeBegan, ProbeEnded, Stopped};
        let id = Id::random().unwrap();
        let running = ContainerState::Running { pid: 7, started_at_ns: 0 };
        let with = |state: &ContainerState, status, probe: Option<&Id>| {
            let health = Health { status, probe: probe.cloned(), ..Health::begin(None) };
            let container = crate::engine::container::sample(&id, &id);
            Some(Arc::new(Container { state: state.clone(), health: Some(health), ..container }))
        };
        let (starting, healthy) = (HealthStatus::Starting, HealthStatus::Healthy);
        let probe = result(ProbeEnd::Exited(0), 1).id;
        let idle = with(&running, starting, None);
        let probed = with(&running, starting, Some(&probe));
        let well = with(&running, healthy, None);
        let ended = with(&ContainerState::Created, HealthStatus::Unhealthy, None);
        for (before, after, told) in [
            (&idle, &probed, &[ProbeBegan][..]),
            (&probed, &idle, &[ProbeEnded]),
            (&probed, &well, &[ProbeEnded, HealthChanged]),
            (&well, &well, &[]),
        ] {
            assert_eq!(of_container(before.as_ref(), after.as_ref()), told);
        }
        // What an end cuts short has no end of its own.
        assert_eq!(of_container(probed.as_ref(), None)[..1], [Stopped]);
        assert_eq!(of_container(probed.as_ref(), ended.as_ref()), []);
    }

    #[tokio::test]
    async fn subscribers_get_numbers_without_a_gap_and_the_last_state_of_what_is_gone() {
        let (id, mut announcer) = (Id::random().unwrap(), Announcer::default());
        let (nothing, up) = (picture(&[]), picture(&[pod(&id, PodState::Ready { pause_pid: Some(7) })]));
        let mut all = announcer.subscribe();
        announcer.announce(&id, &nothing, &up);
        announcer.announce(&id, &up, &up);
        announcer.announce(&id, &up, &nothing);
        for (number, kind) in
            (1..).zip([EventKind::Created, EventKind::Started, EventKind::Stopped, EventKind::Deleted])
        {
            let event = all.next().await.unwrap().unwrap();
            assert_eq!((event.sequence, event.kind, &event.subject), (number, kind, &id));
            assert_eq!(event.pod.state, PodState::Ready { pause_pid: Some(7) });
        }
        drop(announcer);
        assert!(all.next().await.is_none());
    }

    #[test]
    fn the_last_events_of_containers_without_a_pod_are_kept() {
        let (id, container, mut announcer) =
            (Id::random().unwrap(), Id::random().unwrap(), Announcer::default());
        let mut group = Pod::clone(&pod(&id, PodState::NotReady));
        group.config.kind = Kind::One { container: container.clone(), auto_remove: false };
        let member = crate::engine::container::sample(&container, &id);
        let mut up = picture(&[Arc::new(group)]);
        up.containers.insert(container.clone(), Arc::new(member));
        let nothing = picture(&[]);
        for _ in 0..KEPT {
            announcer.announce(&id, &nothing, &up);
        }
        let (past, _) = announcer.subscribe_since(0);
        assert_eq!(past.len(), KEPT);
        assert!(past.iter().all(|event| event.subject == container));
        assert!(announcer.subscribe_since(i64::MAX).0.is_empty());
    }

    #[test]
    fn places_in_networks_come_and_go() {
        let (id, container) = (Id::random().unwrap(), Id::random().unwrap());
        let group = |names: &[(&str, &Id)]| {
            let mut group = Pod::clone(&pod(&id, PodState::NotReady));
            group.config.kind = Kind::One { container: container.clone(), auto_remove: false };
            let place = |(name, endpoint): &(&str, &Id)| Joined {
                network: None,
                name: (*name).to_owned(),
                endpoint: (*endpoint).clone(),
                interface: "eth0".to_owned(),
                mac: None,
                addresses: Vec::new(),
                gateways: Vec::new(),
            };
            group.joined = names.iter().map(place).collect();
            Arc::new(group)
        };
        let [one, two] = [(); 2].map(|()| Id::random().unwrap());
        let told = |before: Option<&Arc<Pod>>, after: Option<&Arc<Pod>>| {
            let all = place_changes(before, after);
            all.into_iter().map(|(_, kind, place)| (kind, place.unwrap().name)).collect::<Vec<_>>()
        };
        let (none, a, ab) = (group(&[]), group(&[("a", &one)]), group(&[("a", &one), ("b", &two)]));
        assert_eq!(
            told(Some(&none), Some(&ab)),
            [(EventKind::Joined, "a".into()), (EventKind::Joined, "b".into())]
        );
        assert_eq!(told(Some(&ab), Some(&a)), [(EventKind::Left, "b".into())]);
        let anew = group(&[("a", &two)]);
        assert_eq!(
            told(Some(&a), Some(&anew)),
            [(EventKind::Left, "a".into()), (EventKind::Joined, "a".into())]
        );
        assert_eq!(told(Some(&a), None), [(EventKind::Left, "a".into())]);
        assert!(told(None, Some(&none)).is_empty() && told(Some(&ab), Some(&ab)).is_empty());
    }

    #[tokio::test]
    async fn who_is_too_slow_is_told_how_much_is_lost() {
        let (id, mut announcer) = (Id::random().unwrap(), Announcer::default());
        let (nothing, up) = (picture(&[]), picture(&[pod(&id, PodState::NotReady)]));
        let mut slow = announcer.subscribe();
        for _ in 0..BUFFER {
            announcer.announce(&id, &nothing, &up);
        }
        assert_eq!(slow.next().await.unwrap().unwrap_err(), Missed(BUFFER as u64));
        assert_eq!(slow.next().await.unwrap().unwrap().sequence, BUFFER as u64 + 1);
    }
}
