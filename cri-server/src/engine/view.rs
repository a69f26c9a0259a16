//! What readers see: an immutable picture of all pods and containers, replaced as a whole by the commit that changed
//! something. A read takes no lock, touches no disk and never waits behind an operation.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;

use super::container::Container;
use super::error::{EngineError, Result};
use super::events::{Announcer, Event, Subscription};
use super::model::Id;
use super::monitor::Process;
use super::pod::Pod;

/// What an object is looked up by.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Key<'a> {
    /// What a client of the CRI said: an id or the unique start of one. It never means a container without a pod or its
    /// group: those are not the kubelet's to act on.
    Said(&'a str),
    /// The id of an object that was found before, whatever its kind.
    Known(&'a Id),
}

impl<'a> From<&'a str> for Key<'a> {
    fn from(said: &'a str) -> Self {
        Self::Said(said)
    }
}

impl<'a> From<&'a Id> for Key<'a> {
    fn from(known: &'a Id) -> Self {
        Self::Known(known)
    }
}

/// All pods and containers at one moment, by id. Those still being created are absent: nobody was told their ids.
#[derive(Clone, Debug, Default)]
pub(crate) struct View {
    /// Pods.
    pub pods: BTreeMap<Id, Arc<Pod>>,
    /// Containers.
    pub containers: BTreeMap<Id, Arc<Container>>,
    /// The live handles of those that run.
    pub(super) processes: BTreeMap<Id, Arc<Process>>,
}

impl View {
    /// The pod that `key` means.
    ///
    /// # Errors
    /// [`EngineError::NotFound`] and [`EngineError::Ambiguous`].
    pub(crate) fn pod<'a>(&self, key: impl Into<Key<'a>>) -> Result<Arc<Pod>> {
        find(&self.pods, key.into(), ["pod", "pods"], |pod| !pod.config.kind.is_one())
    }

    /// The container that `key` means.
    ///
    /// # Errors
    /// [`EngineError::NotFound`] and [`EngineError::Ambiguous`].
    pub(crate) fn container<'a>(&self, key: impl Into<Key<'a>>) -> Result<Arc<Container>> {
        let in_pod = |container: &Container| {
            self.pods.get(&container.pod).is_some_and(|pod| !pod.config.kind.is_one())
        };
        find(&self.containers, key.into(), ["container", "ps -a"], in_pod)
    }

    /// The containers of a pod.
    pub(crate) fn containers_of<'a>(&'a self, pod: &'a Id) -> impl Iterator<Item = &'a Arc<Container>> {
        self.containers.values().filter(move |container| container.pod == *pod)
    }
}

fn find<T>(
    objects: &BTreeMap<Id, Arc<T>>,
    key: Key<'_>,
    [kind, list]: [&'static str; 2],
    is_of_pods: impl Fn(&T) -> bool,
) -> Result<Arc<T>> {
    let name = match key {
        Key::Said(name) => name,
        Key::Known(id) => id.as_str(),
    };
    let missing = || EngineError::NotFound { kind, name: name.to_owned(), list };
    if let Key::Known(id) = key {
        return objects.get(id).cloned().ok_or_else(missing);
    }
    if name.is_empty() {
        return Err(missing());
    }
    let fits = |(id, object): &(&Id, &Arc<T>)| id.as_str().starts_with(name) && is_of_pods(object);
    let mut fitting = objects.iter().filter(fits);
    match (fitting.next(), fitting.next()) {
        (Some((_, object)), None) => Ok(object.clone()),
        (None, _) => Err(missing()),
        (Some(_), Some(_)) => Err(EngineError::Ambiguous { kind, prefix: name.to_owned() }),
    }
}

/// The current [`View`], shared by readers and the drivers that replace it.
#[derive(Default)]
pub(crate) struct Board {
    view: ArcSwap<View>,
    /// Held while the picture is replaced, so that events are told in the order of the pictures. Readers never ask for it.
    announcer: Mutex<Announcer>,
}

impl Board {
    /// The current picture.
    pub(crate) fn view(&self) -> Arc<View> {
        self.view.load_full()
    }

    /// Everything that happens from now on.
    pub(crate) fn subscribe(&self) -> Subscription {
        self.announcer().subscribe()
    }

    /// What is kept of containers without a pod since `since_ns`, and everything from now on.
    pub(crate) fn subscribe_since(&self, since_ns: i64) -> (Vec<Arc<Event>>, Subscription) {
        self.announcer().subscribe_since(since_ns)
    }

    /// Replaces the picture by a changed copy, and tells the subscribers what that changed of `pod` and its containers.
    pub(crate) fn publish(&self, pod: &Id, change: impl FnOnce(&mut View)) {
        let mut announcer = self.announcer();
        let before = self.view.load_full();
        let mut after = View::clone(&before);
        change(&mut after);
        let after = Arc::new(after);
        self.view.store(after.clone());
        announcer.announce(pod, &before, &after);
    }

    fn announcer(&self) -> MutexGuard<'_, Announcer> {
        self.announcer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
