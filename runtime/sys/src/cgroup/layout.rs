//! Which cgroup hierarchies the host has.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::CgroupError;

/// Where every distribution mounts cgroup filesystems.
const ROOT: &str = "/sys/fs/cgroup";
/// Filesystem type of a v1 hierarchy, as statfs(2) tells it.
const CGROUP_MAGIC: i64 = 0x27_e0eb;
/// Filesystem type of the v2 hierarchy.
const CGROUP2_MAGIC: i64 = 0x6367_7270;

/// The kinds of layout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// One cgroup2 hierarchy with all controllers.
    Unified,
    /// v1 hierarchies, and a cgroup2 hierarchy beside them.
    Hybrid,
    /// v1 hierarchies only.
    Legacy,
}

/// One mounted v1 hierarchy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hierarchy {
    /// Where its root is.
    pub dir: PathBuf,
    /// Its controllers, several when they are mounted together; none for a named one.
    pub controllers: Vec<String>,
    /// Its name, for one without controllers (`systemd`).
    pub name: Option<String>,
}

/// The hierarchies of the host. Cheap to copy.
#[derive(Clone, Debug)]
pub struct Layout {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    v1: Vec<Hierarchy>,
    unified: Option<PathBuf>,
}

impl Layout {
    /// Looks at `/sys/fs/cgroup` and `/proc/self/cgroup`. A hierarchy that is not mounted where it is expected does not
    /// count.
    pub fn detect() -> Result<Self, CgroupError> {
        let root = Path::new(ROOT);
        let magic =
            filesystem_type(root).map_err(|source| CgroupError::Detect { path: root.into(), source })?;
        if magic == CGROUP2_MAGIC {
            return Ok(Self::new(Vec::new(), Some(root.into())));
        }
        let path = Path::new("/proc/self/cgroup");
        let text =
            fs::read_to_string(path).map_err(|source| CgroupError::Detect { path: path.into(), source })?;
        let mounted = |hierarchy: &Hierarchy| is_of_type(&hierarchy.dir, CGROUP_MAGIC);
        let v1: Vec<_> = parse_hierarchies(&text, root).into_iter().filter(mounted).collect();
        let unified = Some(root.join("unified")).filter(|dir| is_of_type(dir, CGROUP2_MAGIC));
        if v1.is_empty() && unified.is_none() {
            let source = io::Error::new(io::ErrorKind::NotFound, "no hierarchy is mounted");
            return Err(CgroupError::Detect { path: root.into(), source });
        }
        Ok(Self::new(v1, unified))
    }

    /// No hierarchy at all: for who may use none. No cgroup has a file then, and there is nothing to make, to join, to kill
    /// and to remove.
    #[must_use]
    pub fn none() -> Self {
        Self::new(Vec::new(), None)
    }

    /// Whether it is [`Layout::none`].
    #[must_use]
    pub fn is_none(&self) -> bool {
        self.inner.v1.is_empty() && self.inner.unified.is_none()
    }

    fn new(v1: Vec<Hierarchy>, unified: Option<PathBuf>) -> Self {
        Self { inner: Arc::new(Inner { v1, unified }) }
    }

    /// The kind of layout.
    #[must_use]
    pub fn mode(&self) -> Mode {
        match (self.inner.v1.is_empty(), &self.inner.unified) {
            (true, _) => Mode::Unified,
            (false, Some(_)) => Mode::Hybrid,
            (false, None) => Mode::Legacy,
        }
    }

    /// The v1 hierarchies.
    #[must_use]
    pub fn v1(&self) -> &[Hierarchy] {
        &self.inner.v1
    }

    /// The root of the cgroup2 hierarchy, controllers or not.
    #[must_use]
    pub fn unified(&self) -> Option<&Path> {
        self.inner.unified.as_deref()
    }

    /// Whether `controller` is in a v1 hierarchy (then its files are v1's).
    #[must_use]
    pub fn is_v1(&self, controller: &str) -> bool {
        self.v1_root(controller).is_some()
    }

    /// Whether cgroups have the files of `controller`. Beside v1 hierarchies the cgroup2 one passes on no controllers: what
    /// it could pass on is the init system's to decide.
    #[must_use]
    pub fn has(&self, controller: &str) -> bool {
        let listed = |root: &Path| {
            fs::read_to_string(root.join("cgroup.controllers"))
                .is_ok_and(|text| text.split_ascii_whitespace().any(|name| name == controller))
        };
        match self.mode() {
            Mode::Unified => self.unified().is_some_and(listed),
            Mode::Hybrid | Mode::Legacy => self.is_v1(controller),
        }
    }

    /// The root of the v1 hierarchy with `controller` (or with this name).
    pub(super) fn v1_root(&self, controller: &str) -> Option<&Path> {
        let has = |hierarchy: &&Hierarchy| {
            hierarchy.controllers.iter().any(|c| c == controller)
                || hierarchy.name.as_deref() == Some(controller)
        };
        self.inner.v1.iter().find(has).map(|hierarchy| hierarchy.dir.as_path())
    }

    /// The root of the hierarchy whose files concern `controller`: a v1 hierarchy, else the cgroup2 one.
    pub(super) fn root_of(&self, controller: &str) -> Option<&Path> {
        self.v1_root(controller).or(self.unified())
    }

    /// The roots of all hierarchies, the cgroup2 one last.
    pub(super) fn roots(&self) -> impl Iterator<Item = &Path> {
        self.inner.v1.iter().map(|hierarchy| hierarchy.dir.as_path()).chain(self.unified())
    }
}

/// Reads `/proc/self/cgroup` (lines of `number:controllers:path`, cgroups(7)); the cgroup2 line is left out.
fn parse_hierarchies(text: &str, root: &Path) -> Vec<Hierarchy> {
    text.lines()
        .filter_map(|line| line.split(':').nth(1))
        .filter(|controllers| !controllers.is_empty())
        .map(|controllers| match controllers.strip_prefix("name=") {
            Some(name) => {
                Hierarchy { dir: root.join(name), controllers: Vec::new(), name: Some(name.into()) }
            }
            None => Hierarchy {
                dir: root.join(controllers),
                controllers: controllers.split(',').map(Into::into).collect(),
                name: None,
            },
        })
        .collect()
}

fn filesystem_type(path: &Path) -> io::Result<i64> {
    Ok(rustix::fs::statfs(path)?.f_type)
}

fn is_of_type(path: &Path, magic: i64) -> bool {
    filesystem_type(path).is_ok_and(|found| found == magic)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hierarchies_are_read_with_their_controllers_or_name() {
        let text = "9:name=systemd:/\n4:cpu,cpuacct:/user.slice\n2:memory:/\n0::/user.slice\n";
        let found = parse_hierarchies(text, Path::new("/cg"));
        assert_eq!(found.len(), 3);
        assert_eq!(
            (found[0].name.as_deref(), &found[0].dir),
            (Some("systemd"), &PathBuf::from("/cg/systemd"))
        );
        assert_eq!(found[1].controllers, ["cpu", "cpuacct"]);
        assert_eq!(found[1].dir, Path::new("/cg/cpu,cpuacct"));
        let layout = Layout::new(found, Some("/cg/unified".into()));
        assert_eq!(layout.mode(), Mode::Hybrid);
        assert_eq!(layout.root_of("cpuacct"), Some(Path::new("/cg/cpu,cpuacct")));
        assert_eq!(layout.root_of("io"), Some(Path::new("/cg/unified")));
        assert!(layout.is_v1("systemd") && !layout.is_v1("io"));
    }
}
