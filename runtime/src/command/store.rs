//! State folders: `<root>/<id>/` with `state.json`, and `start.fifo` until the container is started.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use cleat_runtime::{Created, Failure, HookPoint, HookState, ResctrlGroups, Restored, SharedRoot};
use cleat_sys::cgroup::{Cgroup, Layout};
use oci_spec::runtime::Hooks;
use rustix::fs::{CWD, FileType, Mode};
use rustix::process::geteuid;
use serde::{Deserialize, Serialize};

use super::{CommandError, OCI_VERSION, time};

const STATE_NAME: &str = "state.json";
const FIFO_NAME: &str = "start.fifo";

/// What is remembered of a container between two commands.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Record {
    pub(super) id: String,
    pub(super) pid: i32,
    /// Field 22 of `/proc/<pid>/stat`: tells init from a later process with the same number.
    pub(super) start_time: u64,
    pub(super) bundle: PathBuf,
    pub(super) rootfs: PathBuf,
    pub(super) created: String,
    pub(super) cgroup: String,
    /// Whether it has none, wherever the former says.
    #[serde(default, skip_serializing_if = "is_false")]
    pub(super) has_no_cgroup: bool,
    #[serde(default)]
    pub(super) annotations: BTreeMap<String, String>,
    /// As they were at the creation; those of later are run by this command.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) hooks: Option<Hooks>,
    /// What the standard streams were at the creation, as `/proc/<pid>/fd` names them; none for a terminal.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) streams: Vec<String>,
    /// What is mounted for it where others live.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) shared_root: Option<SharedRoot>,
    #[serde(default, skip_serializing_if = "ResctrlGroups::is_empty")]
    pub(super) resctrl: ResctrlGroups,
}

/// The statuses of the OCI specification (runtime.md, "State").
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Status {
    Created,
    Running,
    Paused,
    Stopped,
}

impl Status {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Stopped => "stopped",
        }
    }
}

/// What `state` prints.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct State<'a> {
    oci_version: &'a str,
    id: &'a str,
    pid: i32,
    status: Status,
    bundle: &'a Path,
    rootfs: &'a Path,
    created: &'a str,
    owner: String,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    annotations: &'a BTreeMap<String, String>,
}

/// A container's state folder.
#[derive(Debug)]
pub(super) struct Folder(PathBuf);

impl Folder {
    /// Makes the folder of a new container.
    pub(super) fn create(root: &Path, id: &str) -> Result<Self, CommandError> {
        cleat_runtime::check_id(id)?;
        // The sticky bit keeps what is in XDG_RUNTIME_DIR from being cleaned away (XDG Base Directory Specification).
        let mode = if geteuid().is_root() { 0o700 } else { 0o1700 };
        fs::DirBuilder::new()
            .recursive(true)
            .mode(mode)
            .create(root)
            .map_err(CommandError::file("create", root))?;
        let path = root.join(id);
        match fs::DirBuilder::new().mode(0o700).create(&path) {
            Ok(()) => Ok(Self(path)),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                Err(CommandError::Exists(id.into()))
            }
            Err(error) => Err(CommandError::file("create", &path)(error)),
        }
    }

    /// The folder of an existing container.
    pub(super) fn open(root: &Path, id: &str) -> Result<Self, CommandError> {
        cleat_runtime::check_id(id)?;
        let path = root.join(id);
        if path.is_dir() { Ok(Self(path)) } else { Err(CommandError::Absent(id.into())) }
    }

    /// Makes the FIFO at which init will wait. Init may be any user by then, so all may write to it; the folder keeps
    /// everybody else away.
    pub(super) fn make_fifo(&self) -> Result<PathBuf, CommandError> {
        let path = self.fifo();
        let umask = rustix::process::umask(Mode::empty());
        let made = rustix::fs::mknodat(CWD, &path, FileType::Fifo, Mode::from_raw_mode(0o622), 0);
        rustix::process::umask(umask);
        made.map_err(|errno| CommandError::file("create", &path)(errno.into()))?;
        Ok(path)
    }

    pub(super) fn fifo(&self) -> PathBuf {
        self.0.join(FIFO_NAME)
    }

    pub(super) fn write(&self, record: &Record) -> Result<(), CommandError> {
        let (path, new) = (self.0.join(STATE_NAME), self.0.join(".state.json.new"));
        let text =
            serde_json::to_vec(record).map_err(|source| CommandError::Json { path: path.clone(), source })?;
        fs::write(&new, text)
            .and_then(|()| fs::rename(&new, &path))
            .map_err(CommandError::file("write", &path))
    }

    pub(super) fn read(&self) -> Result<Record, CommandError> {
        let path = self.0.join(STATE_NAME);
        let text = fs::read(&path).map_err(CommandError::file("read", &path))?;
        serde_json::from_slice(&text).map_err(|source| CommandError::Json { path, source })
    }

    pub(super) fn status(&self, record: &Record) -> Status {
        match record.init() {
            None => Status::Stopped,
            Some(_) if self.fifo().exists() => Status::Created,
            // A cgroup that cannot be looked at cannot have been paused by us.
            Some(_) if record.open_cgroup().and_then(|cgroup| Ok(cgroup.is_paused()?)).unwrap_or(false) => {
                Status::Paused
            }
            Some(_) => Status::Running,
        }
    }

    pub(super) fn remove(&self) -> Result<(), CommandError> {
        match fs::remove_dir_all(&self.0) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(CommandError::file("remove", &self.0)(error))
            }
            _ => Ok(()),
        }
    }
}

