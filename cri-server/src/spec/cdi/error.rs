//! Why a device cannot be had by its name.

use std::path::PathBuf;

use crate::engine::model::CdiName;
use crate::spec::path::PathError;

/// A file of devices that is not one, or a device that cannot be had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CdiError {
    /// It is no JSON of this form.
    #[error("it is not in the form of the specification")]
    Json(#[source] serde_json::Error),
    /// It is no YAML of this form.
    #[error("it is not in the form of the specification")]
    Yaml(#[source] Box<serde_saphyr::Error>),
    /// A version nobody has released, or one of the future.
    #[error("version {0:?} of the specification is not known; 0.3.0 to 1.1.0 are")]
    Version(String),
    /// It uses what its own version does not have.
    #[error("it says version {stated} and uses {feature}, which needs {needed}")]
    TooOld {
        /// `cdiVersion`.
        stated: String,
        /// A field or a form of a name.
        feature: &'static str,
        /// The first version with it.
        needed: &'static str,
    },
    /// A kind that is not `vendor/class`.
    #[error("kind {0:?} is not of the form vendor/class")]
    Kind(String),
    /// A name of a device that none can have.
    #[error("{0:?} cannot be the name of a device")]
    DeviceName(String),
    /// A name twice, or no device at all.
    #[error("device {0:?} is there twice")]
    Twice(String),
    /// A file without a device.
    #[error("it names no device")]
    Empty,
    /// Nobody describes it.
    #[error("no device {name} is described in {}{}", list(folders), told(broken))]
    Unknown {
        /// Who was asked for.
        name: CdiName,
        /// Where was looked.
        folders: Vec<PathBuf>,
        /// Files that could not be read, and why.
        broken: Vec<(PathBuf, String)>,
    },
    /// Several describe it.
    #[error("{} and {} both describe device {name}", first.display(), second.display())]
    Conflict {
        /// Who was asked for.
        name: CdiName,
        /// A file.
        first: PathBuf,
        /// Another one of the same folder.
        second: PathBuf,
    },
    /// A network device that has no name, or one that another has.
    #[error("its network device {found:?} cannot be {wanted:?} in the container")]
    NetDevice {
        /// On the host.
        found: String,
        /// In the container.
        wanted: String,
    },
    /// A variable that is none.
    #[error("its variable {0:?} is not of the form NAME=value")]
    Variable(String),
    /// A path.
    #[error("its {what}")]
    Path {
        /// Which one.
        what: &'static str,
        /// What is wrong with it.
        #[source]
        source: PathError,
    },
    /// A mount over everything.
    #[error("its mount on / would hide the container's root filesystem")]
    MountOnRoot,
    /// A node that is none on this host.
    #[error("its node {} is not a device node of this host: {why}", path.display())]
    Node {
        /// Path on the host.
        path: PathBuf,
        /// Why not.
        why: String,
    },
    /// Permissions other than r, w, m.
    #[error("its node {}: permissions {permissions:?} are neither made of r, w and m nor `none`", path.display())]
    Permissions {
        /// Path in the container.
        path: PathBuf,
        /// What it says.
        permissions: String,
    },
    /// A hook that no runtime knows.
    #[error("its hook {0:?} is none of the runtime specification's")]
    Hook(String),
    /// A hook with a limit of nothing.
    #[error("its hook {} has a timeout of {timeout_s} s; at least one second is expected", path.display())]
    HookTimeout {
        /// Its program.
        path: PathBuf,
        /// What it says, seconds.
        timeout_s: i64,
    },
}

fn list(folders: &[PathBuf]) -> String {
    folders.iter().map(|folder| folder.display().to_string()).collect::<Vec<_>>().join(", ")
}

fn told(broken: &[(PathBuf, String)]) -> String {
    broken.iter().map(|(path, why)| format!("; {} is left out: {why}", path.display())).collect()
}
