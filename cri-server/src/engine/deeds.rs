//! What was done that no commit changes the picture by: told by who does it, beside the events.

use std::sync::Arc;

use cleat_image::{Image, Reference};
use tokio::sync::broadcast;

use super::Engine;
use super::container::Container;
use super::model::{Id, Kind};
use super::pod::Pod;
use super::shared::Shared;
use crate::news::{News, Timed};

/// All deeds.
pub(crate) type Deeds = News<Deed>;

/// Something that was done.
#[derive(Clone, Debug)]
pub(crate) struct Deed {
    /// When, nanoseconds since the Unix epoch.
    pub at_ns: i64,
    /// What.
    pub kind: DeedKind,
}

/// What was done.
#[derive(Clone, Debug)]
pub(crate) enum DeedKind {
    /// A container without a pod did not end when it was asked to: it is being killed.
    Killed {
        /// The container.
        container: Id,
        /// Its group.
        group: Arc<Pod>,
    },
    /// A container without a pod has become an image.
    Committed {
        /// The container.
        container: Id,
        /// Its group.
        group: Arc<Pod>,
        /// The image.
        image: Arc<Image>,
        /// Its tag, if it was given one.
        name: Option<Reference>,
        /// The remark in its history.
        comment: String,
    },
    /// There is a volume of this name.
    VolumeMade(String),
    /// There is none of this name any more.
    VolumeRemoved(String),
}

impl Timed for Deed {
    fn at_ns(&self) -> i64 {
        self.at_ns
    }
}

impl Shared {
    /// Tells that a container that was to end is being killed.
    pub(super) fn tell_killed(&self, container: &Container) {
        let view = self.board.view();
        let Some(group) = view.pods.get(&container.pod).filter(|group| is_of(group, container)) else {
            return;
        };
        let (container, group) = (container.id.clone(), group.clone());
        self.deeds.tell(|at_ns| Deed { at_ns, kind: DeedKind::Killed { container, group } });
    }
}

fn is_of(group: &Pod, container: &Container) -> bool {
    matches!(&group.config.kind, Kind::One { container: own, .. } if *own == container.id)
}

impl Engine {
    /// What was done since then (nanoseconds since the Unix epoch), as far as it is kept, and everything from now on.
    pub(crate) fn follow_deeds(&self, since_ns: Option<i64>) -> (Vec<Deed>, broadcast::Receiver<Deed>) {
        self.shared.deeds.follow(since_ns)
    }
}