impl Record {
    /// The record of a new container.
    pub(super) fn new(id: &str, created: &Created, configuration: Configuration) -> Self {
        let shared_root = created.shared_root.clone();
        let cgroup = created.target.cgroup().path();
        let resctrl = created.target.groups().clone();
        let has_no_cgroup = created.target.cgroup().layout().is_none();
        Self { shared_root, resctrl, has_no_cgroup, ..Self::of(id, created.pid, cgroup, configuration) }
    }

    /// The record of a restored container.
    pub(super) fn restored(id: &str, restored: &Restored, configuration: Configuration) -> Self {
        Self::of(id, restored.pid, restored.target.cgroup().path(), configuration)
    }

    fn of(id: &str, pid: i32, cgroup: String, configuration: Configuration) -> Self {
        Self {
            id: id.into(),
            pid,
            start_time: stat(pid).map_or(0, |stat| stat.start_time),
            rootfs: configuration.rootfs,
            bundle: configuration.bundle,
            created: time::now(),
            cgroup,
            has_no_cgroup: false,
            annotations: configuration.annotations,
            hooks: configuration.hooks,
            streams: Vec::new(),
            shared_root: None,
            resctrl: ResctrlGroups::default(),
        }
    }

    pub(super) fn with_streams(self, streams: Vec<String>) -> Self {
        Self { streams, ..self }
    }

    pub(super) fn open_cgroup(&self) -> Result<Cgroup, CommandError> {
        let layout = if self.has_no_cgroup { Layout::none() } else { Layout::detect()? };
        Ok(Cgroup::open(&layout, &self.cgroup)?)
    }

    /// The cgroup by which the container's processes are known.
    pub(super) fn census(&self) -> Result<Cgroup, CommandError> {
        if self.has_no_cgroup { Err(CommandError::NoCgroup(self.id.clone())) } else { self.open_cgroup() }
    }

    /// Kills all of it, not waiting for its end: without a cgroup its init, with whose pid namespace everything ends.
    pub(super) fn kill(&self) -> Result<(), CommandError> {
        let Some(init) = self.init().filter(|_| self.has_no_cgroup) else {
            return Ok(self.open_cgroup()?.kill()?);
        };
        match cleat_sys::process::send_signal(&init, rustix::process::Signal::KILL.as_raw()) {
            Err(error) if error.raw_os_error() != Some(rustix::io::Errno::SRCH.raw_os_error()) => {
                Err(CommandError::System("kill the container's init", error))
            }
            _ => Ok(()),
        }
    }

    /// What there is to tell of a container whose creation failed.
    pub(super) fn never_born(id: &str, configuration: Configuration) -> Self {
        Self::of(id, 0, String::new(), configuration)
    }

