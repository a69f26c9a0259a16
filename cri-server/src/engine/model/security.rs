//! How a container is confined.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Confinement asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Security {
    /// Everything the daemon itself may do: all devices, all its capabilities, nothing masked, no filter.
    pub privileged: bool,
    /// Changes to the default capabilities.
    pub capabilities: Capabilities,
    /// Who the program runs as.
    pub user: UserChoice,
    /// The root filesystem is read-only.
    pub read_only_rootfs: bool,
    /// Programs executed may not gain privileges.
    pub no_new_privileges: bool,
    /// Paths inside that are hidden; `None` means the defaults.
    pub masked_paths: Option<Vec<String>>,
    /// Paths inside that are read-only; `None` means the defaults.
    pub read_only_paths: Option<Vec<String>>,
    /// System calls allowed.
    pub seccomp: Seccomp,
    /// AppArmor profile.
    pub app_armor: AppArmor,
    /// SELinux label.
    pub selinux: Option<SeLinux>,
}

/// Changes to the default capabilities; names with or without `CAP_`, `ALL` for every one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Capabilities {
    /// Given in addition.
    pub add: Vec<String>,
    /// Taken away; `add` wins over `ALL` here.
    pub drop: Vec<String>,
    /// Given as ambient (and so inheritable) ones too.
    pub add_ambient: Vec<String>,
}

/// Who the program runs as, as asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct UserChoice {
    /// Numeric user id; wins over `name`.
    pub uid: Option<u32>,
    /// Numeric group id; only with `uid` or `name`.
    pub gid: Option<u32>,
    /// Name in the image's /etc/passwd.
    pub name: Option<String>,
    /// Name in the image's /etc/group; `gid` wins over it.
    #[serde(default)]
    pub group: Option<String>,
    /// Further groups.
    pub supplemental_groups: Vec<u32>,
    /// Further groups by their names in the image's /etc/group.
    #[serde(default)]
    pub supplemental_names: Vec<String>,
    /// Whether the image's /etc/group adds to them.
    pub groups_policy: GroupsPolicy,
}

/// Whether groups of the image's /etc/group count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum GroupsPolicy {
    /// The user's groups in the image are added.
    #[default]
    Merge,
    /// Only those asked for.
    Strict,
}

/// Who the program runs as, decided.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Identity {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
    /// Further group ids, ascending, the primary one included as the kernel and peers report it.
    pub groups: Vec<u32>,
    /// Home folder of the user in the image's /etc/passwd.
    pub home: Option<String>,
}

/// Which system calls are allowed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Seccomp {
    /// All.
    #[default]
    Unconfined,
    /// The daemon's default profile.
    RuntimeDefault,
    /// A profile file of this host.
    Localhost(PathBuf),
    /// A profile that came with the request.
    Inline(String),
}

/// Which AppArmor profile.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum AppArmor {
    /// The daemon's default profile where the kernel has AppArmor, else none.
    #[default]
    RuntimeDefault,
    /// None.
    Unconfined,
    /// A profile loaded on this host.
    Localhost(String),
}

/// An SELinux label.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SeLinux {
    /// User part.
    pub user: String,
    /// Role part.
    pub role: String,
    /// Type part.
    pub kind: String,
    /// Level part.
    pub level: String,
}
