//! What readers see: an immutable picture of all pods and containers, replaced as a whole by the commit that changed
//! something. A read takes no lock, touches no disk and never waits behind an operation.

use std::collections::BTreeMap;
use std::sync::Arc;

use arc_swap::ArcSwap;

use super::container::Container;
use super::error::{EngineError, Result};
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
pub(crate) struct Board(ArcSwap<View>);

impl Board {
    /// The current picture.
    pub(crate) fn view(&self) -> Arc<View> {
        self.0.load_full()
    }

    /// Replaces the picture by a changed copy. `change` may run more than once when two drivers publish at a time.
    pub(crate) fn publish(&self, change: impl Fn(&mut View)) {
        self.0.rcu(|view| {
            let mut next = View::clone(view);
            change(&mut next);
            next
        });
    }
}