    /// Takes away what is mounted for the container where others live, and its resctrl groups, after its end.
    pub(super) fn release(&self) -> Result<(), CommandError> {
        let unmounted = self.shared_root.as_ref().map_or(Ok(()), cleat_runtime::release_root);
        Ok(unmounted.and(self.resctrl.remove())?)
    }

    /// Runs the hooks of a point of the container's life.
    pub(super) fn run_hooks(&self, point: HookPoint) -> Result<(), Vec<Failure>> {
        let Some(hooks) = &self.hooks else { return Ok(()) };
        let status = if point == HookPoint::Poststart { Status::Running } else { Status::Stopped };
        let state = HookState {
            oci_version: OCI_VERSION,
            id: &self.id,
            status: status.name(),
            pid: (status == Status::Running).then_some(self.pid),
            bundle: &self.bundle,
            annotations: &self.annotations,
        };
        cleat_runtime::run_hooks(point, hooks, &state)
    }

    /// A descriptor of init; none once it has ended.
    pub(super) fn init(&self) -> Option<OwnedFd> {
        let pidfd = cleat_sys::process::open_pidfd(self.pid).ok()?;
        // Looked at after the descriptor was opened, so that it is the same process.
        let stat = stat(self.pid)?;
        (stat.start_time == self.start_time && !matches!(stat.state, 'Z' | 'X')).then_some(pidfd)
    }

    /// What `state` and `list` print.
    pub(super) fn state(&self, status: Status) -> State<'_> {
        State {
            oci_version: OCI_VERSION,
            id: &self.id,
            pid: if status == Status::Stopped { 0 } else { self.pid },
            status,
            bundle: &self.bundle,
            rootfs: &self.rootfs,
            created: &self.created,
            owner: if geteuid().is_root() { "root".into() } else { format!("#{}", geteuid().as_raw()) },
            annotations: &self.annotations,
        }
    }
}

fn is_false(value: &bool) -> bool {
    !value
}

struct Stat {
    state: char,
    start_time: u64,
}

fn stat(pid: i32) -> Option<Stat> {
    parse_stat(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// Fields are counted from behind the program's name, which may hold anything.
fn parse_stat(text: &str) -> Option<Stat> {
    let mut fields = text.rsplit_once(')')?.1.split_whitespace();
    let state = fields.next()?.chars().next()?;
    // State is field 3, the start time field 22 (proc_pid_stat(5)).
    Some(Stat { state, start_time: fields.nth(18)?.parse().ok()? })
}

/// What the command itself needs of a bundle's config.json; the rest is the library's.
#[derive(Debug)]
pub(super) struct Configuration {
    pub(super) bundle: PathBuf,
    pub(super) rootfs: PathBuf,
    pub(super) terminal: bool,
    pub(super) annotations: BTreeMap<String, String>,
    pub(super) hooks: Option<Hooks>,
}

impl Configuration {
    pub(super) fn read(bundle: &Path) -> Result<Self, CommandError> {
        #[derive(Deserialize)]
        struct Config {
            #[serde(default)]
            root: Root,
            #[serde(default)]
            process: Process,
            #[serde(default)]
            annotations: BTreeMap<String, String>,
            #[serde(default)]
            hooks: Option<Hooks>,
        }
        #[derive(Default, Deserialize)]
        struct Root {
            path: PathBuf,
        }
        #[derive(Default, Deserialize)]
        struct Process {
            #[serde(default)]
            terminal: bool,
        }
        let bundle = fs::canonicalize(bundle).map_err(CommandError::file("find", bundle))?;
        let path = bundle.join("config.json");
        let text = fs::read(&path).map_err(CommandError::file("read", &path))?;
        let config: Config =
            serde_json::from_slice(&text).map_err(|source| CommandError::Json { path, source })?;
        Ok(Self {
            rootfs: bundle.join(config.root.path),
            bundle,
            terminal: config.process.terminal,
            annotations: config.annotations,
            hooks: config.hooks,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_start_time_is_found_behind_any_name() {
        let text = "12 (a) b) (c) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 4711 20 21";
        let stat = parse_stat(text).unwrap();
        assert_eq!((stat.state, stat.start_time), ('S', 4711));
        assert!(parse_stat("12 (a").is_none());
    }
}
