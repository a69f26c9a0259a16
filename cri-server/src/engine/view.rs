//! What readers see: an immutable picture of all pods and containers, replaced as a whole by the commit that changed
//! something. A read takes no lock, touches no disk and never waits behind an operation.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;

use super::container::Container;
use super::error::{EngineError, Result};
use super::events::{Announcer, Subscription};
use super::model::Id;
use super::monitor::Process;
use super::pod::Pod;

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
    /// The pod with this id or unique start of an id.
    ///
    /// # Errors
    /// [`EngineError::NotFound`] and [`EngineError::Ambiguous`].
    pub(crate) fn pod(&self, id: &str) -> Result<Arc<Pod>> {
        find(&self.pods, id, "pod", "pods")
    }

    /// The container with this id or unique start of an id.
    ///
    /// # Errors
    /// [`EngineError::NotFound`] and [`EngineError::Ambiguous`].
    pub(crate) fn container(&self, id: &str) -> Result<Arc<Container>> {
        find(&self.containers, id, "container", "ps -a")
    }

    /// The containers of a pod.
    pub(crate) fn containers_of<'a>(&'a self, pod: &'a Id) -> impl Iterator<Item = &'a Arc<Container>> {
        self.containers.values().filter(move |container| container.pod == *pod)
    }
}

fn find<T>(
    objects: &BTreeMap<Id, Arc<T>>,
    name: &str,
    kind: &'static str,
    list: &'static str,
) -> Result<Arc<T>> {
    let missing = || EngineError::NotFound { kind, name: name.to_owned(), list };
    if name.is_empty() {
        return Err(missing());
    }
    let mut fitting = objects.iter().filter(|(id, _)| id.as_str().starts_with(name));
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
