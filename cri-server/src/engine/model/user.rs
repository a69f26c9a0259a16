//! User namespaces: whose users a pod's are outside.

use serde::{Deserialize, Serialize};

/// Whose user namespace a pod or a container is in.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum UserMode {
    /// The host's.
    #[default]
    Node,
    /// One of the pod's own, with this mapping.
    Pod(UserMapping),
}

/// How a user namespace maps ids to the host's. Its ranges begin with id 0.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct UserMapping {
    /// User ids.
    pub users: IdRange,
    /// Group ids.
    pub groups: IdRange,
}

/// A range of ids, which lies below 2^32 on both sides.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct IdRange {
    /// First id inside.
    pub container_id: u32,
    /// First id on the host.
    pub host_id: u32,
    /// How many; at least one.
    pub length: u32,
}

impl UserMapping {
    /// The host's ids of the namespace's root: user and group. (A mapping begins with id 0.)
    pub(crate) fn root(&self) -> (u32, u32) {
        (self.users.host_id, self.groups.host_id)
    }
}

impl UserMode {
    /// The mapping of a namespace of the pod's own.
    pub(crate) fn mapping(&self) -> Option<&UserMapping> {
        match self {
            Self::Node => None,
            Self::Pod(mapping) => Some(mapping),
        }
    }
}
